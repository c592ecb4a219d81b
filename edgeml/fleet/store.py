"""The monitor's database: one engine, its transactions, and the errors a person can act on.

Comes in: a URL, of an SQLite file or of a PostgreSQL database. Goes out: a ``Store`` whose ``read``, ``write`` and
``snapshot`` are the only ways to a connection. Everything else in ``edgeml.fleet`` that touches the database has one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DBAPIError,
    InterfaceError,
    InternalError,
    OperationalError,
    TimeoutError,
)

from edgeml.errors import MonitorDatabaseError, MonitorSettingsError
from edgeml.fleet.migrate import check_version, migrate

# How long a writer waits for another one: longer than any transaction of ours, shorter than an HTTP client's patience.
SQLITE_BUSY_SECONDS = 10.0
POSTGRESQL_LOCK_SECONDS = 10
POSTGRESQL_STATEMENT_SECONDS = 120
CONNECT_SECONDS = 5
_POOL = {"pool_size": 8, "max_overflow": 24, "pool_timeout": 10, "pool_recycle": 1800}


class Store:
    """The database of one monitor. Threads may share it; a forked process opens its own."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.dialect: str = engine.dialect.name
        self.url = engine.url.render_as_string(hide_password=True)
        self._pid = os.getpid()

    @classmethod
    def open(cls, url: str | URL, *, migrate: bool = True) -> Store:
        """Connect, and bring the schema to this version (``migrate=False``: refuse another one instead).

        Raises:
            MonitorSettingsError: ``url`` is of no database the monitor can use.
            MonitorDatabaseError: it cannot be reached, or its schema is of another version.
        """
        store = cls(make_engine(url))
        try:
            with database_errors(store.url):
                _migrate(store.engine) if migrate else check_version(store.engine)
        except BaseException:
            store.close()
            raise
        return store

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that reads."""
        with self._transaction() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes: committed at the end, rolled back by an exception.

        On SQLite the right to write is taken at the beginning, so that what is read first still holds at the commit.
        """
        with self._transaction(immediate=True) as connection:
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction that sees the database as it was at its beginning, whatever others write meanwhile."""
        with self._transaction(isolation_level="REPEATABLE READ") as connection:
            yield connection

    def check(self) -> None:
        """Ask the database whether it answers and has this version's schema. Raises MonitorDatabaseError."""
        with database_errors(self.url):
            check_version(self.engine)

    def checkpoint(self) -> None:
        """Fold what can be of SQLite's write-ahead log into the file, without making anyone wait."""
        with database_errors(self.url), self.engine.connect() as connection:
            # Past SQLAlchemy, which would begin a transaction: SQLite refuses a checkpoint in one. The driver's errors
            # come as they are, then.
            try:
                connection.connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)").close()
            except sqlite3.Error as error:
                raise _named(self.url, error) from error

    def close(self) -> None:
        """Close every connection; a server's last one also folds SQLite's write-ahead log into the file."""
        self.engine.dispose(close=os.getpid() == self._pid)

    @contextmanager
    def _transaction(self, *, immediate: bool = False, isolation_level: str = "") -> Iterator[Connection]:
        with database_errors(self.url):
            engine = self.engine
            if isolation_level and self.dialect == "postgresql":
                engine = engine.execution_options(isolation_level=isolation_level)
            with engine.connect() as connection:
                if immediate and self.dialect == "sqlite":
                    connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
                with connection.begin():
                    yield connection


@contextmanager
def database_errors(url: str) -> Iterator[None]:
    """Turn what the database or the way to it did wrong into MonitorDatabaseError; a broken constraint passes."""
    try:
        yield
    except (DBAPIError, TimeoutError) as error:
        # SQLite's driver raises the bare class for a file that is damaged or no database.
        known = isinstance(error, (OperationalError, InterfaceError, InternalError, TimeoutError))
        if known or type(error) is DatabaseError or getattr(error, "connection_invalidated", False):
            raise _named(url, error) from error
        raise


def _named(url: str, error: Exception) -> MonitorDatabaseError:
    said = str(getattr(error, "orig", None) or error).strip().splitlines()
    cause = said[0][:300] if said else type(error).__name__
    remedies = {
        "disk is full": "make room on the disk of the database; devices keep their windows meanwhile",
        "locked": "another process holds the database: if it is a command of yours, let it end",
        "readonly": "give the server's user the right to write the database file and its folder",
        "read-only": "give the server's user the right to write the database",
        "unable to open": "check that the folder exists and that the server's user may write to it",
        "malformed": "the file is damaged: restore a backup (edgeml monitor restore)",
        "not a database": "the file is no SQLite database: give another path",
        "authentication": "check user and password in the database's URL",
        "does not exist": "create the database, or check its name in the URL",
    }
    fitting = (remedy for word, remedy in remedies.items() if word in cause)
    return MonitorDatabaseError(
        f"the database {url} failed: {cause}", next(fitting, "check that the database runs and can be reached")
    )


def make_engine(url: str | URL) -> Engine:
    """An engine as every part of the monitor needs it; no connection is made yet. Raises MonitorSettingsError."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise MonitorSettingsError(
            "the database's URL cannot be read", "write sqlite:///FILE or postgresql://USER@HOST/DATABASE"
        ) from None
    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        return _sqlite(parsed)
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return _postgresql(parsed.set(drivername="postgresql+psycopg"))
    raise MonitorSettingsError(
        f"{parsed.drivername} is not a database the monitor can use", "use sqlite:///FILE or postgresql://…"
    )


def _sqlite(url: URL) -> Engine:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise MonitorSettingsError("an SQLite database of the monitor is a file", "write sqlite:///FILE")
    path = Path(url.database)
    with suppress(OSError):  # SQLite names what is wrong with the file when it opens it
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # It holds hashes of passwords: nobody else's business. SQLite gives -wal and -shm the file's own mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    engine = create_engine(url, connect_args={"timeout": SQLITE_BUSY_SECONDS, "check_same_thread": False}, **_POOL)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin transactions by rules of its own
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: a commit is on the disk before a device hears of it. The log is folded in by checkpoint.py; a commit
        # does so only where the log has grown to 32 MB without it.
        for pragma in ("synchronous=FULL", "foreign_keys=ON", "cache_size=-65536", "wal_autocheckpoint=8000"):
            cursor.execute(f"PRAGMA {pragma}")
        # A log that grew in a long read is cut back afterwards.
        cursor.execute(f"PRAGMA journal_size_limit={64 * 2**20}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))

    return engine


def _postgresql(url: URL) -> Engine:
    options = (
        f"-c lock_timeout={POSTGRESQL_LOCK_SECONDS}s -c statement_timeout={POSTGRESQL_STATEMENT_SECONDS}s "
        "-c idle_in_transaction_session_timeout=300s -c timezone=UTC"
    )
    try:
        return create_engine(
            url,
            connect_args={
                "connect_timeout": CONNECT_SECONDS,
                "options": options,
                "application_name": "edgeml-monitor",
                # A server that vanished without a word is noticed within half a minute.
                "keepalives_idle": 10,
                "keepalives_interval": 5,
                "keepalives_count": 3,
            },
            **_POOL,
        )
    except ImportError:
        raise MonitorDatabaseError(
            "PostgreSQL needs the package psycopg", "pip install 'edgeml-sdk[monitor]'"
        ) from None


def _migrate(engine: Engine) -> None:
    migrate(engine)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
