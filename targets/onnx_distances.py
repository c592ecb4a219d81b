"""ONNX lowerings of edgeml/ir/ops_distances.py: distances column by column, the nearest, and cells by position.

In comes the op, out goes its ONNX value. The sums of all points grow side by side, (rows, points), as the columns are
added one after the other: no (rows, points, columns) is ever held. Few columns are written out one by one; for many the
same nodes are the body of a Scan over the columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.ir.metrics import MAHALANOBIS, METRICS
from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import DTYPES, Tensor, Writer, lowers
from edgeml.targets.onnx_search import smallest
from edgeml.targets.onnx_terms import Cells
from edgeml.targets.terms import where

_UNROLLED = 12


@lowers("Distances")
def distances(w: Writer, node: Node, x: Tensor) -> ir.Value:
    attrs = node.attrs
    points, metric = attrs["points"], attrs["metric"]
    if metric == MAHALANOBIS:
        return _mahalanobis(w, x, points, attrs["weights"])
    chosen, width = METRICS[metric], float(points.shape[1])

    def power(d: Cells) -> Cells:
        return d.op("Pow", d, attrs["p"])

    def step(
        a: ir.Value, b: ir.Value, column: ir.Value, cells: ir.Value, weight: ir.Value
    ) -> tuple[ir.Value, ir.Value]:
        """Both sums with one more column: x (rows, 1), points (1, m) in the dtype of x, weight (1, 1)."""
        d = w.op("Sub", column, cells)
        if x.type.dtype == "float32":
            d, column, cells = (w.cast(v, "float64") for v in (d, column, cells))
        first, second = chosen.step(
            where,
            power,
            Cells(w, a),
            Cells(w, b),
            Cells(w, column),
            Cells(w, cells),
            Cells(w, d),
            Cells(w, weight),
        )
        return first.value, second.value

    rows = w.op("Slice", w.as_float64(x), np.array([0]), np.array([1]), np.array([1]))
    zeros = w.op("Mul", w.op("Cast", w.op("Not", w.op("Equal", rows, rows)), to=DTYPES["float64"]), np.zeros((1, 1)))
    a = b = w.op("Add", zeros, np.zeros((1, points.shape[0])))
    weights = attrs["weights"]
    if points.shape[1] <= _UNROLLED:
        for j in range(points.shape[1]):
            column = w.op("Slice", x.value, np.array([j]), np.array([j + 1]), np.array([1]))
            a, b = step(a, b, column, w.stored(points[None, :, j]), w.stored(weights[j : j + 1, None]))
    else:
        a, b = _scan(w, step, (a, b), (x.value, w.stored(points), w.stored(weights[:, None, None])), x, points.shape[0])
    result: ir.Value = chosen.finish(where, Cells(w, a), Cells(w, b), width).value
    return result


def _scan(
    w: Writer, step: Any, sums: Sequence[ir.Value], over: Sequence[ir.Value], x: Tensor, count: int
) -> Sequence[ir.Value]:
    """``step`` folded over the columns by a Scan: axis 1 of x (rows, k) and of the points, axis 0 of the weights."""
    kinds = (DTYPES["float64"], DTYPES["float64"], DTYPES[x.type.dtype], DTYPES[x.type.dtype], DTYPES["float64"])
    shapes = ((None, count), (None, count), (None,), (count,), (1, 1))
    inputs = [
        ir.Value(name=w.unique("fold"), type=ir.TensorType(kind), shape=ir.Shape(shape))
        for kind, shape in zip(kinds, shapes, strict=True)
    ]
    outer, w.nodes = w.nodes, []
    column = w.op("Unsqueeze", inputs[2], np.array([1]))
    cells = w.op("Unsqueeze", inputs[3], np.array([0]))
    outputs = [w.op("Identity", value) for value in step(inputs[0], inputs[1], column, cells, inputs[4])]
    for value in outputs:
        value.type, value.shape = ir.TensorType(DTYPES["float64"]), ir.Shape([None, count])
    body = ir.Graph(inputs, outputs, nodes=w.nodes, name=w.unique("column"))
    w.nodes = outer
    results = [ir.Value(name=w.unique("sums")) for _ in sums]
    scan = ir.node(
        "Scan",
        [*sums, *over],
        {"body": body, "num_scan_inputs": 3, "scan_input_axes": [1, 1, 0]},
        outputs=results,
        version=w.opsets[""],
    )
    w.nodes.append(scan)
    return results


def _mahalanobis(w: Writer, x: Tensor, points: Any, inverse: Any) -> ir.Value:
    """(rows, m, k) differences d, and the sum of (d @ inverse.T) * d."""
    d = w.op("Sub", w.op("Unsqueeze", x.value, np.array([1])), points[None])
    if x.type.dtype == "float32":
        d = w.cast(d, "float64")
    product = w.op("Mul", w.op("MatMul", d, np.ascontiguousarray(inverse.T)), d)
    return w.op("ReduceSum", product, np.array([2]), keepdims=0)


@lowers("TopK")
def top_k(w: Writer, node: Node, x: Tensor) -> ir.Value:
    """onnxruntime takes the lower position of equals, as the standard says; NaN goes last as infinity."""
    value = w.op("Where", w.op("IsNaN", x.value), np.array([[np.inf]], x.type.dtype), x.value)
    return smallest(w, value, node.attrs["k"])[1]


@lowers("TakeAlong")
def take_along(w: Writer, node: Node, x: Tensor, positions: Tensor) -> ir.Value:
    if x.one_row:
        return w.op("Gather", w.op("Reshape", x.value, np.array([-1])), positions.value, axis=0)
    return w.op("GatherElements", x.value, w.all_rows(positions), axis=1)
