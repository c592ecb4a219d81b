"""The monitor passes on what it counted, by model, to an OpenTelemetry collector.

Comes in: the roll-ups by day. Goes out, once an interval: what they grew by since the last export, each model of each
project as one resource. Copies of what was exported stand in the database, so that windows that come late are exported
too, and that nothing is exported twice after a restart, unless the server died between the collector's answer and the
commit. Several servers on one database take turns by a lease. ``edgeml monitor serve --otlp`` starts it.
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import orjson
from sqlalchemy import Connection, and_, delete, exists, insert, or_, select, update

from edgeml.errors import EdgeMLError, MonitorDatabaseError
from edgeml.fleet.registry import insert_ignoring
from edgeml.fleet.rollup import Layout, Sums
from edgeml.fleet.store import Store
from edgeml.fleet.tables import exported_days, exporters, models, profiles, projects, rollups
from edgeml.telemetry.backoff import Backoff
from edgeml.telemetry.otlp import CUMULATIVE, Cumulative, Reading, Resource
from edgeml.telemetry.otlp_figures import figures_of
from edgeml.telemetry.otlp_send import Sender
from edgeml.telemetry.otlp_settings import OtlpSettings
from edgeml.telemetry.window import sparse

log = logging.getLogger("edgeml.monitor.otlp")

NAME = "otlp"
_LEASE_SECONDS = 300.0
_MODELS_AT_ONCE = 20


def start_otlp(store: Store, settings: OtlpSettings) -> OtlpExport:
    """Begin to export; ``stop`` the result before the store is closed. Raises OtlpError for bad settings."""
    export = OtlpExport(store, settings)
    export.start()
    return export


@dataclass(frozen=True, slots=True)
class _Grown:
    """A model whose roll-ups grew: ``days`` are the rows to remember, ``sums`` what they grew by since ``since``."""

    model_id: int
    resource: Resource
    profile: Mapping[str, Any] | None
    sums: Sums
    since: float
    days: tuple[dict[str, Any], ...]


class OtlpExport:
    """A thread that exports once an interval. ``export`` is one round, for tests and for the thread."""

    def __init__(self, store: Store, settings: OtlpSettings) -> None:
        self._store, self._settings, self._interval = store, settings, settings.interval
        self._sender = Sender(settings)
        self._totals = Cumulative(forget_after=float("inf")) if settings.temporality == CUMULATIVE else None
        self._owed: dict[Resource, Reading] = {}  # totals that the collector has not taken yet
        self._holder = uuid4().hex
        self._backoff = Backoff(first=min(self._interval, 5.0), most=max(self._interval, 300.0))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="edgeml-otlp", daemon=True)
        self.exported = self.dropped = self.failures = 0  # readings, readings, attempts

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """End the thread; what was not exported yet is at the next start."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        if not self._thread.is_alive():
            self._sender.close()

    def _run(self) -> None:
        wait = 0.0
        while not self._stopping.wait(wait):
            try:
                wait = self.export()
            except EdgeMLError as error:
                log.warning("OTLP: %s", error)
                wait = self._backoff.wait()
            except Exception:  # the thread must outlive what one round met: without it export would end in silence
                log.exception("OTLP: a round of the export failed")
                wait = self._backoff.wait()
        try:
            self._release()
        except MonitorDatabaseError:
            log.debug("OTLP: the lease runs out by itself")

    def export(self, now: float | None = None) -> float:
        """One round; seconds until the next. Raises MonitorDatabaseError."""
        now = time.time() if now is None else now
        with self._store.write() as connection:
            last = self._claim(connection, now)
        if last is None:
            return self._interval  # another server exports
        with self._store.snapshot() as connection:
            grown = _grown(connection, last, self._settings.attributes)
        for at in range(0, len(grown) or len(self._owed), _MODELS_AT_ONCE):
            wait = self._send(grown[at : at + _MODELS_AT_ONCE], now)
            if wait is not None:
                return wait
        with self._store.write() as connection:
            connection.execute(update(exporters).where(exporters.c.name == NAME).values(at=now))
            _forget_days(connection)
        self._backoff.reset()
        return self._interval

    def _send(self, grown: Sequence[_Grown], now: float) -> float | None:
        """Send and remember some models; None when that is done, else seconds to wait before another round."""
        readings = [_reading(g, now) for g in grown]
        if self._totals is not None:
            # Totals go out again with whatever comes next, so they hold what is remembered from here on.
            self._owed.update((r.resource, r) for r in self._totals.add(readings))
            readings = list(self._owed.values())
            self._remember(grown, now)
        outcome = self._sender.send(readings)
        if outcome.result == "retry":
            self.failures += 1
            log.warning("OTLP: the collector did not take the figures, and is asked again: %s", outcome.reason)
            return self._backoff.wait(outcome.wait or 0.0)
        if outcome.result == "too_large" and len(grown) > 1 and self._totals is None:
            half = len(grown) // 2
            first = self._send(grown[:half], now)
            return first if first is not None else self._send(grown[half:], now)
        if outcome.result == "taken":
            self.exported += len(readings)
        else:
            self.dropped += len(readings)
            log.error("OTLP: the collector refused the figures of %d models: %s", len(readings), outcome.reason)
        if self._totals is None:
            self._remember(grown, now)
        self._owed.clear()
        return None

    # --- the database
    def _claim(self, connection: Connection, now: float) -> float | None:
        """Take or renew the lease; when the last export was, or None while another server has it.

        At the very first export, what was counted before is taken as exported: history is not sent as if it were of
        the last minute.
        """
        first = insert_ignoring(connection, exporters).values(name=NAME, holder=self._holder, until=0.0, at=now)
        if connection.scalar(first.returning(exporters.c.name)) is not None:
            columns = (rollups.c.model_id, rollups.c.start, rollups.c.windows, rollups.c.rows, rollups.c.sums)
            for row in connection.execute(select(*columns).where(rollups.c.level == "day")).mappings().all():
                connection.execute(insert(exported_days).values(**row, at=now))
        taken = connection.execute(
            update(exporters)
            .where(exporters.c.name == NAME, or_(exporters.c.holder == self._holder, exporters.c.until < now))
            .values(holder=self._holder, until=now + max(_LEASE_SECONDS, 2 * self._interval))
        )
        if not taken.rowcount:
            return None
        return float(connection.scalar(select(exporters.c.at).where(exporters.c.name == NAME)) or 0.0)

    def _remember(self, grown: Sequence[_Grown], now: float) -> None:
        with self._store.write() as connection:
            for g in grown:
                starts = [day["start"] for day in g.days]
                connection.execute(
                    delete(exported_days).where(
                        exported_days.c.model_id == g.model_id, exported_days.c.start.in_(starts)
                    )
                )
                connection.execute(insert(exported_days), [{**day, "at": now} for day in g.days])

    def _release(self) -> None:
        with self._store.write() as connection:
            mine = and_(exporters.c.name == NAME, exporters.c.holder == self._holder)
            connection.execute(update(exporters).where(mine).values(until=0.0))


