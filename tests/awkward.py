"""Rows that find mistakes in arithmetic: zeros of both signs, large and tiny magnitudes, mixed in one row."""

from __future__ import annotations

from typing import Any

import numpy as np


def with_awkward_rows(X: Any, largest: float = 1e6) -> Any:
    """X with rows of zeros, -0.0, +-``largest``, 1e-300 and a mixture of them below, in X's dtype."""
    width = X.shape[1]
    values = [0.0, -0.0, largest, -largest, 1e-300, -1e-300]
    rows = [np.full(width, value) for value in values]
    rows += [np.resize(values, width), np.resize(values[::-1], width)]
    return np.vstack([X, np.array(rows)]).astype(X.dtype)
