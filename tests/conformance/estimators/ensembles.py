"""Boosted trees, voting and stacking: losses, starting points, categories, and combinations of answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.conformance.estimators.data import float32, iris, iris_names, missing, number, one_column, two_names
from tests.conformance.estimators.linear import above_zero
from tests.conformance.estimators.linear_classifiers import odd_numbers, true_or_false
from tests.conformance.estimators.table import variant
from tests.conformance.estimators.trees import missing_number


def categories():
    """A frame with a categorical column, a coded one, and missing cells; a numeric target."""
    X, y = missing_number()
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    names = np.array(["red", "green", "blue"])[iris()[1]]
    frame["colour"] = pd.Categorical(np.where(np.arange(len(y)) % 9 == 0, None, names))
    return frame, y


def coded():
    """Codes of categories in the second column, three classes."""
    X, y = iris()
    X = X.copy()
    X[:, 1] = np.rint(10 * X[:, 1]) % 12
    return X, y


def _boosted(**parameters):
    return GradientBoostingClassifier(n_estimators=4, random_state=0, **parameters)


def _boosted_number(**parameters):
    return GradientBoostingRegressor(n_estimators=4, random_state=0, **parameters)


def _hist(**parameters):
    return HistGradientBoostingClassifier(max_iter=4, min_samples_leaf=5, random_state=0, **parameters)


def _hist_number(**parameters):
    return HistGradientBoostingRegressor(max_iter=4, min_samples_leaf=5, random_state=0, **parameters)


_CLASSIFIERS = [("tree", DecisionTreeClassifier(max_depth=3, random_state=0)), ("bayes", GaussianNB())]
_SCORED = [("line", LogisticRegression()), ("margin", LinearSVC(random_state=0)), ("bayes", GaussianNB())]
_REGRESSORS = [("tree", DecisionTreeRegressor(max_depth=3, random_state=0)), ("line", LinearRegression())]
_FOREST = RandomForestClassifier(n_estimators=3, max_depth=3, random_state=0)

# Probabilities of 1e-20 and less, passed on as numbers.
_SHARES = "tflite engine, sample: transform"

# A start of 0 or 1, moved by 2e-16.
_CERTAIN = "rows are beyond the range of float32"

VARIANTS = (
    *(variant(_boosted(), data) for data in (iris, iris_names, two_names, true_or_false, odd_numbers, float32)),
    variant(_boosted(loss="exponential"), two_names),
    variant(_boosted(init="zero"), iris),
    variant(_boosted(init="zero"), true_or_false),
    variant(_boosted(init=DummyClassifier(strategy="most_frequent")), two_names),
    variant(_boosted(init=LogisticRegression()), iris),
    variant(_boosted(init=DecisionTreeClassifier(max_depth=2, random_state=0), loss="exponential"), two_names,
            tflite=_CERTAIN),
    variant(_boosted(init=DecisionTreeClassifier(max_depth=2, random_state=0)), true_or_false, tflite=_CERTAIN),
    variant(_boosted(learning_rate=0.5, subsample=0.7, max_features="sqrt"), iris),
    variant(_boosted(criterion="squared_error", max_leaf_nodes=4, ccp_alpha=0.01), iris),
    variant(_boosted(warm_start=True, n_iter_no_change=2), two_names),
    *(variant(_boosted_number(loss=loss), number) for loss in ("squared_error", "absolute_error", "huber", "quantile")),
    variant(_boosted_number(loss="quantile", alpha=0.2), number),
    variant(_boosted_number(loss="huber", alpha=0.6, learning_rate=0.7), number),
    variant(_boosted_number(init="zero"), number),
    variant(_boosted_number(init=DummyRegressor(strategy="median")), number),
    variant(_boosted_number(init=DecisionTreeRegressor(max_depth=2, random_state=0)), number),
    variant(_boosted_number(subsample=0.5, max_features=2, ccp_alpha=0.01), number),
    *(variant(_hist(), data) for data in (iris, iris_names, two_names, true_or_false, odd_numbers, float32, missing)),
    variant(_hist(categorical_features=[1]), coded),
    variant(_hist(categorical_features=[False, True, False, False], max_bins=16), coded),
    variant(_hist(monotonic_cst=[1, 0, -1, 0]), two_names),
    variant(_hist(class_weight="balanced", l2_regularization=1.0), iris),
    variant(_hist(interaction_cst="no_interactions", learning_rate=0.4), iris),
    variant(_hist(early_stopping=True, validation_fraction=0.3, max_features=0.5), iris),
    *(variant(_hist_number(loss=loss), number) for loss in ("squared_error", "absolute_error")),
    *(variant(_hist_number(loss=loss), above_zero) for loss in ("poisson", "gamma")),
    variant(_hist_number(loss="quantile", quantile=0.3), number),
    variant(_hist_number(), missing_number),
    variant(_hist_number(), categories),
    variant(_hist_number(categorical_features=None), missing_number),
    variant(_hist_number(categorical_features=["colour"], max_leaf_nodes=4), categories),
    variant(_hist_number(monotonic_cst=[0, 1, 0, -1], warm_start=True), number),
    variant(VotingClassifier(_CLASSIFIERS), iris_names),
    variant(VotingClassifier(_CLASSIFIERS, weights=[1, 3]), two_names),
    variant(VotingClassifier(_CLASSIFIERS, voting="soft"), iris_names, tflite=_SHARES),
    variant(VotingClassifier(_CLASSIFIERS, voting="soft", weights=[0.3, 0.7]), true_or_false),
    variant(VotingClassifier([*_CLASSIFIERS, ("none", "drop")], voting="soft"), odd_numbers, tflite=_SHARES),
    variant(VotingRegressor(_REGRESSORS), number),
    variant(VotingRegressor(_REGRESSORS, weights=[2, 1]), number),
    variant(VotingRegressor([*_REGRESSORS, ("none", "drop")]), one_column),
    variant(StackingClassifier(_SCORED, cv=3), iris_names, tflite=_SHARES),
    variant(StackingClassifier(_SCORED, cv=3), two_names),
    variant(StackingClassifier(_SCORED, cv=3, stack_method="predict", passthrough=True), odd_numbers),
    variant(StackingClassifier(_CLASSIFIERS, cv=3, stack_method="predict_proba"), true_or_false),
    variant(StackingClassifier(_CLASSIFIERS, _FOREST, cv=3, passthrough=True), iris, tflite=_SHARES),
    variant(StackingClassifier(_SCORED, SGDClassifier(random_state=0), cv=3), iris, tflite=_SHARES),
    variant(StackingRegressor(_REGRESSORS, cv=3), number),
    variant(StackingRegressor(_REGRESSORS, Ridge(), cv=3, passthrough=True), number),
    variant(StackingRegressor([*_REGRESSORS, ("none", "drop")], DecisionTreeRegressor(max_depth=3, random_state=0), cv=3),
            one_column),
)  # fmt: skip
