"""The form of a window: what one model saw and did between two moments, in counts that add up.

``check_window`` is what the monitor asks of every window before it counts it; the recorder's tests hold its windows to
the same. Histograms are over the bins of the reference profile, in the profile's order, sparse:
``[slot, count, slot, count, …]`` with ascending slots and counts above 0. Latencies are counted on fixed bins, two an
octave.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import chain
from operator import lt
from typing import Any

import numpy as np

from edgeml.errors import WireError

WINDOW_VERSION = 1
MAX_ERROR_KINDS = 32
MAX_NAME = 200
MAX_COUNT = 2**53 - 1  # what JSON readers keep exact
MAX_NUMBER = sys.float_info.max
MAX_SECONDS = 1e11  # of a clock: some 3,000 years, so that a monitor can make a date of it

# --- latency: nanoseconds of one call, on bins that every device shares -------------------------------------------
# Bin 0 holds all below 2**9 ns (0.5 us); then two bins an octave, [2**k, 1.5 * 2**k) and [1.5 * 2**k, 2**(k + 1));
# the last holds all from 2**36 ns (69 s) on.
_FIRST_BITS, _LAST_BITS = 10, 36
LATENCY_BINS = 2 * (_LAST_BITS - _FIRST_BITS + 1) + 2


def latency_bin(nanoseconds: int) -> int:
    """The bin of a latency, from 0 to ``LATENCY_BINS - 1``."""
    bits = nanoseconds.bit_length()
    if bits < _FIRST_BITS:
        return 0
    if bits > _LAST_BITS:
        return LATENCY_BINS - 1
    return 2 * (bits - _FIRST_BITS) + 1 + (nanoseconds >> (bits - 2) & 1)


def latency_edges() -> list[float]:
    """Upper edges in seconds of all bins but the last, ascending: bin i holds edges[i - 1] <= latency < edges[i]."""
    edges = [2.0 ** (_FIRST_BITS - 1)]
    for bits in range(_FIRST_BITS, _LAST_BITS + 1):
        edges += [1.5 * 2.0 ** (bits - 1), 2.0**bits]
    return [edge / 1e9 for edge in edges]


def sparse(counts: Sequence[int]) -> list[int]:
    """``[slot, count, …]`` of the counts above 0."""
    return [number for slot, count in enumerate(counts) if count for number in (slot, int(count))]


def dense(pairs: Sequence[int], slots: int) -> list[int]:
    """The counts of ``sparse``, (slots,)."""
    counts = [0] * slots
    for slot, count in zip(pairs[::2], pairs[1::2], strict=True):
        counts[slot] = count
    return counts


# --- the check ----------------------------------------------------------------------------------------------------
_FIELDS = {
    "window_version", "model", "profile_sha256", "process", "start", "end", "wall", "rows", "calls", "latency",
    "features", "scores", "errors", "system", "feedback",
}  # fmt: skip


def check_window(window: Any, profile: Mapping[str, Any] | None) -> None:
    """Raises WireError, naming the field, when ``window`` is not a window over the bins of ``profile``.

    ``profile`` is the reference profile with the window's ``profile_sha256``, or None for a model without one: then
    ``features`` and ``scores`` are empty.
    """
    if not isinstance(window, dict) or set(window) != _FIELDS:
        known = {str(field)[:40] for field in window} if isinstance(window, dict) else set()
        raise WireError(f"window: fields {sorted(_FIELDS ^ known)[:5]} are missing or unknown")
    if type(window["window_version"]) is not int or window["window_version"] != WINDOW_VERSION:
        raise WireError(f"window: version {window['window_version']!r:.40} is not known")
    model = window["model"]
    if not isinstance(model, dict) or set(model) != {"name", "version", "manifest_sha256"}:
        raise WireError("window: model is not {name, version, manifest_sha256}")
    _text("model.name", model["name"])
    _count("model.version", model["version"])
    _digest("model.manifest_sha256", model["manifest_sha256"])
    if window["profile_sha256"] is not None:
        _digest("profile_sha256", window["profile_sha256"])
    process = window["process"]
    if not isinstance(process, dict) or set(process) != {"pid", "boot_id"}:
        raise WireError("window: process is not {pid, boot_id}")
    _count("process.pid", process["pid"])
    _text("process.boot_id", process["boot_id"])
    start, end = _number("start", window["start"]), _number("end", window["end"])
    if not 0 <= start <= end < MAX_SECONDS:
        raise WireError("window: start and end do not ascend from 0 seconds")
    if not abs(_number("wall", window["wall"])) < MAX_SECONDS:
        raise WireError("window: wall is not a time in seconds")
    _count("rows", window["rows"])
    for field in ("calls", "latency"):
        if not isinstance(window[field], dict) or set(window[field]) != {"one", "batch"}:
            raise WireError(f"window: {field} is not {{one, batch}}")
    for kind in ("one", "batch"):
        _count(f"calls.{kind}", window["calls"][kind])
    _histograms(window, profile)
    errors = window["errors"]
    if not isinstance(errors, dict) or len(errors) > MAX_ERROR_KINDS:
        raise WireError(f"window: errors is not an object of at most {MAX_ERROR_KINDS} kinds")
    for kind, count in errors.items():
        _text("errors", kind)
        _count(f"errors.{kind[:40]}", count)
    _system(window["system"])
    _feedback(window["feedback"])


def _histograms(window: Mapping[str, Any], profile: Mapping[str, Any] | None) -> None:
    found = [(f"latency.{kind}", window["latency"][kind], LATENCY_BINS) for kind in ("one", "batch")]
    for field in ("features", "scores"):
        records = profile[field] if profile is not None else []
        if not isinstance(window[field], list) or len(window[field]) != len(records):
            raise WireError(f"window: {field} does not have the {len(records)} histograms of the profile")
        for record, pairs in zip(records, window[field], strict=True):
            found.append((f"{field} {record['name'][:80]!r}", pairs, len(record["counts"])))
    if not _all_well_formed([pairs for _, pairs, _ in found], [slots for _, _, slots in found]):
        for name, pairs, slots in found:
            _pairs(name, pairs, slots)


def _all_well_formed(histograms: Sequence[Any], slots: Sequence[int]) -> bool:
    """What ``_pairs`` asks of each, asked of all at once: a monitor asks it of every window it is sent, and 32
    histograms one by one took four times as long.
    """
    if not all(type(pairs) is list and not len(pairs) % 2 for pairs in histograms):
        return False
    flat = list(chain.from_iterable(histograms))
    if not flat:
        return True
    if set(map(type, flat)) != {int}:
        return False
    try:
        numbers = np.array(flat, dtype=np.int64)
    except OverflowError:
        return False
    places, counts = numbers[::2], numbers[1::2]
    lengths = [len(pairs) // 2 for pairs in histograms]
    ends = np.cumsum(slots)
    # A slot from 0 to below its histogram's number that ascends in its histogram ascends over all of them.
    low, high = places.min() >= 0, bool((places < np.repeat(slots, lengths)).all())
    ascending = bool((np.diff(places + np.repeat(ends - slots, lengths)) > 0).all())
    return bool(low and high and ascending and counts.min() >= 1 and counts.max() <= MAX_COUNT)


def _system(system: Any) -> None:
    if not isinstance(system, dict) or len(system) > 32:
        raise WireError("window: system is not an object of at most 32 figures")
    for name, value in system.items():
        _text("system", name)
        if value is not None:
            _number(f"system.{name[:40]}", value)


# Sums over rows whose truth came: of a classifier "rows", "correct" and "confusion", {label: {predicted: count}}; of
# a regressor "rows" and the sums of error, |error|, error**2, y and y**2, from which means, RMSE and R2 follow.
CLASSIFIER_FEEDBACK = {"rows", "correct", "confusion", "unmatched"}
REGRESSOR_FEEDBACK = {"rows", "error", "absolute_error", "squared_error", "y", "y_squared", "unmatched"}
MAX_FEEDBACK_LABELS = 100


def _feedback(feedback: Any) -> None:
    if feedback is None:
        return
    if not isinstance(feedback, dict) or set(feedback) not in (CLASSIFIER_FEEDBACK, REGRESSOR_FEEDBACK):
        raise WireError("window: feedback is neither a classifier's nor a regressor's")
    _count("feedback.rows", feedback["rows"])
    _count("feedback.unmatched", feedback["unmatched"])
    if "confusion" not in feedback:
        for name in REGRESSOR_FEEDBACK - {"rows", "unmatched"}:
            _number(f"feedback.{name}", feedback[name])
        return
    _count("feedback.correct", feedback["correct"])
    confusion = feedback["confusion"]
    if not isinstance(confusion, dict) or len(confusion) > MAX_FEEDBACK_LABELS:
        raise WireError(f"window: feedback.confusion is not an object of at most {MAX_FEEDBACK_LABELS} labels")
    for label, row in confusion.items():
        _text("feedback.confusion", label)
        if not isinstance(row, dict) or len(row) > MAX_FEEDBACK_LABELS:
            raise WireError("window: feedback.confusion is not {label: {predicted: count}}")
        for predicted, count in row.items():
            _text("feedback.confusion", predicted)
            _count("feedback.confusion", count)


def _pairs(field: str, pairs: Any, slots: int) -> None:
    if not isinstance(pairs, list) or len(pairs) % 2 or len(pairs) > 2 * slots:
        raise WireError(f"window: {field} is not [slot, count, …] over {slots} slots")
    if not pairs:
        return
    found, counts = pairs[::2], pairs[1::2]
    if set(map(type, found)) != {int} or found[0] < 0 or found[-1] >= slots or not all(map(lt, found, found[1:])):
        raise WireError(f"window: {field} has slots that do not ascend below {slots}")
    if set(map(type, counts)) != {int} or min(counts) < 1 or max(counts) > MAX_COUNT:
        raise WireError(f"window: {field} is not an integer from 1 to 2**53 - 1")


def _count(field: str, value: Any, least: int = 0) -> None:
    if type(value) is not int or not least <= value <= MAX_COUNT:
        raise WireError(f"window: {field} is not an integer from {least} to 2**53 - 1")


def _number(field: str, value: Any) -> float:
    # An integer beyond float64 is compared as it is; math.isfinite and float() would raise OverflowError.
    if type(value) not in (int, float) or not -MAX_NUMBER <= value <= MAX_NUMBER:
        raise WireError(f"window: {field} is not a finite number")
    return float(value)


def _text(field: str, value: Any) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_NAME or not value.isprintable():
        raise WireError(f"window: {field} is not a printable text of 1 to {MAX_NAME} characters")


def _digest(field: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= set("0123456789abcdef"):
        raise WireError(f"window: {field} is not a SHA-256 in hexadecimal digits")
