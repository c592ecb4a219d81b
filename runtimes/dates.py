"""Dates and times at run time: a column of them as int64 ticks of the unit that the sample had.

scikit-learn computes on ``datetime64`` as on its ticks, so a program reads int64, and NaT is int64's smallest number,
as NumPy has it. In comes a column of any library, or cells as ``datetime`` objects or ISO 8601 text; ``frames`` calls
it.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from edgeml.errors import ColumnTypeError
from edgeml.runtimes.cell_messages import place_of, shown
from edgeml.runtimes.cells import Array, is_from

_ISO_8601 = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d(:\d\d(:\d\d(\.\d{1,9})?)?)?)?", re.ASCII)
REMEDY = "pass dates and times without a time zone: datetime64, datetime objects or ISO 8601 text"


def ticks(column: Any, name: str, unit: str) -> Array:
    """The column as int64, (rows,): units since 1970. Raises ColumnTypeError naming column, row and value."""
    found = _as_datetime64(column, name, unit)
    if found.ndim != 1:
        raise ColumnTypeError(f"column {name!r} has {found.ndim} dimensions", "pass one value a row")
    exact = found.astype(f"datetime64[{unit}]")
    with np.errstate(all="ignore"):
        changed = (exact != found) & ~np.isnat(found)
    if changed.any():
        row = int(np.argmax(changed))
        raise _inexact(found[row], name, row, unit)
    return exact.view(np.int64)


def _inexact(cell: Any, name: str, row: int, unit: str) -> ColumnTypeError:
    return ColumnTypeError(
        f"{place_of([name], (row + 1,), row)}: {cell} is not a whole number of units ({unit})",
        f"round the times first: astype('datetime64[{unit}]')",
    )


def _as_datetime64(column: Any, name: str, unit: str) -> Array:
    dtype = getattr(column, "dtype", None)
    if hasattr(dtype, "pyarrow_dtype"):  # pandas' columns of Arrow's types
        column = getattr(column, "array", column).__arrow_array__()
        dtype = None
    zone = getattr(dtype, "tz", None) or getattr(dtype, "time_zone", None)
    zone = zone or getattr(getattr(column, "type", None), "tz", None)
    if zone is not None:
        raise ColumnTypeError(f"column {name!r} has the time zone {zone}", REMEDY)
    if isinstance(dtype, np.dtype) and dtype.kind == "M":  # arrays, and pandas' own columns
        return np.asarray(column)
    if is_from(column, "pyarrow", "Array", "ChunkedArray") and str(column.type).startswith(("timestamp", "date")):
        return np.asarray(column.to_numpy(zero_copy_only=False)).astype(f"datetime64[{_arrow_unit(column)}]")
    if is_from(column, "polars", "Series") and str(column.dtype).startswith(("Date", "Datetime")):
        return np.asarray(column.to_numpy())
    # One by one: an array of them all would take a unit that not every cell fits.
    found = [_cell(cell, name, row) for row, cell in enumerate(column)]
    values = np.array([cell.astype(f"datetime64[{unit}]") for cell in found], dtype=f"datetime64[{unit}]")
    for row, (cell, value) in enumerate(zip(found, values, strict=True)):
        if value != cell and not np.isnat(cell):
            raise _inexact(cell, name, row, unit)
    return values


def _arrow_unit(column: Any) -> str:
    return getattr(column.type, "unit", "D" if str(column.type) == "date32[day]" else "ms")


def _cell(cell: Any, name: str, row: int) -> Any:
    """One cell as datetime64; None, NaN and the missing cells of pandas are NaT."""
    if cell is None or (isinstance(cell, float) and cell != cell) or type(cell).__name__ in ("NaTType", "NAType"):
        return np.datetime64("NaT")
    if getattr(cell, "tzinfo", None) is None:
        if isinstance(cell, np.datetime64):
            return cell
        if hasattr(cell, "to_datetime64"):  # pandas.Timestamp
            return cell.to_datetime64()
        # NumPy would take "today" for a date, too, and an offset from UTC with a warning.
        if hasattr(cell, "isoformat") or (isinstance(cell, str) and _ISO_8601.fullmatch(cell)):
            try:
                return np.datetime64(cell)
            except ValueError:  # no such day
                pass
    raise ColumnTypeError(f"{place_of([name], (row + 1,), row)}: {shown(cell)} is no date or time", REMEDY)
