"""Reads rows that are not rows of a table: documents, a string each, cells of items, dicts whose keys may be absent.

In comes what an application hands to a model whose schema has such rows; out go the columns' cells, as ``frames`` goes
on with them, or None for a table, which ``frames`` reads as any other. Called by ``frames`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any

import numpy as np

from edgeml.errors import ColumnTypeError, ShapeError
from edgeml.runtimes.cells import is_from
from edgeml.schema import ITEMS, Items, Schema

_ONE_DIMENSION = (
    ("pandas", "Series", "Index"),
    ("polars", "Series"),
    ("pyarrow", "Array", "ChunkedArray"),
)


def special_rows(X: Any, schema: Schema) -> tuple[int, list[Any]] | None:
    """How many rows, and the cells of each column of the schema. Raises ShapeError."""
    if schema.rows == "dicts":
        return _dicts(X, schema)
    column = schema.columns[0]
    if column.items is not None:
        return _items(X, column.name, column.items)
    found = _documents(X)
    if found is None or schema.encoding is None:
        return found
    return found[0], [decoded(found[1][0], *schema.encoding)]


def special_row(row: Any, schema: Schema) -> bool:
    """Whether ``row`` is one whole row by itself: a document, a cell of items, or a dict."""
    if schema.rows == "dicts":
        return isinstance(row, Mapping)
    column = schema.columns[0]
    if column.items is None:
        return row is None or isinstance(row, (str, float)) or (schema.encoding is not None and type(row) is bytes)
    return not (isinstance(row, str) or _is_record(row, column.name, column.items))


def decoded(cells: Any, encoding: str, errors: str) -> Any:
    """The cells of a column, those that are bytes as the strings they encode; without any the column as it is.

    Raises ColumnTypeError naming the row of bytes that are none.
    """
    if not any(isinstance(cell, bytes) for cell in cells):
        return cells
    result = np.empty(len(cells), dtype=object)
    for at, cell in enumerate(cells):
        try:
            result[at] = cell.decode(encoding, errors) if isinstance(cell, bytes) else cell
        except UnicodeError as error:
            raise ColumnTypeError(
                f"row {at}: the document is no {encoding}: {error}",
                "decode the texts before, or fit the vectoriser with decode_error='replace'",
            ) from None
    return result


def _documents(X: Any) -> tuple[int, list[Any]] | None:
    if isinstance(X, str):
        raise ShapeError("the rows are a single string", "pass a list of documents, or call predict_one(document)")
    if _is_column(X):
        return len(X), [X]
    if isinstance(X, (list, tuple)) and X and not isinstance(X[0], (Mapping, list, tuple, np.ndarray)):
        return len(X), [X]
    return None


def _items(X: Any, name: str, items: Items) -> tuple[int, list[Any]] | None:
    if isinstance(X, str):
        raise ShapeError("the rows are a single string", f"pass a list of rows, which are {ITEMS[items]}")
    if isinstance(X, np.ndarray) and X.ndim > 1:
        X = list(X)
    if _is_column(X) or (isinstance(X, (list, tuple)) and not (X and _is_record(X[0], name, items))):
        return len(X), [X]
    return None


def _is_column(X: Any) -> bool:
    plain = isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.names is None
    return plain or any(is_from(X, *names) for names in _ONE_DIMENSION)


def _is_record(row: Any, name: str, items: Items) -> bool:
    """Whether a row is a dict of the one column's name to its cell; one of dicts is rather a cell by itself."""
    return isinstance(row, Mapping) and (items != "dicts" or (len(row) == 1 and isinstance(row.get(name), Mapping)))


def _dicts(X: Any, schema: Schema) -> tuple[int, list[Any]] | None:
    if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype == object:
        X = X.tolist()
    if not isinstance(X, (list, tuple)) or not X or not isinstance(X[0], Mapping):
        return None
    for at, row in enumerate(X):
        if not isinstance(row, Mapping):
            raise ShapeError(f"row {at} is of type {type(row).__name__}, row 0 is a dict", "pass rows of one form")
    absent = [None if column.kind == "string" else 0.0 for column in schema.columns]
    return len(X), [
        [_cell_of(row.get(c.name, nothing), nothing, c.name, at) for at, row in enumerate(X)]
        for c, nothing in zip(schema.columns, absent, strict=True)
    ]


def _cell_of(value: Any, nothing: float | None, name: str, at: int) -> Any:
    """The cell of a key that is a column of numbers, or where ``nothing`` is None of strings.

    A value of the other kind is a feature of another name, which was not there in fit; a list of one string is it.
    """
    if nothing is None:
        if isinstance(value, Number):
            return None
        if isinstance(value, (list, tuple, set, frozenset)):
            if len(value) > 1:
                raise ColumnTypeError(
                    f"column {name!r}, row {at}: a {type(value).__name__} of {len(value)} strings, and in the sample "
                    "the key held one string a row",
                    "compile the pipeline with a sample in which a row has a list of strings under this key",
                )
            return next(iter(value), None)
        return value
    return nothing if isinstance(value, (str, list, tuple)) else value
