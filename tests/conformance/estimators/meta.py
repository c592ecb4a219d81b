"""Voting and stacking beyond one label a row, and with members left out."""

from __future__ import annotations

from sklearn.ensemble import (
    RandomForestClassifier,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.multiclass import OneVsRestClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from tests.conformance.estimators.data import iris_names, number, two_classes, two_names
from tests.conformance.estimators.multioutput import multi_label, multi_label_bool
from tests.conformance.estimators.table import variant

_TREE = ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))
_FOREST = ("forest", RandomForestClassifier(n_estimators=4, random_state=0))
_LINEAR = ("linear", LogisticRegression())
_RIDGE = ("ridge", RidgeClassifier())
_RESTS = ("rests", OneVsRestClassifier(LogisticRegression()))
_LABELS = RandomForestClassifier(n_estimators=3, random_state=0)

VARIANTS = (
    variant(VotingClassifier([_TREE, _LINEAR], voting="soft", flatten_transform=False), iris_names),
    variant(VotingClassifier([_TREE, ("gone", "drop"), _LINEAR], weights=[1, 5, 2]), two_names),
    variant(VotingClassifier([_TREE, ("gone", "drop"), _LINEAR], voting="soft", weights=[1, 5, 2]), two_classes),
    variant(VotingRegressor([("a", LinearRegression()), ("b", "drop")]), number),
    variant(StackingClassifier([_FOREST, _TREE], final_estimator=_LABELS, cv=3), multi_label),
    variant(StackingClassifier([_RESTS, _TREE], final_estimator=_LABELS, cv=3, passthrough=True), multi_label_bool),
    variant(StackingClassifier([_RIDGE, _TREE], final_estimator=RidgeClassifier(), cv=3), multi_label),
    variant(StackingClassifier([_FOREST], final_estimator=_LABELS, stack_method="predict", cv=3), multi_label),
    variant(StackingClassifier([_TREE, ("gone", "drop"), _RIDGE], cv=3), two_names),
    variant(StackingRegressor([("a", Ridge()), ("gone", "drop"), ("b", DecisionTreeRegressor(max_depth=2))]), number),
)
