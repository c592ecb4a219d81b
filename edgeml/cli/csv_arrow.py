"""Reads a block of CSV rows through Arrow, without a Python object a cell, where that gives what cells.py would give.

In come bytes of whole rows (csv_blocks.py) and the plan of the columns; out go Arrow and NumPy columns of the schema's
kinds, or None where a cell is not plainly of its kind: then ``cells.parse`` decides, which names row and column in
what it refuses. Measured on 16 numbers and 3 strings: 0.4 us a row, by way of cells.py 18. Used by batches.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import pyarrow
from pyarrow import compute, csv

from edgeml.cli.cells import MISSING
from edgeml.cli.columns import Plan
from edgeml.schema import Column

_TYPES = {
    "float64": pyarrow.float64(),
    "float32": pyarrow.float64(),  # rounded twice, as cells.py does
    "int64": pyarrow.int64(),
    "bool": pyarrow.bool_(),
    "string": pyarrow.string(),
}
# What Arrow takes for a number and cells.py does not: hexadecimal integers, and NaN with a payload.
_HEXADECIMAL = re.compile(rb"0[xX]")
_PAYLOAD = re.compile(rb"[nN][aA][nN]\(")
_REAL = r"(?i)^[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf|infinity|nan)$"
_INTEGER = r"^[+-]?[0-9]+$"
_WHOLE_FLOATS = 2.0**53  # beyond, a float has neighbours that are other integers


def _spellings(word: str) -> list[str]:
    """A word in every mixture of upper and lower case."""
    return ["".join(letters) for letters in product(*((c.lower(), c.upper()) for c in word))]


_TRUE = [*_spellings("true"), "1"]
_FALSE = [*_spellings("false"), "0"]


@dataclass(frozen=True)
class Columns:
    """Columns of ``rows`` rows by their names in the file: those the model reads, and those to copy."""

    read: dict[str, Any]
    kept: dict[str, Any]
    rows: int

    def parts(self, most: int) -> Iterator[tuple[int, Columns]]:
        """Parts of at most ``most`` rows, nearly equal, each with the place of its first row."""
        count = -(-self.rows // most)  # none for no rows, as of a block of blank lines
        edges = [self.rows * at // max(count, 1) for at in range(count + 1)]
        for start, end in pairwise(edges):
            read, kept = ({n: cells[start:end] for n, cells in c.items()} for c in (self.read, self.kept))
            yield start, Columns(read, kept, end - start)


class ArrowReader:
    """Reads blocks of one file. A column that once held words such as NA is read as text from then on."""

    def __init__(self, plan: Plan, separator: str) -> None:
        self._names = list(plan.names)
        self._columns = plan.read
        self._keep = set(plan.keep)
        # Arrow takes no columns at all for every column.
        self._needed = plan.needed or self._names[:1]
        self._words: set[str] = set()
        self._parse = csv.ParseOptions(
            delimiter=separator,
            newlines_in_values=True,
            ignore_empty_lines=len(plan.names) > 1,  # else a blank line is a row with one empty cell
        )

    def read(self, block: bytes) -> Columns | None:
        """The columns of a block that ``csv_blocks.is_plain``."""
        odd = _odd_kinds(block)
        texts = self._words | {name for name, column in self._columns.items() if column.kind in odd}
        try:
            table = self._table(block, texts)
        except pyarrow.ArrowInvalid:
            # A cell that is no number, or a row of another length: as text it will show.
            texts = {name for name, column in self._columns.items() if column.kind != "string"}
            try:
                table = self._table(block, texts)
            except pyarrow.ArrowInvalid:
                return None
            self._words |= {name for name in texts if not _casts(_whole(table, name), self._columns[name])}
        columns: dict[str, Any] = {}
        for name, column in self._columns.items():
            cells = _whole(table, name)
            from_text = column.kind != "string" and (name in texts or name in self._keep)
            found = _of_text(cells, column) if from_text else _checked(cells, column)
            if found is None:
                return None
            columns[name] = found
        kept = {name: compute.fill_null(_whole(table, name), "") for name in self._keep}
        return Columns(columns, kept, table.num_rows)

    def _table(self, block: bytes, texts: set[str]) -> Any:
        """The needed columns: of the schema's types, or as text those of ``texts`` and those to keep."""
        as_text = texts | self._keep
        types = {
            name: _TYPES["string" if name in as_text else self._columns[name].kind]
            for name in self._needed
            if name in as_text or name in self._columns
        }
        return csv.read_csv(
            pyarrow.py_buffer(block),
            read_options=csv.ReadOptions(column_names=self._names, block_size=len(block) + 1),
            parse_options=self._parse,
            convert_options=csv.ConvertOptions(
                check_utf8=False,  # the whole block was checked
                column_types=types,
                include_columns=self._needed,
                null_values=[""],
                strings_can_be_null=True,
                true_values=_TRUE,
                false_values=_FALSE,
            ),
        )


