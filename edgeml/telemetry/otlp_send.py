"""Sends OTLP messages by HTTP: what is worth another try is tried again, the rest is dropped, counted and said.

``Sender`` makes one attempt and says what came of it, for callers who keep what they send (the device's spool, the
monitor's database). ``Exporter`` adds a thread and a bounded queue for callers who only pass on a copy, and never makes
them wait. Comes in: readings of ``otlp.py``. Goes out: requests over httpx, imported when the sender is made.
"""

from __future__ import annotations

import gzip
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from edgeml._version import __version__
from edgeml.errors import OtlpError
from edgeml.telemetry.backoff import Backoff, retry_after
from edgeml.telemetry.clock import wall
from edgeml.telemetry.otlp import CUMULATIVE, INSTALL, Cumulative, Reading, to_request
from edgeml.telemetry.otlp_settings import OtlpSettings

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

# What OTLP/HTTP says may be sent again; every other error will be one the next time too.
RETRYABLE = frozenset({429, 502, 503, 504})
MAX_READINGS = 50  # of one message: some 10 kB each before compression, and receivers take 4 MiB by default
MAX_QUEUE = 1000
FIRST_SECONDS, MOST_SECONDS = 1.0, 60.0
_MAX_REPLY = 64 * 1024

CONTENT_TYPE = "application/x-protobuf"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. ``wait`` is what the receiver asked for, in seconds. ``rejected`` data points of a
    message were refused by a receiver that took the others.
    """

    result: Literal["taken", "retry", "dropped", "too_large"]
    reason: str = ""
    wait: float | None = None
    rejected: int = 0


class Sender:
    """One receiver, one connection kept open. Not for several threads at once."""

    def __init__(self, settings: OtlpSettings, transport: httpx.BaseTransport | None = None) -> None:
        try:
            import httpx
            from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
        except ImportError as error:
            raise OtlpError(f"OTLP needs the package {(error.name or '').partition('.')[0]}", INSTALL) from None
        self._settings, self._httpx, self._response = settings, httpx, ExportMetricsServiceResponse
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": f"edgeml/{__version__}", **settings.headers}
        if settings.gzip:
            headers["Content-Encoding"] = "gzip"
        self._client = httpx.Client(
            headers=headers,
            timeout=settings.timeout,
            verify=_tls(settings),
            transport=transport,
            follow_redirects=False,
        )
        self.rejected = 0

    def send(self, readings: Sequence[Reading]) -> Outcome:
        """One attempt to send one message. What is too large is for the caller to halve."""
        message = to_request(readings, self._settings.temporality).SerializeToString()
        content = gzip.compress(message, compresslevel=6, mtime=0) if self._settings.gzip else message
        try:
            with self._client.stream("POST", self._settings.url, content=content) as reply:
                body = b""
                for part in reply.iter_bytes():
                    body += part
                    if len(body) > _MAX_REPLY:
                        break
                return self._judge(reply.status_code, reply.headers, body)
        except (self._httpx.HTTPError, self._httpx.StreamError, OSError) as error:
            return Outcome("retry", f"{type(error).__name__}: {error}"[:200])

    def _judge(self, status: int, headers: httpx.Headers, body: bytes) -> Outcome:
        if status == 200:
            rejected, message = self._partial(body)
            if rejected or message:
                logger.warning("OTLP: the receiver took a message but for %d data points: %.200s", rejected, message)
            self.rejected += rejected
            return Outcome("taken", message, rejected=rejected)
        reason = f"HTTP {status}"
        if status in RETRYABLE:
            return Outcome("retry", reason, retry_after(headers.get("Retry-After"), headers.get("Date"), wall()))
        if status == 413:
            return Outcome("too_large", f"{reason}: too large for the receiver")
        return Outcome("dropped", f"{reason}: {_status_message(body)}".rstrip(": "))

    def _partial(self, body: bytes) -> tuple[int, str]:
        from google.protobuf.message import DecodeError

        try:
            partial = self._response.FromString(body).partial_success
        except DecodeError:  # a receiver that took the message and answers in another form, JSON for instance
            return 0, ""
        return max(partial.rejected_data_points, 0), partial.error_message

    def close(self) -> None:
        self._client.close()


class Exporter:
    """Passes on readings in a thread of its own. ``put`` returns at once: a queue that is full lets its oldest go."""

    def __init__(
        self, settings: OtlpSettings, transport: httpx.BaseTransport | None = None, *, limit: int = MAX_QUEUE
    ) -> None:
        self._sender = Sender(settings, transport)
        self._totals = Cumulative() if settings.temporality == CUMULATIVE else None
        self._queue: deque[Reading | Callable[[], Reading | None]] = deque()
        self._limit = limit
        self._changed = threading.Condition()
        self._closing = False
        self._busy = False
        self._last_error = ""
        self.counts: Counter[str] = Counter()  # of readings: sent, dropped, overflowed, unreadable; of points: rejected
        self._thread = threading.Thread(target=self._run, name="edgeml-otlp", daemon=True)
        self._thread.start()

    def put(self, readings: Sequence[Reading | Callable[[], Reading | None]]) -> None:
        """Queue readings, or calls that make them later in the exporter's thread (None: nothing to send)."""
        with self._changed:
            self._queue.extend(readings)
            while len(self._queue) > self._limit:
                self._queue.popleft()
                self.counts["overflowed"] += 1
            self._changed.notify_all()

    def status(self) -> dict[str, Any]:
        """What was done so far, for people."""
        with self._changed:
            return {**self.counts, "queued": len(self._queue), "last_error": self._last_error}

    def flush(self, timeout: float) -> bool:
        """Wait until nothing is queued; False when that took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._queue and not self._busy, timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Send what is queued, within ``timeout`` seconds, and stop. What is left is counted as dropped."""
        self.flush(timeout)
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(self._sender._settings.timeout + 1)
        with self._changed:
            self.counts["dropped"] += len(self._queue)
            self._queue.clear()
        if not self._thread.is_alive():
            self._sender.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._queue or self._closing)
                if self._closing:
                    return
                self._busy = True
                taken = [self._queue.popleft() for _ in range(min(len(self._queue), MAX_READINGS))]
            if readings := self._made(taken):
                self._send(readings)

    def _made(self, taken: Sequence[Reading | Callable[[], Reading | None]]) -> list[Reading]:
        readings = []
        for reading in taken:
            try:
                made = reading if isinstance(reading, Reading) else reading()
            except Exception as error:  # whatever one reading's maker meets must not end the export of all others
                self._count("unreadable", 1, f"{type(error).__name__}: {error}")
                continue
            if made is not None:
                readings.append(made)
        return readings if self._totals is None else self._totals.add(readings)

    def _send(self, readings: list[Reading]) -> None:
        backoff = Backoff(FIRST_SECONDS, MOST_SECONDS)
        while True:
            outcome = self._sender.send(readings)
            if outcome.result == "too_large" and len(readings) > 1:
                self._send(readings[: len(readings) // 2])
                self._send(readings[len(readings) // 2 :])
                return
            if outcome.result != "retry":
                self._count("sent" if outcome.result == "taken" else "dropped", len(readings), outcome.reason)
                self._count("rejected", outcome.rejected)
                return
            self._count("retries", 1, outcome.reason)
            with self._changed:
                if self._changed.wait_for(lambda: self._closing, backoff.wait(outcome.wait or 0.0)):
                    self.counts["dropped"] += len(readings)
                    return

    def _count(self, what: str, number: int, reason: str = "") -> None:
        with self._changed:
            self.counts[what] += number
            if reason:
                first = reason != self._last_error
                self._last_error = reason[:200]
                if first:
                    logger.warning("OTLP: %s: %.200s", what, reason)


def _tls(settings: OtlpSettings) -> Any:
    import ssl

    if not settings.url.startswith("https"):
        return True
    try:
        context = ssl.create_default_context(cafile=settings.ca)
        if settings.cert:
            context.load_cert_chain(settings.cert, settings.key)
    except (ssl.SSLError, OSError) as error:
        raise OtlpError(
            f"OTLP: the certificates cannot be read: {error}", "give PEM files that belong together"
        ) from None
    return context


def _status_message(body: bytes) -> str:
    """The message of a ``google.rpc.Status``, which OTLP answers errors with: field 2, a short text; else nothing."""
    text = body.decode("utf-8", "replace")
    return "".join(c for c in text if c.isprintable()).strip()[:150]
