"""ONNX lowerings of trees: the nodes of TreeEnsemble, and which leaf each tree reaches.

``trees`` writes one TreeEnsemble for a number of trees; what its leaves carry is the caller's choice: the leaf's own
number, a code (onnx_tree_sums.py), or values to be added. Leaves of one tree that carry the same are stored once, and
nodes compare float32 numbers wherever that is exact, so that most models take half of what their doubles would.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node, ValueType
from edgeml.ir.table import Array
from edgeml.targets.onnx_columns import ANY, narrow_splits, round_down
from edgeml.targets.onnx_graph import DTYPES, ML, ML_OPSET, Tensor, Writer, lowers

_LEQ, _MEMBER = 0, 6  # nodes_modes of ai.onnx.ml 5: x <= split, x in the set
_SUM = 1
_EXACT_FLOAT32 = 2**24
# Fewer nodes than this are not worth the nodes that prepare float64 columns for float32 splits.
_WORTH_NARROWING = 100


@dataclass(frozen=True, slots=True)
class Flat:
    """Trees as TreeEnsemble stores them: inner nodes and leaves numbered apart. Arrays of one entry a node or leaf."""

    node: Array  # the program's node of each inner node; -1 for the stand-in root of a tree that is one leaf
    child: tuple[Array, Array]  # left and right: number of an inner node, or of a leaf
    child_is_leaf: tuple[Array, Array]
    roots: Array
    leaf_tree: Array  # tree of each leaf
    leaf_row: Array  # row of leaf_values of each leaf


def flatten(roots: Array, attrs: Mapping[str, Array]) -> Flat:
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
    return Flat(
        np.concatenate(nodes),
        (joined[0], joined[1]),
        (joined[2], joined[3]),
        np.arange(trees),
        np.concatenate(leaf_tree),
        np.concatenate(leaf_row),
    )


# --- the columns that nodes read ----------------------------------------------------------------------------
@dataclass(slots=True)
class _Nodes:
    """What the inner nodes compare: a column of ``parts`` side by side, at most ``split`` or in a set."""

    feature: Array
    split: Array
    missing_left: Array  # bool; False where the column is never NaN
    sets: Array  # row of the categories, -1 for a number
    parts: list[ir.Value]
    width: int  # of all parts

    def append(self, where: Array, make: Any) -> None:
        """Let the nodes ``where`` read new columns, made by ``make`` from those they read now."""
        columns = np.unique(self.feature[where])
        self.parts.append(make(columns))
        self.feature[where] = self.width + np.searchsorted(columns, self.feature[where])
        self.width += len(columns)


def _nodes(w: Writer, x: Tensor, flat: Flat, attrs: Mapping[str, Array], source: int | None, single: bool) -> _Nodes:
    """The inner nodes, their splits float32 where ``single`` and where that is exact. ``source`` is x's number in the
    program.
    """
    stand_in = flat.node < 0
    feature = np.where(stand_in, 0, attrs["feature"][flat.node]).astype(np.int64)
    split = np.where(stand_in, np.inf, attrs["threshold"][flat.node])
    missing_left = ~stand_in & (attrs["missing_left"][flat.node] != 0)
    sets = np.where(stand_in, -1, attrs["category_set"][flat.node])
    numeric = sets < 0
    if source is not None:
        missing_left &= ~numeric | w.columns.facts(source).nan[feature]
    value = x.value
    if x.type.dtype == "float32":
        value, split = (value, round_down(split)) if single else (w.cast(value, "float64"), split)
    elif single and numeric.sum() >= _WORTH_NARROWING:
        kinds = w.columns.kinds(source) if source is not None else np.full(x.type.width, ANY)
        found = narrow_splits(feature[numeric], split[numeric], kinds)
        if found is not None:
            value, split = _rounded_up(w, value, found[1]), np.zeros(len(feature), np.float32)
            split[numeric] = found[0]
    return _Nodes(feature, split, missing_left, sets, [value], x.type.width)


def _rounded_up(w: Writer, value: ir.Value, factor: Array | None) -> ir.Value:
    """float64 columns as float32 for ``narrow_splits``."""
    if factor is not None:
        if (factor != 1).any():
            value = w.op("Mul", value, factor[None, :])
        value = w.op("Ceil", value)
    return w.cast(value, "float32")


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


def _category_columns(w: Writer, x: Tensor, columns: Array, dtype: str) -> ir.Value:
    """Columns read by categorical nodes: whole numbers in [0, 256), NaN for all that counts as missing.

    The program takes the integer part of a category. TreeEnsemble compares the number itself where a set is
    large, and its integer part where it is small.
    """
    value = w.op("Gather", x.value, columns, axis=1)
    zero, end, nan = (np.array([[v]], x.type.dtype) for v in (0, 256, np.nan))
    inside = w.op("And", w.op("GreaterOrEqual", value, zero), w.op("Less", value, end))
    result = w.op("Where", inside, w.op("Floor", value), nan)
    return result if dtype == x.type.dtype else w.cast(result, dtype)


# --- one TreeEnsemble ---------------------------------------------------------------------------------------
def _shared(tree: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Leaves that carry the same in different trees as one: which leaves to keep, and the place of each among them.

    Equal leaves of one tree stay apart, since onnxruntime 1.28 still adds up the weights of a leaf that a tree reaches
    in two ways; and leaves keep their order, which 1.23 relies on.
    """
    order = np.lexsort((tree, weight, target))
    same = np.ones(len(order), bool)
    same[0] = False
    for column in (tree, target, weight):
        same[1:] &= column[order][1:] == column[order][:-1]
    starts = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))
    turn = np.empty(len(order))  # of a leaf among the equal ones of its tree
    turn[order] = np.arange(len(order)) - starts
    keys = np.stack([target.astype(np.float64), weight.astype(np.float64), turn])
    _, first, number = np.unique(keys, axis=1, return_index=True, return_inverse=True)
    in_order = np.argsort(first)
    return first[in_order], np.argsort(in_order)[number.reshape(-1)]


