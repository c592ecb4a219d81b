"""Special functions of one number, elementwise: powers, trigonometry, rounding, erf, gamma, Bessel; convolution.

Every function is the op's meaning on arrays of shape (rows, width), in the formulas of the elementary_* modules;
float32 results are the float64 result rounded once. Entered in the table by ops.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir import elementary
from edgeml.ir.elementary_gamma import bessel_constants, bessel_k_of, digamma_of, log_gamma_of
from edgeml.ir.elementary_special import (
    Function,
    Vocabulary,
    erf_of,
    expm1_of,
    floor_of,
    log1p_of,
    nearest_of,
    normal_quantile_of,
    pow_of,
    sign_of,
)
from edgeml.ir.elementary_trig import REDUCE_MAX, reduce_small, reducer_of_huge, turned
from edgeml.ir.ops_tensor import FLOATS, Attrs, Types
from edgeml.ir.program import ValueType
from edgeml.ir.table import Array, broadcast_width, op, require_dtype, same_dtype

_nearest = nearest_of(np.where)
_reduce_huge = reducer_of_huge(_nearest)
_turn = turned(np.where, _nearest)


def _turned(x: Array, shift: float) -> Array:
    huge = np.abs(x) > REDUCE_MAX
    k, r, s = reduce_small(np.where(huge, 0.0, x))
    result = _turn(k, r, s, shift)
    if huge.any():
        result[huge] = _turn(*_reduce_huge(x[huge]), shift)
    return np.asarray(result)


def sin(x: Array) -> Array:
    """Elementwise sine of a float64 array."""
    with np.errstate(all="ignore"):
        return np.where(x == 0.0, x, _turned(x, 0.0))


def cos(x: Array) -> Array:
    """Elementwise cosine of a float64 array."""
    with np.errstate(all="ignore"):
        return _turned(x, 1.0)


ARRAYS = Vocabulary(
    where=np.where,
    nearest=_nearest,
    floor=floor_of(np.where),
    exp=elementary.exp,
    log=elementary.log,
    sqrt=np.sqrt,
    sin=sin,
    cos=cos,
)
_FUNCTIONS: dict[str, Function] = {
    "Log1p": log1p_of(ARRAYS),
    "Expm1": expm1_of(ARRAYS),
    "Sin": sin,
    "Cos": cos,
    "Erf": erf_of(ARRAYS),
    "NormalQuantile": normal_quantile_of(ARRAYS),
    "Digamma": digamma_of(ARRAYS),
    "LogGamma": log_gamma_of(ARRAYS),
    "Floor": ARRAYS.floor,
    "Round": _nearest,
    "Sign": sign_of(np.where),
}
_power, _bessel_k = pow_of(ARRAYS), bessel_k_of(ARRAYS)


def _through_float64(function: Function, *xs: Array, constants: tuple[Any, ...] = ()) -> Array:
    with np.errstate(all="ignore"):
        result: Array = np.asarray(function(*(x.astype(np.float64) for x in xs), *constants)).astype(xs[0].dtype)
    return result


def _infer_unary(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS)
    return types[0]


def _infer_power(types: Types, attrs: Attrs) -> ValueType:
    same_dtype(types)
    require_dtype(types[0], *FLOATS)
    return ValueType(types[0].dtype, broadcast_width(types))


@op("Pow", 2, _infer_power)
def power(x: Array, y: Array) -> Array:
    """numpy.power of floats: x to the power y."""
    return _through_float64(_power, x, y)


@op("Log1p", 1, _infer_unary)
def log1p(x: Array) -> Array:
    """log(1 + x), exact near 0 too."""
    return _through_float64(_FUNCTIONS["Log1p"], x)


@op("Expm1", 1, _infer_unary)
def expm1(x: Array) -> Array:
    """exp(x) - 1, exact near 0 too."""
    return _through_float64(_FUNCTIONS["Expm1"], x)


@op("Sin", 1, _infer_unary)
def sine(x: Array) -> Array:
    """Sine of an angle in radians; NaN of infinity."""
    return _through_float64(sin, x)


@op("Cos", 1, _infer_unary)
def cosine(x: Array) -> Array:
    """Cosine of an angle in radians; NaN of infinity."""
    return _through_float64(cos, x)


@op("Erf", 1, _infer_unary)
def erf(x: Array) -> Array:
    """The error function, scipy.special.erf."""
    return _through_float64(_FUNCTIONS["Erf"], x)


@op("NormalQuantile", 1, _infer_unary)
def normal_quantile(x: Array) -> Array:
    """The quantile function of the standard normal distribution, scipy.special.ndtri."""
    return _through_float64(_FUNCTIONS["NormalQuantile"], x)


@op("Digamma", 1, _infer_unary)
def digamma(x: Array) -> Array:
    """Derivative of log gamma, scipy.special.digamma."""
    return _through_float64(_FUNCTIONS["Digamma"], x)


@op("LogGamma", 1, _infer_unary)
def log_gamma(x: Array) -> Array:
    """log |gamma(x)|, scipy.special.gammaln; near its zeros 1 and 2 to 1e-14 absolute."""
    return _through_float64(_FUNCTIONS["LogGamma"], x)


@op("Floor", 1, _infer_unary)
def floor(x: Array) -> Array:
    """The largest integer that is not above x, as a float."""
    return _through_float64(_FUNCTIONS["Floor"], x)


@op("Round", 1, _infer_unary)
def nearest(x: Array) -> Array:
    """The nearest integer as a float, of two the even one: numpy.round, numpy.rint."""
    return _through_float64(_nearest, x)


@op("Sign", 1, _infer_unary)
def sign(x: Array) -> Array:
    """-1, 0 or 1, and NaN of NaN: numpy.sign."""
    return _through_float64(_FUNCTIONS["Sign"], x)


def _infer_convolve(types: Types, attrs: Attrs) -> ValueType:
    if types[0] != types[1] or types[0].dtype != "float64" or types[0].width < 1:
        raise ProgramError(f"Convolve needs two float64 values of one width, got {types[0]} and {types[1]}")
    return types[0]


@op("Convolve", 2, _infer_convolve)
def convolve(x: Array, y: Array) -> Array:
    """Circular convolution along the row: column k is the sum of x[k - j] y[j] over j, in the order of y."""
    total = x * y[:, :1]
    for j in range(1, y.shape[1]):
        total = total + np.roll(x, j, axis=1) * y[:, j : j + 1]
    return np.asarray(total)


constants_of = cache(bessel_constants)


@op("BesselK", 1, _infer_unary, {"order": "float"})
def bessel_k(x: Array, order: float) -> Array:
    """The modified Bessel function of the second kind of a fixed real order, scipy.special.kv(order, x)."""
    return _through_float64(_bessel_k, x, constants=constants_of(order))
