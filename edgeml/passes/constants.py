"""Constant folding: a node that reads only constants is computed now, once, with the op's own NumPy meaning.

A check that a constant would fail stays where it is: it must refuse rows, not compilation. Called by
``optimise``.
"""

from __future__ import annotations

import numpy as np

from edgeml.errors import InputError
from edgeml.ir.ops import OPS
from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite

# Has no NumPy meaning: only the ONNX target runs it.
_OPAQUE = ("OnnxGraph",)


def _operand(node: Node) -> Array:
    result: Array = OPS["Constant"].evaluate(**node.attrs)
    return result


def _fold(node: Node, graph: Graph) -> int | None:
    if node.op == "Require":
        ok = graph.constant(node.inputs[1])
        return node.inputs[0] if ok is not None and ok.all() else None
    operands = [graph.node_if(value, "Constant") for value in node.inputs]
    if not operands or node.op in _OPAQUE:
        return None
    constants = [operand for operand in operands if operand is not None]
    if len(constants) < len(operands):
        return None
    try:
        with np.errstate(all="ignore"):
            row = OPS[node.op].evaluate(*map(_operand, constants), **node.attrs)[0]
    except InputError:
        return None
    # A copy: the row may be a view of an operand, which would keep a large table alive.
    value = tuple(row.tolist()) if node.type.dtype == "string" else row.copy()
    return graph.append(Node("Constant", (), node.type, {"value": value}, node.origin))


def _run(program: Program) -> tuple[Program, bool]:
    return rewrite(program, _fold)


FOLD_CONSTANTS = Pass(
    "fold-constants",
    requires="nothing beyond a legal program",
    ensures="no node reads only constants, save a check they fail; no Require is always satisfied",
    run=_run,
)
