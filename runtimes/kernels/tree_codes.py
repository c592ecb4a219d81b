"""Trees of a batch by walks over codes of 16 bits, with nodes of one 8-byte word: for trees of more leaves than bit
vectors are made for.

Codes are the ranks of tree_ranks.py; a column whose NaN goes left is one of its own. They stand in groups of eight
rows, ``group * width * 8 + column * 8 + row``, so that one number in the node finds the cell of every row of a group.
A node is ``next << 32 | column * 8 << 16 | threshold``. The children of a node stand side by side, left at ``next``
and right behind it, and node ``t`` is the root of tree ``t``. A leaf's threshold is 65535 and its ``next`` the leaf
itself: a walk that has arrived stays. Where it ends is looked up in a table of int32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.runtimes.kernels.forest import NAN_RANK, Ranks, ranks
from edgeml.runtimes.kernels.registry import kernel
from edgeml.runtimes.kernels.tree_ranks import emit_ranks

if TYPE_CHECKING:
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder
    from edgeml.runtimes.kernels.scratch import Register

LANES = 8
# Levels walked before looking whether all lanes have arrived.
STRIDE = 4
CODE = 0xFFFF  # the largest code, and the threshold of a leaf
COLUMN_SHIFT, NEXT_SHIFT = 16, 32
MAX_COLUMNS = (CODE + 1) // LANES
MAX_NODES = 1 << 31


# --- codes --------------------------------------------------------------------------------------------------
@kernel("tree_codes", "words h ci n")
def tree_codes(words: Any, h: Any, ci: Any, n: Any) -> None:
    """Groups of eight rows from columns of ranks. Words: codes, ranks, log2 of the rows of a block, table, width.

    The table has for each column the one of ranks, and whether NaN ranks lowest.
    """
    o, ranks, shift, table, width = words[0], words[1], words[2], words[3], words[4]
    for j in range(width):
        a = ranks + (ci[table + 2 * j] << shift)
        missing = np.uint16(0 if ci[table + 2 * j + 1] != 0 else NAN_RANK)
        for r in range(0, n, LANES):
            for lane in range(min(LANES, n - r)):
                rank = np.uint16(h[a + r + lane])
                h[o + r * width + j * LANES + lane] = rank if rank != np.uint16(NAN_RANK) else missing


# --- eight walks --------------------------------------------------------------------------------------------
def step(h: Any, ci: Any, nodes: Any, x: Any, node: Any) -> Any:
    """The node after ``node`` for the row whose code of the first column is ``h[x]``."""
    word = ci[nodes + node]
    code = np.int64(h[x + ((word >> COLUMN_SHIFT) & CODE)])
    # ``next`` is even but in a leaf. A sum instead would be kept as its two parts, and registers would not suffice.
    return (word >> NEXT_SHIFT) | np.int64(code > (word & CODE))


def walks(
    h: Any, i: Any, ci: Any, c32: Any, nodes: Any, ends: Any, root: Any, root_step: Any, x: Any, x_step: Any, found: Any
) -> None:
    """Walk l starts at node ``root + l * root_step`` in row ``x + l * x_step``; its end goes to ``found + l``."""
    a, b, c, d = root, root + root_step, root + 2 * root_step, root + 3 * root_step
    p, q, s, t = root + 4 * root_step, root + 5 * root_step, root + 6 * root_step, root + 7 * root_step
    arrived = False
    while not arrived:
        for _ in range(STRIDE):
            a = step(h, ci, nodes, x, a)
            b = step(h, ci, nodes, x + x_step, b)
            c = step(h, ci, nodes, x + 2 * x_step, c)
            d = step(h, ci, nodes, x + 3 * x_step, d)
            p = step(h, ci, nodes, x + 4 * x_step, p)
            q = step(h, ci, nodes, x + 5 * x_step, q)
            s = step(h, ci, nodes, x + 6 * x_step, s)
            t = step(h, ci, nodes, x + 7 * x_step, t)
        thresholds = ci[nodes + a] & ci[nodes + b] & ci[nodes + c] & ci[nodes + d]
        thresholds &= ci[nodes + p] & ci[nodes + q] & ci[nodes + s] & ci[nodes + t]
        arrived = (thresholds & CODE) == CODE
    i[found] = c32[ends + a]
    i[found + 1] = c32[ends + b]
    i[found + 2] = c32[ends + c]
    i[found + 3] = c32[ends + d]
    i[found + 4] = c32[ends + p]
    i[found + 5] = c32[ends + q]
    i[found + 6] = c32[ends + s]
    i[found + 7] = c32[ends + t]


# --- kernels: words are codes, width of x, nodes, ends, trees, eight cells for the ends, result, its steps -------
def start(f: Any, cf: Any, o: Any, o_step: Any, o_row: Any, base: Any, width: Any, n: Any) -> None:
    """Every row of the result begins with the base."""
    for c in range(width):
        for r in range(n):
            f[o + c * o_step + r * o_row] = cf[base + c]


@kernel("tree_codes_one", "words f h i cf ci c32 n", scalar=True)
def tree_codes_one(words: Any, f: Any, h: Any, i: Any, cf: Any, ci: Any, c32: Any, n: Any) -> None:
    """Leaves of one value, added to the column of the tree. More words: leaf_values, columns, whether there are any,
    base, width.
    """
    x, x_width, nodes, ends, trees, found, o, o_step, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8],
    )  # fmt: skip
    values, target, has_target, base, width = words[9], words[10], words[11], words[12], words[13]
    start(f, cf, o, o_step, o_row, base, width, n)
    full = n - (n & (LANES - 1))
    for tree in range(trees):
        to = o + (ci[target + tree] * o_step if has_target != 0 else 0)
        for r in range(0, full, LANES):
            walks(h, i, ci, c32, nodes, ends, tree, 0, x + r * x_width, 1, found)
            for lane in range(LANES):
                f[to + (r + lane) * o_row] += cf[values + i[found + lane]]
    for r in range(full, n):  # what is no full group of rows: eight trees at a time instead
        for tree in range(0, trees, LANES):
            walks(h, i, ci, c32, nodes, ends, tree, 1, x + full * x_width + r - full, 0, found)
            for lane in range(min(LANES, trees - tree)):
                to = o + (ci[target + tree + lane] * o_step if has_target != 0 else 0)
                f[to + r * o_row] += cf[values + i[found + lane]]


@kernel("tree_codes_rows", "words f h i cf ci c32 n", scalar=True)
def tree_codes_rows(words: Any, f: Any, h: Any, i: Any, cf: Any, ci: Any, c32: Any, n: Any) -> None:
    """Leaves of several values. More words: leaf_values, base, their width, and where the sums of a row stand side by
    side while they grow.
    """
    x, x_width, nodes, ends, trees, found, o, o_step, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8],
    )  # fmt: skip
    values, base, k, sums = words[9], words[10], words[11], words[12]
    start(f, cf, sums, 1, k, base, k, n)
    full = n - (n & (LANES - 1))
    for tree in range(trees):
        for r in range(0, full, LANES):
            walks(h, i, ci, c32, nodes, ends, tree, 0, x + r * x_width, 1, found)
            for lane in range(LANES):
                to, leaf = sums + (r + lane) * k, values + i[found + lane]
                for c in range(k):
                    f[to + c] += cf[leaf + c]
    for r in range(full, n):
        for tree in range(0, trees, LANES):
            walks(h, i, ci, c32, nodes, ends, tree, 1, x + full * x_width + r - full, 0, found)
            for lane in range(min(LANES, trees - tree)):
                to, leaf = sums + r * k, values + i[found + lane]
                for c in range(k):
                    f[to + c] += cf[leaf + c]
    if sums != o:
        for c in range(k):
            for r in range(n):
                f[o + c * o_step + r * o_row] = f[sums + r * k + c]


@kernel("tree_codes_leaves", "words h i ci c32 n", scalar=True)
def tree_codes_leaves(words: Any, h: Any, i: Any, ci: Any, c32: Any, n: Any) -> None:
    """The leaf of every tree."""
    x, x_width, nodes, ends, trees, found, o, o_step, o_row = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8],
    )  # fmt: skip
    for r in range(0, n, LANES):
        rows = min(LANES, n - r)
        for tree in range(trees):
            walks(h, i, ci, c32, nodes, ends, tree, 0, x + r * x_width, 1, found)
            for lane in range(rows):
                i[o + tree * o_step + (r + lane) * o_row] = i[found + lane]


# --- encoding -----------------------------------------------------------------------------------------------
def paired(attrs: Mapping[str, Any]) -> tuple[Array, Array]:
    """(node, next): the nodes of the attributes in the order of the kernels, roots padded to a multiple of eight and
    then pairs of children, and for each inner one where its left child stands.

    A node with two parents stands twice, its children once, so the result is never longer than two nodes a split.
    """
    feature, roots = attrs["feature"], attrs["roots"]
    inner = np.flatnonzero(feature >= 0)
    roots = np.concatenate([roots, np.repeat(roots[:1], -len(roots) % LANES)])
    children = np.zeros(len(feature), dtype=np.int64)
    children[inner] = len(roots) + 2 * np.arange(len(inner))
    source = np.concatenate([roots, np.stack([attrs["left"][inner], attrs["right"][inner]], axis=1).ravel()])
    if len(source) >= MAX_NODES:
        raise ProgramError(f"an ensemble of {len(source)} nodes is beyond the kernels")
    return source, children[source]


def _words(attrs: Mapping[str, Any], found: Ranks) -> Array:
    source, children = paired(attrs)
    leaf = attrs["feature"][source] < 0
    column, place = found.columns.column[source].astype(np.int64), found.place[source].astype(np.int64)
    split = children << NEXT_SHIFT | (column * LANES) << COLUMN_SHIFT | place
    return np.where(leaf, np.arange(len(source)) << NEXT_SHIFT | CODE, split)


def _ends(attrs: Mapping[str, Any], width: int) -> Array:
    """For each node in the order of the kernels the place of its leaf's first value, two of them a word."""
    source, _ = paired(attrs)
    ends = np.where(attrs["feature"][source] < 0, attrs["left"][source].astype(np.int64) * width, 0)
    return np.append(ends, np.zeros(len(ends) % 2, dtype=np.int64)).astype("<i4").view(np.int64)


