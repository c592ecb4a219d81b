"""ColumnTransformer against scikit-learn: how columns are named, and the dtypes of what is stacked."""

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from edgeml.converters import to_program
from edgeml.errors import (
    NonFiniteError,
    SampleError,
    UnsupportedEstimatorError,
    UnsupportedParameterError,
)
from edgeml.ir import interpreter
from tests.compose_tools import STRINGS, X, encode, y
from tests.oracle import assert_same, columns_of, converted, schema_of


# --- ColumnTransformer: how columns are named ---------------------------------------------------------
@pytest.mark.parametrize(
    "columns",
    [
        ["g", "f"],
        [5, 1],
        [-2, 1],
        slice("f", "i"),
        slice(1, 3),
        slice("b", None),
        [False, True, True, False, False, True, False],
        np.array([False, True, True, False, False, True, False]),
        pd.Series([False, True, True, False, False, True, False]),
        lambda X: [c for c in X.columns if c in ("g", "h")],
        make_column_selector(dtype_include="number"),
        make_column_selector(pattern="^[gf]$"),
    ],
    ids=str,
)
@pytest.mark.parametrize("remainder", ["drop", "passthrough"])
def test_columns_can_be_given_in_every_way(columns, remainder):
    A = X.fillna({"f": 0.0})
    ct = ColumnTransformer([("scale", MinMaxScaler(), columns), ("none", StandardScaler(), [])], remainder=remainder)
    assert_same(ct.fit(A), A)


@pytest.mark.parametrize("columns", [[0, 2], [-1], slice(1, 3), [True, False, True], 1])
def test_columns_of_an_array(columns):
    A = X[["g", "i", "h"]].to_numpy()
    what = StandardScaler() if columns != 1 else FunctionTransformer(validate=False)
    ct = ColumnTransformer([("scale", what, columns if columns != 1 else [1])], remainder=MinMaxScaler())
    assert_same(ct.fit(A), A)


def test_callables_are_not_asked_again():
    calls = []

    def choose(X):
        calls.append(1)
        return ["g"]

    ct = ColumnTransformer([("s", StandardScaler(), choose)]).fit(X)
    before = len(calls)
    to_program(ct, schema_of(X), {"transform": ("matrix", "float64")})
    assert len(calls) == before == 1


def test_a_column_may_be_used_twice_and_dropped_transformers_are_not_converted():
    class Unknown(StandardScaler):
        pass

    ct = ColumnTransformer([("a", StandardScaler(), ["g"]), ("b", MinMaxScaler(), ["i", "g"]), ("c", "drop", ["s"])])
    assert_same(ct.fit(X), X)
    A = X[["g", "i"]].to_numpy()
    assert_same(ColumnTransformer([("a", StandardScaler(), [1, 1, 0])]).fit(A), A)
    ct.transformers_.append(("d", Unknown(), []))
    ct._transformer_to_input_indices["d"] = []
    converted(ct, X)


@pytest.mark.parametrize("threshold", [0, 0.3, 1])
@pytest.mark.parametrize("weights", [None, {"cat": 3, "num": 0.1}, {"num": np.float64(1 / 3)}])
def test_sparse_threshold_and_weights(threshold, weights):
    ct = ColumnTransformer(
        [("num", StandardScaler(), ["g", "h", "i"]), ("cat", encode, STRINGS)],
        sparse_threshold=threshold,
        transformer_weights=weights,
    )
    # A sparse matrix is scaled by the reciprocal, a dense one divided: trees tell the two apart.
    pipe = make_pipeline(ct, StandardScaler(with_mean=False))
    assert_same(pipe.fit(X), X, rtol=0, atol=0)


def test_trees_refuse_nan_in_a_sparse_matrix_only():
    A = X[["g", "s"]]
    rows = A.head(3).assign(g=[0.0, np.nan, 1.0])
    for threshold in (0, 1):
        ct = ColumnTransformer([("num", StandardScaler(), ["g"]), ("cat", encode, ["s"])], sparse_threshold=threshold)
        pipe = make_pipeline(ct, DecisionTreeClassifier(max_depth=3)).fit(A, y)
        if threshold == 0:
            assert_same(pipe, A, rows)
        else:
            with pytest.raises(ValueError, match="contains NaN"):
                pipe.predict(rows)
            with pytest.raises(NonFiniteError, match="DecisionTreeClassifier"):
                interpreter.run(converted(pipe, A), columns_of(rows, schema_of(A)))


def test_weights_keep_numpys_promotion():
    A = X[["i", "b", "h"]]
    for weight in (2, 0.5, np.float64(0.1)):
        ct = ColumnTransformer([(c, "passthrough", [c]) for c in A], transformer_weights=dict.fromkeys(A, weight))
        assert_same(ct.fit(A), A, rtol=0, atol=0)


def test_columns_are_met_by_name_in_another_order_and_beside_others():
    ct = ColumnTransformer([("s", StandardScaler(), ["g", "i"])], remainder=MinMaxScaler()).fit(X[["g", "h", "i"]])
    A = X[["s", "i", "h", "b", "g"]]
    assert_same(ct, A)


