"""Trees over raw columns: thresholds in the units of the columns that the caller gives, one column a category.

A node that compares a scaled or imputed number compares the raw one with the exact cut that cuts.py finds; where the
scaling falls, or nothing is left to compare, its children change places. Nodes over one-hot columns, codes and target
means of a category become sets of categories, or thresholds where those that go left stand first or last. Every row
reaches the leaf it reached before. What cannot be proved equal keeps its column. raw.py runs this pass.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes.categories import Categories
from edgeml.passes.cells import Cell, Fixed, Listed, Missing, Monotone, Tracer, gains, gather, source
from edgeml.passes.cuts import cuts
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rank import CATEGORIES, category_members
from edgeml.passes.rewrite import Graph, rewrite

_TREES = ("TreeEnsemble", "TreeLeaves")


@dataclass(slots=True)
class _Nodes:
    """The nodes of the ensemble in the making. ``column`` numbers the new columns in the order they were asked for."""

    column: Array
    threshold: Array
    missing_left: Array
    swap: Array
    category_set: Array
    sets: list[Array] = field(default_factory=list)

    @classmethod
    def of(cls, attrs: Mapping[str, Array]) -> _Nodes:
        count = len(attrs["feature"])
        return cls(
            np.full(count, -1, dtype=np.int32),
            attrs["threshold"].copy(),
            attrs["missing_left"].copy(),
            np.zeros(count, dtype=bool),
            np.full(count, -1, dtype=np.int32),
        )

    def keep(self, nodes: Array, column: int, attrs: Mapping[str, Array]) -> None:
        """Nodes that stay as they were, over the column they read."""
        self.column[nodes] = column
        sets = attrs["category_set"][nodes]
        of_set = sets >= 0
        self.category_set[nodes[of_set]] = len(self.sets) + np.arange(int(of_set.sum()))
        self.sets += list(attrs["categories"][sets[of_set]])

    def put(self, nodes: Array, column: int, left: Array, missing_left: Array) -> None:
        """Nodes that ask whether a cell is a number: ``left`` where it is, ``missing_left`` where not, (nodes,)."""
        self.column[nodes], self.threshold[nodes], self.category_set[nodes] = column, np.inf, -1
        self.swap[nodes], self.missing_left[nodes] = ~left, missing_left ^ ~left


class _Columns:
    """The columns the trees will read, numbered as they are asked for, and put together at the end."""

    def __init__(self) -> None:
        self.cells: dict[Cell, int] = {}
        self.recoded: list[tuple[Categories, Array, int]] = []
        self.count = 0

    def cell(self, cell: Cell) -> int:
        """The number of a column that stands in the graph."""
        if cell not in self.cells:
            self.cells[cell] = self.count
            self.count += 1
        return self.cells[cell]

    def recode(self, categories: Categories, numbers: Array) -> int:
        """The number of a column with a number for each category."""
        self.recoded.append((categories, numbers, self.count))
        self.count += 1
        return self.count - 1

    def together(self, graph: Graph, dtype: str, origin: str) -> tuple[int, Array]:
        """All columns side by side as ``dtype``, and where each number stands: the cells of a value together."""
        place = np.empty(self.count, dtype=np.int32)
        parts: list[int] = []
        width = 0
        groups: dict[tuple[str, ...], dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
        for (value, column), number in sorted(self.cells.items()):
            node = graph.node_if(value, "Cast")
            casts: tuple[str, ...] = (graph.type_of(value).dtype,)
            if node is not None:  # a cast of integers: of these columns alone
                value, column = source(graph, (node.inputs[0], column))
                casts = (graph.type_of(value).dtype, *casts)
            groups[casts][value].append((column, number))
        for casts, by_value in groups.items():
            same = gather(graph, [(v, c) for v, columns in by_value.items() for c, _ in columns], origin)
            for to in (*casts[1:], dtype):
                if graph.type_of(same).dtype != to:
                    same = graph.emit("Cast", (same,), {"to": to}, origin)
            parts.append(same)
            for _, number in (pick for columns in by_value.values() for pick in columns):
                place[number] = width
                width += 1
        for categories, numbers, number in self.recoded:
            parts.append(categories.recode(numbers.astype(dtype), origin))
            place[number] = width
            width += 1
        return graph.concat(parts, origin), place


def _raw_trees(node: Node, graph: Graph, tracer: Tracer) -> int | None:
    attrs, x = node.attrs, node.inputs[0]
    feature = attrs["feature"]
    used = np.unique(feature[feature >= 0])
    traces = {int(j): tracer.of(x, int(j)) for j in used}
    if not any(gains(trace) for trace in traces.values()) and not _reads_less(x, used, graph, tracer):
        return None
    numbers = {j: t for j, t in traces.items() if isinstance(t, (Missing, Monotone))}
    # Without arithmetic to fold, numbers stay as the trees had them: thresholds of float32 columns are short.
    folds = any(isinstance(t, Monotone) and not t.only_casts for t in numbers.values())
    dtype = "float64" if folds else graph.type_of(x).dtype
    if not folds and dtype == "float32":
        traces |= {j: replace(t, steps=()) for j, t in numbers.items() if isinstance(t, Monotone)}
    nodes, columns = _Nodes.of(attrs), _Columns()
    by_feature = _nodes_by_feature(feature)
    categorical = attrs["category_set"] >= 0
    asked: list[tuple[Monotone, Array]] = []
    listed: dict[Cell, list[tuple[Listed, Array]]] = defaultdict(list)
    fixed: list[tuple[Array, Array]] = []
    for j, trace in traces.items():
        here = by_feature[j]
        if isinstance(trace, Listed):
            listed[trace.root].append((trace, here))
            continue
        kept = here[categorical[here]]
        if kept.size:  # sets of categories of a number
            nodes.keep(kept, columns.cell(source(graph, (x, j))), attrs)
        here = here[~categorical[here]]
        if isinstance(trace, Monotone):
            asked.append((trace, here))
        elif isinstance(trace, Missing):
            at = attrs["threshold"][here], attrs["missing_left"][here] != 0
            nodes.put(here, columns.cell(trace.base), _left(trace.value, *at), _left(trace.at_nan, *at))
        elif isinstance(trace, Fixed):
            fixed.append((here, _left(trace.value, attrs["threshold"][here], attrs["missing_left"][here] != 0)))
    for group in listed.values():
        _categories(group, attrs, graph, nodes, columns, x)
    if asked:
        _numbers(asked, attrs, graph, nodes, columns)
    if not columns.count:
        return None
    for here, left in fixed:
        nodes.put(here, 0, left, left)
    value, place = columns.together(graph, dtype, node.origin)
    return _emit(node, graph, nodes, value, place)


def _reads_less(x: int, used: Array, graph: Graph, tracer: Tracer) -> bool:
    """Whether fewer values need be computed, or columns read, for the columns that trees compare than for all."""

    def origin(j: int) -> int:
        trace = tracer.of(x, j)
        return trace.base[0] if isinstance(trace, (Missing, Monotone)) else source(graph, (x, j))[0]

    needed = {origin(int(j)) for j in used}
    return any(origin(j) not in needed for j in range(graph.type_of(x).width))


def _nodes_by_feature(feature: Array) -> dict[int, Array]:
    narrow = np.int16 if feature.max(initial=0) < np.iinfo(np.int16).max else np.int32  # sorted by radix, not compared
    order = np.argsort(feature.astype(narrow), kind="stable")
    starts = np.flatnonzero(np.diff(feature[order], prepend=-2))
    return {int(feature[part[0]]): part for part in np.split(order, starts[1:])} if len(order) else {}


def _left(value: Array, threshold: Array, missing_left: Array) -> Array:
    """Whether a value, (1,), goes left of thresholds."""
    number = value.astype(np.float64)
    return np.where(np.isnan(number), missing_left, number <= threshold)


# --- numbers ------------------------------------------------------------------------------------------------
def _numbers(
    asked: Sequence[tuple[Monotone, Array]], attrs: Mapping[str, Array], graph: Graph, nodes: _Nodes, columns: _Columns
) -> None:
    """Nodes over numbers: their cuts in the units of the base."""
    different: list[Array] = []
    inverse: list[Array] = []
    for _, here in asked:
        own, back = np.unique(attrs["threshold"][here], return_inverse=True)
        different.append(own)
        inverse.append(back.reshape(-1))
    counts = [len(own) for own in different]
    which = np.repeat(np.arange(len(asked)), counts)
    bases = [graph.type_of(trace.base[0]).dtype for trace, _ in asked]
    plain = np.array([not trace.steps for trace, _ in asked])
    found = np.concatenate(different)
    moved = ~plain[which]
    found[moved] = cuts([t for t, _ in asked], which[moved], found[moved], bases)
    for (trace, here), own, back in zip(asked, np.split(found, np.cumsum(counts)[:-1]), inverse, strict=True):
        if not here.size:
            continue
        column = columns.cell(trace.base)
        threshold, cut = attrs["threshold"][here], own[back]
        missing = _left(trace.at_nan, threshold, attrs["missing_left"][here] != 0)
        nodes.column[here], nodes.threshold[here] = column, cut
        nodes.swap[here], nodes.missing_left[here] = not trace.rises, missing ^ (not trace.rises)
        # Every number goes one way: right where none is left of the cut, left where none is right of a falling one.
        never = np.isnan(cut)
        nodes.put(here[never], column, np.full(int(never.sum()), not trace.rises), missing[never])


# --- categories ---------------------------------------------------------------------------------------------
def _categories(
    group: Sequence[tuple[Listed, Array]],
    attrs: Mapping[str, Array],
    graph: Graph,
    nodes: _Nodes,
    columns: _Columns,
    x: int,
) -> None:
    """Nodes over columns computed of one category."""
    categories = Categories(graph, [trace for trace, _ in group])
    if categories.count > CATEGORIES:
        categories.merge(_alike(categories.values))
    codes = np.arange(categories.count)
    column = -1
    chunks: dict[int, int] = {}
    for (_, here), values in zip(group, categories.values, strict=True):
        questions, question = _questions(values.astype(np.float64), attrs, here)
        for q, left in enumerate(questions):
            asking = here[question == q]
            first = int(left.sum())
            if left[:first].all() or left[len(left) - first :].all():
                # The first categories go left, or the last ones: then the others do when children change places.
                if column < 0:
                    column = columns.recode(categories, codes)
                swap = not left[:first].all()
                nodes.column[asking], nodes.swap[asking], nodes.category_set[asking] = column, swap, -1
                nodes.threshold[asking] = (len(left) - first if swap else first) - 1
                nodes.missing_left[asking] = 0
                if first in (0, len(left)):
                    nodes.put(asking, column, np.full(len(asking), first > 0), np.zeros(len(asking), dtype=bool))
                continue
            most = 2 * first > len(left)
            chunk = np.unique(np.flatnonzero(left != most) // CATEGORIES)
            if len(chunk) > 1:  # a question about too many categories for one set
                nodes.keep(asking, columns.cell(source(graph, (x, int(attrs["feature"][asking[0]])))), attrs)
                continue
            at = int(chunk[0])
            if at not in chunks and len(codes) <= CATEGORIES:
                column = columns.recode(categories, codes) if column < 0 else column
                chunks[at] = column
            elif at not in chunks:
                inside = codes // CATEGORIES == at
                chunks[at] = columns.recode(categories, np.where(inside, codes - at * CATEGORIES, -1))
            nodes.column[asking], nodes.missing_left[asking] = chunks[at], most
            nodes.category_set[asking] = len(nodes.sets)
            nodes.sets.append(_as_set(left[at * CATEGORIES : (at + 1) * CATEGORIES]))


def _alike(values: Sequence[Array]) -> Array:
    """Numbers for categories, in their order, such that those with equal values everywhere have one."""
    table = np.stack([np.unique(v, return_inverse=True)[1].reshape(-1) for v in values])
    _, first, group = np.unique(table, axis=1, return_index=True, return_inverse=True)
    return np.asarray(np.argsort(np.argsort(first))[group.reshape(-1)])


def _questions(values: Array, attrs: Mapping[str, Array], here: Array) -> tuple[Array, Array]:
    """bool (questions, categories): which categories go left; and the question that each node asks."""
    sets, missing_left = attrs["category_set"][here], attrs["missing_left"][here] != 0
    nan = np.isnan(values)
    # All that matters of a threshold is how many of the few values are not above it.
    levels = np.unique(values[~nan])
    place = np.where(sets >= 0, 0, np.searchsorted(levels, attrs["threshold"][here], side="right"))
    kinds = int(sets.max()) + 2
    different, question = _unique_integers((place * 2 + missing_left) * kinds + sets + 1)
    rest, of_set = np.divmod(different, kinds)
    at, missing, of_set = (rest >> 1)[:, None], (rest & 1 != 0)[:, None], of_set - 1
    left = np.where(nan, missing, np.searchsorted(levels, values) < at)
    chosen = of_set >= 0
    if chosen.any():
        inside = (values >= 0) & (values < CATEGORIES)
        bits = category_members({"categories": attrs["categories"][of_set[chosen]]})
        code = np.where(inside, values, 0).astype(np.int64)
        left[chosen] = np.where(inside, bits[:, code], missing[chosen])
    alike, again = np.unique(left, axis=0, return_inverse=True)
    return alike, again.reshape(-1)[question]


def _unique_integers(keys: Array) -> tuple[Array, Array]:
    """numpy.unique with its inverse, of numbers from 0 on; counted, not sorted, where they are close together."""
    if keys.max(initial=0) > 4 * len(keys) + CATEGORIES:
        different, inverse = np.unique(keys, return_inverse=True)
        return different, inverse.reshape(-1)
    present = np.bincount(keys) > 0
    return np.flatnonzero(present), (np.cumsum(present) - 1)[keys]


def _as_set(left: Array) -> Array:
    bits = np.zeros(CATEGORIES, dtype=bool)
    bits[: len(left)] = left
    return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)


# --- the new node -------------------------------------------------------------------------------------------
def _emit(node: Node, graph: Graph, nodes: _Nodes, x: int, place: Array) -> int:
    attrs = node.attrs
    inner = attrs["feature"] >= 0
    categories = np.zeros((0, CATEGORIES // 32), dtype=np.uint32)
    sets = nodes.category_set
    if nodes.sets:
        categories, back = np.unique(np.stack(nodes.sets), axis=0, return_inverse=True)
        sets = np.where(inner & (sets >= 0), back.reshape(-1)[np.maximum(sets, 0)], -1).astype(np.int32)
    swap = nodes.swap & inner
    return graph.emit(
        node.op,
        (x,),
        {
            **attrs,
            "feature": np.where(inner, place[np.maximum(nodes.column, 0)], -1).astype(np.int32),
            "threshold": nodes.threshold,
            "missing_left": nodes.missing_left.astype(np.uint8),
            "left": np.where(swap, attrs["right"], attrs["left"]),
            "right": np.where(swap, attrs["left"], attrs["right"]),
            "category_set": sets,
            "categories": categories,
        },
        node.origin,
    )


def _run(program: Program) -> tuple[Program, bool]:
    graph = Graph(program.inputs)
    tracer = Tracer(graph)
    return rewrite(program, lambda n, g: _raw_trees(n, g, tracer) if n.op in _TREES else None, graph)


RAW_TREES = Pass(
    "raw-trees",
    requires="nothing beyond a legal program",
    ensures="no tree compares what is computed by constants of one raw column where an exact cut or a set is known",
    run=_run,
)
