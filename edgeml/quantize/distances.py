"""Squared distances to fixed points (k-means): the points themselves get narrow codes, and their norms follow.

scikit-learn's formula is (|x|^2 - 2 x.c) + |c|^2, or -2 x.c + |c|^2 where only the nearest point is asked for. If the
product alone were rounded the terms would no longer belong to one point, and a distance of zero would become a large
one; so the points are rounded, and the norms are those of the rounded points. Both formulas of a model round alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.table import Array
from edgeml.passes import patterns
from edgeml.quantize.linear import half_codes, whole_codes
from edgeml.quantize.trace import Trace


@dataclass(frozen=True, slots=True)
class Distances:
    """Nodes of one formula, by index: the product with the points, the constant norms, and the addition of the two.

    Of the short formula the norms are the product's own bias, and ``norms`` is None.
    """

    product: int
    norms: int | None = None
    end: int = -1


def find_distances(program: Program) -> list[Distances]:
    """Every formula of the program."""
    first = len(program.inputs)
    found = []
    for index, node in enumerate(program.nodes):
        if node.op == "Linear" and node.attrs["bias"].any() and patterns.are_norms(node.attrs["bias"], node):
            found.append(Distances(index))
        formula = patterns.squared_distances(program, node)
        if formula is not None:
            found.append(Distances(formula.product - first, formula.norms - first, index))
    return found


def quantize_points(trace: Trace, index: int, weights: str) -> tuple[int, Array]:
    """Put a QuantizedLinear in the place of the product; its value, and the norms of the points it now stands for."""
    node = trace.exact.program.nodes[index]
    dtype = node.attrs["weight"].dtype
    weight = node.attrs["weight"].astype(np.float64)
    codes, scale = half_codes(weight) if weights == "float16" else whole_codes(weight, weights)
    norms = np.square(0.5 * codes.astype(np.float64) * scale).sum(axis=0)
    bias = norms.astype(dtype) if node.attrs["bias"].any() else node.attrs["bias"]
    attrs = {"weight": codes, "scale": scale.astype(dtype), "bias": bias}
    return trace.emit("QuantizedLinear", (trace.place[node.inputs[0]],), attrs, node.origin), norms


def add_norms(trace: Trace, node: Node, at: Distances, norms: Array) -> int:
    """The addition that ends the formula, with the norms of the rounded points."""
    assert at.norms is not None
    constant = trace.exact.program.nodes[at.norms]
    row = trace.constant(norms, trace.place[node.inputs[0]], constant.origin)
    old = len(trace.exact.program.inputs) + at.norms
    inputs = tuple(row if v == old else trace.place[v] for v in node.inputs)
    return trace.emit(node.op, inputs, node.attrs, node.origin)
