"""Small data for the variants: drawn with fixed seeds, or scikit-learn's own. Each function gives (X, y).

Rows are few, so that hundreds of variants stay within minutes, and hold what matters to an estimator: columns of
different sizes, integers, missing cells, strings.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from sklearn import datasets


@cache
def _iris() -> Any:
    X, y = datasets.load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order]


def iris() -> Any:
    """Three classes, four columns."""
    return _iris()


def iris_names() -> Any:
    """Three classes called by names."""
    X, y = _iris()
    return X, np.array(["setosa", "versicolor", "virginica"])[y]


def two_classes() -> Any:
    """Two classes that overlap."""
    X, y = _iris()
    return X[y > 0], y[y > 0]


def two_names() -> Any:
    """Two classes called by names."""
    X, y = _iris()
    return X[y > 0], np.array(["no", "yes"])[y[y > 0] - 1]


def number() -> Any:
    """A numeric target."""
    X, _ = _iris()
    rng = np.random.default_rng(1)
    return X, X @ [1.0, -2.0, 0.5, 3.0] + rng.normal(size=len(X))


def two_numbers() -> Any:
    """Two numeric targets."""
    X, y = number()
    return X, np.stack([y, X[:, 0] - y], axis=1)


def positive() -> Any:
    """Counts, as of words: whole numbers from 0, many of them 0; three classes."""
    rng = np.random.default_rng(2)
    y = rng.integers(0, 3, 120)
    return rng.poisson(
        np.array([[3.0, 0.5, 1.0, 0.2, 0.1], [0.3, 2.0, 0.1, 1.0, 0.5], [1.0, 1.0, 2.0, 0.1, 2.0]])[y]
    ), y


def scaled() -> Any:
    """Columns of very different sizes, and three classes."""
    X, y = _iris()
    return X * [1.0, 1e3, 1e-3, 1e6], y


def one_column() -> Any:
    """A single column and a numeric target."""
    X, y = number()
    return X[:, 2:3], y


def float32() -> Any:
    """Three classes in float32."""
    X, y = _iris()
    return X.astype(np.float32), y


def apart32() -> Any:
    """Three classes in float32, far apart: no score is what is left of two sums that cancel, and float32 keeps it."""
    rng = np.random.default_rng(8)
    y = np.arange(150) % 3
    centres = np.array([[4.0, 0.0, 0.0, 0.5], [0.0, 4.0, 0.0, -0.5], [0.0, 0.0, 4.0, 0.0]])
    return (centres[y] + rng.normal(scale=0.3, size=(150, 4))).astype(np.float32), y


def two_apart32() -> Any:
    """Two such classes."""
    X, y = apart32()
    return X[y > 0], y[y > 0]


def missing() -> Any:
    """Three classes, one cell in ten missing."""
    X, y = _iris()
    X = X.copy()
    X[np.random.default_rng(3).random(X.shape) < 0.1] = np.nan
    return X, y
