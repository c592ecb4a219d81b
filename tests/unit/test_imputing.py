"""SimpleImputer and MissingIndicator against scikit-learn: every kind of column, every kind of missing."""

import itertools
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from edgeml.converters import to_program
from edgeml.errors import InputError, NonFiniteError, UnsupportedParameterError
from edgeml.ir import interpreter
from tests.oracle import assert_same, columns_of, converted, schema_of

pytestmark = pytest.mark.filterwarnings("ignore:Skipping features without any observed values")

NAN = np.nan
STRATEGIES = ["mean", "median", "most_frequent", "constant"]


def frame(rows=50, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "s": pd.Series(rng.choice(["a", "b", "", "😀é"], rows)),
            "n": pd.Series(rng.choice(np.array(["a", "b", np.nan], dtype=object), rows)),
            "o": pd.Series(rng.choice(np.array(["x", "y", None, np.nan], dtype=object), rows), dtype=object),
            "i": rng.integers(-3, 4, rows),
            "b": rng.random(rows) < 0.5,
            "f": rng.choice([1.5, -0.0, 0.0, np.nan, 2.5, -3.0], rows),
            "h": rng.choice([0.1, 0.2, np.nan], rows).astype("float32"),
            "e": np.full(rows, np.nan),
            "Int": pd.array(rng.choice(np.array([1, 2, None], dtype=object), rows), dtype="Int64"),
            "c": pd.Categorical(rng.choice(np.array(["k", "l", None], dtype=object), rows)),
            "one": pd.Series(rng.choice(np.array(["z", np.nan], dtype=object), rows), dtype=object),
        }
    )


X = frame()
ROWS = frame(30, seed=3)


@pytest.mark.parametrize("columns", [["i", "f", "e"], ["f", "h"], ["h"], ["h", "b"], ["i", "b"], ["Int", "f"]], ids=str)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("options", [{}, {"add_indicator": True}, {"keep_empty_features": True}], ids=str)
def test_numbers(columns, strategy, options):
    imputer = SimpleImputer(strategy=strategy, **options).fit(X[columns])
    assert_same(imputer, X[columns], ROWS[columns], rtol=0, atol=0)


@pytest.mark.parametrize(
    "columns",
    [["s"], ["n"], ["o"], ["s", "o", "n"], ["c"], ["s", "i", "b"], ["one", "f", "i"], ["o", "h", "b", "e"]],
    ids=str,
)
@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, "a", ""], ids=repr)
@pytest.mark.parametrize("options", [{}, {"add_indicator": True}, {"keep_empty_features": True}], ids=str)
def test_strings_and_columns_beside_them(columns, missing, options):
    imputer = SimpleImputer(strategy="most_frequent", missing_values=missing, **options)
    A, rows = X[columns], ROWS[columns]
    if missing is None or isinstance(missing, str):  # scikit-learn refuses NaN then
        A, rows = [d[[c for c in d if c != "e"]] for d in (A, rows)]
        A, rows = (
            d[(d == d).all(axis=1) | d.isna().any(axis=1) & ~_has_nan(d)].reset_index(drop=True) for d in (A, rows)
        )
    assert_same(imputer.fit(A), A, rows)


def _has_nan(d):
    return d.map(lambda v: isinstance(v, float) and v != v).any(axis=1)


@pytest.mark.parametrize("fill", [None, "zz", "", "😀"])
@pytest.mark.parametrize("columns", [["s", "o"], ["n", "i"], ["c", "s"]], ids=str)
def test_constant_strings(columns, fill):
    imputer = SimpleImputer(strategy="constant", fill_value=fill, add_indicator=True).fit(X[columns])
    assert_same(imputer, X[columns], ROWS[columns])


@pytest.mark.parametrize(
    ("fill", "columns"), [(None, ["f", "i"]), (-7, ["f", "h"]), (0.1, ["h"]), (np.float32(0.1), ["f"])]
)
def test_constant_numbers(fill, columns):
    for keep in (False, True):
        imputer = SimpleImputer(strategy="constant", fill_value=fill, keep_empty_features=keep)
        A = X[[*columns, "e"]] if fill is None else X[columns]
        assert_same(imputer.fit(A), A, rtol=0, atol=0)


@pytest.mark.parametrize("missing", [0, -3, 1.5, np.float64(0.1), np.float32(0.1), 0.1, np.int64(2), True])
@pytest.mark.parametrize("columns", [["i"], ["f"], ["h"], ["h", "b"], ["i", "b"], ["f", "i"]], ids=str)
@pytest.mark.parametrize("strategy", ["mean", "most_frequent", "constant"])
def test_numbers_that_stand_for_missing(missing, columns, strategy):
    A = X[columns].dropna()
    imputer = SimpleImputer(missing_values=missing, strategy=strategy, add_indicator=True).fit(A)
    assert_same(imputer, A, rtol=0, atol=0)


