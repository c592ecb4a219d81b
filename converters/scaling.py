"""Scalers: each feature on its own, in scikit-learn's order of operations; Normalizer, which scales rows.

In comes a Block of numbers, out goes ``transform``. A float32 matrix stays float32: an in-place operation
with a float64 array is computed in float64 and rounded, exactly as NumPy's ufuncs do with ``out``. Sparse
matrices are multiplied by the reciprocal of the scale where dense ones are divided, as scikit-learn does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


def _divided(x: Value, scale: Any, X: Block) -> Value:
    """``x /= scale`` of a dense matrix, ``x *= 1 / scale`` of a sparse one, rounded to x's dtype."""
    scaled: Value = x * (1.0 / scale) if X.form == "sparse" else x / scale
    return scaled.cast(x.dtype)


def _like(x: Value, X: Block) -> Block:
    return Block(x, names=X.names, form="sparse" if X.form == "sparse" else "array")


@converter("sklearn.StandardScaler", honours=("with_mean", "with_std"), ignores=("copy",))
def standard_scaler(c: Conversion, est: Any, X: Block) -> Outputs:
    """(x - mean_) / scale_, both first cast to the dtype of the matrix when it is dense."""
    x = X.matrix(c, est, allow_nan=True)
    if X.form == "sparse":
        return {"transform": _like(x if est.scale_ is None else _divided(x, est.scale_, X), X)}
    if est.with_mean:
        x = x - est.mean_.astype(x.dtype)
    if est.with_std:
        x = x / est.scale_.astype(x.dtype)
    return {"transform": _like(x, X)}


@converter("sklearn.MinMaxScaler", honours=("feature_range", "clip"), ignores=("copy",))
def min_max_scaler(c: Conversion, est: Any, X: Block) -> Outputs:
    """x * scale_ + min_, clipped to feature_range when ``clip``."""
    x = X.matrix(c, est, allow_nan=True)
    dtype = x.dtype
    x = (x * est.scale_).cast(dtype)
    x = (x + est.min_).cast(dtype)
    if est.clip:
        x = c.builder.clip(x, *np.asarray(est.feature_range, dtype=dtype)[:, None])
    return {"transform": _like(x, X)}


@converter("sklearn.MaxAbsScaler", honours=("clip",), ignores=("copy",))
def max_abs_scaler(c: Conversion, est: Any, X: Block) -> Outputs:
    """x / scale_, clipped to [-1, 1] when ``clip``."""
    x = _divided(X.matrix(c, est, allow_nan=True), est.scale_, X)
    if getattr(est, "clip", False):
        x = c.builder.clip(x, -1.0, 1.0)
    return {"transform": _like(x, X)}


@converter(
    "sklearn.RobustScaler",
    honours=("with_centering", "with_scaling", "quantile_range", "unit_variance"),
    ignores=("copy",),
)
def robust_scaler(c: Conversion, est: Any, X: Block) -> Outputs:
    """(x - center_) / scale_; quantile_range and unit_variance are part of scale_."""
    x = X.matrix(c, est, allow_nan=True)
    if est.with_centering and X.form != "sparse":
        x = (x - est.center_).cast(x.dtype)
    if est.with_scaling:
        x = _divided(x, est.scale_, X)
    return {"transform": _like(x, X)}


@converter("sklearn.Normalizer", honours=("norm",), ignores=("copy",))
def normalizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Rows divided by their norm, but dense rows with a norm under 10 eps and sparse ones of norm 0."""
    builder = c.builder
    x = X.matrix(c, est)
    if est.norm == "l2":
        norm = builder.sqrt(builder.sum(x * x))
    else:
        size = builder.abs(x)
        norm = builder.sum(size) if est.norm == "l1" else builder.max(size)
    tiny = norm == 0.0 if X.form == "sparse" else norm < float(10 * np.finfo(x.dtype).eps)
    one = np.ones(1, dtype=norm.dtype)
    return {"transform": _like(x / builder.where(tiny, one, norm), X)}


@converter("sklearn.Binarizer", honours=("threshold",), ignores=("copy",))
def binarizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """1 where x > threshold, else 0, in the dtype of the matrix."""
    x = X.matrix(c, est, dtype=X.dtype)
    compared = x if x.dtype in ("float64", "float32") else x.cast("float64")
    # A NumPy scalar takes part in the promotion, a Python number does not.
    threshold = np.asarray([est.threshold]) if isinstance(est.threshold, np.generic) else float(est.threshold)
    return {"transform": _like((compared > threshold).cast(x.dtype).held_as(x.numpy), X)}
