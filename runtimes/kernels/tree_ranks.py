"""Ranks of a batch's cells for the trees that ask about them: a column of two bytes a feature, and one a set of
categories.

``emit_ranks`` emits the instructions that make the columns which forest.py's ``Ranks`` speak of; tree_bits.py and
tree_codes.py ask the trees' questions of them. A rank is the number of edges below the cell, and NAN_RANK for NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.forest import CATEGORIES, NAN_RANK, WORD, WORDS
from edgeml.runtimes.kernels.ranks import below, search8, search_trees
from edgeml.runtimes.kernels.registry import kernel

if TYPE_CHECKING:
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder
    from edgeml.runtimes.kernels.forest import Ranks
    from edgeml.runtimes.kernels.scratch import Register

LANES = 8


# --- numbers ------------------------------------------------------------------------------------------------
def rank_of(x: Any, at: Any, levels: Any) -> Any:
    """The rank that the end of a search means."""
    return np.uint16(at - (np.int64(1) << levels) if x == x else NAN_RANK)


@kernel("tree_ranks", "words f h cf ci n", scalar=True)
def tree_ranks(words: Any, f: Any, h: Any, edges: Any, ci: Any, n: Any) -> None:
    """Words: ranks, log2 of the rows of a block, x, its steps, edges, table, features.

    The table has for each feature its column of x, where its edges are, and the levels of the search.
    """
    o, shift, a, a_step, a_row, first, table, features = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
    )  # fmt: skip
    full = n - (n & (LANES - 1))
    for _ in range(features):
        start, levels, column = first + ci[table + 1], ci[table + 2], a + ci[table] * a_step
        for r in range(0, full, LANES):
            x = column + r * a_row
            x0, x1, x2, x3 = f[x], f[x + a_row], f[x + 2 * a_row], f[x + 3 * a_row]
            x4, x5, x6, x7 = f[x + 4 * a_row], f[x + 5 * a_row], f[x + 6 * a_row], f[x + 7 * a_row]
            p0, p1, p2, p3, p4, p5, p6, p7 = search8(f, edges, x, a_row, start, levels)
            to = o + r
            h[to], h[to + 1], h[to + 2] = rank_of(x0, p0, levels), rank_of(x1, p1, levels), rank_of(x2, p2, levels)
            h[to + 3], h[to + 4], h[to + 5] = rank_of(x3, p3, levels), rank_of(x4, p4, levels), rank_of(x5, p5, levels)
            h[to + 6], h[to + 7] = rank_of(x6, p6, levels), rank_of(x7, p7, levels)
        for r in range(full, n):
            cell = f[column + r * a_row]
            p = np.int64(1)
            for _ in range(levels):
                p = below(cell, edges, start, p)
            h[o + r] = rank_of(cell, p, levels)
        table += 3
        o += 1 << shift


def code_of(x: Any) -> Any:
    """x rounded up, kept within the ranks; NaN is above all."""
    small = x if x <= NAN_RANK else np.float64(NAN_RANK)
    small = small if small > 0.0 else 0.0
    whole = np.int32(small)
    return whole + np.int32(np.float64(whole) < small)


@kernel("tree_whole", "words f h ci n")
def tree_whole(words: Any, f: Any, h: Any, ci: Any, n: Any) -> None:
    """Ranks where the thresholds are small whole numbers. Words as of ``tree_ranks``, the table of columns alone."""
    o, shift, a, a_step, a_row, table, features = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6],
    )  # fmt: skip
    for j in range(features):
        column = a + ci[table + j] * a_step
        for r in range(n):
            h[o + r] = code_of(f[column + r * a_row])
        o += 1 << shift


# --- categories ---------------------------------------------------------------------------------------------
def category_of(x: Any) -> Any:
    """The category of a cell, CATEGORIES for what counts as missing."""
    return np.int64(np.int32(x)) if x >= 0.0 and x < np.float64(CATEGORIES) else np.int64(CATEGORIES)


@kernel("tree_sets", "words f h ci n")
def tree_sets(words: Any, f: Any, h: Any, ci: Any, n: Any) -> None:
    """1 where a cell's category goes right. Words: result, log2 of the rows of a block, x, its steps, a column of two
    bytes to work in, table, sets.

    The table has for each set its column of x, whether its categories fit one word, and its words.
    """
    o, shift, a, a_step, a_row, work, table, sets = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
    )  # fmt: skip
    before = np.int64(-1)
    for _ in range(sets):
        column, one_word, at = ci[table], ci[table + 1], table + 2
        if column != before:
            for r in range(n):
                h[work + r] = category_of(f[a + column * a_step + r * a_row])
            before = column
        if one_word != 0:  # what is not listed goes right
            bits, missing = ci[at], ci[at + WORDS - 1]
            for r in range(n):
                c = np.int64(h[work + r])
                h[o + r] = (bits >> c) & 1 if c < WORD else (missing if c == CATEGORIES else np.int64(1))
        else:
            for r in range(n):
                c = np.int64(h[work + r])
                h[o + r] = (ci[at + c // WORD] >> (c % WORD)) & 1
        table += 2 + WORDS
        o += 1 << shift


# --- encoding -----------------------------------------------------------------------------------------------
def emit_ranks(e: Encoder, value: int, asked: Ranks, x: Register) -> int:
    """Instructions for all columns of ranks, one behind the other; where they begin, in elements of two bytes."""
    shift = e.block.bit_length() - 1
    o = 4 * e.cells_of(-(-(asked.count + 1) * e.block // 4))
    if asked.whole:
        table = e.constants(value, "whole", lambda: asked.columns.features)
        e.emit("tree_whole", o, shift, x.offset, x.step, x.row, table, len(asked.columns.features))
    elif len(asked.columns.features):
        offsets = np.cumsum([0, *map(len, asked.edges)])
        trees, places = e.fact(value, "searches", lambda: search_trees(np.concatenate(asked.edges), offsets))
        edges = e.constants(value, "edges", lambda: trees)
        table = e.constants(value, "features", lambda: np.column_stack([asked.columns.features, places[:, :2]]))
        e.emit("tree_ranks", o, shift, x.offset, x.step, x.row, edges, table, len(asked.columns.features))
    if len(asked.columns.categorical):
        sets = o + (len(asked.columns.features) << shift)
        work = o + (asked.count << shift)
        table = e.constants(value, "sets of ranks", lambda: _sets(asked))
        e.emit("tree_sets", sets, shift, x.offset, x.step, x.row, work, table, len(asked.columns.categorical))
    return o


def _sets(asked: Ranks) -> Array:
    right = asked.columns.right
    # Beyond the first word nothing is listed: every category there goes right.
    one_word = (right[:, 1:-1] == np.uint64(0xFFFFFFFFFFFFFFFF)).all(axis=1)
    return np.column_stack([asked.columns.categorical, one_word, right.view(np.int64)])
