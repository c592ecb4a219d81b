"""Tree ensembles: eight walks at a time, so that the loads of one hide behind the others.

A node is two 8-byte words. Word 0 is the threshold, or the number of the set in a categorical node. Word 1 is
``next << 32 | feature << 3 | leaf << 2 | categorical << 1 | missing_left``. The children of a node stand side
by side, left at ``next`` and right behind it, and node ``t`` is the root of tree ``t``.

NaN: ``value <= threshold`` is false, so a missing value goes right unless the missing_left bit says left. A
leaf's threshold is a NaN, so every value goes right, and its ``next`` is the node before it: a walk that has
arrived stays. The lower bits of that NaN are the leaf's row of leaf_values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.runtimes.kernels import tree_codes
from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.tree_codes import LANES, paired

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from edgeml.ir import Node
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder

# Levels walked before looking whether all lanes have arrived.
STRIDE = 4
MISSING_LEFT, CATEGORICAL, LEAF = 1, 2, 4
FEATURE_SHIFT, NEXT_SHIFT = 3, 32
MAX_FEATURES = 1 << 29
LEAF_NAN = 0x7FF8000000000000
LEAF_ROW = (1 << 32) - 1


# --- one step -----------------------------------------------------------------------------------------------
def step(f: Any, cf: Any, ci: Any, nodes: Any, sets: Any, x: Any, shift: Any, node: Any) -> Any:
    """The node after ``node`` where all nodes are numeric. ``x`` is the row's first cell, columns are 1 <<
    shift apart.
    """
    word = ci[nodes + 2 * node + 1]
    value = f[x + (((word & 0xFFFFFFFF) >> FEATURE_SHIFT) << shift)]
    left = (value <= cf[nodes + 2 * node]) | ((value != value) & ((word & MISSING_LEFT) != 0))
    return (word >> NEXT_SHIFT) + np.int64(not left)


def step_categorical(f: Any, cf: Any, ci: Any, nodes: Any, sets: Any, x: Any, shift: Any, node: Any) -> Any:
    """The node after ``node``, which may be categorical: left where the set has the category's bit."""
    word = ci[nodes + 2 * node + 1]
    value = f[x + (((word & 0xFFFFFFFF) >> FEATURE_SHIFT) << shift)]
    missing = value != value
    left = value <= cf[nodes + 2 * node]
    if (word & CATEGORICAL) != 0:
        if value >= 0.0 and value < 256.0:
            category = np.int64(np.int32(value))
            bits = ci[sets + 4 * ci[nodes + 2 * node] + (category >> 6)]
            left = ((bits >> (category & 63)) & 1) != 0
        else:
            missing = True
    if missing:
        left = (word & MISSING_LEFT) != 0
    return (word >> NEXT_SHIFT) + np.int64(not left)


def is_leaf(ci: Any, nodes: Any, node: Any) -> Any:
    return ci[nodes + 2 * node + 1] & LEAF


# --- eight walks --------------------------------------------------------------------------------------------
def _walks(one_step: Callable[..., Any]) -> Callable[..., Any]:
    """The function that walks eight ways at once: walk l starts at node ``root + l * root_step`` in the row
    whose first cell is ``x + l * x_step``, and writes the row of leaf_values it reaches to ``i[found + l]``.
    """

    def walks(
        f: Any, i: Any, cf: Any, ci: Any, nodes: Any, sets: Any, shift: Any,
        root: Any, root_step: Any, x: Any, x_step: Any, found: Any,
    ) -> None:  # fmt: skip
        a, b, c, d = root, root + root_step, root + 2 * root_step, root + 3 * root_step
        p, q, s, t = root + 4 * root_step, root + 5 * root_step, root + 6 * root_step, root + 7 * root_step
        leaves = 0
        while leaves == 0:
            for _ in range(STRIDE):
                a = one_step(f, cf, ci, nodes, sets, x, shift, a)
                b = one_step(f, cf, ci, nodes, sets, x + x_step, shift, b)
                c = one_step(f, cf, ci, nodes, sets, x + 2 * x_step, shift, c)
                d = one_step(f, cf, ci, nodes, sets, x + 3 * x_step, shift, d)
                p = one_step(f, cf, ci, nodes, sets, x + 4 * x_step, shift, p)
                q = one_step(f, cf, ci, nodes, sets, x + 5 * x_step, shift, q)
                s = one_step(f, cf, ci, nodes, sets, x + 6 * x_step, shift, s)
                t = one_step(f, cf, ci, nodes, sets, x + 7 * x_step, shift, t)
            leaves = is_leaf(ci, nodes, a) & is_leaf(ci, nodes, b) & is_leaf(ci, nodes, c) & is_leaf(ci, nodes, d)
            leaves &= is_leaf(ci, nodes, p) & is_leaf(ci, nodes, q) & is_leaf(ci, nodes, s) & is_leaf(ci, nodes, t)
        i[found] = ci[nodes + 2 * a] & LEAF_ROW
        i[found + 1] = ci[nodes + 2 * b] & LEAF_ROW
        i[found + 2] = ci[nodes + 2 * c] & LEAF_ROW
        i[found + 3] = ci[nodes + 2 * d] & LEAF_ROW
        i[found + 4] = ci[nodes + 2 * p] & LEAF_ROW
        i[found + 5] = ci[nodes + 2 * q] & LEAF_ROW
        i[found + 6] = ci[nodes + 2 * s] & LEAF_ROW
        i[found + 7] = ci[nodes + 2 * t] & LEAF_ROW

    return walks


