"""Records what SQLite does to files: a VFS made with ctypes for the very library that Python's sqlite3 uses.

``recorded(folder, events)`` makes it the default while it lasts. It is SQLite's own unix VFS with four functions of it
in front: open, delete, and of each file write, truncate and sync, which note the call and pass it on. Locks and shared
memory stay SQLite's own. ``fault`` may answer in place of the disk.
"""

import ctypes
import os
import sqlite3
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from edgeml.telemetry import spool_disk

_PTR, _INT, _I64, _STR = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_char_p

# Paths are passed on as pointers: SQLite keeps them, and reads options of the URI behind their end.
_OPEN = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _PTR, _INT, _PTR)
_DELETE = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _INT)
_WRITE = ctypes.CFUNCTYPE(_INT, _PTR, _PTR, _INT, _I64)
_TRUNCATE = ctypes.CFUNCTYPE(_INT, _PTR, _I64)
_SYNC = ctypes.CFUNCTYPE(_INT, _PTR, _INT)

# https://www.sqlite.org/c3ref/vfs.html and https://www.sqlite.org/c3ref/io_methods.html
_AFTER_OPEN = ("xAccess", "xFullPathname", "xDlOpen", "xDlError", "xDlSym", "xDlClose", "xRandomness", "xSleep")
_REST = ("xCurrentTime", "xGetLastError", "xCurrentTimeInt64", "xSetSystemCall", "xGetSystemCall", "xNextSystemCall")


class _Vfs(ctypes.Structure):
    _fields_ = (
        ("iVersion", _INT), ("szOsFile", _INT), ("mxPathname", _INT), ("pNext", _PTR), ("zName", _STR),
        ("pAppData", _PTR), ("xOpen", _OPEN), ("xDelete", _DELETE),
        *((name, _PTR) for name in (*_AFTER_OPEN, *_REST)),
    )  # fmt: skip


_METHODS_REST = (
    "xFileSize", "xLock", "xUnlock", "xCheckReservedLock", "xFileControl", "xSectorSize", "xDeviceCharacteristics",
    "xShmMap", "xShmLock", "xShmBarrier", "xShmUnmap", "xFetch", "xUnfetch",
)  # fmt: skip


class _Methods(ctypes.Structure):
    _fields_ = (
        ("iVersion", _INT), ("xClose", _PTR), ("xRead", _PTR), ("xWrite", _WRITE), ("xTruncate", _TRUNCATE),
        ("xSync", _SYNC), *((name, _PTR) for name in _METHODS_REST),
    )  # fmt: skip


class _File(ctypes.Structure):
    _fields_ = (("pMethods", ctypes.POINTER(_Methods)),)


def _library():
    """The library that this process's sqlite3 is linked to, by the path it was mapped from."""
    sqlite3.connect(":memory:").close()
    with open("/proc/self/maps") as maps:
        paths = sorted({line.split()[-1] for line in maps if "sqlite3" in line and "/" in line})
    for path in paths:
        library = ctypes.CDLL(path)
        if hasattr(library, "sqlite3_vfs_find"):
            library.sqlite3_vfs_find.restype = ctypes.POINTER(_Vfs)
            library.sqlite3_vfs_find.argtypes = (_STR,)
            library.sqlite3_vfs_register.argtypes = (_PTR, _INT)
            library.sqlite3_vfs_unregister.argtypes = (_PTR,)
            return library
    raise OSError("the SQLite of this Python was not found among its mapped files")


@dataclass
class Recording:
    """``events``: ("create" | "unlink", name), ("write", name, offset, bytes), ("truncate", name, size),
    ("sync", name), ("names",) when the folder was synced, and whatever a test puts in between.

    ``fault(what, name)`` returns an SQLite error code to answer with, or 0.
    """

    folder: str
    events: list[tuple] = field(default_factory=list)
    fault: Callable[[str, str], int] = lambda what, name: 0
    sync_name_of: set[str] = field(default_factory=set)
    files: dict[int, str] = field(default_factory=dict)

    def name(self, path):
        """The name of a recorded file, None for one of another folder. Shared memory is never on the disk."""
        if path is None:
            return None
        folder, name = os.path.split(os.fsdecode(ctypes.string_at(path)))
        return name if folder == self.folder else None


