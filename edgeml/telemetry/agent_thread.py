"""The agent as a daemon thread: in the application's process beside the recorder, and in ``edgeml agent run``.

Comes in: an open spool and ``AgentSettings``. Of several on one spool, in whatever processes, one sends; the others
stand by and take over when it ends, however it ends. In a process made by fork the thread is gone and ``start`` begins
another one. Nothing here raises into the application once the settings were taken.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeml.errors import AgentError, TelemetryError
from edgeml.telemetry import clock as device_clock
from edgeml.telemetry.agent import Agent
from edgeml.telemetry.agent_lock import AgentLock
from edgeml.telemetry.agent_settings import AgentSettings
from edgeml.telemetry.agent_status import Moment, Status, StatusFile
from edgeml.telemetry.identity import Identity, require_cryptography
from edgeml.telemetry.transport import HttpTransport

if TYPE_CHECKING:
    from edgeml.telemetry.items import Item, Loss
    from edgeml.telemetry.spool import Spool

STANDBY_SECONDS = 5.0
# After something that a person must mend first: an identity that cannot be read, a file that is not there.
MEND_SECONDS = 30.0
# So many failures in a row, with the short waits of the first ones between them, and a flush gives up.
FLUSH_FAILURES = 3

_log = logging.getLogger("edgeml.telemetry.agent")


class AgentThread:
    """``folder`` is the spool's. Raises AgentError when settings or packages are no good.

    ``on_delivered`` may be set before the start: see ``Agent``.
    """

    def __init__(
        self, spool: Spool, folder: str | os.PathLike[str], settings: AgentSettings, *, standby: float = STANDBY_SECONDS
    ) -> None:
        require_cryptography()
        self._spool, self._folder, self._settings, self._standby = spool, Path(folder), settings, standby
        if settings.server is not None:
            settings.transport(settings.server).close()  # says now what is wrong with addresses and files
        self.on_delivered: Callable[[Sequence[Item], Sequence[Loss]], None] | None = None
        self._file = StatusFile(folder)
        self._lock = AgentLock(folder)
        self._anew()
        _threads.add(self)

    def _anew(self) -> None:
        self._pid = os.getpid()
        self._thread: threading.Thread | None = None
        self._transport: HttpTransport | None = None
        self._agent: Agent | None = None
        self._changed = threading.Condition()
        self._wake = threading.Event()
        self._stopping = False
        self._hurry = False
        self.last_beat = device_clock.monotonic()
        self.status = Status()

    # --- for the application ----------------------------------------------------------------------------------------
    def start(self) -> None:
        """Begin to send, in this process; once is enough, and in a child made by fork once more."""
        if self._thread is None or not self._thread.is_alive():
            self._stopping = False
            self._thread = threading.Thread(target=self._run, name="edgeml-agent", daemon=True)
            self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def wake(self) -> None:
        """There is something new in the spool. Never blocks."""
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Have what is in the spool sent now, waits after failures cut short; whether all of it went in time."""
        end = device_clock.monotonic() + timeout
        with self._changed:
            self._hurry = True
        self._wake.set()
        with self._changed:
            while (left := end - device_clock.monotonic()) > 0 and self.alive:
                if not self._hurry:  # a round of the thread began after this call, and is over
                    if self.status.state == "standby":
                        if self._empty():  # another agent sends
                            return True
                    elif self._drained() or self.status.failures >= FLUSH_FAILURES:
                        break
                self._changed.wait(min(left, 0.2))
        return self._empty()

    def stop(self, timeout: float = 3.0) -> bool:
        """End the thread: a request under way is given a third of ``timeout`` seconds, then cut off (its batch goes
        again later). Whether the thread ended in time.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        self._stopping = True
        self._wake.set()
        thread.join(timeout / 3)
        if thread.is_alive():
            transport = self._transport
            if transport is not None:
                transport.abort()
            thread.join(timeout * 2 / 3)
        return not thread.is_alive()

    def forget(self) -> None:
        """In a child made by fork: the thread, its connection and the lock are the parent's."""
        if self._transport is not None:
            self._transport.forget()
        self._lock.forget()
        self._anew()

    # --- the thread -------------------------------------------------------------------------------------------------
    def _run(self) -> None:
        try:
            while not self._stopping:
                hurry = self._hurry
                wait = self._round(hurry)
                with self._changed:
                    if hurry:
                        self._hurry = False
                    self.last_beat = device_clock.monotonic() + wait
                    self._changed.notify_all()
                self._wake.wait(wait)
                self._wake.clear()
        except Exception:  # the thread of an application: a traceback on its stderr is all it could do with one
            _log.exception("the agent's thread met a fault of its own")
        finally:
            with contextlib.suppress(Exception):  # the interpreter may be ending, and its modules be gone
                self._end()

    def _round(self, hurry: bool) -> float:
        """One step; seconds until the next."""
        try:
            if not self._lock.held and not self._lock.acquire():
                self.status = Status("standby", os.getpid())
                return self._standby * random.uniform(0.75, 1.25)
            if self._agent is None:
                self._agent = self._build()
            if hurry:
                self._agent.hurry()
            return self._agent.step()
        except TelemetryError as error:
            if error.cause != self.status.error:
                _log.warning("%s", error)
            self._trouble(error)
            return MEND_SECONDS * random.uniform(0.75, 1.25)

    def _build(self) -> Agent:
        settings = self._settings
        identity = Identity.load_or_create(settings.identity_folder(self._folder))
        server = settings.server or (identity.enrolment.server if identity.enrolment else None)
        if server is None:
            raise AgentError("the device is not enrolled, and no server is given", "run `edgeml agent enrol`")
        status = self._file.read() or Status()
        status.state, status.pid, status.failures, status.next_try, status.notes = "starting", os.getpid(), 0, None, ()
        status.error = status.error_at = None
        if identity.readable_by_others():
            status.notes = (f"other users of this device can read {identity.folder}: chmod 600 its device.key",)
        self.status = status
        self._transport = settings.transport(server)
        return Agent(
            self._spool,
            identity,
            self._transport,
            server=self._transport.address.url,
            token=settings.token,
            name=settings.device_name(),
            labels=settings.labels,
            bandwidth_bytes_per_second=settings.bandwidth_bytes_per_second,
            batch_bytes=settings.batch_bytes,
            idle_seconds=settings.idle_seconds,
            status=status,
            on_status=self._file.write,
            on_delivered=self.on_delivered,
        )

    def _trouble(self, error: TelemetryError) -> None:
        self.status.state, self.status.pid = "waiting", os.getpid()
        self.status.failures += 1
        text = f"{error.cause}; {error.remedy}" if error.remedy else error.cause
        self.status.error, self.status.error_at = text, Moment.now(device_clock)
        if self._lock.held:
            self._file.write(self.status)

    def _end(self) -> None:
        held = self._lock.held
        if self._transport is not None:
            self._transport.close()
        self._agent = self._transport = None
        self.status.state, self.status.next_try = "stopped", None
        if held:
            self._file.write(self.status)
        self._lock.release()
        with self._changed:
            self._changed.notify_all()

    def _drained(self) -> bool:
        return self._agent is not None and self._agent.drained

    def _empty(self) -> bool:
        try:
            stats = self._spool.stats()
            return stats.items == 0 and stats.losses == 0 and self._spool.outbox() is None
        except TelemetryError:
            return False


_threads: weakref.WeakSet[AgentThread] = weakref.WeakSet()


def _forget_all() -> None:
    for thread in list(_threads):
        thread.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
