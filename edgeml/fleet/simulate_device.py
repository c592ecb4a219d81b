"""A simulated device: a real Ed25519 key, a real chain of signed batches, windows that nobody measured.

``simulate.py`` makes thousands and plays their part; what goes out is exactly what an agent would send, by
``telemetry/wire.py``. A device knows which of its windows were acknowledged, for the check after the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeml.fleet.simulate_windows import SimulatedModel, Template
from edgeml.jsonutil import dumps
from edgeml.telemetry import wire
from edgeml.telemetry.items import Item

MAX_ITEMS = 100


@dataclass(frozen=True, slots=True)
class Window:
    """A window of a device; ``due`` is when it was meant to go out, by the loop's clock, None when held back."""

    item: Item
    due: float | None


@dataclass(frozen=True, slots=True)
class Batch:
    header: bytes
    content: bytes  # compressed
    windows: tuple[Window, ...]


class SimulatedDevice:
    """``clock_error`` is how many seconds its wall clock is ahead. ``index`` decides which windows it has."""

    __slots__ = (
        "_boot_id", "_chain", "_clock_error", "_key", "_model", "_number", "_pid", "_previous", "_restarted",
        "_started", "_templates", "acknowledged", "backlog", "busy", "device", "held", "index", "offline_until",
        "project", "sequence", "stopped", "stream", "wants_profile",
    )  # fmt: skip

    def __init__(
        self, index: int, model: SimulatedModel, templates: Sequence[Template], started: float, clock_error: float = 0.0
    ) -> None:
        self.index = index
        self._model, self._templates = model, templates
        self._key = Ed25519PrivateKey.generate()
        self._clock_error = clock_error
        self._pid = 100 + index % 30000
        self.device = self.project = ""  # until enrolled
        self._begin_boot(started)
        self._begin_chain("")
        self.backlog: list[Window] = []
        self.held: list[tuple[int, Window]] = []  # (intervals to wait, window)
        self.offline_until = 0.0
        self.busy = self.stopped = self.wants_profile = False

    def _begin_boot(self, started: float) -> None:
        self._started, self._boot_id = started, str(uuid4())
        self.stream, self.sequence = uuid4().hex, 0
        self.acknowledged = 0  # bit i: the window with sequence i

    def _begin_chain(self, restarted: str) -> None:
        self._chain, self._number, self._previous, self._restarted = uuid4().hex, 0, wire.NO_PREVIOUS, restarted

    # --- enrolment
    def enrolment(self, token: str) -> bytes:
        """The JSON that enrols it."""
        return dumps(
            {
                "token": token,
                "public_key": wire.encode(self._key.public_key().public_bytes_raw()),
                "name": f"simulated-{self.index:06}",
                "labels": {"simulated": "yes"},
                "signature": wire.encode(self._key.sign(wire.enrolment_bytes(token))),
            }
        )

    # --- windows
    def rows_of(self, sequence: int) -> int:
        """The rows of one of its windows."""
        return self._template(sequence).rows

    def _template(self, sequence: int) -> Template:
        return self._templates[(self.index * 7 + sequence) % len(self._templates)]

    def close_window(self, now: float, interval: float, due: float | None) -> Window:
        """The next window, of the ``interval`` seconds before the true Unix time ``now``."""
        template, sequence = self._template(self.sequence), self.sequence
        self.sequence += 1
        end = now - self._started
        payload = template.fill(
            start=max(end - interval, 0.0),
            end=end,
            wall=now + self._clock_error,
            pid=self._pid,
            boot_id=self._boot_id,
        )
        return Window(Item(self.stream, sequence, "window", payload, template.rows), due)

    # --- batches
    def begin(self) -> Batch:
        """The next batch, of the newest windows of the backlog, which stay there until ``settle``."""
        windows = tuple(sorted(self.backlog, key=lambda w: -w.item.sequence)[:MAX_ITEMS])
        return self.batch(windows)

    def batch(self, windows: Sequence[Window]) -> Batch:
        profiles = {}
        if self.wants_profile and self._model.profile is not None:
            profiles[str(self._model.profile_sha256)] = dumps(self._model.profile)
        body = wire.body_bytes([w.item for w in windows], [], profiles)
        header = wire.Header(
            self.device, self._chain, self._number, self._previous, sha256(body).hexdigest(), self._restarted
        )
        return Batch(header.to_bytes(), wire.compress(body), tuple(windows))

    def headers(self, batch: Batch, now: float) -> dict[str, str]:
        """The HTTP headers of one attempt, made at the true Unix time ``now``."""
        sent = wire.Sent(self._boot_id, round(now - self._started, 3), round(now + self._clock_error, 3)).to_text()
        return {
            "Content-Type": wire.CONTENT_TYPE,
            "Content-Encoding": "gzip",
            wire.HEADER: wire.encode(batch.header),
            wire.SENT: sent,
            wire.SIGNATURE: wire.encode(self._key.sign(wire.signed_bytes(batch.header, sent))),
        }

    def advance(self, batch: Batch) -> None:
        """The server took the batch: the next one follows it."""
        self._number, self._previous = self._number + 1, sha256(batch.header).hexdigest()

    def settle(self, batch: Batch, results: Sequence[Sequence[str]]) -> None:
        """What became of each window: all but the deferred ones leave the backlog."""
        done = set()
        for window, (result, *_) in zip(batch.windows, results, strict=True):
            if result != "deferred":
                done.add(window.item.sequence)
            if result in ("accepted", "duplicate") and window.item.stream == self.stream:
                self.acknowledged |= 1 << window.item.sequence
        self.backlog = [w for w in self.backlog if w.item.sequence not in done]

    def restart_chain(self, reason: str) -> None:
        self._begin_chain(reason)

    # --- the fault of two devices with one key
    def twin(self, started: float) -> SimulatedDevice:
        """A clone as of now: key, device and chain are copied, and it has a stream of its own."""
        other = SimulatedDevice(self.index, self._model, self._templates, started)
        other._key, other.device, other.project = self._key, self.device, self.project
        other._chain, other._number, other._previous = self._chain, self._number, self._previous
        other._restarted = self._restarted
        return other
