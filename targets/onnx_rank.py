"""ONNX lowering of Rank: each column's place among its edges, found by a balanced tree of comparisons."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import Tensor, Writer, lowers
from edgeml.targets.onnx_trees import interval


@lowers("Rank")
def rank(w: Writer, node: Node, x: Tensor) -> ir.Value:
    edges, offsets = node.attrs["edges"], node.attrs["offsets"]
    value = w.as_float64(x)
    columns = []
    for j in range(x.type.width):
        own = edges[offsets[j] : offsets[j + 1]]
        column = value if x.type.width == 1 else w.op("Gather", value, np.array([j]), axis=1)
        with np.errstate(over="ignore"):  # the float64 before the smallest one is -inf, and meant
            # edge < x exactly where the next float64 after the edge is <= x.
            place = interval(w, column, np.nextafter(own, np.inf))
        columns.append(w.op("Where", w.op("IsNaN", column), np.int64(len(own) + 1), place))
    return columns[0] if len(columns) == 1 else w.op("Concat", *columns, axis=1)
