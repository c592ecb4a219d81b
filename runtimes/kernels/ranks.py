"""Ranks of cells among the sorted edges of their columns: binary searches without branches, eight side by side.

The edges of a column stand in the order of a search tree, edge 1 the middle one and the children of edge p at 2p and
2p + 1, filled up with infinity to 2**levels - 1. A search takes the same steps whatever it finds, so that no branch is
predicted wrongly and the loads of one search hide behind those of the others: of eight rows of a column in a block, and
of the next columns in a single row.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder

LANES = 8


def below(x: Any, edges: Any, start: Any, at: Any) -> Any:
    """The child of edge ``at``: the right one where the edge is below x. NaN goes left."""
    return at + at + np.int64(edges[start + at] < x)


def search8(f: Any, edges: Any, x: Any, row: Any, start: Any, levels: Any) -> Any:
    """Where the searches for eight cells end, of which the first is ``f[x]`` and the others ``row`` apart."""
    x0, x1, x2, x3 = f[x], f[x + row], f[x + 2 * row], f[x + 3 * row]
    x4, x5, x6, x7 = f[x + 4 * row], f[x + 5 * row], f[x + 6 * row], f[x + 7 * row]
    p0 = p1 = p2 = p3 = p4 = p5 = p6 = p7 = np.int64(1)
    for _ in range(levels):
        p0, p1 = below(x0, edges, start, p0), below(x1, edges, start, p1)
        p2, p3 = below(x2, edges, start, p2), below(x3, edges, start, p3)
        p4, p5 = below(x4, edges, start, p4), below(x5, edges, start, p5)
        p6, p7 = below(x6, edges, start, p6), below(x7, edges, start, p7)
    return p0, p1, p2, p3, p4, p5, p6, p7


def rank_of(x: Any, at: Any, levels: Any, count: Any) -> Any:
    """The rank that the end of a search means."""
    return at - (np.int64(1) << levels) if x == x else count + 1


# Gathers of AVX-512 would make the searches slower: 0.5 us a row of 30 columns against 0.2.
@kernel("rank", "words f i cf ci n", scalar=True)
def rank(words: Any, f: Any, i: Any, edges: Any, table: Any, n: Any) -> None:
    """Words: result, its step, x, its steps, width, edges, and for each column where its edges are, levels, count."""
    o, o_step, a, a_step, a_row, width, first, columns = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
    )  # fmt: skip
    full = n - (n & (LANES - 1))
    for j in range(width):
        start, levels, count = first + table[columns], table[columns + 1], table[columns + 2]
        columns += 3
        for r in range(0, full, LANES):
            x = a + j * a_step + r * a_row
            p0, p1, p2, p3, p4, p5, p6, p7 = search8(f, edges, x, a_row, start, levels)
            x0, x1, x2, x3 = f[x], f[x + a_row], f[x + 2 * a_row], f[x + 3 * a_row]
            x4, x5, x6, x7 = f[x + 4 * a_row], f[x + 5 * a_row], f[x + 6 * a_row], f[x + 7 * a_row]
            to = o + j * o_step + r
            i[to], i[to + 1] = rank_of(x0, p0, levels, count), rank_of(x1, p1, levels, count)
            i[to + 2], i[to + 3] = rank_of(x2, p2, levels, count), rank_of(x3, p3, levels, count)
            i[to + 4], i[to + 5] = rank_of(x4, p4, levels, count), rank_of(x5, p5, levels, count)
            i[to + 6], i[to + 7] = rank_of(x6, p6, levels, count), rank_of(x7, p7, levels, count)
        for r in range(full, n):
            cell = f[a + j * a_step + r * a_row]
            p = np.int64(1)
            for _ in range(levels):
                p = below(cell, edges, start, p)
            i[o + j * o_step + r] = rank_of(cell, p, levels, count)


def search_trees(edges: Array, offsets: Array) -> tuple[Array, Array]:
    """The edges of all columns as search trees, float64, and int64 (columns, 3): start, levels, count of each."""
    trees, table, start = [np.zeros(1)], [], 0
    for first, end in pairwise(offsets.tolist()):
        levels = int(end - first).bit_length()
        padded = np.full((1 << levels) - 1, np.inf)
        padded[: end - first] = edges[first:end]
        # Edge p of level l is the one at (p - 2**l + 1/2) / 2**l of the sorted edges.
        trees += [padded[(1 << levels - level - 1) - 1 :: 1 << levels - level] for level in range(levels)]
        table.append((start, levels, end - first))
        start += len(padded)
    return np.concatenate(trees), np.array(table, dtype=np.int64)


@encodes("Rank")
def encode_rank(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    edges, offsets = node.attrs["edges"], node.attrs["offsets"]
    trees = e.constants(value, "edges", lambda: search_trees(edges, offsets)[0])
    table = e.constants(value, "columns", lambda: search_trees(edges, offsets)[1])
    e.emit("rank", out.offset, out.step, x.offset, x.step, x.row, x.width, trees, table)
