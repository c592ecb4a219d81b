"""Tree ensembles row by row: eight trees are walked at a time, so that the loads of one hide behind those of others.

This is how a single row is answered, and a batch whose trees have no other form: tree_bits.py and tree_codes.py take
most batches. The cells that the nodes look at are put side by side first, as forest.py's ``Columns`` lists them, so
that a node does no more than compare one cell with one threshold.

A node is two 8-byte words: the threshold, and two numbers of 4 bytes, the cell and ``next``, the word at which the
left child begins; the right one stands behind it. NaN: ``value <= threshold`` is false, so a missing value goes right,
and a column whose NaN goes left holds -inf instead. Node ``t`` is the root of tree ``t``. A leaf's threshold is a NaN,
so every value goes right, and its ``next`` is the node before it: a walk that has arrived stays. The lower bits of
that NaN are where the leaf's values begin in leaf_values, and its cell is -1, which is there to be read: one cell
stands in front of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml import fast
from edgeml.errors import ProgramError
from edgeml.runtimes.kernels import tree_bits, tree_codes, tree_deep
from edgeml.runtimes.kernels.constants import aligned
from edgeml.runtimes.kernels.forest import WORDS, columns, comparable
from edgeml.runtimes.kernels.registry import encodes, kernel
from edgeml.runtimes.kernels.tree_codes import LANES, paired
from edgeml.runtimes.kernels.tree_ranks import category_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeml.ir import Node
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder
    from edgeml.runtimes.kernels.forest import Columns

# Levels walked before looking whether all eight have arrived.
STRIDE = 4
NODE = 2  # words
LARGEST = (1 << 31) - 1
LEAF_NAN = 0x7FF8000000000000
LEAF_PLACE = (1 << 32) - 1


# --- the cells ----------------------------------------------------------------------------------------------
def gather(f: Any, ci: Any, x: Any, x_step: Any, table: Any, to: Any) -> None:
    """The columns of one row side by side. The table has three counts, and then what each kind of column is made of."""
    features, low, sets = ci[table], ci[table + 1], ci[table + 2]
    table += 3
    for j in range(features):
        f[to + j] = f[x + ci[table + j] * x_step]
    table += features
    for j in range(low):
        value = f[x + ci[table + j] * x_step]
        f[to + features + j] = value if value == value else -np.inf
    table += low
    to += features + low
    for j in range(sets):
        category = category_of(f[x + ci[table] * x_step])
        f[to + j] = 1.0 if (ci[table + 1 + (category >> 6)] >> (category & 63)) & 1 != 0 else 0.0
        table += 1 + WORDS


def _gathered(found: Columns) -> Array:
    """The table of ``gather``."""
    counts = [len(found.features), len(found.low), len(found.categorical)]
    sets = np.column_stack([found.categorical, found.right.view(np.int64)])
    return np.concatenate([counts, found.features, found.features[found.low], sets.ravel()])


# --- eight walks --------------------------------------------------------------------------------------------
def step(f: Any, cf: Any, c32: Any, nodes: Any, x: Any, node: Any) -> Any:
    """The node after ``node``, both as the word they begin at, for the row whose cells begin at ``x``."""
    halves = 2 * (nodes + node)
    right = not (f[x + c32[halves + 2]] <= cf[nodes + node])
    return c32[halves + 3] + NODE * np.int64(right)


def cell_of(c32: Any, nodes: Any, node: Any) -> Any:
    return c32[2 * (nodes + node) + 2]


def leaf_of(ci: Any, nodes: Any, node: Any) -> Any:
    return ci[nodes + node] & LEAF_PLACE


def walks(f: Any, i: Any, cf: Any, ci: Any, c32: Any, nodes: Any, x: Any, root: Any, found: Any) -> None:
    """Walk eight trees, whose roots stand at ``root`` and behind; where each leaf's values begin goes to ``found``."""
    a, b, c, d = root, root + NODE, root + 2 * NODE, root + 3 * NODE
    p, q, s, t = root + 4 * NODE, root + 5 * NODE, root + 6 * NODE, root + 7 * NODE
    leaves = np.int64(0)
    while leaves >= 0:
        for _ in range(STRIDE):
            a, b = step(f, cf, c32, nodes, x, a), step(f, cf, c32, nodes, x, b)
            c, d = step(f, cf, c32, nodes, x, c), step(f, cf, c32, nodes, x, d)
            p, q = step(f, cf, c32, nodes, x, p), step(f, cf, c32, nodes, x, q)
            s, t = step(f, cf, c32, nodes, x, s), step(f, cf, c32, nodes, x, t)
        leaves = cell_of(c32, nodes, a) & cell_of(c32, nodes, b) & cell_of(c32, nodes, c) & cell_of(c32, nodes, d)
        leaves &= cell_of(c32, nodes, p) & cell_of(c32, nodes, q) & cell_of(c32, nodes, s) & cell_of(c32, nodes, t)
    i[found], i[found + 1], i[found + 2] = leaf_of(ci, nodes, a), leaf_of(ci, nodes, b), leaf_of(ci, nodes, c)
    i[found + 3], i[found + 4], i[found + 5] = leaf_of(ci, nodes, d), leaf_of(ci, nodes, p), leaf_of(ci, nodes, q)
    i[found + 6], i[found + 7] = leaf_of(ci, nodes, s), leaf_of(ci, nodes, t)


