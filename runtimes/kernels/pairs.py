"""Kernels of one-against-one classifiers: sums over groups of columns, probabilities of classes from those of pairs.

They compute the bits of edgeml/ir/ops_pairs.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.ir.ops_pairs import COUPLING_STEPS, COUPLING_TOLERANCE
from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.scalar import keep, round32

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder


def sum_groups(name: str, rounded: Callable[[Any], Any], view: str) -> None:
    """Register kernel ``name``. Words: result, its step, x, its steps, groups, columns of a group."""

    @kernel(name, f"words {view} n")
    def run(words: Any, f: Any, n: Any) -> None:
        o, o_step, a, a_step, a_row, groups, size = (
            words[0], words[1], words[2], words[3], words[4], words[5], words[6],
        )  # fmt: skip
        for g in range(groups):
            for r in range(n):
                f[o + g * o_step + r] = f[a + g * size * a_step + r * a_row]
            for j in range(1, size):
                x = a + (g * size + j) * a_step
                for r in range(n):
                    f[o + g * o_step + r] = rounded(f[o + g * o_step + r] + f[x + r * a_row])


sum_groups("sum_groups", keep, "f")
sum_groups("sum_groups32", round32, "f")
sum_groups("sum_groups_int", keep, "i")
_SUMS = {"float64": "sum_groups", "float32": "sum_groups32", "int64": "sum_groups_int"}


@encodes("SumGroups")
def encode_sum_groups(e: Encoder, node: Node, value: int) -> None:
    x, size = e.register(node.inputs[0]), int(node.attrs["size"])
    out = e.allocate(value)
    e.emit(_SUMS[x.dtype], out.offset, out.step, x.offset, x.step, x.row, x.width // size, size)


@kernel("couple_pairs", "words f cf n", scalar=True)
def couple_pairs(words: Any, f: Any, cf: Any, n: Any) -> None:
    """Words: result, its step, x, its steps, classes, most steps, room for a matrix and two rows of classes, and
    the error at which to stop.
    """
    o, o_step, a, a_step, a_row, k, most, q = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
    )  # fmt: skip
    p = q + k * k
    qp = p + k
    near = cf[words[8]]
    for r in range(n):
        # Above the diagonal x, below it 1 - x: the shares that a class has against each of the others.
        at = a + r * a_row
        for i in range(k):
            for j in range(i + 1, k):
                f[q + i * k + j] = f[at]
                f[q + j * k + i] = 1.0 - f[at]
                at += a_step
        for t in range(k):
            total = 0.0
            for j in range(k):
                if j != t:
                    total += f[q + j * k + t] * f[q + j * k + t]
            f[qp + t] = total
        for i in range(k):
            for j in range(i + 1, k):
                y = -(f[q + j * k + i] * f[q + i * k + j])
                f[q + i * k + j] = y
                f[q + j * k + i] = y
            f[q + i * k + i] = f[qp + i]
            f[p + i] = 1.0 / k
        for _ in range(most):
            pqp = 0.0
            for t in range(k):
                total = 0.0
                for j in range(k):
                    total += f[q + t * k + j] * f[p + j]
                f[qp + t] = total
                pqp += f[p + t] * total
            error = 0.0
            for t in range(k):
                own = abs(f[qp + t] - pqp)
                if own > error:
                    error = own
            if error < near:
                break
            for t in range(k):
                own = f[q + t * k + t]
                step = (-f[qp + t] + pqp) / own
                f[p + t] += step
                grown = 1.0 + step
                pqp = (pqp + step * (step * own + 2.0 * f[qp + t])) / grown / grown
                for j in range(k):
                    f[qp + j] = (f[qp + j] + step * f[q + t * k + j]) / grown
                    f[p + j] = f[p + j] / grown
        for t in range(k):
            f[o + t * o_step + r] = f[p + t]


@encodes("CouplePairs")
def encode_couple_pairs(e: Encoder, node: Node, value: int) -> None:
    x, k = e.register(node.inputs[0]), int(node.attrs["classes"])
    out, room = e.allocate(value), e.cells_of(k * k + 2 * k)
    near = e.constants(value, "near", lambda: np.array([COUPLING_TOLERANCE / k]))
    e.emit("couple_pairs", out.offset, out.step, x.offset, x.step, x.row, k, max(COUPLING_STEPS, k), room, near)
