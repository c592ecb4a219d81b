"""Scalers: each feature on its own, in scikit-learn's order of operations (subtract, then divide)."""

from __future__ import annotations

from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter


@converter("sklearn.StandardScaler", honours=("with_mean", "with_std"), ignores=("copy",))
def standard_scaler(c: Conversion, est: Any, X: Block) -> Outputs:
    """(x - mean_) / scale_; a float32 matrix is scaled in float64 and rounded after each step, as in-place NumPy does."""
    x = X.matrix(c, est, allow_nan=True)
    dtype = x.dtype
    if est.with_mean:
        x = (x - est.mean_).cast(dtype)
    if est.with_std:
        x = (x / est.scale_).cast(dtype)
    return {"transform": Block(x)}
