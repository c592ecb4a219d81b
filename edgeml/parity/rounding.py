"""Which results of a program every machine rounds alike, and which depend on an order of additions or on an exp.

In comes a program. ``bounds`` asks which methods stand on such sums in float32, ``boundary_rows`` which features of
a tree are known to the last bit, for no other feature can be put exactly on a threshold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.interpreter import needed
from edgeml.ir.table import Array

# BLAS adds in an order of its own, and libraries differ in the last bit of these functions; all other ops are IEEE
# operations with one correct result, or no arithmetic at all.
ROUND_AT_WILL = frozenset(
    {
        "Linear",
        "QuantizedLinear",
        "Exp",
        "Log",
        "Sigmoid",
        "Tanh",
        "Softmax",
        "Interp",
        "ReduceSum",
        "OnnxGraph",
        "Distances",
        "SumGroups",
        "CouplePairs",
        "Log1p",
        "Expm1",
        "Sin",
        "Cos",
        "Erf",
        "NormalQuantile",
        "Digamma",
        "LogGamma",
        "BesselK",
        "Pow",
        "Loop",
        "Solve",
        "Convolve",
    }
)


def rounds_to_float32(program: Program, method: str) -> bool:
    """Whether a method's result stands on a float32 sum, as that of a linear model on float32 columns does."""
    return any(
        node.op in ROUND_AT_WILL and node.op != "OnnxGraph" and node.type.dtype == "float32"
        for node in _behind(program, [method])
    )


def iterates(program: Program, method: str) -> bool:
    """Whether a method's result stands on a loop, which ends, as scikit-learn's does, within a tolerance."""
    return any(node.op == "Loop" for node in _behind(program, [method]))


def _behind(program: Program, outputs: Iterable[str]) -> Iterator[Node]:
    """The nodes that outputs depend on, those in the bodies of loops included."""
    keep = needed(program, outputs)[len(program.inputs) :]
    for kept, node in zip(keep, program.nodes, strict=True):
        if kept:
            yield node
            for body in node.attrs.values():
                if isinstance(body, Program):
                    yield from _behind(body, body.outputs)


def determined(program: Program) -> list[Array]:
    """For every value, which of its columns are known to the last bit, bool (width,)."""
    known: list[Array] = [np.ones(entry.type.width, dtype=bool) for entry in program.inputs]
    for node in program.nodes:
        inputs = [known[value] for value in node.inputs]
        width = node.type.width
        if node.op == "Concat":
            result = np.concatenate(inputs)
        elif node.op == "Select":
            result = inputs[0][node.attrs["indices"]]
        else:
            result = np.full(width, node.op not in ROUND_AT_WILL)
            by_column = node.op != "TreeEnsemble"  # which reads every column for each of its own
            for one in inputs:
                result &= one if by_column and one.size == width else one.all()
        known.append(result)
    return known
