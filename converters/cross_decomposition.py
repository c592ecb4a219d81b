"""Partial least squares and canonical correlation: rows centred, scaled, and projected by the fitted rotations.

In comes a fitted PLSRegression, PLSCanonical, CCA or PLSSVD; out go ``transform`` of the rows (targets are not at hand
on a device) and, for all but PLSSVD, ``predict``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.products import affine
from edgeml.converters.registry import Conversion, Outputs, converter


@converter(
    "sklearn.PLSRegression",
    "sklearn.PLSCanonical",
    "sklearn.CCA",
    honours=("n_components", "scale"),
    ignores=("algorithm", "max_iter", "tol", "copy"),
)
def partial_least_squares(c: Conversion, est: Any, X: Block) -> Outputs:
    """Scores of the rows, and the targets: coefficients hold the scales, so there rows are centred only."""
    x = X.matrix(c, est)
    centred = (x - est._x_mean).cast(x.dtype)  # in place, as scikit-learn has it
    scaled = (centred / est._x_std).cast(x.dtype)
    return {
        "transform": Block(affine(scaled, est.x_rotations_)),
        "predict": affine(centred, np.ascontiguousarray(est.coef_.T), est.intercept_),
    }


@converter("sklearn.PLSSVD", honours=("n_components", "scale"), ignores=("copy",))
def pls_svd(c: Conversion, est: Any, X: Block) -> Outputs:
    """Scores of the rows on the left singular vectors of the cross-covariance."""
    x = X.matrix(c, est, dtype="float64")
    return {"transform": Block(affine((x - est._x_mean) / est._x_std, est.x_weights_))}
