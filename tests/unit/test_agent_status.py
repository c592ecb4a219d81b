"""What the agent tells of itself: the status file, its moments, and what it says to systemd."""

import json
import os
import socket

import pytest

from edgeml.telemetry import clock, systemd
from edgeml.telemetry.agent_status import STATUS_FILE, Moment, Status, StatusFile
from tests.agent_tools import SimulatedClock


def test_a_status_comes_back(tmp_path):
    at = Moment.now(clock)
    status = Status("waiting", 17, "https://m", "a" * 32, "b" * 32, "c" * 16, 3, "down", at, at, at, 1, 2, 3, 4, 5, 6)
    status.notes = ("a note",)
    StatusFile(tmp_path).write(status)
    assert StatusFile(tmp_path).read() == status
    assert os.listdir(tmp_path) == [STATUS_FILE]


def test_a_status_that_did_not_change_is_not_written_again(tmp_path):
    file, status = StatusFile(tmp_path), Status()
    file.write(status)
    (tmp_path / STATUS_FILE).unlink()
    file.write(status)
    assert not (tmp_path / STATUS_FILE).exists()
    status.items = 1
    file.write(status)
    assert StatusFile(tmp_path).read().items == 1


def test_without_room_nothing_is_raised(tmp_path, monkeypatch):
    file = StatusFile(tmp_path)
    file.write(Status())

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", full)
    monkeypatch.setattr(os, "open", full)
    file.write(Status("idle"))
    monkeypatch.undo()
    assert StatusFile(tmp_path).read() == Status()
    StatusFile(tmp_path / "missing").write(Status())


@pytest.mark.parametrize(
    "change",
    [{"state": 5}, {"items": "1"}, {"pid": True}, {"error": ["x"]}, {"next_try": {"boot_id": 1}}, {"next_try": "soon"},
     {"next_try": {"boot_id": 1, "monotonic": 1, "wall": 1}},
     {"next_try": {"boot_id": "b", "monotonic": [], "wall": 1}},
     {"status_version": 2}, {"more": 1}, {"notes": 5}],
)  # fmt: skip
def test_a_damaged_status_is_none(tmp_path, change):
    file = StatusFile(tmp_path)
    file.write(Status())
    fields = json.loads((tmp_path / STATUS_FILE).read_text())
    (tmp_path / STATUS_FILE).write_text(json.dumps(fields | change))
    assert file.read() is None
    for data in (b"", b"{", b"\xff", b"[]", b"x" * 100_000):
        (tmp_path / STATUS_FILE).write_bytes(data)
        assert file.read() is None


def test_ages_survive_a_jump_of_the_wall_clock():
    time = SimulatedClock()
    then, soon = Moment.now(time), Moment.now(time, 30.0)
    time.pass_(10)
    time.wall_offset -= 365 * 86_400
    assert then.age(time) == 10
    assert soon.age(time) == -20
    time.boot = "another"
    assert then.age(time) == pytest.approx(10 - 365 * 86_400)


def test_the_clock_of_this_machine():
    assert 0 < len(clock.boot_id()) <= 64
    assert clock.boot_id() == clock.boot_id()
    first = clock.monotonic()
    assert clock.monotonic() >= first > 0


def test_without_a_boot_id_each_process_has_its_own(monkeypatch, tmp_path):
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "none")
    monkeypatch.setattr(clock, "_found", (-1, ""))
    mine = clock.boot_id()
    assert clock.boot_id() == mine
    monkeypatch.setattr(os, "getpid", lambda: -5)
    assert clock.boot_id() != mine
    (tmp_path / "none").write_text("two words")
    monkeypatch.setattr(clock, "_found", (-1, ""))
    assert " " not in clock.boot_id()


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_it(tmp_path, monkeypatch, abstract):
    name = f"@edgeml-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if abstract else name)
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        assert systemd.notify("READY=1")
        assert listener.recv(100) == b"READY=1"


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all", "vsock:2:1"])
def test_without_systemd_nothing_happens(monkeypatch, name):
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    assert systemd.notify("READY=1") is False


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("", "", None), ("600000000", "", 300.0), ("20000000", str(os.getpid()), 10.0), ("20000000", "1", None),
     ("0", "", None), ("x", "", None), ("-5", "", None)],
)  # fmt: skip
def test_watchdog(monkeypatch, usec, pid, seconds):
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert systemd.watchdog_seconds() == seconds
