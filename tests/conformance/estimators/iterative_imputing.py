"""IterativeImputer with estimators of several kinds, orders and limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.experimental import enable_iterative_imputer  # noqa: F401  # makes the import below possible
from sklearn.impute import IterativeImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from tests.conformance.estimators.data import iris, missing
from tests.conformance.estimators.table import variant


def gaps() -> Any:
    """One cell in ten missing, and a row of nothing else."""
    X, _ = missing()
    X = X[:90].copy()
    X[7] = X[70] = np.nan
    return X, None


def gaps32() -> Any:
    """The same in float32."""
    return gaps()[0].astype(np.float32), None


def minus_ones() -> Any:
    """Minus one where a cell is missing."""
    X, _ = gaps()
    return np.where(np.isnan(X), -1.0, X), None


def empty_column() -> Any:
    """A column that is missing in every row."""
    X, _ = gaps()
    X[:, 2] = np.nan
    return np.column_stack([X, iris()[0][:90, 0]]), None


VARIANTS = (
    *(
        variant(IterativeImputer(max_iter=2, random_state=0, **p), gaps)
        for p in (
            {},
            {"initial_strategy": "median", "imputation_order": "roman"},
            {"initial_strategy": "most_frequent", "imputation_order": "arabic"},
            {"initial_strategy": "constant", "fill_value": 2.0, "imputation_order": "descending"},
            {"imputation_order": "random", "skip_complete": True},
            {"min_value": 1.0, "max_value": [7.0, 4.0, 6.0, 2.0]},
            {"n_nearest_features": 2},
            {"add_indicator": True},
            {"estimator": Ridge(alpha=2.0)},
            {"estimator": DecisionTreeRegressor(max_depth=3, random_state=0)},
            {"estimator": RandomForestRegressor(n_estimators=2, max_depth=3, random_state=0)},
        )
    ),
    variant(
        IterativeImputer(KNeighborsRegressor(3), max_iter=2), gaps, tflite="uses a constant beyond the range of float32"
    ),
    variant(IterativeImputer(max_iter=0), gaps),
    variant(IterativeImputer(max_iter=2, missing_values=-1.0), minus_ones),
    variant(IterativeImputer(max_iter=2), empty_column),
    variant(
        IterativeImputer(
            max_iter=2, initial_strategy="constant", fill_value=1.5, keep_empty_features=True, add_indicator=True
        ),
        empty_column,
    ),
    variant(IterativeImputer(max_iter=2), gaps32),
    variant(make_pipeline(IterativeImputer(max_iter=2), LogisticRegression()), missing, of="IterativeImputer"),
)
