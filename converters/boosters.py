"""What the converters of LightGBM, XGBoost and CatBoost share: trees in the order of TreeEnsemble, and category sets.

In come the arrays of a library's own dump of a tree; out goes a Forest (trees.py), and a matrix with further columns
where a set holds categories that a tree node's 256 bits cannot. None of the libraries is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeml.converters.trees import Forest
from edgeml.ir import Value
from edgeml.ir.table import Array

WORDS = 256  # categories a node of TreeEnsemble can tell apart


@dataclass
class Tree:
    """One tree as its library dumps it; arrays are (nodes,). ``left`` and ``right`` are -1 in a leaf.

    ``sets`` maps a node to the categories that go left; others, missing ones apart, go right.
    """

    feature: Array
    threshold: Array
    left: Array
    right: Array
    missing_left: Array
    value: Array
    sets: Mapping[int, Array]


def forest_of(x: Value, trees: Sequence[Tree], lowest: float = 0.0) -> tuple[Value, Forest]:
    """The matrix the trees read, and the trees. Sets beyond 256 categories become columns of 0 and 1 behind x.

    A cell above ``lowest``, or equal to it where that is 0, is a category: -1 for a library that drops fractions first.
    """
    x, moved = _sets_as_columns(x, trees, lowest)
    ordered = [_in_order(tree) for tree in trees]
    leaves = sum(int((t.left[o] < 0).sum()) for t, o in zip(trees, ordered, strict=True))
    forest = Forest(len(trees), sum(map(len, ordered)), leaves, 1)
    for number, (tree, order) in enumerate(zip(trees, ordered, strict=True)):
        place = np.zeros(len(tree.left), dtype=np.int64)
        place[order] = np.arange(len(order))
        feature, threshold = tree.feature.astype(np.int64), tree.threshold.astype(np.float64)
        category_set = np.full(len(tree.left), -1, dtype=np.int64)
        bits = []
        for node, codes in tree.sets.items():
            if (number, node) in moved:
                feature[node], threshold[node] = moved[number, node], 0.5
            else:
                category_set[node] = len(bits)
                bits.append(_bits(codes))
        leaf = tree.left[order] < 0
        forest.add(
            leaf,
            feature[order],
            threshold[order],
            place[tree.left[order]],
            place[tree.right[order]],
            tree.missing_left[order],
            tree.value[order][leaf, None],
            category_set[order],
            np.array(bits, dtype=np.uint32).reshape(-1, 8),
        )
    return x, forest


def _in_order(tree: Tree) -> Array:
    """Nodes that rows can reach, every parent before its children."""
    order, waiting = [], [0]
    while waiting:
        node = waiting.pop()
        order.append(node)
        if tree.left[node] >= 0:
            waiting += [int(tree.right[node]), int(tree.left[node])]
    return np.array(order, dtype=np.int64)


def _bits(codes: Array) -> Array:
    """Eight words of 32 bits with those of the categories set."""
    on = np.zeros(WORDS, dtype=np.uint8)
    on[codes] = 1
    return np.packbits(on, bitorder="little").view("<u4")


def _sets_as_columns(x: Value, trees: Sequence[Tree], lowest: float) -> tuple[Value, dict[tuple[int, int], int]]:
    """x ready for category nodes, and which node reads a column of its own instead.

    TreeEnsemble counts whatever lies outside [0, 256) as missing, where the libraries send it where other categories
    go. Where all categories are below 255, such cells become 255. Else every set gets a column, 0 in the set, 1 outside
    and NaN where the cell is missing, so that x <= 0.5 goes left.
    """
    nodes: dict[int, list[tuple[int, int, Array]]] = {}
    for number, tree in enumerate(trees):
        for node, codes in tree.sets.items():
            nodes.setdefault(int(tree.feature[node]), []).append((number, node, codes))
    builder = x.builder
    added: list[Value] = []
    moved: dict[tuple[int, int], int] = {}
    source = np.arange(x.width)
    width = x.width
    for feature, own in nodes.items():
        highest = max((int(codes.max()) for _, _, codes in own if len(codes)), default=0)
        cell = x.select([feature]).cast("float64")
        inside = (cell > lowest) if lowest < 0.0 else (cell >= 0.0)
        cell = builder.where((cell > lowest) & (cell < 0.0), 0.0, cell) if lowest < 0.0 else cell
        if highest < WORDS - 1:
            known = inside & (cell < float(WORDS))
            added.append(builder.where(known | ~(cell == cell), cell, float(WORDS - 1)).cast(x.dtype))
            source[feature] = width
            width += 1
            continue
        table = np.ones((highest + 3, len(own)))  # the last two rows: any other category, and a missing cell
        table[-1] = np.nan
        for j, (number, node, codes) in enumerate(own):
            table[codes, j] = 0.0
            moved[number, node] = len(source) + j
        code = builder.where(inside & (cell < float(highest + 1)), cell, float(highest + 1))
        code = builder.where(cell == cell, code, float(highest + 2)).cast("int64")
        source = np.concatenate([source, width + np.arange(len(own))])
        added.append(builder.take(code, table).cast(x.dtype))
        width += len(own)
    return builder.concat([x, *added]).select(source) if added else x, moved
