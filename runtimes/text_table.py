"""A vocabulary as a hash table that the kernels read, and columns of strings described for them.

``TextTable`` is made from strings and the code of the first; it gives the codes of a ``TextColumn``, or a ``TextPort``
through which a program's own load kernel codes the column while it runs. native_text.py makes one for a program's
vocabulary, recording_counts.py one for each column it counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeml.ir.coded import FIRST, NAN, NONE
from edgeml.ir.table import Array
from edgeml.runtimes.kernels import text
from edgeml.runtimes.kernels.constants import address
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.kernels.text import Head, Kind
from edgeml.runtimes.text_calls import run
from edgeml.runtimes.text_column import Piece, TextColumn

# Rows of a block of the pass that writes codes.
_BLOCK = 256
_SPARE = 8  # bytes behind the pool, so that eight can be read anywhere
_KINDS = {"u": Kind.OFFSETS32, "U": Kind.OFFSETS64, "vu": Kind.VIEWS}
_INDEX_KINDS = {1: Kind.INDEX8, 2: Kind.INDEX16, 4: Kind.INDEX32}


class TextTable:
    """Codes as in ir/coded.py: NaN, None, and ``vocabulary[i]`` as ``FIRST + i``; ``unknown`` is behind the last."""

    def __init__(self, vocabulary: Sequence[str], library: Library) -> None:
        self.unknown = FIRST + len(vocabulary)
        self._library = library
        self._codes: dict[Any, int] = {cell: FIRST + i for i, cell in enumerate(vocabulary)}
        at, kept = [], []
        for i, cell in enumerate(vocabulary):
            try:
                kept.append(cell.encode())
            except UnicodeEncodeError:
                continue  # half a character, as Python allows and UTF-8 does not, is in no buffer of Arrow
            at.append(i)
        lengths = np.array([len(b) for b in kept], dtype=np.int64)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        self.pool = np.frombuffer(b"".join(kept) + bytes(_SPARE), dtype=np.uint8)
        # A quarter of the slots are taken: 6.5 ns a cell where half of them took 9, as fewer searches go on.
        slots = 1 << (4 * len(kept)).bit_length()
        self.slots = np.full(slots * text.SLOT, text.EMPTY, dtype=np.int64)
        self.mask, self.longest = slots - 1, int(lengths.max(initial=0))
        if kept:
            codes = np.array(at, dtype=np.int64) + FIRST
            ports = [address(x) for x in (offsets, self.pool, codes, self.slots)]
            run(library, [("text_table", (0, 1, 2, 3, self.mask))], ports, len(kept), len(kept))

    def codes(self, column: TextColumn) -> Array:
        """Codes of all cells, int64 (rows,), in a pass of their own."""
        result = np.empty(column.rows, dtype=np.int64)
        ports = [0, address(result)]
        port = TextPort(self, column)
        description = port.describe(ports)
        ports[0] = address(description)
        instructions = [("load_text", (0, 0)), ("store64", (1, 0, 1, 1, 0, 1, 1))]
        run(self._library, instructions, ports, column.rows, _BLOCK, scratch=_BLOCK)
        return result

    def of_values(self, values: Piece | Sequence[Any], missing: float | None) -> Array:
        """Codes of what indices point to."""
        if isinstance(values, Piece):
            return self.codes(TextColumn(values.rows, [values], missing, _no_objects))
        known, unknown = self._codes, self.unknown
        return np.array(
            [known.get(cell, unknown) if isinstance(cell, str) else NONE if cell is None else NAN for cell in values],
            dtype=np.int64,
        )


class TextPort:
    """A column that the kernel ``load_text`` reads: pieces of strings, or codes that are known already."""

    __slots__ = ("_column", "_keep", "_table", "size")

    def __init__(self, table: TextTable, column: TextColumn | Array) -> None:
        self._table, self._column, self.size = table, column, len(column)
        self._keep: list[Any] = []

    def describe(self, ports: list[int]) -> Array:
        """The column's description (kernels/text.py); the addresses it speaks of are added to ``ports``.

        They are good as long as the array that is returned and this object live.
        """
        column, table = self._column, self._table
        pieces = column.pieces if isinstance(column, TextColumn) else [column]
        cells = [0] * len(Head)
        cells[Head.CHUNKS] = len(pieces)
        cells[Head.TABLE] = _port(ports, address(table.slots))
        cells[Head.POOL] = _port(ports, address(table.pool))
        cells[Head.MASK], cells[Head.LONGEST], cells[Head.UNKNOWN] = table.mask, table.longest, table.unknown
        missing = column.missing if isinstance(column, TextColumn) else None
        cells[Head.NULL] = NONE if missing is None else NAN
        row = 0
        for piece in pieces:
            if isinstance(piece, Piece):
                cells += self._chunk(piece, row, ports, missing)
                row += piece.rows
            else:
                cells += [len(piece), 0, Kind.CODES, -1, _port(ports, address(piece)), -1, 0]
        return np.array(cells, dtype=np.int64)

    def _chunk(self, piece: Piece, row: int, ports: list[int], missing: float | None) -> list[int]:
        """In the order of ``Field``."""
        buffers = piece.buffers
        valid = _port(ports, buffers[0]) if buffers[0] else -1
        start = [row + piece.rows, piece.offset - row]
        if piece.values is not None:
            codes = self._table.of_values(piece.values, missing)
            self._keep.append(codes)
            kind = _INDEX_KINDS[piece.index_bytes]
            return [*start, kind, valid, _port(ports, buffers[1]), _port(ports, address(codes)), len(codes)]
        if piece.format == "vu":
            # The last buffer has the lengths of those before it.
            first = _port(ports, buffers[1])
            data = len(ports)
            ports += buffers[2:-1]
            return [*start, Kind.VIEWS, valid, first, data, 0]
        first, data = _port(ports, buffers[1]), _port(ports, buffers[2])
        return [*start, _KINDS[piece.format], valid, first, data, piece.limit]


def _port(ports: list[int], place: int) -> int:
    ports.append(place)
    return len(ports) - 1


def _no_objects(rows: slice) -> Array:
    raise NotImplementedError  # values of a dictionary are only coded
