"""Single calls of the text kernels (kernels/text.py), outside of any program: one instruction stream, one run.

``text_table`` and ``text_column`` call; the machine and the layout of a call are described in kernels/entry.py.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeml.ir.table import Array
from edgeml.runtimes.kernels.constants import address, aligned
from edgeml.runtimes.kernels.entry import Call
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.kernels.registry import number

# More different objects than these, or than one in four, are not worth numbering: a slot takes 16 bytes of cache.
MOST_OBJECTS = 4096


def run(
    library: Library,
    instructions: Sequence[tuple[str, Sequence[int]]],
    ports: Sequence[int],
    rows: int,
    block: int,
    scratch: int = 0,
) -> bool:
    """Run (kernel, words) on ``rows`` rows in blocks. ``ports`` are addresses that the caller keeps alive.

    ``scratch`` is how many cells of it there are. False when a kernel refuses a row.
    """
    words = [w for kernel, operands in instructions for w in (number(kernel, "text"), len(operands), 0, *operands)]
    code = np.array([*words, -1], dtype=np.int64)
    addresses = np.array(ports, dtype=np.uintp)
    memory = aligned(scratch)
    call = aligned(len(Call))
    call[:7] = address(code), 0, address(addresses), address(memory), 0, rows, block
    return not library.run_blocks(ctypes.c_void_p(address(call)))


def intern(cells: Array, library: Library) -> tuple[Array, list[Any]] | None:
    """For an array of objects: which of its different objects each cell is, int32 (rows,), and these. None when they
    are too many. Needs addresses of 8 bytes.
    """
    rows = len(cells)
    most = min(MOST_OBJECTS, rows // 4)
    slots = 1 << (2 * most - 1).bit_length()
    numbers, first = np.empty(rows, dtype=np.int32), np.empty(most, dtype=np.int64)
    table, count = np.zeros(2 * slots, dtype=np.int64), np.zeros(1, dtype=np.int64)
    ports = [address(x) for x in (cells, numbers, first, table, count)]
    if not run(library, [("intern", (0, 1, 2, 3, slots - 1, most, 4))], ports, rows, rows):
        return None
    return numbers, [cells[at] for at in first[: count[0]].tolist()]
