"""Isotonic regression, inside and outside its thresholds."""

from __future__ import annotations

import numpy as np
from sklearn.isotonic import IsotonicRegression

from tests.conformance.estimators.data import one_column
from tests.conformance.estimators.table import variant


def falling():
    """A target that falls."""
    X, y = one_column()
    return X, -y


def single():
    """One column in float32."""
    X, y = one_column()
    return X.astype(np.float32), y


def whole():
    """One column of whole numbers."""
    X, y = one_column()
    return np.rint(X).astype(np.int64), y


def one_value():
    """A column that holds one value only."""
    X, y = one_column()
    return np.full_like(X, 2.0), y


VARIANTS = (
    variant(IsotonicRegression(), one_column),
    variant(IsotonicRegression(out_of_bounds="clip"), one_column),
    variant(IsotonicRegression(out_of_bounds="raise"), one_column),
    variant(IsotonicRegression(increasing=False), falling),
    variant(IsotonicRegression(increasing="auto"), falling),
    variant(IsotonicRegression(y_min=0.0, y_max=5.0), one_column),
    variant(IsotonicRegression(), single),
    variant(IsotonicRegression(out_of_bounds="clip"), single),
    variant(IsotonicRegression(out_of_bounds="raise"), whole),
    variant(IsotonicRegression(), one_value),
)
