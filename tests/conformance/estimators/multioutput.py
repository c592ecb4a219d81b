"""Several outputs at once: estimators that take them themselves, and the wrappers that fit one estimator an output."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from tests.conformance.estimators.data import iris, two_numbers
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


VARIANTS = (
    variant(DecisionTreeClassifier(random_state=0), two_labels),
    variant(DecisionTreeClassifier(random_state=0), two_labels_by_name),
    variant(ExtraTreeClassifier(random_state=0), multi_label),
    variant(RandomForestClassifier(n_estimators=5, random_state=0), two_labels_by_name),
    variant(RandomForestClassifier(n_estimators=5, random_state=0), multi_label_bool),
    variant(ExtraTreesClassifier(n_estimators=5, random_state=0), multi_label),
    variant(RandomForestRegressor(n_estimators=5, random_state=0), two_numbers),
)
