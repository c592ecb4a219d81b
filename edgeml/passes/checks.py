"""Redundant checks: a CheckFinite of a value that cannot be infinite (nor NaN, where that is refused) goes.

scikit-learn checks in every step; one-hot columns, comparisons, imputed columns and values checked before
pass every time. Which rows are refused, and by which check, stays the same. Called by ``optimise``.
"""

from __future__ import annotations

from edgeml.ir.program import Node, Program
from edgeml.passes.facts import Known
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite


def _run(program: Program) -> tuple[Program, bool]:
    graph = Graph(program.inputs)
    known = Known(graph)

    def drop(node: Node, graph: Graph) -> int | None:
        if node.op != "CheckFinite":
            return None
        value = node.inputs[0]
        always_passes = known.of(value).finite(node.type.dtype, allow_nan=node.attrs["allow_nan"])
        return value if always_passes else None

    return rewrite(program, drop, graph)


DROP_CHECKS = Pass(
    "drop-checks",
    requires="nothing beyond a legal program",
    ensures="every CheckFinite can fail, as far as interval arithmetic tells",
    run=_run,
)
