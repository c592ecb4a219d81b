"""Cells of every kind: numbers and strings are read as they are, or refused by name."""

from datetime import datetime
from decimal import Decimal
from enum import Enum

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.errors import ColumnTypeError
from edgeml.runtimes.frames import read_rows
from tests.frame_tools import NAN, one, same_cells


def column(values, kind, null="nan"):
    """What a single column is read as, from a pandas column or a list."""
    return read_rows({"a": values}, one(kind, null))[0]["a"]


def objects(cells):
    return np.fromiter(cells, dtype=object, count=len(cells))


# --- numbers
@pytest.mark.parametrize(
    ("values", "kind", "want"),
    [
        (np.array([1, 2], dtype=np.int8), "float64", [1.0, 2.0]),
        (np.array([True, False]), "float64", [1.0, 0.0]),
        (np.array([0.1], dtype=np.float32), "float64", [float(np.float32(0.1))]),
        (np.array([0.1], dtype=np.float16), "float64", [float(np.float16(0.1))]),
        (np.array([2**63 + 2048], dtype=np.uint64), "float64", [2.0**63 + 2048]),
        (np.array([0.5], dtype=np.longdouble), "float64", [0.5]),
        ([1, None, 2.5, True], "float64", [1.0, NAN, 2.5, 1.0]),
        ([np.float32(0.5), np.int64(3), np.bool_(True)], "float64", [0.5, 3.0, 1.0]),
        ([None, None], "float64", [NAN, NAN]),
        ([2**70], "float64", [2.0**70]),
        (objects([1.0, pd.NA, None]), "float64", [1.0, NAN, NAN]),
        (pd.Series([1, None], dtype="Int64"), "float64", [1.0, NAN]),
        (pd.Series([True, None], dtype="boolean"), "float64", [1.0, NAN]),
        (pd.Series([1.0, None], dtype="double[pyarrow]"), "float64", [1.0, NAN]),
        (pd.Series([3, None], dtype="category"), "float64", [3.0, NAN]),
        (pl.Series([True, None]), "float64", [1.0, NAN]),
        (pl.Series([None, None]), "float64", [NAN, NAN]),
        (pa.array([7, None]), "float64", [7.0, NAN]),
        (pa.array([7, None]).dictionary_encode(), "float64", [7.0, NAN]),
        (pa.array([True, None]), "float64", [1.0, NAN]),
        (pa.nulls(2), "float64", [NAN, NAN]),
        (np.ma.masked_array([1.0, 2.0], mask=[False, False]), "float64", [1.0, 2.0]),
        (range(3), "float64", [0.0, 1.0, 2.0]),
        (np.array([0.5, NAN, np.inf, 2**24]), "float32", [0.5, NAN, np.inf, 2.0**24]),
        ([0.25, None], "float32", [0.25, NAN]),
        (np.array([2**24]), "float32", [2.0**24]),
        (np.array([1.0, -0.0, -3e18]), "int64", [1, 0, int(-3e18)]),
        ([2**53 + 1, 2.0], "int64", [2**53 + 1, 2]),
        (np.array([2**63 - 1], dtype=np.uint64), "int64", [2**63 - 1]),
        ([True, 2], "int64", [1, 2]),
        (np.array([1.0, 0.0]), "bool", [True, False]),
        ([1, False], "bool", [True, False]),
        ([2**70, 1], "float32", [2.0**70, 1.0]),
    ],
)
def test_numbers_that_keep_their_value(values, kind, want):
    got = column(values, kind)
    assert got.dtype == kind
    np.testing.assert_array_equal(got, np.array(want, dtype=kind))


@pytest.mark.parametrize(
    ("values", "kind", "said"),
    [
        (["3.5", 1], "float64", r"column 'a', row 0: '3.5' is a str; a number is due"),
        ([1.0, b"x"], "float64", r"row 1: b'x' is a bytes"),
        ([1.0, Decimal(1)], "float32", r"row 1: Decimal\('1'\) is a Decimal"),
        ([datetime(2020, 1, 1)], "float64", r"row 0: .* is a datetime"),
        ([1j], "float64", r"row 0: 1j is a complex"),
        ([[1.0]], "float64", r"row 0: \[1.0\] is a list"),
        ([10**400], "float64", r"row 0: the integer is too large"),
        ([1, 2**63], "int64", r"row 1: the integer is too large"),
        ([1, np.uint64(2**63)], "int64", r"row 1: the integer is too large"),
        (np.array(["1"]), "float64", r"column 'a' holds strings, such as .*'1'.* in row 0"),
        (np.array([b"1"]), "float64", r"holds bytes"),
        (np.array([1j]), "float64", r"holds complex numbers"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "float64", r"holds dates"),
        (np.array([1], dtype="m8[s]"), "float64", r"holds time differences"),
        (pd.Series(pd.to_datetime(["2020-01-01"], utc=True)), "float64", r"type datetime64\[.*, UTC\]"),
        (pd.Series(pd.period_range("2020", periods=1)), "float64", r"type period"),
        (pl.Series([Decimal(1)]), "int64", r"is a Decimal"),
        (pl.Series([datetime(2020, 1, 1)]), "float64", r"type Datetime"),
        (pa.array([Decimal(1)]), "int64", r"is a Decimal"),
        (pa.array([[1.0]]), "float64", r"type list"),
        (np.array([1.0, 0.1]), "float32", r"row 1: 0.1 is not exactly a float32"),
        (np.array([1e300]), "float32", r"row 0: 1e\+300 is not exactly a float32"),
        (np.array([2**24 + 1]), "float32", r"row 0: 16777217 is not exactly a float32"),
        (np.array([1, 1.5]), "int64", r"row 1: 1.5 is not an integer"),
        (np.array([np.inf]), "int64", r"row 0: inf is not an integer"),
        (np.array([2.0**63]), "int64", r"row 0: 9.22.* is not an integer"),
        (np.array([1, NAN]), "int64", r"row 1: nan is missing, and the column had no missing values"),
        ([1, None], "int64", r"row 1: nan is missing"),
        (pd.Series([1, None], dtype="Int64"), "int64", r"row 1: nan is missing"),
        (np.array([2**63], dtype=np.uint64), "int64", r"row 0: 9223372036854775808 is beyond int64"),
        (np.array([1, 2]), "bool", r"row 1: 2 is neither true nor false"),
        ([True, None], "bool", r"row 1: nan is neither true nor false"),
        (np.ma.masked_array([1.0, 2.0], mask=[False, True]), "float64", r"row 1: the value is masked"),
    ],
)
def test_numbers_that_would_change_are_refused_by_name(values, kind, said):
    with pytest.raises(ColumnTypeError, match=said) as caught:
        column(values, kind)
    assert "'a'" in caught.value.cause
    assert caught.value.remedy


