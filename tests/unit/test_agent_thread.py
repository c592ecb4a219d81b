"""The agent as a thread: flush, stop, standing by and taking over (also after SIGKILL), forks; nothing is raised."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgeml.errors import AgentError
from edgeml.telemetry.agent_lock import AgentLock, holder
from edgeml.telemetry.agent_settings import AgentSettings
from edgeml.telemetry.agent_status import StatusFile
from edgeml.telemetry.agent_thread import AgentThread
from edgeml.telemetry.spool import Spool
from tests.agent_tools import KEY, STREAM, item
from tests.cli_tools import ROOT
from tests.fake_monitor import HANGS, TOKEN, Answer, always
from tests.waiting import PATIENCE, until


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool", key=KEY) as made:
        yield made


@pytest.fixture
def start(spool, server):
    """Makes threads on the spool, and ends them."""
    made = []

    def make(**options):
        settings = AgentSettings(**{"server": server.url, "token": TOKEN, "idle_seconds": 0.05} | options)
        made.append(AgentThread(spool, spool.folder, settings, standby=0.05))
        made[-1].start()
        return made[-1]

    yield make
    for thread in made:
        assert thread.stop(PATIENCE)


def test_what_is_recorded_is_sent(spool, monitor, start):
    thread = start(idle_seconds=3600.0)
    for n in range(5):
        spool.append([item(n)])
        thread.wake()
        until(lambda n=n: monitor.sequences(STREAM) == list(range(n + 1)))
    assert thread.stop(PATIENCE)
    assert StatusFile(spool.folder).read().state == "stopped"
    assert StatusFile(spool.folder).read().items == 5
    assert not thread.alive


def test_flush_sends_all_and_says_so(spool, monitor, start):
    spool.append([item(n) for n in range(20)])
    assert start(batch_bytes=400).flush(PATIENCE)
    assert monitor.sequences(STREAM) == list(range(20))


def test_flush_cuts_waits_short_and_says_when_it_failed(spool, monitor, start):
    spool.append([item(0)])
    monitor.constant = always(Answer(500, b"down"))
    thread = start()
    assert thread.flush(PATIENCE) is False
    assert thread.status.failures >= 3
    monitor.constant = None
    assert thread.flush(PATIENCE) is True
    assert monitor.sequences(STREAM) == [0]


def test_stop_does_not_wait_for_a_server_that_hangs(spool, monitor, start):
    spool.append([item(0)])
    silent, arrived = threading.Event(), threading.Event()

    def hold(*_):
        arrived.set()
        return Answer(200, {}, wait=silent)

    monitor.faults = [None, hold]
    thread = start()
    assert arrived.wait(PATIENCE)
    began = time.monotonic()
    assert thread.stop(9.0)
    assert time.monotonic() - began < HANGS / 2
    silent.set()
    assert spool.stats().items == 1
    assert start().flush(PATIENCE)
    assert monitor.sequences(STREAM) == [0]


def test_of_two_agents_one_sends_and_the_other_takes_over(spool, monitor, start):
    first = start()
    until(lambda: holder(spool.folder) == os.getpid())
    second = start()
    until(lambda: second.status.state == "standby")
    spool.append([item(0)])
    assert second.flush(PATIENCE)  # the other one sends
    assert second.status.state == "standby"
    assert first.stop(PATIENCE)
    spool.append([item(1)])
    assert second.flush(PATIENCE)
    until(lambda: second.status.state != "standby")
    assert monitor.sequences(STREAM) == [0, 1]
    assert monitor.events == []


@pytest.mark.parametrize("forked", [False, True])
def test_the_other_takes_over_after_sigkill(spool, monitor, server, start, forked):
    """Also when a process forked from the killed one lives on, with a copy of all its files."""
    command = [sys.executable, "-m", "tests.agent_process", str(spool.folder), server.url] + ["fork"] * forked
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline()) if forked else None
        try:
            assert process.stdout.readline() == "held\n"
            assert holder(spool.folder) == process.pid
            mine = start()
            until(lambda: mine.status.state == "standby")
            spool.append([item(0)])
            until(lambda: monitor.sequences(STREAM) == [0])
            process.send_signal(signal.SIGKILL)
            process.wait(PATIENCE)
            spool.append([item(1)])
            until(lambda: monitor.sequences(STREAM) == [0, 1])
            assert holder(spool.folder) == os.getpid()
        finally:
            process.kill()
            if child is not None:
                os.kill(child, signal.SIGKILL)
    assert monitor.events == []


def test_a_child_made_by_fork_sends_nothing_until_it_is_started(spool, monitor, start):
    thread = start()
    spool.append([item(0)])
    assert thread.flush(PATIENCE)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = [thread.alive, thread._lock.held, holder(spool.folder) == os.getppid(), thread.flush(0.5)]
            said.append(thread._transport is thread._agent is None)  # the connection is the parent's
            thread.start()
            until(lambda: thread.status.state == "standby")
            said.append(thread.stop(PATIENCE))
            os.write(writing, repr(said).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        assert pipe.read() == b"[False, False, True, True, True, True]"
    os.waitpid(child, 0)
    assert thread.alive
    assert thread._lock.held
    spool.append([item(1)])
    assert thread.flush(PATIENCE)
    assert monitor.sequences(STREAM) == [0, 1]


def test_a_child_takes_over_from_a_parent_that_stops(spool, monitor, start):
    thread = start()
    assert thread.flush(PATIENCE)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            thread.start()
            until(lambda: thread.status.state == "standby")
            os.write(writing, b"standing by")
            until(lambda: thread._lock.held)
            os.write(writing, b", sending" if thread.flush(PATIENCE) else b", failing")
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb", 0) as pipe:
        assert pipe.read(11) == b"standing by"
        assert thread.stop(PATIENCE)
        spool.append([item(7)])
        assert pipe.read() == b", sending"
    os.waitpid(child, 0)
    assert monitor.sequences(STREAM) == [7]


def test_trouble_is_said_and_never_raised(spool, start, caplog):
    (spool.folder / "identity").mkdir()
    (spool.folder / "identity" / "device.key").write_bytes(b"half a k")
    with caplog.at_level(logging.DEBUG):
        thread = start()
        until(lambda: StatusFile(spool.folder).read() is not None)
    assert thread.alive
    assert "cut short or damaged" in thread.status.error
    assert "restore" in StatusFile(spool.folder).read().error
    assert thread.flush(0.2) is True  # nothing waits
    (spool.folder / "identity" / "device.key").unlink()
    spool.append([item(0)])
    assert thread.flush(PATIENCE)


def test_settings_that_are_no_good_are_said_at_once(spool):
    for settings, words in (
        ({"server": "http://monitor.example.com"}, "plain HTTP"),
        ({"server": "https://m.example.com", "bandwidth_bytes_per_second": 0.0}, "bandwidth"),
        ({"server": "https://m.example.com", "bandwidth_bytes_per_second": float("nan")}, "bandwidth"),
    ):
        with pytest.raises(AgentError, match=words):
            AgentSettings(**settings)
    with pytest.raises(AgentError, match="CA"):
        AgentThread(spool, spool.folder, AgentSettings(server="https://m.example.com", ca=spool.folder / "none"))


def test_nothing_secret_is_logged(spool, monitor, server, start, caplog):
    """At DEBUG, of all libraries, through enrolment, batches and failures."""
    spool.append([item(0, {"secret_feature": "rain all day long"})])
    monitor.faults = [always(Answer(500, b"x")), None, always(Answer(500, b"x"))]
    with caplog.at_level(logging.DEBUG):
        thread = start()
        assert thread.flush(PATIENCE) or thread.flush(PATIENCE)
        thread.stop(PATIENCE)
    text = "\n".join(f"{r.name} {r.getMessage()} {r.__dict__}" for r in caplog.records)
    assert "httpcore" in text
    key = (spool.folder / "identity" / "device.key").read_text().splitlines()[1]
    # None is so short that it could stand by chance in the signatures and keys that are logged.
    for secret in (TOKEN, TOKEN[-20:], key, "rain all day long", "secret_feature", KEY.decode()):
        assert secret not in text
    assert TOKEN not in repr(AgentSettings(server=server.url, token=TOKEN))
    assert all(TOKEN.encode() not in file.read_bytes() for file in spool.folder.rglob("*") if file.is_file())


# --- the lock -------------------------------------------------------------------------------------------------------
def test_locks_exclude_each_other_within_a_process(tmp_path):
    one, other = AgentLock(tmp_path), AgentLock(tmp_path)
    assert holder(tmp_path) is None
    assert one.acquire()
    assert one.acquire()
    assert not other.acquire()
    assert holder(tmp_path) == os.getpid()
    assert one.held  # asking takes nothing away
    assert not other.acquire()
    one.release()
    one.release()
    assert holder(tmp_path) is None
    assert other.acquire()
    other.release()


def test_a_lock_is_not_kept_by_a_child_made_by_fork(tmp_path):
    lock = AgentLock(tmp_path)
    assert lock.acquire()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, b"y" if lock.held else b"n")
        time.sleep(60)
        os._exit(0)
    try:
        assert os.read(reading, 1) == b"n"
        assert holder(tmp_path) == os.getpid()  # the child took it from nobody
        lock.release()
        assert holder(tmp_path) is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    with pytest.raises(AgentError, match="cannot be opened"):
        AgentLock(tmp_path / "missing").acquire()


def test_a_lock_is_not_kept_by_programs_the_application_starts(tmp_path):
    lock = AgentLock(tmp_path)
    assert lock.acquire()
    with subprocess.Popen(["sleep", "60"], close_fds=False) as process:
        lock.release()
        try:
            assert holder(tmp_path) is None
        finally:
            process.kill()
