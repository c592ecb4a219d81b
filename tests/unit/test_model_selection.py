"""Searches and threshold classifiers against scikit-learn: every response method, positive labels, ties at the cut."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    RandomizedSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

import edgeml
from edgeml.errors import CompileError, UnsupportedParameterError
from tests.oracle import assert_same, converted

RNG = np.random.default_rng(7)
X = RNG.normal(size=(200, 3))
LABELS = np.array(["no", "yes"])[(X[:, 0] + RNG.normal(size=200) * 0.5 > 0.3).astype(int)]
DEPTHS = {"max_depth": [2, 3]}
FOREST = RandomForestClassifier(4, random_state=0)


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(FOREST, DEPTHS, cv=2),
        RandomizedSearchCV(FOREST, DEPTHS, n_iter=2, cv=2),
        HalvingGridSearchCV(FOREST, DEPTHS, cv=2),
        HalvingRandomSearchCV(FOREST, DEPTHS, n_candidates=2, cv=2, random_state=0),
        GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=2),
        make_pipeline(StandardScaler(), GridSearchCV(LogisticRegression(), {"C": [0.1, 1]}, cv=2)),
        GridSearchCV(FOREST, DEPTHS, cv=2, scoring=["accuracy", "f1_macro"], refit="f1_macro"),
    ],
    ids=lambda s: type(s).__name__,
)
def test_searches(search):
    assert_same(search.fit(X, LABELS), X, X * 3)


def test_search_of_a_transformer():
    search = GridSearchCV(StandardScaler(), {"with_mean": [True, False]}, cv=2, scoring=lambda est, X, y=None: 0.0)
    assert_same(search.fit(X), X)


def test_search_compiles_with_its_leaves_checked(tmp_path):
    frame = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "c": RNG.choice(["x", "y"], 200)})
    from sklearn.compose import make_column_transformer

    prep = make_column_transformer((OneHotEncoder(handle_unknown="ignore"), ["c"]), remainder="passthrough")
    grid = {"randomforestclassifier__max_depth": [2, 4]}
    search = GridSearchCV(make_pipeline(prep, FOREST), grid, cv=2).fit(frame, LABELS)
    bundle = edgeml.compile(search, frame, output=tmp_path / "m.edgeml")
    assert bundle.json("report.json")["leaves"]["sklearn"] == 0
    with edgeml.load(tmp_path / "m.edgeml") as model:
        assert model.predict(frame).tolist() == search.predict(frame).tolist()
        assert model.classes_.tolist() == ["no", "yes"]


def test_search_without_refit(tmp_path):
    search = GridSearchCV(LogisticRegression(), {"C": [1.0]}, cv=2, refit=False).fit(X, LABELS)
    with pytest.raises(UnsupportedParameterError, match="refit=False"):
        converted(search, X)
    with pytest.raises(CompileError, match="refit=True"):
        edgeml.compile(search, X, output=tmp_path / "m.edgeml")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("positive", [None, "no", "yes"])
@pytest.mark.parametrize("threshold", ["auto", 0.3])
@pytest.mark.parametrize("response", ["auto", "predict_proba", "decision_function"])
def test_fixed_threshold(response, threshold, positive):
    est = FixedThresholdClassifier(
        LogisticRegression(), threshold=threshold, pos_label=positive, response_method=response
    )
    assert_same(est.fit(X, LABELS), X, X * 3)


def test_fixed_threshold_on_a_decision_function():
    assert_same(FixedThresholdClassifier(LinearSVC(), threshold=-0.2).fit(X, LABELS), X, X * 3)


@pytest.mark.parametrize("positive", ["no", "yes"])
def test_a_score_on_the_threshold_is_positive(positive):
    forest = FixedThresholdClassifier(RandomForestClassifier(4, random_state=0), threshold=0.5, pos_label=positive).fit(
        X, LABELS
    )
    assert (forest.predict_proba(X) == 0.5).any()
    assert_same(forest, X)


def test_a_threshold_and_float32_scores_are_compared_as_numpy_does():
    x = X[:, :1].astype(np.float32)
    score = float(LogisticRegression().fit(x, LABELS).decision_function(x)[5])
    on_a_row = score + abs(score) * 1e-12  # the row's own score in float32, above it in float64
    answers = []
    for threshold in (on_a_row, np.float64(on_a_row)):
        inner = LogisticRegression()
        est = FixedThresholdClassifier(inner, threshold=threshold, response_method="decision_function")
        assert_same(est.fit(x, LABELS), x, rtol=1e-5)
        answers.append(est.predict(x)[5])
    assert answers == ["yes", "no"]


@pytest.mark.parametrize(
    "scoring", ["balanced_accuracy", make_scorer(f1_score, pos_label="no"), make_scorer(f1_score, pos_label="yes")]
)
@pytest.mark.parametrize("inner", [LogisticRegression(), LinearSVC()], ids=["proba", "decision"])
def test_tuned_threshold(inner, scoring):
    assert_same(TunedThresholdClassifierCV(inner, scoring=scoring, cv=2).fit(X, LABELS), X, X * 3)


def test_a_search_of_a_regressor():
    assert_same(GridSearchCV(LinearRegression(), {"fit_intercept": [True]}, cv=2).fit(X, X[:, 0]), X)