def _renumbered(child: Array, is_leaf: Array, number: Array) -> Array:
    """Children with leaves renumbered; inner nodes keep their numbers."""
    result = child.copy()
    result[is_leaf] = number[child[is_leaf]]
    return result


def trees(
    w: Writer,
    x: Tensor,
    flat: Flat,
    attrs: Mapping[str, Array],
    targets: int,
    leaf_target: Array,
    leaf_weight: Array,
    *,
    source: int | None,
    single: bool,
) -> Tensor:
    """(rows, targets), float32 or float64: every tree adds the weight of the leaf it reaches to that leaf's target.

    float32 only where ``single``, when the weights and their sums must be exact in float32. ``source`` is the
    number of x in the program, when it is one of its values.
    """
    nodes = _nodes(w, x, flat, attrs, source, single)
    dtype = nodes.split.dtype.name
    flipped = np.flatnonzero(nodes.missing_left & (nodes.sets < 0))
    if flipped.size:
        nodes.append(flipped, lambda columns: w.op("Neg", w.op("Gather", nodes.parts[0], columns, axis=1)))
        nodes.split[flipped] = _split_of_negated(nodes.split[flipped])
    modes = np.zeros(len(nodes.feature), np.uint8)
    extra: dict[str, Any] = {}
    categorical = np.flatnonzero(nodes.sets >= 0)
    if categorical.size:
        nodes.append(categorical, lambda columns: _category_columns(w, x, columns, dtype))
        # An empty set sends nothing but missing values left, as does x <= -inf.
        nodes.split[categorical] = -np.inf
        members = [_members(attrs["categories"][row]) for row in nodes.sets[categorical]]
        modes[categorical] = [_MEMBER if len(m) else _LEQ for m in members]
        listed = [np.append(m, np.nan) for m in members if len(m)]
        if listed:
            extra["membership_values"] = ir.tensor(np.concatenate(listed).astype(dtype))
        if nodes.missing_left[categorical].any():
            tracks = nodes.missing_left & (nodes.sets >= 0)
            extra["nodes_missing_value_tracks_true"] = tracks.astype(np.int64).tolist()
    value = nodes.parts[0] if len(nodes.parts) == 1 else w.op("Concat", *nodes.parts, axis=1)
    yes_leaf, no_leaf = (_swapped(pair, flipped) for pair in (flat.child_is_leaf, flat.child_is_leaf[::-1]))
    yes, no = (_swapped(pair, flipped) for pair in (flat.child, flat.child[::-1]))
    kept, number = _shared(flat.leaf_tree, leaf_target, leaf_weight)
    result = w.op(
        "TreeEnsemble",
        value,
        domain=ML,
        n_targets=targets,
        aggregate_function=_SUM,
        tree_roots=flat.roots.tolist(),
        nodes_featureids=nodes.feature.tolist(),
        nodes_modes=ir.tensor(modes),
        nodes_splits=ir.tensor(nodes.split),
        nodes_truenodeids=_renumbered(yes, yes_leaf, number).tolist(),
        nodes_trueleafs=yes_leaf.astype(np.int64).tolist(),
        nodes_falsenodeids=_renumbered(no, no_leaf, number).tolist(),
        nodes_falseleafs=no_leaf.astype(np.int64).tolist(),
        leaf_targetids=leaf_target[kept].tolist(),
        leaf_weights=ir.tensor(leaf_weight[kept].astype(dtype)),
        **extra,
    )
    return Tensor(result, ValueType(dtype, targets), False)  # type: ignore[arg-type]  # NumPy names both floats alike


def leaf_codes(
    w: Writer,
    x: Tensor,
    flat: Flat,
    attrs: Mapping[str, Array],
    slots: Array,
    targets: int,
    codes: Array,
    source: int | None,
) -> ir.Value:
    """int64 (rows, targets): the code of the leaf that the tree of each slot reaches, 0 where a slot has no tree."""
    single = bool(codes.max(initial=0) < _EXACT_FLOAT32)
    leaf = trees(w, x, flat, attrs, targets, slots[flat.leaf_tree], codes, source=source, single=single)
    return w.op("Cast", leaf.value, to=DTYPES["int64"])


@lowers("TreeLeaves")
def tree_leaves(w: Writer, node: Node, x: Tensor) -> ir.Value:
    roots = node.attrs["roots"]
    flat = flatten(roots, node.attrs)
    return leaf_codes(w, x, flat, node.attrs, np.arange(len(roots)), len(roots), flat.leaf_row, node.inputs[0])


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
    flat = flatten(np.array([0]), attrs)
    column = Tensor(x, ValueType("float64", 1), False)
    return leaf_codes(w, column, flat, attrs, np.array([0]), 1, flat.leaf_row, None)
