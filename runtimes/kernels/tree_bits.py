"""Trees of a batch by bit vectors: every node is asked of every row, and no row walks.

Each row has a bit for every leaf of a tree, from left to right, all 1. A node whose test fails clears the bits of its
left subtree; the first bit that is left is the row's leaf (QuickScorer, Lucchese et al., SIGIR 2015). Cells are codes
of one byte, so that one vector instruction asks a node of 16, 32 or 64 rows, and no branch depends on a cell. A forest
of depth 8 takes about 30 instructions a tree and row, a walk 60; trees of 31 leaves take 6.

Eight leaves are a plane, a byte a row. For each plane the entries that clear bits of it stand together in groups of
eight and at most one of four: columns of codes in 4 bytes each, then places, then the bits to clear, in a byte each. A
stream of words holds, tree by tree, the number of planes, and for each plane, the last first, how many groups of eight
and of four it has, and the groups. A column whose ranks need more than a byte has several columns of codes, each the
rank less 255 times its number, kept within a byte.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.forest import NAN_RANK, Ranks, first_leaves, leaf_counts, levels, ranks
from edgeml.runtimes.kernels.registry import kernel
from edgeml.runtimes.kernels.scalar import trailing_zeros
from edgeml.runtimes.kernels.tree_ranks import emit_ranks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder
    from edgeml.runtimes.kernels.scratch import Register

CODE = 255  # the largest code of one byte
GROUP = 4
GROUP_WORDS = 3
PLANE = 8
# Rows are padded to whole vectors of the widest kind.
PADDING = 64
MAX_LEAVES = 256
# Trees that share one pass over the block: the values of their leaves stay in the level-1 cache.
PASS = 8
MAX_COLUMNS = 4096
LANES = 8


# --- bits ---------------------------------------------------------------------------------------------------
def clear(
    b: Any, apart: Any, c32: Any, c8: Any, at: Any, codes: Any, shift: Any, plane: Any, first: Any, n: Any
) -> None:
    """Apply one group of entries to a plane; ``first`` is 255 where the plane holds nothing yet.

    Every step is a byte again, and places and bits are read as bytes: Numba makes int64 of what it adds, and LLVM would
    keep eight rows in a vector that has room for 64.
    """
    column, place, bits = 2 * at, 8 * at + 16, 8 * at + 20
    c0, c1 = codes + (c32[column] << shift), codes + (c32[column + 1] << shift)
    c2, c3 = codes + (c32[column + 2] << shift), codes + (c32[column + 3] << shift)
    t0, t1, t2, t3 = c8[place], c8[place + 1], c8[place + 2], c8[place + 3]
    m0, m1, m2, m3 = c8[bits], c8[bits + 1], c8[bits + 2], c8[bits + 3]
    for r in range(n):
        e0 = np.uint8(m0 * np.uint8(b[c0 + r] > t0))
        e1 = np.uint8(m1 * np.uint8(b[c1 + r] > t1))
        e2 = np.uint8(m2 * np.uint8(b[c2 + r] > t2))
        e3 = np.uint8(m3 * np.uint8(b[c3 + r] > t3))
        cleared = np.uint8(np.uint8(e0 | e1) | np.uint8(e2 | e3))
        apart[plane + r] = np.uint8(np.uint8(apart[plane + r] | first) & np.uint8(~cleared))


def clear8(
    b: Any, apart: Any, c32: Any, c8: Any, at: Any, codes: Any, shift: Any, plane: Any, first: Any, n: Any
) -> None:
    """The same for a group of eight, which reads and writes the plane half as often."""
    column, place, bits = 2 * at, 8 * at + 32, 8 * at + 40
    c0, c1 = codes + (c32[column] << shift), codes + (c32[column + 1] << shift)
    c2, c3 = codes + (c32[column + 2] << shift), codes + (c32[column + 3] << shift)
    c4, c5 = codes + (c32[column + 4] << shift), codes + (c32[column + 5] << shift)
    c6, c7 = codes + (c32[column + 6] << shift), codes + (c32[column + 7] << shift)
    t0, t1, t2, t3 = c8[place], c8[place + 1], c8[place + 2], c8[place + 3]
    t4, t5, t6, t7 = c8[place + 4], c8[place + 5], c8[place + 6], c8[place + 7]
    m0, m1, m2, m3 = c8[bits], c8[bits + 1], c8[bits + 2], c8[bits + 3]
    m4, m5, m6, m7 = c8[bits + 4], c8[bits + 5], c8[bits + 6], c8[bits + 7]
    for r in range(n):
        e0 = np.uint8(m0 * np.uint8(b[c0 + r] > t0))
        e1 = np.uint8(m1 * np.uint8(b[c1 + r] > t1))
        e2 = np.uint8(m2 * np.uint8(b[c2 + r] > t2))
        e3 = np.uint8(m3 * np.uint8(b[c3 + r] > t3))
        e4 = np.uint8(m4 * np.uint8(b[c4 + r] > t4))
        e5 = np.uint8(m5 * np.uint8(b[c5 + r] > t5))
        e6 = np.uint8(m6 * np.uint8(b[c6 + r] > t6))
        e7 = np.uint8(m7 * np.uint8(b[c7 + r] > t7))
        low = np.uint8(np.uint8(e0 | e1) | np.uint8(e2 | e3))
        high = np.uint8(np.uint8(e4 | e5) | np.uint8(e6 | e7))
        apart[plane + r] = np.uint8(np.uint8(apart[plane + r] | first) & np.uint8(~np.uint8(low | high)))


def first_bit(apart: Any, plane: Any, leaves: Any, base: Any, n: Any) -> None:
    """Where the plane has a bit, its row's leaf is ``base`` and the number of the lowest."""
    for r in range(n):
        bits = np.uint8(apart[plane + r])
        x = trailing_zeros(bits)
        none = np.uint8(-np.int64(bits == np.uint8(0)))
        kept = np.uint8(np.uint8(apart[leaves + r]) & none)
        apart[leaves + r] = np.uint8(kept | np.uint8(np.uint8(x + base) & np.uint8(~none)))


