"""Trees in preorder against a walk node by node: deep, wide, shared, unreached, and many."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.ir.preorder import in_preorder, is_preorder, leaves_in_order, shape_of
from tests.kernel_tools import random_trees


def walked(attrs):
    """Old positions of the nodes in preorder, found one at a time."""
    order = []
    for root in attrs["roots"]:
        waiting = [root]
        while waiting:
            node = waiting.pop()
            order.append(node)
            if attrs["feature"][node] >= 0:
                waiting += [attrs["right"][node], attrs["left"][node]]
    return order


def shuffled(attrs, seed):
    """The same trees with roots anywhere; children stay behind their parents."""
    rng = np.random.default_rng(seed)
    return {**attrs, "roots": rng.permutation(attrs["roots"]).astype(np.int32)}


def chain(depth, side):
    """A tree whose splits hang on one side only, as deep as it has splits."""
    nodes = 2 * depth + 1
    feature = np.where(np.arange(nodes) % 2 == 0, 0, -1).astype(np.int32)
    feature[-1] = -1
    deeper, end = np.arange(nodes, dtype=np.int32) + 2, np.arange(nodes, dtype=np.int32) + 1
    left, right = (deeper, end) if side == "left" else (end, deeper)
    left, right = left.copy(), right.copy()
    leaf = feature < 0
    left[leaf], right[leaf] = np.arange(np.count_nonzero(leaf)), 0
    some = random_trees(1, 1, seed=0)
    return {
        **some, "roots": np.zeros(1, dtype=np.int32), "feature": feature, "left": left, "right": right,
        "threshold": np.arange(nodes, dtype=np.float64), "missing_left": np.zeros(nodes, dtype=np.uint8),
        "category_set": np.full(nodes, -1, dtype=np.int32), "leaf_values": np.arange(depth + 1.0)[:, None],
    }  # fmt: skip


CASES = {
    "many": random_trees(50, 5, seed=1),
    "one": random_trees(1, 5, seed=2),
    "roots anywhere": shuffled(random_trees(20, 5, seed=3), 3),
    "leaves": random_trees(3, 5, seed=4, depth=1),
    "left": chain(300, "left"),
    "right": chain(300, "right"),
    "deeper than 16 bits": chain(40_000, "left"),
    "deeper than 16 bits, right": chain(40_000, "right"),
}


@pytest.mark.parametrize("attrs", CASES.values(), ids=CASES.keys())
def test_nodes_stand_as_a_walk_meets_them(attrs):
    before = {name: value.copy() for name, value in attrs.items()}
    ordered, order = in_preorder(attrs), walked(attrs)
    for name in ("feature", "threshold", "missing_left", "category_set"):
        np.testing.assert_array_equal(ordered[name], attrs[name][order])
        assert ordered[name].dtype == attrs[name].dtype
    place = {node: at for at, node in enumerate(order)}
    split = ordered["feature"] >= 0
    for name in ("left", "right"):
        expected = [place[child] for child in attrs[name][order][split]]
        np.testing.assert_array_equal(ordered[name][split], expected)
        assert ordered[name].dtype == np.int32
    np.testing.assert_array_equal(ordered["roots"], [place[root] for root in attrs["roots"]])
    for name, value in before.items():
        np.testing.assert_array_equal(attrs[name], value)


@pytest.mark.parametrize("attrs", CASES.values(), ids=CASES.keys())
def test_the_shape_is_found_again_from_the_leaves(attrs):
    ordered = in_preorder(attrs)
    ordered["right"] = np.where(ordered["feature"] < 0, 0, ordered["right"]).astype(np.int32)
    assert is_preorder(ordered)
    shape = shape_of(ordered["feature"] < 0)
    np.testing.assert_array_equal(shape.roots, ordered["roots"])
    assert {shape.roots.dtype, shape.left.dtype, shape.right.dtype} == {np.dtype(np.int32)}
    changed = {**ordered, "roots": ordered["roots"] + 1}
    assert not is_preorder(changed)


def test_what_is_no_whole_tree_is_refused():
    for leaf in ([], [False], [False, True], [True, False], [False, True, False]):
        with pytest.raises(ValueError, match="whole trees"):
            shape_of(np.array(leaf, dtype=bool))


def test_every_short_shape_is_found_or_refused():
    """All sequences of up to eleven nodes, against a count of what is still open."""
    for length in range(1, 12):
        for bits in range(1 << length):
            leaf = np.array([bits >> at & 1 for at in range(length)], dtype=bool)
            waiting, right, roots, whole = [], np.zeros(length, dtype=int), [0], True
            for at in range(length):
                if not leaf[at]:
                    waiting.append([at, 0])
                    continue
                while waiting and waiting[-1][1]:
                    waiting.pop()
                if waiting:
                    waiting[-1][1], right[waiting[-1][0]] = 1, at + 1
                elif at + 1 < length:
                    roots.append(at + 1)
                else:
                    whole = False
            if whole:
                with pytest.raises(ValueError, match="whole trees"):
                    shape_of(leaf)
            else:
                shape = shape_of(leaf)
                np.testing.assert_array_equal(shape.right, right)
                np.testing.assert_array_equal(shape.roots, roots)


def test_nodes_that_no_tree_reaches_are_dropped():
    attrs = dict(random_trees(4, 3, seed=5))
    attrs["roots"] = attrs["roots"][[0, 2]]
    assert len(in_preorder(attrs)["feature"]) == len(walked(attrs)) < len(attrs["feature"])


def test_shared_nodes_are_no_tree():
    attrs = dict(random_trees(4, 3, seed=5))
    assert in_preorder({**attrs, "roots": attrs["roots"][[0, 0]]}) is None
    one = chain(3, "left")
    one["left"][0] = one["right"][0]
    assert in_preorder(one) is None
    deep = chain(60, "left")  # every level twice the nodes of the one before, were they walked
    deep["right"][deep["feature"] >= 0] = deep["left"][deep["feature"] >= 0]
    assert in_preorder(deep) is None


def test_leaves_that_share_values_keep_them():
    attrs = in_preorder(random_trees(4, 3, seed=6))
    leaf = attrs["feature"] < 0
    own = leaves_in_order(attrs)
    np.testing.assert_array_equal(own["left"][leaf], np.arange(np.count_nonzero(leaf)))
    np.testing.assert_array_equal(own["leaf_values"], attrs["leaf_values"][attrs["left"][leaf]])
    shared = {**attrs, "left": np.where(leaf, 0, attrs["left"]).astype(np.int32)}
    assert leaves_in_order(shared)["left"] is shared["left"]