# --- kernels: words are x, its steps, table, the cells, nodes, trees, eight cells for leaves, result, its steps --
@kernel("tree_walk_one", "words f i cf ci c32 n", scalar=True)
def tree_walk_one(words: Any, f: Any, i: Any, cf: Any, ci: Any, c32: Any, n: Any) -> None:
    """Leaves of one value that are all added up. More words: leaf_values, base."""
    x, x_step, x_row, table, cells, nodes, trees, found, o, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[10],
    )  # fmt: skip
    values, base = words[11], words[12]
    for r in range(n):
        gather(f, ci, x + r * x_row, x_step, table, cells)
        total = cf[base]
        for tree in range(0, trees, LANES):
            walks(f, i, cf, ci, c32, nodes, cells, NODE * tree, found)
            for lane in range(min(LANES, trees - tree)):
                total += cf[values + i[found + lane]]
        f[o + r * o_row] = total


@kernel("tree_walk_two", "words f i cf ci c32 n", scalar=True)
def tree_walk_two(words: Any, f: Any, i: Any, cf: Any, ci: Any, c32: Any, n: Any) -> None:
    """Leaves of two values, as two classes have. More words: leaf_values, base."""
    x, x_step, x_row, table, cells, nodes, trees, found, o, o_step, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9], words[10],
    )  # fmt: skip
    values, base = words[11], words[12]
    for r in range(n):
        gather(f, ci, x + r * x_row, x_step, table, cells)
        first, second = cf[base], cf[base + 1]
        for tree in range(0, trees, LANES):
            walks(f, i, cf, ci, c32, nodes, cells, NODE * tree, found)
            for lane in range(min(LANES, trees - tree)):
                first += cf[values + i[found + lane]]
                second += cf[values + i[found + lane] + 1]
        f[o + r * o_row] = first
        f[o + o_step + r * o_row] = second


@kernel("tree_walk", "words f i cf ci c32 n")
def tree_walk(words: Any, f: Any, i: Any, cf: Any, ci: Any, c32: Any, n: Any) -> None:
    """Any leaves. More words: leaf_values, base, their columns, for each tree its column of the result, whether it
    has one, and the width of the result.
    """
    x, x_step, x_row, table, cells, nodes, trees, found, o, o_step, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9], words[10],
    )  # fmt: skip
    values, base, k, target, has_target, width = words[11], words[12], words[13], words[14], words[15], words[16]
    for r in range(n):
        gather(f, ci, x + r * x_row, x_step, table, cells)
        to = o + r * o_row
        for c in range(width):
            f[to + c * o_step] = cf[base + c]
        for tree in range(0, trees, LANES):
            walks(f, i, cf, ci, c32, nodes, cells, NODE * tree, found)
            for lane in range(min(LANES, trees - tree)):
                leaf = values + i[found + lane]
                if has_target == 0:
                    for c in range(k):
                        f[to + c * o_step] += cf[leaf + c]
                else:
                    f[to + ci[target + tree + lane] * o_step] += cf[leaf]


