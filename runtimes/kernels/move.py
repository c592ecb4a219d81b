"""Kernels that move cells: from the caller's arrays into scratch, between places in scratch, and out again.

Ports are the caller's arrays: C-contiguous, (rows,) or (rows, width).
"""

from __future__ import annotations

from dataclasses import replace
from enum import IntEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.ir.ops_tensor import keys_array
from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder
    from edgeml.runtimes.kernels.scratch import Register


NAN_BITS = 0x7FF8000000000000
CHUNK_FIELDS = 4
# A selection of more runs of neighbouring columns than this, shorter than that, is one instruction.
MOST_RUNS, SHORT_RUN = 8, 4


# --- ports: words are port, first column, columns to move, columns of the port, place in scratch, its column stride
@kernel("load64", "words i p64 first n")
def load64(words: Any, i: Any, ports: Any, first: Any, n: Any) -> None:
    """8-byte elements as they are."""
    port, c, width, total, o, step = words[0], words[1], words[2], words[3], words[4], words[5]
    x = ports[port]
    for j in range(width):
        for r in range(n):
            i[o + j * step + r] = x[(first + r) * total + c + j]


@kernel("load32", "words f p32 first n")
def load32(words: Any, f: Any, ports: Any, first: Any, n: Any) -> None:
    """float32 to float64."""
    port, c, width, total, o, step = words[0], words[1], words[2], words[3], words[4], words[5]
    x = ports[port]
    for j in range(width):
        for r in range(n):
            f[o + j * step + r] = x[(first + r) * total + c + j]


@kernel("load8", "words i p8 first n")
def load8(words: Any, i: Any, ports: Any, first: Any, n: Any) -> None:
    """bool to int64."""
    port, c, width, total, o, step = words[0], words[1], words[2], words[3], words[4], words[5]
    x = ports[port]
    for j in range(width):
        for r in range(n):
            i[o + j * step + r] = x[(first + r) * total + c + j]


class ChunkField(IntEnum):
    """Cells of each chunk of a column that ``load_chunks`` reads; before the first one stands how many there are."""

    END = 0  # row of the call behind the chunk's last
    SHIFT = 1  # element of the chunk's buffer that belongs to row 0 of the call, so possibly negative
    VALID = 2  # port of the validity bitmap, -1 without
    VALUES = 3  # port of the numbers


def chunk_of(d: Any, start: Any, fields: Any, row: Any) -> Any:
    """Where in a description the chunk of ``row`` begins: the first one whose first field, its end, is behind it."""
    low, high = 0, d[0] - 1
    while low < high:
        middle = (low + high) >> 1
        if d[start + middle * fields] <= row:
            low = middle + 1
        else:
            high = middle
    return start + low * fields


@kernel("load_chunks", "words i p64 p8 first n")
def load_chunks(words: Any, i: Any, p64: Any, p8: Any, first: Any, n: Any) -> None:
    """float64 elements in chunks (number_column.py), NaN for nulls. Words: port of a description, place in scratch."""
    d, o = p64[words[0]], words[1]
    chunk, row, end = chunk_of(d, 1, CHUNK_FIELDS, first), first, first + n
    while row < end:
        stop, shift, valid, x = min(end, d[chunk]), d[chunk + 1], d[chunk + 2], p64[d[chunk + 3]]
        for r in range(row, stop):
            i[o - first + r] = x[r + shift]
        if valid >= 0:
            bits = p8[valid]
            for r in range(row, stop):
                k = r + shift
                if (bits[k >> 3] >> (k & 7)) & 1 == 0:
                    i[o - first + r] = NAN_BITS
        row = stop
        chunk += CHUNK_FIELDS


# A constant has the row stride 0, so stores take one more word.
@kernel("store64", "words i p64 first n")
def store64(words: Any, i: Any, ports: Any, first: Any, n: Any) -> None:
    """8-byte cells as they are."""
    port, c, width, total, o, step, row = words[0], words[1], words[2], words[3], words[4], words[5], words[6]
    y = ports[port]
    for r in range(n):
        for j in range(width):
            y[(first + r) * total + c + j] = i[o + j * step + r * row]


