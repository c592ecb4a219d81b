"""The functions of cells that a user's function may call: the name of a ufunc -> the operations that compute it.

Values come in the dtype of NumPy's loop and leave in it. Most are one operation; the others are formulas that keep all
digits where the plain one loses them. The documented vocabulary is the keys of ``NUMPY`` and ``SCIPY``.
"""

from __future__ import annotations

import math

from edgeml.converters.function_arcs import arccos, arcsin, arctan, arctan2, copy_sign, is_negative
from edgeml.converters.function_arrays import Trace
from edgeml.converters.function_ufuncs import Emitter
from edgeml.ir import Value
from edgeml.ir.ops import OPS

_LN2 = math.log(2.0)


def _op(name: str, boolean: str = "", whole: bool = True) -> Emitter:
    """One operation; ``boolean`` is what NumPy's loop over bools is, ``whole`` whether there is one over int64."""

    def emit(trace: Trace, *values: Value) -> Value:
        if name not in OPS or (values[0].dtype == "int64" and not whole):
            raise trace.refuse(f"{name} of {values[0].dtype}", "turn X into float64 first: X.astype(float)")
        if values[0].dtype == "bool":
            return (
                trace.builder.op(boolean, *values)
                if boolean
                else trace.builder.op(name, *(v.cast("int64") for v in values))
            )
        return trace.builder.op(name, *values)

    return emit


def _of(trace: Trace, name: str, *values: Value) -> Value:
    """Another function of the vocabulary, inside a formula."""
    return NUMPY[name](trace, *values)


def _number(trace: Trace, like: Value, number: float) -> Value:
    """A number in the dtype of a value."""
    return trace.builder.constant(number, like.dtype)


def _same(trace: Trace, x: Value) -> Value:
    return x


def _not_equal(trace: Trace, x: Value, y: Value) -> Value:
    return ~(x == y)


def _xor(trace: Trace, x: Value, y: Value) -> Value:
    return ~(x.cast("bool") == y.cast("bool"))


def _both(name: str) -> Emitter:
    """Logic on bools, whatever the cells are: what is not 0 is true, NaN included."""
    return lambda trace, *values: trace.builder.op(name, *(v.cast("bool") for v in values))


def _bits(name: str) -> Emitter:
    def emit(trace: Trace, *values: Value) -> Value:
        if values[0].dtype != "bool":
            raise trace.refuse("bitwise operations on whole numbers", "use them on bools only")
        return trace.builder.op(name, *values) if name else _xor(trace, *values)

    return emit


def _ignoring_nan(name: str) -> Emitter:
    def emit(trace: Trace, x: Value, y: Value) -> Value:
        both = _of(trace, name, x, y)
        if x.dtype not in ("float64", "float32"):
            return both
        return trace.builder.where(x == x, trace.builder.where(y == y, both, x), y)

    return emit


def _square(trace: Trace, x: Value) -> Value:
    return x & x if x.dtype == "bool" else x * x


def _reciprocal(trace: Trace, x: Value) -> Value:
    if x.dtype == "int64":
        raise trace.refuse("numpy.reciprocal of whole numbers", "turn X into float64 first: X.astype(float)")
    return 1.0 / x


def _is_nan(trace: Trace, x: Value) -> Value:
    return ~(x == x)


def _is_inf(trace: Trace, x: Value) -> Value:
    if x.dtype == "bool" or x.dtype == "int64":
        return ~(x == x)
    return trace.builder.abs(x) == math.inf


def _is_finite(trace: Trace, x: Value) -> Value:
    if x.dtype == "bool" or x.dtype == "int64":
        return x == x
    return trace.builder.abs(x) < math.inf


def _sign(trace: Trace, x: Value) -> Value:
    one, zero = _number(trace, x, 1), _number(trace, x, 0)
    return trace.builder.where(x > zero, one, trace.builder.where(x < zero, -one, x if x.dtype != "int64" else zero))


def _heaviside(trace: Trace, x: Value, at_zero: Value) -> Value:
    one, zero = _number(trace, x, 1), _number(trace, x, 0)
    above = trace.builder.where(x > zero, one, trace.builder.where(x < zero, zero, at_zero))
    return trace.builder.where(x == x, above, x)


def _ceil(trace: Trace, x: Value) -> Value:
    return x if x.dtype in ("int64", "bool") else -_of(trace, "floor", -x)


def _floor(trace: Trace, x: Value) -> Value:
    return x if x.dtype in ("int64", "bool") else _op("Floor")(trace, x)


def _trunc(trace: Trace, x: Value) -> Value:
    if x.dtype in ("int64", "bool"):
        return x
    return copy_sign(trace, _of(trace, "floor", trace.builder.abs(x)), x)


def _times(factor: float) -> Emitter:
    return lambda trace, x: x * factor


def _log_to(base: float) -> Emitter:
    return lambda trace, x: trace.builder.log(x) / math.log(base)


def _exp2(trace: Trace, x: Value) -> Value:
    return _of(trace, "power", _number(trace, x, 2.0), x)