def _grown(connection: Connection, last: float, attributes: Mapping[str, str]) -> list[_Grown]:
    """Models whose days have more windows than were exported."""
    same_day = and_(exported_days.c.model_id == rollups.c.model_id, exported_days.c.start == rollups.c.start)
    rows = connection.execute(
        select(
            rollups.c.model_id, rollups.c.start, rollups.c.windows, rollups.c.rows, rollups.c.sums,
            exported_days.c.windows.label("had_windows"), exported_days.c.rows.label("had_rows"),
            exported_days.c.sums.label("had_sums"), exported_days.c.at,
        )
        .select_from(rollups.outerjoin(exported_days, same_day))
        .where(
            rollups.c.level == "day",
            or_(exported_days.c.windows.is_(None), exported_days.c.windows != rollups.c.windows),
        )
        .order_by(rollups.c.model_id, rollups.c.start)
    ).mappings()  # fmt: skip
    by_model: dict[int, list[Any]] = {}
    for row in rows:
        by_model.setdefault(row["model_id"], []).append(row)
    return [_growth(connection, model_id, days, last, attributes) for model_id, days in by_model.items()]


def _growth(
    connection: Connection, model_id: int, rows: Sequence[Any], last: float, attributes: Mapping[str, str]
) -> _Grown:
    model = connection.execute(
        select(models, projects.c.name.label("project"))
        .join(projects, projects.c.id == models.c.project_id)
        .where(models.c.id == model_id)
    ).mappings().one()  # fmt: skip
    body = connection.scalar(
        select(profiles.c.body).where(
            profiles.c.project_id == model["project_id"], profiles.c.sha256 == model["profile_sha256"]
        )
    )
    profile = None if body is None else orjson.loads(zlib.decompress(body))
    total: Sums | None = None
    for row in rows:
        grown = Sums.from_bytes(row["sums"], row["windows"], row["rows"])
        if row["had_sums"] is not None and row["had_windows"] <= row["windows"]:
            _subtract(grown, Sums.from_bytes(row["had_sums"], row["had_windows"], row["had_rows"]))
        if total is None:
            total = grown
        else:
            total.merge(grown)
    assert total is not None  # a model stands in the dict with one day at least
    known = {
        "service.name": "edgeml",
        "edgeml.project.id": model["project_id"],
        "edgeml.project.name": model["project"],
        "edgeml.model.name": model["name"],
        "edgeml.model.version": model["version"],
        "edgeml.model.manifest_sha256": model["manifest_sha256"],
        **attributes,
    }
    since = max((row["at"] for row in rows if row["at"] is not None), default=last)
    days = tuple({k: row[k] for k in ("model_id", "start", "windows", "rows", "sums")} for row in rows)
    return _Grown(model_id, tuple(sorted(known.items())), profile, total, since, days)


