"""Keeps compiled kernels on disk, so that Numba is needed once a machine and not at every start.

``library.py`` reads and writes by a key (key.py) and a suffix: ``.so`` a shared library, ``.o`` an object. The folder
is ``EDGEML_CACHE_DIR``, or the platform's for caches. Every failure of it means compiling in memory, never an error.

What is guarded, and how; numba#4807 and its kin are why Numba's own cache is not used:
- a kernel, a function it calls or a constant changes, and Numba's index, keyed by the caller's file and time, does
  not: our key is the SHA-256 of all sources, whatever their times;
- two processes start at once, or one is killed while it writes: a file is written aside, synchronised and renamed;
- a damaged file: the SHA-256 of the rest stands at its end, and another is made in its place;
- a file or a folder that others can write, a link, anything that is no plain file: not loaded, since it is code;
- files of older versions and what killed processes leave behind: see ``_tidy``.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from hashlib import sha256
from pathlib import Path

_DIGEST = 32
_ASIDE, _KEPT = ".kernels-", "kernels-"
# A process that may still be writing is younger than this.
_LEFTOVER_SECONDS = 3600
# What no process has asked for in this time goes, and the oldest beyond this number (about 200 kB each): several
# versions of EdgeML, Pythons and machines may share a folder, and each must find its own again.
_UNUSED_SECONDS = 90 * 86400
_MOST = 32
_DAY = 86400


def folder() -> Path | None:
    """Where objects are kept; None when the user has no home."""
    chosen = os.environ.get("EDGEML_CACHE_DIR")
    if chosen:
        return Path(chosen).absolute()
    try:
        if sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        elif sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return base / "edgeml"


def read(key: str, suffix: str) -> tuple[Path, bytes] | None:
    """Where what is kept under ``key`` lies, and its bytes; None where there is none to be trusted."""
    base = folder()
    if base is None or _distrusted(base) is not None:
        return None
    path = _path(base, key, suffix)
    try:
        # No link is followed, and a pipe in its place cannot make us wait.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | _BINARY)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode) or not _is_ours(status):
                return None
            data = file.read()
    except OSError:
        return None
    data, digest = data[:-_DIGEST], data[-_DIGEST:]
    if sha256(data).digest() != digest:
        return None
    if time.time() - status.st_mtime > _DAY:
        with contextlib.suppress(OSError):  # a folder to be read only
            os.utime(path)  # in use: not to be tidied away
    return path, data


def write(key: str, suffix: str, data: bytes) -> Path | str:
    """Keep ``data``; returns where, or the reason why not."""
    base = folder()
    if base is None:
        return "this user has no home folder"
    path = _path(base, key, suffix)
    aside = None
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
        if reason := _distrusted(base):
            return reason
        aside = base / f"{_ASIDE}{os.getpid()}-{time.time_ns()}"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data + sha256(data).digest())
            file.flush()
            os.fsync(descriptor)
        os.replace(aside, path)
    except OSError as error:
        if aside is not None:
            with contextlib.suppress(OSError):
                os.unlink(aside)
        return f"{base}: {error.strerror or error}"
    _tidy(base, path)
    return path


def remove(path: Path) -> None:
    """Forget what cannot be loaded."""
    with contextlib.suppress(OSError):
        os.unlink(path)


_BINARY = getattr(os, "O_BINARY", 0)


def _path(base: Path, key: str, suffix: str) -> Path:
    return base / f"{_KEPT}{key}{suffix}"


def _tidy(base: Path, written: Path) -> None:
    """Remove what nobody needs, after a write. A process that runs on a removed library keeps it in memory."""
    now, kept = time.time(), []
    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            with contextlib.suppress(OSError):  # another process tidies, too
                age = now - entry.stat(follow_symlinks=False).st_mtime
                if entry.name.startswith(_ASIDE) and age > _LEFTOVER_SECONDS:
                    os.unlink(entry.path)
                elif entry.name.startswith(_KEPT) and entry.name != written.name:
                    kept.append((age, entry.path))
    for number, (age, path) in enumerate(sorted(kept), 2):
        if number > _MOST or age > _UNUSED_SECONDS:
            with contextlib.suppress(OSError):
                os.unlink(path)


def _is_ours(status: os.stat_result) -> bool:
    """Whether no other user can have written it. Windows keeps profiles apart by itself."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022


def _distrusted(base: Path) -> str | None:
    """Why the folder may not be used: another user could exchange a file in it. None for a good or an absent one."""
    try:
        status = base.stat()
    except OSError:
        return None
    # In a folder like /tmp everyone may write, and nobody may take away what is another's.
    if not stat.S_ISDIR(status.st_mode) or _is_ours(status) or (status.st_uid == 0 and status.st_mode & stat.S_ISVTX):
        return None
    return f"{base}: other users can write there, and kernels are code"
