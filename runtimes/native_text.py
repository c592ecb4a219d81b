"""String columns become codes at the native engine's edge, and codes become strings again.

The vocabulary is what the program compares strings with or gives back. A string outside of it gets the code
behind the last, or, where the program can give it back, a code of its own that holds for one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.coded import FIRST, NAN, NONE, CodedProgram
from edgeml.ir.program import Output
from edgeml.ir.table import Array
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.text_column import TextColumn
from edgeml.runtimes.text_table import TextPort, TextTable

_UNSEEN = -1


class RowCodes(dict[Any, int]):
    """Codes of the cells of one column, for rows given one by one.

    Looking up what is no str, None or NaN raises KeyError, and so does a string outside the vocabulary that
    needs a code of its own.
    """

    __slots__ = ("_unknown",)

    def __init__(self, codes: Mapping[Any, int], unknown: int | None) -> None:
        super().__init__(codes)
        self._unknown = unknown

    def __missing__(self, cell: object) -> int:
        if isinstance(cell, str) and self._unknown is not None:
            return self._unknown
        if isinstance(cell, float) and cell != cell:
            return NAN
        raise KeyError(cell)


class TextCodes:
    """Codes for the string columns of one program."""

    def __init__(self, coded: CodedProgram, library: Library | None = None) -> None:
        """``library``: kernels that read strings in buffers, or None."""
        self._library = library
        self._vocabulary = coded.vocabulary
        self.unknown = FIRST + len(coded.vocabulary)
        self._inputs = coded.text_inputs
        self._codes: dict[Any, int] = {cell: FIRST + i for i, cell in enumerate(coded.vocabulary)}
        self._codes[None] = NONE
        self._codes[np.nan] = NAN  # found by identity; any other NaN takes the slower way
        self._cells: list[Any] = [np.nan, None, *coded.vocabulary]
        self._tables: dict[str, Array] = {}

    @cached_property
    def slots(self) -> TextTable:
        """The vocabulary as the kernels read it, made when the first batch with strings in buffers comes."""
        if self._library is None:
            raise ProgramError("strings in buffers reached an engine without kernels")
        return TextTable(self._vocabulary, self._library)

    def of_rows(self, name: str, null: str) -> RowCodes:
        """Codes of column ``name`` for rows given one by one; ``null`` says what None means there (schema.Column)."""
        codes = self._codes | {None: NAN} if null == "nan" else self._codes
        return RowCodes(codes, None if self._inputs[name] else self.unknown)

    def encode(self, columns: Mapping[str, Any], new: dict[str, int]) -> dict[str, Array | TextPort]:
        """Codes of the columns of strings among ``columns``, int64 of the same shape, or ports that give them: ports
        for all or for none. ``new`` collects strings that get own codes.
        """
        found = {name: self._encode(name, columns[name], new) for name in self._inputs if name in columns}
        if not any(isinstance(x, TextPort) for x in found.values()):
            return found
        return {name: x if isinstance(x, TextPort) else TextPort(self.slots, x) for name, x in found.items()}

    def _encode(self, name: str, column: Array | TextColumn, new: dict[str, int]) -> Array | TextPort:
        if not isinstance(column, TextColumn):
            return self._encode_cells(name, column, new)
        if not self._inputs[name]:
            return TextPort(self.slots, column)
        codes = self.slots.codes(column)
        if (codes == self.unknown).any():  # each string of its own has its own code: that takes the strings
            return self._encode_cells(name, column.objects(), new)
        return codes

    def _encode_cells(self, name: str, cells: Array, new: dict[str, int]) -> Array:
        flat = cells.ravel().tolist()
        codes = np.fromiter(map(self._codes.get, flat, repeat(_UNSEEN)), dtype=np.int64, count=len(flat))
        unseen = np.flatnonzero(codes == _UNSEEN)
        if unseen.size:
            distinct = self._inputs[name]
            for at in unseen.tolist():
                cell = flat[at]
                if not isinstance(cell, str):
                    codes[at] = NAN
                elif distinct:
                    codes[at] = new.setdefault(cell, self.unknown + len(new))
                else:
                    codes[at] = self.unknown
        return codes.reshape(cells.shape)

    def decode(self, codes: Array, output: Output, new: Mapping[str, int]) -> Array:
        """Cells of codes, in the output's dtype when it is one of strings, else as objects."""
        if new:
            table = _table([*self._cells, *new], output.dtype)
        else:
            table = self.table(output)
        result: Array = table.take(codes)  # half the time of an index, for strings of fixed width
        return result

    def table(self, output: Output) -> Array:
        """What each code of the vocabulary is in the output's dtype, (codes,)."""
        if output.dtype not in self._tables:
            self._tables[output.dtype] = _table(self._cells, output.dtype)
        return self._tables[output.dtype]


def _table(cells: list[Any], dtype: str) -> Array:
    table = np.empty(len(cells), dtype=object)
    table[:] = cells
    return table.astype(dtype) if np.dtype(dtype).kind in "UT" else table
