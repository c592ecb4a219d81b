"""Columns as the text that a CSV or JSON file holds, joined to lines, through Arrow: no Python object a cell.

In come columns of answers (NumPy) and columns to copy (Arrow, NumPy or lists); out go the bytes that Python's csv and
json modules would write for them, to the last digit. Two columns of probabilities take 0.3 us a row, by way of the csv
module 2.5. Used by results.py.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow
from pyarrow import compute

from edgeml.cli.output import plain

Array = npt.NDArray[Any]

# Joined lines are one Arrow array of strings, which holds 2 GB.
_MOST_BYTES = 1 << 30


def csv_lines(columns: Mapping[str, Any], separator: str) -> list[Any]:
    """Rows as buffers of CSV lines, cells quoted where the csv module quotes them."""
    marks = [mark for mark in (separator, '"', "\n", "\r") if _is_quoted(mark, separator)]
    texts = [_csv_text(column, marks) for column in columns.values()]
    if len(texts) == 1:  # an empty line would be no row
        texts = [compute.if_else(compute.equal(texts[0], ""), '""', texts[0])]
    pieces: list[Any] = []
    for text in texts:
        pieces += [text, separator]
    return _lines([*pieces[:-1], "\n"])


def json_lines(columns: Mapping[str, Any]) -> list[Any]:
    """Rows as buffers of JSON objects, one a line."""
    pieces: list[Any] = []
    for name, column in columns.items():
        key = json.dumps(plain(name), ensure_ascii=False)
        pieces += [f"{', ' if pieces else '{'}{key}: ", _json_text(column)]
    return _lines([*pieces, "}\n"])


def _lines(pieces: Sequence[Any]) -> list[Any]:
    """Pieces of text, arrays and constants, joined row by row: the bytes of all rows, one behind the other."""
    texts = [piece for piece in pieces if not isinstance(piece, str)]
    rows = len(texts[0])
    constant = sum(len(piece.encode()) for piece in pieces if isinstance(piece, str))
    if rows > 1 and sum(text.nbytes for text in texts) + rows * constant > _MOST_BYTES:
        halves = (slice(None, rows // 2), slice(rows // 2, None))
        return [b for h in halves for b in _lines([p if isinstance(p, str) else p[h] for p in pieces])]
    joined = compute.binary_join_element_wise(*pieces, "")
    return [_bytes(joined).data]


# --- CSV
def _csv_text(column: Any, marks: Sequence[str]) -> Any:
    numbers = _number_text(column)
    if numbers is not None:
        return compute.fill_null(numbers, "")
    strings = _strings(column)
    if strings is None:
        strings = pyarrow.array([_csv_cell(value) for value in _python(column)], pyarrow.string())
    text = compute.fill_null(strings, "")
    if not _has(text, marks):
        return text
    quoted = compute.binary_join_element_wise('"', compute.replace_substring(text, '"', '""'), '"', "")
    return compute.if_else(compute.match_substring_regex(text, f"[{''.join(marks)}]"), quoted, text)


def _csv_cell(value: Any) -> str:
    """A cell's text as csv.writer has it, before quotes; half a surrogate pair escaped."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value).encode("utf-8", "backslashreplace").decode()


