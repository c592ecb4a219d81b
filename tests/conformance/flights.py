"""The five pipelines of the real-data test, fitted once and kept: forests on 229,000 flights take a while."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from edgeml.demo_data import NUMERIC, STRINGS, flights, split


@cache
def data() -> tuple[Any, Any, Any, Any]:
    """Training rows and targets, held-out rows and targets."""
    return split(*flights())


def one_hot() -> Any:
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(NUMERIC)),
        (
            make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")),
            list(STRINGS),
        ),
        sparse_threshold=0,  # HistGradientBoosting takes dense rows only
    )


def native_categories() -> Any:
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=float("nan"))
    prep = make_column_transformer((codes, list(STRINGS)), remainder="passthrough")
    return make_pipeline(prep, HistGradientBoostingClassifier(categorical_features=[0, 1, 2], random_state=0))


PIPELINES: dict[str, Callable[[], Any]] = {
    "logistic": lambda: make_pipeline(one_hot(), LogisticRegression(max_iter=300)),
    "forest": lambda: make_pipeline(one_hot(), RandomForestClassifier(100, max_depth=10, random_state=0, n_jobs=-1)),
    "hist boosting": lambda: make_pipeline(one_hot(), HistGradientBoostingClassifier(random_state=0)),
    "mlp": lambda: make_pipeline(one_hot(), MLPClassifier((64, 32), max_iter=8, random_state=0)),
    "native categories": native_categories,
}


@cache
def fitted(name: str) -> Any:
    """A pipeline fitted on all 229,142 training flights."""
    X, y, _, _ = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the MLP stops early on purpose
        return PIPELINES[name]().fit(X, y)
