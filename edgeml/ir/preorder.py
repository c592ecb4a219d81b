"""Trees laid out so that their shape is known from which nodes are leaves: a split, its left branch, its right branch.

``in_preorder`` puts the nodes of an ensemble in that order, tree after tree, for storage; ``shape_of`` finds roots and
children again. A node then costs one bit beside its column, its threshold and its leaf value.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.ir.program import Attr
from edgeml.ir.table import Array

_NODE_ARRAYS = ("feature", "threshold", "left", "right", "missing_left", "category_set")


@dataclass(frozen=True, slots=True)
class Shape:
    """``roots`` (trees,), ``left`` and ``right`` (nodes,) as attributes of TreeEnsemble, with 0 in leaves."""

    roots: Array
    left: Array
    right: Array


def in_preorder(attrs: Mapping[str, Attr]) -> dict[str, Attr] | None:
    """Attributes of TreeEnsemble or TreeLeaves with the nodes in preorder; None where two parents share a node.

    Leaves keep their rows of leaf_values, nodes that no tree reaches are dropped.
    """
    feature, left, right = attrs["feature"], attrs["left"], attrs["right"]
    levels = [np.asarray(attrs["roots"])]
    reached = np.zeros(len(feature), dtype=np.int64)
    while levels[-1].size:
        np.add.at(reached, levels[-1], 1)
        if reached.max() > 1:
            return None
        inner = levels[-1][feature[levels[-1]] >= 0]
        levels.append(np.concatenate([left[inner], right[inner]]))
    size = np.ones(len(feature), dtype=np.int64)
    for level in reversed(levels):
        inner = level[feature[level] >= 0]
        size[inner] += size[left[inner]] + size[right[inner]]
    place = np.zeros(len(feature), dtype=np.int64)
    place[levels[0]] = np.cumsum(size[levels[0]]) - size[levels[0]]
    for level in levels:
        inner = level[feature[level] >= 0]
        place[left[inner]] = place[inner] + 1
        place[right[inner]] = place[inner] + 1 + size[left[inner]]
    order = np.flatnonzero(reached)
    order = order[np.argsort(place[order])]
    ordered: dict[str, Attr] = {**attrs, **{name: attrs[name][order] for name in _NODE_ARRAYS}}
    split = ordered["feature"] >= 0
    for name in ("left", "right"):
        ordered[name][split] = place[ordered[name][split]]
    ordered["roots"] = place[levels[0]].astype(np.int32)
    return ordered


def shape_of(leaf: Array) -> Shape:
    """The shape of trees from ``leaf``, bool (nodes,). Raises ValueError when it is not that of whole trees.

    Counted from the left, splits less leaves fall to a new low at the last leaf of every tree, and fall below where a
    split stands at the last leaf of its left branch.
    """
    nodes = np.arange(len(leaf))
    level = np.cumsum(np.where(leaf, -1, 1))
    lows = np.minimum.accumulate(np.append(0, level))
    last = lows[1:] < lows[:-1]
    if not len(leaf) or not last[-1]:
        raise ValueError("leaves that are not those of whole trees")
    split = nodes[~leaf]
    # The first node behind a split whose level is one below the split's, found among the nodes of that level.
    by_level = np.argsort(level, kind="stable")
    keys = (level[by_level] - lows[-1]) * len(leaf) + by_level
    behind = by_level[np.searchsorted(keys, (level[split] - 1 - lows[-1]) * len(leaf) + split)]
    left, right = np.zeros(len(leaf), dtype=np.int32), np.zeros(len(leaf), dtype=np.int32)
    left[split], right[split] = split + 1, behind + 1
    return Shape(np.append(0, nodes[last][:-1] + 1).astype(np.int32), left, right)


def leaves_in_order(attrs: Mapping[str, Any]) -> dict[str, Attr]:
    """Attributes of TreeEnsemble whose leaf_values stand in the order of the leaves, where every leaf has its own."""
    leaf = attrs["feature"] < 0
    rows = attrs["left"][leaf]
    if len(np.unique(rows)) < len(rows):
        return dict(attrs)
    left = attrs["left"].copy()
    left[leaf] = np.arange(len(rows))
    return {**attrs, "left": left, "leaf_values": attrs["leaf_values"][rows]}


def is_preorder(attrs: Mapping[str, Any]) -> bool:
    """Whether ``shape_of`` finds the roots and children of the attributes, whose leaves have 0 for a right child."""
    leaf = attrs["feature"] < 0
    try:
        shape = shape_of(leaf)
    except ValueError:
        return False
    left = np.where(leaf, attrs["left"], shape.left)
    return all(map(np.array_equal, (attrs["roots"], attrs["left"], attrs["right"]), (shape.roots, left, shape.right)))
