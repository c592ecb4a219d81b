"""Linear maps over raw columns: rows of a table added for categories, where one-hot columns were multiplied before.

Neighbouring columns of a Linear that depend on one category, at most one of them not zero for any of its values, become
one code and a table. Exact to the bit: the sum starts at +0.0 and runs in column order. A sum of two numbers is -0.0
only when both are, so no partial sum ever is; adding the products 0 * w, which are zeros of either sign as w is finite,
leaves it as it is, infinity and NaN included. What is left of a category is its one product, rounded as it was, added
where its column stood. raw.py runs this pass.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes.categories import Categories
from edgeml.passes.cells import Listed, Tracer, gather
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite


@dataclass(slots=True)
class _Run:
    """Neighbouring columns [first, end) that one category decides."""

    first: int
    end: int
    categories: Categories
    row: Array  # (categories,): which of the columns is not zero, -1 for none
    values: list[Array]


def _raw_linear(node: Node, graph: Graph, tracer: Tracer) -> int | None:
    if node.op != "Linear":
        return None
    x, weight = node.inputs[0], node.attrs["weight"]
    runs = _runs(x, weight, graph, tracer)
    if not runs:
        return None
    inside = np.zeros(len(weight), dtype=bool)
    tables, after, codes = [], [], []
    for run in runs:
        inside[run.first : run.end] = True
        after.append(int((~inside[: run.first]).sum()))
        tables.append(_table(run, weight))
        codes.append(run.categories.recode(np.arange(run.categories.count), node.origin))
    dense = np.flatnonzero(~inside)
    attrs = {
        "weight": np.ascontiguousarray(weight[dense]),
        "bias": node.attrs["bias"],
        "table": np.concatenate(tables),
        "starts": np.cumsum([0, *map(len, tables)]).astype(np.int64),
        "after": np.array(after, dtype=np.int64),
    }
    return graph.emit("TableLinear", (_dense(x, dense, graph, node.origin), *codes), attrs, node.origin)


def _runs(x: int, weight: Array, graph: Graph, tracer: Tracer) -> list[_Run]:
    """The columns that tables can take the place of, those of one category after the other."""
    finite: list[bool] = np.asarray(np.isfinite(weight).all(axis=1)).tolist()
    blocks: list[tuple[int, list[Listed]]] = []
    for j in range(len(weight)):
        trace = tracer.of(x, j)
        if not isinstance(trace, Listed) or not finite[j]:
            continue
        first, listed = blocks[-1] if blocks else (0, [])
        if listed and first + len(listed) == j and listed[0].root == trace.root:
            listed.append(trace)
        else:
            blocks.append((j, [trace]))
    return [run for first, listed in blocks if len(listed) > 1 for run in _runs_of_one(first, listed, graph)]


def _runs_of_one(first: int, traces: list[Listed], graph: Graph) -> list[_Run]:
    """Runs as long as no category has two numbers that are not zero.

    A column by itself is multiplied as fast as its row is found. A table may have two rows for each of the weights'.
    """
    categories = Categories(graph, traces)
    runs: list[_Run] = []
    start, row = 0, np.full(categories.count, -1)
    for at, values in enumerate(categories.values):
        used = np.flatnonzero(values)
        if not np.isfinite(values).all() or (row[used] >= 0).any():
            start, row = at, np.full(categories.count, -1)
            if not np.isfinite(values).all():
                start = at + 1
                continue
        row[used] = at - start
        if at - start == 1:
            runs.append(_Run(first + start, first + start, categories, row, []))
        if at > start:
            runs[-1].end, runs[-1].values = first + at + 1, categories.values[start : at + 1]
    return [run for run in runs if categories.count <= 2 * (run.end - run.first + 1)]


def _table(run: _Run, weight: Array) -> Array:
    """The one product of each category, zeros where it has none."""
    table = np.zeros((len(run.row), weight.shape[1]), dtype=weight.dtype)
    for at, values in enumerate(run.values):
        own = run.row == at
        table[own] = values[own, None].astype(weight.dtype) * weight[run.first + at]
    return table


def _dense(x: int, columns: Array, graph: Graph, origin: str) -> int:
    """The other columns side by side."""
    if not columns.size:
        return graph.emit("Constant", (), {"value": np.zeros(0, dtype=graph.type_of(x).dtype)}, origin)
    return gather(graph, [(x, int(j)) for j in columns], origin)


def _run(program: Program) -> tuple[Program, bool]:
    graph = Graph(program.inputs)
    tracer = Tracer(graph)
    return rewrite(program, lambda n, g: _raw_linear(n, g, tracer), graph)


RAW_LINEAR = Pass(
    "raw-linear",
    requires="nothing beyond a legal program",
    ensures="no Linear multiplies neighbouring one-hot columns of finite weights",
    run=_run,
)
