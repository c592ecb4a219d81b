"""Keeps compiled kernels on disk, so that Numba is needed once a machine and not at every start.

The folder is ``EDGEML_CACHE_DIR``, or the platform's folder for caches. A file is written aside and renamed, so
that two processes may start at once; it begins with the SHA-256 of the rest, so that a damaged one is made
anew; and one that belongs to another user is not loaded, since it is code. Every failure of the folder means
compiling in memory.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

_DIGEST = 32


def folder() -> Path | None:
    """Where objects are kept; None when the user has no home."""
    chosen = os.environ.get("EDGEML_CACHE_DIR")
    if chosen:
        return Path(chosen)
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


def read(key: str) -> bytes | None:
    """The object kept under ``key``, or None."""
    path = _path(key)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            if not _is_ours(os.fstat(file.fileno())):
                return None
            digest, data = file.read(_DIGEST), file.read()
    except OSError:
        return None
    return data if sha256(data).digest() == digest else None


def write(key: str, data: bytes) -> Path | None:
    """Keep an object; returns where, or None where the folder cannot be written."""
    path = _path(key)
    if path is None:
        return None
    aside = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, aside = tempfile.mkstemp(dir=path.parent, prefix=".kernels-")
        with os.fdopen(descriptor, "wb") as file:
            file.write(sha256(data).digest() + data)
        os.replace(aside, path)
    except OSError:
        if aside is not None:
            with contextlib.suppress(OSError):
                os.unlink(aside)
        return None
    return path


def _path(key: str) -> Path | None:
    base = folder()
    return None if base is None else base / f"kernels-{key}.o"


def _is_ours(status: os.stat_result) -> bool:
    """Whether no other user can have written the file. Windows keeps profiles apart by itself."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & 0o022