@kernel("tree_bits", "words b apart ci c32 c8 n")
def tree_bits(words: Any, b: Any, apart: Any, ci: Any, c32: Any, c8: Any, n: Any) -> None:
    """Words: codes, log2 of the rows of a block, a plane, leaves of the first tree, the stream, trees."""
    codes, shift, plane, leaves, at, trees = words[0], words[1], words[2], words[3], words[4], words[5]
    full = (n + PADDING - 1) & ~(PADDING - 1)
    for _ in range(trees):
        planes = ci[at]
        at += 1
        for p in range(planes - 1, -1, -1):
            eights, fours = ci[at], ci[at + 1]
            at += 2
            first = np.uint8(255)
            for _ in range(eights):
                clear8(b, apart, c32, c8, at, codes, shift, plane, first, full)
                first = np.uint8(0)
                at += 2 * GROUP_WORDS
            for _ in range(fours):
                clear(b, apart, c32, c8, at, codes, shift, plane, first, full)
                first = np.uint8(0)
                at += GROUP_WORDS
            first_bit(apart, plane, leaves, np.uint8(PLANE * p), full)
        leaves += 1 << shift


# --- codes --------------------------------------------------------------------------------------------------
@kernel("tree_bytes", "words h b ci n")
def tree_bytes(words: Any, h: Any, b: Any, ci: Any, n: Any) -> None:
    """Codes of a byte from ranks of 16 bits. Words: codes, log2 of the rows of a block, ranks, table, columns.

    The table has for each column of codes the column of ranks, what is taken off, and whether NaN ranks lowest.
    """
    o, shift, ranks, table, columns = words[0], words[1], words[2], words[3], words[4]
    for j in range(columns):
        a = ranks + (ci[table + 3 * j] << shift)
        less = np.uint16(ci[table + 3 * j + 1])
        lowest = np.uint16(ci[table + 3 * j + 2] - 1)  # 0 where it does, else beyond all
        for r in range(n):
            rank = np.uint16(h[a + r])
            code = np.uint16(rank - less) if rank > less else np.uint16(0)
            code = code if code < np.uint16(CODE) else np.uint16(CODE)
            b[o + r] = np.uint8(code if rank != np.uint16(NAN_RANK) else np.uint16(code & lowest))
        o += 1 << shift