@kernel("store32", "words f p32 first n")
def store32(words: Any, f: Any, ports: Any, first: Any, n: Any) -> None:
    """float32 values to float32."""
    port, c, width, total, o, step, row = words[0], words[1], words[2], words[3], words[4], words[5], words[6]
    y = ports[port]
    for r in range(n):
        for j in range(width):
            y[(first + r) * total + c + j] = np.float32(f[o + j * step + r * row])


@kernel("store8", "words i p8 first n")
def store8(words: Any, i: Any, ports: Any, first: Any, n: Any) -> None:
    """bool to one byte."""
    port, c, width, total, o, step, row = words[0], words[1], words[2], words[3], words[4], words[5], words[6]
    y = ports[port]
    for r in range(n):
        for j in range(width):
            y[(first + r) * total + c + j] = np.uint8(i[o + j * step + r * row])


@kernel("copy", "words i n")
def copy(words: Any, i: Any, n: Any) -> None:
    """Cells from one place in scratch to another; words as those of an elementwise kernel."""
    outer, inner, o, o_step, a, a_step, a_row = (
        words[0],
        words[1] * n,
        words[2],
        words[3],
        words[4],
        words[5],
        words[6],
    )
    for j in range(outer):
        for r in range(inner):
            i[o + j * o_step + r] = i[a + j * a_step + r * a_row]


@kernel("pick", "words i ci n")
def pick(words: Any, i: Any, ci: Any, n: Any) -> None:
    """Columns from anywhere in a value. Words: result and its step, x and its steps, how many, their positions."""
    o, o_step, a, a_step, a_row, width, positions = words[0], words[1], words[2], words[3], words[4], words[5], words[6]
    for j in range(width):
        at = a + ci[positions + j] * a_step
        for r in range(n):
            i[o + j * o_step + r] = i[at + r * a_row]


# --- ops ----------------------------------------------------------------------------------------------------
@encodes("Constant")
def constant(e: Encoder, node: Node, value: int) -> None:
    """No instruction: constants are written when a scratch buffer is made."""
    e.place_constant(value, keys_array(node.attrs["value"]))


@encodes("Concat")
def concat(e: Encoder, node: Node, value: int) -> None:
    """One copy for all operands that lie side by side, as raw columns do; none where that is the whole value."""
    if e.alias_inputs(value, node.inputs):
        return
    out, at = e.allocate(value), 0
    pending: list[Register] = []
    for part in node.inputs:
        x = e.register(part)
        if (
            x.width
            and pending
            and pending[-1].offset + pending[-1].width * x.step == x.offset
            and (pending[-1].step, pending[-1].row) == (x.step, x.row)
        ):
            pending[-1] = replace(pending[-1], width=pending[-1].width + x.width)
        elif x.width:
            pending.append(x)
    for x in pending:
        e.elementwise("copy", out.columns(at, x.width), x)
        at += x.width


@encodes("Select")
def select(e: Encoder, node: Node, value: int) -> None:
    """Neighbouring columns are only another name for a part of the value; of others each run of them is one copy.

    Where runs are many and short, all are one instruction: of 300 classes told apart in pairs there are 45,000.
    """
    indices = node.attrs["indices"].tolist()
    x = e.register(node.inputs[0])
    if indices and indices == list(range(indices[0], indices[0] + len(indices))):
        e.alias(value, node.inputs[0], x.columns(indices[0], len(indices)))
        return
    out = e.allocate(value)
    starts = [at for at, index in enumerate(indices) if at == 0 or index != indices[at - 1] + 1]
    if len(starts) > MOST_RUNS and len(indices) < SHORT_RUN * len(starts):
        places = e.constants(value, "indices", lambda: node.attrs["indices"].astype(np.int64))
        e.emit("pick", out.offset, out.step, x.offset, x.step, x.row, len(indices), places)
        return
    for at, stop in pairwise([*starts, len(indices)]):
        e.elementwise("copy", out.columns(at, stop - at), x.columns(indices[at], stop - at))
