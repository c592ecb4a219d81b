"""Variants of SimpleImputer and MissingIndicator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn.impute import MissingIndicator, SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, MinMaxScaler

from tests.conformance.estimators.data import iris, missing
from tests.conformance.estimators.table import Variant, variant


def missing32() -> Any:
    """Numbers in float32, one cell in ten missing."""
    return missing()[0].astype(np.float32), None


def empty_column() -> Any:
    """A column without a single value beside others."""
    X = missing()[0].copy()
    X[:, 1] = np.nan
    return X, None


def last_missing() -> Any:
    """Cells are missing in some columns only."""
    X = missing()[0].copy()
    X[:, :2] = 1.5
    return X, None


def zeros_missing() -> Any:
    """Whole numbers in which -1 stands for a missing one."""
    X = np.random.default_rng(31).integers(-1, 5, (100, 3))
    return X, None


def words_nan() -> Any:
    """Strings, missing ones are NaN."""
    rng = np.random.default_rng(32)
    X = pd.DataFrame({"a": rng.choice(["x", "y", "z"], 100), "b": rng.choice(["u", "v"], 100)}).astype(object)
    X.iloc[::7, 0] = np.nan
    return X, None


def words_none() -> Any:
    """Strings, missing ones are None."""
    X = words_nan()[0]
    return X.where(X.notna(), None), None


_OBJECTS = "returns strings or objects"

VARIANTS: tuple[Variant, ...] = (
    *(variant(SimpleImputer(strategy=s), missing) for s in ("mean", "median", "most_frequent", "constant")),
    variant(SimpleImputer(strategy="constant", fill_value=-3.5), missing),
    variant(SimpleImputer(add_indicator=True), last_missing),
    variant(SimpleImputer(strategy="median"), missing32),
    variant(SimpleImputer(), empty_column),
    # A column of nothing but zeros has no usual size for float32 to be measured by: it is moved to 1.
    variant(
        make_pipeline(SimpleImputer(keep_empty_features=True), MinMaxScaler((1, 2))), empty_column, of="SimpleImputer"
    ),
    variant(SimpleImputer(strategy="constant", fill_value=2.0, keep_empty_features=True), empty_column),
    variant(
        SimpleImputer(missing_values=-1, strategy="most_frequent"), zeros_missing, tflite="beyond the range of int32"
    ),
    variant(SimpleImputer(missing_values=-1, strategy="mean", add_indicator=True), zeros_missing),
    variant(SimpleImputer(strategy="most_frequent"), words_nan, tflite=_OBJECTS),
    variant(SimpleImputer(strategy="constant"), words_nan, tflite=_OBJECTS),
    variant(SimpleImputer(strategy="constant", fill_value="none", add_indicator=True), words_nan, tflite=_OBJECTS),
    variant(SimpleImputer(missing_values=None, strategy="most_frequent"), words_none, tflite=_OBJECTS),
    variant(
        make_pipeline(KBinsDiscretizer(3, strategy="uniform"), SimpleImputer(missing_values=5)),
        iris,
        of="SimpleImputer",
    ),
    variant(MissingIndicator(), last_missing),
    variant(MissingIndicator(features="all"), last_missing),
    variant(MissingIndicator(error_on_new=False), last_missing),
    variant(MissingIndicator(features="all", sparse=True), missing),
    variant(MissingIndicator(sparse=False), missing32),
    variant(MissingIndicator(missing_values=-1), zeros_missing),
    variant(MissingIndicator(features="all"), words_nan),
    variant(MissingIndicator(missing_values=None, features="all"), words_none),
)
