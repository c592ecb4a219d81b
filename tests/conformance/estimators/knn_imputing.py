"""KNNImputer: every weighting, placeholders, empty columns, indicators."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.impute import KNNImputer

from tests.conformance.estimators.neighbors import holes
from tests.conformance.estimators.table import variant


def gaps() -> Any:
    """One cell in eight missing."""
    return holes()[0], None


def gaps_float32() -> Any:
    """The same in float32."""
    return holes()[0].astype(np.float32), None


def far_gaps_float32() -> Any:
    """The same far from zero, where squared distances in float32 lose their digits."""
    return (holes()[0] + 50.0).astype(np.float32), None


def gaps_and_nothing() -> Any:
    """The same with a column that is empty."""
    X = holes()[0]
    X[:, 2] = np.nan
    return X, None


def marked_gaps() -> Any:
    """-1 stands for what is missing."""
    X = holes()[0]
    return np.where(np.isnan(X), -1.0, X), None


VARIANTS = (
    variant(KNNImputer(), gaps),
    variant(KNNImputer(n_neighbors=2, weights="distance"), gaps),
    variant(KNNImputer(n_neighbors=200), gaps),
    variant(KNNImputer(add_indicator=True), gaps),
    variant(KNNImputer(), gaps_and_nothing),
    variant(KNNImputer(keep_empty_features=True, add_indicator=True), gaps_and_nothing),
    variant(KNNImputer(missing_values=-1), marked_gaps),
    variant(KNNImputer(n_neighbors=3), gaps_float32),
    # Where scikit-learn's own distances lose their digits, no other float32 loses the same.
    variant(KNNImputer(weights="distance"), far_gaps_float32, tflite="relative error"),
)
