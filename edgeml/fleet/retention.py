"""How long the monitor keeps what, and the work of letting go: small transactions, so that ingest is not held up.

Windows are added to ``device_days`` and their numbers to ``received_ranges`` in the transaction that deletes them: what
they counted stays, and one that is delivered again is still known. ``RetentionThread`` runs it in the server,
``edgeml monitor retention`` once; several servers on one database may run it at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Table, delete, select, tuple_

from edgeml.errors import MonitorDatabaseError
from edgeml.fleet.fold import fold_samples, fold_windows, join_losses, refused_to_losses
from edgeml.fleet.rollup import LEVELS
from edgeml.fleet.store import Store
from edgeml.fleet.tables import audit, device_days, devices, events, rollups

log = logging.getLogger("edgeml.monitor")

DAY = 86400.0
_CHUNK = 1000
_DEVICES = 100  # that are looked at together


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds that each kind is kept; None for ever.

    The defaults are for 20,000 devices with one window a minute of a model with 30 features: 29 million windows a day.
    A window takes 1.5 to 2 KB with its index, so two days of them are 90 to 115 GB, by far the most. A device's day is
    3 KB (60 MB a day, 11 GB in 180 days). A bucket of a model's roll-up is 4 KB: 14 days of minutes are 80 MB a model,
    400 days of hours 40 MB, 5 years of days 7 MB. Who has less room keeps windows for a shorter time: series, drift and
    gaps do not need them.
    """

    windows: float | None = 2 * DAY
    samples: float | None = 30 * DAY
    minutes: float | None = 14 * DAY
    hours: float | None = 400 * DAY
    days: float | None = 5 * 366 * DAY
    device_days: float | None = 180 * DAY
    losses: float | None = 90 * DAY  # then adjacent ones are joined; no number that was lost becomes unknown
    events: float | None = 180 * DAY
    quarantine: float | None = 30 * DAY  # then the payload is deleted, and the number counts as lost
    audit: float | None = 2 * 366 * DAY

    def oldest(self, kind: str, now: float) -> float:
        """What is before this moment is let go."""
        kept = getattr(self, kind)
        return float("-inf") if kept is None else now - kept

    def oldest_start(self, level: str, now: float) -> float:
        """The same for the buckets of a level of the roll-ups, by their start."""
        return self.oldest(f"{level}s", now)


def run_retention(
    store: Store, retention: Retention, now: float, *,
    stop: Callable[[], bool] = lambda: False, between: Callable[[float], object] = lambda seconds: None,
) -> dict[str, int]:  # fmt: skip
    """Let go of everything that is old enough.

    Args:
        stop: asked between two transactions; True ends the run early, and the next one goes on.
        between: called after each transaction with the seconds it took, to wait while others write.

    Returns the number of rows that were handled, by kind. Raises MonitorDatabaseError.
    """
    run = _Run(store, retention, now, stop, between)
    run.devices()
    for level in LEVELS:
        where = (rollups.c.level == level, rollups.c.start < retention.oldest_start(level, now))
        run.repeat("rollups", partial(_delete, store, rollups, where))
    run.repeat("events", lambda: _delete_oldest(store, events, retention.oldest("events", now)))
    run.repeat("audit", lambda: _delete_oldest(store, audit, retention.oldest("audit", now)))
    run.repeat("quarantine", lambda: refused_to_losses(store, retention.oldest("quarantine", now)))
    run.once("losses", lambda: join_losses(store, retention.oldest("losses", now), stop))
    return dict(run.handled)


@dataclass
class _Run:
    store: Store
    retention: Retention
    now: float
    stop: Callable[[], bool]
    between: Callable[[float], object]

    def __post_init__(self) -> None:
        self.handled: Counter[str] = Counter()

    def once(self, kind: str, work: Callable[[], int]) -> int:
        if self.stop():
            return 0
        began = time.monotonic()
        done = work()
        self.handled[kind] += done
        if done:
            self.between(time.monotonic() - began)
        return done

    def repeat(self, kind: str, work: Callable[[], int]) -> None:
        while self.once(kind, work):
            pass

    def devices(self) -> None:
        """Windows, samples and days, some devices after the others."""
        windows, samples, days = (
            self.retention.oldest(kind, self.now) for kind in ("windows", "samples", "device_days")
        )
        last = ""
        while not self.stop():
            with self.store.read() as connection:
                query = select(devices.c.id).where(devices.c.id > last).order_by(devices.c.id).limit(_DEVICES)
                ids = list(connection.execute(query).scalars())
            if not ids:
                return
            last = ids[-1]
            self.repeat("windows", partial(fold_windows, self.store, ids, windows))
            self.repeat("samples", partial(fold_samples, self.store, ids, samples))
            old = (device_days.c.device_id.in_(ids), device_days.c.start < days)
            self.repeat("device_days", partial(_delete, self.store, device_days, old))


def _delete(store: Store, table: Table, where: tuple[object, ...]) -> int:
    key = list(table.primary_key.columns)
    with store.read() as connection:
        rows = [tuple(row) for row in connection.execute(select(*key).where(*where).limit(_CHUNK))]  # type: ignore[arg-type]  # conditions of a table that is a parameter
    if not rows:
        return 0
    with store.write() as connection:
        connection.execute(delete(table).where(tuple_(*key).in_(rows)))
    return len(rows)


def _delete_oldest(store: Store, table: Table, before: float) -> int:
    """Rows are numbered as they come: when none of the first ones is old, none is."""
    with store.read() as connection:
        rows = connection.execute(select(table.c.id, table.c.at).order_by(table.c.id).limit(_CHUNK)).all()
    old = [number for number, at in rows if at < before]
    if old:
        with store.write() as connection:
            connection.execute(delete(table).where(table.c.id.in_(old)))
    return len(old)


class RetentionThread:
    """Runs retention in the background every ``every`` seconds, at half speed, so that ingest comes first."""

    def __init__(
        self, store: Store, retention: Retention, every: float = 3600.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._store, self._retention, self._every, self._clock = store, retention, every, clock
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeml-retention", daemon=True)
        self.last_error = ""
        self.runs = 0

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Ends after the transaction it is in."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while not self._stopping.wait(self._every):
            try:
                run_retention(
                    self._store, self._retention, self._clock(),
                    stop=self._stopping.is_set, between=self._stopping.wait,
                )  # fmt: skip
                self.last_error = ""
            except MonitorDatabaseError as error:
                self.last_error = error.cause
                log.error("retention failed, and is tried again: %s", error.cause)
            except Exception as error:  # whatever it is, ingest goes on and the next run tries again
                self.last_error = f"{type(error).__name__}: {error}"
                log.exception("retention failed, and is tried again")
            self.runs += 1