def test_a_longdouble_that_float64_cannot_hold_is_refused():
    if np.finfo(np.longdouble).nmant <= 52:
        assert column(np.array([1], dtype=np.longdouble), "float64").dtype == np.float64
        return
    with pytest.raises(ColumnTypeError, match="not exactly a float64"):
        column(np.array([1], dtype=np.longdouble) / 3, "float64")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.floats(), st.integers(-(2**63), 2**63 - 1), st.none(), st.booleans()), min_size=1))
def test_a_list_of_numbers_reads_as_float_does(cells):
    want = np.array([NAN if c is None else float(c) for c in cells])
    np.testing.assert_array_equal(column(cells, "float64"), want)
    np.testing.assert_array_equal(column(objects(cells), "float64"), want)


# --- strings
class Colour(str, Enum):  # noqa: UP042  # whose str() is not its value
    RED = "red"


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (["a", None, NAN, ""], ["a", NAN, NAN, ""]),
        (np.array(["a", None, NAN, ""], dtype=object), ["a", None, NAN, ""]),
        (["a", np.float64("nan"), pd.NA], ["a", NAN, NAN]),
        (np.array(["a", "bcd"]), ["a", "bcd"]),
        (np.array(["a", "bcd"], dtype=np.dtypes.StringDType()), ["a", "bcd"]),
        ([np.str_("a"), Colour.RED], ["a", "red"]),
        (np.array([NAN, NAN]), [NAN, NAN]),
        ([None], [NAN]),
        (np.array([None], dtype=object), [None]),
        (pd.Series(["a", None]), ["a", NAN]),
        (pd.Series(["a", None], dtype=object), ["a", None]),
        (pd.Series(["a", None], dtype="string"), ["a", NAN]),
        (pd.Series(["a", None], dtype="string[pyarrow]"), ["a", NAN]),
        (pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())), ["a", NAN]),
        (pd.Series(["b", None, "a"], dtype="category"), ["b", NAN, "a"]),
        (pd.Series([None, None], dtype="category"), [NAN, NAN]),
        (pl.Series(["a", None]), ["a", NAN]),
        (pl.Series([None, None]), [NAN, NAN]),
        (pl.Series(["a", None], dtype=pl.Enum(["a"])), ["a", NAN]),
        (pa.array(["a", None], pa.large_string()), ["a", NAN]),
        (pa.array(["a", None], pa.string_view()), ["a", NAN]),
        (pa.chunked_array([pa.array(["a", None]).dictionary_encode()]), ["a", NAN]),
        (pa.nulls(2), [NAN, NAN]),
    ],
)
def test_strings(values, want):
    same_cells(column(values, "string"), want)


@pytest.mark.parametrize(
    "values",
    [
        pl.Series(["a", None]),
        pa.array(["a", None]),
        pa.array(["a", None]).dictionary_encode(),
        pd.Series(["a", None], dtype="string"),
        pd.Series(["a", None], dtype=pd.ArrowDtype(pa.string())),
        ["a", pd.NA],
    ],
)
def test_a_null_is_what_the_sample_had(values):
    same_cells(column(values, "string", null="none"), ["a", None])


def test_nan_stays_nan_where_nulls_are_none():
    same_cells(column(pd.Series(["a", NAN]), "string", null="none"), ["a", NAN])
    same_cells(column(pd.Series(["a", None], dtype="category"), "string", null="none"), ["a", NAN])


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["a", 1], r"column 'a', row 1: 1 is an int; a string is due"),
        (["a", 1.5], r"row 1: 1.5 is a float"),
        (["a", True], r"row 1: True is a bool"),
        ([b"a"], r"row 0: b'a' is a bytes"),
        (np.array([b"a"]), r"row 0: .* is not a string"),
        (np.array([1, 2]), r"row 0: 1 is not a string"),
        (np.array([NAN, 2.0]), r"row 0: nan is not a string"),
        (pd.Series([1, 2], dtype="category"), r"row 0: 1 is not a string"),
        (pd.Series(pd.to_datetime(["2020-01-01"])), r"row 0: 2020-01-01.* is not a string"),
        (pa.array([b"a"]), r"type binary"),
        (pl.Series([b"a"]), r"type Binary"),
    ],
)
def test_what_is_not_a_string_is_refused_by_name(values, said):
    with pytest.raises(ColumnTypeError, match=said):
        column(values, "string")


def test_a_number_in_a_string_column_says_why():
    with pytest.raises(ColumnTypeError, match="scikit-learn never finds a number equal to a str category"):
        column(["AA", 7], "string")
