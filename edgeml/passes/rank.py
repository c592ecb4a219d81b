"""Trees over ranks: a threshold is replaced by its place among the thresholds of its column, a cell by its rank.

``x <= threshold`` holds exactly where the rank of x (how many of the column's thresholds are below it) is at most the
place of the threshold, so a tree over ranks takes the same way on every row, and all it compares are small integers.
What made a node special becomes a column of its own: a column where NaN ranks lowest for nodes that send NaN left, and
a column of 0 and 1 for each set of categories. The TFLite target and the lossless quantiser run this pass; the standard
list does not, since float64 thresholds cost the kernels nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeml.ir.ops import OPS
from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes.facts import Known
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import Graph, rewrite

# Categories of a set, as in edgeml/ir: everything outside [0, CATEGORIES) counts as missing.
CATEGORIES = 256
# A rank is at most this much above the largest threshold of an ensemble over ranks: NaN behind the last edge.
ABOVE = 2
_EXACT_FLOAT32 = 2**24


@dataclass(slots=True)
class _Columns:
    """Columns of small integers that take the place of a tree's columns, put together side by side."""

    values: list[int]
    width: int = 0

    def add(self, value: int, graph: Graph) -> int:
        """Append the columns of a value; the position of the first."""
        first = self.width
        self.values.append(value)
        self.width += graph.type_of(value).width
        return first


def _is_ranked(node: Node, graph: Graph, known: Known) -> bool:
    """Whether a tree node has the form this pass gives already."""
    cast = graph.node_if(node.inputs[0], "Cast")
    if cast is None or graph.type_of(cast.inputs[0]).dtype != "int64":
        return False
    facts, threshold = known.of(cast.inputs[0]), node.attrs["threshold"]
    small = facts.low.min() >= 0 and facts.high.max() <= threshold.max() + ABOVE
    plain = not node.attrs["missing_left"].any() and (node.attrs["category_set"] < 0).all()
    return bool(small and plain and (threshold == np.floor(threshold)).all())


