"""Loops over a program of their own, and systems of linear equations.

A loop's body stands between two instructions of its own: the first copies the state, the second keeps that of rows that
are done and goes back while others go on. Meaning and order of operations: edgeml/ir/ops_iterate.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder

# Flags of a row: it goes on, and its body said that it shall.
ACTIVE, MORE = 1, 2


@kernel("loop_start", "words i n")
def loop_start(words: Any, i: Any, n: Any) -> None:
    """Words: the state's place and step, the first state and its steps, width, place of flags, of rounds, rounds."""
    o, o_step, a, a_step, a_row, width = words[0], words[1], words[2], words[3], words[4], words[5]
    flags, rounds, most = words[6], words[7], words[8]
    for j in range(width):
        for r in range(n):
            i[o + j * o_step + r] = i[a + j * a_step + r * a_row]
    for r in range(n):
        i[flags + r] = ACTIVE
    i[rounds] = most


@kernel("loop_next", "words i n")
def loop_next(words: Any, i: Any, n: Any) -> Any:
    """Words: the state's place and step, the next state and its steps, width, more and its row step, place of flags, of
    rounds, words to go back by. ``more`` may be a column of the state: it is read first.
    """
    o, o_step, a, a_step, a_row, width = words[0], words[1], words[2], words[3], words[4], words[5]
    more, more_row, flags, rounds, back = words[6], words[7], words[8], words[9], words[10]
    for r in range(n):
        if i[more + r * more_row] != 0:
            i[flags + r] |= MORE
    for j in range(width):
        for r in range(n):
            x = i[a + j * a_step + r * a_row]
            i[o + j * o_step + r] = x if i[flags + r] & ACTIVE else i[o + j * o_step + r]
    active = np.int64(0)
    for r in range(n):
        go_on = np.int64(i[flags + r] == ACTIVE + MORE)
        i[flags + r] = go_on
        active |= go_on
    i[rounds] -= 1
    return -back if active != 0 and i[rounds] > 0 else 0


@encodes("Loop")
def encode_loop(e: Encoder, node: Node, value: int) -> None:
    state, *given = (e.register(v) for v in node.inputs)
    out, flags, rounds = e.allocate(value), e.temporary(1).offset, e.cells_of(1)
    first = (out.offset, out.step, state.offset, state.step, state.row, out.width)
    e.emit("loop_start", *first, flags, rounds, node.attrs["most"])
    start = e.length
    with e.body(node.attrs["body"], value, [out, *given]) as results:
        after, more = results["state"], results["more"]
        step = (out.offset, out.step, after.offset, after.step, after.row, out.width)
        e.emit("loop_next", *step, more.offset, more.row, flags, rounds, e.length - start)


@kernel("solve", "words f n")
def solve(words: Any, f: Any, n: Any) -> None:
    """Words: result and its step, matrix and its steps, right side and its steps, k, k * (k + 1) / 2 cells."""
    o, o_step, m, m_step, m_row = words[0], words[1], words[2], words[3], words[4]
    b, b_step, b_row, k, low = words[5], words[6], words[7], words[8], words[9]
    for r in range(n):
        for j in range(k):
            at_j = low + j * (j + 1) // 2
            for c in range(j, k):
                at = low + c * (c + 1) // 2
                total = f[m + (c * k + j) * m_step + r * m_row]
                for t in range(j):
                    total = total - f[at + t] * f[at_j + t]
                if c == j:
                    f[at_j + j] = math.sqrt(total) if total > 0.0 else np.nan
                else:
                    f[at + j] = total / f[at_j + j]
        for c in range(k):
            at = low + c * (c + 1) // 2
            x = f[b + c * b_step + r * b_row]
            for t in range(c):
                x = x - f[at + t] * f[o + t * o_step + r]
            f[o + c * o_step + r] = x / f[at + c]
        for d in range(k):
            c = k - 1 - d
            x = f[o + c * o_step + r]
            for t in range(c + 1, k):
                x = x - f[low + t * (t + 1) // 2 + c] * f[o + t * o_step + r]
            f[o + c * o_step + r] = x / f[low + c * (c + 1) // 2 + c]


@encodes("Solve")
def encode_solve(e: Encoder, node: Node, value: int) -> None:
    matrix, right = (e.register(v) for v in node.inputs)
    out = e.allocate(value)
    k = right.width
    places = (out.offset, out.step, matrix.offset, matrix.step, matrix.row, right.offset, right.step, right.row)
    e.emit("solve", *places, k, e.cells_of(k * (k + 1) // 2))
