"""The estimators inside an ensemble: what they are fed with, what they answer, and their answers side by side.

In come a fitted member and the Block of the ensemble; out go Values in the order and dtypes in which scikit-learn puts
them into one array. Called by the converters of ensembles, of several outputs and of many classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs
from edgeml.ir import Builder, Value
from edgeml.ir.program import Node, same_attrs

_REMEDY = "replace that estimator by a supported one (README, supported estimators)"
# Ops of one operand and of two that work on every column by itself.
_UNARY = ("Neg", "Abs", "Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "Not", "Cast", "IsNaN")
_BINARY = ("Add", "Sub", "Mul", "Div", "Minimum", "Maximum", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal")


def one_array(c: Conversion, est: Any, X: Block, *, check: bool = True) -> Block:
    """X as ``validate_data(dtype=None)`` or "numeric" hands it on: one array without names, in its common dtype."""
    array = X.as_array()
    if array.has_strings:
        array.check(c, est)
        return Block(*array.values, form=array.form)
    return Block(X.matrix(c, est, dtype=X.dtype, check=check), form=array.form)


def answer_of(c: Conversion, outputs: Outputs, member: Any, step: str, method: str) -> Value | Block:
    """What a method of a converted member gives."""
    return c.answer(outputs, member, step, method, _REMEDY)


def value_of(c: Conversion, outputs: Outputs, member: Any, step: str, method: str) -> Value:
    """What a method of a converted member gives, several outputs side by side."""
    return side_by_side(c, answer_of(c, outputs, member, step, method))


def side_by_side(c: Conversion, answer: Value | Block) -> Value:
    """An answer as one matrix, in the common dtype of its values."""
    return answer if isinstance(answer, Value) else c.builder.concat(common(answer.values))


def log_proba(c: Conversion, outputs: Outputs, member: Any, step: str) -> Value:
    """predict_log_proba, which is the logarithm of predict_proba where a converter does not give it."""
    if "predict_log_proba" in outputs or "predict_proba" not in outputs:
        return value_of(c, outputs, member, step, "predict_log_proba")
    return c.builder.log(value_of(c, outputs, member, step, "predict_proba"))


def common(values: Sequence[Value]) -> list[Value]:
    """Values in the dtype of the one array NumPy would make of them."""
    dtype = np.result_type(*(np.dtype(v.dtype) for v in values)).name
    return [v.cast(dtype) for v in values]


def total(values: Sequence[Value]) -> Value:
    """The sum in order."""
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


def position(c: Conversion, label: Value, classes: Any) -> Value:
    """Position of a predicted label in ``classes``, int64."""
    classes = np.asarray(classes)
    if label.dtype == "string":
        return c.builder.lookup(label, tuple(str(name) for name in classes.tolist()))
    if label.dtype == "bool":
        return c.builder.lookup(label.cast("int64"), classes.astype(np.int64))
    return c.builder.lookup(label, classes)


def beside(values: Sequence[Value]) -> Value:
    """Columns of width 1 side by side, as numpy.array makes one array of them.

    Where all were computed alike, the computation is done once for all: the products of one matrix with 300 weights are
    one product, and each sum stays what it was.
    """
    return _joined(common(values) if len(values) > 1 else list(values))


def _joined(values: list[Value]) -> Value:
    builder = values[0].builder
    if len(values) == 1:
        return values[0]
    values = [_unwrapped(v) for v in values]
    nodes = [builder.node_of(v) for v in values]
    first = nodes[0]
    if first is None or any(n is None or n.op != first.op or v.width != 1 for n, v in zip(nodes, values, strict=True)):
        return builder.concat(values)
    alike = [n for n in nodes if n is not None]
    if first.op == "Linear" and all(_same(builder, n.inputs[0], first.inputs[0], {}) for n in alike):
        weight = np.concatenate([n.attrs["weight"] for n in alike], axis=1)
        bias = np.concatenate([n.attrs["bias"] for n in alike])
        return builder.op("Linear", builder.value(first.inputs[0]), weight=weight, bias=bias)
    if first.op == "Constant" and all(isinstance(n.attrs["value"], np.ndarray) for n in alike):
        return builder.constant(np.concatenate([n.attrs["value"] for n in alike]))
    if first.op in (*_UNARY, *_BINARY) and _elementwise(alike, builder.value):
        operands = [_joined([builder.value(n.inputs[at]) for n in alike]) for at in range(len(first.inputs))]
        return builder.op(first.op, *operands, **first.attrs)
    return builder.concat(values)


def _same(builder: Builder, a: int, b: int, known: dict[tuple[int, int], bool]) -> bool:
    """Whether two values are computed alike from the same ones: each member checks and casts the rows anew."""
    if a != b and (a, b) not in known:
        one, other = (builder.node_of(builder.value(v)) for v in (a, b))
        known[a, b] = (
            one is not None
            and other is not None
            and (one.op, len(one.inputs)) == (other.op, len(other.inputs))
            and same_attrs(one.attrs, other.attrs)
            and all(_same(builder, i, j, known) for i, j in zip(one.inputs, other.inputs, strict=True))
        )
    return a == b or known[a, b]


def _elementwise(nodes: Sequence[Node], value: Callable[[int], Value]) -> bool:
    """Whether the nodes have the same attributes and operands of one column and one dtype."""
    first = nodes[0]
    dtypes = [value(i).dtype for i in first.inputs]
    return all(
        same_attrs(n.attrs, first.attrs)
        and [value(i).dtype for i in n.inputs] == dtypes
        and all(value(i).width == 1 for i in n.inputs)
        for n in nodes
    )


def _unwrapped(value: Value) -> Value:
    """A column itself where it was put into a matrix and taken out again, or is its own position in a table."""
    builder = value.builder
    node = builder.node_of(value)
    if node is None or value.width != 1:
        return value
    if node.op == "Select":
        at = int(node.attrs["indices"][0])
        inner = builder.node_of(builder.value(node.inputs[0]))
        if inner is not None and inner.op == "Concat":
            for part in map(builder.value, inner.inputs):
                if at < part.width:
                    return _unwrapped(part.select([at])) if part.width == 1 else value
                at -= part.width
    if node.op == "Take":
        table = node.attrs["table"]
        if isinstance(table, np.ndarray) and table.dtype == np.int64 and np.array_equal(table[:, 0], range(len(table))):
            return _unwrapped(builder.value(node.inputs[0]))
    return value
