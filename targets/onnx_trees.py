"""ONNX lowerings of tree ensembles, exact to the last bit.

onnxruntime's TreeEnsemble adds leaf values in an order of its own (it depends on threads and batch size), so
it is only asked which leaf each tree reaches: every tree writes a leaf's row number to a target of its own.
The values are then gathered from a table and added in the order of the trees, as scikit-learn adds them.
Large ensembles run in groups of trees, which bounds the memory of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node, ValueType
from edgeml.ir.table import Array
from edgeml.targets.onnx_graph import DTYPES, ML, ML_OPSET, Tensor, Writer, lowers

_LEQ, _MEMBER = 0, 6  # nodes_modes of ai.onnx.ml 5: x <= split, x in the set
_SUM = 1
# Values gathered at once for one row: 8 KB of doubles. One group is fastest; a forest of 1,000 trees and 10
# classes in one group would hold 80 KB for every row of a batch.
GROUP = 1024
_EXACT_FLOAT32 = 2**24


@dataclass(frozen=True, slots=True)
class _Flat:
    """Trees as TreeEnsemble stores them: inner nodes and leaves numbered apart. Arrays of one entry a node or leaf."""

    node: Array  # the program's node of each inner node; -1 for the stand-in root of a tree that is one leaf
    child: tuple[Array, Array]  # left and right: number of an inner node, or of a leaf
    child_is_leaf: tuple[Array, Array]
    roots: Array
    leaf_tree: Array  # tree of each leaf
    leaf_row: Array  # row of leaf_values of each leaf


def _flatten(roots: Array, attrs: Mapping[str, Array]) -> _Flat:
    """Number inner nodes and leaves level by level, all trees at once."""
    feature, left, right = attrs["feature"], attrs["left"], attrs["right"]
    trees = len(roots)
    # A tree of one leaf becomes a node with that leaf on both sides: TreeEnsemble has no other way to say it.
    lone = feature[roots] < 0
    parents = np.where(lone, -1, roots).astype(np.int64)
    owner = np.arange(trees, dtype=np.int64)
    nodes: list[Array] = []
    links: list[tuple[Array, Array, Array, Array]] = []
    leaf_tree: list[Array] = []
    leaf_row: list[Array] = []
    inner, leaves = trees, 0
    while parents.size:
        nodes.append(parents)
        stand_in = parents < 0
        a = np.where(stand_in, roots[owner], left[parents])
        b = np.where(stand_in, roots[owner], right[parents])
        children = np.stack([a, b], axis=1).reshape(-1)
        owners = np.repeat(owner, 2)
        is_leaf = feature[children] < 0
        number = np.where(is_leaf, leaves + np.cumsum(is_leaf) - 1, inner + np.cumsum(~is_leaf) - 1)
        links.append((number[0::2], number[1::2], is_leaf[0::2], is_leaf[1::2]))
        leaf_tree.append(owners[is_leaf])
        leaf_row.append(left[children[is_leaf]].astype(np.int64))
        leaves += int(is_leaf.sum())
        inner += int((~is_leaf).sum())
        parents, owner = children[~is_leaf].astype(np.int64), owners[~is_leaf]
    joined = [np.concatenate(column) for column in zip(*links, strict=True)]
    return _Flat(
        np.concatenate(nodes),
        (joined[0], joined[1]),
        (joined[2], joined[3]),
        np.arange(trees),
        np.concatenate(leaf_tree),
        np.concatenate(leaf_row),
    )


# --- which leaf ---------------------------------------------------------------------------------------------
def _round_down(threshold: Array) -> Array:
    """Largest float32 <= threshold: for a float32 x, x <= it exactly where x <= threshold."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
    return np.where(rounded.astype(np.float64) > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)


def _split_of_negated(split: Array) -> Array:
    """Splits for a column of negated values: -x <= the result exactly where x > split, never where x is NaN.

    A node that sends NaN left asks this with its children swapped: NaN fails any comparison. onnxruntime has a
    flag for such nodes, but with it every node of every tree is compared in a slower loop (5.2 us a row for 100
    trees of depth 8, without it 3.8), and a mix of <= and > is slower still (6.5).
    """
    with np.errstate(over="ignore", under="ignore"):
        result: Array = np.nextafter(-split, split.dtype.type(-np.inf))
    result[split == np.inf] = np.nan  # nothing is above infinity
    return result


def _swapped(pair: tuple[Array, Array], where: Array) -> Array:
    """The first array, with entries ``where`` from the second."""
    result = pair[0].copy()
    result[where] = pair[1][where]
    return result


def _members(row: Array) -> Array:
    """Categories in a set of 8 uint32."""
    return np.flatnonzero(np.unpackbits(row.astype("<u4").view(np.uint8), bitorder="little"))


