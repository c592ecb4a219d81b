"""The recorder's thread: numbers what windows hold and puts it into the spool, however long the disk takes.

Comes in: drafts, from the recorder's ``collect``. Goes out: items in the spool. While the disk refuses, items wait in
memory, a bounded number of them; what must go is passed on as a loss with its reason, so that every number that was
given is accounted for. ``Recorder`` makes one writer, and ``forget`` makes it anew in a forked child.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from uuid import uuid4

from edgeml.errors import SpoolFullError, TelemetryError
from edgeml.telemetry import clock
from edgeml.telemetry.items import PRIORITIES, Item, Loss
from edgeml.telemetry.outlet import Outlet, SpoolLike
from edgeml.telemetry.wire import MAX_REASON

THREAD = "edgeml-recorder"
MAX_WAITING = 120
MAX_WAITING_BYTES = 2 * 2**20
MAX_LOSSES = 500
RETRY_SECONDS = (1.0, 60.0)

_LOG = logging.getLogger("edgeml.telemetry")


@dataclass(frozen=True, slots=True)
class Draft:
    """An item without its number."""

    kind: str
    payload: bytes
    rows: int


@dataclass(slots=True)
class Totals:
    """Since the start of this process's stream."""

    kept: int = 0
    lost: int = 0
    rows_lost: int = 0
    last_error: str | None = None


