"""GradientBoosting and HistGradientBoosting against scikit-learn: losses, starts, missing, categories."""

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.tree import DecisionTreeRegressor

import edgeml
from edgeml.errors import NonFiniteError, UnsupportedParameterError
from edgeml.ir import interpreter
from edgeml.parity.leaves import leaf_program, sklearn_leaves
from tests.oracle import assert_same, columns_of, converted, schema_of
from tests.tree_rows import around_thresholds, thresholds_of, with_cells

EXTREMES = (0.0, -0.0, 5e-324, 3.4028234e38, -3.4028234e38)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def data(rng, rows=400, *, missing=0.0, dtype="float64"):
    X = rng.normal(size=(rows, 4)) * [0.01, 1.0, 30.0, 1e4]
    X[:, 1] = rng.integers(-4, 5, rows)
    X[rng.random(X.shape) < missing] = np.nan
    return X.astype(dtype)


def assert_leaves(est, program, X, rows):
    want = sklearn_leaves(est, rows)
    got = interpreter.run(leaf_program(program), columns_of(rows, schema_of(X)), ["leaves_0"])["leaves_0"]
    assert want is not None
    np.testing.assert_array_equal(got, want)


def check(est, X, *more):
    if hasattr(est, "_predictors"):
        nodes = np.concatenate([p.nodes for i in est._predictors for p in i])
        feature, threshold = np.where(nodes["is_leaf"], -1, nodes["feature_idx"]), nodes["num_threshold"]
    else:
        feature, threshold = thresholds_of(t.tree_ for t in est.estimators_.ravel())
    extremes = EXTREMES if X.dtype.kind == "f" else (0, 2**62, -(2**62))
    rows = np.concatenate([X, around_thresholds(X, feature, threshold), with_cells(X, extremes), *more])
    program = assert_same(est, X, rows)
    assert_leaves(est, program, X, rows)
    return program


def target(X, classes, rng):
    y = (np.nan_to_num(X[:, 2]) > 0).astype(int) + (np.nan_to_num(X[:, 1]) > 1) * (classes - 2)
    return np.where(rng.random(len(X)) < 0.1, rng.integers(0, classes, len(X)), y)


# --- GradientBoosting ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("loss", ["log_loss", "exponential"])
def test_gradient_boosting_binary(rng, loss, dtype):
    X = data(rng, dtype=dtype)
    y = np.array(["no", "yes"])[target(X, 2, rng)]
    check(GradientBoostingClassifier(loss=loss, n_estimators=12, learning_rate=0.3, random_state=0).fit(X, y), X)


@pytest.mark.parametrize("init", [None, "zero"])
def test_gradient_boosting_three_classes(rng, init):
    X = data(rng)
    y = np.array([5, 1, 9])[target(X, 3, rng)]
    check(GradientBoostingClassifier(n_estimators=9, init=init, random_state=0).fit(X, y), X)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "squared_error"},
        {"loss": "absolute_error"},
        {"loss": "huber", "alpha": 0.8},
        {"loss": "quantile", "alpha": 0.3},
        {"init": "zero", "subsample": 0.5},
        {"init": DummyRegressor(strategy="median")},
        {"max_leaf_nodes": 6, "max_depth": None},
        {"n_iter_no_change": 2, "n_estimators": 100, "tol": 0.05},
        {"ccp_alpha": 0.5},
    ],
    ids=str,
)
def test_gradient_boosting_regressor(rng, options):
    X = data(rng)
    est = GradientBoostingRegressor(**({"n_estimators": 12, "random_state": 0} | options))
    check(est.fit(X, X[:, 1] * 3 + np.abs(X[:, 2])), X)


@pytest.mark.parametrize("strategy", ["uniform", "most_frequent", "prior"])
@pytest.mark.parametrize("classes", [2, 3])
def test_gradient_boosting_starts_from_a_dummy(rng, strategy, classes):
    X = data(rng)
    init = DummyClassifier(strategy=strategy)
    check(
        GradientBoostingClassifier(init=init, n_estimators=4, random_state=0).fit(X, target(X, classes, rng)),
        X,
    )


def test_gradient_boosting_refuses_a_random_start(rng):
    X = data(rng)
    est = GradientBoostingClassifier(init=DummyClassifier(strategy="stratified"), n_estimators=2)
    with pytest.raises(UnsupportedParameterError, match="stratified"):
        converted(est.fit(X, target(X, 2, rng)), X)


