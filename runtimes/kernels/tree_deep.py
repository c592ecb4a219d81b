"""Deep trees of a batch: the top of each tree by bit vectors (tree_bits.py), what is left below by walks over codes.

A tree of more leaves than bit vectors are made for is cut: the nodes from which the way to a leaf is longest are asked
of every row, and where they end a row walks on. Both halves read the ranks of tree_ranks.py. 100 trees of depth 10 take
0.77 us a row where walks from the roots take 1.14, unbounded ones 1.53 and 2.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels import tree_bits
from edgeml.runtimes.kernels.forest import levels, ranks
from edgeml.runtimes.kernels.registry import kernel
from edgeml.runtimes.kernels.tree_bits import PADDING, PASS, Forest
from edgeml.runtimes.kernels.tree_codes import CODE, LANES, emit_codes, paired, step
from edgeml.runtimes.kernels.tree_ranks import emit_ranks

if TYPE_CHECKING:
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder
    from edgeml.runtimes.kernels.forest import Ranks
    from edgeml.runtimes.kernels.scratch import Register

# Nodes of the top of a tree. Depth 10 takes 0.84 us a row with 31 of them, 0.77 with 63, 0.85 with 127, 0.95 with 255.
MOST_TOP = 63
# Beyond, walks are long anyway, and laying the trees out takes 30 bytes a node.
MOST_NODES = 2_000_000
# Levels walked before looking whether all lanes have arrived.
STRIDE = 2


# --- kernels ------------------------------------------------------------------------------------------------
@kernel("tree_deep", "words h i b ci c32 n", scalar=True)
def tree_deep(words: Any, h: Any, i: Any, b: Any, ci: Any, c32: Any, n: Any) -> None:
    """The leaves of every tree of a pass. Words: codes, their columns, nodes, ends, where the tops end, log2 of the
    rows of a block, for each tree where the nodes are that its top ends at, trees, result, its step.
    """
    codes, width, nodes, ends, reached, shift, places, trees, o, o_step = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7], words[8], words[9],
    )  # fmt: skip
    for tree in range(trees):
        at = ci[places + tree]
        for r in range(0, n, LANES):
            x, e = codes + r * width, reached + (tree << shift) + r
            a, s, c, d = c32[at + b[e]], c32[at + b[e + 1]], c32[at + b[e + 2]], c32[at + b[e + 3]]
            p, q, t, u = c32[at + b[e + 4]], c32[at + b[e + 5]], c32[at + b[e + 6]], c32[at + b[e + 7]]
            a, s, c, d = np.int64(a), np.int64(s), np.int64(c), np.int64(d)
            p, q, t, u = np.int64(p), np.int64(q), np.int64(t), np.int64(u)
            both = ci[nodes + a] & ci[nodes + s] & ci[nodes + c] & ci[nodes + d]
            both &= ci[nodes + p] & ci[nodes + q] & ci[nodes + t] & ci[nodes + u]
            while (both & CODE) != CODE:
                for _ in range(STRIDE):
                    a, s = step(h, ci, nodes, x, a), step(h, ci, nodes, x + 1, s)
                    c, d = step(h, ci, nodes, x + 2, c), step(h, ci, nodes, x + 3, d)
                    p, q = step(h, ci, nodes, x + 4, p), step(h, ci, nodes, x + 5, q)
                    t, u = step(h, ci, nodes, x + 6, t), step(h, ci, nodes, x + 7, u)
                both = ci[nodes + a] & ci[nodes + s] & ci[nodes + c] & ci[nodes + d]
                both &= ci[nodes + p] & ci[nodes + q] & ci[nodes + t] & ci[nodes + u]
            to = o + tree * o_step + r
            i[to], i[to + 1], i[to + 2], i[to + 3] = c32[ends + a], c32[ends + s], c32[ends + c], c32[ends + d]
            i[to + 4], i[to + 5], i[to + 6], i[to + 7] = c32[ends + p], c32[ends + q], c32[ends + t], c32[ends + u]


tree_bits.sum_leaves("tree_deep_sum", "i")


# --- encoding -----------------------------------------------------------------------------------------------
def tops(attrs: Mapping[str, Any], asked: Ranks) -> Forest | None:
    """The tops of the trees as bits; their ``leaf`` are nodes of the program. None where trees share their parts."""
    feature, roots = attrs["feature"], attrs["roots"]
    if len(feature) > MOST_NODES:
        return None
    found = levels(attrs)
    if found is None or sum(len(level.node) for level in found) > len(feature):
        return None
    height, tree = np.zeros(len(feature), dtype=np.int32), np.zeros(len(feature), dtype=np.int32)
    below = np.zeros(0, dtype=np.int32)
    for level in reversed(found):
        own = np.zeros(len(level.node), dtype=np.int32)
        own[level.inner] = below.reshape(-1, 2).max(axis=1) + 1
        height[level.node], tree[level.node] = own, level.tree
        below = own
    # Per tree the least height that no more than MOST_TOP nodes have or exceed: no child is as high as its parent.
    highest = int(height.max(initial=0))
    counts = np.zeros((len(roots), highest + 2), dtype=np.int64)
    np.add.at(counts, (tree[feature >= 0], height[feature >= 0]), 1)
    at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    cut = np.argmax(at_least <= MOST_TOP, axis=1)
    ends = (feature < 0) | (height < cut[tree])
    return tree_bits.forest(
        {
            **attrs,
            "feature": np.where(ends, -1, feature),
            "left": np.where(ends, np.arange(len(feature)), attrs["left"]),
        },
        asked,
    )


def _starts(attrs: Mapping[str, Any], top: Forest) -> Array:
    """The node in the order of the kernels that each end of a top is, two of them a word."""
    source, _ = paired(attrs)
    place = np.zeros(len(attrs["feature"]), dtype=np.int64)
    place[source] = np.arange(len(source))
    starts = place[top.leaf]
    return np.append(starts, np.zeros(len(starts) % 2, dtype=np.int64)).astype("<i4").view(np.int64)


def encode(e: Encoder, attrs: Mapping[str, Any], leaves: bool, value: int, x: Register, out: Register) -> bool:
    """Instructions for the ensemble on blocks of rows, its sums or its ``leaves``; False where it has no such form."""
    if e.block < PADDING:
        return False
    found = e.fact(value, "ranks", lambda: ranks(attrs))
    top = None if found is None else e.fact(value, "tops", lambda: tops(attrs, found))
    if top is None:
        return False
    made = emit_ranks(e, value, top.asked, x)
    codes = emit_codes(e, attrs, value, made, top.asked, 1)
    if codes is None:
        return False
    shift, count = e.block.bit_length() - 1, len(top.starts)
    bits = tree_bits.emit_bytes(e, value, top, made)
    starts = 2 * e.constants(value, "deep starts", lambda: _starts(attrs, top))
    places = e.constants(value, "deep places", lambda: starts + top.bases)
    if leaves:
        found_at, step_of = out.offset, out.step
    else:
        found_at, step_of = e.temporary(PASS).offset, e.block
        e.emit("tree_base", out.offset, out.step, e.constants(value, "base", lambda: attrs["base"]), out.width)
        values = e.constants(value, "deep values", lambda: np.ascontiguousarray(attrs["leaf_values"].T))
        bases, size = np.zeros(count, dtype=np.int64), len(attrs["leaf_values"])
        words, firsts = e.fact(value, "deep sums", lambda: tree_bits.sums_of(attrs, values, bases, size))
        table = e.constants(value, "deep sums", lambda: words)
    for number, first in enumerate(range(0, count, PASS)):
        trees = min(PASS, count - first)
        bits.emit(first, trees)
        to = found_at + first * step_of if leaves else found_at
        of_codes = (codes.at, codes.width, codes.nodes, codes.ends)
        e.emit("tree_deep", *of_codes, bits.reached, shift, places + first, trees, to, step_of)
        if not leaves:
            e.emit("tree_deep_sum", out.offset, out.step, found_at, step_of, table + firsts[number], out.width)
    return True
