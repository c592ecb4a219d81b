"""Windows added up: dense counts over the bins of a profile, and the sums beside them.

Comes in: checked windows of one model. Goes out: ``Sums`` that add up further, and their bytes as the columns ``sums``
of ``rollups`` and ``device_days`` keep them. Called by ingest, retention and queries.

The bytes: one byte of version (1), then zlib of: 4 bytes length of a JSON header, the header, the counts. The header
has ``slots`` (number of counts), ``width`` (bytes of a count: 1, 2, 4 or 8, little-endian, the least that holds the
largest) and the sums that are no histograms. The counts are, in this order, latencies of single calls, latencies of
batches, every feature, every score.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeml.errors import MonitorDatabaseError, WireError
from edgeml.jsonutil import dumps
from edgeml.telemetry.window import LATENCY_BINS

LEVELS = {"minute": 60, "hour": 3600, "day": 86400}
DAY = LEVELS["day"]
VERSION = 1

# A window of so many rows is no window but an attack on the sums of everyone: 2**30 of them still add up in 64 bits.
MAX_WINDOW_COUNT = 2**33
MAX_FIGURE = 1e18
_MAX_INT64 = 2**63 - 1
# What devices name freely is bounded in a sum; what is over goes to OTHER.
MAX_ERROR_KINDS = 64
MAX_FIGURES = 64
MAX_LABELS = 200
OTHER = "(other)"
_REGRESSOR = ("rows", "unmatched", "error", "absolute_error", "squared_error", "y", "y_squared")


@dataclass(frozen=True)
class Layout:
    """Where the counts of a profile's histograms stand: number of slots of each feature and of each score."""

    features: tuple[int, ...] = ()
    scores: tuple[int, ...] = ()

    @classmethod
    def of(cls, profile: Mapping[str, Any] | None) -> Layout:
        if profile is None:
            return cls()
        return cls(*(tuple(len(record["counts"]) for record in profile[field]) for field in ("features", "scores")))

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Where each histogram begins, and, last, how many slots there are: (histograms + 1,)."""
        return np.cumsum([0, LATENCY_BINS, LATENCY_BINS, *self.features, *self.scores], dtype=np.int64)

    @property
    def slots(self) -> int:
        return int(self.offsets[-1])


def check_plausible(window: Mapping[str, Any]) -> None:
    """Raises WireError when a checked window holds a count or a figure that no device can have seen."""
    numbers = [window["rows"], *window["calls"].values(), *window["errors"].values()]
    for pairs in _histograms(window):
        numbers += pairs[1::2]
    feedback = window["feedback"] or {}
    numbers += [feedback.get("rows", 0), feedback.get("unmatched", 0), feedback.get("correct", 0)]
    for row in feedback.get("confusion", {}).values():
        numbers += row.values()
    if max(numbers) > MAX_WINDOW_COUNT:
        raise WireError(f"window: a count of {max(numbers)}, over {MAX_WINDOW_COUNT}, is not plausible")
    for name, value in window["system"].items():
        if value is not None and abs(value) > MAX_FIGURE:
            raise WireError(f"window: system.{name[:40]} of {value} is not plausible")


class Sums:
    """Windows of one model added up. ``counts`` is (layout.slots,) int64; ``system`` is {name: [n, sum, min, max]}."""

    __slots__ = ("calls", "counts", "errors", "feedback", "rows", "system", "windows")

    def __init__(self, slots: int) -> None:
        self.windows = 0
        self.rows = 0
        self.counts: NDArray[np.int64] = np.zeros(slots, dtype=np.int64)
        self.calls = {"one": 0, "batch": 0}
        self.errors: dict[str, int] = {}
        self.system: dict[str, list[float]] = {}
        self.feedback: dict[str, Any] | None = None

    def add(self, window: Mapping[str, Any], layout: Layout) -> None:
        """Add a window that ``check_window`` and ``check_plausible`` let pass. Raises OverflowError."""
        pairs = _histograms(window)
        flat = np.fromiter(chain.from_iterable(pairs), dtype=np.int64)
        slots = flat[::2] + np.repeat(layout.offsets[:-1], [len(p) // 2 for p in pairs])
        # Slots of a histogram ascend, so each stands here once. Both are at least 0: a sum that wraps is negative.
        sums = self.counts[slots] + flat[1::2]
        if sums.size and sums.min() < 0:
            raise OverflowError("a count is over 2**63 - 1")
        self.counts[slots] = sums
        self._add_rest(
            1, window["rows"], window["calls"], window["errors"],
            {name: [1, v, v, v] for name, v in window["system"].items() if v is not None}, window["feedback"],
        )  # fmt: skip

    def merge(self, other: Sums) -> None:
        """Add sums over the same bins. Raises OverflowError."""
        counts = self.counts + other.counts
        if counts.size and counts.min() < 0:
            raise OverflowError("a count is over 2**63 - 1")
        self.counts = counts
        self._add_rest(other.windows, other.rows, other.calls, other.errors, other.system, other.feedback)

    def _add_rest(
        self, windows: int, rows: int, calls: Mapping[str, int], errors: Mapping[str, int],
        system: Mapping[str, Sequence[float]], feedback: Mapping[str, Any] | None,
    ) -> None:  # fmt: skip
        self.windows += windows
        self.rows = _fits(self.rows + rows)
        for way, made in calls.items():
            self.calls[way] = _fits(self.calls[way] + made)
        _add_counts(self.errors, errors, MAX_ERROR_KINDS)
        for name, (number, total, least, most) in system.items():
            known = self.system.get(name)
            if known is not None:
                self.system[name] = [
                    known[0] + number, _finite(known[1] + total), min(known[2], least), max(known[3], most)
                ]  # fmt: skip
            elif len(self.system) < MAX_FIGURES:
                self.system[name] = [number, total, least, most]
        if feedback is not None:
            self.feedback = _add_feedback(self.feedback, feedback)

    # --- bytes ------------------------------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        most = int(self.counts.max(initial=0))
        width = 1 if most < 2**8 else 2 if most < 2**16 else 4 if most < 2**32 else 8
        header = dumps(
            {
                "slots": len(self.counts), "width": width, "calls": self.calls, "errors": self.errors,
                "system": self.system, "feedback": self.feedback,
            }
        )  # fmt: skip
        counts = self.counts.astype(f"<u{width}").tobytes()
        return bytes([VERSION]) + zlib.compress(len(header).to_bytes(4, "little") + header + counts, 1)

    @classmethod
    def from_bytes(cls, data: bytes, windows: int, rows: int) -> Sums:
        """The sums of a row of the database. Raises MonitorDatabaseError when they are not of a known form."""
        if data[:1] != bytes([VERSION]):
            raise MonitorDatabaseError("sums in the database are of an unknown version", "upgrade edgeml-sdk")
        try:
            body = zlib.decompress(data[1:])
            length = int.from_bytes(body[:4], "little")
            header = json.loads(body[4 : 4 + length])
            sums = cls(0)
            counts = np.frombuffer(body, dtype=f"<u{header['width']}", offset=4 + length)
            if len(counts) != header["slots"]:
                raise ValueError(f"{len(counts)} counts instead of {header['slots']}")
            sums.counts = counts.astype(np.int64)
            sums.calls, sums.errors, sums.system = header["calls"], header["errors"], header["system"]
            sums.feedback = header["feedback"]
        except (zlib.error, ValueError, KeyError, TypeError) as error:
            raise MonitorDatabaseError(
                f"sums in the database are damaged: {error}", "restore a backup (edgeml monitor restore)"
            ) from None
        sums.windows, sums.rows = windows, rows
        return sums

    def histograms(self, layout: Layout) -> dict[str, Any]:
        """Dense counts by histogram, JSON-ready: ``latency`` {one, batch}, ``features`` and ``scores``."""
        parts = [part.tolist() for part in np.split(self.counts, layout.offsets[1:-1])]
        features = len(layout.features)
        return {
            "latency": {"one": parts[0], "batch": parts[1]},
            "features": parts[2 : 2 + features],
            "scores": parts[2 + features :],
        }


def _histograms(window: Mapping[str, Any]) -> list[list[int]]:
    latency = window["latency"]
    return [latency["one"], latency["batch"], *window["features"], *window["scores"]]


def _add_counts(known: dict[str, int], more: Mapping[str, int], most: int) -> None:
    for kind, number in more.items():
        place = kind if kind in known or len(known) < most else OTHER
        known[place] = _fits(known.get(place, 0) + number)


def _add_feedback(known: dict[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """A model has one kind of feedback. Should windows disagree, the later kind is only counted, as unmatched."""
    if known is None:
        known = {name: 0 for name in more if name != "confusion"} | ({"confusion": {}} if "confusion" in more else {})
    if ("confusion" in known) != ("confusion" in more):
        known["unmatched"] = _fits(known["unmatched"] + more["rows"] + more["unmatched"])
        return known
    if "confusion" not in more:
        for name in _REGRESSOR:
            known[name] = _finite(known[name] + more[name])
        return known
    for name in ("rows", "unmatched", "correct"):
        known[name] = _fits(known[name] + more[name])
    confusion = known["confusion"]
    for label, row in more["confusion"].items():
        place = label if label in confusion or len(confusion) < MAX_LABELS else OTHER
        _add_counts(confusion.setdefault(place, {}), row, MAX_LABELS)
    return known


def _fits(number: int) -> int:
    if number > _MAX_INT64:
        raise OverflowError("a count is over 2**63 - 1")
    return number


def _finite(number: float) -> float:
    if not abs(number) < float("inf"):
        raise OverflowError("a sum is beyond float64")
    return number
