"""Squared distances to fixed points, in float32 without cancellation, and what tells which point is the nearest.

scikit-learn computes |x|^2 - 2 x.c + |c|^2, in float64. In float32 that formula loses all digits for a row close to a
point; the sum of (x - c)^2 keeps them. For a row far from all points that sum is one number for all of them: there
|c|^2 - 2 x.c, seen from the middle of the points, tells them apart.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.passes import patterns
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_quantised_ops import wide

# Differences of one row held at once; beyond it the formula is kept.
_MOST_CELLS = 2**16
# Further away than so many times the size of the cloud of points, float32 sees them all in one place.
_FAR = 2.0**20


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


def scores_of_points(w: Lowering, value: int) -> Tensor | None:
    """Scores whose smallest is that of the nearest point, where a value is squared distances, none below 0; else None.

    Rows that are so far from the points that scikit-learn's own answer is rounding are refused.
    """
    node = w.node(value)
    while node is not None and _keeps_nearest(w, node):
        node = w.node(node.inputs[-1 if node.op == "Where" else 0])
    found = None if node is None else patterns.squared_distances(w.program, node)
    linear = None if found is None else w.node(found.product)
    if found is None or linear is None or linear.op != "Linear":
        return None
    g, x = w.graph, w.value(linear.inputs[0])
    middle = found.points.mean(axis=0, dtype=np.float64).astype(np.float32)
    around = found.points - middle
    seen = g.op("SUB", [x.tensor, middle[None, :]], x.shape)
    size = float(np.abs(around).max())
    if size > 0.0 and not x.one_row:
        limit = np.full((1, 1), min(_FAR * size, float(np.finfo(np.float32).max)), np.float32)
        beyond = g.op("GREATER", [g.op("ABS", [seen], seen.shape), limit], seen.shape, "bool")
        message = (
            f"a row at step {w.origin or 'of the pipeline'} is so far from all points that they are one place in the "
            "float32 arithmetic of TFLite"
        )
        w.check(w.none_of(beyond), {"op": "Require", "message": message, "kind": "range"})
    weight, bias = w.number(-2.0 * around), w.number((around * around).sum(axis=1))
    return g.op("FULLY_CONNECTED", [seen, weight, bias], (x.shape[0], len(around)))


def _keeps_nearest(w: Lowering, node: Node) -> bool:
    """Whether the nearest point is the same before the op. NaN, made 0, is left of rows that are refused."""
    if node.op == "Where":
        nan = w.node(node.inputs[0])
        return nan is not None and nan.op == "IsNaN" and nan.inputs[0] == node.inputs[2] and w.is_zero(node.inputs[1])
    return node.op == "Cast" or (node.op == "Maximum" and w.is_zero(node.inputs[1]))
