"""One connection to the spool's database: opened, trusted, its data key unwrapped; SQLite's errors in EdgeML's terms.

``spool_file`` calls these under the folder's lock. What is raised here beside EdgeML's own errors says what to do next:
make the database (``Unprepared``), set it aside (``Damaged``), or give up for want of room (``Full``).
"""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path
from urllib.parse import quote

from edgeml.errors import SpoolError, SpoolFullError, SpoolKeyError
from edgeml.telemetry import spool_tables as tables
from edgeml.telemetry.spool_rows import Damaged, SuspectedDamage
from edgeml.telemetry.vault import Key, Unreadable, Vault, load_key

DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
# After these the connection stays. Of a commit whose sync failed it knows that it did not happen, and writes over it; a
# new connection would find it in the log, take it for good, and write behind what may never have reached the disk.
PASSING = BUSY | {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
# The statements are right: a table that is missing, or an index that contradicts its table, may be damage.
_SUSPICIOUS = DAMAGE | {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}
_FORBIDDEN = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH}


class Unprepared(Exception):
    """There is no database yet, or one of an older version: it is made under the exclusive lock."""


class Full(Exception):
    """SQLITE_FULL: the disk, or the limit of pages."""


def open_database(path: Path) -> sqlite3.Connection:
    # mode=rw: a connection never makes the file, whose rights and whose name's durability spool_file takes care of.
    connection = sqlite3.connect(
        f"file:{quote(str(path.absolute()))}?mode=rw",
        uri=True,
        timeout=tables.BUSY_SECONDS,
        isolation_level=None,
        check_same_thread=False,  # spool_file's mutex serves one thread at a time
    )
    connection.text_factory = _text
    return connection


def _text(data: bytes) -> str:
    # sqlite3 raises an error of no code for text that is not UTF-8; Rows finds damaged text by what it says.
    return data.decode("utf-8", "replace")


def trust(connection: sqlite3.Connection, path: Path) -> None:
    """Return when the file is a spool of this version. Raises Unprepared, Damaged, or SpoolError for a newer one."""
    state = tables.state(connection)
    if state in ("empty", "older"):
        raise Unprepared
    if state == "newer":
        raise SpoolError(f"{path} was made by a newer version of EdgeML", "upgrade: pip install -U edgeml-sdk")
    if state == "foreign":
        raise Damaged("it is a database of another program")
    if state == "incomplete":
        raise Damaged("tables are missing")


def unwrap(connection: sqlite3.Connection, path: Path, key: Key) -> Vault:
    """The vault of the spool's data key. Raises SpoolKeyError for a key that did not wrap it, Damaged when none can."""
    wrapped = [row[0] for row in connection.execute("SELECT wrapped FROM keys ORDER BY id DESC")]
    secret = load_key(key, path.parent, create=False)
    of_another_key = 0
    for one in wrapped:
        try:
            vault = Vault.unwrap(secret, one if isinstance(one, bytes) else b"")
        except Unreadable:
            continue
        if vault is not None:
            return vault
        of_another_key += 1
    if of_another_key == 0:
        raise Damaged("its data key is damaged")
    raise SpoolKeyError(
        f"the key does not open {path}: another key wrapped it",
        "give the key it was made with; or, to give up what it holds, delete the file and start again",
    )


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """What an error of SQLite means here."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return Full()
    if code in _SUSPICIOUS:
        return SuspectedDamage(str(error))
    what = f"{path}: {error}"
    if code in BUSY:
        return SpoolError(f"{what}, for {tables.BUSY_SECONDS:.0f} s", "end the program that keeps it busy")
    if code in _FORBIDDEN:
        return SpoolError(what, f"make {path.parent} writable for this user, its files too")
    return SpoolError(what, "check the disk")


def refused(error: OSError, folder: Path) -> SpoolError:
    """What an error of the operating system means here."""
    what = f"{error.filename or folder}: {error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFullError(what, "free space on the disk")
    return SpoolError(what, f"make {folder} a folder of a local disk that this user may write to")
