"""The agent's side of OTLP: a copy of what the monitor took, or, without a monitor, delivery to a collector alone.

``OtlpCopy`` is called after the monitor has said what became of a batch; it queues, and a thread of its own sends, so
that a collector which is slow or gone never delays the monitor; what is queued when the process dies is not sent again.
``OtlpAgent`` takes the monitor's place: windows leave the spool when the collector has them, so each is sent at least
once. Comes in: items and losses of the spool. ``edgeml agent run --otlp`` makes either.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edgeml.errors import JSONError, SpoolError, TelemetryError
from edgeml.jsonutil import loads
from edgeml.telemetry import clock as device_clock
from edgeml.telemetry.agent_answers import printable
from edgeml.telemetry.agent_status import Clock, Moment, Status, StatusFile
from edgeml.telemetry.agent_thread import AgentThread
from edgeml.telemetry.backoff import Backoff
from edgeml.telemetry.otlp import CUMULATIVE, Cumulative, Reading, Resource, Value, reading_of, resource_of
from edgeml.telemetry.otlp_figures import Figures, lost
from edgeml.telemetry.otlp_send import MAX_READINGS, Exporter, Outcome, Sender

if TYPE_CHECKING:
    from edgeml.telemetry.agent_settings import AgentSettings
    from edgeml.telemetry.items import Item, Loss
    from edgeml.telemetry.otlp_settings import OtlpSettings
    from edgeml.telemetry.spool import Outbox, Spool

_BATCH_BYTES = 2 * 2**20
_NOBODY = "0" * 32  # the device of a batch that goes to no monitor
_log = logging.getLogger("edgeml.telemetry.otlp")


class Source:
    """Readings of items and losses. ``device`` is asked each time: a device may enrol while the agent runs."""

    def __init__(
        self,
        spool: Spool,
        settings: OtlpSettings,
        device: Callable[[], str | None] = lambda: None,
        more: Mapping[str, Value] | None = None,
        clock: Clock = device_clock,
    ) -> None:
        self._spool, self._device, self._clock = spool, device, clock
        self._more: dict[str, Value] = {**(more or {}), **settings.attributes}
        self._profiles: dict[str, Mapping[str, Any] | None] = {}

    def reading(self, item: Item) -> Reading | None:
        """None for sampled rows: they are sealed for whoever trains, and OTLP has no form for them."""
        if item.kind != "window":
            return None
        window = loads(item.payload, "window")
        resource = resource_of(window, device=self._device(), stream=item.stream, more=self._more)
        return reading_of(window, self._profile(window["profile_sha256"]), resource)

    def lost(self, loss: Loss) -> Reading:
        figures = Figures()
        lost(figures, loss.kind, loss.reason, loss.last - loss.first + 1, loss.rows)
        known: dict[str, Value] = {"service.name": "edgeml", **self._more}
        device = self._device()
        if device is not None:
            known["device.id"] = device
        now = self._clock.wall()
        resource: Resource = tuple(sorted(known.items()))
        return Reading(resource, now, now, figures)

    def _profile(self, sha256: str | None) -> Mapping[str, Any] | None:
        if sha256 is None:
            return None
        if sha256 not in self._profiles:
            body = self._spool.profile(sha256)
            if body is None:
                raise TelemetryError(f"the spool does not have the reference profile {sha256[:16]}")
            if len(self._profiles) >= 16:
                self._profiles.pop(next(iter(self._profiles)))
            self._profiles[sha256] = loads(body, "reference profile")
        return self._profiles[sha256]


class OtlpCopy:
    """Sends a copy of what was delivered. Never raises and never waits for the network, but for ``close``."""

    def __init__(self, source: Source, settings: OtlpSettings) -> None:
        self._source, self._exporter = source, Exporter(settings)

    def on_delivered(self, items: Sequence[Item], losses: Sequence[Loss]) -> None:
        """For ``Agent``: the monitor has counted these."""
        self._exporter.put([_later(self._source.reading, i) for i in items if i.kind == "window"])
        self._exporter.put([_later(self._source.lost, x) for x in losses])

    def status(self) -> dict[str, Any]:
        return self._exporter.status()

    def close(self, timeout: float = 5.0) -> None:
        self._exporter.close(timeout)


def _later(make: Callable[[Any], Reading | None], what: Item | Loss) -> Callable[[], Reading | None]:
    """A call that makes the reading: the agent's own thread need not wait for it."""
    return lambda: make(what)


def copy_deliveries(thread: AgentThread, spool: Spool, settings: OtlpSettings) -> OtlpCopy:
    """Have a thread that is not started yet send a copy of what its monitor takes; ``close`` it after the thread."""
    copy = OtlpCopy(Source(spool, settings, lambda: thread.status.device), settings)
    thread.on_delivered = copy.on_delivered
    return copy


