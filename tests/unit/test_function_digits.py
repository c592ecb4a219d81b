"""FunctionTransformer: the digits of what a user's function computes are NumPy's, on awkward numbers too."""

import math

import numpy as np
import pytest

from edgeml.errors import InputError
from tests.function_tools import X, answers, program, run

RNG = np.random.default_rng(0)
AWKWARD = np.array([0.0, -0.0, 0.3, -0.3, 1.0, -7.5, 1e16, -1e300, 5e-324, np.inf, -np.inf, np.nan])


@pytest.mark.parametrize("divisor", [0.1, -0.1, 3.0, -2.5, 1e-300, np.inf])
def test_remainders_have_numpys_bits(divisor):
    rows = AWKWARD[:, None]
    with np.errstate(all="ignore"):
        for function in (np.remainder, np.floor_divide, np.fmod):
            actual = answers(lambda X, f=function: f(X, divisor), rows)
            assert np.array_equal(actual, function(rows, divisor), equal_nan=True)
            assert np.array_equal(np.signbit(actual[:8]), np.signbit(function(rows, divisor)[:8]))


@pytest.mark.parametrize("divisor", [1, -1, 7, -3, 2**40 + 1, -(2**62)])
def test_whole_numbers_divide_exactly(divisor):
    rows = np.array([0, 1, -1, 6, -7, 2**53 + 1, -(2**53) - 3, 2**63 - 1, -(2**63) + 1])[:, None]
    assert np.array_equal(answers(lambda X: X // divisor, rows), rows // divisor)
    assert np.array_equal(answers(lambda X: X % divisor, rows), rows % divisor)


@pytest.mark.parametrize("function", [np.arctan, np.arcsin, np.arccos])
def test_angles_have_numpys_digits(function):
    rows = np.concatenate([AWKWARD, RNG.uniform(-1, 1, 500), [1 - 1e-16, -1.0, 1e-9, 1 + 1e-15]])[:, None]
    with np.errstate(all="ignore"):
        expected = function(rows)
    actual = answers(function, rows)
    np.testing.assert_allclose(actual, expected, rtol=1e-15, atol=0)
    assert np.array_equal(np.signbit(actual[known := expected == expected]), np.signbit(expected[known]))
    assert answers(function, rows[-6:].astype(np.float32)).dtype == np.float32


def test_the_angle_of_a_point_is_that_of_c():
    rows = np.array([(y, x) for y in AWKWARD for x in AWKWARD])
    expected = np.arctan2(rows[:, 0], rows[:, 1])
    actual = answers(lambda X: np.arctan2(X[:, 0], X[:, 1])[:, None], rows)[:, 0]
    np.testing.assert_allclose(actual, expected, rtol=1e-15, atol=0)
    assert np.array_equal(np.signbit(actual[known := expected == expected]), np.signbit(expected[known]))


def arc_of_rows(X):
    return np.array([[math.asin(x[0])] for x in X])


def test_rows_for_which_math_raises_are_refused():
    rows = X[:, :1] / 10
    np.testing.assert_allclose(answers(arc_of_rows, rows), np.arcsin(rows), rtol=1e-15)
    with pytest.raises(InputError, match=r"math\.asin raises"):
        run(program(arc_of_rows, rows), np.array([[1.5]]))


@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("edges", [[-np.inf, 0.0, 1.0, np.inf], [1.0, 0.0, -1.0], [np.inf, 1.0, 1.0, -1.0], [0.0]])
def test_bins_of_any_order_are_numpys(edges, right):
    rows = AWKWARD[:, None]
    assert np.array_equal(
        answers(lambda X: np.digitize(X, edges, right=right), rows), np.digitize(rows, edges, right=right)
    )


@pytest.mark.parametrize("function", [np.asarray, np.array, np.ascontiguousarray])
def test_numpys_own_constructors_are_functions_too(function):
    assert np.array_equal(answers(function), X)
