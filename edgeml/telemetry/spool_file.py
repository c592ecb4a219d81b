"""The spool's database file: opened, shared between processes and threads, found damaged, set aside, made anew.

``SpoolFile.run`` is the one way to the tables: it runs a function in a transaction, under the folder's lock, on a
connection of this process, with room made in the write-ahead log before. SQLite's errors leave it as EdgeML's: a
damaged file is set aside and the function runs on a new one; everything else is a SpoolError after which the spool may
be used again. ``spool.Spool`` is its only caller.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from edgeml.errors import SpoolError, SpoolFullError
from edgeml.telemetry import spool_disk as disk
from edgeml.telemetry import spool_fork
from edgeml.telemetry import spool_tables as tables
from edgeml.telemetry.spool_connection import (
    DAMAGE,
    PASSING,
    Full,
    Unprepared,
    open_database,
    refused,
    translated,
    trust,
    unwrap,
)
from edgeml.telemetry.spool_rows import Damaged, Rows, SuspectedDamage
from edgeml.telemetry.spool_sizes import Sizes
from edgeml.telemetry.vault import KEY_NAME, Key, Vault, load_key

T = TypeVar("T")

_LEAST_FILE = 512  # bytes: SQLite takes a smaller file for an empty one
_FORK_WAIT_SECONDS = 30.0
_TIMES = 5  # that a file may turn out damaged, or not there, within one call


class SpoolFile:
    """``fill(rows, restarted)`` writes the first rows of a new database; ``salvage(aside, key)`` gives the steps, a
    transaction each, that bring over what can be read of one that was set aside.
    """

    def __init__(
        self,
        folder: Path,
        key: Key,
        sizes: Sizes,
        note: Callable[[str], None],
        fill: Callable[[Rows, str], None],
        salvage: Callable[[Path, bytes], Iterator[Callable[[Rows], None]]],
    ) -> None:
        self.folder, self.path, self.key, self.sizes = folder, folder / disk.DATABASE, key, sizes
        self._note, self._fill, self._salvage = note, fill, salvage
        self._mutex = threading.RLock()
        self._lock = disk.FolderLock(folder)
        self._connection: sqlite3.Connection | None = None
        self._vault: Vault | None = None
        self._inode: tuple[int, int] | None = None
        self._pid = os.getpid()
        self._closed = self._unusable = False
        self._pending_notes: list[str] = []
        spool_fork.watch(self)

    # --- what others call ---
    def run(self, work: Callable[[Rows], T], *, write: bool = True, pages: int = 24) -> T:
        """What ``work`` returns, run in one transaction that is durable when this returns.

        ``work`` may run more than once. ``pages`` is how many pages it may change: room for them is made in the
        log before, as far as the log's limit allows. Raises SpoolError and its kinds, and whatever ``work`` raises.
        """
        return self._guarded(lambda: self._attempt(work, write, pages))

    def close(self) -> None:
        """Empty the log into the database and let go of the files. Idempotent."""
        with self._mutex:
            if self._closed:
                return
            self._leave_parent()
            self._closed = True
            self._let_go()

    def empty_log(self) -> bool:
        """Move what the log holds into the database and cut the log to nothing; False when a reader is in the way."""
        return self._guarded(self._checkpoint)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep every other thread and process out of the folder; the connection is closed meanwhile."""
        with self._mutex, self._os_errors():
            self._leave_parent()
            self._let_go()
            with self._lock.hold(exclusive=True):
                yield

    def forget(self) -> None:
        """Let the next call connect anew."""
        with self._mutex:
            self._let_go()

    # --- one call ---
    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            with self._mutex, self._os_errors():
                if self._closed:
                    raise SpoolError("the spool is closed", "open it again")
                if self._unusable:
                    raise SpoolError(
                        "this process was forked in the middle of a write to the spool",
                        "open the spool in each worker, after the fork",
                    )
                self._leave_parent()
                return self._persistent(call)
        finally:
            self._say_notes()

    def _persistent(self, call: Callable[[], T]) -> T:
        """Repeat ``call`` after the database was made or set aside."""
        last = ""
        for _ in range(_TIMES):
            try:
                with self._lock.hold(exclusive=False):
                    self._connect()
                    return call()
            except Unprepared:
                self._prepare()
            except Damaged as damage:
                last = str(damage)
                self._repair(damage)
            except FileNotFoundError:  # the folder went away
                self._prepare()
        raise SpoolError(f"{self.path} cannot be used: {last}", "check the disk, or use another folder")

    def _attempt(self, work: Callable[[Rows], T], write: bool, pages: int) -> T:
        connection, vault = self._connected()
        if write:
            self._make_room_in_log(min(pages, self.sizes.pages_of_chunk))
        with self._sqlite_errors():
            try:
                connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
                result = work(Rows(connection, vault))
                connection.execute("COMMIT")
            except BaseException:
                self._roll_back(connection)
                raise
        return result

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._drop()

    def _make_room_in_log(self, pages: int) -> None:
        log = disk.beside(self.path, "-wal")
        if disk.size(log) + self.sizes.log_bytes(pages) <= self.sizes.log:
            return
        if not self._checkpoint() and disk.size(log) + self.sizes.log_bytes(pages) > self.sizes.log:
            raise SpoolFullError(
                f"the spool's log of {disk.size(log)} bytes cannot be emptied: another program reads it",
                f"end the program that keeps {self.path} open",
            )

    def _checkpoint(self) -> bool:
        connection, _ = self._connected()
        with self._sqlite_errors():
            busy: int = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        return not busy

    # --- the connection ---
    def _connected(self) -> tuple[sqlite3.Connection, Vault]:
        assert self._connection is not None
        assert self._vault is not None
        return self._connection, self._vault

    def _connect(self) -> None:
        """Connect, or stay connected while the path still leads to the same file."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            self._drop()
            raise Unprepared from None
        if self._connection is not None:
            if self._inode == (found.st_dev, found.st_ino):
                return
            self._drop()
        if found.st_size == 0:
            raise Unprepared
        disk.keep_private(self.path, found.st_mode)
        if disk.log_is_damaged(disk.beside(self.path, "-wal")):
            raise SuspectedDamage("its write-ahead log is damaged")
        with self._sqlite_errors():
            connection = open_database(self.path)
            try:
                trust(connection, self.path)
                vault = unwrap(connection, self.path, self.key)
                tables.configure(connection, log_bytes=self.sizes.log, pages=self.sizes.pages)
            except BaseException:
                connection.close()
                raise
            self._connection, self._vault = connection, vault
            self._inode = (found.st_dev, found.st_ino)

    def _drop(self) -> None:
        """Close the connection; which file it was on is remembered for ``_repair``."""
        connection, self._connection, self._vault = self._connection, None, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def _let_go(self) -> None:
        """Disconnect under the folder's lock: closing the last connection empties the log and removes it by its name,
        which must lead to this file's log until then.
        """
        if self._connection is not None:
            try:
                with self._lock.hold(exclusive=False):
                    self._drop()
            except (OSError, SpoolError):
                self._drop()
        self._lock.close()

    # --- making, setting aside ---
    def _prepare(self) -> None:
        """Make the database, or bring it to this version, alone in the folder."""
        disk.make_folder(self.folder)
        self._let_go()
        with self._lock.hold(exclusive=True):
            if disk.size(self.path) > 0:
                self._prepare_existing()
            elif disk.size(disk.beside(self.path, "-wal")) > 0:
                self._replace("the database that its log belongs to was missing or empty")
            elif self.path.exists() or (self.folder / KEY_NAME).exists():
                self._pending_notes.append(f"{self.path} was missing or empty, and a new one was begun")
                self.create("spool set aside: the file was missing or empty")
            else:
                self.create("")

    def _prepare_existing(self) -> None:
        with self._sqlite_errors():
            connection = open_database(self.path)
            try:
                state = tables.state(connection)
                if state == "older":
                    connection.execute("BEGIN IMMEDIATE")
                    tables.upgrade(connection)
                    connection.execute("COMMIT")
            finally:
                connection.close()
        if state == "empty" and disk.size(self.path) < _LEAST_FILE:
            self._replace("it is no database")
        elif state == "empty":  # a power cut came before the first commit
            self.create("")

    def create(self, restarted: str) -> None:
        """A new database where none is, alone in the folder. Its key is on the disk before anything is."""
        key = load_key(self.key, self.folder, create=True)
        disk.make_private(self.path)
        disk.sync_folder(self.folder)
        with self._sqlite_errors():
            connection = open_database(self.path)
            try:
                tables.before_first_write(connection)
                if not tables.start_log(connection):
                    raise SpoolError(
                        f"the file system of {self.folder} cannot hold a write-ahead log",
                        "use a folder on a local file system",
                    )
                tables.configure(connection, log_bytes=self.sizes.log, pages=self.sizes.pages)
                vault = Vault.new()
                connection.execute("BEGIN IMMEDIATE")
                tables.create(connection)
                rows = Rows(connection, vault)
                rows.put_key(vault.wrap(key))
                self._fill(rows, restarted)
                connection.execute("COMMIT")
            finally:
                connection.close()
        disk.sync_folder(self.folder)

    def _repair(self, damage: Damaged) -> None:
        """Set the file aside, unless SQLite only suspected damage, or another process did it meanwhile."""
        inode = self._inode
        self._let_go()
        with self._lock.hold(exclusive=True):
            try:
                found = self.path.stat()
            except FileNotFoundError:
                return
            seen_here = inode == (found.st_dev, found.st_ino)
            if seen_here and not isinstance(damage, SuspectedDamage):
                self._replace(str(damage))
            elif (why := self._what_is_wrong()) is not None:
                self._replace(why)

    def _what_is_wrong(self) -> str | None:
        if disk.log_is_damaged(disk.beside(self.path, "-wal")):
            return "its write-ahead log is damaged"
        try:
            connection = open_database(self.path)
            try:
                trust(connection, self.path)
                unwrap(connection, self.path, self.key)
                return None if tables.is_sound(connection) else "SQLite's check of its pages failed"
            finally:
                connection.close()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode & 0xFF in DAMAGE:
                return str(error)
            raise translated(error, self.path) from error
        except Damaged as damage:
            return str(damage)
        except Unprepared:
            return None

    def _replace(self, why: str) -> None:
        key = load_key(self.key, self.folder, create=True)  # without a key nothing is touched
        aside = disk.move_aside(self.path)
        disk.drop_old_damaged(self.folder, self.sizes.limit)
        self._pending_notes.append(f"{self.path} was set aside as {aside.name}, and a new one begun: {why}")
        self.create(f"spool set aside: {why}")
        self._bring_over(aside, key)

    def _bring_over(self, aside: Path, key: bytes) -> None:
        """What can still be read of a database that was set aside."""
        self._connect()
        try:
            for step in self._salvage(aside, key):
                self._attempt(step, True, self.sizes.pages_of_chunk)
        except (Full, SpoolFullError):
            self._pending_notes.append(f"{self.path} has no room for all that {aside.name} held")

    # --- errors ---
    @contextmanager
    def _sqlite_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            meaning = translated(error, self.path)
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in PASSING:
                self._drop()  # what SQLite remembers of the files may be wrong now
            raise meaning from error

    @contextmanager
    def _os_errors(self) -> Iterator[None]:
        try:
            yield
        except Full as error:
            raise SpoolFullError(
                f"no room for {self.path}: the disk is full, or the spool's {self.sizes.limit} bytes are",
                "free space on the disk, or raise max_bytes",
            ) from error
        except OSError as error:
            raise refused(error, self.folder) from error

    def _say_notes(self) -> None:
        notes, self._pending_notes = self._pending_notes, []
        for note in notes:
            self._note(note)

    # --- fork ---
    def _leave_parent(self) -> None:
        """After a fork that ``before_fork`` did not prepare, as an embedding server makes it. The mutex is held, so the
        copied connection was idle: closing it takes no lock from the parent, and makes SQLite forget locks that this
        process does not have.
        """
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._drop()
            self._lock.close()

    def before_fork(self) -> bool:
        """Close the connection, so that the child inherits none: SQLite's locks belong to a process, what it knows of
        them is copied. Waits for the call that runs, 30 s at most; whether the mutex is held now.
        """
        if not self._mutex.acquire(timeout=_FORK_WAIT_SECONDS):
            return False
        if self._connection is None or not self._connection.in_transaction:
            self._let_go()
        return True

    def after_fork(self) -> None:
        self._mutex.release()

    def after_blind_fork(self) -> None:
        """When another thread was in a call, SQLite was copied in the middle of it: this object stays unusable."""
        if self._mutex.acquire(blocking=False):
            self._mutex.release()
        else:
            self._mutex, self._unusable = threading.RLock(), True
