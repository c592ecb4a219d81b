"""Cells of several items each, as FeatureHasher and DictVectorizer take them: lists of strings or of pairs, dicts.

In comes a column of such cells, out goes one text a cell: the JSON of a list whose entries are a name, or a name and
its value, which is a number, a string, a list of strings or null. A program has columns of strings only, and reads
that form (edgeml/ir/ops_items.py). Called by ``frames`` at run time and by the compiler for the sample.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

import numpy as np

from edgeml.errors import ColumnTypeError
from edgeml.runtimes.cells import Array, is_from
from edgeml.schema import ITEMS, Items

_ADVICE = {
    "tokens": "give each row a list of strings, such as ['red', 'round']",
    "pairs": "give each row a list of pairs of a string and a number or a string, such as [('size', 3.5)]",
    "dicts": "give each row a dict of names to numbers, strings or lists of strings: {'size': 3.5, 'hue': 'red'}",
}
# What Python's float() takes of these, scikit-learn does not.
_NO_NUMBERS = (bytes, bytearray, complex, np.complexfloating)


def item_texts(column: Any, name: str, items: Items) -> Array:
    """The text of each cell, an object array (rows,). Raises ColumnTypeError naming the row of what is no such cell."""
    cells = item_cells(column, items)
    texts = np.empty(len(cells), dtype=object)
    for at, cell in enumerate(cells):
        try:
            texts[at] = json.dumps(_entries(cell, items))
        except _Refused as error:
            raise ColumnTypeError(f"column {name!r}, row {at}: {error}", _ADVICE[items]) from None
    return texts


def item_cells(column: Any, items: Items) -> list[Any]:
    """The cells of a column as Python has them. Of Arrow and polars, which have no tuples, structs of two fields are
    pairs, and fields of a struct that are null are keys a dict has not.
    """
    if is_from(column, "polars", "Series"):
        cells = column.to_list()
    elif is_from(column, "pyarrow", "Array", "ChunkedArray"):
        cells = column.to_pylist()
    else:
        return list(column)
    if items == "dicts":
        return [None if c is None else {k: v for k, v in dict(c).items() if v is not None} for c in cells]
    if items == "pairs":
        return [c and [tuple(p.values()) if isinstance(p, dict) else p for p in c] for c in cells]
    return list(cells)


def items_of(cell: Any) -> Items | None:
    """What a cell of a frame's column looks like: the kind of its items; None for a cell of any other kind."""
    if isinstance(cell, Mapping):
        return "dicts"
    if not isinstance(cell, (list, tuple, set, frozenset, np.ndarray)):
        return None
    kinds = {_kind(entry) for entry in cell}
    found: Items | None = kinds.pop() if len(kinds) == 1 else None
    return found if kinds or found else ("tokens" if not len(cell) else None)


def _kind(entry: Any) -> Items | None:
    if isinstance(entry, (str, bytes)):
        return "tokens"
    return "pairs" if isinstance(entry, (list, tuple)) and len(entry) == 2 else None


class _Refused(Exception):
    """Says what is wrong with a cell."""


def _entries(cell: Any, items: Items) -> list[Any]:
    fits = isinstance(cell, Iterable) and not isinstance(cell, (str, bytes))
    if not fits or isinstance(cell, Mapping) != (items == "dicts"):
        _refuse(cell, f"is a {type(cell).__name__}; {ITEMS[items]} are due")
    if items == "tokens":
        return [_name(token) for token in cell]
    entries: list[Any] = []
    for entry in cell.items() if items == "dicts" else cell:
        try:
            name, value = entry
        except (TypeError, ValueError):
            _refuse(entry, "is not a pair")
        if isinstance(value, str):
            entries.append((_name(str(name)), _name(value)))
        elif value is None:
            entries.append((_name(str(name)), None))
        elif isinstance(value, Iterable) and not isinstance(value, (bytes, bytearray, Mapping)):
            entries.append((_name(str(name)), [_name(part) for part in value]))
        else:
            number = _number(value)
            if number == 0:  # of which scikit-learn does not even hash the name
                continue
            # What no string is has no hash, and is not in a vocabulary: null is the name of both.
            known = items != "dicts" or isinstance(name, (str, bytes))
            entries.append((_name(name) if known else None, number))
    return entries


def _name(name: Any) -> str:
    if isinstance(name, bytes):
        try:
            return name.decode()
        except UnicodeDecodeError:
            _refuse(name, "is no UTF-8")
    if not isinstance(name, str):
        _refuse(name, f"is a {type(name).__name__}, and only a string has a hash")
    try:
        name.encode()
    except UnicodeEncodeError:
        _refuse(name, "has half of a surrogate pair, which scikit-learn refuses too")
    return name


def _number(value: Any) -> float:
    if not isinstance(value, _NO_NUMBERS):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    _refuse(value, f"is a {type(value).__name__}; a number, a string or a list of strings is due as a value")


def _refuse(value: Any, why: str) -> NoReturn:
    raise _Refused(f"{value!r:.60} {why}")
