"""Ops that look things up: positions of keys, rows of tables, one-hot columns, interpolation.

Keys are sorted when the program is encoded. Integer keys that lie close together become a table with one entry an
integer, so that a look-up is one load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.ir.table import Array
    from edgeml.runtimes.kernels.encode import Encoder

# A table may have this many entries a key, and this many besides, before a binary search takes its place.
ENTRIES_PER_KEY = 8
SPARE_ENTRIES = 1024


# --- Lookup -------------------------------------------------------------------------------------------------
def search(x: Any, keys: Any, start: Any, count: Any) -> Any:
    """Position of the first of ``count`` sorted keys that is not below x; ``count`` when all are."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) >> 1
        if keys[start + middle] < x:
            low = middle + 1
        else:
            high = middle
    return low


def _lookup(name: str, x_view: str, key_view: str) -> None:
    """Register kernel ``name``. Words: result, x, sorted keys, what they stand for, count, what NaN and what a cell
    that is no key stand for: positions, or any cells of scratch.
    """

    @kernel(name, f"words {x_view} i {key_view} ci n")
    def run(words: Any, x: Any, i: Any, keys: Any, positions: Any, n: Any) -> None:
        o, a, a_row, start, places, count, missing, absent = (
            words[0], words[1], words[2], words[3], words[4], words[5], words[6], words[7],
        )  # fmt: skip
        for r in range(n):
            cell = x[a + r * a_row]
            found = absent
            if cell == cell:
                at = search(cell, keys, start, count)
                if at < count and keys[start + at] == cell:
                    found = positions[places + at]
            else:
                found = missing
            i[o + r] = found


_lookup("lookup", "f", "cf")
_lookup("lookup_int", "i", "ci")


@kernel("lookup_table", "words i ci n")
def lookup_table(words: Any, i: Any, table: Any, n: Any) -> None:
    """Words: result, x, table, smallest and largest key, what is no key."""
    o, a, a_row, start, smallest, largest, absent = (
        words[0], words[1], words[2], words[3], words[4], words[5], words[6],
    )  # fmt: skip
    for r in range(n):
        cell = i[a + r * a_row]
        i[o + r] = table[start + cell - smallest] if cell >= smallest and cell <= largest else absent


@encodes("Lookup")
def lookup(e: Encoder, node: Node, value: int) -> None:
    keys = node.attrs["keys"]
    _encode(e, node, value, np.arange(-1, len(keys), dtype=np.int64))


@encodes("Recode")
def recode(e: Encoder, node: Node, value: int) -> None:
    _encode(e, node, value, e.cells(node.attrs["values"]).view(np.int64))


def _encode(e: Encoder, node: Node, value: int, cells: Array) -> None:
    """A look-up of cells of scratch, int64: first what is no key stands for, then what each key does."""
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    keys = node.attrs["keys"]
    if isinstance(keys, tuple):
        raise ProgramError(f"{node.op} of strings reached the kernels: they read codes")
    floats = x.dtype in ("float64", "float32")
    unique, first = np.unique(keys.astype(np.float64 if floats else np.int64), return_index=True)
    absent, found = int(cells[0]), cells[1:][first]
    missing = absent
    if floats and np.isnan(unique).any():
        missing = int(found[np.isnan(unique)][0])
    present = unique == unique
    unique, found = unique[present], found[present]
    if not floats and len(unique) and int(unique[-1]) - int(unique[0]) < ENTRIES_PER_KEY * len(unique) + SPARE_ENTRIES:
        smallest, largest = int(unique[0]), int(unique[-1])
        start = e.constants(value, "table", lambda: _dense(unique, found, absent))
        e.emit("lookup_table", out.offset, x.offset, x.row, start, smallest, largest, absent)
        return
    start = e.constants(value, "keys", lambda: unique)
    places = e.constants(value, "positions", lambda: found)
    name = "lookup" if floats else "lookup_int"
    e.emit(name, out.offset, x.offset, x.row, start, places, len(unique), missing, absent)


def _dense(keys: Array, cells: Array, absent: int) -> Array:
    table = np.full(int(keys[-1]) - int(keys[0]) + 1, absent, dtype=np.int64)
    table[keys - keys[0]] = cells
    return table


# --- Take, OneHot -------------------------------------------------------------------------------------------
@kernel("take", "words i ci n")
def take(words: Any, i: Any, table: Any, n: Any) -> Any:
    """Words: result, its step, x, table, its rows, its columns. Refuses what is no row of the table."""
    o, o_step, a, a_row, start, rows, width = (
        words[0],
        words[1],
        words[2],
        words[3],
        words[4],
        words[5],
        words[6],
    )
    for r in range(n):
        at = i[a + r * a_row]
        if at < 0 or at >= rows:
            return 1 + r
        for j in range(width):
            i[o + j * o_step + r] = table[start + at * width + j]
    return 0


@encodes("Take")
def encode_take(e: Encoder, node: Node, value: int) -> None:
    table = node.attrs["table"]
    if isinstance(table, tuple):
        raise ProgramError("Take of strings reached the kernels: they read codes")
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    start = e.constants(value, "table", lambda: e.cells(table))
    e.emit("take", out.offset, out.step, x.offset, x.row, start, *table.shape)


@kernel("one_hot", "words i n")
def one_hot(words: Any, i: Any, n: Any) -> None:
    """Words: result, its step, x, width, the bits of one."""
    o, o_step, a, a_row, width, one = words[0], words[1], words[2], words[3], words[4], words[5]
    for j in range(width):
        for r in range(n):
            i[o + j * o_step + r] = one if i[a + r * a_row] == j else 0


@encodes("OneHot")
def encode_one_hot(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    one = int(e.cells(np.ones(1, dtype=node.type.dtype)).view(np.int64)[0])
    e.emit("one_hot", out.offset, out.step, x.offset, x.row, out.width, one)


# --- Interp -------------------------------------------------------------------------------------------------
@kernel("interp", "words f cf n")
def interp(words: Any, f: Any, constants: Any, n: Any) -> None:
    """Words: result, x, xs, ys, how many."""
    o, a, a_row, xs, ys, count = words[0], words[1], words[2], words[3], words[4], words[5]
    last = count - 1
    for r in range(n):
        x = f[a + r * a_row]
        if x != x:
            y = x
        elif x <= constants[xs]:
            # At or below the first point, and past the last one: the last wins where there is only one.
            y = constants[ys]
        elif x >= constants[xs + last]:
            y = constants[ys + last]
        else:
            j = search(x, constants, xs, count)
            if constants[xs + j] == x:
                y = constants[ys + j]
            else:
                j = j - 1
                slope = (constants[ys + j + 1] - constants[ys + j]) / (constants[xs + j + 1] - constants[xs + j])
                y = slope * (x - constants[xs + j]) + constants[ys + j]
        f[o + r] = y


@encodes("Interp")
def encode_interp(e: Encoder, node: Node, value: int) -> None:
    x = e.register(node.inputs[0])
    out = e.allocate(value)
    xs = e.constants(value, "xs", lambda: node.attrs["xs"])
    ys = e.constants(value, "ys", lambda: node.attrs["ys"])
    e.emit("interp", out.offset, x.offset, x.row, xs, ys, len(node.attrs["xs"]))
