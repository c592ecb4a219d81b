"""Checks over raw columns: a CheckFinite of scaled, cast and one-hot columns becomes a range of the raw ones.

What is computed of a raw number by growing steps is finite exactly between two raw numbers, which cuts.py finds; what
is computed of a category is finite or not whatever the row. So the check refuses the rows it refused and names the
column it named, and the columns it read need not be computed any more. raw.py runs this pass.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes.categories import Categories
from edgeml.passes.cells import Cell, Fixed, Listed, Missing, Monotone, Tracer, gains
from edgeml.passes.cuts import cuts
from edgeml.passes.facts import Known
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite


@dataclass(slots=True)
class _Range:
    """What a raw column may hold; ``column``: the first one of the checked value that depends on it."""

    low: float
    high: float
    allow_nan: bool
    column: int


def _raw_check(node: Node, graph: Graph, tracer: Tracer, known: Known) -> int | None:
    if node.op != "CheckFinite":
        return None
    x, allow_nan = node.inputs[0], node.attrs["allow_nan"]
    traces = [tracer.of(x, j) for j in range(node.type.width)]
    if not any(gains(trace) for trace in traces):
        return None
    ranges: dict[Cell, _Range] = {}
    numbers = [(j, t) for j, t in enumerate(traces) if isinstance(t, Monotone)]
    if not all(t.rises for _, t in numbers):
        return None
    limits = _limits([t for _, t in numbers], node.type.dtype, graph)
    for (j, number), low, high in zip(numbers, *limits, strict=True):
        _narrow(ranges, number.base, low, high, _passes(number.at_nan, allow_nan), j)
    listed: dict[Cell, list[Listed]] = defaultdict(list)
    for j, trace in enumerate(traces):
        if isinstance(trace, Missing):
            if not _passes(trace.value, allow_nan):
                return None
            _narrow(ranges, trace.base, -np.inf, np.inf, _passes(trace.at_nan, allow_nan), j)
        elif isinstance(trace, Fixed):
            if not _passes(trace.value, allow_nan):
                return None
        elif isinstance(trace, Listed):
            listed[trace.root].append(trace)
    for group in listed.values():
        if not all(_passes(values, allow_nan) for values in Categories(graph, group).values):
            return None
    _emit(node, ranges, graph, known)
    return x


def _passes(values: Array, allow_nan: bool) -> bool:
    return bool((np.isfinite(values) | (allow_nan & np.isnan(values))).all())


def _limits(traces: list[Monotone], dtype: str, graph: Graph) -> tuple[Array, Array]:
    """Least and largest bases that give a finite number of ``dtype``."""
    largest = float(np.finfo(dtype).max)
    bases = [graph.type_of(trace.base[0]).dtype for trace in traces]
    which = np.tile(np.arange(len(traces)), 2)
    at = np.repeat([-np.inf, largest], len(traces))
    last, high = np.split(cuts(traces, which, at, bases), 2)
    with np.errstate(over="ignore"):
        above = [np.nextafter(x, x.dtype.type(np.inf)) for x in map(np.asarray, last, bases)]
    # A step that nothing takes to -inf has no last base there; one that everything takes beyond has no largest.
    low = np.where(np.isnan(last), -np.inf, np.array(above, dtype=np.float64))
    return low, np.where(np.isnan(high), -np.inf, high)


def _narrow(ranges: dict[Cell, _Range], base: Cell, low: float, high: float, allow_nan: bool, column: int) -> None:
    found = ranges.setdefault(base, _Range(low, high, allow_nan, column))
    found.low, found.high = max(found.low, low), min(found.high, high)
    found.allow_nan = found.allow_nan and allow_nan


def _emit(node: Node, ranges: dict[Cell, _Range], graph: Graph, known: Known) -> None:
    """Checks of the columns that may fail, those of one dtype together."""
    by_dtype: dict[str, dict[int, list[tuple[int, _Range]]]] = {}
    for (value, column), limit in sorted(ranges.items(), key=lambda item: item[0]):
        facts = known.of(value)
        inside = facts.low[column] >= limit.low and facts.high[column] <= limit.high
        if not inside or (facts.nan[column] and not limit.allow_nan):
            by_dtype.setdefault(graph.type_of(value).dtype, {}).setdefault(value, []).append((column, limit))
    for by_value in by_dtype.values():
        picks = [graph.select(v, np.array([c for c, _ in some]), node.origin) for v, some in by_value.items()]
        limits = [limit for some in by_value.values() for _, limit in some]
        attrs = {
            "low": np.array([r.low for r in limits]),
            "high": np.array([r.high for r in limits]),
            "allow_nan": np.array([r.allow_nan for r in limits]),
            "columns": np.array([r.column for r in limits], dtype=np.int64),
            "what": node.attrs["what"],
        }
        graph.emit("CheckRange", (graph.concat(picks, node.origin),), attrs, node.origin)


def _run(program: Program) -> tuple[Program, bool]:
    graph = Graph(program.inputs)
    tracer, known = Tracer(graph), Known(graph)
    return rewrite(program, lambda n, g: _raw_check(n, g, tracer, known), graph)


RAW_CHECKS = Pass(
    "raw-checks",
    requires="nothing beyond a legal program",
    ensures="no CheckFinite reads one-hot or scaled columns whose raw ones tell the same",
    run=_run,
)
