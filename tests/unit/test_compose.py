"""Pipeline, FeatureUnion, names in frames and the identity FunctionTransformer against scikit-learn."""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
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

from edgeml.converters import CONVERTERS, to_program
from edgeml.errors import (
    NotFittedError,
    UnknownCategoryError,
    UnsupportedEstimatorError,
    UnsupportedParameterError,
)
from edgeml.ir import interpreter
from tests.compose_tools import NUMBERS, STRINGS, X, encode, frame, y
from tests.oracle import assert_same, columns_of, converted, reference, schema_of


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


def test_a_middle_step_says_why_its_transform_cannot_be_had(monkeypatch):
    def without_transform(c, est, block):
        c.cannot_give(est, "transform", "draws random numbers", "use another")
        return {}

    entry = replace(CONVERTERS["sklearn.StandardScaler"], convert=without_transform)
    monkeypatch.setitem(CONVERTERS, "sklearn.StandardScaler", entry)
    A = X[["g", "i"]]
    pipe = Pipeline([("scale", StandardScaler().fit(A)), ("end", "passthrough")])
    with pytest.raises(UnsupportedParameterError, match="step scale: transform of StandardScaler draws random numbers"):
        to_program(pipe, schema_of(A), {"transform": ("matrix", "float64")})


def test_an_unfitted_step_is_named():
    A = X[["g", "i"]]
    pipe = Pipeline([("scale", StandardScaler()), ("clf", LogisticRegression().fit(A, y))])
    with pytest.raises(NotFittedError, match="step scale: StandardScaler is not fitted"):
        to_program(pipe, schema_of(A), {"predict": ("vector", "int64")})


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
    pipe = Pipeline([("spectrum", FunctionTransformer(lambda X: np.fft.fft(X).real)), ("scale", StandardScaler())]).fit(
        X[["h"]] ** 2
    )
    with pytest.raises(UnsupportedParameterError, match=r"step spectrum: FunctionTransformer\(func='<lambda>'\)"):
        converted(pipe, X[["h"]] ** 2)
