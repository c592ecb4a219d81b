"""Special functions in plain IEEE arithmetic, each written once for arrays, for compiled scalars and for ONNX graphs.

A function here is made for a ``Vocabulary``: choice, rounding, exponential and logarithm in one of three forms. It then
uses ``+ - * /`` and comparisons of its operands alone, so that NumPy (ops_special.py), kernels and ONNX compute one
formula; the first two, which share exp and log, the same bits. Both branches of a choice are computed. Tables are
Chebyshev interpolants found with mpmath, highest power first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edgeml.ir.elementary import atanh_tail, exp_tail

Function = Callable[..., Any]

NAN = float("nan")
INF = float("inf")
EXPM1_SMALL = 0.34
LOG1P_LOW, LOG1P_HIGH = -0.29, 0.41
# Whole exponents up to here are powers by multiplication, so that 3 ** 2 is 9.
MULTIPLIED = 64.0
TWO_OVER_SQRT_PI = 1.1283791670955126
SQRT_TWO_PI = 2.5066282746310002
# Beyond, erfc is 0 in float64.
ERFC_END = 28.0
# erfc(x) exp(x^2) (1 + 2 x) for 0.5 <= x <= 28, over t = (x - 3) / (x + 3) scaled to [-1, 1].
ERFC = (
    4.642580557367152e-12, -9.924012036079355e-12, -7.445260156502988e-11, 8.813569929415028e-11,
    7.524556436226923e-10, -2.4993491062951664e-10, -6.614047571109992e-09, -2.0365346158493865e-09,
    5.829709409539656e-08, 3.7086114972071854e-08, -5.619321151947498e-07, -2.6432793020196124e-07,
    6.115684306767269e-06, -2.6884111034704642e-06, -6.912737914402445e-05, 0.0001739993076558428,
    0.0004650989697800814, -0.004415787717288489, 0.01572239144864902, -0.034858448572140745,
    0.04794607053092728, -0.017977041184294523, -0.10586152790091506, 1.2466693962002773,
)  # fmt: skip
# Quantile of 1/2 + q, divided by q, over q^2 / 0.08 - 1, for |q| <= 0.4.
CENTRE = (
    3.432566766844346e-10, 7.575057677800217e-10, -6.429638853827027e-10, -1.408154379966204e-09,
    3.86478127776371e-09, 8.57092015177577e-09, 6.831086068221287e-09, 1.544910264596366e-08,
    4.899628157773364e-08, 1.1061551282738598e-07, 2.3980724367981084e-07, 5.463531421005038e-07,
    1.2565559909068582e-06, 2.891715767863579e-06, 6.694671470268584e-06, 1.561936694508034e-05,
    3.676330756302161e-05, 8.744853537300559e-05, 0.00021073471051408753, 0.0005162065507222871,
    0.0012915690157686143, 0.003325148079713613, 0.008914387573984843, 0.025423264072405055,
    0.08060594058128022, 0.3192540609562943, 2.7641859486299936,
)  # fmt: skip
# -quantile(exp(-s^2 / 2)) / s for 2.14 <= s <= 38.7, over t = (s - 4) / (s + 4) scaled to [-1, 1].
TAIL = (
    -1.1401000110361146e-08, -1.5740759059355898e-08, 6.421674956212342e-08, 9.040984902414541e-08,
    -1.7520800709859401e-07, -2.4272792362922323e-07, 2.775424081601739e-07, 4.0476147486014966e-07,
    -3.3097934813482333e-07, -3.9012424910414255e-07, 1.2297884404257997e-07, 5.474136612648337e-07,
    -6.557250990499814e-07, 9.364298005575038e-07, -2.530026777070366e-06, 5.628843869962672e-06,
    -1.2612353877001762e-05, 2.7423242904326727e-05, -6.13855514540972e-05, 0.0001340249390754004,
    -0.00029683741153474675, 0.0006458585625419263, -0.0014151199988201644, 0.00304909079190328,
    -0.006572522681609195, 0.013831894386208663, -0.028715857111959436, 0.05622356484259523,
    -0.10284855806438094, 0.12619200376875006, 0.9367690216019394,
)  # fmt: skip


@dataclass(frozen=True)
class Vocabulary:
    """What the functions are made of, for one kind of operands."""

    where: Function  # (condition, x, y), as numpy.where
    nearest: Function  # to the nearest integer, ties to even
    floor: Function
    exp: Function
    log: Function
    sqrt: Function
    sin: Function
    cos: Function


def horner(t: Any, table: Any) -> Any:
    """The polynomial with these coefficients, highest power first."""
    p = table[0]
    for i in range(1, len(table)):
        p = p * t + table[i]
    return p


def nearest_of(where: Function) -> Function:
    """numpy.round: the nearest integer, ties to even; -0.0 for what is rounded to it from below."""

    def nearest(x: Any) -> Any:
        magnitude = abs(x)
        whole = (magnitude + 4503599627370496.0) - 4503599627370496.0
        rounded = where(x < 0.0, -whole, whole)
        return where((magnitude < 4503599627370496.0) & (x != 0.0), rounded, x)

    return nearest


def floor_of(where: Function) -> Function:
    """numpy.floor."""
    nearest = nearest_of(where)

    def floor(x: Any) -> Any:
        whole = nearest(x)
        return where(whole > x, whole - 1.0, whole)

    return floor


def sign_of(where: Function) -> Function:
    """numpy.sign: -1, 0 or 1, and NaN of NaN."""

    def sign(x: Any) -> Any:
        return where(x > 0.0, 1.0, where(x < 0.0, -1.0, where(x == 0.0, 0.0, x)))

    return sign


def log1p_of(v: Vocabulary) -> Function:
    """log(1 + x), also for x near 0."""
    where, log = v.where, v.log

    def log1p(x: Any) -> Any:
        near = (x > LOG1P_LOW) & (x < LOG1P_HIGH)
        small = where(near, x, 0.0)
        s = small / (small + 2.0)
        s2 = s + s
        z = s * s
        return where(abs(x) < 1e-300, x, where(near, s2 + s2 * z * atanh_tail(z), log(1.0 + x)))

    return log1p


def expm1_of(v: Vocabulary) -> Function:
    """exp(x) - 1, also for x near 0."""
    where, exp = v.where, v.exp

    def expm1(x: Any) -> Any:
        near = abs(x) < EXPM1_SMALL
        small = where(near, x, 0.0)
        return where(x == 0.0, x, where(near, small + small * small * exp_tail(small), exp(x) - 1.0))

    return expm1


def pow_of(v: Vocabulary) -> Function:
    """numpy.power(x, y): by multiplication where y is a small whole number, else exp(y log |x|) with its sign."""
    where, nearest, floor, exp, log = v.where, v.nearest, v.floor, v.exp, v.log

    def power(x: Any, y: Any) -> Any:
        a = abs(x)
        whole = nearest(y) == y
        odd = whole & (nearest(0.5 * y) != 0.5 * y)
        few = whole & (abs(y) <= MULTIPLIED)
        left = where(few, abs(y), 0.0)
        product, square = 1.0 + 0.0 * left, a
        for _ in range(7):
            half = floor(0.5 * left)
            product = where(left - 2.0 * half == 1.0, product * square, product)
            square = square * square
            left = half
        product = where(y < 0.0, 1.0 / product, product)
        usual = few & (product > 1e-290) & (product < 1e290)
        size = where(usual, product, exp(y * log(a)))
        size = where((a == 1.0) & (y == y), 1.0, size)
        # A zero with a sign is below zero, too: its reciprocal tells.
        below = (x < 0.0) | ((x == 0.0) & (1.0 / x < 0.0))
        signed = where(below & odd, -size, size)
        impossible = (x < 0.0) & (a < INF) & (whole != (y == y)) & (abs(y) < INF)
        return where((y == 0.0) | (x == 1.0), 1.0, where(impossible, NAN, signed))

    return power


def erfc_tail(v: Vocabulary) -> Function:
    """erfc(x) for x >= 0.5."""
    where, exp = v.where, v.exp

    def tail(x: Any) -> Any:
        x = where(x < ERFC_END, x, ERFC_END)
        t = ((x - 3.0) / (x + 3.0) - 0.046082949308755760) / 0.76036866359447005
        return horner(t, ERFC) * exp(-x * x) / (1.0 + 2.0 * x)

    return tail


def erf_of(v: Vocabulary) -> Function:
    """scipy.special.erf: its Taylor polynomial near 0, one less erfc beyond."""
    where = v.where
    tail = erfc_tail(v)

    def erf(x: Any) -> Any:
        a = abs(x)
        near = a < 0.5
        small = where(near, x, 0.0)
        z = small * small
        p = 1.0 / 11975040000.0
        p = p * z - 1.0 / 918086400.0
        p = p * z + 1.0 / 76204800.0
        p = p * z - 1.0 / 6894720.0
        p = p * z + 1.0 / 685440.0
        p = p * z - 1.0 / 75600.0
        p = p * z + 1.0 / 9360.0
        p = p * z - 1.0 / 1320.0
        p = p * z + 1.0 / 216.0
        p = p * z - 1.0 / 42.0
        p = p * z + 1.0 / 10.0
        p = p * z - 1.0 / 3.0
        far = 1.0 - tail(where(near, 0.5, a))
        far = where(x < 0.0, -far, far)
        return where((x == x) & (x != 0.0), where(near, TWO_OVER_SQRT_PI * (small + small * z * p), far), x)

    return erf


def normal_quantile_of(v: Vocabulary) -> Function:
    """scipy.special.ndtri: the quantile of the standard normal distribution; NaN outside [0, 1]."""
    where, log, sqrt = v.where, v.log, v.sqrt

    def normal_quantile(p: Any) -> Any:
        q = p - 0.5
        near = abs(q) <= 0.4
        small = where(near, q, 0.0)
        centre = small * horner(small * small / 0.08 - 1.0, CENTRE)
        least = where(q > 0.0, 1.0 - p, p)
        s = sqrt(-2.0 * log(where((least > 0.0) & (least < 0.1), least, 0.1)))
        t = ((s - 4.0) / (s + 4.0) - 0.2555) / 0.5575
        far = where(least > 0.0, s * horner(t, TAIL), where(least == 0.0, INF, NAN))
        return where(near, centre, where(q < 0.0, -far, far))

    return normal_quantile
