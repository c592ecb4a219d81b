"""The spool's folder as the operating system sees it: names, private files, durable renames, and the folder's lock.

``spool_file`` works inside ``FolderLock``: shared while it uses the database, exclusive while it makes, moves or
destroys it, so that no process writes on into a file that another one has set aside. ``log_is_damaged`` looks at the
write-ahead log before SQLite does, which would take a damaged one for an empty one.
"""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from edgeml.errors import SpoolError

try:
    import fcntl
except ImportError:  # Windows: processes share a folder there without the protection of the lock
    fcntl = None  # type: ignore[assignment]  # tested for None before each use

DATABASE = "spool.db"
LOCK = "spool.lock"
DAMAGED = "spool.damaged-"
SUFFIXES = ("", "-wal", "-shm")
KEEP_DAMAGED = 3

_WAIT_SECONDS = 20.0
_POLL_SECONDS = 0.005


# --- files ------------------------------------------------------------------------------------------------------------
def sync_folder(folder: Path) -> None:
    """Make names that were made, changed or removed in ``folder`` durable. Windows has no such call."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make ``folder``, mode 0700, and the folders above it, durably. One that is there is left as it is."""
    if folder.is_dir():
        return
    if not folder.parent.exists():
        make_folder(folder.parent)
    with suppress(FileExistsError):
        folder.mkdir(0o700)
        sync_folder(folder.parent)


def make_private(path: Path) -> None:
    """An empty file, mode 0600; SQLite gives its -wal and -shm the same. One that is there keeps its bytes."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def keep_private(path: Path, mode: int) -> None:
    """Take others' rights to a file away, as a copy made by hand may have given them."""
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        with suppress(PermissionError):  # another user's file: SQLite will say what may be done with it
            path.chmod(0o600)


def beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def size(path: Path) -> int:
    """Bytes of a file, 0 when there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def bytes_on_disk(database: Path) -> int:
    """Bytes of the database with its -wal and -shm."""
    return sum(size(beside(database, suffix)) for suffix in SUFFIXES)


def damaged_files(folder: Path) -> list[Path]:
    """Databases that were set aside, oldest first."""
    found = [path for path in folder.glob(f"{DAMAGED}*") if path.name.removeprefix(DAMAGED).isdigit()]
    return sorted(found, key=lambda path: int(path.name.removeprefix(DAMAGED)))


def move_aside(database: Path) -> Path:
    """Rename the database and its -wal to the next free ``spool.damaged-N``, durably. Its -shm holds nothing.

    A -wal alone, as a power cut between the two renames leaves it, follows its database.
    """
    folder = database.parent
    known = damaged_files(folder)
    aside = folder / f"{DAMAGED}{int(known[-1].name.removeprefix(DAMAGED)) + 1 if known else 1}"
    if not database.exists() and known and not beside(known[-1], "-wal").exists():
        aside = known[-1]
    for suffix in ("", "-wal"):
        with suppress(FileNotFoundError):
            os.replace(beside(database, suffix), beside(aside, suffix))
    beside(database, "-shm").unlink(missing_ok=True)
    sync_folder(folder)
    return aside


def drop_old_damaged(folder: Path, max_bytes: int) -> None:
    """Keep at most 3 databases that were set aside, the newest, and of older ones no more than ``max_bytes``."""
    total = 0
    for place, path in enumerate(reversed(damaged_files(folder))):
        total += bytes_on_disk(path)
        if place >= KEEP_DAMAGED or (place and total > max_bytes):
            remove(path)


def remove(database: Path, *, wipe: bool = False) -> None:
    """Remove a database with its -wal and -shm; with ``wipe`` their bytes are overwritten first."""
    for suffix in SUFFIXES:
        if wipe:
            wipe_and_remove(beside(database, suffix))
        beside(database, suffix).unlink(missing_ok=True)


def wipe_and_remove(path: Path) -> None:
    """Overwrite a file with zeros, durably, and remove it. Flash memory may keep the old bytes: what protects what was
    sealed is that its key is destroyed in each place.
    """
    if not path.is_file():
        return
    left = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        while left > 0:
            left -= file.write(bytes(min(left, 2**20)))
        os.fsync(file.fileno())
    path.unlink()


# --- the write-ahead log ----------------------------------------------------------------------------------------------
_LOG_HEADER = 32
_LOG_MAGIC = 0x377F0682  # | 1 when its checksums are over big-endian words
_LOG_VERSION = 3007000


def log_is_damaged(log: Path) -> bool:
    """Whether a -wal holds frames under a header that SQLite would not take, as a power cut cannot leave it.

    SQLite makes the header durable before the first frame; it ignores the whole log when the header is wrong, and with
    it all that was committed there. The form: https://www.sqlite.org/fileformat2.html, "The Write-Ahead Log".
    """
    try:
        with log.open("rb") as file:
            head = file.read(_LOG_HEADER)
            longer = bool(file.read(1))
    except FileNotFoundError:
        return False
    if not longer:
        return False
    magic, version = struct.unpack(">II", head[:8])
    if magic & ~1 != _LOG_MAGIC or version != _LOG_VERSION:
        return True
    words = struct.unpack(">6I" if magic & 1 else "<6I", head[:24])
    first = second = 0
    for one, two in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return (first, second) != struct.unpack(">II", head[24:])


# --- the lock ---------------------------------------------------------------------------------------------------------
class FolderLock:
    """One process's hold on a folder, by ``flock`` on a file in it. Not re-entrant."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._descriptor: int | None = None

    @contextmanager
    def hold(self, *, exclusive: bool) -> Iterator[None]:
        """Raises SpoolError when another process keeps the lock for 20 s, OSError when there can be no lock file."""
        if fcntl is None:
            yield
            return
        mode = (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB
        until = time.monotonic() + _WAIT_SECONDS
        while True:
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, mode)
            except BlockingIOError:
                if time.monotonic() > until:
                    raise SpoolError(
                        f"another process has kept {self._path} locked for {_WAIT_SECONDS:.0f} s",
                        "end the process that hangs; its number is shown by: fuser spool.lock",
                    ) from None
                time.sleep(_POLL_SECONDS)
                continue
            if self._still_there(descriptor):
                break
            self.close()  # someone removed the file: a lock on it keeps nobody out
        try:
            yield
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self._descriptor

    def _still_there(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self._path.stat())
        except FileNotFoundError:
            return False
