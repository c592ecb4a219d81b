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
    levels, visits = [np.asarray(attrs["roots"])], 0
    reached = np.zeros(len(feature), dtype=bool)
    while levels[-1].size:
        visits += levels[-1].size
        if visits > len(feature):
            return None
        reached[levels[-1]] = True
        inner = levels[-1][feature[levels[-1]] >= 0]
        levels.append(np.concatenate([left[inner], right[inner]]))
    if visits > np.count_nonzero(reached):
        return None
    size = np.ones(len(feature), dtype=np.int32)
    for level in reversed(levels):
        inner = level[feature[level] >= 0]
        size[inner] += size[left[inner]] + size[right[inner]]
    place = np.zeros(len(feature), dtype=np.int32)
    place[levels[0]] = np.cumsum(size[levels[0]]) - size[levels[0]]
    for level in levels:
        inner = level[feature[level] >= 0]
        place[left[inner]] = place[inner] + 1
        place[right[inner]] = place[inner] + 1 + size[left[inner]]
    order = np.empty(visits, dtype=np.int64)
    order[place[reached]] = np.flatnonzero(reached)
    ordered: dict[str, Attr] = {**attrs, **{name: attrs[name][order] for name in _NODE_ARRAYS}}
    split = ordered["feature"] >= 0
    for name in ("left", "right"):
        ordered[name][split] = place[ordered[name][split]]
    ordered["roots"] = place[levels[0]].astype(np.int32)
    return ordered


def shape_of(leaf: Array) -> Shape:
    """The shape of trees from ``leaf``, bool (nodes,). Raises ValueError when it is not that of whole trees.

    Counted from the left, splits less leaves fall to a new low at the last leaf of every tree. Within a tree, the steps
    up to a level and the steps down from it alternate: a split is a step up, and the next step down from its level is
    the last leaf of its left branch. So the splits of a level and the leaves that end it are pairs, in their order.
    """
    level = np.cumsum(np.where(leaf, np.int8(-1), np.int8(1)), dtype=np.int32)
    lows = np.minimum.accumulate(np.append(np.int32(0), level))
    last = lows[1:] < lows[:-1]
    if not len(leaf) or not last[-1]:
        raise ValueError("leaves that are not those of whole trees")
    level -= lows[:-1]
    # Sorting numbers of 16 bits is several times as fast, and no tree of practice is deeper.
    level = level.astype(np.min_scalar_type(-int(level.max()) - 1))
    split, ends = np.flatnonzero(~leaf), np.flatnonzero(leaf & ~last)
    split = split[np.argsort(level[split], kind="stable")]
    ends = ends[np.argsort(level[ends], kind="stable")]
    left, right = np.zeros(len(leaf), dtype=np.int32), np.zeros(len(leaf), dtype=np.int32)
    left[split], right[split] = split + 1, ends + 1
    return Shape(np.append(0, np.flatnonzero(last)[:-1] + 1).astype(np.int32), left, right)


def leaves_in_order(attrs: Mapping[str, Any]) -> dict[str, Attr]:
    """Attributes of TreeEnsemble whose leaf_values stand in the order of the leaves, where every leaf has its own."""
    leaf = attrs["feature"] < 0
    rows = attrs["left"][leaf]
    if rows.size and np.bincount(rows).max() > 1:
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
