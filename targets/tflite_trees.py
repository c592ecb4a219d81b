"""TFLite lowerings of trees over ranks (edgeml/passes/rank.py): one small table of nodes, walked level by level.

A walk through a tree is a node number. One level of all trees of all rows is three look-ups by node (which column,
which place, how far to the children), one by column, a comparison and two additions: the right child stands behind
the left one. A leaf is a node that leads to itself, so every walk takes as many steps as the deepest tree. Siblings are
laid out so that the smaller branch comes first, which keeps the distances in a byte or two.

    column    of the node's cell; in a leaf one of some columns of zeros that are put behind the others
    place     right where the cell's rank is above it; in a leaf any number, which no zero is above
    distance  from the node to its left child; 0 in a leaf

Column of zeros and place together are a leaf's number: nothing else is stored of it, and a node takes three bytes where
ranks, distances and columns are below 256. tflite_leaves.py makes sums of the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers

# Numbers that a place holds in each of the dtypes that a GATHER takes.
_STEPS = (2**8, 2**15, 2**31)
# Numbers from which on a CAST, some 60 bytes, is shorter than what it saves.
_WORTH_A_CAST = 50


@dataclass(frozen=True, slots=True)
class Table:
    """The nodes of an ensemble but for its roots; arrays of one entry a node, and one a tree for the first level.

    Leaf number n has place n % step in column ``width`` + n // step.
    """

    column: Array
    place: Array
    distance: Array
    root_column: Array
    root_place: Array
    root_left: Array
    depth: int
    width: int
    zeros: int  # columns of them
    step: int


@dataclass(slots=True)
class _Level:
    node: Array  # the program's node
    inner: Array
    count: Array  # inner nodes from here down
    position: Array
    first: Array  # position of the left child; of an inner node


def table_of(roots: Array, attrs: Mapping[str, Array], leaf_number: Array, width: int) -> Table:
    """The trees at ``roots`` over ``width`` columns. ``leaf_number`` gives each row of leaf_values its number."""
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
    step, zeros = layout(attrs, int(leaf_number.max(initial=0)), width)
    column, place, distance = (np.zeros(size, np.int64) for _ in range(3))
    for depth, level in enumerate(levels):
        leaves = ~level.inner
        number = leaf_number[attrs["left"][level.node[leaves]]]
        column[level.position[leaves]], place[level.position[leaves]] = width + number // step, number % step
        if depth:
            here, node = level.position[level.inner], level.node[level.inner]
            column[here] = attrs["feature"][node]
            place[here] = attrs["threshold"][node]
            distance[here] = level.first[level.inner] - here
    numbers = leaf_number[np.where(top.inner, 0, attrs["left"][roots])]
    return Table(
        _narrow(column),
        _narrow(place),
        _narrow(distance),
        np.where(top.inner, attrs["feature"][roots], width + numbers // step),
        np.where(top.inner, attrs["threshold"][roots], numbers % step).astype(np.int64),
        np.where(top.inner, top.first, top.position),
        len(levels) - 1,
        width,
        zeros,
        step,
    )


def layout(attrs: Mapping[str, Array], most: int, width: int) -> tuple[int, int]:
    """The step of leaf numbers up to ``most``, and how many columns of zeros they take: in the fewest bytes a node."""
    largest = int(attrs["threshold"].max(initial=0.0))
    options = [(step, most // step + 1) for step in _STEPS if largest < step]
    return min(options, key=lambda option: (node_bytes(option, width), option[1]))


def node_bytes(option: tuple[int, int], width: int) -> int:
    """Bytes of column and place of a node."""
    step, zeros = option
    return sum(1 if n <= _STEPS[0] else 2 if n <= _STEPS[1] else 4 for n in (step, width + zeros))


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
def leaf_numbers(w: Lowering, node: Node, table: Table) -> Tensor:
    """int32 (ROWS, trees): number of the leaf each row reaches."""
    g, shape = w.graph, (ROWS, len(table.root_left))
    behind = np.array([[0, 0], [0, table.zeros]], np.int32)
    cells = g.op("PAD", [_integers(w, node), behind], (ROWS, table.width + table.zeros))
    column, place, left = (_numbers(w, part) for part in (table.root_column, table.root_place, table.root_left))
    first = g.gather(cells, column, axis=1)
    right = g.op("GREATER", [first, place], shape, "bool")
    at = g.op("ADD", [g.cast(right, "int32"), left], shape)
    for _ in range(table.depth - 1):
        column, place, distance = _look_up(w, table, at)
        cell = g.op("GATHER", [cells, column], shape, axis=1, batchDims=1)
        right = g.op("GREATER", [cell, place], shape, "bool")
        at = g.op("ADD_N", [at, distance, g.cast(right, "int32")], shape)
    column, place, _ = _look_up(w, table, at)
    if table.zeros == 1:
        return place
    above = g.op("SUB", [column, np.full((1, 1), table.width, np.int32)], shape)
    return g.op("ADD", [g.op("MUL", [above, np.full((1, 1), table.step, np.int32)], shape), place], shape)


def _numbers(w: Lowering, array: Array) -> Tensor:
    """The array as int32, (trees,), narrow in the file where that is worth a CAST."""
    narrow = _narrow(array) if len(array) >= _WORTH_A_CAST else array.astype(np.int32)
    return w.graph.cast(w.graph.constant(narrow), "int32")


def _look_up(w: Lowering, table: Table, at: Tensor) -> list[Tensor]:
    """int32 column, place and distance of the nodes; in one piece when they have one dtype."""
    g, parts = w.graph, [table.column, table.place, table.distance]
    if len({part.dtype for part in parts}) > 1:
        return [g.cast(g.gather(part, at), "int32") for part in parts]
    found = g.cast(g.gather(np.stack(parts), at, axis=1), "int32")
    return g.ops("UNPACK", [found], [(found.dtype, at.shape)] * 3, num=3, axis=0)


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
    return leaf_numbers(w, node, table_of(roots, attrs, np.arange(len(attrs["leaf_values"])), x.type.width))