def test_a_column_that_is_not_there_is_named():
    ct = ColumnTransformer([("s", StandardScaler(), ["g", "i"])]).fit(X)
    with pytest.raises(SampleError, match="column 'i', which is not there"):
        to_program(ct, schema_of(X[["g", "h"]]), {"transform": ("matrix", "float64")})
    ct = ColumnTransformer([("s", StandardScaler(), [0, 1])]).fit(X[["g", "i", "h"]].to_numpy())
    with pytest.raises(SampleError, match="fitted on 3 columns, and is given 2"):
        to_program(ct, schema_of(X[["g", "i"]].to_numpy()), {"transform": ("matrix", "float64")})


def test_reordered_columns_are_refused_where_scikit_learn_refuses_them():
    scaler = StandardScaler().fit(X[["g", "i"]])
    with pytest.raises(ValueError, match="feature names"):
        scaler.transform(X[["i", "g"]])
    with pytest.raises(SampleError, match="fitted with column 'g' where it is given 'i'"):
        to_program(scaler, schema_of(X[["i", "g"]]), {"transform": ("matrix", "float64")})


# --- dtypes of what is stacked ------------------------------------------------------------------------
@pytest.mark.parametrize(
    "columns",
    [
        ["i", "g"],
        ["i", "h"],
        ["b", "h"],
        ["b", "i"],
        ["h"],
        ["s", "i", "h"],
        ["s", "o"],
        ["b", "s"],
        ["i"],
        ["b"],
    ],
    ids=str,
)
@pytest.mark.parametrize("split", [False, True])
def test_stacked_dtypes(columns, split):
    parts = [("p", "passthrough", columns)]
    if split:
        parts = [(c, "passthrough", [c]) for c in columns]
    assert_same(ColumnTransformer(parts).fit(X), X)
    assert_same(FeatureUnion([("p", "passthrough"), ("q", "passthrough")]).fit(X[columns]), X[columns])


def test_integers_next_to_floats_are_floats_for_the_encoder_behind():
    A = pd.DataFrame({"big": [2**53, 2**53 + 1, 2**53 + 2] * 4, "x": [0.5, 1.5, 2.5, 0.5] * 3})
    numbers = ColumnTransformer([("p", "passthrough", ["big"]), ("q", "passthrough", ["x"])])
    assert len(make_pipeline(numbers, OneHotEncoder()).fit(A)[-1].categories_[0]) == 2
    assert_same(make_pipeline(numbers, OneHotEncoder()).fit(A), A)
    A["s"] = "k"
    objects = ColumnTransformer([("p", "passthrough", ["big"]), ("q", "passthrough", ["x", "s"])])
    assert len(make_pipeline(objects, OneHotEncoder()).fit(A)[-1].categories_[0]) == 3
    assert_same(make_pipeline(objects, OneHotEncoder()).fit(A), A)


def test_a_stacked_array_has_one_dtype():
    stack = ColumnTransformer([("p", "passthrough", ["i"]), ("q", "passthrough", ["h"])])
    take = ColumnTransformer([("scale", StandardScaler(), [1])])  # float64, as int64 and float32 promote to it
    assert_same(make_pipeline(stack, take).fit(X), X, rtol=0, atol=0)


def test_numbers_taken_out_of_an_object_array_are_scaled_in_float64():
    stack = ColumnTransformer([("p", "passthrough", ["s", "h"])])
    take = ColumnTransformer([("scale", StandardScaler(), [1])])
    assert_same(make_pipeline(stack, take).fit(X), X, rtol=0, atol=0)
    mixed = ColumnTransformer([("p", "passthrough", ["b", "h"])])  # pandas makes objects of bool and float
    assert_same(make_pipeline(mixed, StandardScaler()).fit(X), X, rtol=0, atol=0)


def test_remainder_as_an_estimator_and_by_position():
    A = X[["g", "h", "i", "f"]]
    for columns in (["h"], [1]):
        ct = ColumnTransformer([("s", StandardScaler(), columns)], remainder=make_pipeline(SimpleImputer(), PCA(2)))
        assert_same(ct.fit(A), A)


def test_no_columns_are_refused_with_a_reason():
    with pytest.raises(UnsupportedEstimatorError, match="transform of ColumnTransformer returns no columns"):
        converted(ColumnTransformer([("d", "drop", ["g"])]).fit(X), X)


def test_strings_cannot_be_weighted():
    ct = ColumnTransformer([("p", "passthrough", ["i"])]).fit(X)
    ct = ColumnTransformer([("p", "passthrough", ["s"])], transformer_weights={"p": 2}).fit(X)
    with pytest.raises(UnsupportedParameterError, match="transformer_weights"):
        to_program(ct, schema_of(X), {"transform": ("matrix", "O")})


def test_strings_given_to_a_numeric_step_are_named():
    ct = ColumnTransformer([("s", StandardScaler(), ["g", "i"])]).fit(X)
    A = X.copy()
    A["i"] = "text"
    with pytest.raises(UnsupportedParameterError, match="step s: StandardScaler is given strings: column 'i'"):
        to_program(ct, schema_of(A), {"transform": ("matrix", "float64")})
