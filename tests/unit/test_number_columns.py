"""Numeric columns in chunks or with nulls beside them: the same numbers as arrays that were made of them first."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from edgeml.errors import ShapeError
from edgeml.ir import Builder, interpreter
from edgeml.runtimes.frames import read_columns, read_rows
from edgeml.runtimes.kernels import library
from edgeml.runtimes.kernels.constants import address
from edgeml.runtimes.number_column import MIN_ROWS, NumberColumn
from edgeml.schema import Column, Schema
from tests.kernel_tools import AWKWARD
from tests.native_tools import engine_of
from tests.text_tools import same_bits

ROWS = (MIN_ROWS, MIN_ROWS + 1, 3001)
SCHEMA = Schema("columns", (Column("a", "float64", True), Column("b", "float64", True), Column("c", "int64", True)))


def program():
    b = Builder()
    a, x, c = b.input("a", "float64"), b.input("b", "float64"), b.input("c", "int64")
    b.output("transform", [b.concat([a, x, c.cast("float64")])], "matrix", "<f8")
    return b.finish()


def numbers(rows, seed=0, nulls=True):
    """Awkward and plain numbers, NaN among them, and None."""
    rng = np.random.default_rng(seed)
    cells = np.where(rng.random(rows) < 0.5, rng.normal(size=rows), rng.choice(AWKWARD["float64"], rows)).tolist()
    return [None if nulls and rng.random() < 0.2 else cell for cell in cells]


def _chunks(cells):
    return [cells[:5], [], cells[5:300], cells[300:]]


def _sliced(array):
    return lambda cells: array([1.0, None, 2.0, *cells, None])[3 : 3 + len(cells)]


CONTAINERS = {
    "polars": lambda cells: pl.Series(cells, dtype=pl.Float64),
    "polars sliced": _sliced(lambda cells: pl.Series(cells, dtype=pl.Float64)),
    "polars chunked": lambda cells: pl.concat([pl.Series(p, dtype=pl.Float64) for p in _chunks(cells)], rechunk=False),
    "arrow": lambda cells: pa.array(cells, pa.float64()),
    "arrow sliced": _sliced(lambda cells: pa.array(cells, pa.float64())),
    "arrow chunked": lambda cells: pa.chunked_array(_chunks(cells), pa.float64()),
    "pandas arrow": lambda cells: pd.Series(pd.array(cells, dtype=pd.ArrowDtype(pa.float64()))),
}


@pytest.fixture(scope="module")
def engine():
    return engine_of(program(), SCHEMA)


def same(engine, X):
    arrays, _ = read_rows(X, SCHEMA)
    found, rows = read_columns(X, SCHEMA, engine.text_library)
    expected = interpreter.run(program(), arrays, ("transform",))["transform"]
    same_bits(engine.run(found, rows, ("transform",))["transform"], expected)
    return found


def table(name, rows, seed=0):
    whole = np.arange(rows)
    return {"a": CONTAINERS[name](numbers(rows, seed)), "b": np.array(numbers(rows, seed + 1, nulls=False)), "c": whole}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_the_interpreters_answers(engine, name):
    for rows in ROWS:
        assert isinstance(same(engine, table(name, rows, rows))["a"], NumberColumn)
    assert isinstance(same(engine, table(name, MIN_ROWS - 1))["a"], np.ndarray)


@pytest.mark.parametrize("name", CONTAINERS)
def test_it_can_be_switched_off(engine, name, monkeypatch):
    monkeypatch.setenv("EDGEML_FAST", "-text")
    assert isinstance(same(engine, table(name, 2000))["a"], np.ndarray)


def test_columns_of_many_chunks_meet_in_one_frame_of_many_threads():
    engine = engine_of(program(), SCHEMA, 3)
    cells, other = numbers(9000, 1), numbers(9000, 2)
    cuts = [0, 1, 1, 700, 701, 4000, 9000]
    parts = [cells[start:end] for start, end in itertools.pairwise(cuts)]
    X = {"a": pa.chunked_array(parts, pa.float64()), "b": pl.Series(other), "c": np.arange(9000)}
    assert isinstance(same(engine, X)["b"], NumberColumn)


@pytest.mark.parametrize("offset", range(9))
def test_bitmaps_at_every_offset(engine, offset):
    cells = numbers(MIN_ROWS + offset)
    rows = np.arange(MIN_ROWS)
    same(engine, {"a": pa.array(cells)[offset:], "b": pl.Series(cells)[offset:], "c": rows})


def test_what_an_array_gives_just_as_well_is_one(engine):
    rows = 2000
    full = numbers(rows, nulls=False)
    for column in (
        pl.Series(full),
        pa.array(full),
        np.array(full),
        pd.Series(full),
        pl.Series([1, None] * (rows // 2)),
        pa.array([1, None] * (rows // 2)),
        pl.Series(full, dtype=pl.Float32, strict=False),
        pa.array([True, None] * (rows // 2)),
        pa.nulls(rows),
        [*full[:-1], None],
    ):
        assert isinstance(same(engine, {"a": column, "b": full, "c": np.arange(rows)})["a"], np.ndarray)


@pytest.mark.parametrize("name", CONTAINERS)
def test_others_are_given_the_array(engine, name):
    X = table(name, 2000)
    column = read_columns(X, SCHEMA, engine.text_library)[0]["a"]
    want = read_rows(X, SCHEMA)[0]["a"]
    assert len(column) == 2000
    same_bits(np.ascontiguousarray(column[70:99]), np.ascontiguousarray(want[70:99]))
    same_bits(np.ascontiguousarray(column, dtype=np.float64), np.ascontiguousarray(want))
    same_bits(np.ascontiguousarray(column[70:99]), np.ascontiguousarray(want[70:99]))


def test_columns_of_two_lengths(engine):
    X = {"a": np.zeros(3000), "b": pl.Series(numbers(2000)), "c": np.arange(3000)}

    class Frame(dict):  # whose columns say one length and have another
        def values(self):
            return [np.zeros(3000), _Longer(X["b"]), X["c"]]

    class _Longer:
        def __init__(self, series):
            self.series = series

        def __len__(self):
            return 3000

        def __array__(self, dtype=None, copy=None):
            return self.series.to_numpy()

    with pytest.raises(ShapeError, match="'b' has 2000 values"):
        read_columns(Frame(X), SCHEMA, engine.text_library)


# --- pandas' columns ----------------------------------------------------------------------------------------
def test_the_columns_of_a_pandas_frame_are_what_its_public_way_gives(engine, monkeypatch):
    """pandas promises nothing about the way that is taken; without it the public one is."""
    rows = 40
    X = pd.DataFrame({"a": np.linspace(0, 1, rows), "b": np.arange(rows) / 7, "c": np.arange(rows)})
    frames = [X, X[::-1], X[["c", "a", "b"]], X.assign(a=X["a"].astype("Float64")), X.astype(object), X[3:4]]
    frames += [pd.DataFrame(np.asfortranarray(X.to_numpy()), columns=list("abc")), pd.concat([X, X])]
    found = [read_columns(frame, SCHEMA, engine.text_library)[0] for frame in frames]
    assert hasattr(pd.DataFrame, "_get_column_array"), "this pandas has another way: see frames._pandas"
    monkeypatch.setattr(pd.DataFrame, "_get_column_array", None)
    for frame, columns in zip(frames, found, strict=True):
        public = read_columns(frame, SCHEMA, engine.text_library)[0]
        for name in "abc":
            same_bits(columns[name], public[name])
            assert columns[name].flags.c_contiguous


def test_a_column_that_lies_ready_is_not_copied(engine):
    X = pd.DataFrame(np.asfortranarray(np.random.default_rng(0).normal(size=(50, 2))), columns=["a", "b"])
    columns = read_columns(X.assign(c=1), SCHEMA, engine.text_library)[0]
    assert np.shares_memory(columns["a"], X["a"].to_numpy())


# --- addresses ----------------------------------------------------------------------------------------------
def test_addresses_of_arrays_of_every_kind():
    plain = np.arange(6.0)
    frozen = np.arange(6.0)
    frozen.flags.writeable = False
    for array in (plain, plain[2:], plain[::2], frozen, frozen[1:], np.empty(0), np.array(["a", None], dtype=object)):
        assert address(array) == array.__array_interface__["data"][0]
    assert library.entry() is not None
