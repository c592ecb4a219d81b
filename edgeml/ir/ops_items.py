"""Ops over cells that hold several items each: names and values, counted by vocabulary or by hash.

A cell is a text, the JSON of a list whose entries are a name, which counts 1, or a name and its value: a number, a
string or a list of strings, which count 1 under a name of their own, or null (runtimes/item_rows.py makes it). As in
``ops_text``, whose tables these ops stand in, results have few nonzero cells.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from edgeml.errors import InputError, ProgramError
from edgeml.ir.ops_text import Attrs, Types, check_vocabulary, counts, places, rows_of, source
from edgeml.ir.program import ValueType
from edgeml.ir.sparse import Sparse
from edgeml.ir.table import Array
from edgeml.ir.text import hashed


def _check(types: Types) -> None:
    if types[0] != ValueType("string", 1):
        raise ProgramError(f"items are those of one column of texts, got {types[0]}")


def _infer_hashed(types: Types, attrs: Attrs) -> ValueType:
    _check(types)
    return counts(attrs["dtype"], attrs["columns"])


def _infer_counted(types: Types, attrs: Attrs) -> ValueType:
    _check(types)
    check_vocabulary(attrs["vocabulary"])
    if not isinstance(attrs["separator"], str):
        raise ProgramError("a separator is a string")
    return counts(attrs["dtype"], len(attrs["vocabulary"]))


def _added(x: Array, width: int, dtype: str, terms: Callable[[str, Any], Iterable[tuple[int, Any]]]) -> Sparse:
    """The numbers that ``terms`` makes of each name and value, added up in their columns; each number and each sum is
    one of ``dtype``. Raises InputError for a cell of another form.
    """
    exact: Any = {"int64": _whole, "float64": float}.get(dtype, np.float32)
    rows: list[dict[int, Any]] = []
    for at, cell in enumerate(x[:, 0]):
        row: dict[int, Any] = {}
        try:
            with np.errstate(over="ignore", invalid="ignore"):  # infinities are added up, as scikit-learn does
                for entry in json.loads(cell):
                    name, value = (entry, 1) if isinstance(entry, str) else entry
                    for column, number in terms(name, value):
                        row[column] = row.get(column, 0) + exact(number)
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            raise InputError(
                f"row {at}: {cell!r:.60} cannot be added up as {dtype}",
                "give each name a number or a string",
            ) from None
        rows.append(row)
    return rows_of(rows, width, dtype)


def _whole(number: Any) -> int:
    """Without what is behind the point. Raises OverflowError beyond 2**53, above which floats leave integers out."""
    whole = int(number)
    if abs(whole) > 2**53:
        raise OverflowError
    return whole


@source("HashedItems", _infer_hashed, {"columns": "int", "signed": "bool", "dtype": "str"})
def hashed_items(x: Array, columns: int, signed: bool, dtype: str) -> Sparse:
    """Values added up by the hash of their name, of a string by that of ``name=string``, times its sign where
    ``signed``. Null and lists are refused.
    """

    def terms(name: str, value: Any) -> Iterable[tuple[int, Any]]:
        if isinstance(value, str):
            name, value = f"{name}={value}", 1
        column, sign = hashed(name, columns)
        return ((column, value * sign if signed else value),)

    return _added(x, columns, dtype, terms)


@source("CountedItems", _infer_counted, {"vocabulary": "keys", "separator": "str", "dtype": "str"})
def counted_items(x: Array, vocabulary: tuple[str, ...], separator: str, dtype: str) -> Sparse:
    """Values added up by name, strings and those of lists by name, separator and string; null is NaN. What the
    vocabulary lacks is left out.
    """
    known = places(vocabulary)

    def terms(name: str, value: Any) -> Iterable[tuple[int, Any]]:
        if isinstance(value, (str, list)):
            parts = [value] if isinstance(value, str) else value
            found = [known.get(f"{name}{separator}{part}") for part in parts]
            return [(column, 1) for column in found if column is not None]
        return ((known[name], np.nan if value is None else value),) if name in known else ()

    return _added(x, len(vocabulary), dtype, terms)
