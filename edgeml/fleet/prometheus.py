"""The server's own figures in Prometheus' text format, for ``/metrics``.

Counters are kept while the server runs; what the database knows (devices, losses, its size) is asked for at a scrape,
at most once in ten seconds. Labels come from fixed lists and from the routes, so that no client can make new series;
of the reasons of losses, which devices write, the twenty with the most items are named and the rest is "other".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from threading import Lock
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from sqlalchemy import func, select

from edgeml.errors import MonitorDatabaseError
from edgeml.fleet import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from edgeml.fleet.store import Store

# When each series began is twice the lines, and Prometheus does not ask for it in this format.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library leaves its type out

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_METHODS = frozenset(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"))
_SPACE = "edgeml_monitor"
_COUNTED = {
    "rows": "Rows of input in the windows that were taken.",
    "batches_again": "Batches that came again and were answered as before.",
    "batches_overloaded": "Batches refused because too many waited.",
    "transactions": "Transactions of the ingest thread.",
    "commit_seconds": "Time the ingest thread spent on committing.",
}
_FIELDS = {
    "batches_again": "again",
    "batches_overloaded": "overloaded",
    "transactions": "groups",
    "commit_seconds": "commit_seconds_sum",
}
_RESULTS = ("accepted", "duplicate", "refused", "deferred")
_STATES = ("active", "revoked")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_MAX_REASONS = 20
_FRESH_SECONDS = 10.0


class Metrics:
    """All figures of one server. ``requests`` and the rest are counted by whoever sees them happen."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        # Not on platforms without /proc: there it says nothing.
        ProcessCollector(registry=self.registry)
        own: dict[str, Any] = {"registry": self.registry, "namespace": _SPACE}
        self._requests = Counter("requests", "HTTP requests.", ("method", "route", "status"), **own)
        self._seconds = Histogram(
            "request_seconds", "Time from a request's headers to its answer.", ("route",), buckets=_SECONDS, **own
        )
        self._batches = Counter("batches", "Batches, by HTTP status.", ("status",), **own)
        self._batch_bytes = Counter("batch_bytes", "Compressed bytes of batches taken.", **own)
        self._limited = Counter("limited", "Requests refused for coming too often.", ("limit",), **own)
        self._logins = Counter("logins", "Log-ins, by result.", ("result",), **own)
        self._clones = Counter("clone_events", "Batches that show that two devices have one key.", **own)
        self._refused = Counter("refused_connections", "What never became a request, by reason.", ("reason",), **own)
        self._connections = Gauge("connections", "Open connections.", **own)
        self._retention_runs = Gauge("retention_runs", "How often retention ran since the start.", **own)
        self._retention_failed = Gauge("retention_failed", "1 when the last run of retention failed.", **own)

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        self._requests.labels(method if method in _METHODS else "other", route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def batch(self, status: int, size: int = 0, *, clone: bool = False) -> None:
        """A batch of ``size`` compressed bytes was answered with ``status``."""
        self._batches.labels(str(status)).inc()
        if clone:
            self._clones.inc()
        if status == 200:
            self._batch_bytes.inc(size)

    def refused(self, code: str) -> None:
        """A connection was refused: malformed, too slow, too large or too many."""
        self._refused.labels(code).inc()

    def limited(self, limit: str) -> None:
        self._limited.labels(limit).inc()

    def login(self, result: str) -> None:
        self._logins.labels(result).inc()

    def watch_connections(self, count: Callable[[], float]) -> None:
        """Where to ask for the number of open connections."""
        self._connections.set_function(count)

    def watch_retention(self, runs: Callable[[], float], failed: Callable[[], bool]) -> None:
        """Where to ask how retention went."""
        self._retention_runs.set_function(runs)
        self._retention_failed.set_function(failed)

    def add_ingest(self, counters: Callable[[], Mapping[str, float]]) -> None:
        """Show what became of batches' items, too."""
        self.registry.register(_Ingest(counters))

    def add_database(self, store: Store) -> None:
        """Show what the database knows, too."""
        self.registry.register(_Database(store))

    def text(self) -> bytes:
        """The answer to a scrape."""
        return generate_latest(self.registry)


class _Ingest:
    """What the ingest thread counts: each item once, however often its batch came."""

    def __init__(self, counters: Callable[[], Mapping[str, float]]) -> None:
        self._counters = counters

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        counted = self._counters()
        items = CounterMetricFamily(f"{_SPACE}_items", "Items of batches, by what became of them.", labels=("result",))
        for result in _RESULTS:
            items.add_metric([result], counted.get(result, 0.0))
        yield items
        for name, meaning in _COUNTED.items():
            yield CounterMetricFamily(f"{_SPACE}_{name}", meaning, value=counted.get(_FIELDS.get(name, name), 0.0))
        yield _family("ingest_queue", "Batches that wait for the database.", (), {(): counted["queue"]})
        yield _family("ingest_queue_bytes", "Memory of waiting batches.", (), {(): counted["queue_bytes"]})


class _Database:
    """Figures asked of the database when a scrape comes; a database that is away leaves only ``database_up`` 0."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._at, self._last = 0.0, list[GaugeMetricFamily]()

    def describe(self) -> Iterator[GaugeMetricFamily]:
        return iter(())  # so that registering asks nothing

    def collect(self) -> Iterator[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._at > _FRESH_SECONDS:
                try:
                    with self._store.read() as connection:
                        self._last = [_family("database_up", "1 while the database answers.", (), {(): 1})]
                        self._last += _figures(connection)
                except MonitorDatabaseError:
                    self._last = [_family("database_up", "1 while the database answers.", (), {(): 0})]
                self._at = time.monotonic()
            yield from self._last


def _figures(connection: Connection) -> Iterator[GaugeMetricFamily]:
    devices, losses = tables.devices.c, tables.losses.c
    states = dict.fromkeys(((state,) for state in _STATES), 0)
    for state, count in connection.execute(select(devices.state, func.count()).group_by(devices.state)):
        states[(str(state),)] = count
    yield _family("devices", "Devices, by state.", ("state",), states)
    cloned = connection.scalar(select(func.count()).where(devices.clone_seen.is_not(None)))
    yield _family("devices_with_clones", "Devices whose key was seen twice.", (), {(): cloned or 0})
    seen = connection.scalar(select(func.count()).where(devices.last_seen > time.time() - 3600))
    yield _family("devices_seen_last_hour", "Devices heard of within an hour.", (), {(): seen or 0})
    items = func.sum(losses.last - losses.first + 1)
    rows = connection.execute(
        select(losses.reason, items, func.sum(losses.rows)).group_by(losses.reason).order_by(items.desc())
    ).all()
    by_items: dict[tuple[str, ...], float] = {}
    by_rows: dict[tuple[str, ...], float] = {}
    for at, (reason, item_count, row_count) in enumerate(rows):
        key = (reason if at < _MAX_REASONS else "other",)
        by_items[key] = by_items.get(key, 0) + int(item_count)
        by_rows[key] = by_rows.get(key, 0) + int(row_count)
    yield _family("lost_items", "Items that devices could not keep, by reason.", ("reason",), by_items)
    yield _family("lost_rows", "Rows counted in lost items, by reason.", ("reason",), by_rows)
    quarantined = connection.scalar(select(func.count()).select_from(tables.quarantine))
    yield _family("quarantined_items", "Items refused and kept for a look.", (), {(): quarantined or 0})
    yield _family("database_bytes", "Size of the database.", (), {(): _size(connection)})


def _size(connection: Connection) -> float:
    if connection.dialect.name == "sqlite":
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        return float(pages or 0) * float(connection.exec_driver_sql("PRAGMA page_size").scalar() or 0)
    return float(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar() or 0)


def _family(name: str, meaning: str, labels: tuple[str, ...], values: Mapping[Any, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{_SPACE}_{name}", meaning, labels=labels)
    for key, value in values.items():
        family.add_metric(list(key), value)
    return family