def test_the_dtype_of_fit_and_the_dtype_of_the_rows():
    A = X[["f"]]
    narrow = A.astype("float32")
    for strategy, (fitted, rows) in itertools.product(["mean", "most_frequent"], [(A, narrow), (narrow, A)]):
        assert_same(SimpleImputer(strategy=strategy).fit(fitted), rows, rtol=0, atol=0)
    whole = A.dropna().astype("int64")
    for strategy in ("mean", "most_frequent"):
        assert_same(SimpleImputer(strategy=strategy).fit(A), whole, rtol=0, atol=0)
        assert_same(SimpleImputer(strategy=strategy, missing_values=2).fit(A.dropna()), whole, rtol=0, atol=0)


def test_a_callable_strategy_is_in_the_statistics():
    A = X[["f", "i"]]
    assert_same(SimpleImputer(strategy=lambda column: column.max()).fit(A), A)


def test_columns_that_are_dropped_take_their_checks_and_indicators_with_them():
    A = X[["e", "f"]]
    imputer = SimpleImputer(add_indicator=True).fit(A)
    assert imputer.transform(A).shape[1] == 3  # f, and the indicators of e and f
    assert_same(imputer, A)


def test_new_missing_values_are_filled_without_an_indicator():
    A = X[["f", "i"]].fillna(0.0)
    rows = A.astype("float64")
    rows.iloc[0, :] = np.nan
    imputer = SimpleImputer(add_indicator=True).fit(A)
    program = converted(imputer, rows)
    actual = interpreter.run(program, columns_of(rows, schema_of(rows)))["transform"]
    np.testing.assert_array_equal(actual, imputer.transform(rows))


def test_object_columns_of_numbers():
    A = pd.DataFrame(
        {"i": pd.Series([1, 2, 2, 4], dtype=object), "f": pd.Series([0.5, np.nan, 0.5, 1.0], dtype=object)}
    )
    for strategy, missing in itertools.product(STRATEGIES, [np.nan, pd.NA]):
        if strategy != "constant":
            assert_same(SimpleImputer(strategy=strategy, missing_values=missing).fit(A), A)
    N = pd.DataFrame({"f": pd.Series([0.5, None, 0.5, 1.0, None], dtype=object)})
    assert_same(SimpleImputer(strategy="most_frequent", missing_values=None, add_indicator=True).fit(N), N)


def test_an_indicator_has_the_dtype_of_the_columns_beside_it():
    first = SimpleImputer(add_indicator=True)
    for columns in (["h"], ["f"]):
        pipe = make_pipeline(first, ColumnTransformer([("s", StandardScaler(), [1])])).fit(X[columns])
        assert_same(pipe, X[columns], rtol=0, atol=0)


def test_numbers_of_an_object_array_stay_objects():
    A = X[["b", "h"]]  # pandas makes objects of bool and float
    stack = ColumnTransformer([("p", "passthrough", ["b", "h"])])
    imputer = SimpleImputer(strategy="most_frequent")
    assert_same(make_pipeline(stack, imputer).fit(A), A)
    assert_same(make_pipeline(stack, imputer, StandardScaler()).fit(A), A, rtol=0, atol=0)
    # Integers beyond 2^53 beside floats are still told apart, behind one more stack too.
    A = A.assign(id=2**53 + np.arange(len(A)) % 3)
    stack = ColumnTransformer([("p", "passthrough", ["b", "h", "id"])])
    again = ColumnTransformer([("p", "passthrough", [0, 1, 2])])
    pipe = make_pipeline(stack, imputer, again, OneHotEncoder()).fit(A)
    assert len(pipe[-1].categories_[2]) == 3
    assert_same(pipe, A)


def test_a_number_that_no_bool_equals():
    A = X[["s", "i", "b"]]
    for missing in (-3, 2, 0.5):
        assert_same(SimpleImputer(strategy="most_frequent", missing_values=missing).fit(A), A)
    fill = SimpleImputer(strategy="constant", fill_value="z", missing_values=-3)
    assert_same(fill.fit(A[["s", "b"]]), A[["s", "b"]])
    for missing in (0, 1):
        assert_same(SimpleImputer(strategy="most_frequent", missing_values=missing).fit(A[["b", "s"]]), A[["b", "s"]])


def test_a_fill_value_of_nan_drops_the_columns_unless_they_are_kept():
    A = X[["f", "i"]]
    assert_same(SimpleImputer(strategy="constant", fill_value=NAN, keep_empty_features=True).fit(A), A)
    assert_same(SimpleImputer(strategy="constant", fill_value=NAN, add_indicator=True).fit(A), A)


def test_what_comes_behind_an_object_array():
    A, rows = X[["n", "i", "h"]].copy(), ROWS[["n", "i", "h"]].copy()
    first = SimpleImputer(strategy="most_frequent")
    assert_same(make_pipeline(first, OneHotEncoder(handle_unknown="ignore")).fit(A), A, rows)
    # float32 numbers in an object array are scaled in float64.
    scale = ColumnTransformer([("s", StandardScaler(), [2])], remainder=OneHotEncoder())
    assert_same(make_pipeline(first, scale).fit(A), A, rtol=0, atol=0)