def _is_quoted(mark: str, separator: str) -> bool:
    """Whether the csv module of this Python puts quotes round a cell with ``mark``; of "\\r" not all do."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="\n").writerow([mark])
    return text.getvalue().startswith('"')


def _has(text: Any, marks: Sequence[str]) -> bool:
    """Whether any cell holds one of the marks: a look at all bytes, which is quicker than one at each cell."""
    cells = _bytes(text)
    return any(bool((cells == ord(mark)).any()) for mark in marks)


# --- JSON
def _json_text(column: Any) -> Any:
    text = _number_text(column)
    if text is not None:
        # JSON has no word for NaN and infinities; they are strings, and the only floats with an n.
        if _is_float(column):
            text = compute.if_else(compute.match_substring(text, "n"), _in_quotes(text), text)
        return compute.fill_null(text, "null")
    strings = _strings(column)
    if strings is None or _has_escapes(strings):
        return pyarrow.array([_json_cell(value) for value in _python(column)], pyarrow.string())
    return compute.fill_null(_in_quotes(strings), "null")


def _json_cell(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


def _in_quotes(text: Any) -> Any:
    return compute.binary_join_element_wise('"', text, '"', "")


def _has_escapes(strings: Any) -> bool:
    cells = _bytes(compute.fill_null(strings, ""))
    return bool(((cells < 0x20) | (cells == ord('"')) | (cells == ord("\\"))).any())


# --- cells
def _number_text(column: Any) -> Any | None:
    """Numbers and booleans as Python writes them; None where the column is of something else."""
    if isinstance(column, np.ndarray):
        if column.dtype.kind not in "fiub" or column.dtype.itemsize > 8:
            return None
        column = pyarrow.array(column.astype(np.float64) if column.dtype.kind == "f" else column)
    if not isinstance(column, pyarrow.Array):
        return None
    kind = column.type
    if pyarrow.types.is_floating(kind):
        return _float_text(column.cast(pyarrow.float64()))
    if pyarrow.types.is_integer(kind) or pyarrow.types.is_boolean(kind):
        return column.cast(pyarrow.string())
    return None


def _is_float(column: Any) -> bool:
    return (
        bool(column.dtype.kind == "f")
        if isinstance(column, np.ndarray)
        else bool(pyarrow.types.is_floating(column.type))
    )


def _float_text(column: Any) -> Any:
    """The shortest digits that read back to the same bits, in Python's notation.

    Arrow finds the same digits four times faster and writes some numbers otherwise: 1 for 1.0, 1.5e-7 for 1.5e-07,
    1e+10 for 10000000000.0, 0.00001 for 1e-05. Those are put right, the last two by ``repr``.
    """
    values = column.to_numpy(zero_copy_only=False)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if not _notation_is_known():
        cells = [None if m else repr(v) for v, m in zip(values.tolist(), missing.tolist(), strict=True)]
        return pyarrow.array(cells, pyarrow.string())
    text = column.cast(pyarrow.string())
    size = np.abs(values)
    whole = (size < 1e10) & (values == np.trunc(values))
    small = (size >= 1e-9) & (size < 1e-6)
    same = ~whole & (size >= 1e-4) & (size < 1e10) | (size > 0) & (size < 1e-9) | (size >= 1e16)
    if whole.any():
        text = compute.if_else(whole, compute.binary_join_element_wise(text, ".0", ""), text)
    if small.any():
        text = compute.if_else(small, compute.replace_substring(text, "e-", "e-0"), text)
    other = ~(same | whole | small | missing)
    if other.any():
        digits = pyarrow.array(list(map(repr, values[other].tolist())), pyarrow.string())
        text = compute.replace_with_mask(text, pyarrow.array(other), digits)
    return text


@cache
def _notation_is_known() -> bool:
    """Whether this pyarrow writes numbers as ``_float_text`` expects; its notation is nowhere promised."""
    known = {
        0.0001: "0.0001",
        -1234.5: "-1234.5",
        9999999999.5: "9999999999.5",
        9999999999.0: "9999999999",
        -0.0: "-0",
        9.5e-7: "9.5e-7",
        1e-9: "1e-9",
        9.5e-10: "9.5e-10",
        5e-324: "5e-324",
        1e16: "1e+16",
        1e300: "1e+300",
        -np.inf: "-inf",
    }
    found: list[str] = pyarrow.array(list(known), pyarrow.float64()).cast(pyarrow.string()).to_pylist()
    return found == list(known.values())


def _strings(column: Any) -> Any | None:
    """Strings as an Arrow array; None where the column holds, or may hold, something else."""
    if isinstance(column, pyarrow.Array):
        kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
        texts = pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)
        return column.cast(pyarrow.string()) if texts or pyarrow.types.is_null(kind) else None
    if isinstance(column, np.ndarray) and column.dtype.kind not in "OU":
        return None
    try:
        found = pyarrow.array(_python(column))
    except (pyarrow.ArrowException, UnicodeEncodeError, OverflowError):  # of several types, or no valid Unicode
        return None
    return found if pyarrow.types.is_string(found.type) else None


def _python(column: Any) -> list[Any]:
    if isinstance(column, pyarrow.Array):
        cells: list[Any] = column.to_pylist()
        return cells
    return list(column.tolist() if isinstance(column, np.ndarray) else column)


def _bytes(text: Any) -> Array:
    """The bytes of all cells of a string array without nulls, one cell behind the other."""
    _, offsets, data = text.buffers()
    if data is None or not len(text):
        return np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32, count=text.offset + len(text) + 1)
    return np.frombuffer(data, np.uint8)[ends[text.offset] : ends[-1]]