def _cbrt(trace: Trace, x: Value) -> Value:
    root = _of(trace, "power", trace.builder.abs(x), _number(trace, x, 1.0 / 3.0))
    return copy_sign(trace, root, x)


def _tan(trace: Trace, x: Value) -> Value:
    return _of(trace, "sin", x) / _of(trace, "cos", x)


def _sinh(trace: Trace, x: Value) -> Value:
    """Near 0 through expm1, beyond 20 as half of exp, in two factors that do not overflow early."""
    size = trace.builder.abs(x)
    small = trace.builder.minimum(size, 20.0)
    e = _of(trace, "expm1", small)
    half = trace.builder.exp(size * 0.5)
    result = trace.builder.where(size > 20.0, (0.5 * half) * half, (e + e / (e + 1.0)) * 0.5)
    return copy_sign(trace, result, x)


def _cosh(trace: Trace, x: Value) -> Value:
    half = trace.builder.exp(trace.builder.abs(x) * 0.5)
    return (0.5 * half) * half + (0.5 / half) / half


def _arcsinh(trace: Trace, x: Value) -> Value:
    size = trace.builder.abs(x)
    small = trace.builder.minimum(size, 1e9)
    square = small * small
    near = _of(trace, "log1p", small + square / (1.0 + trace.builder.sqrt(square + 1.0)))
    result = trace.builder.where(size > 1e9, trace.builder.log(size) + _LN2, near)
    return copy_sign(trace, result, x)


def _arccosh(trace: Trace, x: Value) -> Value:
    above = trace.builder.minimum(x, 1e9) - 1.0
    near = _of(trace, "log1p", above + trace.builder.sqrt(above * above + 2.0 * above))
    return trace.builder.where(x > 1e9, trace.builder.log(x) + _LN2, near)


def _arctanh(trace: Trace, x: Value) -> Value:
    size = trace.builder.abs(x)
    return copy_sign(trace, 0.5 * _of(trace, "log1p", 2.0 * size / (1.0 - size)), x)


def _hypot(trace: Trace, x: Value, y: Value) -> Value:
    """Scaled by the larger, so that squares do not overflow; infinite where either is."""
    a, b = trace.builder.abs(x), trace.builder.abs(y)
    most = trace.builder.maximum(a, b)
    scale = trace.builder.where((most > 0.0) & (most < math.inf), most, _number(trace, x, 1.0))
    p, q = a / scale, b / scale
    result = scale * trace.builder.sqrt(p * p + q * q)
    return trace.builder.where((a == math.inf) | (b == math.inf), _number(trace, x, math.inf), result)


def _logaddexp(trace: Trace, x: Value, y: Value) -> Value:
    """As NumPy: of equals x + ln 2, infinities included."""
    larger = trace.builder.maximum(x, y)
    result = larger + _of(trace, "log1p", trace.builder.exp(-trace.builder.abs(x - y)))
    return trace.builder.where(x == y, x + _LN2, result)


def _power(trace: Trace, x: Value, y: Value) -> Value:
    if x.dtype == "int64":
        raise trace.refuse("whole numbers to a power that is not known", "turn X into float64 first: X.astype(float)")
    return _op("Pow")(trace, x, y)


def _fmod(trace: Trace, x: Value, y: Value) -> Value:
    if x.dtype == "int64":
        r = x - _whole_quotient(trace, x, y) * y
        return trace.builder.where(y == 0, 0, trace.builder.where(~(r == 0) & ~((r < 0) == (x < 0)), r - y, r))
    return trace.builder.fmod(x, y)


def _remainder(trace: Trace, x: Value, y: Value) -> Value:
    """% of Python and NumPy: the sign is that of y."""
    if x.dtype == "int64":
        return trace.builder.where(y == 0, 0, x - _whole_quotient(trace, x, y) * y)
    return trace.builder.mod(x, y)


def _floor_divide(trace: Trace, x: Value, y: Value) -> Value:
    """// of Python and NumPy, step by step: from the exact remainder, then to the nearest whole number."""
    if x.dtype == "int64":
        return _whole_quotient(trace, x, y)
    builder = trace.builder
    r = builder.fmod(x, y)
    quotient = (x - r) / y
    one_less = ~(r == 0.0) & ~((r < 0.0) == (y < 0.0))
    quotient = builder.where(one_less, quotient - 1.0, quotient)
    whole = builder.op("Floor", quotient)
    whole = builder.where(quotient - whole > 0.5, whole + 1.0, whole)
    zero = copy_sign(trace, _number(trace, x, 0.0), x / y)
    result = builder.where(quotient == 0.0, zero, whole)
    return builder.where(y == 0.0, x / y, result)


