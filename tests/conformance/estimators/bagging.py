"""Bagging, AdaBoost, and the forests that isolate or embed rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    IsolationForest,
    RandomTreesEmbedding,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from tests.conformance.estimators.data import (
    apart32,
    float32,
    iris,
    iris_names,
    missing,
    number,
    one_column,
    two_classes,
    two_names,
    two_numbers,
)
from tests.conformance.estimators.table import variant


def rare_class() -> Any:
    """Four classes, one of three rows only: many bags hold none of it."""
    X, y = iris()
    y = y.copy()
    y[:3] = 3
    return X, y


def one_class() -> Any:
    """A single class."""
    X, _ = iris()
    return X, np.full(len(X), "only")


def bools() -> Any:
    """Two classes, False and True."""
    X, y = two_classes()
    return X, y > 1


def unlabelled() -> Any:
    """Rows without targets."""
    return iris()[0], None


def whole_numbers() -> Any:
    """Rows of integers, without targets."""
    return (iris()[0] * 10).astype(np.int64), None


def _some(**more: Any) -> dict[str, Any]:
    return {"n_estimators": 5, "random_state": 0, **more}


_STRINGS = "returns strings"
_VOTES = "what follows the model needs its answers in float64"
_PIPELINE = make_pipeline(StandardScaler(), LogisticRegression())
_DEEP = DecisionTreeClassifier(max_depth=3, random_state=0)

VARIANTS = (
    variant(BaggingClassifier(**_some()), iris_names),
    variant(BaggingClassifier(**_some()), two_names),
    variant(BaggingClassifier(**_some()), bools),
    variant(BaggingClassifier(**_some()), missing),
    variant(BaggingClassifier(**_some()), float32),
    variant(BaggingClassifier(**_some()), one_class, tflite=_STRINGS),
    variant(BaggingClassifier(**_some(max_features=2)), iris),
    variant(BaggingClassifier(**_some(max_features=3, bootstrap_features=True)), iris_names),
    variant(BaggingClassifier(**_some(max_samples=0.05)), rare_class),
    variant(BaggingClassifier(**_some(bootstrap=False, max_samples=0.5)), iris),
    variant(BaggingClassifier(ExtraTreeClassifier(), **_some()), iris),
    variant(BaggingClassifier(LogisticRegression(), **_some(max_features=0.5)), iris_names),
    # Pipelines take no sample weights: their members never see what their bags do not hold.
    variant(BaggingClassifier(_PIPELINE, **_some(max_samples=0.1)), rare_class),
    variant(BaggingClassifier(make_pipeline(StandardScaler(), RidgeClassifier()), **_some()), rare_class),
    variant(BaggingClassifier(make_pipeline(_DEEP), **_some(max_samples=0.1)), rare_class),
    variant(BaggingClassifier(LogisticRegression(), **_some()), apart32),
    variant(BaggingClassifier(RidgeClassifier(), **_some()), iris_names),
    variant(BaggingClassifier(RidgeClassifier(), **_some()), two_classes),
    variant(BaggingClassifier(_PIPELINE, **_some()), two_names),
    variant(BaggingRegressor(**_some()), number),
    variant(BaggingRegressor(**_some()), two_numbers),
    variant(BaggingRegressor(**_some(max_features=2)), number),
    variant(BaggingRegressor(**_some(bootstrap_features=True)), number),
    variant(BaggingRegressor(**_some()), one_column),
    variant(BaggingRegressor(LinearRegression(), **_some()), number),
    variant(BaggingRegressor(Ridge(), **_some(max_features=3)), two_numbers),
    variant(AdaBoostClassifier(**_some()), iris),
    variant(AdaBoostClassifier(**_some(n_estimators=50)), iris_names),
    variant(AdaBoostClassifier(**_some(learning_rate=0.3)), two_names),
    variant(AdaBoostClassifier(**_some()), bools),
    variant(AdaBoostClassifier(**_some()), float32),
    variant(AdaBoostClassifier(**_some()), one_class, tflite=_STRINGS),
    variant(AdaBoostClassifier(_DEEP, **_some()), iris_names),
    variant(AdaBoostClassifier(LogisticRegression(), **_some()), iris_names, tflite=_VOTES),
    variant(AdaBoostClassifier(LogisticRegression(), **_some()), bools, tflite=_VOTES),
    variant(AdaBoostRegressor(**_some()), number),
    variant(AdaBoostRegressor(**_some(n_estimators=50, loss="square")), number),
    variant(AdaBoostRegressor(**_some(loss="exponential", learning_rate=0.5)), number),
    variant(AdaBoostRegressor(DecisionTreeRegressor(max_depth=2), **_some(n_estimators=1)), one_column),
    variant(AdaBoostRegressor(LinearRegression(), **_some()), number),
    variant(IsolationForest(**_some()), unlabelled),
    variant(IsolationForest(**_some(contamination=0.1)), unlabelled),
    variant(IsolationForest(**_some(max_features=2)), unlabelled),
    variant(IsolationForest(**_some(max_samples=20, bootstrap=True)), whole_numbers),
    variant(IsolationForest(**_some(contamination=0.05, n_estimators=50)), missing),
    variant(IsolationForest(**_some(max_samples=1)), unlabelled),
    variant(IsolationForest(**_some()), float32),
    variant(RandomTreesEmbedding(**_some()), unlabelled),
    variant(RandomTreesEmbedding(**_some(max_depth=2, sparse_output=False)), unlabelled),
    variant(RandomTreesEmbedding(**_some(max_leaf_nodes=6)), whole_numbers),
)
