"""The program: what a fitted pipeline computes for one row, as a flat list of typed operations.

A program is in static single assignment form. Value ``i`` is input ``i`` while ``i < len(inputs)``, and the result of
node ``i - len(inputs)`` after that, so a value's id says where it comes from and nodes stand in execution order.
Every value is a matrix of ``(rows, width)`` with one dtype; the number of rows is never part of a program. Converters
build programs, passes rewrite them, targets lower them, the interpreter gives them meaning.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

Dtype = Literal["float64", "float32", "int64", "bool", "string"]
DTYPES: tuple[Dtype, ...] = ("float64", "float32", "int64", "bool", "string")

# A cell of a string value is a str, or one of scikit-learn's two kinds of missing: None and NaN.
Attr = Any  # int | float | str | bool | numpy.ndarray | tuple[str | float | None, ...] | Program; see spec.py
Form = Literal["vector", "matrix", "list", "stack"]


@dataclass(frozen=True, slots=True)
class ValueType:
    """Type of a value: ``width`` columns of ``dtype``."""

    dtype: Dtype
    width: int

    def __str__(self) -> str:
        return f"{self.dtype}[{self.width}]"


@dataclass(frozen=True, slots=True)
class Input:
    """One raw column (``width`` 1), or the whole matrix of a pipeline that was fitted on an array."""

    name: str
    type: ValueType


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. ``origin`` is the path of the pipeline step that asked for it, for people and messages."""

    op: str
    inputs: tuple[int, ...]
    type: ValueType
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    origin: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """What one method of the pipeline returns.

    ``form`` is ``"vector"`` for a one-dimensional result (one value of width 1) and ``"matrix"`` for a
    two-dimensional one, its ``values`` side by side. ``"list"`` is a list of two-dimensional arrays, one a value, as
    predict_proba of several outputs gives it, and ``"stack"`` one array of such arrays of one width, (values, rows,
    width); engines too put their values side by side, and Model takes them apart.
    ``dtype`` is the NumPy dtype scikit-learn returns, as a string.
    """

    name: str
    values: tuple[int, ...]
    form: Form
    dtype: str


@dataclass(frozen=True, slots=True)
class Program:
    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: Mapping[str, Output]

    def type_of(self, value: int) -> ValueType:
        """Type of a value id."""
        n = len(self.inputs)
        return self.inputs[value].type if value < n else self.nodes[value - n].type

    def node_of(self, value: int) -> Node | None:
        """The node that computes a value, or None for an input."""
        n = len(self.inputs)
        return None if value < n else self.nodes[value - n]

    def uses(self) -> list[int]:
        """How many nodes and outputs read each value."""
        count = [0] * (len(self.inputs) + len(self.nodes))
        for node in self.nodes:
            for value in node.inputs:
                count[value] += 1
        for output in self.outputs.values():
            for value in output.values:
                count[value] += 1
        return count

    def with_outputs(self, outputs: Iterable[Output]) -> Program:
        """The same inputs and nodes with other outputs."""
        return replace(self, outputs={output.name: output for output in outputs})


def same_attrs(a: Mapping[str, Attr], b: Mapping[str, Attr]) -> bool:
    """True when two attribute sets are equal bit for bit (so that NaN equals NaN and -0.0 differs from 0.0)."""
    return a.keys() == b.keys() and all(attr_key(a[k]) == attr_key(b[k]) for k in a)


def attr_key(value: Attr) -> object:
    """A hashable key that tells attribute values apart bit for bit."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, float):
        return ("float", np.float64(value).tobytes())
    if isinstance(value, tuple):
        return tuple(attr_key(item) for item in value)
    if isinstance(value, Program):
        nodes = tuple(
            (node.op, node.inputs, node.type, tuple((k, attr_key(v)) for k, v in sorted(node.attrs.items())))
            for node in value.nodes
        )
        return ("program", value.inputs, nodes, tuple(value.outputs.values()))
    return (type(value).__name__, value)