class OtlpAgent:
    """``Agent``'s counterpart without a monitor: ``step`` sends at most one message, and raises nothing that a network,
    a collector or a disk does. Windows go oldest first: sums of one stream are wanted in the order of time.
    """

    def __init__(
        self,
        spool: Spool,
        settings: OtlpSettings,
        source: Source,
        *,
        clock: Clock = device_clock,
        status: Status | None = None,
        on_status: Callable[[Status], None] = lambda status: None,
        idle_seconds: float = 10.0,
    ) -> None:
        self.status = status or Status()
        self.drained = False
        self._spool, self._source, self._clock = spool, source, clock
        self._sender = Sender(settings)
        self._totals = Cumulative() if settings.temporality == CUMULATIVE else None
        self._made: tuple[bytes, list[Reading], list[tuple[str, str]]] | None = None
        self._most = MAX_READINGS
        self._idle, self._backoff = idle_seconds, Backoff()
        self._not_before = clock.monotonic()
        self._on_status = on_status
        self.status.server = settings.url

    def step(self) -> float:
        """Send at most one message; seconds to wait before the next step."""
        wait = self._not_before - self._clock.monotonic()
        if wait <= 0:
            try:
                wait = self._step()
            except TelemetryError as error:
                wait = self._failed(error.cause)
            except Exception as error:  # an application must not learn of our faults by an exception in its process
                _log.exception("the OTLP export met a fault of its own")
                wait = self._failed(f"a fault of the export: {type(error).__name__}")
        self._on_status(self.status)
        return max(wait, 0.0)

    def hurry(self) -> None:
        """Forget the waits: somebody asks for an attempt now."""
        self._not_before = self._clock.monotonic()
        self._backoff.reset()

    def close(self) -> None:
        self._sender.close()

    def _step(self) -> float:
        self.drained = False
        outbox = self._spool.begin(_NOBODY, max_bytes=_BATCH_BYTES, max_items=self._most, newest_first=False)
        if outbox is None:
            self.drained, self.status.state = True, "idle"
            return self._idle
        self.status.state = "sending"
        readings, results = self._prepared(outbox)
        outcome = self._sender.send(readings) if readings else Outcome("taken")
        if outcome.result == "retry":
            return self._failed(f"the collector did not take the figures: {outcome.reason}", outcome.wait)
        if outcome.result == "too_large" and len(outbox.items) > 1 and self._totals is None:
            self._spool.unpin(outbox)
            self._made, self._most = None, max(len(outbox.items) // 2, 1)
            return 0.0
        if outcome.result != "taken":
            reason = printable(f"refused by the collector: {outcome.reason}", 200)
            _log.error("%d windows are given up: %s", len(outbox.items), reason)
            results = [("refused", reason)] * len(results)
        self._spool.settle(outbox, results)
        self._settled(outbox, results)
        return 0.0

    def _prepared(self, outbox: Outbox) -> tuple[list[Reading], list[tuple[str, str]]]:
        """Readings, and what becomes of each item once they are sent. Made once for a batch, however often it is sent:
        totals must not hold it twice.
        """
        if self._made is None or self._made[0] != outbox.header:
            readings: list[Reading] = []
            results: list[tuple[str, str]] = []
            for item in outbox.items:
                try:
                    reading = self._source.reading(item)
                except SpoolError:
                    raise  # the disk's fault, not the window's: it is tried again
                except (TelemetryError, JSONError, ValueError, LookupError, TypeError) as error:
                    # One window that cannot be read must not hold up all others for ever.
                    results.append(("refused", printable(f"not to be read: {error}", 200)))
                    continue
                if reading is not None:
                    readings.append(reading)
                results.append(("accepted", "") if reading else ("refused", "OTLP has no form for sampled rows"))
            readings += [self._source.lost(loss) for loss in outbox.losses]
            self._made = outbox.header, readings if self._totals is None else self._totals.add(readings), results
        return self._made[1:]

    def _settled(self, outbox: Outbox, results: Sequence[tuple[str, str]]) -> None:
        taken = [i for i, (result, _) in zip(outbox.items, results, strict=True) if result == "accepted"]
        status = self.status
        status.batches += 1
        status.items += len(taken)
        status.rows += sum(item.rows for item in taken)
        status.refused += len(results) - len(taken)
        status.failures, status.error, status.error_at, status.next_try = 0, None, None, None
        status.last_contact = Moment.now(self._clock)
        self._made, self._most = None, min(2 * self._most, MAX_READINGS)
        self._backoff.reset()

    def _failed(self, problem: str, least: float | None = None) -> float:
        wait = self._backoff.wait(least or 0.0)
        if problem != self.status.error:
            _log.warning("%s", problem)
        self.status.state, self.status.failures = "waiting", self._backoff.failures
        self.status.error, self.status.error_at = printable(problem, 600), Moment.now(self._clock)
        self.status.next_try = Moment.now(self._clock, wait)
        self._not_before = self._clock.monotonic() + wait
        return wait


class OtlpThread(AgentThread):
    """``AgentThread`` around an ``OtlpAgent``: one sender a spool, fork-safe, and stopped the same way."""

    def __init__(
        self, spool: Spool, folder: str | os.PathLike[str], settings: AgentSettings, otlp: OtlpSettings
    ) -> None:
        super().__init__(spool, folder, settings)
        self._otlp = otlp
        self._sender: OtlpAgent | None = None

    def _build(self) -> Any:
        status = StatusFile(self._folder).read() or Status()
        status.state, status.pid, status.failures, status.notes = "starting", os.getpid(), 0, ()
        status.error = status.error_at = status.next_try = status.device = status.project = status.key_id = None
        self.status = status
        source = Source(self._spool, self._otlp, more={"host.name": self._settings.device_name()})
        self._sender = OtlpAgent(
            self._spool,
            self._otlp,
            source,
            status=status,
            on_status=self._file.write,
            idle_seconds=self._settings.idle_seconds,
        )
        return self._sender

    def _end(self) -> None:
        if self._sender is not None:
            self._sender.close()
        super()._end()
