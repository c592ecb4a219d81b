"""Transformers that change each column by a curve or a table: bins, polynomials, quantiles, powers, target means.

In comes a Block, out goes ``transform``, in scikit-learn's order of operations. SplineTransformer is in splines.py,
scalers in scaling.py, encoders of categories in encoding.py, whose look-up TargetEncoder shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.block import Block
from edgeml.converters.encoding import category_keys
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

Array = npt.NDArray[Any]
# QuantileTransformer: how close to the ends of the quantiles counts as outside.
_BOUNDS_THRESHOLD = 1e-7


# --- KBinsDiscretizer -----------------------------------------------------------------------------------------------
@converter(
    "sklearn.KBinsDiscretizer",
    honours=("n_bins", "encode", "strategy", "dtype"),
    ignores=("quantile_method", "subsample", "random_state"),
)
def k_bins_discretizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """How many inner edges are at or below the cell; as one-hot columns unless ``encode`` is ordinal."""
    x = X.matrix(c, est, dtype="float" if est.dtype is None else np.dtype(est.dtype).name)
    dtype = x.dtype
    bins = ranks(x, [edges[1:-1] for edges in est.bin_edges_])
    if est.encode == "ordinal":
        return {"transform": Block(bins.cast(dtype), names=X.names)}
    columns = [c.builder.one_hot(bins.select([j]), int(n), dtype) for j, n in enumerate(est.n_bins_)]
    return {"transform": Block(c.builder.concat(columns), form="sparse" if est.encode == "onehot" else "array")}


def ranks(x: Value, edges: list[Array]) -> Value:
    """How many of a column's increasing edges are at or below each cell, int64: searchsorted with side="right"."""
    offsets = np.cumsum([0, *map(len, edges)]).astype(np.int64)
    # Rank counts the edges below a cell: an edge is at or below it where the float before the edge is below it.
    below = np.nextafter(np.concatenate([np.empty(0), *edges]).astype(np.float64), -np.inf)
    return x.builder.op("Rank", x.cast("float64"), edges=below, offsets=offsets)


# --- PolynomialFeatures ---------------------------------------------------------------------------------------------
@converter("sklearn.PolynomialFeatures", honours=("degree", "interaction_only", "include_bias"), ignores=("order",))
def polynomial_features(c: Conversion, est: Any, X: Block) -> Outputs:
    """Products of columns, degree by degree: a product of d columns is one of d - 1 columns times the next.

    A dense matrix is multiplied from the last column to the first, a sparse one from the first to the last.
    """
    x = X.matrix(c, est)
    last_first = X.form != "sparse"
    parts = [c.builder.constant(np.ones(1, dtype=x.dtype))] if est.include_bias else []
    places: dict[tuple[int, ...], int] = {(j,): j for j in range(x.width)}
    level = x
    for degree in range(1, est._max_degree + 1):
        terms = list(_terms(x.width, degree, est.interaction_only))
        if not terms:
            break
        if degree > 1:
            rest = [places[t[1:] if last_first else t[:-1]] for t in terms]
            factor = [t[0] if last_first else t[-1] for t in terms]
            level = level.select(rest) * x.select(factor)
            places = {t: k for k, t in enumerate(terms)}
        if degree >= est._min_degree:
            parts.append(level)
    return {"transform": Block(*parts, form="sparse" if X.form == "sparse" else "array")}


def _terms(width: int, degree: int, interaction_only: bool) -> Iterator[tuple[int, ...]]:
    choose = combinations if interaction_only else combinations_with_replacement
    return choose(range(width), degree)


# --- QuantileTransformer --------------------------------------------------------------------------------------------
@converter(
    "sklearn.QuantileTransformer",
    honours=("output_distribution", "ignore_implicit_zeros"),
    ignores=("n_quantiles", "subsample", "random_state", "copy"),
)
def quantile_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """The share of the quantiles below a cell, interpolated from both sides; through the normal quantile if asked."""
    from scipy import stats

    b = c.builder
    x = X.matrix(c, est, allow_nan=True)
    nan = b.is_nan(x)
    wide = x.cast("float64")
    columns = [_share(wide.select([j]), nan.select([j]), est.quantiles_[:, j], est.references_) for j in range(x.width)]
    share = b.concat(columns).cast(x.dtype)
    first, last = est.quantiles_[0].astype(np.float64), est.quantiles_[-1].astype(np.float64)
    if est.output_distribution == "normal":
        low = (x - _BOUNDS_THRESHOLD).cast("float64") < first
        high = (x + _BOUNDS_THRESHOLD).cast("float64") > last
    else:
        low, high = wide == first, wide == last
    share = b.where(low, 0.0, b.where(high, 1.0, share))
    if est.output_distribution == "normal":
        end = float(stats.norm.ppf(_BOUNDS_THRESHOLD - np.spacing(1)))
        start = float(stats.norm.ppf(1 - (_BOUNDS_THRESHOLD - np.spacing(1))))
        share = b.clip(b.normal_quantile(share).cast("float64"), end, start).cast(x.dtype)
    result = b.where(nan, x, share)
    if X.form != "sparse":
        return {"transform": Block(result, names=X.names)}
    if not est.ignore_implicit_zeros:
        message = f"{c.place(est)} was given a negative cell of a sparse matrix, which scikit-learn refuses too"
        result = b.require(result, (x >= 0.0) | nan, message)
    # Cells that a sparse matrix does not hold stay as they are.
    return {"transform": Block(b.where(x == 0.0, x, result), names=X.names, form="sparse")}


