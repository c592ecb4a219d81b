"""What the text cells of a CSV file mean: by the schema of a compiled model, or by their looks where there is
none yet.

An empty cell is missing. A column is numbers when every cell is one; words such as ``NA`` count as
missing there and only there, so a country called NA stays a string. A number does not start with a zero
it does not need: ``007`` is a name, and its column stays strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.errors import ColumnTypeError

Array = npt.NDArray[Any]
CellKind = Literal["float64", "int64", "bool", "string"]
CELL_KINDS: tuple[CellKind, ...] = ("float64", "int64", "bool", "string")

MISSING = frozenset(("", "na", "nan", "n/a", "null", "none", "<na>", "#n/a"))
_BOOLS = {"true": True, "false": False}
_DIGITS = {"1": True, "0": False}
_PLAIN_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_EXPONENT = r"(?:[eE][+-]?[0-9]+)?"
_SPECIAL = r"|[+-]?(?:inf|infinity|nan)"
_PLAIN_REAL = re.compile(
    rf"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+){_EXPONENT}{_SPECIAL}", re.ASCII | re.IGNORECASE
)
_REAL = re.compile(rf"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+){_EXPONENT}{_SPECIAL}", re.ASCII | re.IGNORECASE)
_INT64 = range(-(2**63), 2**63)


def infer(cells: Sequence[str]) -> Any:
    """A column of a sample: int64, float64 or bool array, or an object array of str and NaN."""
    present = [text for cell in cells if (text := cell.strip()).lower() not in MISSING]
    complete = len(present) == len(cells)
    if all(map(_PLAIN_REAL.fullmatch, present)):
        if complete and all(map(_PLAIN_INTEGER.fullmatch, present)):
            integers = [int(text) for text in present]
            # An id of twenty digits is no number: float64 would merge it with its neighbours.
            if integers and not all(value in _INT64 for value in (min(integers), max(integers))):
                return _strings(cells, float("nan"))
            return np.array(integers, dtype=np.int64)
        return np.array([_real(cell) for cell in cells], dtype=np.float64)
    if present and all(text.lower() in _BOOLS for text in present):
        bools = [_BOOLS.get(cell.strip().lower(), float("nan")) for cell in cells]
        return np.array(bools, dtype=bool if complete else object)
    return _strings(cells, float("nan"))


def parse(
    cells: Sequence[str],
    kind: str,
    name: str,
    *,
    null: object = float("nan"),
    where: str = "row",
    first: int = 0,
) -> Array:
    """Cells as ``kind``. Raises ColumnTypeError naming the column and, counted from ``first``, the row or
    line.
    """
    if kind == "string":
        return _strings(cells, null)
    convert, due = _PARSERS["float64" if kind == "float32" else kind]
    values: list[Any] = []
    for at, cell in enumerate(cells):
        value = convert(cell.strip())
        if value is None:
            raise ColumnTypeError(
                f"column {name!r} holds {cell[:40]!r} ({where} {first + at}), where {due} is due",
                "correct the file; an empty cell means missing, which only float64 and string columns can be",
            )
        values.append(value)
    with np.errstate(over="ignore"):  # float32 has an infinity for what is beyond it
        return np.array(values, dtype=kind)


def _strings(cells: Sequence[str], null: object) -> Array:
    out = np.empty(len(cells), dtype=object)
    out[:] = [cell if cell else null for cell in cells]
    return out


def _real(text: str) -> float | None:
    text = text.strip()
    if text.lower() in MISSING:
        return float("nan")
    # float() alone would take 1_000 and Arabic digits.
    return float(text) if _REAL.fullmatch(text) else None


def _integer(text: str) -> int | None:
    if _INTEGER.fullmatch(text):
        value = int(text)
    elif _REAL.fullmatch(text) and float(text).is_integer():
        value = int(float(text))  # 3.0, as a spreadsheet writes it
    else:
        return None
    return value if value in _INT64 else None


def _bool(text: str) -> bool | None:
    return _BOOLS.get(text.lower(), _DIGITS.get(text))


_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "float64": (_real, "a number"),
    "int64": (_integer, "a whole number"),
    "bool": (_bool, "true or false"),
}
