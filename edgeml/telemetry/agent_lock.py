"""One agent a spool: a lock on a file in its folder, which the system frees however its holder dies.

``AgentThread`` holds it while it sends; other agents on the folder stand by and try again. ``edgeml agent status`` asks
who holds it. On POSIX it is ``flock``, which two agents of one process exclude each other by, too; on Windows a locked
byte.
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from pathlib import Path

from edgeml.errors import AgentError

LOCK_FILE = "agent.lock"


class AgentLock:
    """The lock of one folder. In a process made by fork it is no longer held: it stays with the parent."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / LOCK_FILE
        self._descriptor: int | None = None
        _locks.add(self)

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock; False when another agent has it. Raises AgentError when the file cannot be made."""
        if self._descriptor is not None:
            return True
        try:
            # Closed by exec, so that a program the application starts does not keep the lock.
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise AgentError(
                f"{self.path} cannot be opened: {error.strerror or error}",
                "run as the user the spool belongs to, and check that its folder can be written",
            ) from None
        try:
            taken = _lock(descriptor)
        except OSError as error:
            os.close(descriptor)
            raise AgentError(
                f"{self.path} cannot be locked: {error.strerror or error}", "keep the spool on a local file system"
            ) from None
        if not taken:
            os.close(descriptor)
            return False
        with contextlib.suppress(OSError):  # the number is for people only
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def forget(self) -> None:
        """In a child: close the copy of the descriptor, which takes the lock from nobody."""
        self.release()


def holder(folder: str | os.PathLike[str]) -> int | None:
    """The process id of the agent that runs on a folder (0 when it cannot be known), None when there is none."""
    path = Path(folder) / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AgentError(
            f"{path} cannot be opened: {error.strerror or error}", "run as the user the spool belongs to"
        ) from None
    try:
        if _lock(descriptor):
            return None
        text = os.read(descriptor, 32).strip()
        return int(text) if text.isdigit() else 0
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> bool:
        # A byte far behind the text, which stays readable.
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:  # Windows does not say which of its errors means "taken"
            return False
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)
        return True

else:
    import fcntl

    def _lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


_locks: weakref.WeakSet[AgentLock] = weakref.WeakSet()


def _forget_all() -> None:
    for lock in list(_locks):
        lock.forget()


if hasattr(os, "register_at_fork"):
    # flock belongs to the open file, which a child shares: without this a child would keep a dead parent's lock.
    os.register_at_fork(after_in_child=_forget_all)
