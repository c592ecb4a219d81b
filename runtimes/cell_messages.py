"""The words of errors about a cell that an application handed to a model: where it is, what it is, what is due instead.

``cells.py`` raises them; nothing here looks at more than the cell at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from edgeml.errors import ColumnTypeError
from edgeml.ir.table import Array
from edgeml.schema import Kind

_SHOWN = 80  # characters of a cell in a message


def place_of(names: Sequence[str], shape: tuple[int, ...], flat: int) -> str:
    width = shape[1] if len(shape) == 2 else 1
    return f"column {names[flat % width]!r}, row {flat // width}"


def shown(cell: Any) -> str:
    """A cell for a message: not all of a string of megabytes, and whatever its own class makes of it."""
    try:
        text = repr(cell[:_SHOWN] if isinstance(cell, (str, bytes)) else cell)
    except Exception:  # an object of the application: its fault must not hide which column it is in
        return "the cell"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def refuse_cell(values: Array, wrong: Array, names: Sequence[str], why: str, remedy: str) -> NoReturn:
    at = int(np.flatnonzero(wrong)[0])
    raise ColumnTypeError(f"{place_of(names, values.shape, at)}: {values.flat[at]!s} {why}", remedy)


def with_article(t: type) -> str:
    return f"{'an' if t.__name__[0] in 'aeiou' else 'a'} {t.__name__}"


def due(kind: Kind) -> str:
    return {
        "float64": "a number is due",
        "float32": "a number is due",
        "int64": "an integer is due",
        "bool": "true or false is due",
        "string": "a string is due (scikit-learn never finds a number equal to a str category)",
    }[kind]


def remedy_for(kind: Kind) -> str:
    return {
        "float64": "convert the column to numbers first",
        "float32": "convert the column to numbers first",
        "int64": "put a float column into the sample and compile again, or repair the rows",
        "bool": "put a float column into the sample and compile again, or repair the rows",
        "string": "pass the column as str, None or NaN; convert numbers as they were converted at training",
    }[kind]
