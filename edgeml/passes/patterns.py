"""Formulas that several readers of a program look for, each found by its nodes: what the nodes mean together.

The quantiser and the TFLite target ask here about squared distances to fixed points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.table import Array

_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Distances:
    """(-2 x.c + |x|^2) + |c|^2: the values of the product and of the constant norms, and the points (points, width)."""

    product: int
    norms: int
    points: Array


def squared_distances(program: Program, node: Node) -> Distances | None:
    """The formula that an Add ends, None for any other node."""
    if node.op != "Add":
        return None
    for inner, norms in _orders(node):
        total, constant = program.node_of(inner), program.node_of(norms)
        if total is None or total.op != "Add" or constant is None or constant.op != "Constant":
            continue
        for product, square in _orders(total):
            linear, size = program.node_of(product), program.node_of(square)
            if linear is None or linear.op not in ("Linear", "QuantizedLinear") or linear.attrs["bias"].any():
                continue
            if are_norms(constant.attrs["value"], linear) and _is_norm_of(program, size, linear.inputs[0]):
                return Distances(product, norms, points_of(linear))
    return None


def points_of(linear: Node) -> Array:
    """The points that a linear map multiplies with -2, float64 (points, width)."""
    weight = linear.attrs["weight"].astype(np.float64)
    if linear.op == "QuantizedLinear":
        weight = weight * linear.attrs["scale"]
    return np.asarray(-0.5 * weight.T)


def are_norms(row: Array, linear: Node) -> bool:
    """Whether a row holds the squared norms of a linear map's points."""
    points = points_of(linear)
    return bool(np.allclose(row, (points * points).sum(axis=1), rtol=_SAME, atol=0))


def _orders(node: Node) -> tuple[tuple[int, int], tuple[int, int]]:
    a, b = node.inputs
    return (a, b), (b, a)


def _is_norm_of(program: Program, node: Node | None, value: int) -> bool:
    """Whether a node is the sum of the squares of a value."""
    square = program.node_of(node.inputs[0]) if node is not None and node.op == "ReduceSum" else None
    return square is not None and square.op == "Mul" and square.inputs == (value, value)
