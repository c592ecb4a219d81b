"""Tables and rows: every container against one expectation, which column is which, shapes, each refusal by name."""

import time

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from edgeml.errors import (
    ColumnTypeError,
    EmptyInputError,
    ExtraColumnError,
    InputError,
    MissingColumnError,
    ShapeError,
)
from edgeml.runtimes.frames import read_row, read_rows
from edgeml.schema import MATRIX, Column, Schema
from tests.frame_tools import NAN, one, same_cells

SCHEMA = Schema(
    "columns",
    (
        Column("x", "float64"),
        Column("c", "string"),
        Column("i", "int64"),
        Column("b", "bool"),
        Column("unread", "any", False),
    ),
)


def frame():
    """Three rows in the schema's order, the column that is never read included."""
    return pd.DataFrame(
        {
            "x": [1.5, NAN, -0.0],
            "c": ["AA", NAN, "\U0001f600"],
            "i": [1, 2, -3],
            "b": [True, False, True],
            "unread": pd.to_datetime(["2020-01-01"] * 3),
        }
    )


def matrix(width, kind="float64"):
    return Schema("matrix", tuple(Column(f"x{i}", kind) for i in range(width)))


CONTAINERS = {
    "pandas": lambda f: f,
    "other column order": lambda f: f[["b", "unread", "c", "x", "i"]],
    "unused column absent": lambda f: f.drop(columns="unread"),
    "object columns": lambda f: f.astype({"c": object, "x": object, "i": object, "b": object}),
    "category": lambda f: f.astype({"c": "category", "i": "category", "b": "category", "x": "category"}),
    "nullable": lambda f: f.astype({"x": "Float64", "i": "Int64", "b": "boolean", "c": "string"}),
    "pyarrow backed": lambda f: f.convert_dtypes(dtype_backend="pyarrow"),
    "pandas sparse": lambda f: f.astype({"x": "Sparse[float64]", "i": "Sparse[int64]"}),
    "polars": lambda f: pl.from_pandas(f),
    "polars categorical": lambda f: pl.from_pandas(f).with_columns(pl.col("c").cast(pl.Categorical)),
    "arrow table": lambda f: pa.Table.from_pandas(f),
    "arrow batch": lambda f: pa.Table.from_pandas(f).to_batches()[0],
    "arrow dictionary": lambda f: pa.table(
        pa.Table.from_pandas(f).set_column(1, "c", pa.chunked_array([pa.array(f["c"]).dictionary_encode()]))
    ),
    "arrow chunks": lambda f: pa.concat_tables(
        [pa.Table.from_pandas(part, preserve_index=False) for part in (f[:1], f[1:])]
    ),
    "dict of lists": lambda f: f.to_dict("list"),
    "dict of arrays": lambda f: {name: f[name].to_numpy() for name in f},
    "dict of tuples": lambda f: {name: tuple(f[name]) for name in f},
    "dict of series": lambda f: {name: f[name] for name in f},
    "dict of polars series": lambda f: {name: pl.from_pandas(f)[name] for name in f},
    "dict of arrow arrays": lambda f: {name: pa.array(f[name]) for name in f},
    "list of dicts": lambda f: f.to_dict("records"),
    "list of lists": lambda f: f.astype(object).to_numpy().tolist(),
    "list of tuples": lambda f: list(f.itertuples(index=False, name=None)),
    "object array": lambda f: f.astype(object).to_numpy(),
    "structured array": lambda f: f.to_records(index=False).view(np.ndarray),
    "record array": lambda f: f.to_records(index=False),
    "unnamed frame": lambda f: f.set_axis(range(5), axis=1),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_every_container_gives_the_same_columns(container):
    columns, rows = read_rows(container(frame()), SCHEMA)
    assert rows == 3
    assert list(columns) == ["x", "c", "i", "b"]
    np.testing.assert_array_equal(columns["x"].view(np.int64), np.array([1.5, NAN, -0.0]).view(np.int64))
    same_cells(columns["c"], ["AA", NAN, "\U0001f600"])
    for name, want in (("i", np.array([1, 2, -3])), ("b", np.array([True, False, True]))):
        assert columns[name].dtype == want.dtype
        np.testing.assert_array_equal(columns[name], want)
    assert all(c.flags.c_contiguous and c.shape == (3,) for c in columns.values())


# --- which column is which
def test_missing_column_is_named_with_a_close_name():
    with pytest.raises(MissingColumnError, match=r"column 'dep_delay' is missing(.|\n)*'dep_delya'"):
        read_rows({"dep_delya": [1.0]}, Schema("columns", (Column("dep_delay", "float64"),)))
    with pytest.raises(MissingColumnError, match=r"'ID' is missing(.|\n)*is it the column 'id'"):
        read_rows({"id": [1.0]}, Schema("columns", (Column("ID", "float64"),)))


def test_missing_columns_are_all_named():
    with pytest.raises(MissingColumnError, match=r"column 'x' is missing \(and 2 more: 'i', 'b'\)") as caught:
        read_rows(frame()[["c"]], SCHEMA)
    assert "'x', 'c', 'i', 'b'" in caught.value.remedy


def test_extra_column():
    with pytest.raises(ExtraColumnError, match="column 'z' and 1 more is not one the pipeline was fitted on"):
        read_rows(frame().assign(z=1, y=2), SCHEMA)


def test_two_columns_of_one_name():
    twice = pa.Table.from_arrays([pa.array([1.0])] * 2, names=["x", "x"])
    for rows in (pd.concat([frame(), frame()[["x"]]], axis=1), twice):
        with pytest.raises(ExtraColumnError, match="two columns are called 'x'"):
            read_rows(rows, SCHEMA)


def test_column_names_of_mixed_types():
    with pytest.raises(InputError, match="some column names are strings, others not, such as 0"):
        read_rows(frame().rename(columns={"x": 0}), SCHEMA)


def test_keys_that_are_no_strings_are_met_by_their_text():
    schema = Schema("columns", (Column("0", "float64"), Column("1", "int64")))
    for rows in ([{0: 1.5, 1: 2}], [{1: 2, 0: 1.5}], [{"1": 2, "0": 1.5}]):
        columns, _ = read_rows(rows, schema)
        assert (columns["0"][0], columns["1"][0]) == (1.5, 2)
    assert read_row({1: 2, 0: 1.5}, schema)["0"] == 1.5
    with pytest.raises(MissingColumnError, match="column '0' is missing"):
        read_rows([{1: 2, 2: 3}], schema)


def test_records_with_different_keys():
    rows = frame().drop(columns="unread").to_dict("records")
    del rows[2]["i"]
    with pytest.raises(MissingColumnError, match="row 0 has the column 'i', row 2 has not"):
        read_rows(rows, SCHEMA)
    rows[2]["i"], rows[1]["z"] = 1, 0
    with pytest.raises(MissingColumnError, match="row 1 has the column 'z', row 0 has not"):
        read_rows(rows, SCHEMA)


# --- shapes
@pytest.mark.parametrize(
    ("X", "said"),
    [
        (np.zeros(4), "one dimension .*(.|\n)*reshape"),
        ([1.0, 2.0], "one dimension"),
        (["a", "b"], "one dimension"),
        (pd.Series([1.0]), "one dimension .*Series"),
        (pl.Series([1.0]), "one dimension"),
        (pa.array([1.0]), "one dimension"),
        (np.float64(3), "0 dimensions"),
        (np.zeros((2, 2, 2)), "3 dimensions"),
        (np.zeros((3, 4)), "the rows have 4 columns, the model has 5"),
        ([[1.0, "a"], [1.0]], "row 1 is 1 values, row 0 has 2 values"),
        ([[1.0], 3], "row 1 is of type int"),
        ([{"x": 1}, [1]], "row 1 is of type list, row 0 is a dict"),
        ({"x": 1.0, "c": "a"}, "column 'x' is a single value(.|\n)*predict_one"),
        ({"x": [1.0, 2.0], "c": ["a"]}, "'x' has 2 values, 'c' 1"),
        ({"x": [1.0], "c": np.zeros((1, 2)), "i": [1], "b": [True]}, "column 'c' has 2 dimensions"),
    ],
)
def test_wrong_shapes(X, said):
    with pytest.raises(ShapeError, match=said):
        read_rows(X, SCHEMA)


@pytest.mark.parametrize(
    "X",
    [
        [],
        {},
        np.zeros((0, 5)),
        pd.DataFrame(),
        frame().iloc[:0],
        pl.from_pandas(frame()).head(0),
        pa.Table.from_pandas(frame()).slice(0, 0),
        {"x": [], "c": []},
    ],
)
def test_zero_rows(X):
    with pytest.raises(EmptyInputError, match="there are no rows"):
        read_rows(X, SCHEMA)


@pytest.mark.parametrize(
    ("X", "said"),
    [
        (3, "type int"),
        ("rows.csv", "type str"),
        (None, "type NoneType"),
        (iter([[1.0]]), "type list_iterator"),
        (pl.from_pandas(frame()).lazy(), "LazyFrame has no rows yet"),
    ],
)
def test_what_is_no_table(X, said):
    with pytest.raises(InputError, match=said):
        read_rows(X, SCHEMA)


# --- the matrix
@pytest.mark.parametrize(
    "X",
    [
        np.array([[1.0, 2.0], [3.0, NAN]]),
        np.asfortranarray([[1.0, 2.0], [3.0, NAN]]),
        np.array([[1.0, 2.0], [3.0, NAN]])[:, ::-1][:, ::-1],
        np.array([[1.0, 2.0], [3.0, NAN]], dtype=np.float32),
        np.array([[1, 2], [3, None]], dtype=object),
        [[1, 2], [3.0, None]],
        [np.array([1.0, 2.0]), np.array([3.0, NAN])],
        ((1.0, 2), (3, NAN)),
        pd.DataFrame([[1.0, 2.0], [3.0, NAN]]),
        pd.DataFrame({"x0": [1, 3], "x1": [2.0, NAN]}),
        pd.DataFrame({"x1": [2.0, NAN], "x0": [1.0, 3.0]}),
        pl.DataFrame({"x0": [1, 3], "x1": [2, None]}),
        {"x1": [2.0, NAN], "x0": [1.0, 3.0]},
        [{"x0": 1, "x1": 2}, {"x1": None, "x0": 3}],
        np.ma.masked_array([[1.0, 2.0], [3.0, NAN]]),
    ],
)
def test_matrix(X):
    columns, rows = read_rows(X, matrix(2))
    assert rows == 2
    assert list(columns) == [MATRIX]
    assert columns[MATRIX].dtype == np.float64
    assert columns[MATRIX].flags.c_contiguous
    np.testing.assert_array_equal(columns[MATRIX], [[1.0, 2.0], [3.0, NAN]])


def test_matrix_of_strings():
    columns, _ = read_rows(np.array([["a", None], ["b", NAN]], dtype=object), matrix(2, "string"))
    same_cells(columns[MATRIX].ravel(), ["a", None, "b", NAN])


def test_a_named_frame_for_a_model_without_names():
    with pytest.raises(MissingColumnError, match=r"fitted on an array, without column names.*'a', 'b'"):
        read_rows(pd.DataFrame({"a": [1.0], "b": [2.0]}), matrix(2))
    with pytest.raises(ShapeError, match="the rows have 1 columns, the model has 2"):
        read_rows(pd.DataFrame({"a": [1.0]}), matrix(2))


def test_a_wrong_value_in_a_matrix_is_placed():
    with pytest.raises(ColumnTypeError, match=r"column 'x1', row 2: 0\.1 is not exactly a float32"):
        read_rows(np.array([[1, 1], [1, 1], [1, 0.1]]), matrix(2, "float32"))
    with pytest.raises(ColumnTypeError, match="column 'x0', row 1: 'a' is a str"):
        read_rows(np.array([[1, 1], ["a", 1]], dtype=object), matrix(2))
    with pytest.raises(ColumnTypeError, match="column 'at position 1', row 0: the value is masked"):
        read_rows(np.ma.masked_array([[1.0, 2.0]], mask=[[False, True]]), matrix(2))


def test_the_input_is_left_alone():
    f = frame().astype({"c": object})
    before = f.copy(deep=True)
    table = pa.Table.from_pandas(frame())
    columns, _ = read_rows(f, SCHEMA)
    read_rows(table, SCHEMA)
    pd.testing.assert_frame_equal(f, before)
    assert table.equals(pa.Table.from_pandas(frame()))
    assert columns["x"].shape == (3,)


# --- one row
@pytest.mark.parametrize(
    "row",
    [
        {"x": 1.5, "c": "AA", "i": 1, "b": True},
        {"b": True, "c": "AA", "x": 1.5, "unread": object(), "i": 1},
        [1.5, "AA", 1, True, None],
        (1.5, "AA", 1, True, None),
        frame().iloc[0],
        np.array([1.5, "AA", 1, True, None], dtype=object),
        frame().to_records(index=False)[0],
        pl.from_pandas(frame()).row(0),
    ],
)
def test_one_row(row):
    columns = read_row(row, SCHEMA)
    assert {k: v.tolist() for k, v in columns.items()} == {"x": [1.5], "c": ["AA"], "i": [1], "b": [True]}


@pytest.mark.parametrize("row", [frame(), [[1.5, "AA", 1, True, None]], np.zeros((1, 5)), 3.0, "AA"])
def test_more_or_less_than_one_row(row):
    with pytest.raises(ShapeError, match="is not one row"):
        read_row(row, SCHEMA)


# --- speed: a per-cell loop over these takes seconds
def test_wide_and_long_tables_are_read_without_a_loop_over_cells():
    wide = Schema("columns", tuple(Column(f"f{i}", "float64") for i in range(5000)))
    numbers = np.random.default_rng(0).normal(size=(2000, 5000))
    X = pd.DataFrame(numbers, columns=wide.names)
    long = pd.DataFrame({"a": np.random.default_rng(0).choice(["AA", "UA"], 1_000_000)})
    spent = []
    for rows, schema in (
        (X, wide),
        (numbers, wide),
        (long, one("string")),
        (long.astype("category"), one("string")),
    ):
        tries = []
        for _ in range(3):
            started = time.thread_time()
            read_rows(rows, schema)
            tries.append(time.thread_time() - started)
        spent.append(min(tries))
    assert max(spent) < 1.5, spent
