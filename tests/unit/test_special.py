"""The special functions against SciPy and NumPy: ordinary, extreme and awkward arguments."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from scipy import special

from edgeml.errors import ProgramError
from edgeml.ir import Builder
from edgeml.ir.ops import OPS

NAN, INF = float("nan"), float("inf")
RNG = np.random.default_rng(7)
EDGES = np.array([
    0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 2.5, -2.5, 0.5, -0.5, 0.3, -0.3, INF, -INF, NAN, 1e-300, 1e300, -1e300, 5e-324,
    -5e-324, 2.0**52, 2.0**52 - 0.5, 2.0**52 + 1, -(2.0**53), 3.0, -7.0, 10.0, 1e308, 1e22, 0.49999999999999994,
    1.5, 800.0,
])  # fmt: skip


def spread(low, high, count=500):
    """Numbers of every size between the two, and their negatives."""
    x = np.exp(RNG.uniform(np.log(low), np.log(high), count))
    return np.concatenate([x, -x])


def evaluate(op, *xs, **attrs):
    return OPS[op].evaluate(*(np.asarray(x, np.float64)[:, None] for x in xs), **attrs)[:, 0]


def same(got, want, rtol):
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(got[~finite], want[~finite])
    np.testing.assert_allclose(got[finite], want[finite], rtol=rtol, atol=5e-324)
    np.testing.assert_array_equal(np.signbit(got[want == 0]), np.signbit(want[want == 0]))


@pytest.mark.parametrize(
    ("op", "oracle", "x", "rtol"),
    [
        ("Log1p", np.log1p, spread(1e-20, 1e300), 1e-15),
        ("Expm1", np.expm1, spread(1e-20, 700), 2e-15),
        ("Sin", np.sin, np.concatenate([spread(1e-5, 1e300), np.arange(1, 300) * np.pi / 2]), 2e-15),
        ("Cos", np.cos, np.concatenate([spread(1e-5, 1e300), [6381956970095103 * 2.0**797]]), 2e-13),
        ("Erf", special.erf, spread(1e-300, 30), 1e-15),
        ("NormalQuantile", special.ndtri, np.concatenate([spread(1e-300, 1.2), RNG.uniform(0, 1, 500)]), 1e-14),
        ("Digamma", special.digamma, np.concatenate([spread(1.6, 1e10), spread(1e-9, 1.3)]), 1e-11),
        ("LogGamma", special.gammaln, np.concatenate([spread(1e-300, 0.9), spread(2.1, 1e300)[:500]]), 1e-12),
        ("Floor", np.floor, spread(1e-3, 1e17), 0.0),
        ("Round", np.rint, np.concatenate([spread(1e-3, 1e17), np.arange(-50, 50) / 2]), 0.0),
        ("Sign", np.sign, spread(1e-3, 1e17), 0.0),
    ],
)  # fmt: skip
def test_functions_of_one_number(op, oracle, x, rtol):
    with np.errstate(all="ignore"):
        want, at_edges = oracle(x), oracle(EDGES)
    same(evaluate(op, x), want, rtol)
    same(evaluate(op, EDGES), at_edges, rtol)


@pytest.mark.parametrize("order", [0.0, 1e-3, 0.3, 0.5, 1.0, 1.5, 2.5, 7.3, 20.5, -2.2])
def test_bessel_k(order):
    x = np.concatenate([spread(1e-15, 690)[:500], [2.0, np.nextafter(2, 3), 0.0, -0.0, -1.0, NAN, INF, 5e-324, 1e9]])
    want, got = special.kv(order, x), evaluate("BesselK", x, order=order)
    # SciPy's own gives infinity from 1e305, and 0 below 1e-305.
    same(np.where((want == INF) & (got > 1e304), INF, got), want, 1e-13)


def test_powers_at_every_edge():
    bases = [0.0, -0.0, 1.0, -1.0, 2.0, -2.5, INF, -INF, NAN, 1e-300, 1e300, 0.5, -8.0, 5e-324, -3.0, 10.0]
    exponents = [
        0.0, -0.0, 1.0, 2.0, 3.0, -1.0, -2.0, -3.0, 0.5, -0.5, INF, -INF, NAN, 1 / 3, 1e10, 1e17, -1e17, 64.0, -64.0,
        65.0, -65.0, 2.0**53 + 2, 2.0**53 - 1,
    ]  # fmt: skip
    x, y = (v.ravel() for v in np.meshgrid(bases, exponents))
    with np.errstate(all="ignore"):
        want = np.power(x, y)
    same(evaluate("Pow", x, y), want, 1e-12)


def test_powers_of_ordinary_numbers():
    x, y = np.exp(RNG.uniform(-20, 20, 3000)), RNG.uniform(-20, 20, 3000)
    same(evaluate("Pow", x, y), np.power(x, y), 1e-12)


def test_small_whole_powers_of_whole_numbers_are_exact():
    x, y = (v.ravel() for v in np.meshgrid(np.arange(-12.0, 13.0), np.arange(0.0, 14.0)))
    assert [Fraction(p) for p in evaluate("Pow", x, y)] == [Fraction(a) ** int(b) for a, b in zip(x, y, strict=True)]


def test_float32_is_the_float64_result_rounded_once():
    x = np.linspace(0.01, 0.99, 99, dtype=np.float32)[:, None]
    for op in ("Log1p", "Expm1", "Sin", "Cos", "Erf", "NormalQuantile", "Digamma", "LogGamma"):
        got = OPS[op].evaluate(x)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, OPS[op].evaluate(x.astype(np.float64)).astype(np.float32))


def test_integers_are_refused():
    builder = Builder()
    x = builder.input("x", "int64")
    with pytest.raises(ProgramError, match="need one of float64, float32"):
        builder.round(x)
