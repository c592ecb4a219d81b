"""What the HTTP layer hands batches to: a queue, a thread that writes them in groups, and a reply for each.

Comes in: a batch whose signature and form were checked. Goes out: a future of its reply, done when the database has
committed everything the reply says. One object a server; several servers may share a PostgreSQL database.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass, field
from hashlib import sha256

from edgeml.fleet.device_state import Device
from edgeml.fleet.merge import Reply, Request
from edgeml.fleet.registry import MAX_MODELS, Registry
from edgeml.fleet.retention import Retention
from edgeml.fleet.store import Store
from edgeml.fleet.writer import Writer
from edgeml.telemetry import wire

__all__ = ["Device", "Ingest", "IngestSettings", "Reply"]

# A parsed payload takes some five times its bytes of JSON.
_PARSED = 5
_REQUEST_BYTES = 2000


@dataclass(frozen=True, slots=True)
class IngestSettings:
    """Bounds of the queue (in requests and in bytes of memory), of one transaction, and what devices are told."""

    queue_requests: int = 2000
    queue_bytes: int = 256 * 2**20
    group_items: int = 500
    retry_after: float = 2.0
    max_models: int = MAX_MODELS  # of a project, that devices make known by themselves
    retention: Retention = field(default_factory=Retention)


class Ingest:
    """Takes batches. ``start`` it before, and ``stop`` it before the store is closed."""

    def __init__(self, store: Store, settings: IngestSettings | None = None) -> None:
        chosen = settings or IngestSettings()
        self._settings = chosen
        self._writer = Writer(
            store, chosen.retention, Registry(chosen.max_models), queue_requests=chosen.queue_requests,
            queue_bytes=chosen.queue_bytes, group_items=chosen.group_items, retry_after=chosen.retry_after,
        )  # fmt: skip

    def start(self) -> None:
        self._writer.start()

    def stop(self, timeout: float = 30.0) -> None:
        """Finish what was taken, for at most ``timeout`` seconds; answer 503 to the rest."""
        self._writer.stop(timeout)

    def take(
        self,
        device: Device,
        header: wire.Header,
        header_bytes: bytes,
        sent: wire.Sent,
        body: wire.Body,
        received: float,
    ) -> Future[Reply]:
        """Queue a batch. Never blocks and never raises; the future's result is its reply, ready to be sent.

        The caller has checked the signature, that the body has the header's hash, and that the header names ``device``.
        ``received`` is the server's clock when the request came. A future that is cancelled before its turn is not
        processed; one that is not may be: the device sends the batch again and is answered what was done.
        """
        size = _REQUEST_BYTES + _PARSED * sum(len(item.payload) for item in body.items)
        request = Request(device, header, sha256(header_bytes).hexdigest(), sent, body, received, size)
        refused = self._writer.put(request)
        if refused is not None:
            request.future.set_result(refused)
        return request.future

    def counters(self) -> dict[str, float]:
        """Totals since the start, and how full the queue is, for /metrics."""
        writer = self._writer
        names = ("accepted", "duplicate", "refused", "deferred", "rows", "losses", "groups", "again", "overloaded")
        requests, size = writer.queued
        return (
            {name: float(writer.counts[name]) for name in names}
            | {name: float(count) for name, count in list(writer.counts.items())}
            | {"queue": float(requests), "queue_bytes": float(size), "commit_seconds_sum": writer.commit_seconds}
        )

    def state(self) -> str:
        """ "running", "database" (the last group failed for it) or "stopped"."""
        if not self._writer.running:
            return "stopped"
        return "database" if self._writer.database_failed else "running"