# --- rows that are refused ----------------------------------------------------------------------------
def test_infinity_and_nan_are_refused_where_scikit_learn_refuses_them():
    A = pd.DataFrame({"f": [1.0, 0.0, 2.0]})
    for missing, bad in [(np.nan, np.inf), (0, np.nan), (0, -np.inf)]:
        imputer = SimpleImputer(missing_values=missing).fit(A)
        rows = pd.DataFrame({"f": [1.0, bad]})
        with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            imputer.transform(rows)
        with pytest.raises(NonFiniteError, match="SimpleImputer"):
            interpreter.run(converted(imputer, A), columns_of(rows, schema_of(A)))


def test_nan_in_strings_is_refused_unless_it_stands_for_missing():
    A = pd.DataFrame({"s": pd.Series(["a", None, "b", "b"], dtype=object)})
    rows = pd.DataFrame({"s": pd.Series(["a", np.nan], dtype=object)})
    for missing in (None, "a"):
        imputer = SimpleImputer(strategy="most_frequent", missing_values=missing).fit(A)
        with pytest.raises(ValueError, match="contains NaN"):
            imputer.transform(rows)
        with pytest.raises(InputError, match=r"row 1: .*SimpleImputer.* was given NaN"):
            interpreter.run(converted(imputer, A), columns_of(rows, schema_of(A)))


def test_infinity_in_an_object_array_passes():
    A = pd.DataFrame({"s": ["a", "b"], "f": [1.0, np.inf]})
    assert_same(SimpleImputer(strategy="most_frequent").fit(A), A)


# --- what is refused at compile time ------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "columns", "parameter"),
    [
        ({"strategy": "constant", "fill_value": 0}, ["n"], "fill_value"),
        ({"strategy": "constant", "fill_value": "none"}, ["n", "f"], "fill_value"),
        ({"strategy": "constant"}, ["n", "f"], "fill_value"),
        ({"strategy": "constant", "fill_value": 7, "missing_values": 0}, ["s", "b"], "fill_value"),
        ({"strategy": "constant", "fill_value": 0.5, "missing_values": 2}, ["s", "i"], "fill_value"),
    ],
)
def test_a_column_of_two_kinds_is_refused(options, columns, parameter):
    imputer = SimpleImputer(**options).fit(X[columns])
    with pytest.raises(UnsupportedParameterError, match=rf"SimpleImputer\({parameter}="):
        converted(imputer, X[columns])


def test_an_empty_column_of_strings_cannot_be_kept_as_numbers():
    A = pd.DataFrame({"s": pd.Series(["a", "b"]), "e": pd.Series([None, None], dtype=object)})
    imputer = SimpleImputer(strategy="most_frequent", missing_values=None, keep_empty_features=True).fit(A)
    schema = schema_of(A.assign(e=["x", "y"]))
    with pytest.raises(UnsupportedParameterError, match=r"SimpleImputer\(strategy='most_frequent'\).*\n?.*puts 0"):
        to_program(imputer, schema, {"transform": ("matrix", "O")})


def test_parameters_that_do_not_go_with_the_dtype_of_the_sample():
    imputer = SimpleImputer(strategy="constant", fill_value=0.5).fit(X[["f"]])
    with pytest.raises(UnsupportedParameterError, match=r"SimpleImputer\(fill_value=0.5\)"):
        to_program(imputer, schema_of(X[["i"]].rename(columns={"i": "f"})), {"transform": ("matrix", "float64")})
    imputer = SimpleImputer(strategy="most_frequent", missing_values="a").fit(X[["s"]])
    imputer._fit_dtype = np.dtype("float64")
    with pytest.raises(UnsupportedParameterError, match=r"SimpleImputer\(missing_values='a'\)"):
        to_program(imputer, schema_of(X[["f"]].rename(columns={"f": "s"})), {"transform": ("matrix", "float64")})


# --- MissingIndicator ---------------------------------------------------------------------------------
@pytest.mark.parametrize("columns", [["f", "i"], ["h", "e"], ["s", "n", "o"], ["o", "f"]], ids=str)
@pytest.mark.parametrize("features", ["missing-only", "all"])
@pytest.mark.parametrize("sparse", ["auto", True, False])
def test_missing_indicator(columns, features, sparse):
    indicator = MissingIndicator(features=features, sparse=sparse, error_on_new=False).fit(X[columns])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_same(indicator, X[columns], ROWS[columns])


@pytest.mark.parametrize("missing", [None, "x", "y"])
def test_missing_indicator_of_other_values(missing):
    A = X[["o"]][X["o"].map(lambda v: v == v)].reset_index(drop=True)
    assert_same(MissingIndicator(missing_values=missing).fit(A), A)


def test_new_missing_values_are_refused_when_asked():
    A = X[["f"]].assign(g=1.0)
    rows = A.head(3).copy()
    rows.loc[2, "g"] = np.nan
    strict = MissingIndicator(error_on_new=True).fit(A)
    assert_same(strict, A)
    with pytest.raises(ValueError, match="have no missing values in fit"):
        strict.transform(rows)
    with pytest.raises(InputError, match=r"row 2: a missing value in column 'g'.*error_on_new"):
        interpreter.run(converted(strict, A), columns_of(rows, schema_of(A)))
    assert_same(MissingIndicator(error_on_new=False).fit(A), A, rows)
