"""What the tests of the single row share: cells and rows of every kind, hostile ones too, and ways to read them."""

from __future__ import annotations

from collections import OrderedDict, UserDict
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd

from edgeml.ir import Builder
from edgeml.runtimes import native_row
from tests.native_tools import engine_of

GOOD = {"float64": 1.5, "float32": 0.5, "int64": 3, "bool": True, "string": "a"}
NUMPY = (
    np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16, np.float32,
    np.float64, np.longdouble,
)  # fmt: skip


class Hostile:
    """Raises whatever one does with it."""

    def refuse(self, *_):
        raise RuntimeError("hands off")

    __float__ = __index__ = __int__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __repr__ = __str__ = refuse
    __lt__ = __getitem__ = __array__ = __getattr__ = refuse


HOSTILE = Hostile()


class Unhashable(str):
    __hash__ = None


class Float(float):
    pass


class Text(str):
    pass


class Int(int):
    pass


CELLS = [
    0.0, -0.0, 1.5, float("nan"), -float("nan"), float("inf"), -float("inf"), 5e-324, -1e-320, 1e308, 0.1, 2.0**53,
    2.0**62, 2.0**63, -(2.0**63), -(2.0**64), float(np.nextafter(2.0**63, 0)), float(np.nextafter(-(2.0**63), -1e300)),
    0.9999999999999999, float(np.float32(0.1)), 2.0**127, 2.0**128, 1e-45,
    0, 1, -1, 2, 3, 255, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64,
    2**1023, 10**308, 10**400, -(10**400),
    True, False, None, pd.NA, pd.NaT, Ellipsis,
    *(t(value) for t in NUMPY for value in (0, 1, 3)), np.float64("nan"), np.float32("nan"), np.float16("nan"),
    np.float64(-0.0), np.float32(0.1), np.float64(1e300), np.int64(-(2**63)), np.uint64(2**64 - 1), np.float32("inf"),
    np.int64(2**53 + 1), np.longdouble("0.1"), np.complex128(1), np.datetime64("2020-01-01"), np.str_("a"),
    np.bytes_(b"a"), np.array(1.5), np.array("a"), np.array([1.5]), np.array([1.5, 2.0]),
    Decimal("1.5"), Fraction(3, 2), 1j, Float(1.5), Float("nan"), Int(3), Text("a"), Text("new"), Unhashable("a"),
    "", "a", "b", "1.5", "3", "True", "nan", "None", "é", "\U0001f600", "a\0", "\ud800", "x" * 100_000,
    b"a", bytearray(b"a"), memoryview(b"a"), [1.0], ["a"], (1.0,), {}, {"a": 1}, set(), object(), float, HOSTILE,
]  # fmt: skip


class Missing(dict):
    def __missing__(self, key):
        return GOOD[key]


ROWS = [
    {}, [], (), None, 7, "abc", b"abc", object(), HOSTILE, [[1.0]], {"float64": 1.0},
    {k: v for k, v in GOOD.items() if k != "string"}, GOOD | {"more": 1}, GOOD | {1: 2},
    GOOD | {"unread": 1, "more": 2}, {k: v for k, v in GOOD.items() if k != "string"} | {"unread": 1},
    {k.upper(): v for k, v in GOOD.items()},
    list(GOOD.values()), [*GOOD.values(), 0, 0], tuple(GOOD.values()), [GOOD], np.array([1.0, 2.0]),
    OrderedDict(GOOD), UserDict(GOOD), Missing(), Missing(GOOD), pd.Series(GOOD), pd.DataFrame([GOOD]),
    dict(reversed(GOOD.items())), {"".join(list(k)): v for k, v in GOOD.items()}, {Text(k): v for k, v in GOOD.items()},
]  # fmt: skip


class Key:
    """Stands for a column's name, and calls ``act`` when it is compared."""

    def __init__(self, name, act):
        self.name, self.act = name, act

    def __hash__(self):
        return hash(self.name)

    def __eq__(self, other):
        self.act()
        return self.name == other


def names(cell):
    try:
        text = repr(cell[:20] if isinstance(cell, str) else cell)
    except RuntimeError:
        text = "hostile"
    return f"{type(cell).__name__} {text[:20]}"


class Ways:
    """The functions of one engine for one row, and how often the batch was asked."""

    def __init__(self, program, schema, method, monkeypatch):
        engine = engine_of(program, schema)
        self.asked = 0
        with monkeypatch.context() as patch:
            patch.setenv("EDGEML_FAST", "-one")
            self.batch = engine.one(method)
            patch.delenv("EDGEML_FAST")
            patch.setattr("edgeml.runtimes.native.generic_one", lambda *_: self.counted)
            self.compiled = engine.one(method)
            patch.setattr(native_row, "compiled_reader", lambda *_: None)
            self.python = engine.one(method)
        self.all = (self.compiled, self.python, self.batch)

    def counted(self, row):
        self.asked += 1
        return self.batch(row)


def outcome(one, row):
    """What can be compared of an answer, or of an error."""
    try:
        with np.errstate(all="raise"):
            answer = one(row)
    except Exception as error:  # what is raised is what is compared
        return type(error), str(error)
    cells = np.asarray(answer)
    if cells.dtype.kind == "f" and np.isnan(cells).all():
        return type(answer), cells.dtype, cells.shape, "nan"
    if cells.dtype.kind == "O":
        return type(answer), str(answer)
    return type(answer), cells.dtype, cells.shape, cells.tobytes()


def of_column(kind, distinct=False):
    """A program that answers with its one column: a number as it is, a text as its place among words."""
    b = Builder()
    x = b.input("x", kind)
    if kind == "string" and not distinct:
        x = b.lookup(x, ("a", "é", "\U0001f600", "", "a\0", None, float("nan")))
    dtype = {"float64": "<f8", "float32": "<f4", "int64": "<i8", "bool": "|b1", "string": "|O" if distinct else "<i8"}
    b.output("predict", [x], "vector", dtype[kind])
    return b.finish()
