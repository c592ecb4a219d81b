"""Makes functions of Python out of the kernels' row reader (kernels/row_entry.py): a call of one costs 30 ns, where
ctypes takes 150 to 250.

In come a library of kernels, what the columns of a row are, a buffer, and what makes the answer; out goes a builtin
function of one row, or None where this Python is not the one the reader was written for: then native_row.py, the only
caller, uses its way in Python alone. Python's and NumPy's objects are only ever trusted after a look at one of each.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from edgeml.ir.table import Array
from edgeml.runtimes.kernels.constants import address, aligned
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.kernels.row_layout import SIGNATURES, TYPE_OFFSET, VALUE_OFFSET, Kind, Python, Record, Row
from edgeml.runtimes.native_code import Workspace
from edgeml.schema import Kind as ColumnKind

KINDS: Mapping[ColumnKind, Kind] = {
    "float64": Kind.NUMBER,
    "float32": Kind.NUMBER,
    "int64": Kind.INTEGER,
    "bool": Kind.BOOLEAN,
    "string": Kind.TEXT,
}
_NO_ORDER = -1  # of keys: no dict has that many
_FLAGS = 0x0080 | 0x0002  # METH_FASTCALL | METH_KEYWORDS, of CPython's methodobject.h
_SCALARS = {
    Python.FLOAT64: (np.float64(1.25), ctypes.c_double),
    Python.FLOAT32: (np.float32(1.25), ctypes.c_float),
    Python.INT64: (np.int64(-7), ctypes.c_int64),
}
_TYPES = {
    Python.DICT: dict,
    Python.LIST: list,
    Python.TUPLE: tuple,
    Python.FLOAT: float,
    Python.INT: int,
    Python.STR: str,
    Python.NONE: None,
    Python.TRUE: True,
    Python.FALSE: False,
}


@dataclass(frozen=True, slots=True)
class RowColumn:
    """A column the program reads. ``codes``, ``unknown`` and ``none`` are for texts: see row_layout.Record."""

    name: str
    position: int
    kind: ColumnKind
    codes: dict[str, int] | None = None
    unknown: int = -1
    none: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What the addresses in a reader's context point to: ``reader.__self__[1]``, so that all of it lives as long."""

    library: Library
    columns: Sequence[RowColumn]
    space: Workspace
    first: int
    finish: Callable[[], Any]
    slow: Callable[[Any], Any]
    learn: Callable[[Any], None]
    strings: Sequence[str]
    arrays: Sequence[Array]


