"""TFLite lowerings of the ops that take many steps for a row (edgeml/ir/ops_iterate.py).

Loop is WHILE, as long as any row goes on; rows that are done keep their state. Its body's own nodes are lowered into
the subgraph that WHILE runs. An iteration to a tolerance may end a round earlier or later in float32 than in float64:
the check of the artifact tells whether that matters. Systems of equations are solved by elimination, column by column.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node, Program
from edgeml.targets.tflite_graph import ROWS, Graph, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers

# Operators that one answer may run through: some tenths of a second on a laptop.
_MOST_OPERATORS = 200_000


@lowers("Loop")
def loop(w: Lowering, node: Node, state: Value, *given: Value) -> Tensor:
    body: Program = node.attrs["body"]
    if _operators(node) > _MOST_OPERATORS:
        raise w.refuse(f"iterates up to {node.attrs['most']} times over {len(body.nodes)} operations, too long a way")
    most, origin = np.full(1, node.attrs["most"], np.int32), w.origin
    one = (ROWS, 1)

    def goes_on(g: Graph, now: list[Tensor]) -> Tensor:
        early = g.op("LESS", [now[0], most], (1,), "bool")
        return g.op("LOGICAL_AND", [early, g.reduce("REDUCE_ANY", now[1], 0)], (1,))

    def step(g: Graph, now: list[Tensor]) -> list[Tensor]:
        count, active, before, *rest = now
        inputs = [Value(before, node.type, False)]
        inputs += [Value(t, x.type, x.one_row) for t, x in zip(rest, given, strict=True)]
        inner = Lowering.of_body(body, g, inputs, origin)
        if inner.checks:
            raise w.refuse("would refuse rows within an iteration")
        after, more = (inner.all_rows(inner.value(body.outputs[name].values[0])) for name in ("state", "more"))
        state = g.op("SELECT_V2", [active, after, before], before.shape, before.dtype)
        still = g.op("LOGICAL_AND", [active, more], one)
        return [g.op("ADD", [count, np.ones(1, np.int32)], (1,)), still, state, *rest]

    start = w.all_rows(state)
    every = w.graph.op("LOGICAL_NOT", [w.no()], one)
    return w.graph.loop([np.zeros(1, np.int32), every, start, *(x.tensor for x in given)], goes_on, step)[2]


def _operators(node: Node) -> int:
    """At most so many operations of the program."""
    if node.op != "Loop":
        return 1
    most: int = node.attrs["most"]
    return most * sum(map(_operators, node.attrs["body"].nodes))


@lowers("Solve")
def solve(w: Lowering, node: Node, matrix: Value, right: Value) -> Tensor:
    """Gauss and Jordan without pivots, which a positive definite matrix does not need; of others a pivot is not
    positive, and makes NaN of all that follows."""
    g, k, rows = w.graph, node.type.width, w.shape(node, matrix, right)[0]
    square, column = (w.all_rows(x) if rows == ROWS else x.tensor for x in (matrix, right))
    parts = [g.reshape(square, (rows, k, k)), g.reshape(column, (rows, k, 1))]
    cells = g.op("CONCATENATION", parts, (rows, k, k + 1), axis=2)
    nan, zero = np.full((1, 1, 1), np.nan, np.float32), np.zeros((1, 1, 1), np.float32)
    for j in range(k):
        at, is_here = np.array([j], np.int32), np.arange(k)[:, None] == j
        row = g.gather(cells, at, axis=1)
        pivot = g.gather(row, at, axis=2)
        positive = g.op("GREATER", [pivot, zero], pivot.shape, "bool")
        scaled = g.op("DIV", [row, g.op("SELECT_V2", [positive, pivot, nan], pivot.shape, "float32")], row.shape)
        rest = g.op("SUB", [cells, g.op("MUL", [g.gather(cells, at, axis=2), scaled], cells.shape)], cells.shape)
        cells = g.op("SELECT_V2", [is_here[None], scaled, rest], cells.shape, "float32")
    return g.reshape(g.gather(cells, np.array([k], np.int32), axis=2), (rows, k))
