"""The spool's database: its tables, its settings, and the way from an older form to this one.

``spool_file`` calls ``configure`` on each connection, ``state`` before it trusts a file, and ``create`` or ``upgrade``
under the folder's exclusive lock. What the columns named ``sealed`` hold is encrypted; the others hold numbers, random
identifiers and the digest of a reference profile: when and how much was recorded, never what.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Literal

APPLICATION_ID = 0x45644D53  # "EdMS", in the file's header: file(1) and other programs can tell what it is
VERSION = 1
PAGE_BYTES = 4096
BUSY_SECONDS = 20.0
# FULL syncs the log in each commit. NORMAL would not: a power cut could take back what was acknowledged.
SYNCHRONOUS = "FULL"

_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;

-- The data key, wrapped. Two rows while the key-encryption key is being replaced.
CREATE TABLE keys (id INTEGER PRIMARY KEY, wrapped BLOB NOT NULL);

-- id is the order of arrival. The sealed payload stands last, so that reading the rest follows no overflow pages.
CREATE TABLE items (
    id INTEGER PRIMARY KEY, stream BLOB NOT NULL, sequence INTEGER NOT NULL, kind TEXT NOT NULL,
    priority INTEGER NOT NULL, rows INTEGER NOT NULL, size INTEGER NOT NULL, kept INTEGER NOT NULL,
    sealed BLOB NOT NULL, UNIQUE (stream, sequence));
-- Newest to send, oldest to evict, and the figures of stats(), without a look at the table.
CREATE INDEX items_by_priority ON items (priority, id, rows, size);

-- The batch that was begun: which items and losses, in order.
CREATE TABLE pinned (position INTEGER PRIMARY KEY, item INTEGER NOT NULL UNIQUE);
CREATE TABLE pinned_losses (position INTEGER PRIMARY KEY, loss INTEGER NOT NULL UNIQUE);
-- Items that the monitor put off, and how often: they go after all others.
CREATE TABLE deferred (item INTEGER PRIMARY KEY, tries INTEGER NOT NULL);

CREATE TABLE reasons (id INTEGER PRIMARY KEY, sealed BLOB NOT NULL);
-- The ranges of a stream do not overlap.
CREATE TABLE losses (
    id INTEGER PRIMARY KEY, stream BLOB NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    kind TEXT NOT NULL, reason INTEGER NOT NULL, rows INTEGER NOT NULL, UNIQUE (stream, first));
-- Streams that stand for losses of many streams, and the next number of each.
CREATE TABLE summaries (stream BLOB PRIMARY KEY, next INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE profiles (id INTEGER PRIMARY KEY, sha256 BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
CREATE TABLE counters (
    what TEXT NOT NULL, reason INTEGER NOT NULL, items INTEGER NOT NULL, rows INTEGER NOT NULL,
    PRIMARY KEY (what, reason)) WITHOUT ROWID;
"""
TABLES = frozenset({
    "meta", "keys", "items", "pinned", "pinned_losses", "deferred", "reasons", "losses", "summaries", "profiles",
    "counters",
})  # fmt: skip

# What leads from a version to the next one, in one transaction: {1: steps from 1 to 2, …}.
UPGRADES: dict[int, Callable[[sqlite3.Connection], None]] = {}

State = Literal["empty", "current", "older", "newer", "foreign", "incomplete"]


def state(connection: sqlite3.Connection) -> State:
    """What a file is, from its header and the names of its tables; sqlite3.DatabaseError when it is no database."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if application != APPLICATION_ID:
        return "foreign" if names or application or version else "empty"
    if version != VERSION:
        return "newer" if version > VERSION else "older"
    return "current" if names >= TABLES else "incomplete"


def configure(connection: sqlite3.Connection, *, log_bytes: int, pages: int) -> None:
    """Settings of one connection. ``log_bytes`` is what the -wal keeps when it is emptied in passing, ``pages`` the
    most that the database itself may have.
    """
    for setting in (
        f"synchronous = {SYNCHRONOUS}",
        "fullfsync = ON",  # macOS: a plain fsync leaves data in the drive's cache
        "checkpoint_fullfsync = ON",
        "secure_delete = ON",
        "cell_size_check = ON",  # finds damaged pages when they are read
        "trusted_schema = OFF",  # a file that someone prepared runs nothing
        "temp_store = MEMORY",
        "mmap_size = 0",  # an I/O error of a mapped file would be a signal
        "cache_size = -2048",
        "wal_autocheckpoint = 0",  # spool_file empties the log before a transaction that would not fit its limit
        f"journal_size_limit = {log_bytes}",
        f"max_page_count = {pages}",
    ):
        connection.execute(f"PRAGMA {setting}")


def start_log(connection: sqlite3.Connection) -> bool:
    """Switch the file to a write-ahead log, once for good; False where the file system cannot share memory for it."""
    return bool(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] == "wal")


def before_first_write(connection: sqlite3.Connection) -> None:
    """Settings that only a new file takes. Freed pages can be given back to the disk later."""
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")


def create(connection: sqlite3.Connection) -> None:
    """All tables, inside the caller's transaction."""
    for statement in _TABLES.split(";"):
        if statement.strip():
            connection.execute(statement)
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def upgrade(connection: sqlite3.Connection) -> None:
    """From an older version to this one, inside the caller's transaction."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    while version < VERSION:
        UPGRADES[version](connection)
        version += 1
    connection.execute(f"PRAGMA user_version = {VERSION}")


def is_sound(connection: sqlite3.Connection) -> bool:
    """SQLite's own check of every page and every index."""
    return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
