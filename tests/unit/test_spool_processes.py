"""One folder, many at once: threads, processes, forks and spawns, and processes that are killed in the middle."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from edgeml.errors import SpoolError
from edgeml.telemetry import spool_fork
from edgeml.telemetry.spool import Spool
from tests.spool_tools import accept, begin, drain, item, stream
from tests.waiting import PATIENCE

KEY = bytes(range(32))
SPAWN = multiprocessing.get_context("spawn")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="these are about POSIX processes")


def appender(folder, name, count, ready):
    with Spool(folder, key=KEY) as spool:
        ready.wait(PATIENCE)
        for number in range(count):
            spool.append([item(number, stream=name)])


def test_processes_that_start_at_once_share_one_folder(tmp_path):
    """All make the folder, the database and its key together; one sends meanwhile."""
    names = [stream() for _ in range(4)]
    ready = SPAWN.Barrier(len(names))
    processes = [SPAWN.Process(target=appender, args=(tmp_path / "spool", name, 40, ready)) for name in names]
    for process in processes:
        process.start()
    found = {}
    with Spool(tmp_path / "spool", key=KEY) as spool:
        while any(process.is_alive() for process in processes):
            if (batch := begin(spool, max_items=7)) is not None:
                found |= {(one.stream, one.sequence): one for one in batch.items}
                accept(spool, batch)
        for process in processes:
            process.join()
            assert process.exitcode == 0
        rest, losses = drain(spool)
    assert not found.keys() & rest.keys()
    assert found | rest == {(name, n): item(n, stream=name) for name in names for n in range(40)}
    assert losses == []


def test_threads_share_one_spool(tmp_path):
    with Spool(tmp_path, key=KEY) as spool:
        threads = [
            threading.Thread(target=lambda name=name: [spool.append([item(n, stream=name)]) for n in range(30)])
            for name in (stream() for _ in range(4))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(drain(spool)[0]) == 120


def in_child(work):
    """Run ``work`` in a fork of this process; its exit status, 0 when it returned."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_inherits_no_connection_and_both_go_on(tmp_path):
    spool = Spool(tmp_path, key=KEY)
    spool.append([item(0)])
    inherited = []

    def child():
        inherited.append(spool._file._connection)
        assert inherited == [None]
        for number in range(1, 20):
            spool.append([item(number)])
        spool.close()

    assert in_child(child) == 0
    for number in range(20, 40):
        spool.append([item(number)])
    assert len(drain(spool)[0]) == 40
    spool.close()


