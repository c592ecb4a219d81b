"""Trees and forests against scikit-learn: answers, leaves, missing values, thresholds hit exactly."""

import time

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    VotingRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from edgeml.converters import to_program
from edgeml.errors import NonFiniteError
from edgeml.ir import interpreter
from edgeml.parity.leaves import leaf_program, sklearn_leaves
from tests.oracle import assert_same, columns_of, schema_of
from tests.tree_rows import around_thresholds, thresholds_of, with_cells

RNG = np.random.default_rng(7)
CLASSIFIERS = [DecisionTreeClassifier, ExtraTreeClassifier, RandomForestClassifier, ExtraTreesClassifier]
REGRESSORS = [DecisionTreeRegressor, ExtraTreeRegressor, RandomForestRegressor, ExtraTreesRegressor]
ZEROS_AND_EXTREMES = (0.0, -0.0, 5e-324, -5e-324, 3.4028234e38, -3.4028234e38, 1e-40)


def small(estimator, **options):
    """A quick estimator of its kind: few trees in a forest."""
    if "n_estimators" in estimator().get_params():
        options.setdefault("n_estimators", 7)
    return estimator(random_state=0, **options)


def data(rows=300, columns=5, *, missing=0.0, dtype="float64"):
    """Columns of very different magnitude, one of small integers with ties, some cells missing."""
    X = RNG.normal(size=(rows, columns)) * 10.0 ** np.arange(-2, columns - 2)
    X[:, 0] = RNG.integers(-3, 4, rows)
    X[RNG.random(X.shape) < missing] = np.nan
    return X.astype(dtype)


def trees_of(est):
    return [tree.tree_ for tree in getattr(est, "estimators_", [est])]


def assert_leaves(est, program, X, rows):
    """The program reaches the leaves that scikit-learn's apply names."""
    want = sklearn_leaves(est, rows)
    got = interpreter.run(leaf_program(program), columns_of(rows, schema_of(X)), ["leaves_0"])["leaves_0"]
    np.testing.assert_array_equal(got, want)


def check(est, X, *more):
    """Same answers and leaves on the sample, around thresholds, on extremes, and on ``more`` rows."""
    rows = np.concatenate(
        [X, around_thresholds(X, *thresholds_of(trees_of(est))), with_cells(X, ZEROS_AND_EXTREMES), *more]
    )
    program = assert_same(est, X, rows)
    assert_leaves(est, program, X, rows)
    return program


@pytest.mark.parametrize("estimator", CLASSIFIERS)
@pytest.mark.parametrize(
    "labels", [[0, 1], [3, -1, 7], ["no", "yes"], ["a", "b", "cé"], [False, True], [0.5, 1.5, 2.0]]
)
def test_classifiers(estimator, labels):
    X = data()
    codes = RNG.integers(0, len(labels), len(X)) * (X[:, 0] > -2)
    y = np.array(labels)[codes]
    if y.dtype.kind == "f":
        y = (y * 2).astype(int) * 1.0  # scikit-learn takes floats as classes when they are whole numbers
    check(small(estimator, max_depth=6).fit(X, y), X)