# --- kernels: words are x, its row stride and shift, nodes, sets, trees, eight cells for leaves, result and its step
def add_leaf(
    f: Any, cf: Any, ci: Any, o: Any, o_step: Any, values: Any, k: Any, target: Any, tree: Any, leaf: Any
) -> None:
    """Add row ``leaf`` of leaf_values to one row of the result, or its one value to the tree's target column."""
    if target < 0:
        for c in range(k):
            f[o + c * o_step] += cf[values + leaf * k + c]
    else:
        f[o + ci[target + tree] * o_step] += cf[values + leaf]


def _ensemble(name: str, walks: Callable[..., Any]) -> None:
    """Register kernel ``name``. More words: leaf_values, its columns, targets (or -1), base, width of the result."""

    @kernel(name, "words f i cf ci n")
    def run(words: Any, f: Any, i: Any, cf: Any, ci: Any, n: Any) -> None:
        x, x_row, shift, nodes, sets, trees, found = (
            words[0], words[1], words[2], words[3], words[4], words[5], words[6],
        )  # fmt: skip
        o, o_step, values, k, target, base, width = (
            words[7], words[8], words[9], words[10], words[11], words[12], words[13],
        )  # fmt: skip
        for c in range(width):
            for r in range(n):
                f[o + c * o_step + r] = cf[base + c]
        full = n - (n & (LANES - 1))
        for tree in range(trees):
            for r in range(0, full, LANES):
                walks(f, i, cf, ci, nodes, sets, shift, tree, 0, x + r * x_row, x_row, found)
                for lane in range(LANES):
                    add_leaf(f, cf, ci, o + r + lane, o_step, values, k, target, tree, i[found + lane])
        for r in range(full, n):  # what is no full group of rows: eight trees at a time instead
            for tree in range(0, trees, LANES):
                walks(f, i, cf, ci, nodes, sets, shift, tree, 1, x + r * x_row, 0, found)
                for lane in range(min(LANES, trees - tree)):
                    add_leaf(f, cf, ci, o + r, o_step, values, k, target, tree + lane, i[found + lane])


def _leaves(name: str, walks: Callable[..., Any]) -> None:
    """Register kernel ``name``: the leaf of every tree."""

    @kernel(name, "words f i cf ci n")
    def run(words: Any, f: Any, i: Any, cf: Any, ci: Any, n: Any) -> None:
        x, x_row, shift, nodes, sets, trees, found, o, o_step = (
            words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8],
        )  # fmt: skip
        for r in range(n):
            for tree in range(0, trees, LANES):
                walks(f, i, cf, ci, nodes, sets, shift, tree, 1, x + r * x_row, 0, found)
                for lane in range(min(LANES, trees - tree)):
                    i[o + (tree + lane) * o_step + r] = i[found + lane]


for _suffix, _step in (("", step), ("_categorical", step_categorical)):
    _function = _walks(_step)
    _ensemble(f"tree_ensemble{_suffix}", _function)
    _leaves(f"tree_leaves{_suffix}", _function)


# --- encoding -----------------------------------------------------------------------------------------------
def _nodes(attrs: Mapping[str, Any]) -> Array:
    """The nodes as words, int64 (nodes, 2), in the order that ``paired`` gives."""
    feature, sets = attrs["feature"], attrs["category_set"]
    if (feature >= MAX_FEATURES).any():
        raise ProgramError(f"an ensemble over {feature.max()} columns is beyond the kernels")
    source, children = paired(attrs)
    leaf = feature[source] < 0
    categorical = ~leaf & (sets[source] >= 0)
    words = np.empty((len(source), 2), dtype=np.int64)
    words[:, 0] = attrs["threshold"].view(np.int64)[source]
    words[categorical, 0] = sets[source[categorical]]
    words[leaf, 0] = LEAF_NAN | attrs["left"][source[leaf]].astype(np.int64)
    flags = feature[source].astype(np.int64) << FEATURE_SHIFT | (attrs["missing_left"][source] != 0) * MISSING_LEFT
    flags = np.where(leaf, LEAF, flags | categorical * CATEGORICAL)
    words[:, 1] = np.where(leaf, np.arange(len(source)) - 1, children) << NEXT_SHIFT | flags
    return words


@encodes("TreeEnsemble", "TreeLeaves")
def tree_ensemble(e: Encoder, node: Node, value: int) -> None:
    x, attrs = e.register(node.inputs[0]), node.attrs
    out = e.allocate(value)
    if tree_codes.fits(attrs, x.width):
        tree_codes.encode(e, node, value, x, out)
        return
    found = e.temporary(-(-LANES // e.block))
    categorical = bool(((attrs["category_set"] >= 0) & (attrs["feature"] >= 0)).any())
    nodes = e.constants(value, "nodes", lambda: _nodes(attrs))
    sets = e.constants(value, "sets", lambda: np.ascontiguousarray(attrs["categories"]).view(np.int64))
    suffix = "_categorical" if categorical else ""
    words = [x.offset, x.row, x.step.bit_length() - 1, nodes, sets, len(attrs["roots"]), found.offset]
    words += [out.offset, out.step]
    if node.op == "TreeLeaves":
        e.emit(f"tree_leaves{suffix}", *words)
        return
    values = e.constants(value, "values", lambda: attrs["leaf_values"])
    target = e.constants(value, "target", lambda: attrs["target"].astype(np.int64)) if attrs["target"].size else -1
    base = e.constants(value, "base", lambda: attrs["base"])
    e.emit(f"tree_ensemble{suffix}", *words, values, attrs["leaf_values"].shape[1], target, base, out.width)
