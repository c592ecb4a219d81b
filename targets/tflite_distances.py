"""Squared distances to fixed points, in float32 without cancellation.

scikit-learn computes |x|^2 - 2 x.c + |c|^2, in float64. In float32 that formula loses all digits for a row close to a
point; the sum of (x - c)^2 keeps them.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_kinds import LINEAR
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_quantised_ops import wide

# Differences of one row held at once; beyond it the formula is kept.
_MOST_CELLS = 2**16


def squared_distances(w: Lowering, node: Node) -> Tensor | None:
    """The result of an Add that ends the formula, None for any other."""
    found = _formula(w, node)
    if found is None:
        return None
    linear, points = found
    x, (count, width) = w.value(linear.inputs[0]), points.shape
    if count * width > _MOST_CELLS or x.one_row:
        return None
    g = w.graph
    rows: Tensor = g.reshape(x.tensor, (ROWS, 1, width))
    fixed: Tensor | Array = w.number(points)
    if linear.op == "QuantizedLinear":  # half of its weights are the points with the other sign
        rows, half = g.op("NEG", [rows], rows.shape), wide(w, linear, 0.5)
        fixed = half.tensor
        if half.scale is not None:
            fixed = g.op("MUL", [fixed, half.scale[:, None]], fixed.shape)
    difference = g.op("SQUARED_DIFFERENCE", [rows, fixed], (ROWS, count, width))
    return g.reduce("SUM", difference, 2)


def _formula(w: Lowering, node: Node) -> tuple[Node, Array] | None:
    """The linear map and the points where the node is (-2 x.c + |x|^2) + |c|^2."""
    for inner, norms in _orders(node):
        total, constant = w.node(inner), w.node(norms)
        if total is None or total.op != "Add" or constant is None or constant.op != "Constant":
            continue
        for product, square in _orders(total):
            linear, size = w.node(product), w.node(square)
            if linear is None or linear.op not in LINEAR or linear.attrs["bias"].any() or size is None:
                continue
            points = -0.5 * (linear.attrs["weight"] * linear.attrs.get("scale", 1.0)).T
            same = np.allclose(constant.attrs["value"], (points * points).sum(axis=1), rtol=1e-9, atol=0)
            if same and _is_norm_of(w, size, linear.inputs[0]):
                return linear, points
    return None


def _orders(node: Node) -> list[tuple[int, int]]:
    a, b = node.inputs
    return [(a, b), (b, a)]


def _is_norm_of(w: Lowering, node: Node, value: int) -> bool:
    """Whether a node is the sum of the squares of a value."""
    square = w.node(node.inputs[0]) if node.op == "ReduceSum" else None
    return square is not None and square.op == "Mul" and square.inputs == (value, value)
