"""Digamma, the logarithm of gamma, and the Bessel function K in plain IEEE arithmetic.

Made for a ``Vocabulary`` as in elementary_special.py, and called by the same three: ops_special.py, the kernels and the
ONNX lowerings. ``bessel_constants`` turns the order of K into the numbers that its formula needs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from edgeml.ir.elementary_special import INF, NAN, Function, Vocabulary, horner

PI = 3.141592653589793
HALF_LOG_TWO_PI = 0.9189385332046727
SHIFT = 10
# 1 / gamma(1 + x) by powers of x (by mpmath): the odd ones and the even ones, highest first.
RECIPROCAL_GAMMA_ODD = (
    5.100370287454476e-13, 7.782263439905071e-12, -1.18127457048702e-09, 6.116095104481416e-09,
    1.133027231981696e-06, -2.013485478078824e-05, -0.00021524167411495098, 0.0072189432466631,
    -0.04219773455554433, -0.04200263503409524, 0.5772156649015329,
)  # fmt: skip
RECIPROCAL_GAMMA_EVEN = (
    -3.696805618642206e-12, 1.0434267116911005e-10, 5.002007644469223e-09, -2.056338416977607e-07,
    -1.2504934821426706e-06, 0.0001280502823881162, -0.0011651675918590652, -0.009621971527876973,
    0.16653861138229148, -0.6558780715202539, 1.0,
)  # fmt: skip
# Nodes of the trapezoid rule for K beyond 2: 0.3 apart up to 6.
NODES = 20
SPACING = 0.3
BESSEL_TERMS = 14
# Below, 2 / x is near the end of float64, and SciPy gives infinity.
SMALLEST = 1e-305


def digamma_of(v: Vocabulary) -> Function:
    """scipy.special.digamma: the asymptotic series at x + 10, and recurrence back; by reflection from 0 down."""
    where, nearest, log, sin, cos = v.where, v.nearest, v.log, v.sin, v.cos

    def digamma(x: Any) -> Any:
        below = x <= 0.0
        z = where(below, 1.0 - x, x)
        steps = 1.0 / z
        for k in range(1, SHIFT):
            steps = steps + 1.0 / (z + k)
        far = z + 10.0
        r = 1.0 / far
        w = r * r
        p = 3617.0 / 8160.0
        p = p * w - 1.0 / 12.0
        p = p * w + 691.0 / 32760.0
        p = p * w - 1.0 / 132.0
        p = p * w + 1.0 / 240.0
        p = p * w - 1.0 / 252.0
        p = p * w + 1.0 / 120.0
        p = p * w - 1.0 / 12.0
        above = (log(far) - 0.5 * r) + (w * p - steps)
        whole = nearest(x)
        angle = PI * where(below & (x > -4503599627370496.0), x - whole, 0.25)
        reflected = above - PI * cos(angle) / sin(angle)
        pole = where(x == 0.0, -1.0 / x, NAN)
        return where(below, where(whole == x, pole, reflected), above)

    return digamma


def log_gamma_of(v: Vocabulary) -> Function:
    """scipy.special.gammaln: Stirling's series at 10 and above, recurrence up to it; by reflection below 1/2."""
    where, nearest, log, sin = v.where, v.nearest, v.log, v.sin

    def log_gamma(x: Any) -> Any:
        below = x < 0.5
        z = where(below, 1.0 - x, x)
        near = z < 10.0
        start = where(near, z, 1.0)
        product = start
        for k in range(1, SHIFT):
            product = product * (start + k)
        far = where(near, z + 10.0, z)
        r = 1.0 / far
        w = r * r
        p = -3617.0 / 122400.0
        p = p * w + 1.0 / 156.0
        p = p * w - 691.0 / 360360.0
        p = p * w + 1.0 / 1188.0
        p = p * w - 1.0 / 1680.0
        p = p * w + 1.0 / 1260.0
        p = p * w - 1.0 / 360.0
        p = p * w + 1.0 / 12.0
        series = far * (log(far) - 1.0) + ((HALF_LOG_TWO_PI - 0.5 * log(far)) + r * p)
        above = where(near, series - log(product), series)
        above = where((z == 1.0) | (z == 2.0), 0.0, above)
        whole = nearest(x)
        angle = PI * where(below & (x > -4503599627370496.0), x - whole, 0.25)
        reflected = log(PI / abs(sin(angle))) - above
        value = where(below, where(whole == x, INF, reflected), above)
        return where(abs(x) == INF, x, value)

    return log_gamma


