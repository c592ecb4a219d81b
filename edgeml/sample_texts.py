"""Samples whose rows are not rows of a table: documents, as text vectorisers take them, and dicts with keys of their
own, as DictVectorizer and FeatureHasher do.

``read_sample`` (sample.py) asks here first; None means that X is a table. Rows stay objects of a one-dimensional array,
which scikit-learn takes as it takes any sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.errors import SampleError
from edgeml.schema import Column, ColumnKind, Schema

DOCUMENT = "text"  # the column of documents that have no name
_OF_DOCUMENTS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
_OF_DICTS = ("DictVectorizer", "FeatureHasher")


def texts_or_dicts(pipeline: Any, X: Any) -> tuple[Any, Schema] | None:
    """Rows and schema where X holds documents or dicts for the pipeline. Raises SampleError where they do not fit."""
    head = type(_head(pipeline)).__name__
    if head in _OF_DICTS:
        return _dicts(_head(pipeline), X)
    # A command reads tables alone; of one column, it is that column's documents.
    lonely = head in _OF_DOCUMENTS and hasattr(X, "columns") and len(X.columns) == 1
    found = _documents(X[X.columns[0]] if lonely and hasattr(X, "iloc") else X)
    if found is None and head in _OF_DOCUMENTS:
        raise SampleError(
            f"{head} takes documents, and the sample is a {type(X).__name__} that is no sequence of strings",
            "pass a list or a Series of strings, such as X['text']",
        )
    return found


def _head(est: Any) -> Any:
    """The estimator that is first given the rows."""
    for name in ("best_estimator_", "estimator_"):
        if hasattr(est, name):
            return _head(getattr(est, name))
    steps = getattr(est, "steps", None) or getattr(est, "transformer_list", None)
    for step in steps or ():
        if step[1] is not None and not isinstance(step[1], str):
            return _head(step[1])
    return est


# --- documents ------------------------------------------------------------------------------------------------------
def _documents(X: Any) -> tuple[Any, Schema] | None:
    cells = _cells(X)
    if cells is None:
        return None
    present = [cell for cell in cells.tolist() if not _missing(cell)]
    if not present or not all(isinstance(cell, str) for cell in present):
        return None
    name = getattr(X, "name", None)
    column = Column(name if isinstance(name, str) and name else DOCUMENT, "string")
    return cells, Schema("columns", (column,), rows="documents")


def _cells(X: Any) -> Any:
    """X as an array of objects, None where it has not one dimension."""
    library = type(X).__module__.partition(".")[0]
    if library in ("polars", "pyarrow"):
        X = None if hasattr(X, "columns") else X.to_pylist() if library == "pyarrow" else X.to_list()
    if isinstance(X, (list, tuple)):
        plain = not any(isinstance(cell, (Mapping, list, tuple, np.ndarray)) for cell in X)
        return np.fromiter(X, dtype=object, count=len(X)) if plain else None
    if getattr(X, "ndim", 0) != 1 or getattr(X.dtype, "names", None):
        return None
    return np.asarray(X, dtype=object)


def _missing(cell: Any) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell) or type(cell).__name__ == "NAType"


# --- dicts ----------------------------------------------------------------------------------------------------------
def _dicts(head: Any, X: Any) -> tuple[Any, Schema]:
    rows = list(X) if isinstance(X, (Sequence, np.ndarray)) and not isinstance(X, str) else []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise SampleError(
            f"{type(head).__name__} takes dicts, and the sample is a {type(X).__name__} that holds others",
            "pass a list of dicts, a row each; of a frame X.to_dict('records')",
        )
    kinds: dict[str, ColumnKind] = {}
    for row in rows:
        for key, value in row.items():
            if not isinstance(key, str):
                raise SampleError(f"the key {key!r:.60} of a dict is not a string", "use strings as keys")
            kind = _kind(key, value)
            if kind is not None and kinds.setdefault(key, kind) != kind:
                raise SampleError(
                    f"key {key!r} of the sample's dicts holds strings and numbers",
                    "use two keys, one for strings and one for numbers",
                )
            kinds.setdefault(key, kind or "float64")
    if not kinds:
        raise SampleError("the sample's dicts are empty", "pass dicts with the keys that the pipeline was fitted on")
    cells = np.empty(len(rows), dtype=object)
    cells[:] = rows
    columns = tuple(Column(key, kind) for key, kind in kinds.items())
    # What was not seen in fit means nothing to a DictVectorizer; a FeatureHasher hashes it.
    ignored = type(head).__name__ == "DictVectorizer"
    return cells, Schema("columns", columns, "ignored" if ignored else "refused", "dicts")


def _kind(key: str, value: Any) -> ColumnKind | None:
    """Kind of a value; None for None, which has the kind of the key's other values."""
    if value is None:
        return None
    if isinstance(value, str):
        return "string"
    if isinstance(value, (int, float, np.number, np.bool_)) and not isinstance(value, np.complexfloating):
        return "float64"
    raise SampleError(
        f"key {key!r} of the sample's dicts holds a {type(value).__name__}", "use a string or a number as a value"
    )
