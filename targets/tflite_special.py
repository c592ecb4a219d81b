"""TFLite lowerings of the special functions (edgeml/ir/ops_special.py) in float32.

Powers, sines and cosines are builtins. For the others the formulas of edgeml/ir/elementary_*.py are written out in the
graph: their polynomials near 0 keep float32's digits, where a runtime's exponential and logarithm do not (XNNPACK's
logarithm of 1.00001 has two). Errors that were measured stand beside the functions.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.ir.elementary_special import Vocabulary, erf_of, expm1_of, log1p_of
from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.terms import Term, unary, where
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers

# From here on the next angle of float32 is further away than the 1e-5 that a sine may be off. Far beyond, from 1e6 on,
# XNNPACK reduces the angle wrongly, too, and gives NaN in the end.
LARGEST_ANGLE = 128.0
# Columns of a convolution that are multiplied at once.
_AT_ONCE = 16
_BUILTINS = {
    "Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Neg": "NEG", "Abs": "ABS", "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL", "Greater": "GREATER", "GreaterOrEqual": "GREATER_EQUAL", "Equal": "EQUAL",
    "Not": "LOGICAL_NOT", "And": "LOGICAL_AND", "Or": "LOGICAL_OR", "Where": "SELECT_V2", "Round": "ROUND",
    "Floor": "FLOOR", "Exp": "EXP", "Log": "LOG", "Sqrt": "SQRT", "Sin": "SIN", "Cos": "COS",
}  # fmt: skip
_BOOLS = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Not", "And", "Or")


class Float32(Term):
    """A float32 or bool tensor of the graph, (rows or 1, width)."""

    def __init__(self, lowering: Lowering, tensor: Tensor) -> None:
        self.lowering, self.tensor = lowering, tensor

    def op(self, name: str, *operands: Any) -> Float32:
        g, w = self.lowering.graph, self.lowering
        xs = [x.tensor if isinstance(x, Float32) else g.constant(w.number(np.full((1, 1), x))) for x in operands]
        rows = ROWS if any(x.shape[0] == ROWS for x in xs) else 1
        shape = (rows, max(x.shape[1] for x in xs))
        return Float32(w, g.op(_BUILTINS[name], xs, shape, "bool" if name in _BOOLS else "float32"))

    def columns(self, indices: list[int]) -> Float32:
        """Columns by position."""
        return Float32(self.lowering, self.lowering.graph.gather(self.tensor, np.array(indices, np.int32), axis=1))

    def beside(self, others: list[Float32]) -> Float32:
        """This one's columns and those of others of as many rows."""
        tensors = [self.tensor, *(x.tensor for x in others)]
        shape = (self.tensor.shape[0], sum(x.shape[1] for x in tensors))
        return Float32(self.lowering, self.lowering.graph.op("CONCATENATION", tensors, shape, axis=1))

    def linear(self, weight: Array) -> Float32:
        """The product with a matrix, one row of ``weight`` for each column of the result."""
        shape, bias = (self.tensor.shape[0], len(weight)), np.zeros(len(weight), np.float32)
        return Float32(self.lowering, self.lowering.graph.op("FULLY_CONNECTED", [self.tensor, weight, bias], shape))

    def total(self) -> Float32:
        """The sum of each row."""
        return Float32(self.lowering, self.lowering.graph.reduce("SUM", self.tensor, 1, keep=True))


def _exp(x: Float32) -> Float32:
    """XNNPACK's exponential of NaN is 0."""
    result: Float32 = where(x == x, x.op("Exp", x), x)
    return result


_GRAPH = Vocabulary(
    where=where,
    nearest=unary("Round"),
    floor=unary("Floor"),
    exp=_exp,
    log=unary("Log"),
    sqrt=unary("Sqrt"),
    sin=unary("Sin"),
    cos=unary("Cos"),
)
FORMULAS = {"Log1p": log1p_of(_GRAPH), "Expm1": expm1_of(_GRAPH), "Erf": erf_of(_GRAPH)}


@lowers(*FORMULAS)
def formula(w: Lowering, node: Node, x: Value) -> Tensor:
    result: Tensor = FORMULAS[node.op](Float32(w, x.tensor)).tensor
    return result


@lowers("Pow")
def power(w: Lowering, node: Node, x: Value, y: Value) -> Tensor:
    return w.graph.op("POW", [x.tensor, y.tensor], w.shape(node, x, y))


@lowers("Sin", "Cos")
def wave(w: Lowering, node: Node, x: Value) -> Tensor:
    """Rows with an angle beyond LARGEST_ANGLE are refused: float32 does not know where on the circle they are."""
    if not x.one_row:
        beyond = (abs(Float32(w, x.tensor)) > LARGEST_ANGLE).tensor
        where_ = f"step {w.origin}" if w.origin else "the pipeline"
        message = (
            f"an angle of {where_} is beyond {LARGEST_ANGLE:g}, more than the float32 arithmetic of TFLite resolves"
        )
        w.check(w.none_of(beyond), {"op": "Require", "message": message, "kind": "range"})
    return w.graph.op(node.op.upper(), [x.tensor], x.shape)


@lowers("Convolve")
def convolve(w: Lowering, node: Node, x: Value, y: Value) -> Tensor:
    """Column k is the sum of x[k - j] y[j]: some j at a time, of windows that slide over x side by side with itself."""
    g, width = w.graph, node.type.width
    rows = w.shape(node, x, y)[0]
    cells = w.all_rows(x) if rows == ROWS else x.tensor
    twice = g.op("CONCATENATION", [cells, cells], (rows, 2 * width), axis=1)
    total: Tensor | None = None
    for first in range(0, width, _AT_ONCE):
        count = min(_AT_ONCE, width - first)
        begin, span = width - first - count + 1, width + count - 1
        window = _part(w, twice, begin, span)
        at = np.arange(width)[:, None] + np.arange(count)[None, ::-1]
        moved = g.reshape(g.gather(window, at.astype(np.int32).reshape(-1), axis=1), (rows, width, count))
        factor = g.reshape(_part(w, y.tensor, first, count), (y.shape[0], 1, count))
        part = g.reduce("SUM", g.op("MUL", [moved, factor], (rows, width, count)), 2)
        total = part if total is None else g.op("ADD", [total, part], (rows, width))
    assert total is not None
    return total


def _part(w: Lowering, x: Tensor, begin: int, count: int) -> Tensor:
    """Neighbouring columns."""
    size = np.array([-1, count], np.int32)
    return w.graph.op("SLICE", [x, np.array([0, begin], np.int32), size], (x.shape[0], count))
