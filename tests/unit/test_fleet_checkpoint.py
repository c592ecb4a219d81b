"""SQLite's write-ahead log is folded into the database beside whoever reads and writes, also after an error."""

from __future__ import annotations

import logging
import sqlite3
import time
from pathlib import Path

import pytest
from sqlalchemy import event, insert

from edgeml.fleet import tables
from edgeml.fleet.checkpoint import CheckpointThread
from edgeml.fleet.store import SQLITE_BUSY_SECONDS, Store
from tests.monitor_tools import served
from tests.waiting import until


@pytest.fixture
def file(tmp_path):
    return tmp_path / "monitor.db"


@pytest.fixture
def store(file):
    made = Store.open(f"sqlite:///{file}")
    yield made
    made.close()


def add(store: Store, name: str) -> None:
    with store.write() as connection:
        row = {"id": name.encode().hex().zfill(32), "name": name, "created": 0.0}
        connection.execute(insert(tables.projects), row)


def in_file(file: Path, name: str) -> bool:
    """Whether the database's own file holds it; until then it is in the log."""
    return name.encode() in file.read_bytes()


def test_the_log_is_folded_in_while_a_server_runs(file):
    with served(f"sqlite:///{file}") as made:
        for name in ("early bird", "late bird"):
            add(made.store, name)
            until(lambda name=name: in_file(file, name))


def test_nothing_else_folds_so_little_in(store, file):
    add(store, "early bird")
    add(store, "late bird")
    assert not in_file(file, "bird")
    store.checkpoint()
    assert in_file(file, "early bird")
    assert in_file(file, "late bird")


def test_neither_a_writer_nor_a_reader_is_waited_for(store, file):
    add(store, "early bird")
    with store.read() as reader, store.write() as writer:
        reader.exec_driver_sql("SELECT count(*) FROM projects")
        writer.exec_driver_sql("UPDATE projects SET name = 'late bird'")
        # Any other kind of checkpoint waits for them as long as SQLite waits for a lock.
        began = time.monotonic()
        store.checkpoint()
        assert time.monotonic() - began < SQLITE_BUSY_SECONDS
        assert in_file(file, "early bird")
        assert not in_file(file, "late bird")
    store.checkpoint()
    assert in_file(file, "late bird")


def test_an_error_is_told_once_and_it_is_tried_again(store, file, caplog):
    failing, tries = True, 0

    def authorize(action, first, *_more):
        nonlocal tries
        if action == sqlite3.SQLITE_PRAGMA and first == "wal_checkpoint":
            tries += 1
            return sqlite3.SQLITE_DENY if failing else sqlite3.SQLITE_OK
        return sqlite3.SQLITE_OK

    event.listen(store.engine, "checkout", lambda connection, *_: connection.set_authorizer(authorize))
    add(store, "early bird")
    thread = CheckpointThread(store)
    with caplog.at_level(logging.WARNING, "edgeml.monitor"):
        thread.start()
        try:
            until(lambda: tries >= 3)
            assert not in_file(file, "early bird")
            failing = False
            until(lambda: in_file(file, "early bird"))
        finally:
            thread.stop()
    assert [record.getMessage().count("not authorized") for record in caplog.records] == [1]


def test_one_that_was_not_started_can_be_stopped(store):
    CheckpointThread(store).stop()
