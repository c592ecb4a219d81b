"""Rows that tell trees apart: cells exactly on thresholds and one ulp on either side of them, extremes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np


def around_thresholds(
    X: np.ndarray, feature: np.ndarray, threshold: np.ndarray, *, seed: int = 0, most: int = 400
) -> np.ndarray:
    """Rows of X with one cell moved onto a threshold, or to a neighbour of it in float32 and float64."""
    rng = np.random.default_rng(seed)
    finite = np.flatnonzero((feature >= 0) & np.isfinite(threshold))
    picked = rng.choice(finite, min(most, len(finite)), replace=False)
    t = threshold[picked]
    single = t.astype(np.float32)
    cells = np.stack(
        [
            t,
            np.nextafter(t, np.inf),
            np.nextafter(t, -np.inf),
            single.astype(np.float64),
            np.nextafter(single, np.float32(np.inf)).astype(np.float64),
            np.nextafter(single, np.float32(-np.inf)).astype(np.float64),
        ],
        axis=1,
    )
    rows = X[rng.integers(0, len(X), cells.size)].astype(np.float64)
    rows[np.arange(cells.size), np.repeat(feature[picked], cells.shape[1])] = cells.ravel()
    with np.errstate(over="ignore"):
        return rows.astype(X.dtype)


def with_cells(X: np.ndarray, values: Iterable[float], *, seed: int = 0) -> np.ndarray:
    """For every value and every column a row of X with that cell."""
    rng = np.random.default_rng(seed)
    rows = []
    for value in values:
        for column in range(X.shape[1]):
            row = X[rng.integers(0, len(X))].copy()
            row[column] = value
            rows.append(row)
    return np.array(rows, dtype=X.dtype)


def thresholds_of(trees: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Feature and threshold of every node of scikit-learn's Tree objects."""
    trees = list(trees)
    return np.concatenate([t.feature for t in trees]), np.concatenate([t.threshold for t in trees])