def _share(x: Value, nan: Value, quantiles: Array, references: Array) -> Value:
    """The mean of numpy.interp upwards and downwards: they differ where quantiles repeat. Any number where NaN."""
    b = x.builder
    knots, first = np.unique(quantiles.astype(np.float64), return_index=True)
    last = np.append(first[1:], len(quantiles)) - 1
    count = len(knots)
    with np.errstate(all="ignore"):
        slope = (references[first[1:]] - references[last[:-1]]) / np.diff(knots)
    # Row i: the cell lies between knots i - 1 and i. Beyond both ends the answer is constant.
    up = np.zeros((count + 1, 3))
    up[0, 1] = references[0]
    up[1:, 0], up[1:, 1], up[1:-1, 2] = knots, references[last], slope
    down = np.zeros((count + 1, 3))
    down[-1, 1] = references[-1]
    down[:-1, 0], down[:-1, 1], down[1:-1, 2] = knots, references[first], slope
    x = b.where(nan, 0.0, x)
    offsets = np.array([0, count], dtype=np.int64)
    above, below = b.take(ranks(x, [knots]), up), b.take(b.op("Rank", x, edges=knots, offsets=offsets), down)
    rising = above.select([2]) * (x - above.select([0])) + above.select([1])
    falling = below.select([1]) - below.select([2]) * (below.select([0]) - x)
    return (rising + falling) * 0.5


# --- PowerTransformer -----------------------------------------------------------------------------------------------
@converter("sklearn.PowerTransformer", honours=("method", "standardize"), ignores=("copy",))
def power_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Box-Cox or Yeo-Johnson with the fitted exponents, then the fitted StandardScaler."""
    b = c.builder
    x = X.matrix(c, est, allow_nan=True)
    if est.method == "box-cox":
        message = f"{c.place(est)} was given a cell that is not positive, which scikit-learn refuses too (box-cox)"
        x = b.require(x, (x > 0.0) | b.is_nan(x), message)
        y = _box_cox(x.cast("float64"), est.lambdas_.astype(np.float64)).cast(x.dtype)
    else:
        y = _yeo_johnson(x, est.lambdas_)
    transformed = Block(y, names=X.names)
    return c.convert(est._scaler, transformed, "") if est.standardize else {"transform": transformed}


def _box_cox(x: Value, exponent: Array) -> Value:
    """(x^exponent - 1) / exponent, its limit log(x) for 0, as scipy.special.boxcox computes it."""
    b = x.builder
    zero = np.abs(exponent) < 1e-19
    safe = np.where(zero, 1.0, exponent)
    log = b.log(x)
    power = b.expm1(log * safe) / safe
    return power if not zero.any() else b.where(b.constant(zero), log, power)


def _yeo_johnson(x: Value, exponent: Array) -> Value:
    """SciPy's Yeo-Johnson transform, in the dtype of x."""
    b = x.builder
    lam = exponent.astype(x.dtype)
    eps = np.finfo(x.dtype).eps
    positive = x >= 0.0
    rise = _log_or_power(b.log1p(b.where(positive, x, 0.0)), lam, np.abs(lam) < eps)
    fall = -_log_or_power(b.log1p(-b.where(positive, 0.0, x)), 2 - lam, np.abs(lam - 2) <= eps)
    return b.where(positive, rise, fall)


def _log_or_power(log: Value, exponent: Array, zero: Array) -> Value:
    b = log.builder
    safe = np.where(zero, np.ones(1, dtype=exponent.dtype), exponent)
    power = b.expm1(log * safe) / safe
    return b.where(b.constant(zero), log, power) if zero.any() else power


# --- TargetEncoder --------------------------------------------------------------------------------------------------
@converter(
    "sklearn.TargetEncoder",
    honours=("categories", "target_type", "smooth"),
    ignores=("cv", "shuffle", "random_state"),
)
def target_encoder(c: Conversion, est: Any, X: Block) -> Outputs:
    """A category's encoding of each class, or the mean of the target where the category is unknown."""
    X.check(c, est)
    many = est.target_type_ == "multiclass"
    outputs = len(est.classes_) if many else 1
    columns = []
    for i in range(X.width):
        x, keys, categories = category_keys(c, est, X, i)
        own = np.stack(est.encodings_[i * outputs : (i + 1) * outputs], axis=1)
        table = np.concatenate([np.atleast_2d(est.target_mean_), own[categories]]).astype(np.float64)
        columns.append(c.builder.take(c.builder.lookup(x, keys) + 1, table))
    return {"transform": Block(*columns)}


# --- KernelCenterer -------------------------------------------------------------------------------------------------
@converter("sklearn.KernelCenterer")
def kernel_centerer(c: Conversion, est: Any, X: Block) -> Outputs:
    """k - K_fit_rows_ - mean(k) + K_fit_all_."""
    x = X.matrix(c, est)
    mean = c.builder.sum(x) / float(est.K_fit_rows_.shape[0])
    centred = ((x - est.K_fit_rows_).cast(x.dtype) - mean + np.atleast_1d(est.K_fit_all_)).cast(x.dtype)
    return {"transform": Block(centred)}