# --- sums ---------------------------------------------------------------------------------------------------
@kernel("tree_base", "words f cf n")
def tree_base(words: Any, f: Any, cf: Any, n: Any) -> None:
    """Every row of the result begins with the base. Words: result, its step, base, width."""
    o, o_step, base, width = words[0], words[1], words[2], words[3]
    for c in range(width):
        for r in range(n):
            f[o + c * o_step + r] = cf[base + c]


def sum_leaves(name: str, view: str) -> None:
    """Register kernel ``name``, which adds the leaves' values, tree after tree; leaves are numbers of ``view``.

    Words: result, its step, leaves, the step from tree to tree, table, columns of the result. The table has for each
    column the number of its trees, and for each of these its number and where its values are. The sums of eight rows
    stay in registers; each one waits for the sum before, and the eight hide it.
    """

    @kernel(name, f"words f {view} cf ci n", scalar=True)
    def run(words: Any, f: Any, found: Any, cf: Any, ci: Any, n: Any) -> None:
        o, o_step, leaves, step, at, width = words[0], words[1], words[2], words[3], words[4], words[5]
        for _ in range(width):
            trees = ci[at]
            at += 1
            for r in range(o, o + n, LANES):
                a0, a1, a2, a3 = f[r], f[r + 1], f[r + 2], f[r + 3]
                a4, a5, a6, a7 = f[r + 4], f[r + 5], f[r + 6], f[r + 7]
                x = leaves + r - o
                for tree in range(at, at + 2 * trees, 2):
                    leaf, values = x + ci[tree] * step, ci[tree + 1]
                    a0 += cf[values + found[leaf]]
                    a1 += cf[values + found[leaf + 1]]
                    a2 += cf[values + found[leaf + 2]]
                    a3 += cf[values + found[leaf + 3]]
                    a4 += cf[values + found[leaf + 4]]
                    a5 += cf[values + found[leaf + 5]]
                    a6 += cf[values + found[leaf + 6]]
                    a7 += cf[values + found[leaf + 7]]
                f[r], f[r + 1], f[r + 2], f[r + 3] = a0, a1, a2, a3
                f[r + 4], f[r + 5], f[r + 6], f[r + 7] = a4, a5, a6, a7
            at += 2 * trees
            o += o_step


sum_leaves("tree_bits_sum", "b")


@kernel("tree_bits_leaves", "words i b ci n", scalar=True)
def tree_bits_leaves(words: Any, i: Any, b: Any, ci: Any, n: Any) -> None:
    """The rows of leaf_values. Words: result, its step, leaves, log2 of the rows of a block, for each tree where the
    rows of its leaves are, trees.
    """
    o, o_step, leaves, shift, places, trees = words[0], words[1], words[2], words[3], words[4], words[5]
    for tree in range(trees):
        for r in range(n):
            i[o + tree * o_step + r] = ci[ci[places + tree] + b[leaves + (tree << shift) + r]]


# --- encoding -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Forest:
    """An ensemble as bits. ``leaf`` has the row of leaf_values of every leaf, tree after tree, from left to right."""

    asked: Ranks
    bytes: Array  # int64 (columns of bytes, 2): column of ranks, number of the byte
    stream: Array  # int64, see the module
    starts: Array  # of each tree in the stream
    leaf: Array  # int64 (leaves,)
    bases: Array  # of each tree in ``leaf``


