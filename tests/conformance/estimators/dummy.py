"""Dummies, whose answers depend on no column."""

from __future__ import annotations

import numpy as np
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.conformance.estimators.data import iris_names, missing, number, one_column, two_classes, two_numbers
from tests.conformance.estimators.naive_bayes import one_class, whole_numbers
from tests.conformance.estimators.table import variant


def two_labels():
    """Two labels a row."""
    X, y = two_classes()
    return X, np.stack([y, y > 1], axis=1)


_STRINGS = "predict returns strings or objects, and TFLite has only numbers"

VARIANTS = (
    variant(DummyClassifier(), iris_names, tflite=_STRINGS),
    variant(DummyClassifier(strategy="most_frequent"), two_classes),
    variant(DummyClassifier(strategy="constant", constant="virginica"), iris_names, tflite=_STRINGS),
    variant(DummyClassifier(strategy="constant", constant=2), two_classes),
    variant(DummyClassifier(), whole_numbers),
    variant(DummyClassifier(), one_class),
    variant(DummyClassifier(), missing),
    variant(make_pipeline(StandardScaler(), DummyClassifier()), two_classes, of="DummyClassifier"),
    variant(DummyClassifier(), two_labels),
    variant(DummyClassifier(strategy="most_frequent"), two_labels),
    variant(DummyClassifier(strategy="constant", constant=[2, 0]), two_labels),
    variant(DummyRegressor(), number),
    variant(DummyRegressor(strategy="median"), number),
    variant(DummyRegressor(strategy="quantile", quantile=0.2), number),
    variant(DummyRegressor(strategy="constant", constant=3), number),
    variant(DummyRegressor(), two_numbers),
    variant(DummyRegressor(strategy="constant", constant=[1.0, 2.5]), two_numbers),
    variant(DummyRegressor(strategy="quantile", quantile=0.7), two_numbers),
    variant(DummyRegressor(), one_column),
)