def _whole_quotient(trace: Trace, x: Value, y: Value) -> Value:
    """int64 // int64, rounded down; 0 where y is 0.

    A quotient in float64 has 53 digits, so twice what is left, divided again, leaves less than a few y; whole numbers
    wrap around and back on the way.
    """
    builder = trace.builder
    divisor = builder.where(y == 0, 1, y)
    as_float = divisor.cast("float64")
    quotient = builder.op("Floor", x.cast("float64") / as_float).cast("int64")
    for _ in range(2):
        left = x - quotient * divisor
        quotient = quotient + builder.op("Floor", left.cast("float64") / as_float).cast("int64")
    left = x - quotient * divisor
    below = ~(left == 0) & ~((left < 0) == (divisor < 0))
    quotient = builder.where(below, quotient - 1, quotient)
    return builder.where(y == 0, 0, quotient)


def _logit(trace: Trace, x: Value) -> Value:
    """As SciPy: through log1p near 1/2, where x / (1 - x) loses digits."""
    s = 2.0 * (x - 0.5)
    near = _of(trace, "log1p", s) - _of(trace, "log1p", -s)
    return trace.builder.where((x < 0.3) | (x > 0.65), trace.builder.log(x / (1.0 - x)), near)


def _x_times(name: str) -> Emitter:
    """x log(y), and 0 where x is 0 unless y is NaN."""

    def emit(trace: Trace, x: Value, y: Value) -> Value:
        product = x * _of(trace, name, y)
        return trace.builder.where((x == 0.0) & (y == y), _number(trace, x, 0.0), product)

    return emit


def _entropy(trace: Trace, x: Value) -> Value:
    terms = trace.builder.where(x > 0.0, -(x * trace.builder.log(x)), _number(trace, x, -math.inf))
    return trace.builder.where(x == 0.0, _number(trace, x, 0.0), trace.builder.where(x == x, terms, x))


NUMPY: dict[str, Emitter] = {
    "add": _op("Add", "Or"),
    "subtract": _op("Sub"),
    "multiply": _op("Mul", "And"),
    "true_divide": _op("Div"),
    "divide": _op("Div"),
    "negative": _op("Neg"),
    "positive": _same,
    "conjugate": _same,
    "absolute": lambda trace, x: x if x.dtype == "bool" else trace.builder.abs(x),
    "fabs": _op("Abs"),
    "sign": _sign,
    "signbit": is_negative,
    "copysign": copy_sign,
    "square": _square,
    "sqrt": _op("Sqrt"),
    "cbrt": _cbrt,
    "reciprocal": _reciprocal,
    "power": _power,
    "float_power": _power,
    "exp": _op("Exp"),
    "exp2": _exp2,
    "expm1": _op("Expm1"),
    "log": _op("Log"),
    "log2": _log_to(2.0),
    "log10": _log_to(10.0),
    "log1p": _op("Log1p"),
    "logaddexp": _logaddexp,
    "hypot": _hypot,
    "sin": _op("Sin"),
    "cos": _op("Cos"),
    "tan": _tan,
    "tanh": _op("Tanh"),
    "arcsin": arcsin,
    "arccos": arccos,
    "arctan": arctan,
    "arctan2": arctan2,
    "sinh": _sinh,
    "cosh": _cosh,
    "arcsinh": _arcsinh,
    "arccosh": _arccosh,
    "arctanh": _arctanh,
    "deg2rad": _times(math.pi / 180.0),
    "radians": _times(math.pi / 180.0),
    "rad2deg": _times(180.0 / math.pi),
    "degrees": _times(180.0 / math.pi),
    "floor": _floor,
    "ceil": _ceil,
    "trunc": _trunc,
    "rint": lambda trace, x: x if x.dtype in ("int64", "bool") else _op("Round")(trace, x),
    "maximum": _op("Maximum", "Or"),
    "minimum": _op("Minimum", "And"),
    "fmax": _ignoring_nan("maximum"),
    "fmin": _ignoring_nan("minimum"),
    "heaviside": _heaviside,
    "fmod": _fmod,
    "remainder": _remainder,
    "mod": _remainder,
    "floor_divide": _floor_divide,
    "less": _op("Less"),
    "less_equal": _op("LessEqual"),
    "greater": _op("Greater"),
    "greater_equal": _op("GreaterEqual"),
    "equal": _op("Equal"),
    "not_equal": _not_equal,
    "isnan": _is_nan,
    "isinf": _is_inf,
    "isfinite": _is_finite,
    "logical_and": _both("And"),
    "logical_or": _both("Or"),
    "logical_not": _both("Not"),
    "logical_xor": _xor,
    "bitwise_and": _bits("And"),
    "bitwise_or": _bits("Or"),
    "bitwise_xor": _bits(""),
    "invert": _bits("Not"),
}

SCIPY: dict[str, Emitter] = {
    "expit": _op("Sigmoid"),
    "logit": _logit,
    "erf": _op("Erf"),
    "ndtri": _op("NormalQuantile"),
    "psi": _op("Digamma"),
    "digamma": _op("Digamma"),
    "gammaln": _op("LogGamma"),
    "log1p": _op("Log1p"),
    "expm1": _op("Expm1"),
    "xlogy": _x_times("log"),
    "xlog1py": _x_times("log1p"),
    "entr": _entropy,
    "cbrt": _cbrt,
    "exp2": _exp2,
}
