"""What an ensemble of trees asks of its columns, and how the asking becomes small integers.

``columns`` takes the attributes of a TreeEnsemble or TreeLeaves node and finds the columns its nodes look at, where
NaN and sets of categories are columns of their own, so that every node does no more than compare a cell with a
threshold (trees.py). ``ranks`` makes the thresholds integers of two bytes, for the kernels of a batch (tree_bits.py,
tree_codes.py). ``levels`` gives the trees level by level, for whatever is counted from the roots down or from the
leaves up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.ir.table import Array

# Categories of a set, as in edgeml/ir: whatever is not in [0, CATEGORIES) counts as missing.
CATEGORIES = 256
WORD = 64  # bits
WORDS = CATEGORIES // WORD + 1
# A rank of two bytes; the largest one stands for NaN.
NAN_RANK = 0xFFFF
MOST_EDGES = NAN_RANK - 1
# A tree with shared parts would be unfolded; one that grows by more than this is walked where it stands.
MOST_UNFOLDED = 2


def comparable(attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same ensemble without thresholds of NaN, which no cell is at most: with +inf instead the children swap sides,
    and so does what is missing.
    """
    odd = np.isnan(attrs["threshold"]) & (attrs["feature"] >= 0) & (attrs["category_set"] < 0)
    if not odd.any():
        return attrs
    return {
        **attrs,
        "threshold": np.where(odd, np.inf, attrs["threshold"]),
        "left": np.where(odd, attrs["right"], attrs["left"]),
        "right": np.where(odd, attrs["left"], attrs["right"]),
        "missing_left": np.where(odd, attrs["missing_left"] == 0, attrs["missing_left"] != 0).astype(np.uint8),
    }


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns that the nodes of an ensemble look at, in three kinds, one behind the other: features of x, NaN going
    right; features whose NaN goes left; and sets of categories, which are 0 where a cell goes left and 1 where right.
    """

    column: Array  # int32 (nodes,): of each inner node; -1 for leaves
    features: Array  # int64: columns of x
    low: Array  # int64: positions in ``features``
    categorical: Array  # int64 (sets,): the column of x whose category each set holds
    right: (
        Array  # uint64 (sets, WORDS): bit c is 1 where category c goes right, bit CATEGORIES where a missing one does
    )

    @property
    def count(self) -> int:
        return len(self.features) + len(self.low) + len(self.categorical)


def columns(attrs: Mapping[str, Any]) -> Columns:
    """The columns of all inner nodes."""
    feature = attrs["feature"].astype(np.int64)
    inner = feature >= 0
    of_set = inner & (attrs["category_set"] >= 0)
    numeric = np.flatnonzero(inner & ~of_set)
    column = np.full(len(feature), -1, dtype=np.int32)
    features, at = _positions(feature[numeric])
    left = attrs["missing_left"][numeric] != 0
    low, low_at = _positions(at[left])
    column[numeric] = at
    column[numeric[left]] = len(features) + low_at
    asked, right, number = _sets(attrs, np.flatnonzero(of_set))
    column[of_set] = len(features) + len(low) + number
    return Columns(column, features, low, asked, right)


def _positions(values: Array) -> tuple[Array, Array]:
    """The different values, sorted, and the position of each among them; for small numbers faster than a sort."""
    seen = np.zeros(int(values.max(initial=-1)) + 1, dtype=bool)
    seen[values] = True
    return np.flatnonzero(seen), (np.cumsum(seen) - 1)[values]


def _sets(attrs: Mapping[str, Any], nodes: Array) -> tuple[Array, Array, Array]:
    """(column of x, bits that go right, number of the set of each node) of the nodes that ask for a set."""
    words = np.zeros((len(nodes), WORDS), dtype=np.uint64)
    members = np.ascontiguousarray(attrs["categories"]).astype("<u4").view("<u8")
    words[:, :-1] = ~members[attrs["category_set"][nodes]] if len(nodes) else 0
    words[:, -1] = attrs["missing_left"][nodes] == 0
    rows = np.column_stack([attrs["feature"][nodes].astype(np.uint64), words])
    unique, number = np.unique(rows, axis=0, return_inverse=True)
    return unique[:, 0].astype(np.int64), unique[:, 1:], number.reshape(-1)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Every inner node as a small integer: it sends a cell left whose rank is at most ``place``.

    A rank is the number of edges of its feature that are below the cell, NAN_RANK for NaN, or 0 in a column whose NaN
    goes left. Sets have place 0.
    """

    columns: Columns
    place: Array  # int32 (nodes,)
    edges: Sequence[Array]  # of each feature, float64, sorted, all different
    whole: bool  # places are the thresholds themselves, small whole numbers, and there are no edges

    @property
    def count(self) -> int:
        """Columns that have to be made of x: those of features and of sets."""
        return len(self.columns.features) + len(self.columns.categorical)

    def source(self, column: Array) -> tuple[Array, Array]:
        """For columns of nodes the one of the ``count`` each is made from, and whether NaN ranks lowest in it."""
        features, low = len(self.columns.features), len(self.columns.low)
        lowest = (column >= features) & (column < features + low)
        source = np.where(column < features, column, column - low)
        source[lowest] = self.columns.low[column[lowest] - features]
        return source, lowest


