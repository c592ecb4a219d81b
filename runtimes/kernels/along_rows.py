"""Ops that combine the columns of a row: sums, extremes, softmax and linear maps.

Sums run from the first column to the last, one addition at a time, as edgeml/ir defines them; the inner loops
run over the rows of the block, where the order is free.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.scalar import exp, keep, maximum, minimum, round32

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder


# --- reductions: words are result, place and steps of x, width ----------------------------------------------
def reduce(name: str, function: Callable[[Any, Any], Any], view: str) -> None:
    """Register kernel ``name``: function folded over the columns."""

    @kernel(name, f"words {view} n")
    def run(words: Any, x: Any, n: Any) -> None:
        o, a, a_step, a_row, width = words[0], words[1], words[2], words[3], words[4]
        for r in range(n):
            x[o + r] = x[a + r * a_row]
        for j in range(1, width):
            for r in range(n):
                x[o + r] = function(x[o + r], x[a + j * a_step + r * a_row])


def position(name: str, better: Callable[[Any, Any], Any], view: str) -> None:
    """Register kernel ``name``: position of the first cell that no other is better than; of the first NaN if any."""

    @kernel(name, f"words {view} i n")
    def run(words: Any, x: Any, i: Any, n: Any) -> None:
        o, a, a_step, a_row, width = words[0], words[1], words[2], words[3], words[4]
        for r in range(n):
            best = x[a + r * a_row]
            at = 0
            for j in range(1, width):
                y = x[a + j * a_step + r * a_row]
                if best == best and (better(y, best) or y != y):
                    best = y
                    at = j
            i[o + r] = at


def _sum(x: Any, y: Any) -> Any:
    return x + y


def _sum32(x: Any, y: Any) -> Any:
    return np.float64(np.float32(x + y))


def _more(x: Any, y: Any) -> Any:
    return x > y


def _less(x: Any, y: Any) -> Any:
    return x < y


reduce("reduce_sum", _sum, "f")
reduce("reduce_sum32", _sum32, "f")
reduce("reduce_sum_int", _sum, "i")
reduce("reduce_max", maximum, "f")
reduce("reduce_max_int", maximum, "i")
reduce("reduce_min", minimum, "f")
reduce("reduce_min_int", minimum, "i")
position("arg_max", _more, "f")
position("arg_max_int", _more, "i")
position("arg_min", _less, "f")
position("arg_min_int", _less, "i")

_KERNELS = {
    "ReduceSum": {"float64": "reduce_sum", "float32": "reduce_sum32", "int64": "reduce_sum_int"},
    "ReduceMax": {"float64": "reduce_max", "float32": "reduce_max", "int64": "reduce_max_int"},
    "ReduceMin": {"float64": "reduce_min", "float32": "reduce_min", "int64": "reduce_min_int"},
    "ArgMax": {"float64": "arg_max", "float32": "arg_max", "int64": "arg_max_int"},
    "ArgMin": {"float64": "arg_min", "float32": "arg_min", "int64": "arg_min_int"},
}


@encodes(*_KERNELS)
def along_row(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    e.emit(_KERNELS[node.op][x.dtype], out.offset, x.offset, x.step, x.row, x.width)


# --- softmax ------------------------------------------------------------------------------------------------
def softmax(name: str, rounded: Callable[[Any], Any]) -> None:
    """Register kernel ``name``: exp(x - max) / sum, every step rounded. Words: result, its step, x, width, one
    column.
    """

    @kernel(name, "words f n")
    def run(words: Any, f: Any, n: Any) -> None:
        o, o_step, a, a_step, a_row, width, t = (
            words[0],
            words[1],
            words[2],
            words[3],
            words[4],
            words[5],
            words[6],
        )
        for r in range(n):
            f[t + r] = f[a + r * a_row]
        for j in range(1, width):
            for r in range(n):
                f[t + r] = maximum(f[t + r], f[a + j * a_step + r * a_row])
        for j in range(width):
            for r in range(n):
                f[o + j * o_step + r] = rounded(exp(rounded(f[a + j * a_step + r * a_row] - f[t + r])))
        for r in range(n):
            f[t + r] = f[o + r]
        for j in range(1, width):
            for r in range(n):
                f[t + r] = rounded(f[t + r] + f[o + j * o_step + r])
        for j in range(width):
            for r in range(n):
                f[o + j * o_step + r] = rounded(f[o + j * o_step + r] / f[t + r])


softmax("softmax", keep)
softmax("softmax32", round32)


@encodes("Softmax")
def encode_softmax(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out, column = e.allocate(value), e.temporary(1)
    name = "softmax32" if x.dtype == "float32" else "softmax"
    e.emit(name, out.offset, out.step, x.offset, x.step, x.row, x.width, column.offset)


# --- linear -------------------------------------------------------------------------------------------------
def linear(name: str, rounded: Callable[[Any], Any]) -> None:
    """Register kernel ``name``: x @ weight + bias. Words: result and its step, x and its steps, inputs, outputs,
    weights (inputs, outputs), bias.

    Four inputs are added in one pass over the sums, in order: half the loads and stores of one at a time.
    """

    def add(total: Any, x: Any, w: Any) -> Any:
        return rounded(total + rounded(x * w))

    def add4(total: Any, x0: Any, w0: Any, x1: Any, w1: Any, x2: Any, w2: Any, x3: Any, w3: Any) -> Any:
        return add(add(add(add(total, x0, w0), x1, w1), x2, w2), x3, w3)

    def one_row(
        f: Any, cf: Any, o: Any, step: Any, a: Any, a_step: Any, inputs: Any, outputs: Any, weight: Any
    ) -> None:
        """The outputs are the inner loop: their weights lie side by side."""
        fours = inputs & ~3
        for k in range(0, fours, 4):
            x0, x1, x2, x3 = (
                f[a + k * a_step],
                f[a + (k + 1) * a_step],
                f[a + (k + 2) * a_step],
                f[a + (k + 3) * a_step],
            )
            w = weight + k * outputs
            for c in range(outputs):
                f[o + c * step] = add4(
                    f[o + c * step],
                    x0, cf[w + c],
                    x1, cf[w + outputs + c],
                    x2, cf[w + 2 * outputs + c],
                    x3, cf[w + 3 * outputs + c],
                )  # fmt: skip
        for k in range(fours, inputs):
            x0 = f[a + k * a_step]
            for c in range(outputs):
                f[o + c * step] = add(f[o + c * step], x0, cf[weight + k * outputs + c])

    def rows(
        f: Any,
        cf: Any,
        o: Any,
        step: Any,
        a: Any,
        a_step: Any,
        row: Any,
        inputs: Any,
        outputs: Any,
        w: Any,
        c: Any,
        n: Any,
    ) -> None:
        """Output ``c`` of all rows of the block: the rows are the inner loop."""
        to, fours = o + c * step, inputs & ~3
        for k in range(0, fours, 4):
            x = a + k * a_step
            at = w + k * outputs + c
            w0, w1, w2, w3 = cf[at], cf[at + outputs], cf[at + 2 * outputs], cf[at + 3 * outputs]
            for r in range(n):
                f[to + r] = add4(
                    f[to + r],
                    f[x + r * row], w0,
                    f[x + a_step + r * row], w1,
                    f[x + 2 * a_step + r * row], w2,
                    f[x + 3 * a_step + r * row], w3,
                )  # fmt: skip
        for k in range(fours, inputs):
            w0 = cf[w + k * outputs + c]
            for r in range(n):
                f[to + r] = add(f[to + r], f[a + k * a_step + r * row], w0)

    def rows2(
        f: Any,
        cf: Any,
        o: Any,
        step: Any,
        a: Any,
        a_step: Any,
        row: Any,
        inputs: Any,
        outputs: Any,
        w: Any,
        c: Any,
        n: Any,
    ) -> None:
        """Outputs ``c`` and ``c + 1``, which share the loads of x; as many inputs as make fours."""
        to, too = o + c * step, o + (c + 1) * step
        for k in range(0, inputs & ~3, 4):
            x = a + k * a_step
            at = w + k * outputs + c
            w0, w1, w2, w3 = cf[at], cf[at + outputs], cf[at + 2 * outputs], cf[at + 3 * outputs]
            v0, v1, v2, v3 = cf[at + 1], cf[at + outputs + 1], cf[at + 2 * outputs + 1], cf[at + 3 * outputs + 1]
            for r in range(n):
                x0, x1 = f[x + r * row], f[x + a_step + r * row]
                x2, x3 = f[x + 2 * a_step + r * row], f[x + 3 * a_step + r * row]
                f[to + r] = add4(f[to + r], x0, w0, x1, w1, x2, w2, x3, w3)
                f[too + r] = add4(f[too + r], x0, v0, x1, v1, x2, v2, x3, v3)

    def block(
        f: Any, cf: Any, o: Any, step: Any, a: Any, a_step: Any, row: Any, inputs: Any, outputs: Any, w: Any, n: Any
    ) -> None:
        """All outputs of all rows of the block."""
        pairs = outputs & ~1 if inputs & 3 == 0 else 0
        for c in range(0, pairs, 2):
            rows2(f, cf, o, step, a, a_step, row, inputs, outputs, w, c, n)
        for c in range(pairs, outputs):
            rows(f, cf, o, step, a, a_step, row, inputs, outputs, w, c, n)

    def look_up(
        f: Any, i: Any, cf: Any, o: Any, step: Any, code: Any, row: Any, table: Any, count: Any, outputs: Any, n: Any
    ) -> None:
        """Add each row's row of the table, four outputs at a time: their columns stay in the level-1 cache."""
        fours = outputs & ~3
        for c in range(0, fours, 4):
            for r in range(n):
                k = i[code + r * row]
                w = table + (k if k >= 0 and k < count else count) * outputs + c
                to = o + c * step + r
                f[to] = rounded(f[to] + cf[w])
                f[to + step] = rounded(f[to + step] + cf[w + 1])
                f[to + 2 * step] = rounded(f[to + 2 * step] + cf[w + 2])
                f[to + 3 * step] = rounded(f[to + 3 * step] + cf[w + 3])
        for c in range(fours, outputs):
            for r in range(n):
                k = i[code + r * row]
                w = table + (k if k >= 0 and k < count else count) * outputs + c
                f[o + c * step + r] = rounded(f[o + c * step + r] + cf[w])

    @kernel(name, "words f cf n")
    def run(words: Any, f: Any, cf: Any, n: Any) -> None:
        o, step, a, a_step, a_row = words[0], words[1], words[2], words[3], words[4]
        inputs, outputs, weight, bias = words[5], words[6], words[7], words[8]
        for c in range(outputs):
            for r in range(n):
                f[o + c * step + r] = 0.0
        if n == 1:
            one_row(f, cf, o, step, a, a_step, inputs, outputs, weight)
        else:
            block(f, cf, o, step, a, a_step, a_row, inputs, outputs, weight, n)
        for c in range(outputs):
            for r in range(n):
                f[o + c * step + r] = rounded(f[o + c * step + r] + cf[bias + c])

    @kernel(f"table_{name}", "words f i cf n")
    def with_tables(words: Any, f: Any, i: Any, cf: Any, n: Any) -> None:
        """Words: those of ``name``, how many codes, and for each one its place and row stride, how many columns of x
        come before, its rows of the table and how many. A row of zeros stands behind them, for codes outside.
        """
        o, step, a, a_step, a_row = words[0], words[1], words[2], words[3], words[4]
        inputs, outputs, weight, bias, codes = words[5], words[6], words[7], words[8], words[9]
        for c in range(outputs):
            for r in range(n):
                f[o + c * step + r] = 0.0
        done, at = 0, 10
        for t in range(codes + 1):
            stop = words[at + 2] if t < codes else inputs
            if n == 1 and stop > done:
                one_row(f, cf, o, step, a + done * a_step, a_step, stop - done, outputs, weight + done * outputs)
            elif stop > done:
                w = weight + done * outputs
                block(f, cf, o, step, a + done * a_step, a_step, a_row, stop - done, outputs, w, n)
            done = stop
            if t < codes:
                code, row, table, count = words[at], words[at + 1], words[at + 3], words[at + 4]
                if n == 1:
                    k = i[code]
                    w = table + (k if k >= 0 and k < count else count) * outputs
                    for c in range(outputs):
                        f[o + c * step] = rounded(f[o + c * step] + cf[w + c])
                else:
                    look_up(f, i, cf, o, step, code, row, table, count, outputs, n)
                at += 5
        for c in range(outputs):
            for r in range(n):
                f[o + c * step + r] = rounded(f[o + c * step + r] + cf[bias + c])