@pytest.mark.parametrize("announced", [True, False])
def test_a_child_goes_on_after_its_parent_has_closed(tmp_path, monkeypatch, announced):
    """What SQLite knows of locks is copied by a fork: a parent that closes must not remove the log under the child."""
    spool = Spool(tmp_path, key=KEY)
    if not announced:  # as an embedding server forks: no hook runs before
        monkeypatch.setattr(spool_fork, "_watched", set())
    spool.append([item(0)])
    read, write = os.pipe()
    began, begin_now = os.pipe()

    def child():
        spool.append([item(1)])
        os.write(begin_now, b"x")
        os.read(read, 1)
        spool.append([item(2)])
        os.kill(os.getpid(), signal.SIGKILL)  # what was acknowledged needs no close

    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.alarm(60)
            child()
        os._exit(1)
    assert os.read(began, 1) == b"x"
    spool.append([item(3)])
    spool.close()
    os.write(write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    os.close(began)
    os.close(begin_now)
    os.close(read)
    os.close(write)
    with Spool(tmp_path, key=KEY) as again:
        assert sorted(number for _, number in drain(again)[0]) == [0, 1, 2, 3]


def test_a_fork_waits_for_a_write_in_another_thread(tmp_path):
    spool = Spool(tmp_path, key=KEY)
    stop = threading.Event()
    kept = []

    def write():
        while not stop.is_set():
            spool.append([item(len(kept))])
            kept.append(1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for turn in range(15):
            name = stream()
            assert in_child(lambda name=name: spool.append([item(0, stream=name)])) == 0, turn
    finally:
        stop.set()
        thread.join()
    assert spool.stats().items == len(kept) + 15
    spool.close()


def test_a_fork_that_python_does_not_announce_is_noticed(tmp_path, monkeypatch):
    """As an embedding server forks: no hook runs before. An idle spool goes on in the child on its own connection."""
    spool = Spool(tmp_path, key=KEY)
    spool.append([item(0)])
    monkeypatch.setattr(spool_fork, "_watched", set())

    def child():
        assert spool._file._connection is not None
        spool.append([item(1)])
        spool.close()

    assert in_child(child) == 0
    spool.append([item(2)])
    spool.close()
    with Spool(tmp_path, key=KEY) as again:
        assert len(drain(again)[0]) == 3


def test_a_fork_in_the_middle_of_a_write_leaves_a_spool_that_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeml.telemetry.spool_file._FORK_WAIT_SECONDS", 0.01)
    spool = Spool(tmp_path, key=KEY)
    inside, go_on = threading.Event(), threading.Event()

    def work(rows):
        inside.set()
        go_on.wait(PATIENCE)

    thread = threading.Thread(target=lambda: spool._file.run(work))
    thread.start()
    inside.wait(PATIENCE)

    def child():
        with pytest.raises(SpoolError, match="forked in the middle"):
            spool.append([item(0)])

    assert in_child(child) == 0
    go_on.set()
    thread.join()
    spool.append([item(0)])
    spool.close()


def test_one_process_sets_a_damaged_file_aside_and_the_others_follow(tmp_path):
    with Spool(tmp_path, key=KEY) as one, Spool(tmp_path, key=KEY) as two, Spool(tmp_path, key=KEY) as three:
        three.append([item(0)])
        one._file.forget()
        two._file.forget()
        three._file.empty_log()
        with (tmp_path / "spool.db").open("r+b") as file:
            file.write(b"\xff" * 8192)
        one.append([item(1)])
        two.append([item(2)])
        three.append([item(3)])  # it had the old file open all along
        three.close()
        assert one.stats().damaged_files == ("spool.damaged-1",)
        assert {number for _, number in drain(two)[0]} >= {1, 2, 3}


KILLED = """
import sys
from edgeml.telemetry.spool import Spool
from tests.spool_tools import accept, begin, item, stream
name = stream()
with Spool(sys.argv[1], key=bytes(range(32)), max_bytes=2**20) as spool:
    for number in range(10**9):
        spool.append([item(number, stream=name, size=2000)])
        print(name, number, flush=True)
        if number % 5 == 4:
            batch = begin(spool, max_items=2)
            print("sent", *(f"{one.stream}:{one.sequence}" for one in batch.items), flush=True)
            accept(spool, batch)
"""


def test_thirty_kills_at_random_moments(tmp_path):
    """Real processes, SIGKILL: what was acknowledged through the pipe is there, or was handed out, or is a loss."""
    choice = random.Random(7)
    acked, sent = set(), set()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(30):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
        )
        wanted = choice.randrange(1, 40)
        lines = [process.stdout.readline() for _ in range(wanted)]
        time.sleep(choice.random() * 0.003)  # somewhere in the write that follows
        process.kill()
        lines += process.stdout.readlines()
        process.wait()
        process.stdout.close()
        for line in lines:
            words = line.split()
            if not line.endswith("\n"):
                continue
            if words[0] == "sent":
                sent |= {(word[:32], int(word[33:])) for word in words[1:]}
            else:
                acked.add((words[0], int(words[1])))
    notes = []
    with Spool(tmp_path, key=KEY, max_bytes=2**20, on_note=notes.append) as spool:
        items, losses = drain(spool)
    lost = {(loss.stream, number) for loss in losses for number in range(loss.first, loss.last + 1)}
    assert notes == []
    assert len(acked) > 200
    assert acked <= items.keys() | sent | lost
    assert not lost & (items.keys() | sent)
    assert all(one == item(one.sequence, stream=one.stream, size=2000) for one in items.values())
