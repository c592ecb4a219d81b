"""Column handling: Selects of Selects and of Concats, Concats of Concats and of neighbouring Selects become
one step.

Converters join and split columns as scikit-learn's steps do; a device should read each column straight from
where it was computed. Called by ``optimise``.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite


def _simplify(node: Node, graph: Graph) -> int | None:
    if node.op == "Select":
        return _select(node, graph)
    if node.op == "Concat":
        return _concat(node, graph)
    return None


def _select(node: Node, graph: Graph) -> int | None:
    value, indices = node.inputs[0], node.attrs["indices"]
    if np.array_equal(indices, np.arange(graph.type_of(value).width)):
        return value
    inner = graph.node_if(value, "Select")
    if inner is not None:
        return graph.select(inner.inputs[0], inner.attrs["indices"][indices], node.origin)
    joined = graph.node_if(value, "Concat")
    if joined is None or not indices.size:
        return None
    runs = _runs(joined, indices, graph)
    # More pieces than the Concat had would cost more than the one Select saves, unless each is a whole value.
    whole = all(np.array_equal(places, np.arange(graph.type_of(part).width)) for part, places in runs)
    if len(runs) > len(joined.inputs) and not whole:
        return None
    return graph.concat([graph.select(part, places, node.origin) for part, places in runs], node.origin)


def _runs(joined: Node, indices: Array, graph: Graph) -> list[tuple[int, Array]]:
    """Selected columns of a Concat as (part, columns of the part); neighbours from one part stay together."""
    starts = np.cumsum([0, *(graph.type_of(part).width for part in joined.inputs)])
    owners = np.searchsorted(starts, indices, side="right") - 1
    cuts = np.flatnonzero(np.diff(owners)) + 1
    return [
        (joined.inputs[owner[0]], places - starts[owner[0]])
        for owner, places in zip(np.split(owners, cuts), np.split(indices, cuts), strict=True)
    ]


def _concat(node: Node, graph: Graph) -> int | None:
    if len(node.inputs) == 1:
        return node.inputs[0]
    flat: list[int] = []
    for value in node.inputs:
        inner = graph.node_if(value, "Concat")
        flat.extend(inner.inputs if inner is not None else (value,))
    merged: list[tuple[int, Array, bool]] = []
    for value in flat:
        chosen = graph.node_if(value, "Select")
        source = value if chosen is None else chosen.inputs[0]
        places = np.arange(graph.type_of(value).width) if chosen is None else chosen.attrs["indices"]
        # Two whole values side by side, [x, x], stay a Concat: a Select would be no simpler.
        if merged and merged[-1][0] == source and (chosen is not None or merged[-1][2]):
            merged[-1] = (source, np.concatenate([merged[-1][1], places]), True)
        else:
            merged.append((source, places, chosen is not None))
    if len(merged) == len(node.inputs) and tuple(flat) == node.inputs:
        return None
    return graph.concat([graph.select(source, places, node.origin) for source, places, _ in merged], node.origin)


def _run(program: Program) -> tuple[Program, bool]:
    return rewrite(program, _simplify)


SIMPLIFY_COLUMNS = Pass(
    "simplify-columns",
    requires="nothing beyond a legal program",
    ensures="no Select of a Select or of all columns, no Concat of a Concat or of Selects that could be one",
    run=_run,
)
