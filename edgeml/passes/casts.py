"""Casts: one to the dtype a value has already goes, and of two in a row the first goes when it loses nothing.

float32 -> float64 -> float32 is the everyday case: a frame's column that a tree reads as float32. Called by
``optimise``.
"""

from __future__ import annotations

from edgeml.ir.program import Node, Program
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite

# (from, to): every value of `from` is a value of `to`, so a cast there and on to `then` equals the cast to
# `then`.
_EXACT = {
    ("bool", "int64"): ("bool", "int64", "float32", "float64"),
    ("bool", "float32"): ("bool", "int64", "float32", "float64"),
    ("bool", "float64"): ("bool", "int64", "float32", "float64"),
    # Not to int64: outside its range the result is the processor's, and may differ between the two floats.
    ("float32", "float64"): ("bool", "float32", "float64"),
}


def _shorten(node: Node, graph: Graph) -> int | None:
    if node.op != "Cast":
        return None
    value, to = node.inputs[0], node.attrs["to"]
    if graph.type_of(value).dtype == to:
        return value
    first = graph.node_if(value, "Cast")
    if first is None:
        return None
    source = first.inputs[0]
    dtype = graph.type_of(source).dtype
    if to not in _EXACT.get((dtype, first.attrs["to"]), ()):
        return None
    return source if dtype == to else graph.emit("Cast", (source,), {"to": to}, node.origin)


def _run(program: Program) -> tuple[Program, bool]:
    return rewrite(program, _shorten)


SHORTEN_CASTS = Pass(
    "shorten-casts",
    requires="nothing beyond a legal program",
    ensures="no cast to the dtype a value has; no cast of a cast that loses nothing",
    run=_run,
)