def forest(attrs: Mapping[str, Any], asked: Ranks) -> Forest | None:
    """The ensemble as bits; None where a tree has too many leaves, or shares its parts with others."""
    found = levels(attrs)
    if found is None:
        return None
    counts = leaf_counts(found)
    if counts[0].max(initial=0) > MAX_LEAVES:
        return None
    firsts = first_leaves(found, counts)
    leaves = counts[0]
    bases = np.concatenate([[0], np.cumsum(leaves)[:-1]])
    leaf = np.zeros(leaves.sum(), dtype=np.int64)
    parts = []
    for depth, level in enumerate(found):
        ends = np.ones(len(level.node), dtype=bool)
        ends[level.inner] = False
        leaf[bases[level.tree[ends]] + firsts[depth][ends]] = attrs["left"][level.node[ends]]
        if len(level.inner):
            start = firsts[depth][level.inner]
            parts.append(
                np.stack([level.tree[level.inner], level.node[level.inner], start, start + counts[depth + 1][::2]])
            )
    tree, node, start, end = np.concatenate(parts, axis=1) if parts else np.zeros((4, 0), dtype=np.int64)
    place = asked.place[node]
    columns = np.stack([asked.columns.column[node], place // CODE], axis=1).astype(np.int64)
    used, column = np.unique(columns, axis=0, return_inverse=True)
    if len(used) > MAX_COLUMNS:
        return None
    stream, starts = _stream(tree, column.reshape(-1), place % CODE, start, end, leaves)
    return Forest(asked, used, stream, starts, leaf, bases)


def _stream(tree: Array, column: Array, place: Array, start: Array, end: Array, leaves: Array) -> tuple[Array, Array]:
    """The stream, and where in it each tree begins. Entry k clears leaves [start, end) of its tree."""
    planes = -(-leaves // PLANE)
    first_plane = np.concatenate([[0], np.cumsum(planes)])
    # An entry for each plane that the cleared leaves touch.
    low, high = start // PLANE, (end - 1) // PLANE
    count = high - low + 1
    of = np.repeat(np.arange(len(tree)), count)
    plane = low[of] + np.arange(len(of)) - np.repeat(np.cumsum(count) - count, count)
    begin = np.clip(start[of] - PLANE * plane, 0, PLANE)
    finish = np.clip(end[of] - PLANE * plane, 0, PLANE)
    # The last plane of a tree comes first.
    number = first_plane[tree[of]] + planes[tree[of]] - 1 - plane
    total = int(first_plane[-1])
    order = np.argsort(number, kind="stable")
    entries = np.bincount(number, minlength=total)
    rest = entries % (2 * GROUP)
    eights = entries // (2 * GROUP) + (rest > GROUP)
    fours = (rest <= GROUP) & ((rest > 0) | (entries == 0))  # every plane has a group, which fills it with ones
    head = np.zeros(total, dtype=np.int64)
    head[first_plane[:-1]] = 1  # the number of planes of a tree
    at = np.concatenate([[0], np.cumsum(head + 2 + (2 * eights + fours) * GROUP_WORDS)])
    stream = np.zeros(int(at[-1]), dtype=np.int64)  # entries of 0 clear nothing
    stream[at[first_plane[:-1]]] = planes
    body = at[:-1] + head
    stream[body], stream[body + 1] = eights, fours
    within = np.arange(len(order)) - np.repeat(np.cumsum(entries) - entries, entries)
    number = number[order]
    of_eight = within < 2 * GROUP * eights[number]
    # Groups of four stand behind all the eights.
    within = np.where(of_eight, within, within - 2 * GROUP * eights[number])
    size = np.where(of_eight, 2 * GROUP, GROUP)
    group = body[number] + 2 + within // size * (size // GROUP * GROUP_WORDS)
    group += np.where(of_eight, 0, 2 * GROUP_WORDS * eights[number])
    slot = within % size
    stream.view("<i4")[2 * group + slot] = column[of][order]
    stream.view(np.uint8)[8 * group + 4 * size + slot] = place[of][order]
    stream.view(np.uint8)[8 * group + 5 * size + slot] = ((1 << finish) - (1 << begin))[order]
    return stream, at[first_plane[:-1]]


@dataclass(frozen=True, slots=True)
class Bits:
    """Instructions for the bits of some trees: ``reached`` is where they write the leaves, in bytes."""

    encoder: Encoder
    trees: Forest
    words: tuple[int, ...]
    reached: int
    stream: int

    def emit(self, first: int, count: int) -> None:
        """For ``count`` trees, at most PASS, from ``first`` on."""
        at = self.stream + int(self.trees.starts[first])
        self.encoder.emit("tree_bits", *self.words, self.reached, at, count)


def emit_bytes(e: Encoder, value: int, trees: Forest, of_ranks: int) -> Bits:
    """Instructions that make the codes of a byte from the columns of ranks at ``of_ranks``."""
    shift = e.block.bit_length() - 1
    codes = 8 * e.cells_of(len(trees.bytes) * e.block // 8)
    plane = 8 * e.cells_of(e.block // 8)
    reached = 8 * e.cells_of(PASS * e.block // 8)
    e.emit("tree_bytes", codes, shift, of_ranks, e.constants(value, "bytes", lambda: _table(trees)), len(trees.bytes))
    return Bits(e, trees, (codes, shift, plane), reached, e.constants(value, "stream", lambda: trees.stream))


def encode(e: Encoder, attrs: Mapping[str, Any], leaves: bool, value: int, x: Register, out: Register) -> bool:
    """Instructions for the ensemble on blocks of rows, its sums or its ``leaves``; False where it has no form of bits,
    or the block is too small.
    """
    if e.block < PADDING:
        return False
    # With so many leaves in all, one tree has too many: a forest of millions of nodes is not laid out to find that.
    if (attrs["feature"] < 0).sum() > MAX_LEAVES * len(attrs["roots"]):
        return False
    found = e.fact(value, "ranks", lambda: ranks(attrs))
    trees = None if found is None else e.fact(value, "bits", lambda: forest(attrs, found))
    if trees is None:
        return False
    shift = e.block.bit_length() - 1
    bits = emit_bytes(e, value, trees, emit_ranks(e, value, trees.asked, x))
    if leaves:
        rows = e.constants(value, "bit leaves", lambda: trees.leaf)
        places = e.constants(value, "bit places", lambda: rows + trees.bases)
    else:
        e.emit("tree_base", out.offset, out.step, e.constants(value, "base", lambda: attrs["base"]), out.width)
        values = e.constants(value, "bit values", lambda: np.ascontiguousarray(attrs["leaf_values"][trees.leaf].T))
        words, starts = e.fact(value, "bit sums", lambda: sums_of(attrs, values, trees.bases, len(trees.leaf)))
        sums = e.constants(value, "bit sums", lambda: words)
    for number, first in enumerate(range(0, len(trees.starts), PASS)):
        count = min(PASS, len(trees.starts) - first)
        bits.emit(first, count)
        if leaves:
            e.emit(
                "tree_bits_leaves", out.offset + first * out.step, out.step, bits.reached, shift, places + first, count
            )
        else:
            e.emit("tree_bits_sum", out.offset, out.step, bits.reached, e.block, sums + starts[number], out.width)
    return True


def _table(trees: Forest) -> Array:
    """The table of ``tree_bytes``."""
    source, lowest = trees.asked.source(trees.bytes[:, 0])
    return np.stack([source, trees.bytes[:, 1] * CODE, lowest], axis=1)


def sums_of(attrs: Mapping[str, Any], values: int, bases: Array, count: int) -> tuple[Array, list[int]]:
    """For each pass and column of the result the trees that add to it (``sum_leaves``); where each pass begins.

    ``values`` are at each column's ``count`` values, those of a tree from its base on.
    """
    target = attrs["target"]
    words: list[Array] = []
    starts: list[int] = []
    length = 0
    for first in range(0, len(bases), PASS):
        starts.append(length)
        tree = np.arange(first, min(first + PASS, len(bases)))
        for c in range(len(attrs["base"])):
            chosen = tree[target[tree] == c] if target.size else tree
            at = values + bases[chosen] + (0 if target.size else c * count)
            words += [np.array([len(chosen)]), np.stack([chosen - first, at], axis=1).ravel()]
            length += 1 + 2 * len(chosen)
    return np.concatenate(words), starts
