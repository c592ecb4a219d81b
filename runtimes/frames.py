"""Reads the rows an application hands to a model: whatever holds them, into arrays as the schema says.

In comes a pandas or polars frame, an Arrow table or record batch, a NumPy array, a dict of columns, a list of
dicts or of sequences; out go the used columns by name, or the one matrix. Columns with names are met by name
in any order, those without by position. ``Model`` calls ``read_columns``, who wants arrays only ``read_rows``;
``cells`` and ``text_column`` read a single column. No library but NumPy is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from edgeml.errors import EmptyInputError, ExtraColumnError, InputError, MissingColumnError, ShapeError
from edgeml.runtimes.cells import Array, convert, is_from, to_array, unmasked
from edgeml.runtimes.dates import ticks
from edgeml.runtimes.item_rows import item_texts
from edgeml.runtimes.row_forms import special_row, special_rows
from edgeml.runtimes.sparse import is_sparse
from edgeml.schema import MATRIX, Column, Items, Kind, Schema

if TYPE_CHECKING:
    from edgeml.runtimes.kernels.library import Library
    from edgeml.runtimes.number_column import NumberColumn
    from edgeml.runtimes.text_column import TextColumn

    Cells = Array | TextColumn | NumberColumn

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class _Table:
    """Rows of any library.

    ``names`` is None when columns have none; ``block`` holds all cells if they have one dtype.
    """

    rows: int
    width: int
    names: Sequence[str] | None
    column: Callable[[int], Any]
    block: Array | None = None


def read_rows(X: Any, schema: Schema) -> tuple[dict[str, Array], int]:
    """The columns a program reads, and the number of rows.

    Returns, for a schema of columns, one C-contiguous array of shape (rows,) for each used column, with the
    dtype of its kind (object arrays of str, None and NaN for strings); for a matrix, ``{"X": array of shape
    (rows, columns)}``. Arrays may share memory with X and are not to be written to.

    Raises MissingColumnError, ExtraColumnError, ShapeError, EmptyInputError or ColumnTypeError, all
    InputErrors.
    """
    columns, rows = read_columns(X, schema, None)
    return cast("dict[str, Array]", columns), rows


def read_columns(X: Any, schema: Schema, library: Library | None) -> tuple[dict[str, Cells], int]:
    """As ``read_rows``; columns of strings, and of numbers with nulls, stay as they lie in memory where ``library``
    reads them so.

    Raises as ``read_rows`` does.
    """
    matrix = schema.form == "matrix"
    table = _open(X, matrix) if schema.rows == "table" else _special(X, schema)
    if table.rows == 0:
        raise EmptyInputError("there are no rows", "pass at least one row")
    places = _places(table, schema)
    if matrix:
        return {MATRIX: _matrix(table, schema, places)}, table.rows
    block = table.block
    if block is not None and block.dtype.kind in "fiub" and not block.flags.f_contiguous:
        block = np.asfortranarray(block)  # one pass now instead of a strided one for every column
    columns: dict[str, Cells] = {}
    for column, place in zip(schema.columns, places, strict=True):
        if not column.used:
            continue
        null = None if column.null == "none" else _NAN
        cells = table.column(place) if block is None else block[:, place]
        kind: Any = column.kind
        if column.unit is not None or column.items is not None:
            columns[column.name] = (
                ticks(cells, column.name, column.unit)
                if column.unit is not None
                else item_texts(cells, column.name, cast("Items", column.items))
            )
            _check_length(len(columns[column.name]), column.name, table)
            continue
        if kind == "string" and column.null == "nan" and isinstance(cells, (list, tuple)):
            # Plain Python, as JSON gives it, has one spelling for a missing cell, which a frame's own would be NaN.
            cells = [null if cell is None else cell for cell in cells]
        ready = kind != "string" and type(cells) is np.ndarray and cells.dtype == kind
        if ready and cells.ndim == 1 and cells.flags.c_contiguous:
            # Most columns of most frames: 0.2 us where the ways below take 4.
            _check_length(len(cells), column.name, table)
            columns[column.name] = cells
            continue
        found = None if library is None else _as_it_lies(cells, column, null, library)
        if found is not None:
            _check_length(found.rows, column.name, table)
            columns[column.name] = found
            continue
        raw = to_array(cells, column.name, null)
        _check_length(len(raw), column.name, table)
        columns[column.name] = np.ascontiguousarray(convert(raw, kind, (column.name,), null))
    return columns, table.rows


def _as_it_lies(cells: Any, column: Column, null: float | None, library: Library) -> TextColumn | NumberColumn | None:
    """A column that the kernels read without an array of it; None for any other."""
    # Imported here: engines that take arrays do without the kernels' modules.
    if column.kind == "string":
        from edgeml.runtimes.text_column import text_column

        return text_column(cells, column.name, null, library)
    if column.kind == "float64":
        from edgeml.runtimes.number_column import number_column

        return number_column(cells, column.name)
    return None


def _check_length(rows: int, name: str, table: _Table) -> None:
    if rows != table.rows:
        raise ShapeError(f"column {name!r} has {rows} values, the first column {table.rows}")


def read_row(row: Any, schema: Schema) -> dict[str, Array]:
    """The columns of a single raw row: a dict, or a sequence in the schema's order.

    Raises as ``read_rows`` does.
    """
    if is_from(row, "pandas", "Series"):
        row = row.to_dict()
    if schema.rows != "table" and special_row(row, schema):
        return read_rows([row], schema)[0]
    if isinstance(row, Mapping) or (isinstance(row, (list, tuple)) and not any(map(_is_row, row[:1]))):
        return read_rows([row], schema)[0]
    if isinstance(row, np.void) and row.dtype.names:
        return read_rows(np.array([row], dtype=row.dtype), schema)[0]
    if isinstance(row, np.ndarray) and row.ndim == 1:
        return read_rows(row[None, :], schema)[0]
    raise ShapeError(
        f"a {type(row).__name__} is not one row",
        "pass one row as a dict or a sequence; for many rows call predict(X)",
    )


# --- what a container holds ---------------------------------------------------------------------------------
def _special(X: Any, schema: Schema) -> _Table:
    """Documents and dicts; a table as it is."""
    found = special_rows(X, schema)
    if found is None:
        return _open(X, False)
    rows, cells = found
    return _Table(rows, len(cells), schema.names, cells.__getitem__)


def _open(X: Any, matrix: bool) -> _Table:
    """``matrix``: whether all cells are due in one array."""
    if isinstance(X, np.ndarray):
        return _array(X)
    if is_from(X, "pandas", "DataFrame"):
        return _pandas(X, matrix)
    if is_from(X, "polars", "DataFrame"):
        return _Table(X.height, X.width, list(X.columns), X.to_series)
    if is_from(X, "pyarrow", "Table", "RecordBatch"):
        return _Table(X.num_rows, X.num_columns, list(X.schema.names), X.column)
    if (
        is_from(X, "pandas", "Series", "Index")
        or is_from(X, "polars", "Series")
        or is_from(X, "pyarrow", "Array", "ChunkedArray")
    ):
        raise _one_dimension(X)
    if isinstance(X, Mapping):
        return _mapping(X)
    if isinstance(X, (list, tuple)):
        return _sequence(X)
    if is_sparse(X):
        return _array(X.toarray())
    if is_from(X, "polars", "LazyFrame"):
        raise InputError("a LazyFrame has no rows yet", "pass X.collect()")
    if hasattr(X, "__array__"):
        return _array(np.asarray(X))
    raise InputError(
        f"rows of type {type(X).__name__} cannot be read",
        "pass a pandas or polars frame, an Arrow table, a NumPy array, a dict of columns or a list of dicts",
    )


def _one_dimension(X: Any) -> ShapeError:
    return ShapeError(
        f"a table of rows and columns is due, got one dimension ({type(X).__name__})",
        "reshape your data: X.reshape(1, -1) if it is one row, X.reshape(-1, 1) if it is one column; "
        "or call predict_one(row) for one row",
    )


def _array(X: Array) -> _Table:
    if X.dtype.names is not None:
        if X.ndim != 1:
            raise ShapeError(f"a structured array of {X.ndim} dimensions cannot be read", "pass one record a row")
        names = X.dtype.names
        return _Table(len(X), len(names), names, lambda i: X[names[i]])
    if X.ndim == 1:
        raise _one_dimension(X)
    if X.ndim != 2:
        raise ShapeError(f"a table of rows and columns is due, got {X.ndim} dimensions", "pass shape (rows, columns)")
    if isinstance(X, np.ma.MaskedArray):
        X = unmasked(X, [f"at position {i}" for i in range(X.shape[1])])
    X = np.asarray(X)
    return _Table(X.shape[0], X.shape[1], None, lambda i: X[:, i], X)


def _pandas(X: Any, matrix: bool) -> _Table:
    labels = X.columns.tolist()
    names = _labels(labels)
    block = None
    if matrix:
        dtypes = set(X.dtypes)
        if len(dtypes) == 1:
            dtype = next(iter(dtypes))
            if isinstance(dtype, np.dtype) and dtype.kind in "fiub":
                block = X.to_numpy()  # no copy: such a frame is one array already, or becomes one in a single pass
    # A column by way of a Series takes 9 to 20 us, as an array 1 us: of 64 rows and 19 columns, 380 us or 18. pandas
    # has it since 1.3, for its own exports; it makes no promise, so the public way is there too.
    column = getattr(X, "_get_column_array", None) or (lambda i: X.iloc[:, i])
    return _Table(len(X), len(labels), names, column, block)


def _labels(labels: Sequence[Any]) -> Sequence[str] | None:
    """Column labels as scikit-learn sees them: names when all are strings, nothing when none is."""
    texts = [isinstance(label, str) for label in labels]
    if all(texts):
        return list(labels)
    if any(texts):
        odd = labels[texts.index(False)]
        raise InputError(
            f"some column names are strings, others not, such as {odd!r}",
            "rename them: X.columns = X.columns.astype(str)",
        )
    return None


def _mapping(X: Mapping[Any, Any]) -> _Table:
    names = _labels(list(X))
    columns = list(X.values())
    if not columns:
        return _Table(0, 0, [], columns.__getitem__)
    scalars = [name for name, c in X.items() if isinstance(c, (str, bytes)) or not hasattr(c, "__len__")]
    if scalars:
        raise ShapeError(
            f"column {scalars[0]!r} is a single value; a dict of columns holds a list or an array a column",
            "for one row call predict_one(row), or pass [row]",
        )
    lengths = [len(c) for c in columns]
    if len(set(lengths)) > 1:
        at = next(i for i, n in enumerate(lengths) if n != lengths[0])
        labels = list(X)
        raise ShapeError(
            f"columns of two lengths: {labels[0]!r} has {lengths[0]} values, {labels[at]!r} {lengths[at]}",
            "pass one value a row in every column",
        )
    return _Table(lengths[0], len(columns), names, columns.__getitem__)


def _is_row(x: Any) -> bool:
    return isinstance(x, (Mapping, list, tuple, np.ndarray, np.void)) and not (
        isinstance(x, np.ndarray) and x.ndim == 0
    )


def _sequence(X: Sequence[Any]) -> _Table:
    if not X:
        return _Table(0, 0, None, X.__getitem__)
    first = X[0]
    if not _is_row(first):
        raise _one_dimension(X)
    if isinstance(first, Mapping):
        return _records(X)
    width = len(first)
    for at, row in enumerate(X):
        if not _is_row(row) or isinstance(row, Mapping) or len(row) != width:
            found = f"{len(row)} values" if _is_row(row) else f"of type {type(row).__name__}"
            raise ShapeError(f"row {at} is {found}, row 0 has {width} values", "pass rows of one length")
    if all(isinstance(row, np.ndarray) and row.dtype == first.dtype and row.ndim == 1 for row in X):
        return _array(np.stack(X))
    columns = list(zip(*X, strict=True))
    return _Table(len(X), width, None, columns.__getitem__)


def _records(X: Sequence[Any]) -> _Table:
    """Dicts, a row each. Their keys may come in any order; a key that only some rows have is an error."""
    first = X[0]
    labels = list(first)
    # Keys that are no strings are met by their text: a frame with columns 0, 1, 2 has no other names to offer.
    names = _labels(labels) or [str(label) for label in labels]
    keys = first.keys()
    for at, row in enumerate(X):
        if not isinstance(row, Mapping):
            raise ShapeError(f"row {at} is of type {type(row).__name__}, row 0 is a dict", "pass rows of one form")
        if row.keys() != keys:
            here, there = (0, at) if keys - row.keys() else (at, 0)
            name = min(map(str, X[here].keys() - X[there].keys()))
            raise MissingColumnError(
                f"row {here} has the column {name!r}, row {there} has not",
                "give every row the same keys; use None or float('nan') for what is missing",
            )
    return _Table(len(X), len(names), names, lambda i: [row[labels[i]] for row in X])


# --- which column is which ----------------------------------------------------------------------------------
def _places(table: _Table, schema: Schema) -> list[int]:
    """For each column of the schema its place in the table; -1 for an unused one that is absent."""
    names, expected = table.names, schema.names
    if names is not None and tuple(names) == expected and schema.form == "columns":
        return list(range(table.width))
    if names is None:
        if table.width != len(expected):
            raise ShapeError(
                f"the rows have {table.width} columns, the model has {len(expected)}",
                f"pass the raw columns in this order: {_some(expected)}",
            )
        return list(range(table.width))
    place = {name: at for at, name in enumerate(names)}
    if len(place) != len(names):
        twice = next(n for at, n in enumerate(names) if place[n] != at)
        raise ExtraColumnError(f"two columns are called {twice!r}", "rename or drop one of them")
    known = set(expected)
    extra = [n for n in names if n not in known]
    missing = [c.name for c in schema.columns if c.used and c.name not in place]
    if schema.form == "matrix" and (missing or extra):
        # Positions would be a guess: these columns have names, and the names are not the model's.
        if table.width != len(expected):
            raise ShapeError(f"the rows have {table.width} columns, the model has {len(expected)}")
        raise MissingColumnError(
            f"the model was fitted on an array, without column names; the rows have names ({_some(names)})",
            "pass the values in the order they had at fit, such as X.to_numpy()",
        )
    if missing:
        raise _missing(missing, extra, schema)
    if extra and schema.extra == "refused":
        more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
        raise ExtraColumnError(
            f"column {extra[0]!r}{more} is not one the pipeline was fitted on",
            f"drop it; the model has the columns {_some(expected)}",
        )
    return [place.get(name, -1) for name in expected]


def _missing(missing: Sequence[str], extra: Sequence[str], schema: Schema) -> MissingColumnError:
    from difflib import get_close_matches

    close = get_close_matches(missing[0], extra, n=1, cutoff=0.6)
    if not close:
        folded = {n.casefold().strip(): n for n in extra}
        close = [folded[key] for key in (missing[0].casefold().strip(),) if key in folded]
    more = f" (and {len(missing) - 1} more: {_some(missing[1:])})" if len(missing) > 1 else ""
    remedy = (
        f"is it the column {close[0]!r}? Rename it"
        if close
        else f"pass every column the model reads: {_some([c.name for c in schema.columns if c.used])}"
    )
    return MissingColumnError(f"column {missing[0]!r} is missing{more}", remedy)


def _some(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(repr(n) for n in names[:most])
    return shown + (f", … ({len(names)} in all)" if len(names) > most else "")


# --- the matrix ---------------------------------------------------------------------------------------------
def _matrix(table: _Table, schema: Schema, places: Sequence[int]) -> Array:
    kind: Kind = schema.kind
    block = table.block
    if block is not None:
        result = convert(block, kind, schema.names)
        in_order = list(places) == list(range(table.width))
        return np.ascontiguousarray(result if in_order else result[:, list(places)])
    columns = [
        np.full(table.rows, None if kind == "string" else 0, dtype=object if kind == "string" else kind)
        if place < 0
        else convert(to_array(table.column(place), name), kind, (name,))
        for place, name in zip(places, schema.names, strict=True)
    ]
    return np.stack(columns, axis=1)
