"""Elementary functions in plain IEEE arithmetic, so that every path computes the same bits.

``libm`` differs between NumPy builds, C libraries and CPUs, and an object for a bare device cannot call it. The cores
below use only ``+ - * /`` and run unchanged on NumPy arrays and, compiled by Numba, on scalars (runtimes/kernels).
Largest errors measured against mpmath: exp 0.9 ulp, log 1.9, sigmoid 2.2, tanh 1.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Adding and subtracting 1.5 * 2^52 rounds to the nearest integer without calling floor, which is a libm call on
# baseline x86-64.
ROUND = 6755399441055744.0
INV_LN2 = 1.4426950408889634
# ln 2 split so that k * LN2_HI is exact for |k| < 2^11 (Cody and Waite, as in fdlibm's e_exp.c).
LN2_HI = 6.93147180369123816490e-01
LN2_LO = 1.90821492927058770002e-10
EXP_MAX = 709.782712893384
EXP_MIN = -745.1332191019412
TANH_SMALL = 0.55
SQRT_HALF = 0.7071067811865476


def round_core(x: Any) -> Any:
    """Nearest integer of |x| < 2^51, as a float."""
    return (x + ROUND) - ROUND


def exp_tail(r: Any) -> Any:
    """(exp(r) - 1 - r) / r^2 by its Taylor polynomial, for |r| <= 0.3466: truncation below 4e-18 of exp(r)."""
    p = 1.0 / 6227020800.0
    p = p * r + 1.0 / 479001600.0
    p = p * r + 1.0 / 39916800.0
    p = p * r + 1.0 / 3628800.0
    p = p * r + 1.0 / 362880.0
    p = p * r + 1.0 / 40320.0
    p = p * r + 1.0 / 5040.0
    p = p * r + 1.0 / 720.0
    p = p * r + 1.0 / 120.0
    p = p * r + 1.0 / 24.0
    p = p * r + 1.0 / 6.0
    return p * r + 0.5


def exp_core(x: Any, k: Any) -> Any:
    """exp(x - k ln 2) for |x - k ln 2| <= 0.3466."""
    r = (x - k * LN2_HI) - k * LN2_LO
    return 1.0 + (r + r * r * exp_tail(r))


def atanh_tail(z: Any) -> Any:
    """(atanh(s) / s - 1) / z for z = s^2 and |s| <= 0.1716."""
    p = 1.0 / 23.0
    p = p * z + 1.0 / 21.0
    p = p * z + 1.0 / 19.0
    p = p * z + 1.0 / 17.0
    p = p * z + 1.0 / 15.0
    p = p * z + 1.0 / 13.0
    p = p * z + 1.0 / 11.0
    p = p * z + 1.0 / 9.0
    p = p * z + 1.0 / 7.0
    p = p * z + 1.0 / 5.0
    return p * z + 1.0 / 3.0


def log_core(m: Any, e: Any) -> Any:
    """log(m * 2^e) for m in [sqrt(1/2), sqrt(2)): 2 atanh((m - 1) / (m + 1)) + e ln 2."""
    s = (m - 1.0) / (m + 1.0)
    z = s * s
    s2 = s + s
    return e * LN2_HI + (s2 + (s2 * z * atanh_tail(z) + e * LN2_LO))


def tanh_small_core(x: Any) -> Any:
    """tanh for |x| < 0.55 by Lambert's continued fraction, relative error below 1e-16 before rounding."""
    z = x * x
    d = 17.0 + z / 19.0
    d = 15.0 + z / d
    d = 13.0 + z / d
    d = 11.0 + z / d
    d = 9.0 + z / d
    d = 7.0 + z / d
    d = 5.0 + z / d
    d = 3.0 + z / d
    d = 1.0 + z / d
    return x / d


def exp(x: Array) -> Array:
    """Elementwise exp of a float64 array."""
    with np.errstate(all="ignore"):
        inside = (x >= EXP_MIN) & (x <= EXP_MAX)
        safe = np.where(inside, x, 0.0)
        k = round_core(safe * INV_LN2)
        half = np.floor(k * 0.5)
        # Two exact powers of two: one multiplication alone would overflow at the ends of the range.
        y = (exp_core(safe, k) * np.ldexp(1.0, half.astype(np.int64))) * np.ldexp(1.0, (k - half).astype(np.int64))
        return np.where(inside, y, np.where(x > EXP_MAX, np.inf, np.where(x < EXP_MIN, 0.0, x)))


def log(x: Array) -> Array:
    """Elementwise natural logarithm of a float64 array: -inf at 0, NaN below."""
    with np.errstate(all="ignore"):
        inside = (x > 0.0) & (x < np.inf)
        m, e = np.frexp(np.where(inside, x, 1.0))
        low = m < SQRT_HALF
        y = log_core(np.where(low, m + m, m), np.where(low, e - 1, e).astype(np.float64))
        special = np.where(x == 0.0, -np.inf, np.where(x > 0.0, np.inf, np.nan))
        return np.where(inside, y, special)


def sigmoid(x: Array) -> Array:
    """Elementwise 1 / (1 + exp(-x)) of a float64 array, as scipy.special.expit computes it."""
    with np.errstate(all="ignore"):
        result: Array = 1.0 / (1.0 + exp(-x))
        return result


def tanh(x: Array) -> Array:
    """Elementwise hyperbolic tangent of a float64 array."""
    with np.errstate(all="ignore"):
        a = np.abs(x)
        small = a < TANH_SMALL
        large = 1.0 - 2.0 / (exp(a + a) + 1.0)
        large = np.where(x < 0.0, -large, large)
        return np.where(small, tanh_small_core(np.where(small, x, 0.0)), large)
