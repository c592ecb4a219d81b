"""Kernels of edgeml/ir/ops_distances.py: distances to fixed points, the nearest of them, and cells by position.

The sums of one row and point stay in registers, column after column, as the op's meaning adds them; nothing but the
result takes memory, however many points there are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.ir.metrics import METRICS, Metric
from edgeml.ir.ops_distances import MOST_FACTORS
from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.scalar import exp, log, round32

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder


def _choose(condition: Any, x: Any, y: Any) -> Any:
    if condition:
        return x
    return y


def _difference(x: Any, y: Any, single: Any) -> Any:
    if single != 0:
        return round32(x - y)
    return x - y


def _no_power(d: Any) -> Any:
    return d


# Words: result and its step, x and its steps, columns, points, the points (points, columns), weights, whether
# differences are float32.
def _distances(name: str, metric: Metric) -> None:
    """Register the kernel of a metric."""
    step, finish = metric.step, metric.finish

    @kernel(f"distances_{name}", "words f cf n")
    def run(words: Any, f: Any, cf: Any, n: Any) -> None:
        o, o_step, a, a_step, a_row, columns = words[0], words[1], words[2], words[3], words[4], words[5]
        count, points, weights, single = words[6], words[7], words[8], words[9]
        for c in range(count):
            at = points + c * columns
            for r in range(n):
                first, second = 0.0, 0.0
                for j in range(columns):
                    x, y = f[a + j * a_step + r * a_row], cf[at + j]
                    d = _difference(x, y, single)
                    first, second = step(_choose, _no_power, first, second, x, y, d, cf[weights + j])
                f[o + c * o_step + r] = finish(_choose, first, second, np.float64(columns))


for _name, _metric in METRICS.items():
    if _name != "minkowski":
        _distances(_name, _metric)


@kernel("distances_minkowski", "words f cf n")
def minkowski(words: Any, f: Any, cf: Any, n: Any) -> None:
    """Words: as above, then the place of p, and how many factors stand for the power, 0 for exp(p log d)."""
    o, o_step, a, a_step, a_row, columns = words[0], words[1], words[2], words[3], words[4], words[5]
    count, points, weights, single, exponent, factors = words[6], words[7], words[8], words[9], words[10], words[11]
    p = cf[exponent]
    for c in range(count):
        at = points + c * columns
        for r in range(n):
            total = 0.0
            for j in range(columns):
                d = abs(_difference(f[a + j * a_step + r * a_row], cf[at + j], single))
                if factors > 0:
                    power = d
                    for _ in range(factors - 1):
                        power = power * d
                else:
                    power = exp(log(d) * p)
                total += cf[weights + j] * power
            f[o + c * o_step + r] = total


@kernel("distances_mahalanobis", "words f cf n")
def mahalanobis(words: Any, f: Any, cf: Any, n: Any) -> None:
    """Words: as above; the weights are a matrix."""
    o, o_step, a, a_step, a_row, columns = words[0], words[1], words[2], words[3], words[4], words[5]
    count, points, inverse, single = words[6], words[7], words[8], words[9]
    for c in range(count):
        at = points + c * columns
        for r in range(n):
            total = 0.0
            for i in range(columns):
                inner = 0.0
                for j in range(columns):
                    d = _difference(f[a + j * a_step + r * a_row], cf[at + j], single)
                    inner += cf[inverse + i * columns + j] * d
                total += inner * _difference(f[a + i * a_step + r * a_row], cf[at + i], single)
            f[o + c * o_step + r] = total


@encodes("Distances")
def encode_distances(e: Encoder, node: Node, value: int) -> None:
    attrs = node.attrs
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    metric, p, points = attrs["metric"], attrs["p"], attrs["points"]
    place = e.constants(value, "points", lambda: points.astype(np.float64))
    weights = e.constants(value, "weights", lambda: attrs["weights"])
    words = [out.offset, out.step, x.offset, x.step, x.row, x.width, points.shape[0], place, weights]
    words.append(int(x.dtype == "float32"))
    if metric == "minkowski":
        whole = p == int(p) and 1 <= p <= MOST_FACTORS
        words += [e.constants(value, "p", lambda: np.array([p])), int(p) if whole else 0]
    e.emit(f"distances_{metric}", *words)


def _before(x: Any, y: Any) -> Any:
    """Whether x stands before y: smaller, or a number before NaN."""
    return x < y or (y != y and x == x)


@kernel("top_k", "words f i n", scalar=True)
def top_k(words: Any, f: Any, i: Any, n: Any) -> None:
    """Words: result and its step, x and its steps, width, k. Positions are put in order as they come."""
    o, o_step, a, a_step, a_row, width, k = words[0], words[1], words[2], words[3], words[4], words[5], words[6]
    for r in range(n):
        held = 0
        for j in range(width):
            x = f[a + j * a_step + r * a_row]
            if held == k and not _before(x, f[a + i[o + (k - 1) * o_step + r] * a_step + r * a_row]):
                continue
            if held < k:
                held += 1
            at = held - 1
            while at > 0 and _before(x, f[a + i[o + (at - 1) * o_step + r] * a_step + r * a_row]):
                i[o + at * o_step + r] = i[o + (at - 1) * o_step + r]
                at -= 1
            i[o + at * o_step + r] = j


@encodes("TopK")
def encode_top_k(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    e.emit("top_k", out.offset, out.step, x.offset, x.step, x.row, x.width, node.attrs["k"])


@kernel("take_along", "words i n", scalar=True)
def take_along(words: Any, i: Any, n: Any) -> None:
    """Words: result and its step, x and its steps, positions, their steps, how many. Cells move as they are."""
    o, o_step, a, a_step, a_row = words[0], words[1], words[2], words[3], words[4]
    p, p_step, p_row, k = words[5], words[6], words[7], words[8]
    for j in range(k):
        for r in range(n):
            i[o + j * o_step + r] = i[a + i[p + j * p_step + r * p_row] * a_step + r * a_row]


@encodes("TakeAlong")
def encode_take_along(e: Encoder, node: Node, value: int) -> None:
    x, positions = (e.register(v) for v in node.inputs)
    out = e.allocate(value)
    e.emit(
        "take_along", out.offset, out.step, x.offset, x.step, x.row,
        positions.offset, positions.step, positions.row, out.width,
    )  # fmt: skip
