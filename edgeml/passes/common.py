"""Common sub-expressions: two nodes that compute the same from the same values become one, the first.

Attributes are compared bit for bit, so -0.0 and 0.0 stay apart and NaN equals NaN. Called by ``optimise``.
"""

from __future__ import annotations

from collections.abc import Hashable

from edgeml.ir.program import Node, Program, attr_key
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite


def _run(program: Program) -> tuple[Program, bool]:
    seen: dict[Hashable, int] = {}

    def merge(node: Node, graph: Graph) -> int | None:
        attrs = tuple((name, attr_key(node.attrs[name])) for name in sorted(node.attrs))
        key = (node.op, node.inputs, attrs)
        if key in seen:
            return seen[key]
        seen[key] = graph.next_value  # kept: the node is about to get this id
        return None

    return rewrite(program, merge)


SHARE_COMMON = Pass(
    "share-common",
    requires="nothing beyond a legal program",
    ensures="no two nodes have the same op, operands and attributes",
    run=_run,
)