def _odd_kinds(block: bytes) -> set[str]:
    """The kinds that Arrow might read from cells of this block where cells.py does not."""
    kinds: set[str] = set()
    # One byte is found far faster than a pattern, and most files have none of them.
    if (b"x" in block or b"X" in block) and _HEXADECIMAL.search(block):
        kinds.add("int64")
    if b"(" in block and _PAYLOAD.search(block):
        kinds |= {"float64", "float32"}
    return kinds


def _whole(table: Any, name: str) -> Any:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _casts(cells: Any, column: Column) -> bool:
    """Whether Arrow's reader would take these cells as they are."""
    if column.kind == "bool":
        return True
    try:
        compute.cast(compute.utf8_trim(cells, " \t"), _TYPES[column.kind])
    except pyarrow.ArrowInvalid:
        return False
    return True


def _checked(cells: Any, column: Column) -> Any | None:
    """Cells that Arrow has converted; None where one is missing that may not be."""
    if column.kind in ("int64", "bool") and cells.null_count:
        return None
    return _to_float32(cells) if column.kind == "float32" else cells


def _of_text(cells: Any, column: Column) -> Any | None:
    """Text as the kind of a column that is not of strings, as ``cells.parse`` understands it; None if unsure."""
    text = compute.ascii_trim_whitespace(compute.fill_null(cells, ""))
    lower = compute.ascii_lower(text)
    if column.kind == "bool":
        true, false = (compute.is_in(lower, pyarrow.array(words)) for words in (["true", "1"], ["false", "0"]))
        return true if compute.all(compute.or_(true, false)).as_py() is not False else None
    missing = compute.is_in(lower, pyarrow.array(sorted(MISSING)))
    if column.kind == "int64":
        return _integers(text)
    reals = _reals(compute.if_else(missing, pyarrow.scalar(None, pyarrow.string()), text))
    return _to_float32(reals) if reals is not None and column.kind == "float32" else reals


def _reals(text: Any) -> Any | None:
    if compute.all(compute.match_substring_regex(text, _REAL)).as_py() is False:
        return None
    return compute.cast(compute.utf8_ltrim(text, "+"), pyarrow.float64())


def _integers(text: Any) -> Any | None:
    if compute.all(compute.match_substring_regex(text, _INTEGER)).as_py() is not False:
        try:
            return compute.cast(compute.utf8_ltrim(text, "+"), pyarrow.int64())
        except pyarrow.ArrowInvalid:
            return None  # beyond int64
    reals = _reals(text)  # 3.0, as a spreadsheet writes it
    if reals is None:
        return None
    values = reals.to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = (np.abs(values) < _WHOLE_FLOATS) & (values == np.trunc(values))
    return values.astype(np.int64) if whole.all() else None


def _to_float32(cells: Any) -> Any:
    with np.errstate(over="ignore"):
        return cells.to_numpy(zero_copy_only=False).astype(np.float32)
