"""TFLite lowerings of special functions: the whole line of float32, edges, angles too large, the latent probability."""

import numpy as np
import pytest
from sklearn.gaussian_process._gpc import COEFS, LAMBDAS

from edgeml.ir import Builder, interpreter
from edgeml.ir.ops_special import erf
from edgeml.targets import tflite_latent
from edgeml.targets.tflite_special import LARGEST_ANGLE
from tests.tflite_oracle import graph_answers

NAN, INF = np.nan, np.inf
EDGES = np.array([0.0, -0.0, NAN, 1.0, -1.0, 1e-30, -1e-30, 1e-8, -1e-8, 0.5, -0.3])
SMALL = np.concatenate([np.geomspace(1e-30, 1, 2000), -np.geomspace(1e-30, 0.999, 2000)])
# Largest relative error over the whole line that was measured on either kernel, rounded up.
LARGEST_ERRORS = {"Log1p": 6e-7, "Expm1": 1.2e-6, "Erf": 2.5e-7}
LINES = {
    "Log1p": np.concatenate([np.linspace(-0.9999, 2, 5000), np.geomspace(1, 1e30, 2000), SMALL]),
    "Expm1": np.concatenate([np.linspace(-20, 20, 5000), SMALL]),
    "Erf": np.concatenate([np.linspace(-6, 6, 5000), SMALL, [10.0, 30.0, -30.0, 1e5, 3e38]]),
}


def both(x, build, xnnpack):
    """The meaning in float64 of cells that float32 holds, and TFLite's answer."""
    x = x.reshape(len(x), -1).astype(np.float32).astype(np.float64)
    b = Builder()
    value = build(b, b.input("x", "float64", x.shape[1]))
    b.output("out", [value], "matrix", "<f8")
    program = b.finish()
    return interpreter.run(program, {"x": x})["out"], graph_answers(program, {"x": x}, xnnpack)


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
@pytest.mark.parametrize("op", LINES)
def test_no_digits_are_lost_anywhere_on_the_line(op, xnnpack):
    want, got = both(LINES[op], lambda b, x: b.op(op, x), xnnpack)
    np.testing.assert_allclose(got["out"], want, rtol=LARGEST_ERRORS[op])
    want, got = both(EDGES, lambda b, x: b.op(op, x), xnnpack)
    np.testing.assert_allclose(got["out"], want, rtol=LARGEST_ERRORS[op])
    assert np.array_equal(np.signbit(got["out"][:2]), [[False], [True]])  # zeros keep their sign


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
def test_powers_of_everything(xnnpack):
    bases = np.array([0.0, -0.0, 1.0, -1.0, 2.0, -2.0, -8.0, 0.3, 1e-20, 1e20, NAN, INF, -INF])
    exponents = np.array([0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, 1 / 3, 2.5, -0.7, NAN, INF, -INF])
    cells = np.stack([x.reshape(-1) for x in np.meshgrid(bases, exponents)], axis=1)
    want, got = both(cells, lambda b, x: b.pow(x.select(0), x.select(1)), xnnpack)
    with np.errstate(over="ignore", under="ignore"):
        want = want.astype(np.float32)
    np.testing.assert_allclose(got["out"], want, rtol=1e-6)


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
@pytest.mark.parametrize("op", ["Sin", "Cos"])
def test_angles_that_float32_resolves_and_others(op, xnnpack):
    x = np.concatenate([np.linspace(-LARGEST_ANGLE, LARGEST_ANGLE, 5001), [0.0, -0.0, NAN, 1e-30]])
    want, got = both(x, lambda b, x: b.op(op, x), xnnpack)
    np.testing.assert_allclose(got["out"], want, rtol=0, atol=5e-7)
    assert not got["refused"].any()
    beyond = np.array([128.1, -129.0, 1e5, -1e10, 1e38, INF, -INF])
    with np.errstate(invalid="ignore"):
        _, got = both(beyond, lambda b, x: b.op(op, x), xnnpack)
    assert got["refused"].all()


def test_the_fit_of_the_latent_probability():
    """Of scikit-learn's five error functions, for latent means and variances of any size."""
    weights, slopes = COEFS[:, 0], LAMBDAS[:, 0]
    base, low = slopes[1], slopes.min() / slopes[1]
    mean, variance = np.meshgrid(np.linspace(-40, 40, 1601), np.append(np.geomspace(1e-6, 1e5, 60), 1e-12))

    def argument(slope):
        return mean * slope / np.sqrt(1 + 2 * variance * slope**2)

    exact = sum(w * erf(argument(s)) / 2 for w, s in zip(weights, slopes, strict=True))
    u, share = argument(base), base**2 / (1 / (2 * variance) + base**2)
    table = tflite_latent._fitted(weights, slopes / base, low)
    fitted = np.polynomial.chebyshev.chebval2d(np.minimum(2 * u**2 / 25 - 1, 1), 2 * share - 1, table)
    total = 0.5 * weights.sum() * erf(u) + fitted * u * np.exp(-(low**2) * u**2)
    np.testing.assert_allclose(total, exact, rtol=0, atol=1e-8)