class Writer:
    """``collect(ask)`` closes what is due, and with ``ask`` what is open; ``due()`` says when to look again, on
    ``clock.monotonic``. Neither raises.
    """

    def __init__(
        self,
        outlet: Outlet,
        collect: Callable[[bool], list[Draft]],
        due: Callable[[], float],
        profile: tuple[str, bytes] | None,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        """``ended`` is called once, when all is over."""
        self._outlet, self._collect, self._due, self._profile, self._ended = outlet, collect, due, profile, ended
        self.forget()

    def forget(self) -> None:
        """A stream of its own, and nothing waiting: for the start, and for a forked child."""
        self.stream = uuid4().hex
        self.totals = Totals()
        self._pid = os.getpid()
        self._next = 0
        self._waiting: list[Item] = []
        self._losses: list[Loss] = []
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()  # the garbage collector may end what is just starting
        self._wake = threading.Event()
        self._done = threading.Condition()
        self._asked = self._answered = 0
        self._kept_all = True
        self._ending = False
        self._retry_at, self._retry_after = 0.0, RETRY_SECONDS[0]

    # --- for any thread
    def ensure_running(self) -> None:
        thread = self._thread
        if (thread is not None and thread.is_alive()) or self._ending:
            return
        with self._starting:
            if not self._ending and (self._thread is None or not self._thread.is_alive()):
                self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Something is due."""
        self._wake.set()

    @property
    def waiting(self) -> int:
        """Items in memory that the spool does not have yet."""
        return len(self._waiting)

    def flush(self, timeout: float) -> bool:
        """Close what is open and keep it; whether all was in the spool in time."""
        return self._ask(timeout, ending=False)

    def end(self, timeout: float) -> bool:
        """As ``flush``, and the thread ends with it; what takes longer than ``timeout`` goes on by itself."""
        until = clock.monotonic() + timeout
        kept = self._ask(timeout, ending=True)
        with self._starting:  # a thread that is just being started is seen; none is started later
            thread = self._thread
        if thread is None or not thread.is_alive():
            self._finish()
        elif thread is not threading.current_thread():
            thread.join(max(until - clock.monotonic(), 0.0))
        return kept

    def _ask(self, timeout: float, *, ending: bool) -> bool:
        with self._done:
            self._ending = self._ending or ending
            thread = self._thread
            if thread is None or not thread.is_alive():
                return not self._waiting
            self._asked += 1
            asked = self._asked
            self._wake.set()
            self._done.wait_for(lambda: self._answered >= asked or not thread.is_alive(), timeout)
            return self._answered >= asked and self._kept_all

    def _finish(self) -> None:
        with self._starting:
            ended, self._ended = self._ended, lambda: None
        if self._waiting:
            _LOG.warning("recording ended with %d windows that the spool did not take", len(self._waiting))
        ended()

    # --- the thread
    def _run(self) -> None:
        pid = self._pid
        while pid == os.getpid() == self._pid:
            with self._done:
                asked, ending = self._asked, self._ending
            not_before, lost = 0.0, self.totals.lost
            try:
                self._round(asked > self._answered or ending)
            except Exception as error:  # a fault of ours must not end recording; it is said and counted
                self.totals.last_error = f"internal error: {type(error).__name__}: {error}"[:MAX_REASON]
                _LOG.warning("recording met a fault of its own", exc_info=True)
                not_before = self._retry_at = clock.monotonic() + RETRY_SECONDS[0]
            with self._done:
                self._answered = asked
                self._kept_all = not self._waiting and not self._losses and self.totals.lost == lost
                self._done.notify_all()
                over = ending and self._asked == asked
            if over:
                self._finish()
                return
            now = clock.monotonic()
            next_look = self._due()
            if self._waiting or self._losses:
                next_look = min(next_look, self._retry_at)
            self._wake.wait(min(max(max(next_look, not_before) - now, 0.001), 3600.0))
            self._wake.clear()

    def _round(self, ask: bool) -> None:
        for draft in self._collect(ask):
            self._waiting.append(Item(self.stream, self._next, draft.kind, draft.payload, draft.rows))
            self._next += 1
        if (self._waiting or self._losses) and (ask or clock.monotonic() >= self._retry_at):
            self._keep()
        self._bound()

    def _keep(self) -> None:
        """Hand over what waits. Items that the spool has no room for alone, though it takes others, are lost."""
        items, losses = list(self._waiting), list(self._losses)
        try:
            spool = self._outlet.spool()
            self._put_profile(spool)
            try:
                spool.append(items, losses)
                unfit: list[Item] = []
            except SpoolFullError:
                unfit = self._one_by_one(spool, items, losses)
                if len(unfit) == len(items):
                    raise
        except (TelemetryError, OSError) as error:
            text = (error.cause if isinstance(error, TelemetryError) else str(error)) or type(error).__name__
            if text != self.totals.last_error:
                _LOG.warning("windows wait in memory: %s", text)
            self.totals.last_error = text
            self._retry_at = clock.monotonic() + self._retry_after
            self._retry_after = min(2 * self._retry_after, RETRY_SECONDS[1])
            return
        self.totals.kept += len(items) - len(unfit)
        del self._waiting[: len(items)]
        del self._losses[: len(losses)]
        for item in unfit:
            self._lose(item, "the spool has no room for it")
        self._retry_at, self._retry_after = 0.0, RETRY_SECONDS[0]
        if unfit:
            self._keep()  # their losses, now: this may be the last round
        self._outlet.wake_agent()

    def _one_by_one(self, spool: SpoolLike, items: list[Item], losses: list[Loss]) -> list[Item]:
        """The items that do not fit."""
        unfit = []
        for item in items:
            try:
                spool.append([item], losses)
                losses = []
            except SpoolFullError as error:
                self.totals.last_error = error.cause
                unfit.append(item)
        return unfit

    def _put_profile(self, spool: SpoolLike) -> None:
        """Each time, as another process may have had to begin a new spool: to one that has it, it costs a look."""
        if self._profile is None:
            return
        try:
            spool.put_profile(*self._profile)
        except TelemetryError as error:  # windows are worth keeping without it: the monitor may have the profile
            if error.cause != self.totals.last_error:
                _LOG.warning("the reference profile is not kept: %s", error)
            self.totals.last_error = error.cause

    def _bound(self) -> None:
        """Let go of what memory has no room for: sampled rows first, then the oldest windows."""
        size = sum(len(item.payload) for item in self._waiting)
        while self._waiting and (len(self._waiting) > MAX_WAITING or size > MAX_WAITING_BYTES):
            at = min(range(len(self._waiting)), key=lambda i: (PRIORITIES[self._waiting[i].kind], i))
            item = self._waiting.pop(at)
            size -= len(item.payload)
            self._lose(item, f"no room in memory while the spool failed: {self.totals.last_error}")

    def _lose(self, item: Item, why: str) -> None:
        reason = "".join(c if c.isprintable() else " " for c in why)[:MAX_REASON]
        self.totals.lost += 1
        if item.kind == "window":
            self.totals.rows_lost += item.rows
        self._losses.append(Loss(self.stream, item.sequence, item.sequence, item.kind, reason, item.rows))
        self._losses = merged(self._losses, together=len(self._losses) > MAX_LOSSES)


def merged(losses: list[Loss], *, together: bool = False) -> list[Loss]:
    """Neighbouring numbers in one loss where kind and reason agree; with ``together`` whatever they are, as windows."""
    found: list[Loss] = []
    for loss in sorted(losses, key=lambda x: (x.stream, x.first)):
        last = found[-1] if found else None
        if last is None or last.stream != loss.stream or last.last + 1 != loss.first:
            found.append(loss)
        elif (last.kind, last.reason) == (loss.kind, loss.reason):
            found[-1] = replace(last, last=loss.last, rows=last.rows + loss.rows)
        elif together:
            rows = sum(x.rows for x in (last, loss) if x.kind == "window")
            found[-1] = replace(last, last=loss.last, kind="window", rows=rows)
        else:
            found.append(loss)
    return found
