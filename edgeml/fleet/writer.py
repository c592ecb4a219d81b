"""The one thread that writes batches: many of them in one transaction, so that one sync to the disk serves all.

Comes in: requests, through a bounded queue. Goes out: each request's reply, after the commit. A group that fails for
its data is taken apart, until what makes the server fail is found and refused; one that fails for the database is
answered 503, and the devices come again. Started and fed by ``ingest.Ingest``.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from edgeml.errors import MonitorDatabaseError
from edgeml.fleet.failures import Kind, kind_of, said
from edgeml.fleet.merge import Excluded, Reply, Request, merge, refusal
from edgeml.fleet.registry import Registry
from edgeml.fleet.retention import Retention
from edgeml.fleet.store import Store

log = logging.getLogger("edgeml.monitor")

# A deadlock or a serialization failure with another server: the same again.
_TRIES = 4
# When the queue is full devices are asked to wait for so long after a batch that was taken; not until it is half full.
_LONGEST_PAUSE = 60.0
# Transactions begin at least so far apart, so that a busy server shares one among more batches: one costs 4 ms of CPU
# before it has written anything. Who comes alone does not wait.
_APART = 0.02


class _RolledBack(Exception):
    """Ends a trial transaction."""


class Writer:
    """Takes requests from a queue and answers them. ``counts`` is read by other threads; only this one changes it."""

    def __init__(
        self, store: Store, retention: Retention, registry: Registry, *,
        queue_requests: int, queue_bytes: int, group_items: int, retry_after: float,
    ) -> None:  # fmt: skip
        self._store, self._retention, self._registry = store, retention, registry
        self._most, self._most_bytes = queue_requests, queue_bytes
        self._group_items, self._retry_after = group_items, retry_after
        self._queue: deque[Request] = deque()
        self._bytes = 0
        self._condition = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="edgeml-ingest", daemon=True)
        self.counts: Counter[str] = Counter()
        self.commit_seconds = 0.0
        self._began = float("-inf")  # when the last group was taken from the queue
        self.database_failed = ""  # what the database said when the last group failed for it, or nothing

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Finish what is queued, for at most ``timeout`` seconds; the rest is answered 503."""
        with self._condition:
            self._stopping = True
            self._condition.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        with self._condition:
            left = list(self._queue)
            self._queue.clear()
            self._bytes = 0
        for request in left:
            if request.future.set_running_or_notify_cancel():
                request.future.set_result(self.unavailable("stopping", "the server is being stopped"))

    @property
    def running(self) -> bool:
        return self._thread.is_alive() and not self._stopping

    @property
    def queued(self) -> tuple[int, int]:
        """Requests and bytes that wait."""
        return len(self._queue), self._bytes

    def put(self, request: Request) -> Reply | None:
        """Queue a request; or, when there is no room, the reply that says so."""
        with self._condition:
            if self._stopping or (self._thread.ident is not None and not self._thread.is_alive()):
                return self.unavailable("stopping", "the server is not taking batches now")
            # One that is larger than the whole queue is taken when it is empty.
            if len(self._queue) >= self._most or (self._queue and self._bytes + request.size > self._most_bytes):
                self.counts["overloaded"] += 1
                return self.unavailable("overloaded", "more batches come in than the server can take")
            self._queue.append(request)
            self._bytes += request.size
            self._condition.notify()
        return None

    def unavailable(self, error: str, cause: str) -> Reply:
        return refusal(503, error, cause, "send it again later; nothing of it was taken", retry_after=self._retry_after)

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if not group:
                return
            try:
                replies = self._take(group)
            except Exception:  # nothing may end this thread: what it did not foresee is answered, and logged whole
                log.exception("a group of %d batches failed", len(group))
                self._registry.clear()
                replies = [self.unavailable("internal", "the server failed")] * len(group)
            for request, reply in zip(group, replies, strict=True):
                self.counts[f"status_{reply.status}"] += 1
                request.future.set_result(self._complete(reply))

    def _complete(self, reply: Reply) -> Reply:
        """A 200 with what is not kept for when the batch comes again: the time, and how long to pause."""
        if reply.status != 200:
            return reply
        full = max(len(self._queue) / self._most, self._bytes / self._most_bytes)
        pause = round(_LONGEST_PAUSE * (2 * full - 1), 1) if full > 0.5 else None
        return Reply(200, reply.body | {"server_time": time.time(), "pause": pause})

    def _next_group(self) -> list[Request]:
        """The requests that wait, up to ``group_items`` items; none when it is time to end."""
        with self._condition:
            while not self._queue and not self._stopping:
                self._condition.wait()
            until = self._began + _APART
            while not self._stopping and (left := until - time.monotonic()) > 0:
                self._condition.wait(left)
            self._began = time.monotonic()
            group: list[Request] = []
            items = 0
            while self._queue and (not group or items + len(self._queue[0].body.items) <= self._group_items):
                request = self._queue.popleft()
                self._bytes -= request.size
                if request.future.set_running_or_notify_cancel():  # else its client has gone
                    group.append(request)
                    items += len(request.body.items)
            if group or self._stopping:
                return group
        return self._next_group()  # all were cancelled

    # --- transactions -----------------------------------------------------------------------------------------------
    def _take(self, group: Sequence[Request]) -> list[Reply]:
        try:
            return self._commit(group)
        except Exception as error:  # whose kind decides
            if kind_of(error) is Kind.DATABASE:
                return self._database_failed(group, error)
            log.warning("a group of %d batches is taken apart: %s", len(group), said(error))
        # What the caches hold may have been deleted.
        self._registry.clear()
        return [self._alone(request) for request in group]

    def _alone(self, request: Request) -> Reply:
        try:
            return self._commit([request])[0]
        except Exception as error:  # whose kind decides
            if kind_of(error) is Kind.DATABASE:
                return self._database_failed([request], error)[0]
            log.warning("a batch of device %s is taken apart: %s", request.header.device, said(error))
        try:
            return self._commit([request], self._isolate(request))[0]
        except Exception as error:  # without its data it cannot be the data: the device keeps the batch
            return self._database_failed([request], error)[0]

    def _isolate(self, request: Request) -> Excluded:
        """Find what of a batch makes the server fail, by trying parts of it in transactions that are rolled back."""
        everything = Excluded(dict.fromkeys(range(len(request.body.items)), ""), losses=True)
        if request.body.losses:
            everything.losses = self._fails(request, Excluded(everything.items)) is not None
        parts = [range(len(request.body.items))]
        while parts:
            part = parts.pop()
            without = {i: reason for i, reason in everything.items.items() if i not in part}
            failed = self._fails(request, Excluded(without, everything.losses))
            if failed is None:
                everything.items = without
            elif len(part) == 1:
                everything.items[part[0]] = f"the server failed on it: {failed}"
            else:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
        return everything

    def _fails(self, request: Request, excluded: Excluded) -> str | None:
        try:
            with self._store.write() as connection:
                merge(connection, [request], self._registry, self._retention, excluded)
                raise _RolledBack
        except _RolledBack:
            return None
        except Exception as error:  # whose kind decides
            if kind_of(error) is Kind.DATABASE:
                raise
            return said(error)
        finally:
            self._registry.rollback()

    def _commit(self, group: Sequence[Request], excluded: Excluded | None = None) -> list[Reply]:
        for attempt in range(_TRIES):
            began = time.monotonic()
            try:
                with self._store.write() as connection:
                    replies, counts = merge(connection, group, self._registry, self._retention, excluded)
            except BaseException as error:
                self._registry.rollback()
                if kind_of(error) is Kind.AGAIN and attempt + 1 < _TRIES:
                    time.sleep(0.01 * 2**attempt)  # the other one is in the middle of it
                    continue
                raise
            self._registry.commit()
            self.commit_seconds += time.monotonic() - began
            self.counts.update(counts)
            self.counts["groups"] += 1
            self.database_failed = ""
            return replies
        raise AssertionError("the last try returns or raises")

    def _database_failed(self, group: Sequence[Request], error: Exception) -> list[Reply]:
        cause = error.cause if isinstance(error, MonitorDatabaseError) else said(error)
        if not self.database_failed:
            log.error("batches are answered 503: %s", cause)
        self.database_failed = cause or "unknown"
        self._registry.clear()
        # The cause names the database: for the log, not for devices.
        return [self.unavailable("database", "the server's database is not available now")] * len(group)
