"""What recorders must do when their process forks, ends or is told to end; one set of hooks a process, for all.

A forked child counts from nothing on a stream of its own, since its parent reports what was counted before. At exit and
at SIGTERM the open windows are flushed, for at most ``EXIT_SECONDS``. The signal's handler is installed only where
nobody else handles the signal, and only from the main thread; elsewhere whoever handles it ends the process, and the
flush at exit does the rest.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Protocol

EXIT_SECONDS = 4.0


class Watched(Protocol):
    """A recorder, as far as its process's life goes."""

    def forget(self) -> None: ...
    def ask_flush(self) -> None: ...
    def flush(self, timeout: float) -> bool: ...


# From start to stop. Not weak: a copy of a WeakSet fails when another thread changes it meanwhile.
_RECORDERS: set[Watched] = set()
# A recorder may be let go of by the garbage collector, in a thread that holds the lock already.
_LOCK = threading.RLock()
_hooked = False
_finalizing_in = -1
_ended = False


def watch(recorder: Watched) -> None:
    """From now on the recorder follows its process."""
    global _hooked
    with _LOCK:
        _RECORDERS.add(recorder)
        if not _hooked:
            _hooked = True
            atexit.register(flush_all)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(after_in_child=_forget_all)
    _handle_sigterm()


def unwatch(recorder: Watched) -> None:
    """The recorder has stopped."""
    with _LOCK:
        _RECORDERS.discard(recorder)
        left = len(_RECORDERS)
    if not left:
        with contextlib.suppress(ValueError):  # not the main thread: the handler stays, and does nothing
            if signal.getsignal(signal.SIGTERM) is _on_sigterm:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)


def in_worker() -> None:
    """Called when a recorder's thread starts: a worker of multiprocessing runs its own finalizers, not atexit's."""
    global _finalizing_in
    util = sys.modules.get("multiprocessing.util")
    process = sys.modules.get("multiprocessing.process")
    if util is None or process is None or process.parent_process() is None or _finalizing_in == os.getpid():
        return
    _finalizing_in = os.getpid()
    util.Finalize(None, flush_all, exitpriority=10)


def flush_all(seconds: float = EXIT_SECONDS) -> None:
    """Close all open windows and keep them, within ``seconds`` together."""
    recorders = list(_RECORDERS)
    for recorder in recorders:
        recorder.ask_flush()
    until = time.monotonic() + seconds
    for recorder in recorders:
        recorder.flush(max(until - time.monotonic(), 0.0))


def _forget_all() -> None:
    global _LOCK, _ended
    from edgeml.telemetry import outlet

    _LOCK = threading.RLock()
    _ended = False
    outlet.forget_all()
    for recorder in list(_RECORDERS):
        recorder.forget()


# --- SIGTERM ----------------------------------------------------------------------------------------------------------
def _handle_sigterm() -> None:
    if threading.current_thread() is not threading.main_thread():
        return
    with contextlib.suppress(ValueError, OSError):  # an interpreter that is not the main one has no signals
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _on_sigterm)


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    """Flush beside the main thread, which may hold a lock just now, then end as the signal would have."""
    global _ended
    if _ended or not _RECORDERS:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
        return
    _ended = True
    pid = os.getpid()

    def flush_and_end() -> None:
        try:
            flush_all()
        finally:
            if os.getpid() == pid:
                os.kill(pid, signal.SIGTERM)

    try:
        threading.Thread(target=flush_and_end, name="edgeml-sigterm", daemon=True).start()
    except RuntimeError:  # no more threads
        flush_and_end()