@pytest.mark.parametrize("estimator", REGRESSORS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_regressors(estimator, dtype):
    X = data(dtype=dtype)
    check(small(estimator).fit(X, X[:, 1].astype(float) * 3 + RNG.normal(size=len(X))), X)


@pytest.mark.parametrize("estimator", [DecisionTreeClassifier, RandomForestClassifier, ExtraTreesClassifier])
def test_integer_features(estimator):
    X = RNG.integers(-(2**40), 2**40, (200, 3))
    est = small(estimator).fit(X, RNG.integers(0, 3, 200))
    rows = np.concatenate([X, np.array([[2**62, -(2**62), 0], [2**24 + 1, 2**53 + 1, -1]])])
    assert_leaves(est, assert_same(est, X, rows), X, rows)


@pytest.mark.parametrize("estimator", CLASSIFIERS)
def test_missing_values_in_fit(estimator):
    X = data(missing=0.2)
    y = (np.isnan(X[:, 1]) | (np.nan_to_num(X[:, 2]) > 0)).astype(int) + (np.nan_to_num(X[:, 0]) > 1)
    est = small(estimator, max_depth=5).fit(X, y)
    program = check(est, X, with_cells(X, [np.nan]), np.full((1, X.shape[1]), np.nan))
    assert program.nodes[-1].op != "CheckFinite"


@pytest.mark.parametrize("estimator", [DecisionTreeRegressor, RandomForestRegressor, ExtraTreesRegressor])
def test_missing_values_only_in_new_rows(estimator):
    X = data()
    est = small(estimator).fit(X, X[:, 1] + X[:, 2])
    check(est, X, with_cells(X, [np.nan]))


def test_a_split_that_only_tells_missing_from_present_has_an_infinite_threshold():
    X = np.array([[1.0], [2.0], [3.0], [np.nan], [np.nan], [5.0]])
    est = DecisionTreeClassifier().fit(X, np.isnan(X[:, 0]).astype(int))
    assert np.isinf(est.tree_.threshold[0])
    assert_leaves(est, assert_same(est, X), X, np.array([[np.nan], [3.4e38], [-3.4e38], [0.0]]))


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_infinity_is_refused_after_the_cast_to_float32(value):
    X = data()
    est = small(RandomForestClassifier).fit(X, X[:, 0] > 0)
    bad = X.copy()
    bad[3, 2] = value
    with pytest.raises(ValueError, match="infinity or a value too large"), np.errstate(over="ignore"):
        est.predict(bad)
    program = assert_same(est, X)
    with pytest.raises(NonFiniteError, match="RandomForestClassifier"):
        interpreter.run(program, columns_of(bad, schema_of(X)))


def test_an_extra_tree_refuses_nan_as_its_splitter_decides():
    X = data()
    est = ExtraTreeClassifier(splitter="best", random_state=0).fit(X, X[:, 0] > 0)
    bad = with_cells(X, [np.nan])
    with pytest.raises(ValueError, match="NaN"):
        est.predict(bad)
    with pytest.raises(NonFiniteError):
        interpreter.run(assert_same(est, X), columns_of(bad, schema_of(X)))


@pytest.mark.parametrize(
    "options",
    [
        {"max_leaf_nodes": 9},  # grown best first
        {"max_leaf_nodes": 40},
        {"ccp_alpha": 0.01},  # pruned after growing
        {"class_weight": {0: 1.0, 1: 7.5, 2: 0.25}},
        {"class_weight": "balanced", "criterion": "entropy"},
        {"max_depth": 1},
        {"monotonic_cst": [1, 0, 0, -1, 0]},
        {"min_weight_fraction_leaf": 0.1, "max_features": 2},
    ],
)
@pytest.mark.parametrize("estimator", [DecisionTreeClassifier, RandomForestClassifier])
def test_growth_options(estimator, options):
    X = data(missing=0.0 if "monotonic_cst" in options else 0.1)
    codes = 2 if "monotonic_cst" in options else 3
    y = RNG.integers(0, codes, len(X)) * (np.nan_to_num(X[:, 0]) > -2)
    if isinstance(options.get("class_weight"), dict):
        options = {"class_weight": {k: v for k, v in options["class_weight"].items() if k in y}}
    check(small(estimator, **options).fit(X, y), X)


@pytest.mark.parametrize("criterion", ["squared_error", "absolute_error", "poisson"])
def test_regression_criteria_and_sample_weights(criterion):
    X = data(120)
    y = RNG.gamma(2.0, size=len(X))
    est = DecisionTreeRegressor(criterion=criterion, max_depth=5).fit(X, y, sample_weight=RNG.random(len(X)) + 0.1)
    check(est, X)


@pytest.mark.parametrize("estimator", [*CLASSIFIERS, *REGRESSORS])
def test_single_node_trees(estimator):
    X = data(20)
    y = np.full(20, 4)
    est = small(estimator).fit(X, y)
    assert all(tree.node_count == 1 for tree in trees_of(est))
    assert_leaves(est, assert_same(est, X), X, X)


@pytest.mark.parametrize("estimator", REGRESSORS)
def test_several_outputs_of_a_regressor(estimator):
    X = data()
    check(small(estimator, max_depth=5).fit(X, np.stack([X[:, 1], X[:, 2] ** 2, X[:, 0]], axis=1)), X)


@pytest.mark.parametrize("estimator", [DecisionTreeClassifier, RandomForestClassifier])
@pytest.mark.parametrize("strings", [False, True])
def test_several_outputs_of_a_classifier(estimator, strings):
    X = data()
    y = np.stack([RNG.integers(0, 2, len(X)), RNG.integers(0, 4, len(X))], axis=1)
    y = np.array(["a", "bb", "c", "d"])[y] if strings else y
    est = small(estimator, max_depth=5).fit(X, y)
    want = est.predict(X)
    returns = {"predict": ("matrix", want.dtype.str), "predict_proba": ("list", "<f8")}
    program = to_program(est, schema_of(X), returns)
    got = interpreter.run(program, columns_of(X, schema_of(X)))
    assert got["predict"].dtype == want.dtype
    np.testing.assert_array_equal(got["predict"], want)
    np.testing.assert_array_equal(got["predict_proba"], np.concatenate(est.predict_proba(X), axis=1))
    assert [program.type_of(v).width for v in program.outputs["predict_proba"].values] == [2, 4]


def test_ties_go_to_the_first_class():
    X = np.array([[0.0], [0.0], [1.0], [1.0]])
    est = DecisionTreeClassifier().fit(X, [2, 1, 5, 1])
    assert list(est.predict(X)) == [1, 1, 1, 1]
    assert_same(est, X)


def test_in_a_pipeline_on_a_frame():
    X = pd.DataFrame({"a": RNG.normal(size=80), "b": RNG.integers(0, 5, 80), "c": RNG.random(80) < 0.5})
    est = small(RandomForestRegressor).fit(X, X["a"] + X["b"])
    assert_leaves(est, assert_same(est, X), X, X)


def test_leaves_behind_other_steps():
    X = data()
    pipeline = make_pipeline(StandardScaler(), small(RandomForestClassifier)).fit(X, X[:, 0] > 0)
    leaves = sklearn_leaves(pipeline, X)
    np.testing.assert_array_equal(leaves, sklearn_leaves(pipeline[-1], pipeline[:-1].transform(X)))
    assert sklearn_leaves(make_pipeline(pipeline[-1]), X).shape == (len(X), 7)
    assert sklearn_leaves(StandardScaler().fit(X), X) is None
    assert sklearn_leaves(make_pipeline(StandardScaler()).fit(X), X) is None


def test_every_ensemble_of_a_program_shows_its_leaves():
    X = data()
    trees = [("a", small(RandomForestRegressor)), ("b", DecisionTreeRegressor(max_depth=3))]
    est = VotingRegressor(trees).fit(X, X[:, 1])
    program = leaf_program(assert_same(est, X))
    got = interpreter.run(program, columns_of(X, schema_of(X)))
    assert set(got) == {"predict", "transform", "leaves_0", "leaves_1"}
    for name, fitted in zip(["leaves_0", "leaves_1"], est.estimators_, strict=True):
        np.testing.assert_array_equal(got[name], sklearn_leaves(fitted, X))
    assert sklearn_leaves(est, X) is None


def test_a_forest_lowers_quickly():
    X = data(5000)
    est = RandomForestRegressor(100, max_depth=8, random_state=0, n_jobs=2).fit(X, X[:, 1] * X[:, 2])
    spent = []
    for _ in range(3):
        start = time.thread_time()
        program = to_program(est, schema_of(X), {"predict": ("vector", "f8")})
        spent.append(time.thread_time() - start)
    assert min(spent) < 1.0
    forest = next(node for node in program.nodes if node.op == "TreeEnsemble")
    assert len(forest.attrs["feature"]) == sum(t.node_count for t in trees_of(est))