class _Definition(ctypes.Structure):
    """PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def compiled_reader(
    library: Library,
    method: str,
    columns: Sequence[RowColumn],
    unused: Mapping[str, int],
    width: int,
    space: Workspace,
    first: int,
    finish: Callable[[], Any],
    slow: Callable[[Any], Any],
) -> Callable[[Any], Any] | None:
    """A function of one row. The cells of ``columns`` go to ``space.scratch`` from cell ``first`` on, side by side.

    ``width`` is how long a list or tuple must be, ``unused`` are names that a dict may have and need not, with their
    positions, ``finish()`` makes the answer from ``space``, and ``slow(row)`` takes what the reader does not. None
    where it cannot be made.
    """
    if not _fill(library):
        return None
    names, others = [sys.intern(c.name) for c in columns], [sys.intern(name) for name in unused]
    records = np.zeros((len(columns), len(Record)), dtype=np.int64)
    for record, name, column in zip(records, names, columns, strict=True):
        codes = 0 if column.codes is None else id(column.codes)
        record[:] = id(name), column.position, KINDS[column.kind], codes, column.unknown, column.none
    addresses = np.array([id(name) for name in others], dtype=np.int64)
    context, order = aligned(len(Row)), np.zeros((3, width), dtype=np.int64)
    learn = _learner(context, order, {c.name: c.position for c in columns} | dict(unused), frozenset(names))
    fields = {
        Row.CALL: space.pointer.value,
        Row.CELLS: address(space.scratch) + space.scratch.itemsize * first,
        Row.SLOW: id(slow),
        Row.FINISH: id(finish),
        Row.COLUMNS: len(columns),
        Row.WIDTH: width,
        Row.UNUSED: len(others),
        Row.NAMES: address(addresses),
        Row.RECORDS: address(records),
        Row.KEYS: address(order[0]),
        Row.TARGETS: address(order[1]),
        Row.VALUES: address(order[2]),
        Row.LEARN: id(learn),
    }
    for field, value in fields.items():
        context[field] = value
    arrays = (records, addresses, context, order)
    kept = Kept(library, columns, space, first, finish, slow, learn, (*names, *others), arrays)
    definition = _definition(library.row, f"{method}_one".encode())
    function: Callable[[Any], Any] = _new_function()(ctypes.addressof(definition), (address(context), kept), __name__)
    return function


def _learner(context: Array, order: Array, positions: Mapping[str, int], used: frozenset[str]) -> Callable[[Any], None]:
    """A function that writes down the order of a dict's keys, in which the reader will find them again by identity.

    ``order`` has the keys' addresses, the positions of their cells, and room for the cells. The reader calls it with a
    dict it has read, while no other call can read ``order``.
    """
    held: list[str] = []  # else another string could come to lie where a key was
    context[Row.ORDER] = _NO_ORDER

    def learn(row: dict[Any, Any]) -> None:
        keys = list(row)
        context[Row.ORDER] = _NO_ORDER
        # The row may have changed since it was read, by a key's __eq__, a finaliser or another thread.
        if all(type(key) is str for key in keys) and used.issubset(keys) and positions.keys() >= set(keys):
            order[0, : len(keys)] = [id(key) for key in keys]
            order[1, : len(keys)] = [positions[key] for key in keys]
            held[:] = keys
            context[Row.ORDER] = len(keys)

    return learn


@cache
def _definition(function: int, name: bytes) -> _Definition:
    """Kept for the life of the process: functions point to it."""
    return _Definition(name, function, _FLAGS, name + b"(row)\n--\n\nThe answer for one raw row.")


@cache
def _new_function() -> Any:
    """PyCFunction_NewEx under a prototype of our own: that of ``ctypes.pythonapi`` is everyone's."""
    prototype = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.py_object)
    return prototype(("PyCFunction_NewEx", ctypes.pythonapi))


def _fill(library: Library) -> bool:
    """Fill the library's table with this Python's addresses; whether the reader may run on it."""
    addresses = _addresses()
    if addresses is None:
        return False
    table = (ctypes.c_int64 * len(Python)).from_address(library.python)
    for at, value in enumerate(addresses):
        table[at] = value
    return True


@cache
def _addresses() -> list[int] | None:
    """The table for this Python, None where objects lie otherwise than the reader believes or no GIL orders calls."""
    pointers = ctypes.sizeof(ctypes.c_void_p) == 8 and sys.byteorder == "little"
    if sys.implementation.name != "cpython" or sysconfig.get_config_var("Py_GIL_DISABLED") or not pointers:
        return None
    if object.__basicsize__ != VALUE_OFFSET or not _lies(1.25, ctypes.c_double):
        return None
    found = dict.fromkeys(Python, 0)
    for name in SIGNATURES:
        if not hasattr(ctypes.pythonapi, name):
            return None
        found[Python[name]] = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0
    found |= {name: id(thing) for name, thing in _TYPES.items()}
    # A type left at 0 matches no cell, which then takes the slower way.
    found |= {name: id(type(value)) for name, (value, ctype) in _SCALARS.items() if _lies(value, ctype)}
    return [found[name] for name in Python]


def _lies(value: Any, ctype: Any) -> bool:
    """Whether an object's type and value lie where the reader reads them."""
    kind = ctypes.c_void_p.from_address(id(value) + TYPE_OFFSET).value
    size = type(value).__basicsize__
    return (
        kind == id(type(value))
        and size >= VALUE_OFFSET + ctypes.sizeof(ctype)
        and bool(ctype.from_address(id(value) + VALUE_OFFSET).value == value)
    )


def column_codes(cells: Mapping[Any, int]) -> dict[str, int]:
    """The codes of strings alone: a dict of nothing but str is looked up fastest, and by no code of others."""
    return {cell: code for cell, code in cells.items() if type(cell) is str}
