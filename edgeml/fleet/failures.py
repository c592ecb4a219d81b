"""Tells what a failed transaction failed for: the database, another server's transaction, or the data in it.

Only data is ever held against an item. Where it is not certain that it was the data it is the database, and the device
sends again: to refuse an item because a disk was full would lose it.
"""

from __future__ import annotations

import sqlite3
from enum import Enum

from sqlalchemy.exc import DBAPIError, TimeoutError

from edgeml.errors import MonitorDatabaseError

# SQLSTATE: data exceptions, broken constraints, and program limits such as an index row that is too long.
_DATA_CLASSES = ("22", "23", "54")
# Serialization failure, deadlock. Not a lock that was waited for in vain: that took long enough.
_AGAIN = ("40001", "40P01")
_SQLITE_DATA = {
    sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE
}  # fmt: skip


class Kind(Enum):
    DATA = "data"
    AGAIN = "again"
    DATABASE = "database"


def kind_of(error: BaseException) -> Kind:
    """What ``error``, raised in a transaction, is about."""
    if isinstance(error, MonitorDatabaseError) and isinstance(error.__cause__, (DBAPIError, TimeoutError)):
        return kind_of(error.__cause__)
    if isinstance(error, DBAPIError):
        return _of_driver(error.orig)
    if isinstance(error, (MonitorDatabaseError, TimeoutError, MemoryError, OSError)) or not isinstance(
        error, Exception
    ):
        return Kind.DATABASE
    return Kind.DATA


def _of_driver(error: BaseException | None) -> Kind:
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)  # absent when Python's own module raised it
        if code is None:
            return Kind.DATA if isinstance(error, (sqlite3.DataError, sqlite3.IntegrityError)) else Kind.DATABASE
        return Kind.DATA if code & 0xFF in _SQLITE_DATA else Kind.DATABASE
    state = getattr(error, "sqlstate", None) or ""
    if state in _AGAIN:
        return Kind.AGAIN
    if state.startswith(_DATA_CLASSES) or (not state and type(error).__name__ == "DataError"):
        return Kind.DATA
    return Kind.DATABASE


def said(error: BaseException) -> str:
    """One line about an error, without the values that the statement held."""
    origin = getattr(error, "orig", None) or error
    first = (str(origin).strip().splitlines() or [""])[0]
    return f"{type(origin).__name__}: {first[:200]}" if isinstance(error, DBAPIError) else type(origin).__name__
