"""Several outputs at once: estimators that take them themselves, and the wrappers that fit one estimator an output."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier

from tests.conformance.estimators.data import float32, iris, two_numbers
from tests.conformance.estimators.table import variant


def two_labels() -> Any:
    """Two outputs: three classes and two, by numbers."""
    X, y = iris()
    return X, np.stack([y, (X[:, 0] > 5.8).astype(int)], axis=1)


def two_labels_by_name() -> Any:
    """Two outputs whose classes have names of different lengths."""
    X, y = two_labels()
    return X, np.stack(
        [np.array(["setosa", "versicolor", "virginica"])[y[:, 0]], np.array(["no", "yes"])[y[:, 1]]], axis=1
    )


def multi_label() -> Any:
    """An indicator matrix of three labels, of which a row has none, some or all."""
    X, _ = iris()
    return X, (X[:, [0, 2, 3]] > np.median(X[:, [0, 2, 3]], axis=0)).astype(int)


def multi_label_bool() -> Any:
    """The same labels as booleans."""
    X, y = multi_label()
    return X, y.astype(bool)


def labels_of_two_types() -> Any:
    """One output of names and one of numbers, in an object array."""
    X, y = two_labels()
    both = np.empty((len(X), 2), dtype=object)
    both[:, 0] = np.array(["setosa", "versicolor", "virginica"])[y[:, 0]]
    both[:, 1] = y[:, 1].tolist()
    return X, both


def float32_labels() -> Any:
    """Two outputs for rows in float32."""
    return float32()[0], two_labels()[1]


def three_numbers() -> Any:
    """Three numeric targets."""
    X, y = two_numbers()
    return X, np.concatenate([y, X[:, :1] * X[:, 1:2]], axis=1)


_TREE = DecisionTreeClassifier(max_depth=3, random_state=0)

VARIANTS = (
    variant(DecisionTreeClassifier(random_state=0), two_labels),
    variant(DecisionTreeClassifier(random_state=0), two_labels_by_name),
    variant(ExtraTreeClassifier(random_state=0), multi_label),
    variant(RandomForestClassifier(n_estimators=5, random_state=0), two_labels_by_name),
    variant(RandomForestClassifier(n_estimators=5, random_state=0), multi_label_bool),
    variant(ExtraTreesClassifier(n_estimators=5, random_state=0), multi_label),
    variant(RandomForestRegressor(n_estimators=5, random_state=0), two_numbers),
    variant(MultiOutputClassifier(LogisticRegression()), two_labels),
    variant(MultiOutputClassifier(LogisticRegression()), two_labels_by_name),
    variant(MultiOutputClassifier(LogisticRegression()), float32_labels),
    variant(MultiOutputClassifier(RidgeClassifier()), multi_label),
    variant(MultiOutputClassifier(_TREE), multi_label_bool),
    variant(MultiOutputRegressor(Ridge()), two_numbers),
    variant(MultiOutputRegressor(DecisionTreeRegressor(max_depth=3)), three_numbers),
    variant(ClassifierChain(LogisticRegression()), multi_label),
    variant(ClassifierChain(LogisticRegression(), order=[2, 0, 1], cv=3), multi_label),
    variant(ClassifierChain(LogisticRegression(), order="random", random_state=0), multi_label_bool),
    variant(ClassifierChain(LogisticRegression(), chain_method="predict_proba", cv=3), multi_label),
    variant(ClassifierChain(LogisticRegression(), chain_method="predict_log_proba", cv=3), multi_label),
    variant(ClassifierChain(LogisticRegression(), chain_method="decision_function", cv=3), multi_label),
    variant(ClassifierChain(RidgeClassifier(), chain_method=["predict_proba", "decision_function"], cv=3), multi_label),
    variant(ClassifierChain(_TREE), two_labels, tflite="its integers may be beyond"),
    variant(ClassifierChain(LogisticRegression()), float32_labels),
    variant(RegressorChain(LinearRegression()), three_numbers),
    variant(RegressorChain(Ridge(), order=[1, 2, 0], cv=3), three_numbers),
    variant(RegressorChain(DecisionTreeRegressor(max_depth=3), order="random", random_state=1), three_numbers),
)
