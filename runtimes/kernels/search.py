"""Kernels of edgeml/ir/ops_search.py: the order in which a tree is searched, and the heap of the nearest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder


@kernel("heap_k", "words f i n", scalar=True)
def heap_k(words: Any, f: Any, i: Any, n: Any) -> None:
    """Words: result and its step, x and its steps, width, k, k cells for the heap."""
    o, step, a, a_step, a_row, width, k, h = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
    )  # fmt: skip
    for r in range(n):
        for t in range(k):
            f[h + t] = np.inf
            i[o + t * step + r] = 0
        for j in range(width):
            x = f[a + j * a_step + r * a_row]
            if not x < f[h]:
                continue
            at = 0
            while True:
                child = 2 * at + 1
                if child >= k:
                    break
                if child + 1 < k and not f[h + child] >= f[h + child + 1]:
                    child += 1
                if not x < f[h + child]:
                    break
                f[h + at] = f[h + child]
                i[o + at * step + r] = i[o + child * step + r]
                at = child
            f[h + at] = x
            i[o + at * step + r] = j
        for t in range(1, k):  # in order of the cells, then of their positions
            x, p, at = f[h + t], i[o + t * step + r], t
            while at > 0 and (f[h + at - 1] > x or (f[h + at - 1] == x and i[o + (at - 1) * step + r] > p)):
                f[h + at] = f[h + at - 1]
                i[o + at * step + r] = i[o + (at - 1) * step + r]
                at -= 1
            f[h + at] = x
            i[o + at * step + r] = p


@encodes("HeapK")
def encode_heap_k(e: Encoder, node: Node, value: int) -> None:
    x, k = e.register(node.inputs[0]), node.attrs["k"]
    out = e.allocate(value)
    e.emit("heap_k", out.offset, out.step, x.offset, x.step, x.row, x.width, k, e.cells_of(k))


@kernel("visit_order", "words f i ci n", scalar=True)
def visit_order(words: Any, f: Any, i: Any, ci: Any, n: Any) -> None:
    """Words: result and its step, x and its steps, leaves, points, starts, cells for nodes that wait."""
    o, step, a, a_step, a_row, leaves = words[0], words[1], words[2], words[3], words[4], words[5]
    points, starts, waiting = words[6], words[7], words[8]
    for r in range(n):
        depth, done = 1, 0
        i[waiting] = 0
        while depth > 0:
            depth -= 1
            node = i[waiting + depth]
            if node >= leaves - 1:
                leaf = node - (leaves - 1)
                for p in range(ci[starts + leaf], ci[starts + leaf + 1]):
                    i[o + done * step + r] = ci[points + p]
                    done += 1
                continue
            left = 2 * node + 1
            first = left
            if not f[a + left * a_step + r * a_row] <= f[a + (left + 1) * a_step + r * a_row]:
                first = left + 1
            i[waiting + depth] = 2 * left + 1 - first
            i[waiting + depth + 1] = first
            depth += 2


@encodes("VisitOrder")
def encode_visit_order(e: Encoder, node: Node, value: int) -> None:
    attrs, x = node.attrs, e.register(node.inputs[0])
    out, leaves = e.allocate(value), len(node.attrs["starts"]) - 1
    points = e.constants(value, "points", lambda: attrs["points"])
    starts = e.constants(value, "starts", lambda: attrs["starts"])
    waiting = e.cells_of(leaves.bit_length() + 1)
    e.emit("visit_order", out.offset, out.step, x.offset, x.step, x.row, leaves, points, starts, waiting)
