"""Reads rows that are not rows of a table: documents, a string each, and dicts whose keys may be absent.

In comes what an application hands to a model whose schema has such rows; out go the columns' cells, as ``frames`` goes
on with them, or None for a table, which ``frames`` reads as any other. Called by ``frames`` only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeml.errors import ExtraColumnError, InputError, ShapeError
from edgeml.runtimes.cells import is_from
from edgeml.schema import Schema

_ONE_DIMENSION = (
    ("pandas", "Series", "Index"),
    ("polars", "Series"),
    ("pyarrow", "Array", "ChunkedArray"),
)


def special_rows(X: Any, schema: Schema) -> tuple[int, list[Any]] | None:
    """How many rows, and the cells of each column of the schema. Raises ShapeError and ExtraColumnError."""
    return _documents(X) if schema.rows == "documents" else _dicts(X, schema)


def special_row(row: Any, schema: Schema) -> bool:
    """Whether ``row`` is one whole row by itself: a document, or a dict."""
    if schema.rows == "documents":
        return row is None or isinstance(row, (str, float))
    return isinstance(row, Mapping)


def _documents(X: Any) -> tuple[int, list[Any]] | None:
    if isinstance(X, str):
        raise ShapeError("the rows are a single string", "pass a list of documents, or call predict_one(document)")
    if any(is_from(X, *names) for names in _ONE_DIMENSION):
        return len(X), [X]
    if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype.names is None:
        return len(X), [X]
    if isinstance(X, (list, tuple)) and X and not isinstance(X[0], (Mapping, list, tuple, np.ndarray)):
        return len(X), [X]
    return None


def _dicts(X: Any, schema: Schema) -> tuple[int, list[Any]] | None:
    if isinstance(X, np.ndarray) and X.ndim == 1 and X.dtype == object:
        X = X.tolist()
    if not isinstance(X, (list, tuple)) or not X or not isinstance(X[0], Mapping):
        return None
    known = set(schema.names)
    for at, row in enumerate(X):
        if not isinstance(row, Mapping):
            raise ShapeError(f"row {at} is of type {type(row).__name__}, row 0 is a dict", "pass rows of one form")
        if schema.extra == "refused" and not row.keys() <= known:
            extra = min(map(str, row.keys() - known))
            raise ExtraColumnError(
                f"row {at} has the key {extra!r}, which no row of the sample had",
                "compile the pipeline with a sample that has every key, or leave this one out",
            )
        for column in () if schema.extra == "ignored" else schema.columns:
            value = row.get(column.name, "")
            if value is None or type(value).__name__ == "NAType" or (column.kind == "string" and value != value):
                raise InputError(
                    f"row {at} has the value {value} for the key {column.name!r}, which has no hash",
                    "leave the key out of the dict",
                )
    absent = [None if column.kind == "string" else 0.0 for column in schema.columns]
    return len(X), [[row.get(c.name, nothing) for row in X] for c, nothing in zip(schema.columns, absent, strict=True)]