def _subtract(sums: Sums, before: Sums) -> None:
    """What ``sums`` grew by since they were ``before``."""
    sums.windows -= before.windows
    sums.rows -= before.rows
    sums.counts = sums.counts - before.counts
    sums.calls = {kind: count - before.calls.get(kind, 0) for kind, count in sums.calls.items()}
    sums.errors = {kind: count - before.errors.get(kind, 0) for kind, count in sums.errors.items()}
    for name, (number, total, *_) in before.system.items():
        now = sums.system[name]
        sums.system[name] = [now[0] - number, now[1] - total, *now[2:]]
    if sums.feedback is not None and before.feedback is not None:
        sums.feedback = _minus(sums.feedback, before.feedback)


def _minus(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _minus(value, before.get(name, {})) if isinstance(value, Mapping) else value - before.get(name, 0)
        for name, value in now.items()
    }


def _reading(grown: _Grown, now: float) -> Reading:
    """The growth as a reading. Of figures of devices their mean is told: extremes of the growth alone are not known."""
    sums, layout = grown.sums, Layout.of(grown.profile)
    dense = sums.histograms(layout)
    window = {
        "rows": sums.rows,
        "calls": sums.calls,
        "latency": {kind: sparse(counts) for kind, counts in dense["latency"].items()},
        "features": [sparse(counts) for counts in dense["features"]],
        "scores": [sparse(counts) for counts in dense["scores"]],
        "errors": sums.errors,
        "system": {name: total / number for name, (number, total, *_) in sums.system.items() if number > 0},
        "feedback": sums.feedback,
    }
    figures = figures_of(window, grown.profile, sums.windows)
    return Reading(grown.resource, min(grown.since, now), now, figures)


def _forget_days(connection: Connection) -> None:
    """Copies of days that retention has deleted."""
    there = exists().where(
        rollups.c.model_id == exported_days.c.model_id,
        rollups.c.start == exported_days.c.start,
        rollups.c.level == "day",
    )
    connection.execute(delete(exported_days).where(~there))
