"""What a model's input looks like: the columns, their kinds, and whether the program reads them.

The schema is fixed by the sample at compile time, stored in the bundle as ``schema.json``, and decides how rows are
read at run time. Needs nothing but the standard library, so a device reads it as it is.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from edgeml.errors import ManifestError

Kind = Literal["float64", "float32", "int64", "bool", "string"]
KINDS: tuple[Kind, ...] = ("float64", "float32", "int64", "bool", "string")
# Kind "any": a raw column the pipeline never reads; it may hold anything and may be absent at run time.
ColumnKind = Literal["float64", "float32", "int64", "bool", "string", "any"]
# Missing cells of a string column.
Null = Literal["nan", "none", "both"]
# What a single row is.
DECODE_ERRORS = ("strict", "ignore", "replace")
_SLOW = ("idna", "punycode")
RowForm = Literal["table", "documents", "dicts"]
# What a cell of several items is, and how messages call a column of them.
Items = Literal["tokens", "pairs", "dicts"]
ITEMS: dict[Items, str] = {"tokens": "lists of strings", "pairs": "lists of pairs", "dicts": "dicts"}
# Of datetime64, as NumPy spells it.
Unit = Literal["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns"]
# Named columns that the pipeline was not fitted on.
Extra = Literal["refused", "ignored"]
# Name of the one input of a pipeline that was fitted on an array.
MATRIX = "X"


@dataclass(frozen=True, slots=True)
class Column:
    """One raw column. ``used`` is false when no output depends on it: then it may be absent at run time.

    ``null`` is the missing cell of a string column, as the sample had it: scikit-learn tells None from NaN,
    and a null of Arrow or polars, pandas.NA, or None in a dict or list (JSON's null) is neither. Where the sample
    had "both", None is None everywhere, and the nulls of the libraries are NaN.

    ``unit`` makes an int64 column one of dates and times: ticks since 1970, NaT the smallest int64.

    ``items`` makes a string column one of cells that hold several items, which a program reads as a text each
    (runtimes/item_rows.py).
    """

    name: str
    kind: ColumnKind
    used: bool = True
    null: Null = "nan"
    unit: Unit | None = None
    items: Items | None = None


@dataclass(frozen=True, slots=True)
class Schema:
    """``form`` "columns": one input a column, met by name. "matrix": one two-dimensional input, met by position.

    ``extra``: what is done with named columns beyond these. "ignored" where scikit-learn ignores them too, as a
    ColumnTransformer does; else "refused".

    ``rows`` "documents": a row is the cell of the one column: a string, as a vectoriser takes it, or several items, as
    a FeatureHasher does. "dicts": a row is a dict whose keys may be absent, and then mean 0 or, of strings, nothing.

    ``encoding``: how documents that are bytes are decoded, and what becomes of errors (``DECODE_ERRORS``).
    """

    form: Literal["columns", "matrix"]
    columns: tuple[Column, ...]
    extra: Extra = "refused"
    rows: RowForm = "table"
    encoding: tuple[str, str] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def kind(self) -> Kind:
        """dtype of a matrix schema."""
        return cast("Kind", self.columns[0].kind)

    def to_json(self) -> dict[str, Any]:
        return (
            {
                "form": self.form,
                "columns": [
                    {"name": c.name, "kind": c.kind, "used": c.used, "null": c.null}
                    | ({"unit": c.unit} if c.unit else {})
                    | ({"items": c.items} if c.items else {})
                    for c in self.columns
                ],
                "extra": self.extra,
            }
            | ({} if self.rows == "table" else {"rows": self.rows})
            | _of_encoding(self.encoding)
        )

    @classmethod
    def from_json(cls, data: Any) -> Schema:
        """Read ``schema.json``. Raises ManifestError naming what is wrong."""
        if not isinstance(data, Mapping) or data.get("form") not in ("columns", "matrix"):
            raise ManifestError("schema.json: form must be columns or matrix")
        extra = data.get("extra", "refused")
        if extra not in get_args(Extra):
            raise ManifestError("schema.json: extra must be refused or ignored")
        columns = data.get("columns")
        if not isinstance(columns, list) or not columns:
            raise ManifestError("schema.json: columns must be a list with at least one column")
        result: list[Column] = []
        for entry in columns:
            if (
                not isinstance(entry, Mapping)
                or not isinstance(entry.get("name"), str)
                or entry.get("kind") not in (*KINDS, "any")
                or not isinstance(entry.get("used"), bool)
                or entry.get("null", "nan") not in get_args(Null)
                or (entry["kind"] == "any" and entry["used"])
                or entry.get("unit") not in (None, *get_args(Unit))
                or (entry.get("unit") is not None and entry["kind"] != "int64")
                or entry.get("items") not in (None, *ITEMS)
                or (entry.get("items") is not None and entry["kind"] != "string")
            ):
                raise ManifestError(f"schema.json: malformed column {entry!r}")
            null, unit = entry.get("null", "nan"), entry.get("unit")
            result.append(Column(entry["name"], entry["kind"], entry["used"], null, unit, entry.get("items")))
        if len({c.name for c in result}) != len(result):
            raise ManifestError("schema.json: two columns have one name")
        if data["form"] == "matrix" and len({c.kind for c in result}) != 1:
            raise ManifestError("schema.json: the columns of a matrix must have one kind")
        rows = data.get("rows", "table")
        if rows not in get_args(RowForm) or (rows != "table" and data["form"] == "matrix"):
            raise ManifestError("schema.json: rows must be table, documents or dicts, the latter two of columns")
        if rows == "documents" and [c.kind for c in result] != ["string"]:
            raise ManifestError("schema.json: documents are one column of strings")
        return cls(data["form"], tuple(result), extra, rows, _encoding(data.get("encoding"), rows))


def _of_encoding(encoding: tuple[str, str] | None) -> dict[str, Any]:
    return {} if encoding is None else {"encoding": list(encoding)}


def _encoding(given: Any, rows: str) -> tuple[str, str] | None:
    if given is None:
        return None
    if rows != "documents" or not isinstance(given, list) or len(given) != 2 or given[1] not in DECODE_ERRORS:
        raise ManifestError("schema.json: encoding must be a codec and strict, ignore or replace, of documents")
    if not is_encoding(given[0]):
        raise ManifestError(f"schema.json: {given[0]!r:.40} is no encoding of texts")
    return given[0], given[1]


def is_encoding(name: Any) -> bool:
    """Whether Python decodes bytes to strings by this name, in a time linear in them."""
    try:
        # Those of host names take a time that grows with the square, and others such as zip give no strings.
        return (
            isinstance(name, str)
            and codecs.lookup(name).name not in _SLOW
            and isinstance(b"a".decode(name, "ignore"), str)
        )
    except (LookupError, ValueError):  # ValueError: a name with a NUL
        return False
