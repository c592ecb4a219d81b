"""Voting and stacking against scikit-learn: weights, ties, dropped estimators, stack methods, passthrough."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import edgeml
from edgeml.cli.results import result_columns
from edgeml.converters import to_program
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import interpreter
from tests.oracle import assert_same, columns_of, converted, schema_of

RNG = np.random.default_rng(5)
X = RNG.normal(size=(150, 4))
LABELS = {2: ["no", "yes"], 3: ["b", "a", "ccc"]}


def target(classes):
    return np.array(LABELS[classes])[(X[:, 0] > 0).astype(int) + (X[:, 1] > 0.3) * (classes - 2)]


def classifiers():
    return [
        ("logistic", LogisticRegression()),
        ("tree", DecisionTreeClassifier(max_depth=2, random_state=0)),
        ("forest", RandomForestClassifier(5, max_depth=3, random_state=0)),
    ]


def regressors():
    return [
        ("linear", LinearRegression()),
        ("tree", DecisionTreeRegressor(max_depth=3, random_state=0)),
        ("forest", RandomForestRegressor(5, max_depth=3, random_state=0)),
    ]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("weights", [None, [2, 1, 1], [0.1, 0.7, 0.25], [0, 0, 3]])
@pytest.mark.parametrize("voting", ["hard", "soft"])
def test_voting_classifier(voting, weights, classes):
    assert_same(VotingClassifier(classifiers(), voting=voting, weights=weights).fit(X, target(classes)), X)


def test_a_hard_tie_goes_to_the_first_class():
    trees = [(f"tree {i}", DecisionTreeClassifier(max_depth=1, max_features=1, random_state=i)) for i in range(4)]
    est = VotingClassifier(trees, voting="hard").fit(X, target(3))
    votes = np.stack([tree.predict(X) for tree in est.estimators_])
    counts = np.stack([(votes == k).sum(axis=0) for k in range(3)])
    assert ((counts == counts.max(axis=0)).sum(axis=0) > 1).any()
    assert_same(est, X)


def test_voting_without_dropped_estimators():
    est = VotingClassifier(classifiers(), voting="soft", weights=[1, 2, 3]).set_params(tree="drop")
    assert_same(est.fit(X, target(3)), X)
    est = VotingRegressor(regressors(), weights=[1, 2, 3]).set_params(linear="drop")
    assert_same(est.fit(X, X[:, 0] * X[:, 1]), X)


def test_voting_refuses_negative_weights():
    est = VotingClassifier(classifiers(), weights=[1, -2, 1]).fit(X, target(3))
    with pytest.raises(UnsupportedParameterError, match="weights"):
        converted(est, X)


def test_voting_without_flatten_transform_gives_three_axes(tmp_path):
    est = VotingClassifier(classifiers(), voting="soft", flatten_transform=False).fit(X, target(3))
    edgeml.compile(est, X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_allclose(model.transform(X), est.transform(X), rtol=1e-12)
        assert model.transform(X).shape == (3, len(X), 3)
        columns = result_columns("transform", model.transform(X[:2]), None)
        assert list(columns)[:4] == ["transform_0_0", "transform_0_1", "transform_0_2", "transform_1_0"]


@pytest.mark.parametrize("weights", [None, [2, 1, 1], [0.1, 0.7, 0.25]])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_voting_regressor(weights, dtype):
    Z = X.astype(dtype)
    # scikit-learn adds float32 products in float32, in the order BLAS likes
    tolerance = 1e-9 if dtype == "float64" else 1e-5
    est = VotingRegressor(regressors(), weights=weights).fit(Z, Z[:, 0] * Z[:, 1] + 5)
    assert_same(est, Z, rtol=tolerance, atol=tolerance / 10)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("passthrough", [False, True])
@pytest.mark.parametrize("method", ["auto", "predict_proba", "predict"])
def test_stacking_classifier(method, passthrough, classes):
    est = StackingClassifier(classifiers(), cv=3, stack_method=method, passthrough=passthrough)
    assert_same(est.fit(X, target(classes)), X)


@pytest.mark.parametrize("classes", [2, 3])
def test_stacking_takes_decision_functions_where_there_are_no_probabilities(classes):
    est = StackingClassifier(
        [("ridge", RidgeClassifier()), *classifiers()],
        final_estimator=HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=3),
        cv=3,
    ).fit(X, target(classes))
    assert est.stack_method_[0] == "decision_function"
    # A tree behind computed scores: a last bit may cross a threshold, so the rows are those of fit only.
    assert_same(est, X)


def test_stacking_on_estimators_that_are_fitted_already():
    y = target(2)
    fitted = [(name, est.fit(X, y)) for name, est in classifiers()]
    assert_same(StackingClassifier(fitted, cv="prefit", passthrough=True).fit(X, y), X)


def test_stacking_without_dropped_estimators():
    est = StackingClassifier(classifiers(), cv=3).set_params(logistic="drop")
    assert_same(est.fit(X, target(3)), X)


@pytest.mark.parametrize("passthrough", [False, True])
def test_stacking_regressor(passthrough):
    est = StackingRegressor(regressors(), cv=3, passthrough=passthrough)
    assert_same(est.fit(X, X[:, 0] ** 2), X)
    est = StackingRegressor(regressors(), final_estimator=Ridge(), cv=3, passthrough=passthrough)
    assert_same(est.fit(X, X[:, 0] ** 2), X)


def test_stacking_on_a_frame():
    frame = pd.DataFrame({"a": X[:, 0], "b": RNG.integers(0, 5, len(X)), "c": X[:, 1]})
    est = StackingClassifier(classifiers()[1:], cv=3, passthrough=True)
    assert_same(est.fit(frame, target(2)), frame)


def test_nested_ensembles():
    inner = VotingClassifier(classifiers(), voting="soft")
    est = StackingClassifier([("vote", inner), ("tree", DecisionTreeClassifier(max_depth=2))], cv=3)
    assert_same(est.fit(X, target(3)), X)


def test_stacking_of_a_multilabel_target_gives_the_first_class_of_each_label():
    y = (X[:, :2] > 0).astype(int)
    est = StackingClassifier(
        [("tree", DecisionTreeClassifier(max_depth=2))],
        final_estimator=DecisionTreeClassifier(max_depth=2),
        cv=3,
    ).fit(X, y)
    returns = {"predict": ("matrix", "i8"), "predict_proba": ("matrix", "f8")}
    found = interpreter.run(to_program(est, schema_of(X), returns), columns_of(X, schema_of(X)))
    np.testing.assert_array_equal(found["predict"], est.predict(X))
    np.testing.assert_array_equal(found["predict_proba"], est.predict_proba(X))
