"""A disk that refuses: each fault is an error of its kind, loses nothing acknowledged, and the spool works after it."""

import errno
import os
import sqlite3
import sys
import threading

import pytest

from edgeml.errors import SpoolError, SpoolFullError
from edgeml.telemetry import spool_disk, spool_tables
from edgeml.telemetry.spool import Spool
from tests.power.recorder import recorded
from tests.spool_tools import accept, begin, drain, item
from tests.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the recorder finds SQLite through /proc")

KEY = bytes(range(32))
IOERR_WRITE, IOERR_FSYNC = sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC


class Disk:
    """Answers with ``code`` from the ``after``-th call of ``what`` on, while there is a code."""

    def __init__(self):
        self.what, self.code, self.after = "", 0, 0

    def __call__(self, what, name):
        if not self.code or what != self.what:
            return 0
        self.after -= 1
        return self.code if self.after < 0 else 0

    def fail(self, what, code, after=0):
        self.what, self.code, self.after = what, code, after

    def recover(self):
        self.code = 0


@pytest.fixture
def disk(tmp_path):
    disk = Disk()
    with recorded(tmp_path / "spool", disk):
        yield disk


FAULTS = {
    "disk full": ("write", sqlite3.SQLITE_FULL, SpoolFullError, "full"),
    "write error": ("write", IOERR_WRITE, SpoolError, "disk I/O error"),
    "sync error": ("sync", IOERR_FSYNC, SpoolError, "disk I/O error"),
    "read-only": ("write", sqlite3.SQLITE_READONLY, SpoolError, "readonly"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("after", range(4))
def test_a_fault_at_any_write_is_an_error_and_leaves_the_spool_usable(tmp_path, disk, fault, after):
    what, code, kind, text = fault
    notes = []
    with Spool(tmp_path / "spool", key=KEY, on_note=notes.append) as spool:
        spool.append([item(n, size=5000) for n in range(8)])
        disk.fail(what, code, after)
        errors = []
        for number in range(8, 12):
            try:
                spool.append([item(number, size=5000)])
            except SpoolError as error:
                errors.append(error)
        assert {type(error) for error in errors} == {kind}
        assert all(text in error.cause and error.remedy for error in errors)
        disk.recover()
        spool.append([item(n, size=5000) for n in range(8, 12)])
        items, losses = drain(spool)
    assert sorted(number for _, number in items) == list(range(12))
    assert losses == []
    assert notes == []


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_while_a_batch_is_begun_or_settled_changes_nothing(tmp_path, disk, fault):
    what, code, kind, _ = fault
    with Spool(tmp_path / "spool", key=KEY) as spool:
        spool.append([item(n) for n in range(8)])
        disk.fail(what, code)
        with pytest.raises(kind):
            begin(spool)
        disk.recover()
        batch = begin(spool)
        disk.fail(what, code)
        with pytest.raises(kind):
            accept(spool, batch)
        assert spool.outbox() == batch, "what was sent can be read while the disk takes no writes"
        disk.recover()
        accept(spool, batch)
        assert begin(spool) is None
        assert spool.stats().delivered == 8


def test_a_fault_while_the_log_is_emptied_loses_nothing(tmp_path, disk):
    with Spool(tmp_path / "spool", key=KEY) as spool:
        for number in range(20):
            spool.append([item(number, size=4000)])
        for after in range(40):
            disk.fail("write" if after % 2 else "sync", IOERR_WRITE, after // 2)
            try:
                spool._file.empty_log()
            except SpoolError:
                spool._file.forget()
            disk.recover()
        spool.append([item(20)])
        assert len(drain(spool)[0]) == 21


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY])
def test_a_database_that_may_not_be_opened(tmp_path, disk, code):
    with Spool(tmp_path / "spool", key=KEY) as spool:
        spool.append([item(0)])
    disk.fail("open", code)
    with pytest.raises(SpoolError, match="writable"):
        Spool(tmp_path / "spool", key=KEY)
    disk.recover()
    with Spool(tmp_path / "spool", key=KEY) as spool:
        assert len(drain(spool)[0]) == 1


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.EPERM])
@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_may_not_be_written(tmp_path, monkeypatch, code, there):
    """These tests may run as root, whom no mode keeps out: the system call fails in its place."""
    if there:
        Spool(tmp_path / "spool", key=KEY).close()
    real = os.open

    def refused(path, flags, *rest, **options):
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code), str(path))
        return real(path, flags, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(SpoolError, match="may write to") as caught:
            Spool(tmp_path / "spool", key=KEY)
    assert os.strerror(code) in caught.value.cause
    Spool(tmp_path / "spool", key=KEY).close()


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SpoolError):
        Spool(tmp_path / "file" / "spool", key=KEY)
    (tmp_path / "spool.db").mkdir()
    with pytest.raises(SpoolError):
        Spool(tmp_path, key=KEY)


