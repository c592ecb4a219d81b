"""Sine and cosine in plain IEEE arithmetic, right to the last bit or two for every float64, however large.

Like ``elementary.py``: the cores use ``+ - * /`` alone and give the same bits on NumPy arrays and, compiled by Numba,
on scalars. Called by ops_special.py and runtimes/kernels/special.py; ONNX has sine and cosine of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeml.ir.elementary import round_core

Function = Callable[..., Any]

TWO_OVER_PI = 0.6366197723675814
# Up to here k of x - k pi/2 has 27 bits, so that its products with pieces of 23 bits are exact.
REDUCE_MAX = 134217728.0
# pi/2 in pieces of 23 bits, and what is left of it (by mpmath).
HALF_PI = (1.570796251296997, 7.549789415861596e-08, 5.390302529957765e-15, 3.2820031633724233e-22)
HALF_PI_REST = 3.7950107727212256e-29
# pi/2 as a sum of two float64, and the first of them as one of two halves.
HALF_PI_HI, HALF_PI_LO = 1.5707963267948966, 6.123233995736766e-17
HALF_PI_TOP, HALF_PI_BOTTOM = 1.5707963705062866, -4.371139000186241e-08
# 2/pi in pieces of 24 bits (by mpmath); the first has weight 2^-24.
TWO_OVER_PI_BITS = (
    0xA2F983, 0x6E4E44, 0x1529FC, 0x2757D1, 0xF534DD, 0xC0DB62, 0x95993C, 0x439041,
    0xFE5163, 0xABDEBB, 0xC561B7, 0x246E3A, 0x424DD2, 0xE00649, 0x2EEA09, 0xD1921C,
    0xFE1DEB, 0x1CB129, 0xA73EE8, 0x8235F5, 0x2EBB44, 0x84E99C, 0x7026B4, 0x5F7E41,
    0x3991D6, 0x398353, 0x39F49C, 0x845F8B, 0xBDF928, 0x3B1FF8, 0x97FFDE, 0x05980F,
    0xEF2F11, 0x8B5A0A, 0x6D1F6D, 0x367ECF, 0x27CB09, 0xB74F46, 0x3F669E, 0x5FEA2D,
    0x7527BA, 0xC7EBE5, 0xF17B3D, 0x0739F7, 0x8A5292, 0xEA6BFB, 0x5FB11F, 0x8D5D08,
    0x560330, 0x46FC7B,
)  # fmt: skip
# A huge x is scaled down and the pieces are scaled up by 2^200, so that no product overflows.
SCALE_DOWN = 2.0**-200
FIRST_WEIGHT = 2.0**176
PIECE = 2.0**-24
SPLIT = 134217729.0


def reduce_small(x: Any) -> Any:
    """(k, r, s): x = k pi/2 + r + s with |r| <= pi/4 and s far below r, for |x| <= REDUCE_MAX."""
    k = round_core(x * TWO_OVER_PI)
    r, s = x, 0.0 * x
    for piece in HALF_PI:
        step = -(k * piece)
        total = r + step
        back = total - r
        s = s + ((r - (total - back)) + (step - back))
        r = total
    return k, r, s - k * HALF_PI_REST


def reducer_of_huge(nearest: Function) -> Function:
    """The function that gives (k mod 4, r, s), as reduce_small does, for REDUCE_MAX < |x| < inf.

    x 2/pi without multiples of 4, as Payne and Hanek have it, but without an index: every product of a half of x and a
    piece of 2/pi is exact, and what is a multiple of 4 vanishes when its nearest multiple of 4 is taken off.
    """

    def reduce_huge(x: Any) -> Any:
        scaled = x * SCALE_DOWN
        wide = scaled * SPLIT
        high = wide - (wide - scaled)
        low = scaled - high
        r, s = 0.0 * x, 0.0 * x
        weight = FIRST_WEIGHT
        for piece in TWO_OVER_PI_BITS:
            for part in (high, low):
                step = part * (piece * weight)
                step = step - 4.0 * nearest(step * 0.25)
                total = r + step
                back = total - r
                s = s + ((r - (total - back)) + (step - back))
                r = total
            weight = weight * PIECE
        k = round_core(r)
        r = r - k
        turn = r + s
        s = s - (turn - r)
        product = turn * HALF_PI_HI
        wide = turn * SPLIT
        high = wide - (wide - turn)
        low = turn - high
        error = ((high * HALF_PI_TOP - product) + high * HALF_PI_BOTTOM) + low * HALF_PI_HI
        return k, product, error + (s * HALF_PI_HI + turn * HALF_PI_LO)

    return reduce_huge


def sin_core(r: Any, s: Any) -> Any:
    """sin(r + s) for |r| <= pi/4 and s far below r: the Taylor polynomial of degree 19."""
    z = r * r
    p = -1.0 / 121645100408832000.0
    p = p * z + 1.0 / 355687428096000.0
    p = p * z - 1.0 / 1307674368000.0
    p = p * z + 1.0 / 6227020800.0
    p = p * z - 1.0 / 39916800.0
    p = p * z + 1.0 / 362880.0
    p = p * z - 1.0 / 5040.0
    p = p * z + 1.0 / 120.0
    p = p * z - 1.0 / 6.0
    return r + (r * z * p + s * (1.0 - 0.5 * z))


def cos_core(r: Any, s: Any) -> Any:
    """cos(r + s) for |r| <= pi/4 and s far below r: the Taylor polynomial of degree 18."""
    z = r * r
    p = -1.0 / 6402373705728000.0
    p = p * z + 1.0 / 20922789888000.0
    p = p * z - 1.0 / 87178291200.0
    p = p * z + 1.0 / 479001600.0
    p = p * z - 1.0 / 3628800.0
    p = p * z + 1.0 / 40320.0
    p = p * z - 1.0 / 720.0
    p = p * z + 1.0 / 24.0
    half = 0.5 * z
    w = 1.0 - half
    return w + (((1.0 - w) - half) + (z * z * p - r * s))


def turned(where: Function, nearest: Function) -> Function:
    """The function that takes sin or cos of r + s + k pi/2, where k is whole; ``shift`` is 0 for sin and 1 for cos."""

    def turn(k: Any, r: Any, s: Any, shift: Any) -> Any:
        quarter = k + shift
        quarter = quarter - 4.0 * nearest(quarter * 0.25)
        sine, cosine = sin_core(r, s), cos_core(r, s)
        odd = abs(quarter) == 1.0
        return where(quarter == 0.0, sine, where(quarter == 1.0, cosine, where(odd, -cosine, -sine)))

    return turn
