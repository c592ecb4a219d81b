"""A column of float64 that lies in memory as Arrow has it: in chunks, or with nulls in a bitmap beside the numbers.

Comes in: such a column of polars, pyarrow or pandas, from ``frames``. Goes out: a ``NumberColumn``, which the kernel
``load_chunks`` (kernels/move.py) reads block by block while a program runs, where ``to_numpy`` copies whole columns on
one thread first; None for any other column. Whoever wants an array gets the one that ``cells`` reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.runtimes import arrow
from edgeml.runtimes.cells import Array, convert, is_from, to_array
from edgeml.runtimes.kernels.constants import address
from edgeml.runtimes.kernels.move import ChunkField

FLOAT64 = "g"  # in Arrow's formats
# Shorter columns are copied sooner than described.
MIN_ROWS = 1024


@dataclass(slots=True)
class NumberColumn:
    """``rows`` cells in ``chunks``; a null is NaN."""

    rows: int
    chunks: Sequence[arrow.Chunk]
    _read: Callable[[slice], Array]
    _array: Array | None = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self._array is None:
            self._array = np.ascontiguousarray(self._read(slice(None)))
        return self._array.astype(dtype or np.float64, copy=bool(copy))

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: slice) -> Array:
        """Some of the cells; the others are not looked at."""
        return self._read(rows) if self._array is None else self._array[rows]


def number_column(cells: Any, name: str) -> NumberColumn | None:
    """The column, of any library, in its chunks; None for one that is read as an array just as well."""
    if type(getattr(cells, "dtype", None)).__name__ == "ArrowDtype":
        cells = getattr(cells, "array", cells).__arrow_array__()
    if len(cells) < MIN_ROWS:
        return None
    if is_from(cells, "polars", "Series"):
        if str(cells.dtype) != "Float64" or not (cells.null_count() or cells.n_chunks() > 1):
            return None
        chunks = arrow.chunks_of(cells)
    elif is_from(cells, "pyarrow", "ChunkedArray", "Array"):
        parts = cells.chunks if is_from(cells, "pyarrow", "ChunkedArray") else [cells]
        if str(cells.type) != "double" or not (cells.null_count or len(parts) > 1):
            return None
        chunks = [chunk for part in parts for chunk in arrow.chunks_of(part) or ()]
    else:
        return None
    if not chunks or any(c.format != FLOAT64 or len(c.buffers) < 2 or not c.buffers[1] for c in chunks):
        return None

    def read(rows: slice) -> Array:
        return convert(to_array(cells[rows], name), "float64", (name,))

    return NumberColumn(sum(c.rows for c in chunks), chunks, read)


class NumberPort:
    """A column for ``load_chunks``: see ``TextPort``, whose place in a plan it takes for numbers."""

    __slots__ = ("_column", "size")

    def __init__(self, column: NumberColumn | Array) -> None:
        self._column = column if isinstance(column, NumberColumn) else np.ascontiguousarray(column)
        self.size = len(column)

    def describe(self, ports: list[int]) -> Array:
        """The column's description; the addresses it speaks of are added to ``ports``."""
        column = self._column
        if not isinstance(column, NumberColumn):
            ports.append(address(column))
            return np.array([1, len(column), 0, -1, len(ports) - 1], dtype=np.int64)
        cells = np.empty((len(column.chunks), len(ChunkField)), dtype=np.int64)
        row = 0
        for at, chunk in enumerate(column.chunks):
            valid = -1
            if chunk.buffers[0]:
                valid = len(ports)
                ports.append(chunk.buffers[0])
            ports.append(chunk.buffers[1])
            cells[at] = row + chunk.rows, chunk.offset - row, valid, len(ports) - 1
            row += chunk.rows
        return np.concatenate([[len(column.chunks)], cells.ravel()])
