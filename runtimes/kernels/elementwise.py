"""Elementwise ops: each is a function of one, two or three numbers, entered in the table below.

The loops are written once. An operand that is a constant, or has width 1 beside wider ones, has strides of 0.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.runtimes.kernels import scalar
from edgeml.runtimes.kernels.registry import encodes, kernel

if TYPE_CHECKING:
    from edgeml.ir import Node
    from edgeml.runtimes.kernels.encode import Encoder


# --- loops: words are outer count, inner count a row, then place and steps of the result and of each operand
def unary(name: str, function: Callable[[Any], Any], x_view: str, z_view: str, module: str = "") -> None:
    """Register kernel ``name`` of ``module``: z = function(x)."""

    @kernel(name, f"words {x_view} {z_view} n", module=module)
    def run(words: Any, x: Any, z: Any, n: Any) -> None:
        outer, inner, o, o_step = words[0], words[1] * n, words[2], words[3]
        a, a_step, a_row = words[4], words[5], words[6]
        for j in range(outer):
            for r in range(inner):
                z[o + j * o_step + r] = function(x[a + j * a_step + r * a_row])


def binary(name: str, function: Callable[[Any, Any], Any], x_view: str, z_view: str, module: str = "") -> None:
    """Register kernel ``name`` of ``module``: z = function(x, y)."""

    @kernel(name, f"words {x_view} {z_view} n", module=module)
    def run(words: Any, x: Any, z: Any, n: Any) -> None:
        outer, inner, o, o_step = words[0], words[1] * n, words[2], words[3]
        a, a_step, a_row = words[4], words[5], words[6]
        b, b_step, b_row = words[7], words[8], words[9]
        for j in range(outer):
            for r in range(inner):
                z[o + j * o_step + r] = function(x[a + j * a_step + r * a_row], x[b + j * b_step + r * b_row])


@kernel("where", "words i n")
def where(words: Any, i: Any, n: Any) -> None:
    outer, inner, o, o_step = words[0], words[1] * n, words[2], words[3]
    c, c_step, c_row = words[4], words[5], words[6]
    a, a_step, a_row = words[7], words[8], words[9]
    b, b_step, b_row = words[10], words[11], words[12]
    for j in range(outer):
        for r in range(inner):
            x, y = i[a + j * a_step + r * a_row], i[b + j * b_step + r * b_row]
            i[o + j * o_step + r] = x if i[c + j * c_step + r * c_row] != 0 else y


# --- functions that are no more than an operator ------------------------------------------------------------
def _equal(x: Any, y: Any) -> Any:
    return np.int64(x == y)


def _less(x: Any, y: Any) -> Any:
    return np.int64(x < y)


def _less_equal(x: Any, y: Any) -> Any:
    return np.int64(x <= y)


def _is_nan(x: Any) -> Any:
    return np.int64(x != x)


def _is_not_zero(x: Any) -> Any:
    return np.int64(x != 0)


def _not(x: Any) -> Any:
    return np.int64(x == 0)


def _absolute(x: Any) -> Any:
    return abs(x)


def _absolute_int(x: Any) -> Any:
    return x if x >= 0 else -x


def _to_float(x: Any) -> Any:
    return np.float64(x)


def _to_float32(x: Any) -> Any:
    """One rounding: through float64 there would be two."""
    return np.float64(np.float32(x))


unary("negate", operator.neg, "f", "f")
unary("negate_int", operator.neg, "i", "i")
unary("absolute", _absolute, "f", "f")
unary("absolute_int", _absolute_int, "i", "i")
unary("sqrt", scalar.sqrt, "f", "f")
unary("exp", scalar.exp, "f", "f")
unary("log", scalar.log, "f", "f")
unary("sigmoid", scalar.sigmoid, "f", "f")
unary("tanh", scalar.tanh, "f", "f")
unary("is_nan", _is_nan, "f", "i")
unary("not", _not, "i", "i")
unary("round32", scalar.round32, "f", "f")
unary("float_to_int", scalar.to_int, "f", "i")
unary("float_to_bool", _is_not_zero, "f", "i")
unary("int_to_bool", _is_not_zero, "i", "i")
unary("int_to_float", _to_float, "i", "f")
unary("int_to_float32", _to_float32, "i", "f")
binary("add", operator.add, "f", "f")
binary("add_int", operator.add, "i", "i")
binary("subtract", operator.sub, "f", "f")
binary("subtract_int", operator.sub, "i", "i")
binary("multiply", operator.mul, "f", "f")
binary("multiply_int", operator.mul, "i", "i")
binary("divide", operator.truediv, "f", "f")
binary("minimum", scalar.minimum, "f", "f")
binary("minimum_int", scalar.minimum, "i", "i")
binary("maximum", scalar.maximum, "f", "f")
binary("maximum_int", scalar.maximum, "i", "i")
binary("less", _less, "f", "i")
binary("less_int", _less, "i", "i")
binary("less_equal", _less_equal, "f", "i")
binary("less_equal_int", _less_equal, "i", "i")
binary("equal", _equal, "f", "i")
binary("equal_int", _equal, "i", "i")
binary("and", operator.and_, "i", "i")
binary("or", operator.or_, "i", "i")

# --- ops: kernel for floats, kernel for int64 and bool, whether a float32 result has to be rounded ----------
_OPS = {
    "Add": ("add", "add_int", True),
    "Sub": ("subtract", "subtract_int", True),
    "Mul": ("multiply", "multiply_int", True),
    "Div": ("divide", None, True),
    "Minimum": ("minimum", "minimum_int", False),
    "Maximum": ("maximum", "maximum_int", False),
    "Less": ("less", "less_int", False),
    "LessEqual": ("less_equal", "less_equal_int", False),
    "Equal": ("equal", "equal_int", False),
    "And": (None, "and", False),
    "Or": (None, "or", False),
    "Not": (None, "not", False),
    "Where": ("where", "where", False),
    "Neg": ("negate", "negate_int", False),
    "Abs": ("absolute", "absolute_int", False),
    "Sqrt": ("sqrt", None, True),
    "Exp": ("exp", None, True),
    "Log": ("log", None, True),
    "Sigmoid": ("sigmoid", None, True),
    "Tanh": ("tanh", None, True),
    "IsNaN": ("is_nan", None, False),
}
_SWAPPED = {"Greater": "Less", "GreaterEqual": "LessEqual"}


@encodes(*_OPS, *_SWAPPED)
def elementwise(e: Encoder, node: Node, value: int) -> None:
    operands = [e.register(v) for v in node.inputs]
    if node.op in _SWAPPED:
        operands.reverse()
    of_floats, of_integers, rounds = _OPS[_SWAPPED.get(node.op, node.op)]
    floats = operands[-1].dtype in ("float64", "float32")
    name = of_floats if floats else of_integers
    assert name is not None  # the op's typing rule leaves no other dtype
    out = e.allocate(value)
    e.elementwise(name, out, *operands)
    if rounds and node.type.dtype == "float32":
        e.elementwise("round32", out, out)


_CASTS = {
    ("float", "int64"): "float_to_int",
    ("float", "bool"): "float_to_bool",
    ("float", "float32"): "round32",
    ("int64", "float64"): "int_to_float",
    ("int64", "float32"): "int_to_float32",
    ("int64", "bool"): "int_to_bool",
    ("bool", "float64"): "int_to_float",
    ("bool", "float32"): "int_to_float",
}


@encodes("Cast")
def cast(e: Encoder, node: Node, value: int) -> None:
    """Where cells stay as they are (float32 to float64, bool to int64) the result is another name for them."""
    x = e.register(node.inputs[0])
    source = "float" if x.dtype in ("float64", "float32") else x.dtype
    name = _CASTS.get((source, node.type.dtype))
    if name is None or (x.dtype, node.type.dtype) == ("float32", "float32"):
        e.alias(value, node.inputs[0], x)
    else:
        e.elementwise(name, e.allocate(value), x)
