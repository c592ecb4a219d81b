"""A column of strings as it lies in memory, before anyone has made Python objects of it.

Comes in: a column of pandas, polars, Arrow or NumPy, from ``frames``. Goes out: a ``TextColumn``, whose pieces the
kernels can code (text_table.py), or None for a column that they cannot: then ``cells`` reads it as objects. A
TextColumn gives the very array of objects that ``cells`` reads to whoever asks for cells. Libraries are recognised,
never imported.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from edgeml.errors import ColumnTypeError
from edgeml.runtimes import arrow
from edgeml.runtimes.cells import Array, convert, is_from, to_array
from edgeml.runtimes.kernels.constants import address
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.text_calls import intern

_NAN = float("nan")
# Kinds of elements of a piece: Arrow's formats, and how wide indices are.
STRINGS = ("u", "U", "vu")
_INDICES = {"c": 1, "C": 1, "s": 2, "S": 2, "i": 4, "I": 4}
# Fewer cells are looked up one by one sooner than their different objects are found.
MIN_INTERNED = 256


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that lie behind one another. ``format`` is one of ``STRINGS``, or "" for indices of ``index_bytes``.

    ``buffers`` are addresses: the validity bitmap (0 without) and what the format has. ``values`` are what indices
    point to: a piece of strings, or cells. ``owner`` keeps the memory.
    """

    rows: int
    offset: int
    format: str
    buffers: Sequence[int]
    owner: Any
    limit: int = 0  # bytes of the strings that may be read
    index_bytes: int = 0
    values: Piece | Sequence[Any] | None = None


@dataclass(slots=True)
class TextColumn:
    """``rows`` cells in ``pieces``; a null among them is ``missing``, None or NaN."""

    rows: int
    pieces: Sequence[Piece]
    missing: float | None
    _read: Callable[[slice], Array]
    _objects: Array | None = None

    def objects(self) -> Array:
        """All cells as str, None and NaN, (rows,); made once."""
        if self._objects is None:
            self._objects = self._read(slice(None))
        return self._objects

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: slice) -> Array:
        """Some of the cells; the others are not looked at."""
        return self._read(rows) if self._objects is None else self._objects[rows]


def text_column(cells: Any, name: str, null: float | None, library: Library) -> TextColumn | None:
    """The column ``cells``, of any library, as pieces; None for what has to be read cell by cell, or refused.

    ``null`` is what a null becomes that is neither None nor NaN by itself.
    """

    if is_from(cells, "pandas", "Series", "Index"):
        # Without labels: a slice of rows means their positions then.
        cells = cells.to_numpy() if isinstance(cells.dtype, np.dtype) else cells.array

    def read(rows: slice) -> Array:
        return convert(to_array(cells[rows], name, null), "string", (name,), null)

    if isinstance(cells, (np.ndarray, list, tuple)):
        return _of_objects(to_array(cells, name, null), read, name, null, library)
    if is_from(cells, "polars", "Series") or is_from(cells, "pyarrow", "ChunkedArray", "Array"):
        return _of_arrow(cells, null, read)
    dtype = getattr(cells, "dtype", None)
    kind = type(dtype).__name__
    if kind == "CategoricalDtype":
        return _of_categories(cells, name, read)
    if kind == "ArrowDtype":
        return _of_arrow(cells.__arrow_array__(), null, read)
    if kind == "StringDtype":
        if getattr(dtype, "storage", "") != "pyarrow":
            return _of_objects(to_array(cells, name, null), read, name, null, library)
        return _of_arrow(
            cells.__arrow_array__(), _NAN if isinstance(getattr(dtype, "na_value", None), float) else null, read
        )
    return None


def _of_arrow(column: Any, missing: float | None, read: Callable[[slice], Array]) -> TextColumn | None:
    if is_from(column, "pyarrow", "ChunkedArray"):
        # Chunk by chunk: as a stream they took five times as long.
        chunks = [chunk for array in column.chunks for chunk in arrow.chunks_of(array) or ()]
    else:
        found = arrow.chunks_of(column)
        if found is None:
            return None
        chunks = found
    pieces = [_piece(chunk) for chunk in chunks]
    if any(piece is None for piece in pieces) or not pieces:
        return None
    return TextColumn(sum(c.rows for c in chunks), [p for p in pieces if p is not None], missing, read)


def _piece(chunk: arrow.Chunk) -> Piece | None:
    """The chunk, when it holds strings or indices of strings."""
    form, buffers = chunk.format, chunk.buffers
    if chunk.dictionary is not None:
        values, width = _piece(chunk.dictionary), _INDICES.get(form)
        if values is None or values.format == "" or width is None:
            return None
        return Piece(chunk.rows, chunk.offset, "", buffers, chunk.owner, 0, width, values)
    if form not in STRINGS or len(buffers) < 3 or (chunk.rows and not buffers[1]):
        return None
    limit = 0
    if form != "vu" and chunk.rows:
        width = 8 if form == "U" else 4
        ends = (buffers[1] + at * width for at in (chunk.offset, chunk.offset + chunk.rows))
        first, limit = (int.from_bytes(ctypes.string_at(end, width), sys.byteorder) for end in ends)
        if limit > first and not buffers[2]:
            return None
    return Piece(chunk.rows, chunk.offset, form, buffers, chunk.owner, limit)


def _of_categories(values: Any, name: str, read: Callable[[slice], Array]) -> TextColumn | None:
    """pandas' Categorical, whose code of a missing cell, -1, is no index of a category."""
    codes = np.ascontiguousarray(values.codes)
    if codes.dtype.itemsize > 4:
        return None
    categories = to_array(values.dtype.categories, name)
    if categories.dtype.kind != "O" or not all(isinstance(cell, str) for cell in categories):
        return None
    return TextColumn(len(codes), [indexed(codes, categories.tolist())], _NAN, read)


def _of_objects(
    cells: Array, read: Callable[[slice], Array], name: str, null: float | None, library: Library
) -> TextColumn | None:
    """An array of objects of which many are equal: only the different ones are looked at and looked up."""
    if cells.dtype.kind != "O" or len(cells) < MIN_INTERNED:
        return None
    # As readers of files make them, equal strings are mostly one object: 2 ns a cell.
    found = intern(np.ascontiguousarray(cells), library) if struct.calcsize("P") == 8 else None
    numbers, values = found if found is not None else _numbered(cells.tolist())
    if len(values) > len(cells) // 2:
        return None
    different = np.fromiter(values, dtype=object, count=len(values))
    try:
        different = convert(different, "string", (name,), null)
    except ColumnTypeError:
        return None  # read cell by cell, it is refused with the row where it stands
    return TextColumn(len(cells), [indexed(numbers, different.tolist())], null, read)


def _numbered(cells: Sequence[Any]) -> tuple[Array, Sequence[Any]]:
    """Which of the different cells each one is, int32, and these: one pass, 40 ns a cell. A type scan and a look-up
    of each cell took 100.
    """
    numbers: defaultdict[Any, int] = defaultdict(count().__next__)
    try:
        found = np.fromiter(map(numbers.__getitem__, cells), dtype=np.int32, count=len(cells))
    except TypeError:  # what cannot be hashed is no string
        return np.empty(0, dtype=np.int32), cells
    return found, list(numbers)


def indexed(numbers: Array, values: Sequence[Any]) -> Piece:
    """Indices of cells, in an array of integers."""
    return Piece(len(numbers), 0, "", (0, address(numbers)), numbers, 0, numbers.dtype.itemsize, values)
