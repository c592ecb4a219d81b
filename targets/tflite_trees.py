"""TFLite lowerings of tree ensembles over ranks (edgeml/passes/rank.py): one small table of nodes, level by level.

A walk through a tree is a node number. One level of all trees of all rows is three look-ups by node (which column,
which place, how far to the children), one by column, a comparison and two additions: the right child stands behind
the left one. A leaf is a node that leads to itself, so every walk takes as many steps as the deepest tree. Siblings are
laid out so that the smaller branch comes first, which keeps the distances in a byte or two.

    column    of the node's cell; 0 in a leaf
    place     right where the cell's rank is above it; in a leaf LEAF + number of the leaf, which no rank is above
    distance  from the node to its left child; 0 in a leaf
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.passes.rank import ABOVE
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers

# Values that are added one by one; more are added in groups, since a long float32 sum loses digits.
_ADDED_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Table:
    """The nodes of an ensemble but for its roots; arrays of one entry a node, and one a tree for the first level."""

    column: Array
    place: Array
    distance: Array
    root_column: Array
    root_place: Array
    root_left: Array
    depth: int
    leaf: int  # LEAF


@dataclass(slots=True)
class _Level:
    node: Array  # the program's node
    inner: Array
    count: Array  # inner nodes from here down
    position: Array
    first: Array  # position of the left child; of an inner node


def table_of(roots: Array, attrs: Mapping[str, Array], leaf_number: Array) -> Table:
    """The trees at ``roots``. ``leaf_number`` gives each row of leaf_values its number."""
    levels = _levels(roots, attrs)
    for above, level in zip(levels[-2::-1], levels[:0:-1], strict=True):
        above.count[above.inner] = 1 + level.count.reshape(-1, 2).sum(axis=1)
    top = levels[0]
    # The blocks of the trees, then the trees that are one leaf.
    ends = np.cumsum(2 * top.count)
    top.first = ends - 2 * top.count
    size = int(ends[-1]) + int((~top.inner).sum())
    top.position = np.where(top.inner, -1, int(ends[-1]) + np.cumsum(~top.inner) - 1)
    for above, level in pairwise(levels):
        _place(above, level)
    leaf = int(attrs["threshold"].max(initial=0.0)) + ABOVE
    column, place, distance = (np.zeros(size, np.int64) for _ in range(3))
    for depth, level in enumerate(levels):
        leaves = ~level.inner
        place[level.position[leaves]] = leaf + leaf_number[attrs["left"][level.node[leaves]]]
        if depth:
            here, node = level.position[level.inner], level.node[level.inner]
            column[here] = attrs["feature"][node]
            place[here] = attrs["threshold"][node]
            distance[here] = level.first[level.inner] - here
    return Table(
        _narrow(column),
        _narrow(place),
        _narrow(distance),
        np.where(top.inner, attrs["feature"][roots], 0),
        np.where(top.inner, attrs["threshold"][roots], leaf).astype(np.int64),
        np.where(top.inner, top.first, top.position),
        len(levels) - 1,
        leaf,
    )


def _levels(roots: Array, attrs: Mapping[str, Array]) -> list[_Level]:
    """The nodes of all trees level by level, the two children of a node side by side."""
    levels, nodes = [], np.asarray(roots)
    while nodes.size:
        inner = attrs["feature"][nodes] >= 0
        zeros = np.zeros(len(nodes), np.int64)
        levels.append(_Level(nodes, inner, zeros, zeros.copy(), zeros.copy()))
        parents = nodes[inner]
        nodes = np.stack([attrs["left"][parents], attrs["right"][parents]], axis=1).reshape(-1)
    return levels


def _place(above: _Level, level: _Level) -> None:
    """Positions of the nodes of a level, and of their children: behind the pair itself, the smaller branch first."""
    pair = above.first[above.inner]
    level.position = (pair[:, None] + np.array([0, 1])).reshape(-1)
    left, right = level.count.reshape(-1, 2).T
    left_first = left <= right
    start = pair + 2
    first = np.stack([start + np.where(left_first, 0, 2 * right), start + np.where(left_first, 2 * left, 0)], axis=1)
    level.first = first.reshape(-1)


def _narrow(array: Array) -> Array:
    """The array in the smallest integer dtype that a GATHER takes and that holds it."""
    most = int(array.max(initial=0))
    return array.astype(np.uint8 if most < 2**8 else np.int16 if most < 2**15 else np.int32)


# --- which leaf -------------------------------------------------------------------------------------------------------
def _leaf_numbers(w: Lowering, node: Node, table: Table) -> Tensor:
    """int32 (ROWS, trees): number of the leaf each row reaches."""
    g, shape = w.graph, (ROWS, len(table.root_left))
    cells = _integers(w, node)
    first = g.gather(cells, table.root_column.astype(np.int32), axis=1)
    right = g.op("GREATER", [first, table.root_place.astype(np.int32)[None, :]], shape, "bool")
    at = g.op("ADD", [g.cast(right, "int32"), table.root_left.astype(np.int32)[None, :]], shape)
    for _ in range(table.depth - 1):
        column, place, distance = (
            g.cast(g.gather(part, at), "int32") for part in (table.column, table.place, table.distance)
        )
        cell = g.op("GATHER", [cells, column], shape, axis=1, batchDims=1)
        right = g.op("GREATER", [cell, place], shape, "bool")
        at = g.op("ADD", [g.op("ADD", [at, distance], shape), g.cast(right, "int32")], shape)
    place = g.cast(g.gather(table.place, at), "int32")
    return g.op("SUB", [place, np.full((1, 1), table.leaf, np.int32)], shape)


def _integers(w: Lowering, node: Node) -> Tensor:
    """The ranks a tree reads as int32, before the program made floats of them. Raises FormatError for other cells."""
    attrs, cast = node.attrs, w.node(node.inputs[0])
    ranks = w.value(cast.inputs[0]).tensor if cast is not None and cast.op == "Cast" else None
    split = attrs["threshold"][attrs["feature"] >= 0]
    plain = not attrs["missing_left"].any() and (attrs["category_set"] < 0).all() and (split == np.floor(split)).all()
    if ranks is None or ranks.dtype != "int32" or not plain:
        raise w.refuse("compares float64 numbers with thresholds")
    return ranks


@lowers("TreeLeaves")
def tree_leaves(w: Lowering, node: Node, x: Value) -> Tensor:
    attrs, roots = node.attrs, node.attrs["roots"]
    return _leaf_numbers(w, node, table_of(roots, attrs, np.arange(len(attrs["leaf_values"]))))


# --- sums of leaf values ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Reached:
    """``code``, int32 (ROWS, slots): the row of ``table`` that each tree adds. Slots in the order of adding: by output
    when every tree adds to one (``by_output``), then by group, ``groups`` of a size.
    """

    code: Tensor
    table: Array
    groups: tuple[int, int]
    by_output: bool


@lowers("TreeEnsemble")
def tree_ensemble(w: Lowering, node: Node, x: Value) -> Tensor:
    found = reached(w, node)
    total = add_up(w, found, w.number(found.table), len(node.attrs["base"]))
    base = node.attrs["base"]
    return w.graph.op("ADD", [total, w.number(base)[None, :]], total.shape) if base.any() else total


def reached(w: Lowering, node: Node) -> Reached:
    """The leaves of a TreeEnsemble; looked for once, however often they are added up."""
    key = ("reached", id(node))
    if key not in w.cache:
        attrs = node.attrs
        table, leaf = unique_rows(attrs["leaf_values"])
        groups, roots = _slots(attrs)
        if (roots < 0).any():  # slots without a tree: they reach a leaf of zeros
            attrs, roots, table, leaf = _with_nothing(attrs, roots, table, leaf)
        code = _leaf_numbers(w, node, table_of(roots, attrs, leaf))
        w.cache[key] = Reached(code, table, groups, bool(attrs["target"].size))
    found: Reached = w.cache[key]
    return found


def add_up(w: Lowering, found: Reached, values: Array, outputs: int) -> Tensor:
    """Sums (ROWS, outputs) of the rows of ``values`` that stand for the rows of ``found.table``."""
    g = w.graph
    parts = found.groups if found.groups[0] > 1 else found.groups[1:]
    if found.by_output or values.shape[1] == 1:
        total = g.reshape(g.gather(values[:, 0], found.code), (ROWS, outputs, *parts))
        first = 2
    else:
        total = g.reshape(g.gather(values, found.code), (ROWS, *parts, outputs))
        first = 1
    for axis in reversed(range(first, first + len(parts))):
        total = g.reduce("SUM", total, axis)
    return total


def unique_rows(table: Array) -> tuple[Array, Array]:
    """Distinct rows (bit for bit), and the place of each row among them: pure leaves are alike by the thousand."""
    table = np.ascontiguousarray(table)
    keys = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return table[first], inverse.reshape(-1)


def _slots(attrs: Mapping[str, Array]) -> tuple[tuple[int, int], Array]:
    """Trees in the order of adding: groups and their size, and the root in each slot, -1 where there is none.

    With targets the slots of one output stand together.
    """
    roots, target = attrs["roots"].astype(np.int64), attrs["target"]
    outputs = len(attrs["base"]) if target.size else 1
    owner = target if target.size else np.zeros(len(roots), np.int64)
    most = int(np.bincount(owner, minlength=outputs).max())
    size = most if most <= _ADDED_AT_ONCE else int(np.ceil(np.sqrt(most)))
    groups = -(-most // size)
    slots = np.full((outputs, groups * size), -1, np.int64)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(outputs))
    slots[owner[order], np.arange(len(roots)) - starts[owner[order]]] = roots[order]
    return (groups, size), slots.reshape(-1)


def _with_nothing(
    attrs: Mapping[str, Array], roots: Array, table: Array, leaf: Array
) -> tuple[dict[str, Array], Array, Array, Array]:
    """One more node, a leaf of zeros, for the slots without a tree."""
    nodes = len(attrs["feature"])
    more = {"feature": -1, "threshold": 0, "left": len(leaf), "right": 0}
    extended = dict(attrs) | {k: np.append(attrs[k], np.array([v], attrs[k].dtype)) for k, v in more.items()}
    zeros = np.zeros((1, table.shape[1]))
    return extended, np.where(roots < 0, nodes, roots), np.concatenate([table, zeros]), np.append(leaf, len(table))
