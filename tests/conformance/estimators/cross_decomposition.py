"""Partial least squares and canonical correlation."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cross_decomposition import CCA, PLSSVD, PLSCanonical, PLSRegression

from tests.conformance.estimators.data import number, one_column, two_numbers
from tests.conformance.estimators.table import variant


def number_as_matrix() -> Any:
    """One target, as a matrix of one column."""
    X, y = number()
    return X, y[:, None]


def two_numbers32() -> Any:
    """Rows in float32, two targets."""
    X, y = two_numbers()
    return X.astype(np.float32), y


VARIANTS = (
    *(
        variant(kind(**p), two_numbers)
        for kind in (PLSRegression, PLSCanonical, CCA)
        for p in ({}, {"n_components": 1}, {"scale": False})
    ),
    variant(PLSCanonical(algorithm="svd"), two_numbers),
    *(
        variant(kind(n_components=1), data)
        for kind in (PLSRegression, PLSCanonical, CCA)
        for data in (number, number_as_matrix, two_numbers32)
    ),
    variant(PLSRegression(n_components=1), one_column),
    *(variant(PLSSVD(**p), two_numbers) for p in ({}, {"n_components": 1}, {"scale": False})),
    variant(PLSSVD(n_components=1), number),
    variant(PLSSVD(), two_numbers32),
)
