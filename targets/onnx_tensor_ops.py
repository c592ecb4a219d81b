"""ONNX lowerings of the tensor vocabulary (edgeml/ir/ops_tensor.py), bit for bit where the arithmetic is
elementwise.

Each function takes the writer, the node and its inputs, and returns the result's ONNX value. Where a standard
op of onnxruntime differs from NumPy (NaN in reductions, the order of sums, sigmoid far below zero) the
comment says how.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from edgeml.ir.ops_tensor import keys_array
from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import MISSING_NAN, MISSING_NONE, Tensor, Writer, lowers

_FLOATS = ("float64", "float32")


# --- columns ------------------------------------------------------------------------------------------------
@lowers("Constant")
def constant(w: Writer, node: Node) -> ir.Value:
    return w.stored(keys_array(node.attrs["value"])[None, :])


@lowers("Concat")
def concat(w: Writer, node: Node, *xs: Tensor) -> ir.Value:
    parts = [x.value for x in xs] if all(x.one_row for x in xs) else [w.all_rows(x) for x in xs]
    return w.op("Concat", *parts, axis=1)


@lowers("Select")
def select(w: Writer, node: Node, x: Tensor) -> ir.Value:
    indices = node.attrs["indices"]
    first, last = int(indices[0]), int(indices[-1])
    if np.array_equal(indices, np.arange(first, last + 1)):
        return w.op("Slice", x.value, np.array([first]), np.array([last + 1]), np.array([1]))
    return w.op("Gather", x.value, indices, axis=1)


@lowers("Cast")
def cast(w: Writer, node: Node, x: Tensor) -> ir.Value:
    value = x.value
    if node.attrs["to"] == "int64" and x.type.dtype in _FLOATS:
        # What int64 cannot hold becomes its smallest number; onnxruntime leaves that to the CPU, and ARM64
        # saturates.
        low, end = np.array([[-(2.0**63)]], x.type.dtype), np.array([[2.0**63]], x.type.dtype)
        inside = w.op("And", w.op("GreaterOrEqual", value, low), w.op("Less", value, end))
        value = w.op("Where", inside, value, low)
    return w.cast(value, node.attrs["to"])


# --- elementwise --------------------------------------------------------------------------------------------
_SAME_NAME = {
    "Add": "Add", "Sub": "Sub", "Mul": "Mul", "Div": "Div", "Neg": "Neg", "Abs": "Abs", "Sqrt": "Sqrt",
    "Less": "Less", "LessEqual": "LessOrEqual", "Greater": "Greater", "GreaterEqual": "GreaterOrEqual",
    "And": "And", "Or": "Or", "Not": "Not",
    # onnxruntime's Min and Max give NaN where either operand is NaN, as NumPy does.
    "Minimum": "Min", "Maximum": "Max",
}  # fmt: skip

# Operands that are left away where they are 1.
_FACTORS = {"Mul": (0, 1), "Div": (1,)}


@lowers(*_SAME_NAME)
def same(w: Writer, node: Node, *xs: Tensor) -> ir.Value:
    values = [x.value for x in xs]
    for at in _FACTORS.get(node.op, ()):
        if _nearly_one(xs[at]):
            # Twice the number, and half or twice the result: both exact.
            values[at] = w.op("Add", values[at], values[at])
            return w.op("Mul", w.op(_SAME_NAME[node.op], *values), np.float64(0.5 if node.op == "Mul" else 2.0))
    return w.op(_SAME_NAME[node.op], *values)


def _nearly_one(x: Tensor) -> bool:
    """Whether x is a number that onnxruntime takes for 1, rounded to float32, and leaves away."""
    tensor = x.value.const_value
    if tensor is None or x.type.dtype != "float64" or x.type.width != 1:
        return False
    number = float(tensor.numpy().reshape(-1)[0])
    return number != 1.0 and float(np.float32(number)) == 1.0


@lowers("Equal")
def equal(w: Writer, node: Node, x: Tensor, y: Tensor) -> ir.Value:
    result = w.op("Equal", x.value, y.value)
    if x.type.dtype != "string" or _without_nan(x) or _without_nan(y):
        return result
    # NaN equals nothing, but its spelling equals itself.
    return w.op("And", result, w.op("Not", is_spelled(w, x, MISSING_NAN)))


def _without_nan(x: Tensor) -> bool:
    """Whether x is a constant string value with no NaN among its cells."""
    tensor = x.value.const_value
    return isinstance(tensor, ir.StringTensor) and MISSING_NAN.encode() not in tensor.string_data()


@lowers("Where")
def where(w: Writer, node: Node, condition: Tensor, x: Tensor, y: Tensor) -> ir.Value:
    if x.type.dtype != "bool":
        return w.op("Where", condition.value, x.value, y.value)
    # onnxruntime has no Where for bool.
    yes = w.op("And", condition.value, x.value)
    return w.op("Or", yes, w.op("And", w.op("Not", condition.value), y.value))


@lowers("Exp", "Log", "Tanh", "Sigmoid")
def elementary(w: Writer, node: Node, x: Tensor) -> ir.Value:
    # The program computes float32 through float64. onnxruntime's functions stay within 1e-15 of it, except
    # Sigmoid, which is 1 - 1 / (1 + exp(x)) below zero and so loses every digit at -40.
    value = w.as_float64(x)
    if node.op == "Sigmoid":
        value = w.op("Div", np.float64(1), w.op("Add", w.op("Exp", w.op("Neg", value)), np.float64(1)))
    else:
        value = w.op(node.op, value)
    return value if x.type.dtype == "float64" else w.cast(value, "float32")


@lowers("IsNaN")
def is_nan(w: Writer, node: Node, x: Tensor) -> ir.Value:
    return is_spelled(w, x, MISSING_NAN) if x.type.dtype == "string" else w.op("IsNaN", x.value)


@lowers("IsNone")
def is_none(w: Writer, node: Node, x: Tensor) -> ir.Value:
    return is_spelled(w, x, MISSING_NONE)


def is_spelled(w: Writer, x: Tensor, spelling: str) -> ir.Value:
    """Where cells of a string value are the missing cell with this spelling."""
    cell: float | None = None if spelling == MISSING_NONE else float("nan")
    return w.op("Equal", x.value, w.constant(np.array([[cell]], dtype=object)))


# --- along a row --------------------------------------------------------------------------------------------
def _any_nan(w: Writer, nan: ir.Value) -> ir.Value:
    """Per row, whether any cell of a bool mask holds, (rows, 1)."""
    return w.op("ReduceMax", nan, np.array([1]), keepdims=1)


@lowers("ReduceSum")
def reduce_sum(w: Writer, node: Node, x: Tensor) -> ir.Value:
    return sum_in_order(w, x.value)


def sum_in_order(w: Writer, x: ir.Value) -> ir.Value:
    """Sum along the row from the first column to the last, (rows, 1).

    The last of the running sums: onnxruntime's ReduceSum adds in vector lanes, and int64 through doubles.
    """
    return w.op("Gather", w.op("CumSum", x, np.int64(1)), np.array([-1]), axis=1)


@lowers("ReduceMax", "ReduceMin")
def reduce_extreme(w: Writer, node: Node, x: Tensor) -> ir.Value:
    result = w.op(node.op, x.value, np.array([1]), keepdims=1)
    if x.type.dtype not in _FLOATS or x.type.width == 1:
        return result
    # onnxruntime skips NaN or not as its vector lanes fall.
    return w.op("Where", _any_nan(w, w.op("IsNaN", x.value)), np.array([[np.nan]], x.type.dtype), result)


@lowers("ArgMax", "ArgMin")
def arg_extreme(w: Writer, node: Node, x: Tensor) -> ir.Value:
    value = x.value
    if x.type.dtype in _FLOATS and x.type.width > 1:
        # In a row with NaN, look for the first NaN instead: 1 among 0 for ArgMax, 0 among 1 for ArgMin.
        nan = w.op("IsNaN", value)
        mark = nan if node.op == "ArgMax" else w.op("Not", nan)
        value = w.op("Where", _any_nan(w, nan), w.cast(mark, x.type.dtype), value)
    return w.op(node.op, value, axis=1, keepdims=1, select_last_index=0)


@lowers("Softmax")
def softmax(w: Writer, node: Node, x: Tensor) -> ir.Value:
    if x.type.dtype == "float64":
        return w.op("Softmax", x.value, axis=1)
    # As the program does it: exp through float64, the rest in float32.
    shifted = w.op("Sub", x.value, reduce_extreme(w, Node("ReduceMax", (), x.type), x))
    powers = w.cast(w.op("Exp", w.cast(shifted, "float64")), "float32")
    return w.op("Div", powers, sum_in_order(w, powers))