class BesselConstants(NamedTuple):
    """An order nu = mu + steps with |mu| <= 1/2, and what Temme's series needs of gamma at 1 +- mu."""

    mu: float
    steps: int
    first: float  # (1 / gamma(1 - mu) - 1 / gamma(1 + mu)) / (2 mu)
    second: float  # the mean of the two reciprocals
    ratio: float  # pi mu / sin(pi mu)
    rising: float  # gamma(1 + mu)
    falling: float  # gamma(1 - mu)


def bessel_constants(order: float) -> BesselConstants:
    """Of the order of K, which is even in it."""
    nu = abs(order)
    steps = math.floor(nu + 0.5)
    mu = nu - steps
    odd = horner(mu * mu, RECIPROCAL_GAMMA_ODD)
    even = horner(mu * mu, RECIPROCAL_GAMMA_EVEN)
    angle = math.pi * mu
    ratio = angle / math.sin(angle) if abs(mu) > 1e-9 else 1.0
    return BesselConstants(mu, steps, -odd, even, ratio, 1.0 / (even + mu * odd), 1.0 / (even - mu * odd))


def bessel_k_of(v: Vocabulary) -> Function:
    """scipy.special.kv of a fixed order: (x, *bessel_constants) to K.

    K of mu and mu + 1 by Temme's series (N. M. Temme, On the numerical evaluation of the modified Bessel function of
    the third kind, 1975) up to 2, and beyond by the trapezoid rule on the integral of exp(-x cosh t) cosh(mu t) with
    sinh(t / 2) = y / sqrt(2 x), which converges exponentially; then the recurrence, which is stable upwards.
    """
    where, exp, log, sqrt = v.where, v.exp, v.log, v.sqrt

    def series(x: Any, mu: Any, first: Any, second: Any, ratio: Any, rising: Any, falling: Any) -> Any:
        length = log(2.0 / x)
        sigma = mu * length
        e = exp(sigma)
        w = sigma * sigma
        near = 1.0 + w / 6.0 * (1.0 + w / 20.0 * (1.0 + w / 42.0 * (1.0 + w / 72.0 * (1.0 + w / 110.0))))
        small = abs(sigma) < 0.3
        over = where(small, near, 0.5 * (e - 1.0 / e) / where(small, 1.0, sigma))
        f = ratio * (0.5 * (e + 1.0 / e) * first + over * length * second)
        p, q = 0.5 * e * rising, 0.5 / e * falling
        low, high = f, p
        power = 0.25 * x * x
        c = 1.0 + 0.0 * x
        for k in range(1, BESSEL_TERMS):
            f = (k * f + p + q) / (k * k - mu * mu)
            p = p / (k - mu)
            q = q / (k + mu)
            c = c * power / k
            low = low + c * f
            high = high + c * (p - k * f)
        return low, 2.0 / x * high

    def integral(x: Any, mu: Any) -> Any:
        scale = 1.0 / sqrt(2.0 * x)
        low, high = 0.5 + 0.0 * x, 0.5 + 0.0 * x
        for j in range(1, NODES + 1):
            y = SPACING * j
            s = y * scale
            root = sqrt(1.0 + s * s)
            g = s + root
            power = exp(2.0 * mu * log(g))
            more = power * g * g
            weight = exp(0.0 * x - y * y) / root
            low = low + 0.5 * weight * (power + 1.0 / power)
            high = high + 0.5 * weight * (more + 1.0 / more)
        factor = 2.0 * SPACING * scale * exp(-x)
        return factor * low, factor * high

    def bessel_k(x: Any, mu: Any, steps: Any, first: Any, second: Any, ratio: Any, rising: Any, falling: Any) -> Any:
        near = x <= 2.0
        positive = x > SMALLEST
        a, b = series(where(near & positive, x, 1.0), mu, first, second, ratio, rising, falling)
        far = where((x > 2.0) & (x < 800.0), x, 800.0)
        c, d = integral(far, mu)
        low, high = where(near, a, c), where(near, b, d)
        of = where(positive, x, 1.0)
        for k in range(1, steps + 1):
            low, high = high, low + 2.0 * (mu + k) / of * high
        return where(positive, low, where(x >= 0.0, INF, NAN))

    return bessel_k