def ranks(attrs: Mapping[str, Any]) -> Ranks | None:
    """The ranks of all inner nodes; None where a feature has more edges than two bytes can number."""
    threshold, found = attrs["threshold"], columns(attrs)
    place, edges = np.zeros(len(threshold), dtype=np.int32), []
    numeric = np.flatnonzero((attrs["feature"] >= 0) & (attrs["category_set"] < 0))
    if _whole(threshold[numeric]) and not len(found.low):
        place[numeric] = threshold[numeric].astype(np.int32)
        return Ranks(found, place, [], True)
    _, at = _positions(attrs["feature"][numeric].astype(np.int64))
    by_feature = numeric[np.argsort(at, kind="stable")]
    ends = np.cumsum(np.bincount(at, minlength=len(found.features)))
    for here in np.split(by_feature, ends[:-1]):
        own, place[here] = np.unique(threshold[here], return_inverse=True)
        if len(own) > MOST_EDGES:
            return None
        edges.append(own)
    return Ranks(found, place, edges, False)


def _whole(threshold: Array) -> bool:
    """Whether x is at most the threshold exactly where x rounded up is, and both are ranks of two bytes."""
    return bool(((threshold >= 0) & (threshold <= MOST_EDGES) & (threshold == np.floor(threshold))).all())


@dataclass(frozen=True, slots=True)
class Level:
    """Nodes of all trees at one depth, in the order of the trees and from left to right.

    The children of the k-th inner one are nodes 2k and 2k + 1 of the next level.
    """

    node: Array
    tree: Array
    inner: Array  # positions of the inner nodes within the level


def levels(attrs: Mapping[str, Any]) -> list[Level] | None:
    """The levels from the roots down; None where parts that trees share would make them too many."""
    node, tree = attrs["roots"].astype(np.int64), np.arange(len(attrs["roots"]))
    found: list[Level] = []
    left, right, feature = attrs["left"], attrs["right"], attrs["feature"]
    rest = MOST_UNFOLDED * len(feature) + len(tree)
    while len(node):
        rest -= len(node)
        if rest < 0:
            return None
        inner = np.flatnonzero(feature[node] >= 0)
        found.append(Level(node, tree, inner))
        at = node[inner]
        tree = np.repeat(tree[inner], 2)
        node = np.stack([left[at], right[at]], axis=1).astype(np.int64).ravel()
    return found


def leaf_counts(found: Sequence[Level]) -> list[Array]:
    """How many leaves are below each node of each level; a leaf counts itself."""
    counts: list[Array] = []
    below = np.zeros(0, dtype=np.int64)
    for level in reversed(found):
        own = np.ones(len(level.node), dtype=np.int64)
        own[level.inner] = below.reshape(-1, 2).sum(axis=1)
        counts.append(own)
        below = own
    return counts[::-1]


def first_leaves(found: Sequence[Level], counts: Sequence[Array]) -> list[Array]:
    """The number, from left to right within its tree, of the first leaf below each node of each level."""
    firsts = [np.zeros(len(found[0].node), dtype=np.int64)]
    for level, below in zip(found[:-1], counts[1:], strict=True):
        start = firsts[-1][level.inner]
        firsts.append(np.stack([start, start + below[::2]], axis=1).ravel())
    return firsts
