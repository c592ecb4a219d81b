"""The way back: what ``inverse_transform`` of a fitted transformer computes.

In come a transformer and the values it once transformed, (rows, outputs); out go the values in their own units, in
scikit-learn's order of operations. TransformedTargetRegressor undoes with it what was done to the target.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.functions import apply
from edgeml.converters.registry import Conversion, check_fitted, key_of
from edgeml.errors import UnsupportedEstimatorError
from edgeml.ir import Value

Inverse = Callable[[Conversion, Any, Value], Value]

# sklearn.preprocessing._data.BOUNDS_THRESHOLD: nearer to 0 or 1 than this, a quantile is the smallest or largest.
_BOUNDS = 1e-7


def inverse(c: Conversion, est: Any, x: Value) -> Value:
    """``est.inverse_transform(x)``. Raises CompileError, naming the transformer, where there is no converter for it."""
    check_fitted(est, c.builder.origin)
    function = _INVERSES.get(key_of(est))
    if function is None:
        known = ", ".join(sorted(key.partition(".")[2] for key in _INVERSES))
        raise UnsupportedEstimatorError(
            f"step {c.builder.origin or 'pipeline'}: inverse_transform of {type(est).__name__} cannot be compiled",
            f"use one of {known}, or func and inverse_func",
        )
    return function(c, est, x)


def _floats(c: Conversion, est: Any, x: Value) -> Value:
    """check_array with FLOAT_DTYPES and missing cells: float32 stays, all else becomes float64."""
    return Block(x).matrix(c, est, allow_nan=True)


def _standard(c: Conversion, est: Any, x: Value) -> Value:
    x = _floats(c, est, x)
    if est.with_std:
        x = x * est.scale_.astype(x.dtype)
    return x + est.mean_.astype(x.dtype) if est.with_mean else x


def _min_max(c: Conversion, est: Any, x: Value) -> Value:
    x = _floats(c, est, x)
    moved: Value = x - est.min_
    scaled: Value = moved.cast(x.dtype) / est.scale_
    return scaled.cast(x.dtype)


def _max_abs(c: Conversion, est: Any, x: Value) -> Value:
    x = _floats(c, est, x)
    scaled: Value = x * est.scale_
    return scaled.cast(x.dtype)


def _robust(c: Conversion, est: Any, x: Value) -> Value:
    x = _floats(c, est, x)
    if est.with_scaling:
        x = (x * est.scale_).cast(x.dtype)
    return (x + est.center_).cast(x.dtype) if est.with_centering else x


def _power(c: Conversion, est: Any, x: Value) -> Value:
    x = _floats(c, est, x)
    if est.standardize:
        x = _standard(c, est._scaler, x)
    column = _yeo_johnson if est.method == "yeo-johnson" else _box_cox
    return c.builder.concat(
        [column(c, x.select([i]), float(power)).cast(x.dtype) for i, power in enumerate(est.lambdas_)]
    )


def _yeo_johnson(c: Conversion, x: Value, power: float) -> Value:
    """(x power + 1) ** (1 / power) - 1 from 0 on, below 1 - (1 - (2 - power) x) ** (1 / (2 - power))."""
    builder, least = c.builder, np.spacing(1.0)
    above = builder.exp(x) if abs(power) < least else builder.pow(x * power + 1.0, 1.0 / power)
    if abs(power - 2.0) > least:
        below = builder.pow(x * -(2.0 - power) + 1.0, 1.0 / (2.0 - power))
    else:
        below = builder.exp(-x)
    return builder.where(x >= 0.0, above - 1.0, 1.0 - below)


def _box_cox(c: Conversion, x: Value, power: float) -> Value:
    """scipy.special.inv_boxcox: exp(log1p(power x) / power), or the exponential."""
    return c.builder.exp(x) if power == 0.0 else c.builder.exp(c.builder.log1p(x * power) / power)


def _quantile(c: Conversion, est: Any, x: Value) -> Value:
    builder = c.builder
    x = _floats(c, est, x)
    columns = []
    for i in range(x.width):
        quantiles = est.quantiles_[:, i].astype(np.float64)
        share = x.select([i]).cast("float64")
        if est.output_distribution == "normal":
            share = 0.5 * (builder.erf(share / float(np.sqrt(2.0))) + 1.0)
            low, high = share - _BOUNDS < 0.0, share + _BOUNDS > 1.0
        else:
            low, high = share == 0.0, share == 1.0
        y = builder.op("Interp", share, xs=est.references_.astype(np.float64), ys=quantiles)
        y = builder.where(low, float(quantiles[0]), builder.where(high, float(quantiles[-1]), y))
        columns.append(builder.where(builder.is_nan(share), share, y).cast(x.dtype))
    return builder.concat(columns)


def _function(c: Conversion, est: Any, x: Value) -> Value:
    if est.validate:
        x = Block(x).matrix(c, est, dtype=x.dtype)
    if est.inverse_func is None:
        return x
    found = apply(c, est, "inverse_func", est.inverse_func, Block(x), est.inv_kw_args or {})
    return c.builder.concat(list(found.values))


def _pipeline(c: Conversion, est: Any, x: Value) -> Value:
    for name, step in reversed(est.steps):
        if step is not None and step != "passthrough":
            with c.builder.step(name):
                x = inverse(c, step, x)
    return x


def _projection(c: Conversion, est: Any, x: Value) -> Value:
    # As many columns as components, not as the target has: Block.matrix would miss some.
    x = c.builder.check_finite(x.cast("float64"), c.place(est))
    components = est.components_
    if est.whiten:
        components = np.sqrt(est.explained_variance_[:, None]) * components
    return c.builder.linear(x, components, est.mean_)


_INVERSES: dict[str, Inverse] = {
    "sklearn.StandardScaler": _standard,
    "sklearn.MinMaxScaler": _min_max,
    "sklearn.MaxAbsScaler": _max_abs,
    "sklearn.RobustScaler": _robust,
    "sklearn.PowerTransformer": _power,
    "sklearn.QuantileTransformer": _quantile,
    "sklearn.FunctionTransformer": _function,
    "sklearn.Pipeline": _pipeline,
    "sklearn.PCA": _projection,
}
