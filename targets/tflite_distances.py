"""Squared distances to fixed points, in float32 without cancellation.

scikit-learn computes |x|^2 - 2 x.c + |c|^2, in float64. In float32 that formula loses all digits for a row close to a
point; the sum of (x - c)^2 keeps them.
"""

from __future__ import annotations

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.passes import patterns
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_quantised_ops import wide

# Differences of one row held at once; beyond it the formula is kept.
_MOST_CELLS = 2**16


def squared_distances(w: Lowering, node: Node) -> Tensor | None:
    """The result of an Add that ends the formula, None for any other."""
    found = patterns.squared_distances(w.program, node)
    if found is None:
        return None
    linear, points = w.node(found.product), found.points
    assert linear is not None
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
