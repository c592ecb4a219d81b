"""Kernel values of a row against the points a kernel method keeps, as sklearn.metrics.pairwise computes them.

In comes the matrix of an estimator, the points, and a kernel by its name in PAIRWISE_KERNEL_FUNCTIONS (or
"precomputed") with its parameters; out goes one column a point. Called by every converter of a kernel method; libsvm
has kernels of its own, which differ in how they add (svm.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.nearest import expanded
from edgeml.converters.registry import Conversion
from edgeml.ir import Value

# Kernel -> the parameters it has, as KERNEL_PARAMS of sklearn.metrics.pairwise; a missing one has the default below.
PARAMETERS = {
    "linear": (),
    "poly": ("gamma", "degree", "coef0"),
    "polynomial": ("gamma", "degree", "coef0"),
    "rbf": ("gamma",),
    "laplacian": ("gamma",),
    "sigmoid": ("gamma", "coef0"),
    "cosine": (),
    "additive_chi2": (),
    "chi2": ("gamma",),
    "precomputed": (),
}
_DEFAULTS = {"gamma": None, "degree": 3, "coef0": 1}
# Whole powers up to this one are products, which err by less than a unit in the last place each.
_MOST_PRODUCTS = 64


def dense(array: Any) -> Any:
    """A fitted array that a fit on sparse rows leaves as a SciPy matrix."""
    return array.toarray() if hasattr(array, "toarray") else array


def check_named(c: Conversion, est: Any, parameter: str, kernel: Any) -> None:
    """Raise the refusal of a kernel that is a function, or that this version does not know."""
    if not isinstance(kernel, str) or kernel not in PARAMETERS:
        raise c.refuse(
            est,
            parameter,
            kernel,
            f"use a kernel by name ({', '.join(PARAMETERS)}); a function of your own cannot go into a bundle",
        )


def kernel_values(c: Conversion, est: Any, x: Value, points: Any, kernel: str, **parameters: Any) -> Value:
    """pairwise_kernels(x, points, metric=kernel, filter_params=True, **parameters), (rows, points)."""
    if kernel == "cosine":
        points = _unit(points)
    points = dense(points)
    single = x.dtype == "float32" and points.dtype == np.float32
    x = x.cast("float32" if single else "float64")
    if kernel == "precomputed":
        return x
    points = points.astype(x.dtype)
    given = {**_DEFAULTS, **{name: value for name, value in parameters.items() if name in PARAMETERS[kernel]}}
    gamma, degree, coef0 = given["gamma"], given["degree"], given["coef0"]
    if gamma is None:
        gamma = 1.0 if kernel == "chi2" else 1.0 / x.width
    builder = c.builder
    if kernel in ("additive_chi2", "chi2"):
        similarity = -_chi2(c, est, x, points)
        return similarity if kernel == "additive_chi2" else builder.exp(in_place(similarity, "Mul", gamma))
    if kernel == "rbf":
        return builder.exp(in_place(expanded(c, x, points, x.dtype), "Mul", -gamma))
    if kernel == "laplacian":
        return builder.exp(-gamma * builder.distances(x.cast("float64"), points, "manhattan"))
    if kernel == "cosine":
        x = _unit_rows(c, x)
    products = builder.linear(x, points.T)
    if kernel in ("linear", "cosine"):
        return products
    shifted = in_place(in_place(products, "Mul", gamma), "Add", coef0)
    return builder.tanh(shifted) if kernel == "sigmoid" else power(c, shifted, degree)


def in_place(x: Value, op: str, number: Any) -> Value:
    """``x *= number`` and the like: in the common dtype of the two, rounded back to that of x."""
    common = np.result_type(np.dtype(x.dtype), number)
    return x.builder.binary(op, x.cast(common.name), np.asarray([number], dtype=common)).cast(x.dtype)


def _unit(points: Any) -> Any:
    """The points, dense or sparse, divided by their norms."""
    from sklearn.preprocessing import normalize

    return normalize(points, copy=True)


def _unit_rows(c: Conversion, x: Value) -> Value:
    """normalize(x): rows divided by their norm, those under 10 eps left as they are."""
    norm = c.builder.sqrt(c.builder.sum(x * x))
    tiny = norm < np.full(1, 10 * np.finfo(x.dtype).eps, dtype=x.dtype)
    return x / c.builder.where(tiny, np.ones(1, dtype=x.dtype), norm)


def _chi2(c: Conversion, est: Any, x: Value, points: Any) -> Value:
    """Sums of (x - p)^2 / (x + p) over the features where x + p is not 0, in x's dtype; rows below 0 are refused."""
    message = f"{c.place(est)} compares rows by a chi-squared kernel, which has no negative values"
    x = c.builder.require(x, x >= np.zeros(1, dtype=x.dtype), message)
    return c.builder.distances(x, points, "additive_chi2").cast(x.dtype)


def power(c: Conversion, x: Value, degree: Any) -> Value:
    """``x ** degree``: by products where the degree is a small whole number."""
    if float(degree).is_integer() and 0 <= degree <= _MOST_PRODUCTS:
        return _by_products(x.cast("float64"), int(degree)).cast(x.dtype)
    return c.builder.pow(x, np.asarray([degree], dtype=x.dtype))


def _by_products(x: Value, times: int) -> Value:
    """x to a whole power, as libsvm's powi: squares of squares, multiplied where a bit of the exponent is set."""
    result: Value | None = None
    while times > 0:
        if times % 2:
            result = x if result is None else result * x
        times //= 2
        if times:
            x = x * x
    return x.builder.constant(np.ones(x.width)) if result is None else result
