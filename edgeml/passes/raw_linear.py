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

# A table of this many numbers is 8 MB, more than a cache holds and than a sum of one-hot columns reads.
MAX_TABLE = 1 << 20


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
    """Runs of two columns or more: a column by itself is multiplied as fast as its row is found."""
    traces = [tracer.of(x, j) for j in range(len(weight))]
    finite = np.isfinite(weight).all(axis=1)
    runs: list[_Run] = []
    at = 0
    while at < len(traces):
        first = traces[at]
        end = at
        while end < len(traces) and isinstance(first, Listed):
            other = traces[end]
            if not isinstance(other, Listed) or other.root != first.root or not finite[end]:
                break
            end += 1
        if end - at >= 2:
            run = _longest(at, [t for t in traces[at:end] if isinstance(t, Listed)], graph)
            if run is not None and run.categories.count * weight.shape[1] <= MAX_TABLE:
                runs.append(run)
                end = run.end
        at = max(end, at + 1)
    return runs


def _longest(first: int, traces: list[Listed], graph: Graph) -> _Run | None:
    """The longest run from the first column on with at most one number that is not zero a category."""
    categories = Categories(graph, traces)
    row = np.full(categories.count, -1)
    end = 0
    for values in categories.values:
        used = np.flatnonzero(values)
        if not np.isfinite(values).all() or (row[used] >= 0).any():
            break
        row[used] = end
        end += 1
    return _Run(first, first + end, categories, row, categories.values[:end]) if end >= 2 else None


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
