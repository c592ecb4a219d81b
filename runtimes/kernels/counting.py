"""Histograms of what a model sees: kernels that put cells into the bins of the reference profile and count them.

They belong to no op: ``edgeml.runtimes.recording_plans`` writes their instructions. Counts are int64 cells of scratch.
A record's slots are those of ``edgeml.profile.slot_names``: below, the bins, above, NaN, minus and plus infinity. The
edges of a float record are its last edge, then the starts of its bins, filled up with NaN, which no cell reaches; those
of an int64 record are the last edge and the starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.runtimes.kernels.registry import kernel

# Latencies, as edgeml/telemetry/window.py has them: bits of the shortest and of the longest one told apart.
FIRST_BITS, LAST_BITS = 10, 36
EXPONENT, HALF = 52, 51
BIAS = 1022


def float_slot(x: Any, edges: Any, start: Any, padded: Any, bins: Any) -> Any:
    """The slot of x; the loop has no branch, so that it becomes vector instructions."""
    if x - x == 0.0:
        at = np.int64(0)
        for k in range(1, padded + 1):
            at += np.int64(edges[start + k] <= x)
        return at + np.int64(x > edges[start])
    if x != x:
        return bins + 2
    return bins + 3 + np.int64(x > 0.0)


def int_slot(x: Any, edges: Any, start: Any, bins: Any) -> Any:
    if bins == 0:
        return np.int64(1)
    at = np.int64(0)
    for k in range(1, bins + 1):
        at += np.int64(edges[start + k] <= x)
    return at + np.int64(x > edges[start])


def of_bits(x: Any) -> Any:
    """The float64 whose bits x holds: ports of 8-byte elements are int64."""
    return np.int64(x).view(np.float64)


def widened(x: Any) -> Any:
    return np.float64(x)


# --- a column of a batch, straight from the caller's array ----------------------------------------------------------
# Words: port, column, columns of the port, counts, edges, padded, bins.
def _count_floats(name: str, view: str, float64: Any) -> None:
    """Register kernel ``name`` over ports of ``view``, whose elements ``float64`` reads."""

    @kernel(name, f"words i cf {view} first n")
    def run(words: Any, i: Any, edges: Any, ports: Any, first: Any, n: Any) -> None:
        port, c, total, counts, start, padded, bins = (
            words[0], words[1], words[2], words[3], words[4], words[5], words[6],
        )  # fmt: skip
        x = ports[port]
        for r in range(n):
            cell = float64(x[(first + r) * total + c])
            i[counts + float_slot(cell, edges, start, padded, bins)] += 1


_count_floats("count_float64", "p64", of_bits)
_count_floats("count_float32", "p32", widened)


@kernel("count_int64", "words i ci p64 first n")
def count_int64(words: Any, i: Any, edges: Any, ports: Any, first: Any, n: Any) -> None:
    port, c, total, counts, start, bins = words[0], words[1], words[2], words[3], words[4], words[6]
    x = ports[port]
    for r in range(n):
        i[counts + int_slot(x[(first + r) * total + c], edges, start, bins)] += 1


@kernel("count_bool", "words i p8 first n")
def count_bool(words: Any, i: Any, ports: Any, first: Any, n: Any) -> None:
    """Words: port, column, columns of the port, the places where False and True are counted."""
    port, c, total, false, true = words[0], words[1], words[2], words[3], words[4]
    x = ports[port]
    found = np.int64(0)
    for r in range(n):
        found += np.int64(x[(first + r) * total + c] != 0)
    i[false] += n - found
    i[true] += found


# --- one row, written into scratch by the caller ---------------------------------------------------------------------
# Words: the cells, how many, and for each counts, edges, padded, bins.
@kernel("count_cells", "words f i cf")
def count_cells(words: Any, f: Any, i: Any, edges: Any) -> None:
    a, width = words[0], words[1]
    at = 2
    for j in range(width):
        i[words[at] + float_slot(f[a + j], edges, words[at + 1], words[at + 2], words[at + 3])] += 1
        at += 4


@kernel("count_int_cells", "words i ci")
def count_int_cells(words: Any, i: Any, edges: Any) -> None:
    a, width = words[0], words[1]
    at = 2
    for j in range(width):
        i[words[at] + int_slot(i[a + j], edges, words[at + 1], words[at + 3])] += 1
        at += 4


@kernel("count_places", "words i")
def count_places(words: Any, i: Any) -> None:
    """Words: the cells, how many, the first count. Each cell says which count grows."""
    a, width, counts = words[0], words[1], words[2]
    for j in range(width):
        i[counts + i[a + j]] += 1


# --- the call itself -------------------------------------------------------------------------------------------------
@kernel("count_call", "words i n")
def count_call(words: Any, i: Any, n: Any) -> Any:
    """Words: the cell with the call's nanoseconds, counts of latencies, count of rows, rows that are enough.

    Comes last, and "refuses" when the rows are enough: all is counted by then, and the caller closes the window.
    """
    latency, rows = words[1], words[2]
    bits = np.float64(i[words[0]]).view(np.int64)
    length = (bits >> EXPONENT) - BIAS
    at = np.int64(0)
    if length > LAST_BITS:
        at = np.int64(2 * (LAST_BITS - FIRST_BITS) + 3)
    elif length >= FIRST_BITS:
        at = 2 * (length - FIRST_BITS) + 1 + ((bits >> HALF) & 1)
    i[latency + at] += 1
    i[rows] += n
    if i[rows] >= words[3]:
        return 1
    return 0
