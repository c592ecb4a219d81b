"""Covariance functions of Gaussian processes against the rows they were fitted on, in the arithmetic of
sklearn.gaussian_process.kernels.

In comes a fitted kernel, sums, products and powers of others included; out goes its value for a row and each training
row, or for a row and itself. Called by the converters of Gaussian processes. Distances are those of SciPy's cdist,
from differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from edgeml.converters.kernels import check_named, kernel_values, power
from edgeml.converters.registry import Conversion
from edgeml.ir import Value

# Of a kernel: its values against points (m, features), of width m, or of width 1 where all are alike; its diagonal.
Against = Callable[[Conversion, Any, Any, Value, Any], Value]
Diagonal = Callable[[Conversion, Any, Any, Value], Value]


def covariance(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    """``kernel(x, points)``, (rows, points). Raises the refusal of a kernel that is not scikit-learn's own."""
    values = _against(c, est, kernel, x, points)
    return values if values.width == len(points) else values + np.zeros(len(points))


def variance(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    """``kernel.diag(x)``, (rows, 1)."""
    return _entry(c, est, kernel)[1](c, est, kernel, x)


def _against(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return _entry(c, est, kernel)[0](c, est, kernel, x, points)


def _entry(c: Conversion, est: Any, kernel: Any) -> tuple[Against, Diagonal]:
    cls = type(kernel)
    if cls.__module__ != "sklearn.gaussian_process.kernels" or cls.__name__ not in _KERNELS:
        raise c.refuse(
            est,
            "kernel",
            kernel,
            f"compose it of the kernels of sklearn.gaussian_process.kernels ({', '.join(_KERNELS)})",
        )
    return _KERNELS[cls.__name__]


# --- kernels of kernels ---------------------------------------------------------------------------------------------
def _sum(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return _against(c, est, kernel.k1, x, points) + _against(c, est, kernel.k2, x, points)


def _sum_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    return variance(c, est, kernel.k1, x) + variance(c, est, kernel.k2, x)


def _product(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return _against(c, est, kernel.k1, x, points) * _against(c, est, kernel.k2, x, points)


def _product_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    return variance(c, est, kernel.k1, x) * variance(c, est, kernel.k2, x)


def _exponentiation(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return power(c, _against(c, est, kernel.kernel, x, points), kernel.exponent)


def _exponentiation_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    return power(c, variance(c, est, kernel.kernel, x), kernel.exponent)


# --- kernels that look at no features -------------------------------------------------------------------------------
def _constant(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return c.builder.constant(float(kernel.constant_value))


def _constant_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    return c.builder.constant(float(kernel.constant_value))


def _white(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    """Noise of one row has nothing to do with that of another."""
    return c.builder.constant(0.0)


def _white_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    return c.builder.constant(float(kernel.noise_level))


# --- kernels of distances -------------------------------------------------------------------------------------------
def _squared(c: Conversion, x: Value, points: Any, scale: Any = None) -> Value:
    """cdist(x / scale, points / scale, "sqeuclidean")."""
    wide, points = x.cast("float64"), points.astype(np.float64)
    if scale is not None:
        scale = np.atleast_1d(np.squeeze(scale).astype(np.float64))
        wide, points = wide / scale, points / scale
    return c.builder.distances(wide, points, "sqeuclidean")


def _one(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    return c.builder.constant(1.0)


def _rbf(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return c.builder.exp(-0.5 * _squared(c, x, points, kernel.length_scale))


def _matern(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    """Closed forms for nu = 0.5, 1.5, 2.5 and infinity, else with the modified Bessel function of that order."""
    builder, nu = c.builder, float(kernel.nu)
    distance = builder.sqrt(_squared(c, x, points, kernel.length_scale))
    if nu == 0.5:
        return builder.exp(-distance)
    if nu == 1.5:
        k = distance * math.sqrt(3)
        return (1.0 + k) * builder.exp(-k)
    if nu == 2.5:
        k = distance * math.sqrt(5)
        return (1.0 + k + k * k / 3.0) * builder.exp(-k)
    if nu == math.inf:
        return builder.exp(-(distance * distance) / 2.0)
    # Of a distance of 0 the product below would be NaN.
    scaled = math.sqrt(2 * nu) * builder.where(distance == 0.0, float(np.finfo(np.float64).eps), distance)
    factor = 2 ** (1.0 - nu) / math.gamma(nu)
    return power(c, scaled, nu) * factor * builder.bessel_k(scaled, nu)


def _rational_quadratic(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    width = 2 * kernel.alpha * kernel.length_scale**2
    return power(c, 1.0 + _squared(c, x, points) / float(np.squeeze(width)), -kernel.alpha)


def _exp_sine_squared(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    angle = float(np.pi / kernel.periodicity) * c.builder.sqrt(_squared(c, x, points))
    wave = c.builder.sin(angle) / float(kernel.length_scale)
    return c.builder.exp(-2.0 * (wave * wave))


# --- kernels of products --------------------------------------------------------------------------------------------
def _inner(c: Conversion, x: Value, points: Any) -> Value:
    """numpy.inner(x, points): in int64, which may wrap around, where both are integers, in float32 where both are."""
    if x.dtype == "int64" and points.dtype.kind in "iu":
        cells = x.select(np.tile(np.arange(x.width), len(points))) * points.astype(np.int64).ravel()
        return c.builder.op("SumGroups", cells, size=x.width)
    dtype = "float32" if x.dtype == "float32" and points.dtype == np.float32 else "float64"
    return c.builder.linear(x.cast(dtype), points.astype(dtype).T)


def _plus(x: Value, number: Any) -> Value:
    """``x + number`` in NumPy's dtype: a Python number takes that of x, a scalar of float64 widens it."""
    return x + np.asarray([number], dtype=np.result_type(np.dtype(x.dtype), number))


def _dot_product(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    return _plus(_inner(c, x, points), kernel.sigma_0**2)


def _dot_product_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    x = x.cast("int64") if x.dtype == "bool" else x
    return _plus(c.builder.sum(x * x), kernel.sigma_0**2)


def _pairwise_parameters(c: Conversion, est: Any, kernel: Any) -> dict[str, Any]:
    check_named(c, est, "kernel", kernel.metric)
    return {"gamma": kernel.gamma, **(kernel.pairwise_kernels_kwargs or {})}


def _pairwise(c: Conversion, est: Any, kernel: Any, x: Value, points: Any) -> Value:
    parameters = _pairwise_parameters(c, est, kernel)
    return kernel_values(c, est, x, points, kernel.metric, **parameters)


def _pairwise_diagonal(c: Conversion, est: Any, kernel: Any, x: Value) -> Value:
    """Kernels of distances are 1 there, the additive chi-squared one 0; others are functions of x @ x."""
    builder, metric = c.builder, kernel.metric
    parameters = _pairwise_parameters(c, est, kernel)
    if metric in ("rbf", "laplacian", "chi2"):
        return builder.constant(1.0)
    if metric == "additive_chi2":
        return builder.constant(0.0)
    x = x.cast("float32" if x.dtype == "float32" else "float64")
    square = builder.sum(x * x)
    if metric == "cosine":
        return builder.where(square == np.zeros(1, square.dtype), np.zeros(1, square.dtype), np.ones(1, square.dtype))
    # As if x @ x were the product with a point: of the one feature `square` with the point 1.
    return kernel_values(c, est, square, np.ones((1, 1), square.dtype), metric, **parameters)


_KERNELS: dict[str, tuple[Against, Diagonal]] = {
    "Sum": (_sum, _sum_diagonal),
    "Product": (_product, _product_diagonal),
    "Exponentiation": (_exponentiation, _exponentiation_diagonal),
    "ConstantKernel": (_constant, _constant_diagonal),
    "WhiteKernel": (_white, _white_diagonal),
    "RBF": (_rbf, _one),
    "Matern": (_matern, _one),
    "RationalQuadratic": (_rational_quadratic, _one),
    "ExpSineSquared": (_exp_sine_squared, _one),
    "DotProduct": (_dot_product, _dot_product_diagonal),
    "PairwiseKernel": (_pairwise, _pairwise_diagonal),
}
