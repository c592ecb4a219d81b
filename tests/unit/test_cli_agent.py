"""``edgeml agent``: every command as a person uses it, against a monitor on a real socket; the service as a process."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from edgeml.cli import agent
from edgeml.telemetry.agent_lock import AgentLock
from edgeml.telemetry.agent_status import Status
from edgeml.telemetry.agent_thread import AgentThread
from edgeml.telemetry.identity import Identity
from edgeml.telemetry.items import Loss
from edgeml.telemetry.spool import Spool
from tests.agent_tools import STREAM, item
from tests.cli_tools import ROOT, run
from tests.fake_monitor import TOKEN, Answer, always, error
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith("EDGEML_TELEMETRY"):
            monkeypatch.delenv(name)


@pytest.fixture
def spool(tmp_path):
    """A spool with three windows in it, closed."""
    folder = tmp_path / "spool"
    with Spool(folder) as made:
        made.append([item(n) for n in range(3)], [Loss(STREAM, 3, 5, "window", "the disk was full", 30)])
    return folder


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    return path


@pytest.fixture
def enrolled(spool, server, token):
    done = run("agent", "enrol", "--spool", spool, "--server", server.url, "--token-file", token)
    assert done.exit_code == 0, done.output
    return spool


def test_enrol(spool, monitor, server, token, monkeypatch):
    more = "--name", "pump 7", "--label", "site=bern"
    done = run("agent", "enrol", "--spool", spool, "--server", server.url, "--token-file", token, "--json", *more)
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["device"] in monitor.devices
    assert said["key_id"] == Identity.load(spool / "identity").key_id
    asked = json.loads(monitor.requests[0][2])
    assert (asked["name"], asked["labels"]) == ("pump 7", {"site": "bern"})
    # Again, with the token and all else in the environment: the same device.
    monkeypatch.setenv("EDGEML_TELEMETRY", str(spool))
    monkeypatch.setenv("EDGEML_TELEMETRY_SERVER", server.url)
    monkeypatch.setenv("EDGEML_TELEMETRY_TOKEN", TOKEN)
    again = run("agent", "enrol")
    assert again.exit_code == 0, again.output
    assert said["device"] in again.stdout
    assert len(monitor.devices) == 1


def test_enrol_before_anything_was_recorded(tmp_path, server, token):
    folder = tmp_path / "new" / "spool"
    done = run("agent", "enrol", "--spool", folder, "--server", server.url, "--token-file", token)
    assert done.exit_code == 0, done.output
    assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (error(401, "bad_token", "the token has expired"), 1, ["has expired", "another token"]),
        (error(403, "device_revoked", "the key was revoked"), 1, ["was revoked", "another identity"]),
        (Answer(200, b"<html>", {"Content-Type": "text/html"}), 1, ["captive portal", "--server"]),
        (Answer(200, {}, drop=True), 1, ["not reached", "--server"]),
        (Answer(404, {"detail": "Not Found"}), 1, ["404", "address of an EdgeML monitor"]),
    ],
)
def test_enrol_that_fails(spool, monitor, server, token, answer, code, words):
    monitor.constant = always(answer)
    done = run("agent", "enrol", "--spool", spool, "--server", server.url, "--token-file", token)
    assert done.exit_code == code
    assert all(word in done.stderr for word in words), done.stderr
    assert TOKEN not in done.output
    assert Identity.load(spool / "identity").enrolment is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "no spool is given"),
        (["status", "--spool", "nowhere"], "no folder"),
        (["enrol", "--spool", "."], "no server"),
        (["enrol", "--spool", ".", "--server", "https://m.example.com"], "no enrolment token"),
        (["enrol", "--spool", ".", "--server", "http://m.example.com", "--token", "t"], "plain HTTP"),
        (["enrol", "--spool", ".", "--server", "https://m.example.com", "--token-file", "none"], "token file"),
        (["enrol", "--spool", ".", "--token", "a", "--token-file", "b"], "one of --token and --token-file"),
        (["enrol", "--spool", ".", "--token", "two words"], "malformed"),
        (["enrol", "--spool", ".", "--label", "x"], "KEY=VALUE"),
        (["enrol", "--spool", ".", "--label", "x="], "KEY=VALUE"),
        (["flush", "--spool", "nowhere"], "no folder"),
        (["run", "--spool", ".", "--server", "https://m.example.com", "--ca", "none.pem"], "CA certificates"),
        (["run", "--spool", ".", "--bandwidth", "0"], "bandwidth"),
        (["erase", "--spool", "nowhere", "--yes"], "no folder"),
    ],
)
def test_bad_usage_is_explained(tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    done = run("agent", *arguments)
    assert done.exit_code == 2, done.output
    assert words in done.stderr
    assert len(done.stderr.splitlines()) >= 2


def test_flush(enrolled, monitor):
    done = run("agent", "flush", "--spool", enrolled)
    assert done.exit_code == 0, done.output
    assert "3 waited" in done.stdout
    assert monitor.sequences(STREAM) == [0, 1, 2]
    assert len(monitor.lost) == 1
    assert json.loads(run("agent", "flush", "--spool", enrolled, "--json").stdout) == {
        "done": True, "before": 0, "left": 0, "error": None,
    }  # fmt: skip


def test_flush_that_fails(enrolled, monitor):
    monitor.constant = always(error(503, "busy", "the monitor is being mended"))
    done = run("agent", "flush", "--spool", enrolled, "--timeout", 20)
    assert done.exit_code == 1
    assert "3 of 3 still wait" in done.stdout
    assert "being mended" in done.stderr
    said = json.loads(run("agent", "flush", "--spool", enrolled, "--timeout", 20, "--json").stdout)
    assert (said["done"], said["left"]) == (False, 3)


def test_status_for_a_person(enrolled, monitor, server):
    done = run("agent", "status", "--spool", enrolled)
    assert done.exit_code == 0, done.output
    identity = Identity.load(enrolled / "identity")
    for words in (
        "not running",
        server.url,
        identity.key_id,
        identity.enrolment.device,
        "Waiting",
        "window",
        "batch 0",
    ):
        assert words in done.stdout, words
    monitor.constant = always(error(403, "device_revoked", "revoked by ann"))
    assert run("agent", "flush", "--spool", enrolled, "--timeout", 0.5).exit_code == 1
    lock = AgentLock(enrolled)
    assert lock.acquire()
    shown = run("agent", "status", "--spool", enrolled).stdout
    lock.release()
    assert f"process {os.getpid()}" in shown
    assert "revoked by ann" in shown
    assert "s ago" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if str(enrolled) not in line)
    said = json.loads(run("agent", "status", "--spool", enrolled, "--json").stdout)
    assert said["agent_pid"] is None
    assert said["spool"]["items"] == 3
    assert said["device"]["key_id"] == identity.key_id


def test_status_says_what_was_lost_and_what_is_broken(enrolled):
    with Spool(enrolled) as spool:
        spool.refuse(STREAM, 1, "larger than a batch may be")
    (enrolled / "identity" / "device.key").write_bytes(b"")
    shown = run("agent", "status", "--spool", enrolled).stdout
    assert "larger than a batch may be" in shown
    assert "cut short" in shown
    (enrolled / "agent.json").write_bytes(b"garbage")
    assert run("agent", "status", "--spool", enrolled).exit_code == 0


def test_rotate_key(enrolled, monitor):
    before = (enrolled / "spool.key").read_bytes()
    done = run("agent", "rotate-key", "--spool", enrolled)
    assert done.exit_code == 0, done.output
    assert (enrolled / "spool.key").read_bytes() != before
    assert run("agent", "flush", "--spool", enrolled).exit_code == 0
    assert monitor.sequences(STREAM) == [0, 1, 2]
    (enrolled / "spool.key").write_bytes(before)
    assert run("agent", "status", "--spool", enrolled).exit_code == 2


def test_erase_asks_first(enrolled):
    refused = run("agent", "erase", "--spool", enrolled, input="n\n")
    assert refused.exit_code == 1
    assert "nothing was erased" in refused.stderr
    with Spool(enrolled) as spool:
        assert spool.stats().items == 3
    done = run("agent", "erase", "--spool", enrolled, "--yes", "--json")
    assert json.loads(done.stdout)["erased"] == 3
    with Spool(enrolled) as spool:
        assert spool.stats().items == 0
    assert Identity.load(enrolled / "identity").enrolment is not None


def test_erase_with_the_device_key(enrolled, monitor):
    lock = AgentLock(enrolled)
    assert lock.acquire()
    refused = run("agent", "erase", "--spool", enrolled, "--device-key", "--yes")
    lock.release()
    assert refused.exit_code == 2
    assert "an agent runs" in refused.stderr
    assert Identity.load(enrolled / "identity").enrolment is not None
    done = run("agent", "erase", "--spool", enrolled, "--device-key", "--yes")
    assert done.exit_code == 0, done.output
    assert os.listdir(enrolled / "identity") == []
    assert "not enrolled" in run("agent", "status", "--spool", enrolled).stdout


def test_status_tells_of_a_wrong_clock(enrolled, monitor):
    assert run("agent", "flush", "--spool", enrolled).exit_code == 0
    assert "ahead of the monitor's" in run("agent", "status", "--spool", enrolled).stdout  # which lives in 2023


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_service_under_systemd(enrolled, monitor, tmp_path, number):
    """Ready, alive, sending, and gone at the signal, although the monitor hangs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "100000"}
        arrived = []
        monitor.faults = [lambda *_: arrived.append(1), lambda *_: Answer(200, {}, drip=1.0)]
        command = [sys.executable, "-m", "edgeml.cli", "agent", "run", "--spool", str(enrolled), "-v"]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
            try:
                heard = []
                while not ({"READY=1", "WATCHDOG=1"} <= set(heard) and arrived):
                    heard.append(listener.recv(1000).decode())
                assert heard[0] == "READY=1"
                log = ""
                # A batch has arrived; only when its answer has, too, is there nothing left that a signal may cut off.
                while "3 accepted" not in log:
                    line = process.stderr.readline()
                    assert line, f"it ended before it was told to: {log}"
                    log += line
                process.send_signal(number)
                assert process.wait(PATIENCE) == 0
                log += process.stderr.read()
            finally:
                process.kill()
        listener.setblocking(False)
        rest = []
        while "STOPPING=1" not in rest:
            rest.append(listener.recv(1000).decode())
    assert monitor.sequences(STREAM) == [0, 1, 2]
    assert "Traceback" not in log
    assert TOKEN not in log


def test_a_service_whose_thread_has_ended_ends_too(monkeypatch):
    class Ended(AgentThread):
        def __init__(self):
            self.status = Status("stopped")

        def start(self):
            pass

        alive = False

    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="has ended"):
        agent._serve(Ended())
    assert signal.getsignal(signal.SIGTERM) == before


def test_help_has_examples():
    for name in ("run", "enrol", "status", "flush", "rotate-key", "erase"):
        done = run("agent", name, "--help")
        assert done.exit_code == 0
        assert f"edgeml agent {name}" in done.output
        assert all(len(line) <= 80 for line in done.output.splitlines())
