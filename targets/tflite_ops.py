"""TFLite lowerings of the tensor vocabulary (edgeml/ir/ops_tensor.py) in float32 and int32.

Each function takes the lowering, the node and its inputs, and returns the result's tensor. What float32 would lose by
cancellation is written another way: 1 - sigmoid(x), and the logarithms of probabilities.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeml.ir.elementary import EXP_MAX, EXP_MIN
from edgeml.ir.program import Node
from edgeml.targets.tflite_distances import squared_distances
from edgeml.targets.tflite_graph import Tensor
from edgeml.targets.tflite_latent import latent_probability
from edgeml.targets.tflite_lowering import DTYPES, Lowering, Value, lowers

# 1 - sigmoid(x) is 0 in float64 from here on, where exp(-x) is half of the distance from 1 to the next number.
_ONE_MINUS = 53 * math.log(2)
_BINARY = {
    "Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Div": "DIV", "Minimum": "MINIMUM", "Maximum": "MAXIMUM",
}  # fmt: skip
_COMPARE = {
    "Less": "LESS", "LessEqual": "LESS_EQUAL", "Greater": "GREATER", "GreaterEqual": "GREATER_EQUAL", "Equal": "EQUAL",
}  # fmt: skip
_LOGIC = {"And": "LOGICAL_AND", "Or": "LOGICAL_OR"}
_UNARY = {
    "Neg": "NEG", "Abs": "ABS", "Sqrt": "SQRT", "Exp": "EXP", "Sigmoid": "LOGISTIC", "Tanh": "TANH",
    "Not": "LOGICAL_NOT",
}  # fmt: skip
_REDUCE = {"ReduceSum": "SUM", "ReduceMax": "REDUCE_MAX", "ReduceMin": "REDUCE_MIN"}


# --- columns --------------------------------------------------------------------------------------------------------
@lowers("Constant")
def constant(w: Lowering, node: Node) -> Tensor:
    value = node.attrs["value"]
    if isinstance(value, tuple):
        raise w.refuse("needs strings")
    return w.graph.constant(w.number(value)[None, :])


@lowers("Concat")
def concat(w: Lowering, node: Node, *xs: Value) -> Tensor:
    rows = w.shape(node, *xs)
    g = w.graph
    parts = [x.tensor if rows[0] == 1 else w.all_rows(x) for x in xs if x.type.width]
    if len(parts) == 1:
        return parts[0]
    if parts[0].dtype != "bool":
        return g.op("CONCATENATION", parts, rows, axis=1)
    joined = g.op("CONCATENATION", [g.cast(part, "int32") for part in parts], rows, axis=1)
    return g.op("NOT_EQUAL", [joined, np.zeros((1, 1), np.int32)], rows, "bool")


@lowers("Select")
def select(w: Lowering, node: Node, x: Value) -> Tensor:
    return columns(w, x.tensor, node.attrs["indices"])


def columns(w: Lowering, x: Tensor, indices: Any) -> Tensor:
    """Columns of x by position."""
    count, first = len(indices), int(indices[0])
    if np.array_equal(indices, np.arange(x.shape[1])):
        return x
    if np.array_equal(indices, np.arange(first, first + count)):
        begin, size = np.array([0, first], np.int32), np.array([-1, count], np.int32)
        return w.graph.op("SLICE", [x, begin, size], (x.shape[0], count))
    return w.graph.gather(x, np.asarray(indices, np.int32), axis=1)


@lowers("Cast")
def cast(w: Lowering, node: Node, x: Value) -> Tensor:
    to = DTYPES[node.attrs["to"]]
    if x.tensor.dtype == "float32" and to != "float32":
        raise w.refuse(f"turns fractions into {node.attrs['to']}, exactly only in float64")
    return w.graph.cast(x.tensor, to)


# --- elementwise ----------------------------------------------------------------------------------------------------
@lowers(*_BINARY)
def binary(w: Lowering, node: Node, x: Value, y: Value) -> Tensor:
    if node.op == "Sub" and (tensor := _one_minus_sigmoid(w, node)) is not None:
        return tensor
    if node.op == "Add" and (tensor := squared_distances(w, node)) is not None:
        return tensor
    shape = w.shape(node, x, y)
    if node.op == "Maximum" and x.tensor.dtype == "float32" and x.shape == shape and w.is_zero(node.inputs[1]):
        return w.graph.op("RELU", [x.tensor], shape)  # runtimes fuse it with the layer in front
    return w.graph.op(_BINARY[node.op], [x.tensor, y.tensor], shape)


def _one_minus_sigmoid(w: Lowering, node: Node) -> Tensor | None:
    """1 - sigmoid(x) as sigmoid(-x), which keeps its digits where sigmoid(x) is close to 1."""
    argument = _complement(w, node)
    if argument is None:
        return None
    negative = w.graph.op("NEG", [argument.tensor], argument.shape)
    return w.graph.op("LOGISTIC", [negative], argument.shape)


def _complement(w: Lowering, node: Node | None) -> Value | None:
    """x where the node is 1 - sigmoid(x), else None."""
    if node is None or node.op != "Sub":
        return None
    one, inner = w.node(node.inputs[0]), w.node(node.inputs[1])
    if one is None or one.op != "Constant" or not np.all(one.attrs["value"] == 1.0):
        return None
    if inner is None or inner.op != "Sigmoid" or inner.type.width != node.type.width:
        return None
    return w.value(inner.inputs[0])


@lowers(*_COMPARE)
def compare(w: Lowering, node: Node, x: Value, y: Value) -> Tensor:
    return w.graph.op(_COMPARE[node.op], [x.tensor, y.tensor], w.shape(node, x, y), "bool")


@lowers(*_LOGIC)
def logic(w: Lowering, node: Node, x: Value, y: Value) -> Tensor:
    return w.graph.op(_LOGIC[node.op], [x.tensor, y.tensor], w.shape(node, x, y))


@lowers("Where")
def where(w: Lowering, node: Node, condition: Value, x: Value, y: Value) -> Tensor:
    shape = w.shape(node, condition, x, y)
    return w.graph.op("SELECT_V2", [condition.tensor, x.tensor, y.tensor], shape, x.tensor.dtype)


@lowers(*_UNARY)
def unary(w: Lowering, node: Node, x: Value) -> Tensor:
    return w.graph.op(_UNARY[node.op], [x.tensor], x.shape)


@lowers("Log")
def log(w: Lowering, node: Node, x: Value) -> Tensor:
    return _log(w, node.inputs[0])


def _log(w: Lowering, value: int) -> Tensor:
    """log of a value; of probabilities through what they were computed from, so that small ones do not become 0.

    They become 0, and their logarithm minus infinity, where they do in float64.
    """
    g, x, node = w.graph, w.value(value), w.node(value)
    if node is not None and node.op == "Softmax":
        return _above(w, g.op("LOG_SOFTMAX", [w.value(node.inputs[0]).tensor], x.shape), EXP_MIN)
    if node is not None and node.op == "Concat" and not any(w.value(v).one_row for v in node.inputs):
        return g.op("CONCATENATION", [_log(w, v) for v in node.inputs], x.shape, axis=1)
    if node is not None and node.op == "Sigmoid":
        return _above(w, _log_sigmoid(w, w.value(node.inputs[0]).tensor), -EXP_MAX)
    argument = _complement(w, node)
    if argument is not None:
        return _above(w, _log_sigmoid(w, g.op("NEG", [argument.tensor], argument.shape)), -_ONE_MINUS)
    return g.op("LOG", [x.tensor], x.shape)


def _log_sigmoid(w: Lowering, x: Tensor) -> Tensor:
    """min(x, 0) - log(1 + exp(-|x|))."""
    g, shape = w.graph, x.shape
    small = g.op("EXP", [g.op("NEG", [g.op("ABS", [x], shape)], shape)], shape)
    tail = g.op("LOG", [g.op("ADD", [small, np.ones((1, 1), np.float32)], shape)], shape)
    return g.op("SUB", [g.op("MINIMUM", [x, np.zeros((1, 1), np.float32)], shape), tail], shape)


def _above(w: Lowering, x: Tensor, limit: float) -> Tensor:
    """x, and minus infinity where it is below the limit."""
    below = w.graph.op("LESS", [x, np.full((1, 1), limit, np.float32)], x.shape, "bool")
    return w.graph.op("SELECT_V2", [below, np.full((1, 1), -np.inf, np.float32), x], x.shape, "float32")


@lowers("IsNaN")
def is_nan(w: Lowering, node: Node, x: Value) -> Tensor:
    return w.graph.op("NOT_EQUAL", [x.tensor, x.tensor], x.shape, "bool")


# --- along a row ----------------------------------------------------------------------------------------------------
@lowers(*_REDUCE)
def reduce(w: Lowering, node: Node, x: Value) -> Tensor:
    if node.op == "ReduceSum" and (tensor := latent_probability(w, node)) is not None:
        return tensor
    return w.graph.reduce(_REDUCE[node.op], x.tensor, 1, keep=True)


@lowers("SumGroups")
def sum_groups(w: Lowering, node: Node, x: Value) -> Tensor:
    size = node.attrs["size"]
    return w.graph.reduce("SUM", w.graph.reshape(x.tensor, (x.shape[0], node.type.width, size)), 2)


@lowers("ArgMax", "ArgMin")
def position(w: Lowering, node: Node, x: Value) -> Tensor:
    g, rows = w.graph, x.shape[0]
    op = "ARG_MAX" if node.op == "ArgMax" else "ARG_MIN"
    return g.reshape(g.extreme(op, x.tensor, 1), (rows, 1))


@lowers("Softmax")
def softmax(w: Lowering, node: Node, x: Value) -> Tensor:
    return w.graph.op("SOFTMAX", [x.tensor], x.shape, beta=1.0)