def _table(found: Ranks) -> Array:
    return np.stack(found.source(np.arange(found.columns.count)), axis=1).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Codes:
    """Where a plan has the codes (in elements of two bytes), and nodes and ends among the constants."""

    at: int
    width: int
    nodes: int
    ends: int


def emit_codes(e: Encoder, attrs: Mapping[str, Any], value: int, made: int, found: Ranks, k: int) -> Codes | None:
    """Instructions for the codes of a block from the columns of ranks at ``made``; None where the kernels cannot walk.

    An end is the number of the leaf's first value, ``k`` of them a leaf.
    """
    width = found.columns.count
    if not 0 < width <= MAX_COLUMNS or attrs["leaf_values"].size >= MAX_NODES:
        return None
    codes = 4 * e.cells_of(-(-width * max(e.block, LANES) // 4))
    nodes = e.constants(value, "nodes", lambda: _words(attrs, found))
    ends = 2 * e.constants(value, f"ends {k}", lambda: _ends(attrs, k))
    e.emit(
        "tree_codes", codes, made, e.block.bit_length() - 1, e.constants(value, "codes", lambda: _table(found)), width
    )
    return Codes(codes, width, nodes, ends)


def encode(e: Encoder, attrs: Mapping[str, Any], leaves: bool, value: int, x: Register, out: Register) -> bool:
    """Instructions for the ensemble on blocks of rows; False where it cannot be walked over codes."""
    found = e.fact(value, "ranks", lambda: ranks(attrs))
    if found is None or not found.columns.count:
        return False
    k = attrs["leaf_values"].shape[1]
    eight = e.cells_of(LANES)
    codes = emit_codes(e, attrs, value, emit_ranks(e, value, found, x), found, 1 if leaves else k)
    if codes is None:
        return False
    words = [codes.at, codes.width, codes.nodes, codes.ends, len(attrs["roots"]), eight, out.offset, out.step, out.row]
    if leaves:
        e.emit("tree_codes_leaves", *words)
        return True
    values = e.constants(value, "values", lambda: attrs["leaf_values"])
    base = e.constants(value, "base", lambda: attrs["base"])
    if k == 1:
        targets = attrs["target"]
        target = e.constants(value, "target", lambda: targets.astype(np.int64))
        e.emit("tree_codes_one", *words, values, target, int(targets.size > 0), base, out.width)
    else:
        sums = out.offset if e.block == 1 else e.temporary(k).offset
        e.emit("tree_codes_rows", *words, values, base, k, sums)
    return True
