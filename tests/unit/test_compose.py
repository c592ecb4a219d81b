"""Pipeline, FeatureUnion, ColumnTransformer and the identity FunctionTransformer against scikit-learn."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    StandardScaler,
)
from sklearn.tree import DecisionTreeClassifier

from edgeml.converters import to_program
from edgeml.errors import (
    NonFiniteError,
    NotFittedError,
    SampleError,
    UnknownCategoryError,
    UnsupportedEstimatorError,
    UnsupportedParameterError,
)
from edgeml.ir import interpreter
from tests.oracle import assert_same, columns_of, converted, reference, schema_of

NUMBERS, STRINGS = ["f", "g", "i"], ["s", "o"]


def frame(rows=60, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "s": pd.Series(rng.choice(["a", "b", "", "😀é"], rows)),
            "f": rng.choice([1.5, -0.0, np.nan, 250.25, -3.0], rows),
            "i": rng.integers(-5, 5, rows),
            "o": pd.Series(rng.choice(np.array(["x", "y", None, np.nan], dtype=object), rows), dtype=object),
            "b": rng.random(rows) < 0.5,
            "g": rng.normal(size=rows) * 1e3,
            "h": rng.normal(size=rows).astype("float32"),
        }
    )


X = frame()
y = (X["g"].to_numpy() + 500 * X["i"].to_numpy() + 100 * np.random.default_rng(1).normal(size=len(X)) > 0).astype(int)
encode = OneHotEncoder(handle_unknown="ignore")


def numeric():
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler())


def everyday(final=None):
    steps = ColumnTransformer(
        [
            ("num", numeric(), NUMBERS),
            ("cat", make_pipeline(SimpleImputer(strategy="most_frequent"), encode), STRINGS),
        ]
    )
    return make_pipeline(steps, final) if final is not None else make_pipeline(steps)


# --- Pipeline -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("final", [LogisticRegression(), DecisionTreeClassifier(max_depth=4), KMeans(3, n_init=1)])
def test_the_everyday_pipeline_with_unseen_rows(final):
    rows = frame(40, seed=7)
    rows.loc[:3, "s"] = ["new", None, "😀", "A"]
    assert_same(everyday(final).fit(X, y), X, rows, atol=1e-9)


def test_passthrough_none_and_nested_steps():
    A = X[["f", "g", "i"]].fillna(0.0)
    inner = Pipeline([("p", "passthrough"), ("scale", StandardScaler()), ("n", None)])
    assert_same(Pipeline([("inner", inner), ("none", None), ("p", "passthrough")]).fit(A), A)
    assert_same(
        Pipeline([("inner", inner), ("none", None), ("tree", DecisionTreeClassifier(max_depth=3))]).fit(A, y),
        A,
    )


def test_a_middle_step_gives_its_transform_not_its_prediction():
    A = X[["g", "i"]]
    assert_same(make_pipeline(KMeans(4, n_init=1), LogisticRegression()).fit(A, y), A, atol=1e-9)


def test_a_step_that_only_predicts_cannot_be_in_the_middle():
    A = X[["g", "i"]]
    pipe = make_pipeline(StandardScaler(), LogisticRegression()).fit(A, y)
    pipe.steps.append(("end", "passthrough"))
    with pytest.raises(UnsupportedEstimatorError, match="logisticregression: the transform of LogisticRegression"):
        to_program(pipe, schema_of(A), {"transform": ("matrix", "float64")})


def test_a_middle_step_says_why_its_transform_cannot_be_had():
    A = X[["g", "i"]]
    vote = VotingClassifier([("t", DecisionTreeClassifier(max_depth=2))], voting="soft", flatten_transform=False)
    pipe = Pipeline([("vote", vote.fit(A, y)), ("end", "passthrough")])
    with pytest.raises(
        UnsupportedParameterError, match="step vote: transform of VotingClassifier has three dimensions"
    ):
        to_program(pipe, schema_of(A), {"transform": ("matrix", "float64")})


def test_an_unfitted_step_is_named():
    A = X[["g", "i"]]
    pipe = Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression().fit(A, y))])
    with pytest.raises(NotFittedError, match="step scale: StandardScaler is not fitted"):
        to_program(pipe, schema_of(A), {"predict": ("vector", "int64")})


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


# --- FeatureUnion -------------------------------------------------------------------------------------
@pytest.mark.parametrize("weights", [None, {"pca": 10, "scale": 0.25, "pass": 2}])
def test_feature_union(weights):
    A = X[["g", "h", "i"]]
    union = FeatureUnion(
        [("scale", StandardScaler()), ("pca", PCA(2)), ("pass", "passthrough"), ("no", "drop")],
        transformer_weights=weights,
    )
    assert_same(make_pipeline(union, LogisticRegression()).fit(A, y), A)
    assert_same(union.fit(A), A)


def test_feature_union_with_a_sparse_part():
    A = X[["g", "i"]]
    union = FeatureUnion([("scale", StandardScaler()), ("one", OneHotEncoder(handle_unknown="ignore"))])
    assert_same(make_pipeline(union, StandardScaler(with_mean=False)).fit(A), A, rtol=0, atol=0)


# --- set_output: names reach the next steps -----------------------------------------------------------
@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_names_flow_through_frames(container):
    first = ColumnTransformer(
        [
            ("num", numeric(), ["f", "g"]),
            ("cat", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["s"]),
        ],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    second = ColumnTransformer(
        [("late", MinMaxScaler(), ["s_b", "g"]), ("keep", "passthrough", ["f"])],
        verbose_feature_names_out=False,
    )
    A = X[["s", "f", "g", "i"]]
    if container == "polars":
        A = pl.DataFrame({c: A[c].to_list() for c in A}, strict=False)
        A = A.with_columns(pl.col("f").fill_nan(0.0))
    pipe = make_pipeline(first, second, LinearRegression()).set_output(transform=container)
    pipe.fit(A, y)
    B = A.to_pandas() if container == "polars" else A
    program = to_program(pipe, schema_of(B), {"predict": ("vector", "float64")})
    actual = interpreter.run(program, columns_of(B, schema_of(B)))["predict"]
    np.testing.assert_allclose(actual, pipe.predict(A), rtol=1e-9)


def test_names_of_every_transformer_flow():
    A = X[["g", "h", "i"]]
    pipe = make_pipeline(
        PCA(2), StandardScaler(), ColumnTransformer([("s", MinMaxScaler(), ["pca1"])], remainder="drop")
    )
    assert_same(pipe.set_output(transform="pandas").fit(A), A)


def test_messages_use_the_names_of_a_frame():
    first = ColumnTransformer([("keep", "passthrough", ["s", "i"])])
    pipe = make_pipeline(first, OrdinalEncoder()).set_output(transform="pandas").fit(X)
    program = converted(pipe, X)
    rows = X.head(2).assign(s=["a", "?"])
    with pytest.raises(UnknownCategoryError, match="row 1: column 'keep__s'"):
        interpreter.run(program, columns_of(rows, schema_of(X)))


def test_a_frame_keeps_a_dtype_a_column():
    A = X[["g", "h", "i"]]
    first = ColumnTransformer([("a", "passthrough", ["g", "i"]), ("b", StandardScaler(), ["h"])])
    last = ColumnTransformer([("late", StandardScaler(), ["b__h"])])  # float32 still, in a frame
    pipe = make_pipeline(first, last).set_output(transform="pandas").fit(A)
    assert reference(pipe, A)["transform"].dtype == np.float32
    assert_same(pipe, A, rtol=0, atol=0)
    assert_same(make_pipeline(first, ColumnTransformer([("late", StandardScaler(), [2])])).fit(A), A, rtol=0, atol=0)


def test_none_becomes_nan_in_a_pandas_frame():
    A = X[["s", "o"]]
    fill = SimpleImputer(strategy="constant", missing_values="x", fill_value="z")
    A = A[A["o"].map(lambda v: v == v) & A["s"].notna()].reset_index(drop=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = make_pipeline(fill, OrdinalEncoder()).set_output(transform="pandas").fit(A)
    assert_same(pipe, A)


# --- FunctionTransformer ------------------------------------------------------------------------------
def test_the_identity_function():
    A = X[["g", "i"]]
    assert_same(make_pipeline(FunctionTransformer(), StandardScaler()).fit(A), A)
    assert_same(make_pipeline(FunctionTransformer(validate=True), StandardScaler()).fit(A), A)
    assert_same(FunctionTransformer(validate=True).fit(A[["i"]]), A[["i"]])


def test_other_functions_are_refused_by_name():
    pipe = Pipeline([("log", FunctionTransformer(np.log1p)), ("scale", StandardScaler())]).fit(X[["h"]] ** 2)
    with pytest.raises(UnsupportedParameterError, match=r"step log: FunctionTransformer\(func='log1p'\)"):
        converted(pipe, X[["h"]] ** 2)


def test_strings_given_to_a_numeric_step_are_named():
    ct = ColumnTransformer([("s", StandardScaler(), ["g", "i"])]).fit(X)
    A = X.copy()
    A["i"] = "text"
    with pytest.raises(UnsupportedParameterError, match="step s: StandardScaler is given strings: column 'i'"):
        to_program(ct, schema_of(A), {"transform": ("matrix", "float64")})