@pytest.mark.parametrize(("loss", "classes"), [("log_loss", 2), ("exponential", 2), ("log_loss", 3)])
def test_gradient_boosting_starts_from_a_classifier(rng, loss, classes):
    X = rng.normal(size=(200, 3))
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5) * (classes - 2)
    est = GradientBoostingClassifier(loss=loss, init=LogisticRegression(C=0.01), n_estimators=5, random_state=0)
    # The start sees float32 rows, so scikit-learn itself computes it in float32, in the order BLAS likes.
    assert_same(est.fit(X, y), X, rtol=1e-5, atol=1e-6)


def test_gradient_boosting_starts_from_a_regressor(rng):
    X = rng.normal(size=(200, 3))
    est = GradientBoostingRegressor(init=LinearRegression(), n_estimators=5, random_state=0).fit(X, X[:, 0] ** 2)
    # It hands the regressor float32 rows, whose products BLAS adds in an order of its own: 1.3e-7 off on an AMD EPYC.
    assert_same(est, X, rtol=1e-5, atol=1e-6)
    est = GradientBoostingRegressor(init=DecisionTreeRegressor(max_depth=2), n_estimators=5, random_state=0)
    assert_same(est.fit(X, X[:, 0] ** 2), X)


@pytest.mark.parametrize("init", [LogisticRegression(solver="newton-cg", max_iter=1000), GaussianNB()])
def test_a_start_that_float32_does_not_determine_is_refused_by_name(init, tmp_path):
    X, y = load_breast_cancer(return_X_y=True)
    X = X + np.random.default_rng(0).normal(scale=1e-3, size=X.shape)
    model = make_pipeline(MinMaxScaler((0, 30)), GradientBoostingClassifier(init=init, n_estimators=3)).fit(X, y)
    with pytest.raises(UnsupportedParameterError) as caught:
        edgeml.compile(model, X[:300], output=tmp_path / "m.edgeml", formats=["native"])
    assert f"GradientBoostingClassifier(init={type(init).__name__}())" in caught.value.cause
    assert "init='zero'" in caught.value.remedy


def test_a_raw_prediction_of_zero_is_the_second_class_here_and_the_first_there():
    X, y = np.zeros((100, 2)), np.arange(100) % 2
    there = HistGradientBoostingClassifier(max_iter=2).fit(X, y)
    here = GradientBoostingClassifier(n_estimators=2).fit(X, y)
    assert (there.decision_function(X) == 0).all()
    assert (here.decision_function(X) == 0).all()
    assert here.predict(X).all()
    assert not there.predict(X).any()
    assert_same(here, X)
    assert_same(there, X)


def test_gradient_boosting_refuses_nan(rng):
    X = data(rng)
    est = GradientBoostingRegressor(n_estimators=2).fit(X, X[:, 0])
    bad = with_cells(X, [np.nan])
    with pytest.raises(ValueError, match="NaN"):
        est.predict(bad)
    with pytest.raises(NonFiniteError, match="GradientBoostingRegressor"):
        interpreter.run(converted(est, X), columns_of(bad, schema_of(X)))


# --- HistGradientBoosting -----------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("labels", "missing"), [([0, 1], 0.0), (["no", "yes"], 0.2), ([3, -1, 7], 0.2)])
def test_hist_classifier(rng, labels, missing, dtype):
    X = data(rng, missing=missing, dtype=dtype)
    y = np.array(labels)[target(X, len(labels), rng)]
    est = HistGradientBoostingClassifier(max_iter=8, min_samples_leaf=5, random_state=0).fit(X, y)
    check(est, X, with_cells(X, [np.nan, np.inf, -np.inf]))


def test_hist_compares_in_float64(rng):
    X = 1e9 + np.arange(300.0)[:, None] * [1.0, 1e-3]  # neighbours that float32 cannot tell apart
    check(HistGradientBoostingRegressor(max_iter=5, min_samples_leaf=2).fit(X, np.sin(np.arange(300.0))), X)


@pytest.mark.parametrize(
    "options",
    [
        {"loss": "squared_error"},
        {"loss": "absolute_error"},
        {"loss": "poisson"},
        {"loss": "gamma"},
        {"loss": "quantile", "quantile": 0.2},
        {"early_stopping": True, "n_iter_no_change": 2, "max_iter": 60},
        {"max_bins": 7, "l2_regularization": 2.0, "max_leaf_nodes": None, "max_depth": 3},
        {"monotonic_cst": [1, 0, -1, 0], "interaction_cst": "no_interactions"},
    ],
    ids=str,
)
def test_hist_regressor(rng, options):
    X = data(rng, missing=0.1)
    y = np.exp(np.nan_to_num(X[:, 1]) / 4) + rng.random(len(X))
    est = HistGradientBoostingRegressor(**({"max_iter": 8, "min_samples_leaf": 5, "random_state": 0} | options))
    check(est.fit(X, y), X, with_cells(X, [np.nan, np.inf, -np.inf]))


