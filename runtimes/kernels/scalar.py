"""Functions of one number, written out so that kernels compute the bits of edgeml/ir: no libm, no fused operations.

They run on NumPy scalars in plain Python and are compiled by Numba when a kernel calls them. The polynomial cores are
those of edgeml/ir/elementary.py, unchanged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeml.ir.elementary import (
    EXP_MAX,
    EXP_MIN,
    INV_LN2,
    SQRT_HALF,
    TANH_SMALL,
    exp_core,
    log_core,
    round_core,
    tanh_small_core,
)

INT_MIN = -(2**63)
TWO_63 = 9223372036854775808.0
TWO_54 = 18014398509481984.0
SMALLEST_NORMAL = 2.2250738585072014e-308
MANTISSA = (1 << 52) - 1
HALF_EXPONENT = 1022 << 52


def keep(x: Any) -> Any:
    """x: what float64 kernels do where float32 ones round."""
    return x


def round32(x: Any) -> Any:
    """x rounded to float32. Exact for + - * / and sqrt of float32 values, as 53 >= 2 * 24 + 2."""
    return np.float64(np.float32(x))


def exp(x: Any) -> Any:
    if x >= EXP_MIN and x <= EXP_MAX:
        k = round_core(x * INV_LN2)
        # 32 bits: a conversion that ARMv7 has an instruction for.
        whole = np.int64(np.int32(k))
        half = whole >> 1
        y = exp_core(x, k) * np.int64((half + 1023) << 52).view(np.float64)
        return y * np.int64((whole - half + 1023) << 52).view(np.float64)
    if x > EXP_MAX:
        return np.inf
    if x < EXP_MIN:
        return 0.0
    return x


def log(x: Any) -> Any:
    if x > 0.0 and x < np.inf:
        scaled: Any = x
        e: Any = -1022
        if x < SMALLEST_NORMAL:
            scaled, e = x * TWO_54, -1076
        bits = np.float64(scaled).view(np.int64)
        e = e + (bits >> 52)
        m = np.int64((bits & MANTISSA) | HALF_EXPONENT).view(np.float64)
        if m < SQRT_HALF:
            return log_core(m + m, np.float64(np.int32(e - 1)))
        return log_core(m, np.float64(np.int32(e)))
    if x == 0.0:
        return -np.inf
    if x > 0.0:
        return np.inf
    return np.nan


def sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + exp(-x))


def tanh(x: Any) -> Any:
    a = abs(x)
    if a < TANH_SMALL:
        return tanh_small_core(x)
    large = 1.0 - 2.0 / (exp(a + a) + 1.0)
    if x < 0.0:
        return -large
    return large


def sqrt(x: Any) -> Any:
    return math.sqrt(x)


def to_int(x: Any) -> Any:
    """Toward zero; INT_MIN for NaN and what int64 cannot hold."""
    if x >= -TWO_63 and x < TWO_63:
        return np.int64(x)
    return np.int64(INT_MIN)


def minimum(x: Any, y: Any) -> Any:
    """The smaller; NaN if either is NaN; of two zeros the second."""
    if x < y or x != x:
        return x
    return y


def maximum(x: Any, y: Any) -> Any:
    """The larger; NaN if either is NaN; of two zeros the second."""
    if x > y or x != x:
        return x
    return y


def trailing_zeros(x: Any) -> Any:
    """The zeros below the lowest bit of a byte, 8 where it has none; ``build.py`` compiles LLVM's own in its place."""
    return np.uint8(8 if x == 0 else (int(x) & -int(x)).bit_length() - 1)