def test_no_space_for_the_first_file(tmp_path, monkeypatch):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(spool_disk, "make_private", full)
    with pytest.raises(SpoolFullError, match="No space left"):
        Spool(tmp_path, key=KEY)


def test_a_folder_that_goes_away_comes_back(tmp_path):
    import shutil

    with Spool(tmp_path / "spool", key=KEY) as spool:
        spool.append([item(0)])
        shutil.rmtree(tmp_path / "spool")
        spool.append([item(1)])
        assert [one.sequence for one in drain(spool)[0].values()] == [1]


def test_a_reader_that_never_ends_does_not_make_the_log_grow_beyond_its_limit(tmp_path):
    with Spool(tmp_path, key=KEY, max_bytes=2**19) as spool:
        spool.append([item(0)])
        reader = sqlite3.connect(tmp_path / "spool.db")
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM items").fetchone()
        spool._file._connection.execute("PRAGMA busy_timeout = 50")
        written, refused = 1, None
        while refused is None:
            try:
                spool.append([item(written, size=4000)])
                written += 1
            except SpoolFullError as error:
                refused = error
            assert spool_disk.bytes_on_disk(tmp_path / "spool.db") <= 2**19
        assert "another program reads" in refused.cause
        assert written > 5
        reader.close()
        spool.append([item(500)])
        assert len(drain(spool)[0]) == written + 1


def test_a_writer_that_never_ends_is_an_error_after_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(spool_tables, "BUSY_SECONDS", 0.05)
    with Spool(tmp_path, key=KEY) as spool:
        spool.append([item(0)])
        other = sqlite3.connect(tmp_path / "spool.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(SpoolError, match="locked"):
            spool.append([item(1)])
        assert spool.stats().items == 1
        other.close()
        spool.append([item(1)])
        assert spool.stats().items == 2


def test_a_lock_that_is_never_let_go_is_an_error_after_a_while(tmp_path, monkeypatch):
    import fcntl

    monkeypatch.setattr(spool_disk, "_WAIT_SECONDS", 0.05)
    with Spool(tmp_path, key=KEY) as spool, (tmp_path / "spool.lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(SpoolError, match="locked"):
            spool.append([item(0)])
        fcntl.flock(other, fcntl.LOCK_UN)
        spool.append([item(0)])


def test_a_lock_file_that_was_removed_keeps_nobody_out(tmp_path):
    with Spool(tmp_path, key=KEY) as one, Spool(tmp_path, key=KEY) as two:
        (tmp_path / "spool.lock").unlink()
        one.append([item(0)])
        two.append([item(1)])
        with one._file.alone():
            done = threading.Event()
            thread = threading.Thread(target=lambda: (two.append([item(2)]), done.set()))
            thread.start()
            assert not done.wait(0.2), "two waits for the lock that one has"
        thread.join()
        assert one.stats().items == 3


def test_a_slow_sync_holds_up_nothing_but_its_caller(tmp_path):
    """While one append waits for the disk, another spool of the process works."""
    started, go_on = threading.Event(), threading.Event()

    def slow(what, name):
        if what == "sync" and threading.current_thread().name == "slow":
            started.set()
            go_on.wait(PATIENCE)
        return 0

    with (
        recorded(tmp_path / "slow", slow),
        Spool(tmp_path / "slow", key=KEY) as spool,
        Spool(tmp_path / "other", key=KEY) as other,
    ):
        thread = threading.Thread(target=lambda: spool.append([item(0)]), name="slow")
        thread.start()
        assert started.wait(PATIENCE)
        other.append([item(0)])
        assert thread.is_alive()
        go_on.set()
        thread.join()
        assert spool.stats().items == 1
