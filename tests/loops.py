"""Loops and systems of equations that the tests of the program, of kernels and of ONNX share.

``LOOPS`` holds (dtypes of the inputs, their widths, what builds the value): a loop of every kind of state, constants
for states and for what is given, a state that says itself whether to go on, and a loop in a loop.
"""

from __future__ import annotations

import numpy as np


def newton(b, x):
    """Square roots, each row in its own number of rounds, which it counts."""

    def body(state, x):
        root, count = state.select([0, 1]), state.select([2])
        after = 0.5 * (root + x / root)
        moved = b_of(state).max(b_of(state).abs(after - root))
        return b_of(state).concat([after, count + 1.0]), moved > 1e-9

    return b.loop(b.constant([1.0, 1.0, 0.0]), [x], 40, body)


def halves(b, x, y):
    """Integers, and a given constant."""
    return b.loop(x, [y, b.constant([3])], 5, lambda s, y, three: (s + three - y, b_of(s).sum(s) < y))


def flags(b, x):
    """The state is turned upside down until its first column holds, which is what tells."""
    return b.loop(x, [], 3, lambda s: (s.select([1, 2, 0]), s.select([0])))


def single(b, x):
    """float32 through a linear map with weights, and a trap: what is given is a constant too."""
    weight = np.array([[0.5, -0.25], [0.125, 1.0]], dtype=np.float32)

    def body(s, shift):
        after = b_of(s).tanh(b_of(s).linear(s, weight, np.array([0.5, 0.1], dtype=np.float32))) + shift
        return after, b_of(s).max(after) < 0.9

    return b.loop(x, [b.constant(np.array([0.01, 0.02], dtype=np.float32))], 9, body)


def nested(b, x, y):
    """A loop whose body holds a loop, both reading what is given."""

    def inner(s, y):
        return s * 0.5 + y, b_of(s).max(b_of(s).abs(s)) > 1.0

    def outer(s, y):
        low, high = s.select([0]), s.select([1])
        low = b_of(s).loop(low, [y], 4, inner)
        return b_of(s).concat([high, low]), low > high

    return b.loop(x, [y], 6, outer)


def alone(b, x):
    """A loop of constants only, beside a column."""
    return x + b.loop(b.constant([8.0]), [], 100, lambda s: (s * 0.5, s > 0.1))


def b_of(value):
    return value.builder


def matrices(b, x):
    """Positive definite matrices of 3 x 3, a row each, made of three columns."""
    columns = [x.select([j]) for j in range(3)]
    return b.concat([columns[i] * columns[j] + (2.0 if i == j else 0.0) for i in range(3) for j in range(3)])


SOLVES = [
    lambda b, x: b.solve(matrices(b, x), x),
    lambda b, x: b.solve(matrices(b, x), b.constant([1.0, 2.0, -1.0])),
    lambda b, x: b.solve(b.constant([4.0, 1.0, 0.5, 1.0, 3.0, 0.25, 0.5, 0.25, 2.0]), x),
]
LOOPS = [
    (["float64"], [2], newton),
    (["int64", "int64"], [3, 1], halves),
    (["bool"], [3], flags),
    (["float32"], [2], single),
    (["float64", "float64"], [2, 1], nested),
    (["float64"], [1], alone),
]
