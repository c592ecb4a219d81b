"""ONNX lowerings of linear maps, tables, interpolation and the checks on rows (edgeml/ir/ops_ml.py, trees
apart).

Each function takes the writer, the node and its inputs, and returns the result's ONNX value; a check returns
a scalar index instead, 0 when every row passes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.ir.ops_tensor import keys_array
from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import ML, Tensor, Writer, cell_text, checks, lowers
from edgeml.targets.onnx_trees import interval


# --- linear -------------------------------------------------------------------------------------------------
@lowers("Linear")
def linear(w: Writer, node: Node, x: Tensor) -> ir.Value:
    weight, bias = node.attrs["weight"], node.attrs["bias"]
    if not bias.any():
        return w.op("MatMul", x.value, weight)
    return w.op("Gemm", x.value, weight, bias)


# --- tables -------------------------------------------------------------------------------------------------
@lowers("Lookup")
def lookup(w: Writer, node: Node, x: Tensor) -> ir.Value:
    # The kernel keeps the first of equal keys, and lets NaN find NaN and -0.0 find 0.0.
    keys, value = keys_array(node.attrs["keys"]), x.value
    if not len(keys):
        return w.op("Add", w.op("Mul", w.cast(w.op("Equal", value, value), "int64"), 0), -1)
    if keys.dtype == np.float64 or keys.dtype == np.float32:
        # Positions come as doubles from double keys: the pair double, double is in every build of onnxruntime.
        positions = "float64" if keys.dtype == np.float64 else "int64"
        found = w.op(
            "LabelEncoder",
            value,
            domain=ML,
            keys_tensor=ir.tensor(keys),
            values_tensor=ir.tensor(np.arange(len(keys), dtype=positions)),
            default_tensor=ir.tensor(np.array([-1], dtype=positions)),
        )
        return found if positions == "int64" else w.cast(found, "int64")
    if keys.dtype == object:
        texts = ir.StringTensor([cell_text(k) for k in keys], shape=ir.Shape([len(keys)]))
        listed: dict[str, Any] = {"keys_tensor": texts}
    else:
        value = value if keys.dtype == np.int64 else w.cast(value, "int64")
        listed = {"keys_int64s": keys.astype(np.int64).tolist()}
    # As lists, which take a byte an entry where tensors take eight; what is not found is -1 by itself.
    return w.op("LabelEncoder", value, domain=ML, values_int64s=list(range(len(keys))), **listed)


@lowers("Take")
def take(w: Writer, node: Node, x: Tensor) -> ir.Value:
    table = keys_array(node.attrs["table"])
    if table.ndim == 1 or table.shape[1] == 1:
        return w.op("Gather", table.reshape(-1), x.value, axis=0)
    return w.op("GatherND", table, x.value)


@lowers("OneHot")
def one_hot(w: Writer, node: Node, x: Tensor) -> ir.Value:
    # Not the op OneHot: it takes -1 for the last column.
    hit = w.op("Equal", x.value, np.arange(node.attrs["width"], dtype=np.int64)[None, :])
    return hit if node.attrs["dtype"] == "bool" else w.cast(hit, node.attrs["dtype"])


# --- interpolation ------------------------------------------------------------------------------------------
@lowers("Interp")
def interp(w: Writer, node: Node, x: Tensor) -> ir.Value:
    xs, ys = node.attrs["xs"], node.attrs["ys"]
    value = x.value
    if len(xs) == 1:
        return w.op("Where", w.op("IsNaN", value), np.array([[np.nan]]), ys[None, :])
    with np.errstate(all="ignore"):
        slope = (ys[1:] - ys[:-1]) / (xs[1:] - xs[:-1])
    j = interval(w, value, xs[1:-1])
    x_j, y_j = w.op("Gather", xs[:-1], j, axis=0), w.op("Gather", ys[:-1], j, axis=0)
    line = w.op("Add", w.op("Mul", w.op("Gather", slope, j, axis=0), w.op("Sub", value, x_j)), y_j)
    line = w.op("Where", w.op("Equal", value, x_j), y_j, line)
    line = w.op("Where", w.op("LessOrEqual", value, xs[:1]), ys[:1], line)
    return w.op("Where", w.op("GreaterOrEqual", value, xs[-1:]), ys[-1:], line)


# --- checks on rows -----------------------------------------------------------------------------------------
@checks("CheckFinite")
def check_finite(w: Writer, node: Node, x: Tensor) -> ir.Value:
    """Width minus the first bad column, the largest over all rows, so that for one row the column can be told."""
    # x - x is NaN exactly where x is NaN or infinite.
    bad = w.op("IsInf", x.value) if node.attrs["allow_nan"] else w.op("IsNaN", w.op("Sub", x.value, x.value))
    marks = np.arange(x.type.width, 0, -1, dtype=np.int64)[None, :]
    return w.op("ReduceMax", w.op("Where", bad, marks, np.array([[0]])), keepdims=0)


@checks("Require")
def require(w: Writer, node: Node, x: Tensor, ok: Tensor) -> ir.Value:
    return w.op("Where", w.op("ReduceMin", ok.value, keepdims=0), np.int64(0), np.int64(1))
