"""Products with fitted arrays, in the dtypes NumPy gives them: the arithmetic every numeric estimator
shares.

In comes the Block of an estimator and its fitted arrays; out goes ``x @ weight + bias`` as scikit-learn's
expression computes it, float32 where all operands are float32. Called by the converters of linear models,
networks and decompositions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion
from edgeml.ir import Value


def numeric(c: Conversion, est: Any, X: Block) -> Value:
    """The matrix of validate_data's default, ``dtype="numeric"``: the common dtype stays, int64 included."""
    return X.matrix(c, est, dtype=X.dtype)


def weight_of(coef: Any) -> npt.NDArray[Any]:
    """``coef_``, (features,) or (outputs, features), as the right operand of a product: (features, outputs).

    ``sparsify()`` leaves a SciPy matrix in the place of the array.
    """
    array: npt.NDArray[Any] = coef.toarray() if hasattr(coef, "toarray") else coef
    return array[:, None] if array.ndim == 1 else array.T


def affine(x: Value, weight: Any, bias: Any = 0.0, *, in_place: bool = False) -> Value:
    """``x @ weight + bias``; weight (x.width, k), bias a number or (k,).

    The product has the common dtype of x and weight. A bias of a wider dtype widens the sum, as ``y + bias``
    does; with ``in_place`` the sum is rounded back to the product's dtype, as ``y += bias`` does.
    """
    dtype = np.result_type(np.dtype(x.dtype), weight.dtype)
    total = np.result_type(dtype, bias)
    x = x.cast(dtype.name)
    if total == dtype:
        return x.builder.linear(x, weight, bias)
    y = x.builder.linear(x, weight) + np.atleast_1d(np.asarray(bias, dtype=total))
    return y.cast(dtype.name) if in_place else y


def expit(x: Value) -> Value:
    """scipy.special.expit, which rounds every step of 1 / (1 + exp(-x)) where x is float32.

    A score of 17 then has the probability 1, whose logit a gradient boosting model starts from: measured on 200,000
    scores, all but 1 in 4,000 have SciPy's bits, of the float64 result rounded once a third has not.
    """
    return x.builder.sigmoid(x) if x.dtype == "float64" else 1.0 / (1.0 + x.builder.exp(-x))