@kernel("tree_walk_leaves", "words f i cf ci c32 n", scalar=True)
def tree_walk_leaves(words: Any, f: Any, i: Any, cf: Any, ci: Any, c32: Any, n: Any) -> None:
    """The leaf of every tree."""
    x, x_step, x_row, table, cells, nodes, trees, found, o, o_step, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9], words[10],
    )  # fmt: skip
    for r in range(n):
        gather(f, ci, x + r * x_row, x_step, table, cells)
        for tree in range(0, trees, LANES):
            walks(f, i, cf, ci, c32, nodes, cells, NODE * tree, found)
            for lane in range(min(LANES, trees - tree)):
                i[o + (tree + lane) * o_step + r * o_row] = i[found + lane]


# --- encoding -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class _Walk:
    """What ``walks`` reads: nodes as words, and the table of ``gather``."""

    nodes: Array
    table: Array
    cells: int


def _walk(attrs: Mapping[str, Any], k: int) -> _Walk:
    found = columns(attrs)
    source, children = paired(attrs)
    if NODE * len(source) > LARGEST or attrs["leaf_values"].size > LEAF_PLACE:
        raise ProgramError(f"an ensemble of {len(source)} nodes is beyond the kernels")
    leaf = attrs["feature"][source] < 0
    words = aligned(NODE * len(source)).reshape(-1, NODE)
    words[:, 0] = np.where(attrs["category_set"] >= 0, 0.0, attrs["threshold"]).view(np.int64)[source]
    words[leaf, 0] = LEAF_NAN | attrs["left"][source[leaf]].astype(np.int64) * k
    halves = words.view("<i4")
    halves[:, 2] = found.column[source]
    halves[:, 3] = NODE * np.where(leaf, np.arange(len(source)) - 1, children)
    return _Walk(words, _gathered(found), found.count)


@encodes("TreeEnsemble", "TreeLeaves")
def tree_ensemble(e: Encoder, node: Node, value: int) -> None:
    x, leaves = e.register(node.inputs[0]), node.op == "TreeLeaves"
    attrs = e.fact(value, "comparable", lambda: comparable(node.attrs))
    out = e.allocate(value)
    if e.block > 1:
        if fast.on("bits") and tree_bits.encode(e, attrs, leaves, value, x, out):
            return
        if fast.on("bits") and tree_deep.encode(e, attrs, leaves, value, x, out):
            return
        if tree_codes.encode(e, attrs, leaves, value, x, out):
            return
    k = attrs["leaf_values"].shape[1]
    walk = e.fact(value, "walk", lambda: _walk(attrs, 1 if leaves else k))
    nodes = e.constants(value, "walk nodes", lambda: walk.nodes)
    table = e.constants(value, "walk columns", lambda: walk.table)
    cells, found = e.cells_of(walk.cells + 1) + 1, e.cells_of(LANES)
    words = [x.offset, x.step, x.row, table, cells, nodes, len(attrs["roots"]), found, out.offset, out.step, out.row]
    if leaves:
        e.emit("tree_walk_leaves", *words)
        return
    values = e.constants(value, "values", lambda: attrs["leaf_values"])
    words += [values, e.constants(value, "base", lambda: attrs["base"])]
    targets = attrs["target"]
    if k <= 2 and out.width == k and not targets.any():
        e.emit("tree_walk_one" if k == 1 else "tree_walk_two", *words)
        return
    target = e.constants(value, "target", lambda: targets.astype(np.int64))
    e.emit("tree_walk", *words, k, target, int(targets.size > 0), out.width)