def _category_columns(w: Writer, x: ir.Value, dtype: str, columns: Array) -> ir.Value:
    """Columns read by categorical nodes: whole numbers in [0, 256), NaN for all that counts as missing.

    The program takes the integer part of a category. TreeEnsemble compares the number itself where a set is
    large, and its integer part where it is small.
    """
    value = w.op("Gather", x, columns, axis=1)
    zero, end, nan = (np.array([[v]], dtype) for v in (0, 256, np.nan))
    inside = w.op("And", w.op("GreaterOrEqual", value, zero), w.op("Less", value, end))
    return w.op("Where", inside, w.op("Floor", value), nan)


def _leaves(
    w: Writer, x: Tensor, flat: _Flat, attrs: Mapping[str, Array], slots: Array, targets: int, codes: Array
) -> ir.Value:
    """int64 (rows, targets): the code of the leaf that the tree of each slot reaches, 0 where a slot has no tree."""
    dtype = x.type.dtype if codes.max(initial=0) < _EXACT_FLOAT32 else "float64"
    stand_in = flat.node < 0
    feature = np.where(stand_in, 0, attrs["feature"][flat.node]).astype(np.int64)
    split = np.where(stand_in, 0.0, attrs["threshold"][flat.node])
    if dtype == "float32":
        split = _round_down(split)
    missing_left = ~stand_in & (attrs["missing_left"][flat.node] != 0)
    sets = np.where(stand_in, -1, attrs["category_set"][flat.node])
    modes = np.zeros(len(feature), np.uint8)
    extra: dict[str, Any] = {}
    value = x.value if dtype == x.type.dtype else w.cast(x.value, dtype)
    parts, width = [value], x.type.width
    flipped = np.flatnonzero(missing_left & (sets < 0))
    if flipped.size:
        columns = np.unique(feature[flipped])
        parts.append(w.op("Neg", w.op("Gather", value, columns, axis=1)))
        feature[flipped] = width + np.searchsorted(columns, feature[flipped])
        split[flipped] = _split_of_negated(split[flipped])
        width += len(columns)
    categorical = np.flatnonzero(sets >= 0)
    if categorical.size:
        columns = np.unique(feature[categorical])
        parts.append(_category_columns(w, value, dtype, columns))
        feature[categorical] = width + np.searchsorted(columns, feature[categorical])
        # An empty set sends nothing but missing values left, as does x <= -inf.
        split[categorical] = -np.inf
        members = [_members(attrs["categories"][row]) for row in sets[categorical]]
        modes[categorical] = [_MEMBER if len(m) else _LEQ for m in members]
        listed = [np.append(m, np.nan) for m in members if len(m)]
        if listed:
            extra["membership_values"] = ir.tensor(np.concatenate(listed).astype(dtype))
        if missing_left[categorical].any():
            extra["nodes_missing_value_tracks_true"] = (missing_left & (sets >= 0)).astype(np.int64).tolist()
    if len(parts) > 1:
        value = w.op("Concat", *parts, axis=1)
    yes, no = (_swapped(pair, flipped) for pair in (flat.child, flat.child[::-1]))
    yes_leaf, no_leaf = (_swapped(pair, flipped) for pair in (flat.child_is_leaf, flat.child_is_leaf[::-1]))
    leaf = w.op(
        "TreeEnsemble",
        value,
        domain=ML,
        n_targets=targets,
        aggregate_function=_SUM,
        tree_roots=flat.roots.tolist(),
        nodes_featureids=feature.tolist(),
        nodes_modes=ir.tensor(modes),
        nodes_splits=ir.tensor(split),
        nodes_truenodeids=yes.tolist(),
        nodes_trueleafs=yes_leaf.astype(np.int64).tolist(),
        nodes_falsenodeids=no.tolist(),
        nodes_falseleafs=no_leaf.astype(np.int64).tolist(),
        leaf_targetids=slots[flat.leaf_tree].tolist(),
        leaf_weights=ir.tensor(codes.astype(dtype)),
        **extra,
    )
    return w.op("Cast", leaf, to=DTYPES["int64"])


@lowers("TreeLeaves")
def tree_leaves(w: Writer, node: Node, x: Tensor) -> ir.Value:
    roots = node.attrs["roots"]
    flat = _flatten(roots, node.attrs)
    return _leaves(w, x, flat, node.attrs, np.arange(len(roots)), len(roots), flat.leaf_row)


# --- sums of leaf values ------------------------------------------------------------------------------------
def _unique_rows(table: Array) -> tuple[Array, Array]:
    """Distinct rows (bit for bit), and the place of each row among them. Pure leaves are alike by the thousand."""
    table = np.ascontiguousarray(table)
    keys = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return table[first], inverse.reshape(-1)


@lowers("TreeEnsemble")
def tree_ensemble(w: Writer, node: Node, x: Tensor) -> ir.Value:
    attrs = node.attrs
    roots, target, base = attrs["roots"], attrs["target"], attrs["base"]
    if target.size == 0:
        return _all_outputs(w, x, attrs, roots, base)
    return _one_output_each(w, x, attrs, roots, target, base)


