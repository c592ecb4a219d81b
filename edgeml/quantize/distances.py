"""Squared distances to fixed points (k-means): the points themselves get narrow codes, and their norms follow.

scikit-learn's formula is (|x|^2 - 2 x.c) + |c|^2. If only the product were rounded the three terms would no longer
belong to one point, and a distance of zero would become a large one; so the points are rounded, and the norms are
those of the rounded points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.table import Array
from edgeml.quantize.trace import Trace

_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Distances:
    """Nodes of one formula, by index: the product with the points, the constant norms, and the addition of the two."""

    product: int
    norms: int
    end: int


def find_distances(program: Program) -> list[Distances]:
    """Every formula of the program."""
    first = len(program.inputs)
    found = []
    for index, node in enumerate(program.nodes):
        if node.op != "Add":
            continue
        for inner, norms in (node.inputs, node.inputs[::-1]):
            total, constant = program.node_of(inner), program.node_of(norms)
            if total is None or total.op != "Add" or constant is None or constant.op != "Constant":
                continue
            for product in total.inputs:
                linear = program.node_of(product)
                if linear is None or linear.op != "Linear" or linear.attrs["bias"].any():
                    continue
                points = -0.5 * linear.attrs["weight"].T
                squares = (points * points).sum(axis=1)
                if np.allclose(constant.attrs["value"], squares, rtol=_SAME, atol=0):
                    found.append(Distances(product - first, norms - first, index))
    return found


def quantize_points(trace: Trace, index: int, weights: str) -> tuple[int, Array]:
    """Put a QuantizedLinear in the place of the product; its value, and the norms of the points it now stands for."""
    node = trace.exact.program.nodes[index]
    dtype = node.attrs["weight"].dtype
    weight = node.attrs["weight"].astype(np.float64)
    size = np.abs(weight).max(axis=0, initial=0.0)
    if weights == "float16":
        scale = 2.0 ** np.clip(np.floor(np.log2(np.where(size > 0, size, 1.0))), -100, 100)
        codes = (weight / scale).astype(np.float16)
    else:
        top = np.iinfo(weights).max
        scale = np.where(size > 0, size / top, 1.0).astype(np.float32).astype(np.float64)
        codes = np.clip(np.rint(weight / scale), -top, top).astype(weights)
    attrs = {"weight": codes, "scale": scale.astype(dtype), "bias": node.attrs["bias"]}
    value = trace.emit("QuantizedLinear", (trace.place[node.inputs[0]],), attrs, node.origin)
    points = 0.5 * codes.astype(np.float64) * scale
    return value, np.square(points).sum(axis=0)


def add_norms(trace: Trace, node: Node, at: Distances, norms: Array) -> int:
    """The addition that ends the formula, with the norms of the rounded points."""
    constant = trace.exact.program.nodes[at.norms]
    row = trace.constant(norms, trace.place[node.inputs[0]], constant.origin)
    old = len(trace.exact.program.inputs) + at.norms
    inputs = tuple(row if v == old else trace.place[v] for v in node.inputs)
    return trace.emit(node.op, inputs, node.attrs, node.origin)
