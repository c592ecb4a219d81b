"""Variants of sklearn.preprocessing: every transformer, with each parameter that changes its answers."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    Binarizer,
    KBinsDiscretizer,
    KernelCenterer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from tests.conformance.estimators.data import float32, iris, missing, one_column, scaled
from tests.conformance.estimators.table import Variant, variant


def spread() -> Any:
    """Numbers of both signs without a target, one column of few values, some on the bounds."""
    rng = np.random.default_rng(11)
    X = rng.normal(size=(120, 3)) * [1.0, 20.0, 0.1]
    return np.column_stack([X, rng.integers(0, 4, 120)]), None


def spread32() -> Any:
    """The same in float32."""
    return spread()[0].astype(np.float32), None


def spread_missing() -> Any:
    """The same with one cell in ten missing."""
    X = spread()[0].copy()
    X[np.random.default_rng(12).random(X.shape) < 0.1] = np.nan
    return X, None


def above_zero() -> Any:
    """Positive numbers of several sizes."""
    return np.exp(spread()[0] / [1.0, 20.0, 0.1, 2.0]), None


def constant_column() -> Any:
    """A column of one value beside another."""
    X = spread()[0][:, :2].copy()
    X[:, 0] = 3.0
    return X, None


def kernel() -> Any:
    """A square matrix of similarities."""
    X = iris()[0][:30]
    return np.exp(-((X[:, None] - X) ** 2).sum(axis=2)), None


def words() -> Any:
    """Columns of strings, with rare ones."""
    rng = np.random.default_rng(13)
    colour = rng.choice(["red", "green", "blue", "grey"], 120, p=[0.5, 0.3, 0.15, 0.05])
    size = rng.choice(["s", "m", "l", "xl", "xxl"], 120, p=[0.4, 0.4, 0.1, 0.06, 0.04])
    return pd.DataFrame({"colour": colour, "size": size}), None


def yes_and_no() -> Any:
    """A column of two strings beside one of three."""
    X = words()[0]
    return pd.DataFrame({"answer": np.where(X["colour"] == "red", "yes", "no"), "size": X["size"]}), None


def words_missing() -> Any:
    """Columns of strings with None and NaN among them."""
    X = words()[0].astype(object)
    X.iloc[::9, 0] = None
    X.iloc[::7, 1] = np.nan
    return X, None


def codes() -> Any:
    """Whole numbers as categories, with missing cells."""
    X = np.random.default_rng(14).integers(0, 5, (120, 2)).astype(float)
    X[::11, 0] = np.nan
    return X, None


def _with(target: Any, columns: Any) -> Any:
    X = columns()[0]
    rng = np.random.default_rng(15)
    targets = {
        "numbers": rng.normal(size=len(X)) + np.arange(len(X)) % 5,
        "names": np.where(rng.random(len(X)) < 0.4, "yes", "no"),
        "classes": rng.integers(0, 3, len(X)),
    }
    return X, targets[target]


def _data(target: str, columns: Any) -> Any:
    data = partial(_with, target, columns)
    data.__name__ = f"{columns.__name__}_and_{target}"  # type: ignore[attr-defined]  # named as a function is
    return data


def _sparse(estimator: Any) -> Variant:
    """The estimator behind a step whose output is sparse: zeros and ones, no others."""
    step = KBinsDiscretizer(n_bins=3, strategy="uniform")
    return variant(make_pipeline(step, estimator), spread, of=type(estimator).__name__)


VARIANTS: tuple[Variant, ...] = (
    # --- scalers
    variant(StandardScaler(), scaled),
    variant(StandardScaler(with_mean=False), scaled),
    variant(StandardScaler(with_std=False), scaled),
    _sparse(StandardScaler(with_mean=False)),
    variant(StandardScaler(), float32),
    variant(StandardScaler(), missing),
    variant(StandardScaler(), constant_column),
    variant(MinMaxScaler(), scaled),
    variant(MinMaxScaler(feature_range=(-2, 5)), scaled),
    variant(MinMaxScaler(clip=True), scaled),
    variant(MinMaxScaler(), missing),
    variant(MinMaxScaler(clip=True), float32),
    variant(MaxAbsScaler(), scaled),
    variant(MaxAbsScaler(clip=True), scaled),
    _sparse(MaxAbsScaler()),
    variant(RobustScaler(), scaled),
    variant(RobustScaler(with_centering=False), scaled),
    variant(RobustScaler(with_scaling=False), scaled),
    variant(RobustScaler(quantile_range=(10.0, 80.0), unit_variance=True), scaled),
    variant(RobustScaler(), missing),
    variant(RobustScaler(), float32),
    variant(Normalizer(), spread),
    variant(Normalizer("l1"), spread),
    variant(Normalizer("max"), spread),
    _sparse(Normalizer("l1")),
    variant(Binarizer(), spread),
    variant(Binarizer(threshold=0.7), spread),
    _sparse(Binarizer()),
    # --- curves
    variant(KBinsDiscretizer(), spread),
    variant(KBinsDiscretizer(encode="onehot-dense", n_bins=3), spread),
    variant(KBinsDiscretizer(encode="ordinal", strategy="uniform"), spread),
    variant(KBinsDiscretizer(encode="ordinal", strategy="kmeans", random_state=0), spread),
    variant(KBinsDiscretizer([2, 3, 4, 2], encode="ordinal", strategy="uniform", dtype=np.float32), spread),
    variant(KBinsDiscretizer(encode="onehot-dense"), spread32),
    variant(KBinsDiscretizer(encode="ordinal"), one_column),
    variant(PolynomialFeatures(), spread),
    variant(PolynomialFeatures(3, interaction_only=True), spread),
    variant(PolynomialFeatures((2, 3), include_bias=False), spread),
    variant(PolynomialFeatures((0, 0)), spread),
    variant(PolynomialFeatures(4, order="F"), spread32),
    variant(PolynomialFeatures(5, interaction_only=True), one_column),
    _sparse(PolynomialFeatures(3)),
    _sparse(PolynomialFeatures(4, include_bias=False)),
    variant(QuantileTransformer(n_quantiles=50), spread),
    variant(QuantileTransformer(n_quantiles=40, output_distribution="normal"), spread),
    variant(QuantileTransformer(n_quantiles=40, output_distribution="normal"), spread32),
    variant(QuantileTransformer(n_quantiles=40), spread32),
    variant(QuantileTransformer(n_quantiles=40, output_distribution="normal"), spread_missing),
    _sparse(QuantileTransformer(n_quantiles=30)),
    _sparse(QuantileTransformer(n_quantiles=30, ignore_implicit_zeros=True)),
    variant(QuantileTransformer(n_quantiles=30), constant_column),
    variant(PowerTransformer(), spread),
    variant(PowerTransformer(standardize=False), spread),
    variant(PowerTransformer("box-cox"), above_zero),
    variant(PowerTransformer("box-cox", standardize=False), above_zero),
    variant(PowerTransformer(), spread32, since="1.9"),
    variant(PowerTransformer(), spread_missing),
    variant(PowerTransformer(), constant_column),
    variant(SplineTransformer(), spread),
    variant(SplineTransformer(degree=0), spread),
    variant(SplineTransformer(degree=1, extrapolation="linear"), spread),
    variant(SplineTransformer(degree=1, n_knots=2, extrapolation="linear"), spread),
    variant(SplineTransformer(degree=0, n_knots=4, extrapolation="linear"), spread),
    variant(SplineTransformer(degree=2, knots="quantile", n_knots=4), spread),
    variant(SplineTransformer(knots=np.array([[-1.0, -20, -0.1, 0], [0, 1, 0, 1], [2, 30, 0.2, 3]])), spread),
    *(variant(SplineTransformer(extrapolation=e), spread) for e in ("linear", "continue", "periodic", "error")),
    *(
        variant(SplineTransformer(extrapolation=e, sparse_output=True), spread32)
        for e in ("constant", "linear", "continue", "periodic")
    ),
    variant(SplineTransformer(include_bias=False), spread32),
    variant(SplineTransformer(handle_missing="zeros"), spread_missing),
    variant(SplineTransformer(extrapolation="continue"), constant_column),
    variant(KernelCenterer(), kernel),
    # --- categories
    variant(OneHotEncoder(), words),
    variant(OneHotEncoder(drop="first"), words),
    variant(OneHotEncoder(drop="if_binary"), yes_and_no),
    variant(OneHotEncoder(drop=["green", "m"]), words),
    variant(OneHotEncoder(sparse_output=False), words),
    variant(OneHotEncoder(dtype=np.float32), words),
    variant(OneHotEncoder(dtype=np.int32, sparse_output=False), words),
    variant(OneHotEncoder(handle_unknown="ignore"), words),
    variant(OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=12), words),
    variant(OneHotEncoder(handle_unknown="warn", max_categories=3, drop="first"), words),
    variant(OneHotEncoder(min_frequency=0.1, max_categories=3), words),
    variant(OneHotEncoder(categories=[["blue", "green", "grey", "red", "x"], ["l", "m", "s", "xl", "xxl"]]), words),
    variant(OneHotEncoder(), words_missing),
    variant(OneHotEncoder(handle_unknown="ignore"), codes),
    variant(OrdinalEncoder(), words),
    variant(OrdinalEncoder(dtype=np.int64), words),
    variant(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), words),
    variant(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), words_missing),
    variant(OrdinalEncoder(encoded_missing_value=-7), words_missing),
    variant(OrdinalEncoder(min_frequency=12), words),
    variant(OrdinalEncoder(max_categories=3, handle_unknown="use_encoded_value", unknown_value=9), words),
    variant(OrdinalEncoder(categories=[["red", "green", "blue", "grey"], ["s", "m", "l", "xl", "xxl"]]), words),
    variant(OrdinalEncoder(), codes),
    variant(TargetEncoder(random_state=0), _data("numbers", words)),
    variant(TargetEncoder(smooth=3.0, random_state=0), _data("numbers", words)),
    variant(TargetEncoder(random_state=0), _data("names", words_missing)),
    variant(TargetEncoder(random_state=0), _data("classes", words)),
    variant(TargetEncoder(target_type="continuous", random_state=0), _data("classes", words)),
    variant(
        TargetEncoder(
            [["red", "green", "blue", "grey", "new"], ["s", "m", "l", "xl", "xxl"]], smooth=2.0, random_state=0
        ),
        _data("classes", words),
    ),
    variant(TargetEncoder(random_state=0), _data("numbers", codes)),
)