linear("linear", keep)
linear("linear32", round32)


@encodes("Linear")
def encode_linear(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    weight = e.constants(value, "weight", lambda: node.attrs["weight"].astype(np.float64))
    bias = e.constants(value, "bias", lambda: node.attrs["bias"].astype(np.float64))
    name = "linear32" if x.dtype == "float32" else "linear"
    e.emit(name, out.offset, out.step, x.offset, x.step, x.row, *node.attrs["weight"].shape, weight, bias)


@encodes("TableLinear")
def encode_table_linear(e: Encoder, node: Node, value: int) -> None:
    attrs, out = node.attrs, e.allocate(value)
    x, *codes = (e.register(v) for v in node.inputs)
    weight = e.constants(value, "weight", lambda: attrs["weight"].astype(np.float64))
    bias = e.constants(value, "bias", lambda: attrs["bias"].astype(np.float64))
    table = e.constants(value, "table", lambda: _tables(attrs["table"], attrs["starts"]))
    words = [out.offset, out.step, x.offset, x.step, x.row, *attrs["weight"].shape, weight, bias, len(codes)]
    for t, (code, start) in enumerate(zip(codes, attrs["starts"].tolist(), strict=False)):
        rows = int(attrs["starts"][t + 1]) - start
        words += [code.offset, code.row, int(attrs["after"][t]), table + (start + t) * out.width, rows]
    e.emit("table_linear32" if x.dtype == "float32" else "table_linear", *words)


def _tables(table: Array, starts: Array) -> Array:
    """The tables one behind the other, float64, each with a row of zeros at its end."""
    zero = np.zeros((1, table.shape[1]))
    parts = [part for first, end in pairwise(starts.tolist()) for part in (table[first:end].astype(np.float64), zero)]
    return np.concatenate([*parts, zero[:0]])
