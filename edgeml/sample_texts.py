"""Samples whose rows are not rows of a table: documents, as text vectorisers take them, dicts with keys of their own,
as DictVectorizer does, and rows of several items, as FeatureHasher does.

``read_sample`` (sample.py) asks here first; None means that X is a table. Rows stay objects of a one-dimensional array,
which scikit-learn takes as it takes any sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.errors import InputError, SampleError
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.item_rows import item_cells
from edgeml.runtimes.row_forms import decoded, special_rows
from edgeml.schema import ITEMS, Column, ColumnKind, Items, Schema, is_encoding

DOCUMENT = "text"  # the column of documents that have no name
_OF_DOCUMENTS = ("CountVectorizer", "TfidfVectorizer", "HashingVectorizer")
_ITEMS: dict[str, Items] = {"string": "tokens", "pair": "pairs", "dict": "dicts"}  # by input_type


def texts_or_dicts(pipeline: Any, X: Any) -> tuple[Any, Schema] | None:
    """Rows and schema where X holds documents or dicts for the pipeline. Raises SampleError where they do not fit."""
    first = _head(pipeline)
    head = type(first).__name__
    # A command reads tables alone; of one column, it is that column's documents.
    if head in (*_OF_DOCUMENTS, "FeatureHasher") and hasattr(X, "iloc") and hasattr(X, "columns") and X.shape[1] == 1:
        X = X[X.columns[0]]
    if head == "FeatureHasher":
        return _items(head, _ITEMS[first.input_type], X)
    if head == "DictVectorizer":
        return _dicts(first, X)
    found = _documents(X, first) if head in _OF_DOCUMENTS else _documents(X)
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
def _documents(X: Any, vectorizer: Any = None) -> tuple[Any, Schema] | None:
    cells, encoding = _cells(X), None
    if cells is None:
        return None
    if vectorizer is not None and any(isinstance(cell, bytes) for cell in cells):
        encoding = (vectorizer.encoding, vectorizer.decode_error)
        if not is_encoding(encoding[0]):
            raise SampleError(
                f"{type(vectorizer).__name__}(encoding={encoding[0]!r}) decodes by a codec that models do not take",
                "decode the documents before the pipeline, and pass strings",
            )
        try:
            cells = decoded(cells, *encoding)
        except InputError as error:
            raise SampleError(error.cause, error.remedy) from None
    present = [cell for cell in cells.tolist() if not _missing(cell)]
    if not present or not all(isinstance(cell, str) for cell in present):
        return None
    name = getattr(X, "name", None)
    column = Column(name if isinstance(name, str) and name else DOCUMENT, "string")
    return cells, Schema("columns", (column,), rows="documents", encoding=encoding)


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


# --- items ----------------------------------------------------------------------------------------------------------
def _items(head: str, items: Items, X: Any) -> tuple[Any, Schema]:
    name = getattr(X, "name", None)
    name = name if isinstance(name, str) and name else items
    schema = Schema("columns", (Column(name, "string", items=items),), rows="documents")
    try:
        found = special_rows(X, schema)
        if found is None:
            raise SampleError(
                f"{head} takes {ITEMS[items]}, a row each, and the sample is a {type(X).__name__} that holds others",
                "pass a list of rows, or a Series of them such as X['tags']; of a frame X.to_dict('records')",
            )
        read_rows(X, schema)
    except InputError as error:
        raise SampleError(f"{head} takes {ITEMS[items]}, a row each: {error.cause}", error.remedy) from None
    rows = item_cells(found[1][0], items)
    cells = np.empty(len(rows), dtype=object)
    for at, cell in enumerate(rows):
        cells[at] = cell
    return cells, schema


# --- dicts ----------------------------------------------------------------------------------------------------------
def _dicts(head: Any, X: Any) -> tuple[Any, Schema]:
    rows = list(X) if isinstance(X, (Sequence, np.ndarray)) or hasattr(X, "iloc") else []
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise SampleError(
            f"{type(head).__name__} takes dicts, and the sample is a {type(X).__name__} that holds others",
            "pass a list of dicts, a row each; of a frame X.to_dict('records')",
        )
    kinds = _kinds(rows)
    if kinds is None or not _covered(head, kinds):
        return _items(type(head).__name__, "dicts", X)
    cells = np.empty(len(rows), dtype=object)
    cells[:] = rows
    columns = tuple(Column(key, kind) for key, kind in kinds.items())
    return cells, Schema("columns", columns, "ignored", "dicts")


def _kinds(rows: Sequence[Mapping[Any, Any]]) -> dict[str, ColumnKind] | None:
    """The kind of each key, by which it is a column; None where a key has several, or lists as values."""
    kinds: dict[str, ColumnKind | None] = {}
    for row in rows:
        for key, value in row.items():
            kind = _kind(value)
            if not isinstance(key, str) or kind == "any":
                return None
            known = kinds.get(key)
            if kind is not None and known not in (None, kind):
                return None
            kinds[key] = kind or known
    return {key: kind or "float64" for key, kind in kinds.items()}


def _covered(head: Any, kinds: Mapping[str, ColumnKind]) -> bool:
    """Whether columns of these kinds have every feature of the fitted DictVectorizer, and none is of two columns."""
    separator, features = head.separator, set(head.feature_names_)
    if not kinds or not all(isinstance(f, str) for f in features):
        return False
    numbers = features & {key for key, kind in kinds.items() if kind != "string"}
    texts = [key for key, kind in kinds.items() if kind == "string"]
    owners = {f: sum(f.startswith(f"{key}{separator}") for key in texts) for f in features}
    return features.isdisjoint(texts) and all(owners[f] + (f in numbers) == 1 for f in features)


def _kind(value: Any) -> ColumnKind | None:
    """Kind of a value; None for None, which has the kind of the key's other values; "any" for what is no cell."""
    if value is None:
        return None
    if isinstance(value, str):
        return "string"
    number = isinstance(value, (int, float, np.number, np.bool_)) and not isinstance(value, np.complexfloating)
    return "float64" if number else "any"