def _rank_trees(node: Node, graph: Graph, known: Known) -> int | None:
    if _is_ranked(node, graph, known):
        return None
    inner = node.attrs["feature"] >= 0
    if not inner.any():
        return _one_leaf_each(node, graph)
    columns = _Columns([])
    feature = np.full(len(inner), -1, dtype=np.int32)
    threshold = np.zeros(len(inner))
    categorical = inner & (node.attrs["category_set"] >= 0)
    if (inner & ~categorical).any():
        nan = known.of(node.inputs[0]).nan
        _numeric(node, graph, np.flatnonzero(inner & ~categorical), nan, columns, feature, threshold)
    if categorical.any():
        _categorical(node, graph, np.flatnonzero(categorical), columns, feature, threshold)
    dtype = "float32" if threshold.max() + ABOVE < _EXACT_FLOAT32 else "float64"
    x = graph.emit("Cast", (graph.concat(columns.values, node.origin),), {"to": dtype}, node.origin)
    attrs = {
        **node.attrs,
        "feature": feature,
        "threshold": threshold,
        "missing_left": np.zeros(len(inner), dtype=np.uint8),
        "category_set": np.full(len(inner), -1, dtype=np.int32),
        "categories": np.zeros((0, CATEGORIES // 32), dtype=np.uint32),
    }
    return graph.emit(node.op, (x,), attrs, node.origin)


def _one_leaf_each(node: Node, graph: Graph) -> int:
    """Trees without a split answer every row alike."""
    row = OPS[node.op].evaluate(np.zeros((1, graph.type_of(node.inputs[0]).width)), **node.attrs)[0]
    return graph.emit("Constant", (), {"value": row}, node.origin)


def _rank(graph: Graph, x: int, features: Array, edges: list[Array], origin: str) -> int:
    """Ranks of columns ``features`` of x among their edges."""
    offsets = np.cumsum([0, *map(len, edges)]).astype(np.int64)
    attrs = {"edges": np.concatenate(edges).astype(np.float64), "offsets": offsets}
    return graph.emit("Rank", (graph.select(x, features, origin),), attrs, origin)


def _numeric(
    node: Node, graph: Graph, nodes: Array, nan: Array, columns: _Columns, feature: Array, threshold: Array
) -> None:
    """Columns for nodes that compare with a threshold, and these nodes over them."""
    used, place = np.unique(node.attrs["feature"][nodes], return_inverse=True)
    split = node.attrs["threshold"][nodes]
    # Only NaN is above a threshold of +inf, and it ranks above every place there is.
    edges = [np.unique(split[(place == j) & (split < np.inf)]) for j in range(len(used))]
    for j, own in enumerate(edges):
        here = place == j
        threshold[nodes[here]] = np.searchsorted(own, split[here])
    ranks = _rank(graph, node.inputs[0], used, edges, node.origin)
    left = (node.attrs["missing_left"][nodes] != 0) & nan[used][place]
    for nan_lowest, chosen in ((False, ~left), (True, left)):
        if not chosen.any():
            continue
        own_columns, column = np.unique(place[chosen], return_inverse=True)
        value = graph.select(ranks, own_columns, node.origin)
        if nan_lowest:
            value = _nan_lowest(graph, value, np.array([len(edges[j]) for j in own_columns]), node.origin)
        feature[nodes[chosen]] = columns.add(value, graph) + column


def _nan_lowest(graph: Graph, ranks: int, counts: Array, origin: str) -> int:
    """Ranks where NaN, which ranks above the number of edges, ranks 0 instead: at most any place, so it goes left."""
    most = graph.emit("Constant", (), {"value": counts.astype(np.int64)}, origin)
    zero = graph.emit("Constant", (), {"value": np.zeros(1, dtype=np.int64)}, origin)
    is_nan = graph.emit("Greater", (ranks, most), {}, origin)
    return graph.emit("Where", (is_nan, zero, ranks), {}, origin)


def _categorical(node: Node, graph: Graph, nodes: Array, columns: _Columns, feature: Array, threshold: Array) -> None:
    """A column for every set of categories that is asked about, 1 where a cell goes right, and its nodes over it."""
    used, place = np.unique(node.attrs["feature"][nodes], return_inverse=True)
    members = category_members(node.attrs)[node.attrs["category_set"][nodes]]
    edges = [_category_edges(members[place == j]) for j in range(len(used))]
    ranks = _rank(graph, node.inputs[0], used, edges, node.origin)
    for j, own in enumerate(edges):
        here = nodes[place == j]
        goes_left = np.concatenate([members[place == j], node.attrs["missing_left"][here, None].astype(bool)], axis=1)
        questions, question = np.unique(goes_left, axis=0, return_inverse=True)
        code = graph.select(ranks, np.array([j]), node.origin)
        table = (~questions[:, _category_of_rank(own)]).T.astype(np.int64)
        value = graph.emit("Take", (code,), {"table": np.ascontiguousarray(table)}, node.origin)
        feature[here] = columns.add(value, graph) + question.reshape(-1)
        threshold[here] = 0.0  # 0 is at most 0 and goes left, 1 is not


def category_members(attrs: Mapping[str, Array]) -> Array:
    """bool (sets, CATEGORIES): whether a category goes left."""
    words = np.ascontiguousarray(attrs["categories"]).astype("<u4")
    return np.unpackbits(words.view(np.uint8), axis=1, bitorder="little").astype(bool)


def _category_edges(members: Array) -> Array:
    """Edges that tell apart: below 0, each category up to the largest one listed, those above it, and 256 on."""
    listed = int(np.flatnonzero(members.any(axis=0)).max(initial=-1))
    starts = np.unique([*range(listed + 2), CATEGORIES]).astype(np.float64)
    return np.nextafter(starts, -np.inf)  # x is above the float64 before c exactly where x >= c


def _category_of_rank(edges: Array) -> Array:
    """The category each rank stands for, CATEGORIES for what counts as missing."""
    inside = len(edges) - 1  # ranks 1 to this are in [0, 256); the last of them may stand for many, none listed
    return np.array([CATEGORIES, *range(inside), CATEGORIES, CATEGORIES])


def rank_trees(program: Program, chosen: Callable[[Node], bool] = lambda node: True) -> tuple[Program, bool]:
    """The program with the chosen tree nodes over ranks, and whether it differs."""
    graph = Graph(program.inputs)
    known = Known(graph)

    def rule(node: Node, graph: Graph) -> int | None:
        trees = node.op in ("TreeEnsemble", "TreeLeaves")
        return _rank_trees(node, graph, known) if trees and chosen(node) else None

    return rewrite(program, rule, graph)


RANK_TREES = Pass(
    "rank-trees",
    requires="nothing beyond a legal program",
    ensures="every tree compares ranks, small integers, and has neither missing values nor categories",
    run=rank_trees,
)
