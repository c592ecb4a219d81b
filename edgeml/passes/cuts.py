"""Thresholds in raw units: where a monotone function of a float column passes a value, found by bisection over floats.

``cuts`` takes traces of cells.py and thresholds, and evaluates the very operations of each trace, many thresholds at
once: 64 steps settle every float64. What it finds is checked on both sides, and at both infinities, before anyone sees
it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from edgeml.errors import PassError
from edgeml.ir.table import Array
from edgeml.passes.cells import Monotone, run_steps

# Questions evaluated together: what a step computes stays in cache.
CHUNK = 1 << 14


def cuts(traces: Sequence[Monotone], which: Array, thresholds: Array, dtype: Sequence[str]) -> Array:
    """For question q, ``traces[which[q]] <= thresholds[q]``, the last base that comes before the answer changes.

    Where the trace rises: the largest base with ``trace(base) <= threshold``. Where it falls: the largest base with
    ``trace(base) > threshold``. NaN where there is none. ``dtype``: that of each trace's base. float64 (questions,).
    Raises PassError when a trace is not monotone after all.
    """
    result = np.empty(len(thresholds))
    groups: dict[object, list[int]] = defaultdict(list)
    for at, trace in enumerate(traces):
        groups[(dtype[at], trace.rises, tuple(step.kind for step in trace.steps))].append(at)
    group_of = np.empty(len(traces), dtype=np.int64)
    place = np.empty(len(traces), dtype=np.int64)
    for number, members in enumerate(groups.values()):
        group_of[members], place[members] = number, np.arange(len(members))
    for number, members in enumerate(groups.values()):
        first = traces[members[0]]
        kinds = [step.kind for step in first.steps]
        rows = [
            None
            if step.constant is None
            else np.concatenate([c for m in members if (c := traces[m].steps[at].constant) is not None])
            for at, step in enumerate(first.steps)
        ]
        questions = np.flatnonzero(group_of[which] == number)
        for start in range(0, len(questions), CHUNK):
            here = questions[start : start + CHUNK]
            mine = place[which[here]]
            constants = [None if row is None else row[mine] for row in rows]
            result[here] = _bisect(kinds, constants, thresholds[here], first.rises, dtype[members[0]])
    return result


def _bisect(
    kinds: Sequence[tuple[str, bool, bool, str, str]],
    constants: Sequence[Array | None],
    thresholds: Array,
    rises: bool,
    dtype: str,
) -> Array:
    def holds(place: Array) -> Array:
        value = run_steps(kinds, constants, _float_at(place, dtype)).astype(np.float64)
        answer: Array = value <= thresholds if rises else value > thresholds
        return answer

    # Places count the floats from -inf, 1, to +inf; 0 stands before them all.
    last = 2 * _infinity(dtype) + 1
    low = np.zeros(len(thresholds), dtype=np.uint64)
    high = np.full(len(thresholds), last, dtype=np.uint64)
    one = np.uint64(1)
    for _ in range(int(last).bit_length()):
        middle = low + ((high - low + one) >> one)
        yes = holds(np.maximum(middle, one)) & (middle > 0)
        moved = low < high
        low = np.where(yes & moved, middle, low)
        high = np.where(yes | ~moved, high, middle - one)
    below, above = low > 0, low < last
    wrong = below & ~(holds(np.maximum(low, one)) & holds(np.full_like(low, one)))
    wrong |= above & (holds(np.minimum(low + one, np.uint64(last))) | holds(np.full_like(low, last)))
    if (low != high).any() or wrong.any():
        raise PassError("a cut in raw units is not where the answer changes")
    return np.where(below, _float_at(np.maximum(low, one), dtype).astype(np.float64), np.nan)


def _infinity(dtype: str) -> int:
    """The bits of infinity: how many floats there are from +0.0 up to it, less one."""
    return 0x7FF0000000000000 if dtype == "float64" else 0x7F800000


def _float_at(place: Array, dtype: str) -> Array:
    """The float at a place; +0.0 for both zeros, which no operation on the way tells apart."""
    key = place.astype(np.int64) - np.int64(_infinity(dtype) + 1) if dtype != "float64" else _key64(place)
    size = np.abs(key)
    if dtype == "float64":
        number = size.view(np.float64)
    else:
        number = size.astype(np.int32).view(np.float32)
    result: Array = np.where(key < 0, -number, number)
    return result


def _key64(place: Array) -> Array:
    """The signed distance from zero; a place may be beyond int64, the difference is not."""
    zero = np.uint64(_infinity("float64") + 1)
    return np.where(place >= zero, (place - zero).view(np.int64), -((zero - place).view(np.int64)))