def _all_outputs(w: Writer, x: Tensor, attrs: Mapping[str, Array], roots: Array, base: Array) -> ir.Value:
    """Every tree adds a row of values: (rows, trees, width) summed over the trees."""
    size = max(1, GROUP // len(base))
    total: ir.Value | None = None
    for start in range(0, len(roots), size):
        part = roots[start : start + size]
        flat = _flatten(part, attrs)
        values = attrs["leaf_values"][flat.leaf_row]
        if start == 0:
            first = flat.leaf_tree == 0
            values[first] = base + values[first]
        table, codes = _unique_rows(values)
        leaf = _leaves(w, x, flat, attrs, np.arange(len(part)), len(part), codes)
        if len(roots) == 1:
            return w.op("GatherND", table, leaf)
        total = _add_in_order(w, total, w.op("Gather", table, leaf, axis=0))
    assert total is not None
    return total


def _one_output_each(
    w: Writer, x: Tensor, attrs: Mapping[str, Array], roots: Array, target: Array, base: Array
) -> ir.Value:
    """A tree adds to one output: (rows, rounds, width) summed over the rounds, trees of an output in their order."""
    width = len(base)
    rounds = int(np.bincount(target).max())
    # Place of each tree among the trees of its output.
    order = np.argsort(target, kind="stable")
    starts = np.searchsorted(target[order], np.arange(width))
    place = np.empty(len(roots), np.int64)
    place[order] = np.arange(len(roots)) - starts[target[order]]
    size = max(1, GROUP // width)
    total: ir.Value | None = None
    for start in range(0, rounds, size):
        count = min(size, rounds - start)
        here = np.flatnonzero((place >= start) & (place < start + count))
        flat = _flatten(roots[here], attrs)
        tree = here[flat.leaf_tree]
        values = attrs["leaf_values"][flat.leaf_row, 0]
        first = place[tree] == 0
        values[first] = base[target[tree[first]]] + values[first]
        # Code 0 stands for "no tree here": adding -0.0 changes nothing.
        table, codes = _unique_rows(values[:, None])
        leaf = _leaves(w, x, flat, attrs, (place[here] - start) * width + target[here], count * width, codes + 1)
        leaf = w.op("Reshape", leaf, np.array([0, count, width]))
        total = _add_in_order(w, total, w.op("Gather", np.append(-0.0, table), leaf, axis=0))
    assert total is not None
    alone = np.bincount(target, minlength=width) == 0
    return w.op("Add", total, np.where(alone, base, -0.0)[None, :]) if alone.any() else total


def _add_in_order(w: Writer, total: ir.Value | None, stack: ir.Value) -> ir.Value:
    """total (rows, width) plus each stack[:, i] in turn: the last of the running sums.

    CumSum is sequential in any implementation; ReduceSum is not, and which way it goes depends on shapes,
    threads and what the optimiser makes of its neighbours.
    """
    if total is not None:
        stack = w.op("Concat", w.op("Unsqueeze", total, np.array([1])), stack, axis=1)
    return w.op("Gather", w.op("CumSum", stack, np.int64(1)), np.int64(-1), axis=1)


# --- search in a sorted list --------------------------------------------------------------------------------
def interval(w: Writer, x: ir.Value, cuts: Array) -> ir.Value:
    """int64 (rows, 1): how many of the increasing float64 ``cuts`` are <= x, by one balanced tree; x is (rows, 1)."""
    if not len(cuts):
        return w.constant(np.zeros((1, 1), np.int64))
    if w.opsets[ML] < ML_OPSET:  # no TreeEnsemble beside an operator that its release retired
        reached = w.cast(w.op("GreaterOrEqual", x, cuts[None, :]), "int64")
        return w.op("ReduceSum", reached, np.array([1]), keepdims=1)
    # Entry i is a node over the intervals spans[i]; the two halves of a span are appended behind it.
    spans = [(0, len(cuts))]
    feature, threshold, left, right = [], [], [], []
    for low, high in spans:
        middle = (low + high) // 2
        inner = low < high
        feature.append(0 if inner else -1)
        threshold.append(np.nextafter(cuts[middle], -np.inf) if inner else 0.0)
        left.append(len(spans) if inner else low)
        right.append(len(spans) + 1 if inner else 0)
        if inner:
            spans += [(low, middle), (middle + 1, high)]
    attrs = {
        "feature": np.array(feature),
        "threshold": np.array(threshold),
        "left": np.array(left),
        "right": np.array(right),
        "missing_left": np.zeros(len(spans), np.uint8),
        "category_set": np.full(len(spans), -1),
    }
    flat = _flatten(np.array([0]), attrs)
    column = Tensor(x, ValueType("float64", 1), False)
    return _leaves(w, column, flat, attrs, np.array([0]), 1, flat.leaf_row)
