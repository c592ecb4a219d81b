"""Signs of cells, and the inverse trigonometric functions, of which no target has an operation in float64.

Values come in the dtype of NumPy's loop and leave in it. Called by way of the table in function_emitters.py.
"""

from __future__ import annotations

import math

from edgeml.converters.function_arrays import Trace
from edgeml.ir import Value

# Of the series of arctan: the next would be 1e-19 of the sum.
_TERMS = 13


def is_negative(trace: Trace, x: Value) -> Value:
    """numpy.signbit, which tells -0.0 from 0.0."""
    if x.dtype == "int64":
        return x < 0
    return (x < 0.0) | (1.0 / x < 0.0)


def copy_sign(trace: Trace, x: Value, y: Value) -> Value:
    """numpy.copysign."""
    size = trace.builder.abs(x)
    return trace.builder.where(is_negative(trace, y), -size, size)


def _angle(trace: Trace, size: Value) -> Value:
    """arctan of float64 cells that are not negative, within 4e-16 of it: beyond 1 from that of 1 / size, then from a
    quarter of the angle, whose tangent is below 0.2, by the series t - t^3/3 + t^5/5 - ….
    """
    b = trace.builder
    steep = size > 1.0
    t = b.where(steep, 1.0 / size, size)
    for _ in range(2):  # tan(a / 2) = tan(a) / (1 + sqrt(1 + tan(a)^2))
        t = t / (b.sqrt(t * t + 1.0) + 1.0)
    square = t * t
    total = b.constant((-1.0) ** (_TERMS - 1) / (2 * _TERMS - 1), "float64")
    for k in reversed(range(_TERMS - 1)):
        total = total * square + (-1.0) ** k / (2 * k + 1)
    angle = 4.0 * (t * total)
    # Of the smallest numbers, whose parts may be none, the angle is the tangent.
    return b.where(size < 1e-8, size, b.where(steep, math.pi / 2 - angle, angle))


def arctan(trace: Trace, x: Value) -> Value:
    """numpy.arctan; float32 by way of float64."""
    wide = x.cast("float64")
    return copy_sign(trace, _angle(trace, trace.builder.abs(wide)), wide).cast(x.dtype)


def arcsin(trace: Trace, x: Value) -> Value:
    """numpy.arcsin: the sine over the cosine is the tangent; NaN beyond 1."""
    wide = x.cast("float64")
    tangent = trace.builder.abs(wide) / trace.builder.sqrt((1.0 - wide) * (wide + 1.0))
    return copy_sign(trace, _angle(trace, tangent), wide).cast(x.dtype)


def arccos(trace: Trace, x: Value) -> Value:
    """numpy.arccos: by the tangent of half the angle, which keeps its digits near 1; NaN beyond 1."""
    wide = x.cast("float64")
    tangent = trace.builder.sqrt((1.0 - wide) / (wide + 1.0))
    return (2.0 * _angle(trace, tangent)).cast(x.dtype)


def arctan2(trace: Trace, y: Value, x: Value) -> Value:
    """numpy.arctan2, the angle of the point (x, y), with C's answers at zeros of both signs and at infinity."""
    b = trace.builder
    high, wide = y.cast("float64"), x.cast("float64")
    p, q = b.abs(high), b.abs(wide)
    slope = b.where((p == 0.0) & (q == 0.0), 0.0, b.where((p == math.inf) & (q == math.inf), 1.0, p / q))
    angle = _angle(trace, slope)
    angle = b.where(is_negative(trace, wide), math.pi - angle, angle)
    return copy_sign(trace, angle, high).cast(y.dtype)
