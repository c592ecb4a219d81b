"""exp, log, sigmoid and tanh: errors as their module states them, in units in the last place."""

from decimal import Decimal, localcontext

import numpy as np
import pytest

from edgeml.ir import Builder, elementary, interpreter

NAN = float("nan")


def reference(function, x):
    """The function's values to sixty digits."""
    with localcontext(prec=60):
        return [function(Decimal(float(v))) for v in x]


def ulps(got, exact):
    """Largest error in units in the last place of the exact value."""
    worst = 0.0
    for value, true in zip(got, exact, strict=True):
        unit = Decimal(float(np.spacing(abs(float(true)))))
        with localcontext(prec=60):
            worst = max(worst, float(abs(Decimal(float(value)) - true) / unit))
    return worst


def points(low, high, count=3000):
    rng = np.random.default_rng(3)
    near_zero = np.exp(rng.uniform(-40, 0, count // 3)) * rng.choice([-1, 1], count // 3)
    x = np.concatenate([rng.uniform(low, high, count), rng.uniform(-3, 3, count), near_zero])
    return x[(x >= low) & (x <= high)]


@pytest.mark.parametrize(
    ("name", "exact", "x", "most"),
    [
        ("exp", Decimal.exp, points(-708, 709.7), 1.0),
        ("log", Decimal.ln, np.exp(points(-700, 700)), 2.0),
        ("log", Decimal.ln, 1 + points(-0.5, 0.5), 2.0),
        ("sigmoid", lambda v: 1 / (1 + (-v).exp()), points(-700, 700), 2.5),
        ("tanh", lambda v: ((2 * v).exp() - 1) / ((2 * v).exp() + 1), points(-30, 30), 2.0),
    ],
)
def test_elementary_functions_are_accurate(name, exact, x, most):
    assert ulps(getattr(elementary, name)(x), reference(exact, x)) <= most


@pytest.mark.parametrize(
    ("name", "cases"),
    [
        ("exp", {0.0: 1.0, np.inf: np.inf, -np.inf: 0.0, NAN: NAN, 710.0: np.inf, -746.0: 0.0}),
        ("log", {1.0: 0.0, -0.0: -np.inf, -1.0: NAN, np.inf: np.inf, -np.inf: NAN, NAN: NAN}),
        ("sigmoid", {0.0: 0.5, np.inf: 1.0, -np.inf: 0.0, NAN: NAN, 1000.0: 1.0, -1000.0: 0.0}),
        ("tanh", {0.0: 0.0, np.inf: 1.0, -np.inf: -1.0, NAN: NAN, 400.0: 1.0, -400.0: -1.0}),
    ],
)
def test_elementary_functions_at_the_edges(name, cases):
    got = getattr(elementary, name)(np.array(list(cases)))
    np.testing.assert_array_equal(got, list(cases.values()))


def test_exp_and_log_reach_the_ends_of_the_range():
    x = np.array([709.782712893384, -708.4, -740.0, -745.13])
    assert ulps(elementary.exp(x), reference(Decimal.exp, x)) <= 1.0
    tiny = np.array([5e-324, 2.2250738585072014e-308, 1.7976931348623157e308])
    assert ulps(elementary.log(tiny), reference(Decimal.ln, tiny)) <= 2.0


def test_tanh_is_odd_and_keeps_the_sign_of_zero():
    x = points(-20, 20)
    np.testing.assert_array_equal(elementary.tanh(-x), -elementary.tanh(x))
    assert np.signbit(elementary.tanh(np.array([-0.0])))[0]


def test_softmax_and_float32_round_once():
    x = np.array([[1000.0, 1000.0, -1000.0], [0.0, 1.0, 2.0]])
    b = Builder()
    value = b.input("X", "float64", 3)
    narrow = b.input("x32", "float32")
    b.output("predict_proba", [b.softmax(value)], "matrix", "<f8")
    b.output("transform", [b.exp(narrow)], "matrix", "<f4")
    x32 = np.linspace(-5, 5, 101, dtype=np.float32)
    got = interpreter.run(b.finish(), {"X": np.repeat(x, 51, axis=0)[:101], "x32": x32})
    assert got["predict_proba"][0].tolist() == [0.5, 0.5, 0.0]
    np.testing.assert_array_equal(got["transform"][:, 0], np.exp(x32.astype(np.float64)).astype(np.float32))