@contextmanager
def recorded(folder, fault=None):
    """A Recording of what SQLite does in ``folder`` meanwhile, in this process."""
    library = _library()
    base = library.sqlite3_vfs_find(None)
    recording = Recording(os.path.realpath(folder))
    if fault is not None:
        recording.fault = fault
    methods = {}  # by the address of the original ones; kept alive here
    vfs = _Vfs()
    ctypes.memmove(ctypes.byref(vfs), base, ctypes.sizeof(_Vfs))
    vfs.zName = b"edgeml-recorder"
    vfs.xOpen = _OPEN(_opener(recording, base.contents.xOpen, methods))
    vfs.xDelete = _DELETE(_deleter(recording, base.contents.xDelete))
    library.sqlite3_vfs_register(ctypes.byref(vfs), 1)
    try:
        with _python_side(recording):
            yield recording
    finally:
        library.sqlite3_vfs_unregister(ctypes.byref(vfs))
        library.sqlite3_vfs_register(base, 1)


def _opener(recording, real, methods):
    def x_open(pointer, path, file, flags, out):
        name = recording.name(path)
        if name is None:
            return real(pointer, path, file, flags, out)
        code = recording.fault("open", name)
        if code:
            ctypes.cast(file, ctypes.POINTER(_File)).contents.pMethods = None
            return code
        new = not os.path.exists(os.path.join(recording.folder, name))
        code = real(pointer, path, file, flags, out)
        if code == 0:
            if new:
                recording.events.append(("create", name))
                if name.endswith(("-wal", "-journal")):
                    # unixSync syncs the folder with the first sync of a log or journal that it made.
                    recording.sync_name_of.add(name)
            recording.files[file] = name
            opened = ctypes.cast(file, ctypes.POINTER(_File)).contents
            address = ctypes.addressof(opened.pMethods.contents)
            if address not in methods:
                methods[address] = _wrapped(recording, opened.pMethods.contents)
            opened.pMethods = ctypes.pointer(methods[address])
        return code

    return x_open


def _wrapped(recording, real):
    ours = _Methods()
    ctypes.memmove(ctypes.byref(ours), ctypes.byref(real), ctypes.sizeof(_Methods))
    write, truncate, sync = real.xWrite, real.xTruncate, real.xSync

    def x_write(file, data, amount, offset):
        name = recording.files[file]
        code = recording.fault("write", name)
        if code:
            return code
        recording.events.append(("write", name, offset, ctypes.string_at(data, amount)))
        return write(file, data, amount, offset)

    def x_truncate(file, size):
        name = recording.files[file]
        code = recording.fault("truncate", name)
        if code:
            return code
        recording.events.append(("truncate", name, size))
        return truncate(file, size)

    def x_sync(file, flags):
        name = recording.files[file]
        code = recording.fault("sync", name)
        if code:
            return code
        code = sync(file, flags)
        recording.events.append(("sync", name))
        if name in recording.sync_name_of:
            recording.sync_name_of.discard(name)
            recording.events.append(("names",))
        return code

    ours.xWrite, ours.xTruncate, ours.xSync = _WRITE(x_write), _TRUNCATE(x_truncate), _SYNC(x_sync)
    return ours


def _deleter(recording, real):
    def x_delete(pointer, path, sync_folder):
        name = recording.name(path)
        code = real(pointer, path, sync_folder)
        if name is not None and code == 0:
            recording.events.append(("unlink", name))
            if sync_folder:
                recording.events.append(("names",))
        return code

    return x_delete


@contextmanager
def _python_side(recording):
    """What the spool itself does to names, outside SQLite."""
    make_private, sync_folder = spool_disk.make_private, spool_disk.sync_folder

    def made(path):
        if not os.path.exists(path):
            recording.events.append(("create", path.name))
        make_private(path)

    def synced(folder):
        sync_folder(folder)
        recording.events.append(("names",))

    with patch.object(spool_disk, "make_private", made), patch.object(spool_disk, "sync_folder", synced):
        yield
