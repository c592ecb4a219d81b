"""ONNX lowerings of the ops over pairs of classes (edgeml/ir/ops_pairs.py).

Each function takes the writer, the node and its inputs, and returns the result's ONNX value.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import Tensor, Writer, lowers
from edgeml.targets.onnx_tensor_ops import sum_in_order


@lowers("SumGroups")
def sum_groups(w: Writer, node: Node, x: Tensor) -> ir.Value:
    groups = w.op("Reshape", x.value, np.array([-1, node.attrs["size"]]))
    return w.op("Reshape", sum_in_order(w, groups), np.array([-1, node.type.width]))
