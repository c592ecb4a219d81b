"""What the tests of string columns share: awkward words, every container that holds them, and a program over them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

from edgeml.ir import Builder, interpreter
from edgeml.runtimes.frames import read_columns, read_rows
from edgeml.schema import Column, Schema
from tests.native_tools import engine_of

# Lengths around those where the kernels read in another way, and words that differ in one byte only.
LENGTHS = (1, 2, 7, 8, 9, 11, 12, 13, 15, 16, 17, 23, 24, 25, 31, 32, 33, 64)
KNOWN = (
    "",
    "nan",
    "None",
    "é",
    "\U0001f600",
    "a\0",
    "a\0b",
    "A",
    *("x" * n for n in LENGTHS),
    *("x" * (n // 2) + "y" + "x" * (n - n // 2 - 1) for n in LENGTHS),
    *(f"airport {i}" for i in range(40)),
)
HALF = "\ud800"  # what Python calls a str and no Unicode encoding holds
UNHEARD = ("b", "xy", "X", "\0", "e\u0301", "y" * 8, "y" * 9, "z" * 16, "z" * 17, "x" * 14, "x" * 65, "airport 40 ")
# Not in the vocabulary either: the same first and last eight bytes as a word that is.
TWINS = tuple("x" * 8 + "zz" * (n // 2 - 8) + "x" * 8 for n in (18, 24, 32, 64))
MAYBE = (*KNOWN, *UNHEARD, *TWINS)


def words(rows, seed=0, nulls=True):
    """Known and unheard of words, and None."""
    rng = np.random.default_rng(seed)
    chosen = [MAYBE[i] for i in rng.integers(0, len(MAYBE), rows)]
    return [None if nulls and rng.random() < 0.1 else word for word in chosen]


def objects(cells):
    return np.fromiter(cells, dtype=object, count=len(cells))


def own(cells):
    """Each cell an object of its own, as a parser makes them that remembers nothing."""
    return objects([None if c is None else "".join(list(c)) for c in cells])


def _pandas(dtype):
    return lambda cells: pd.Series(cells, dtype=dtype)


def _dictionary(index):
    return lambda cells: pa.array(cells).dictionary_encode().cast(pa.dictionary(index, pa.string()))


def _chunks(cells):
    return [cells[:3], [], cells[3:10], cells[10:]]


def _sliced(array):
    """The same cells at an odd offset of longer buffers."""
    return lambda cells: array([None, "airport 1", None, *cells, "x", None])[3 : 3 + len(cells)]


# Containers whose strings the kernels read where they lie.
IN_BUFFERS = {
    "pandas str": _pandas("str"),
    "pandas string[pyarrow]": _pandas("string[pyarrow]"),
    "pandas arrow string": _pandas(pd.ArrowDtype(pa.string())),
    "pandas arrow large_string": _pandas(pd.ArrowDtype(pa.large_string())),
    "pandas arrow dictionary": lambda cells: pd.Series(
        pd.array(cells, dtype=pd.ArrowDtype(pa.string())).astype(pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string())))
    ),
    "pandas category": lambda cells: pd.Series(cells, dtype="str").astype("category"),
    "pandas category of objects": lambda cells: pd.Series(objects(cells), dtype=object).astype("category"),
    "pandas categorical index": lambda cells: pd.CategoricalIndex(cells),
    "pandas str, sliced": lambda cells: pd.Series(["x", None, "y", *cells], dtype="str").iloc[3:],
    "pandas str, labelled by numbers": lambda cells: pd.Series(
        cells, index=np.arange(len(cells))[::-1] / 2, dtype="str"
    ),
    "pandas str, concatenated": lambda cells: pd.concat(
        [pd.Series(part, dtype="str") for part in _chunks(cells)], ignore_index=True
    ),
    "polars": pl.Series,
    "polars categorical": lambda cells: pl.Series(cells, dtype=pl.Categorical),
    "polars enum": lambda cells: pl.Series(cells, dtype=pl.Enum(list(dict.fromkeys(MAYBE)))),
    "polars sliced": _sliced(lambda cells: pl.Series(cells)),
    "polars chunked": lambda cells: pl.concat([pl.Series(p, dtype=pl.String) for p in _chunks(cells)], rechunk=False),
    "arrow": lambda cells: pa.array(cells, pa.string()),
    "arrow large": lambda cells: pa.array(cells, pa.large_string()),
    "arrow view": lambda cells: pa.array(cells, pa.string_view()),
    "arrow sliced": _sliced(lambda cells: pa.array(cells, pa.string())),
    "arrow view sliced": _sliced(lambda cells: pa.array(cells, pa.string_view())),
    "arrow dictionary sliced": _sliced(_dictionary(pa.int8())),
    "arrow chunked": lambda cells: pa.chunked_array(_chunks(cells), pa.string()),
    "arrow chunked dictionary": lambda cells: pa.chunked_array(
        [pa.array(p, pa.string()).dictionary_encode() for p in _chunks(cells)]
    ),
    **{
        f"arrow dictionary {index}": _dictionary(index)
        for index in (pa.int8(), pa.uint8(), pa.int16(), pa.uint16(), pa.int32(), pa.uint32())
    },
}
# Containers whose strings are read as Python objects, or, when they are many, numbered by object first.
AS_OBJECTS = {
    "list": list,
    "objects": objects,
    "objects of their own": own,
    "pandas object": lambda cells: pd.Series(objects(cells), dtype=object),
    "pandas string[python]": _pandas("string[python]"),
    "pandas str in python": _pandas(pd.StringDtype("python", na_value=np.nan)),
    "arrow dictionary int64": _dictionary(pa.int64()),
}
CONTAINERS = IN_BUFFERS | AS_OBJECTS


def program():
    """Codes of column ``a`` are looked up, ``b`` is given back, ``c`` and ``d`` are compared; ``e`` is a number."""
    b = Builder()
    v = {name: b.input(name, "string") for name in "abcd"} | {"e": b.input("e", "float64")}
    keys = (*KNOWN, HALF, None, float("nan"))
    worth = b.take(b.lookup(v["a"], keys) + 1, np.arange(len(keys) + 1.0) ** 2)
    b.output("decision_function", [worth + v["e"]], "vector", "<f8")
    b.output("transform", [v["b"]], "matrix", "|O")
    b.output("predict", [b.take((v["c"] == v["d"]).cast("int64"), ("no", "yes"))], "vector", "<U3")
    return b.finish()


METHODS = ("decision_function", "transform", "predict")


def schema(null="none"):
    return Schema("columns", (*(Column(n, "string", True, null) for n in "abcd"), Column("e", "float64", True, "nan")))


def cells_of(rows, seed=0):
    """Lists of words by column."""
    return {name: words(rows, seed + at) for at, name in enumerate("abc")} | {
        "d": [c if at % 2 else d for at, (c, d) in enumerate(zip(words(rows, seed + 2), words(rows, 9), strict=True))]
    }


def same(engine, X, null="none", rows=None):
    """The engine, on columns as they lie in memory, gives what the interpreter gives for arrays of objects."""
    columns, _ = read_rows(X, schema(null))
    found, count = read_columns(X, schema(null), engine.text_library)
    expected = interpreter.run(program(), columns, METHODS)
    got = engine.run(found, count, METHODS)
    for method in METHODS:
        same_bits(got[method], expected[method])
    return found


def same_bits(got, want):
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype == object:
        for x, y in zip(got.ravel(), want.ravel(), strict=True):
            assert type(x) is type(y)
            assert x == y or (x != x and y != y)
    else:
        assert got.tobytes() == want.tobytes()


def engine(threads=1):
    return engine_of(program(), schema(), threads)