def test_hist_options_of_the_classifier(rng):
    X = data(rng)
    est = HistGradientBoostingClassifier(max_iter=4, class_weight="balanced", categorical_features=None)
    check(est.fit(X, target(X, 2, rng)), X)
    assert_same(HistGradientBoostingClassifier(max_iter=2).fit(X, np.zeros(len(X), int)), X)


@pytest.mark.parametrize("by", ["index", "mask"])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_hist_native_categories_of_a_matrix(rng, by, missing):
    X = data(rng, missing=missing)
    X[:, 3] = rng.integers(0, 100, len(X)) * 5 - 40  # more categories than one 32-bit word, negative ones too
    categorical = [1, 3] if by == "index" else [False, True, False, True]
    effect = rng.normal(size=100)[((X[:, 3] + 40) / 5).astype(int)]
    est = HistGradientBoostingRegressor(max_iter=10, min_samples_leaf=3, categorical_features=categorical)
    est.fit(X, effect + np.nan_to_num(X[:, 1]) % 3)
    assert any(len(p.raw_left_cat_bitsets) for i in est._predictors for p in i)
    rows = np.concatenate([X, with_cells(X, [np.nan, -1.0, 0.5, -0.5, -0.0, 255.0, 256.0, 300.0, 1e300])])
    rows[-1, 0], rows[-2, 2] = np.inf, -np.inf  # in a numerical column
    program = assert_same(est, X, rows)
    assert_leaves(est, program, X, rows)
    rows[-3, 3] = np.inf  # the encoder of categories refuses it
    with pytest.raises(ValueError, match="infinity"):
        est.predict(rows)
    with pytest.raises(NonFiniteError):
        interpreter.run(program, columns_of(rows, schema_of(X)))


def test_hist_one_category_and_missing(rng):
    X = np.where(rng.random((200, 2)) < 0.4, np.nan, 3.0)
    X[:, 1] = rng.integers(0, 6, 200)
    y = np.isnan(X[:, 0]) * 2.0 + (X[:, 1] == 2) + rng.normal(size=200) * 0.1
    est = HistGradientBoostingRegressor(max_iter=6, min_samples_leaf=3, categorical_features=[0, 1]).fit(X, y)
    rows = np.concatenate([X, with_cells(X, [np.nan, 3.0, 4.0, 0.0])])
    assert_leaves(est, assert_same(est, X, rows), X, rows)


def frame(rng, rows=400):
    """String, category, integer, bool and float columns, some of them with missing cells."""
    towns = np.array(["Ulm", "Köln", "", "\U0001f600", "Bonn"], dtype=object)[rng.integers(0, 5, rows)]
    sizes = pd.Categorical.from_codes(rng.integers(-1, 3, rows), ["S", "M", "L"])
    return pd.DataFrame(
        {
            "x": np.where(rng.random(rows) < 0.1, np.nan, rng.normal(size=rows)),
            "town": pd.Series(towns).where(rng.random(rows) < 0.9, np.nan),
            "count": rng.integers(-3, 9, rows),
            "size": sizes,
            "flag": rng.random(rows) < 0.3,
        }
    )


def strange(X):
    """Rows with a town, a count or a size that fit never saw."""
    rows = X.head(6).copy()
    rows["town"] = pd.Series(["Rom", "ulm", " ", np.nan, "Ulm", "Bonn"], dtype=object)
    rows["count"] = [100, -100, 0, 3, 8, 255]
    return rows


def test_hist_categories_by_name(rng):
    X = frame(rng)
    y = (X["town"] == "Köln") * 2.0 + (X["count"] % 4 == 1) + X["x"].fillna(-1)
    est = HistGradientBoostingRegressor(max_iter=8, min_samples_leaf=3, categorical_features=["town", "count", "size"])
    est.fit(X, y)
    for rows in (X, strange(X)):
        assert_leaves(est, assert_same(est, X, rows), X, rows)


def test_hist_categories_from_dtype(rng):
    X = frame(rng)
    X["town"] = X["town"].astype("category")
    y = ((X["town"] == "Ulm") ^ (X["size"] == "M")) * 1 + (X["count"] > 5)
    est = HistGradientBoostingClassifier(max_iter=6, min_samples_leaf=3).fit(X, y)
    assert list(est.is_categorical_) == [False, True, False, True, False]
    assert_leaves(est, assert_same(est, X), X, X)


def test_hist_only_categories(rng):
    X = frame(rng)[["town", "size"]]
    est = HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=3, categorical_features=[0, 1])
    est.fit(X, (X["size"] == "L").astype(int))
    assert_leaves(est, assert_same(est, X), X, X)
