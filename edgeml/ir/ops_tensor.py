"""The small tensor vocabulary: elementwise arithmetic, comparison, reduction and column handling.

Every function is the op's meaning on arrays of shape (rows, width). A constant has one row and broadcasts. Sums run
from the first column to the last, one addition at a time, so that a kernel that does the same gives the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir import elementary
from edgeml.ir.program import DTYPES, Attr, ValueType
from edgeml.ir.table import Array, broadcast_width, numpy_dtype, op, require_dtype, same_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]
FLOATS = ("float64", "float32")
NUMBERS = (*FLOATS, "int64")
_WIDE = 1000  # columns


# --- columns -------------------------------------------------------------------------------------------------------
def keys_array(keys: Any) -> Array:
    """Keys of a Lookup or cells of a string Constant, as a one-dimensional array."""
    if isinstance(keys, np.ndarray):
        return keys
    out = np.empty(len(keys), dtype=object)
    out[:] = keys
    return out


def _infer_constant(types: Types, attrs: Attrs) -> ValueType:
    value = attrs["value"]
    if isinstance(value, tuple):
        return ValueType("string", len(value))
    name = value.dtype.name
    if value.ndim != 1 or name not in DTYPES:
        raise ProgramError(f"a constant is one row of {DTYPES}, got {value.dtype} of shape {value.shape}")
    return ValueType(name, value.shape[0])


@op("Constant", 0, _infer_constant, {"value": "keys"})
def constant(value: Any) -> Array:
    """One row that is the same for every row of the input."""
    return keys_array(value)[None, :]


def _infer_concat(types: Types, attrs: Attrs) -> ValueType:
    same_dtype(types)
    return ValueType(types[0].dtype, sum(t.width for t in types))


@op("Concat", None, _infer_concat)
def concat(*xs: Array) -> Array:
    """Values side by side."""
    rows = max(x.shape[0] for x in xs)
    return np.concatenate([np.broadcast_to(x, (rows, x.shape[1])) for x in xs], axis=1)


def _infer_select(types: Types, attrs: Attrs) -> ValueType:
    indices = attrs["indices"]
    if indices.ndim != 1 or indices.dtype != np.int64:
        raise ProgramError("indices are a one-dimensional int64 array")
    if indices.size and (indices.min() < 0 or indices.max() >= types[0].width):
        raise ProgramError(f"column indices {indices} outside {types[0]}")
    return ValueType(types[0].dtype, len(indices))


@op("Select", 1, _infer_select, {"indices": "array"})
def select(x: Array, indices: Array) -> Array:
    """Columns of x by position, in the order given, repeats allowed."""
    return x[:, indices]


def _infer_cast(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *NUMBERS, "bool")
    if attrs["to"] not in (*NUMBERS, "bool"):
        raise ProgramError(f"cannot cast to {attrs['to']}")
    return ValueType(attrs["to"], types[0].width)


@op("Cast", 1, _infer_cast, {"to": "str"})
def cast(x: Array, to: str) -> Array:
    """Conversion as NumPy's astype does it: to nearest even, and toward zero for integers.

    NaN and what int64 cannot hold become its smallest number, which is what x86-64 gives (ARM64 differs).
    """
    if to == "int64" and x.dtype.kind == "f":
        inside = (x >= -(2.0**63)) & (x < 2.0**63)
        return np.where(inside, np.where(inside, x, 0.0).astype(np.int64), np.iinfo(np.int64).min)
    return x.astype(numpy_dtype(to))


# --- elementwise ---------------------------------------------------------------------------------------------------
def _infer_arithmetic(types: Types, attrs: Attrs) -> ValueType:
    same_dtype(types)
    require_dtype(types[0], *NUMBERS)
    return ValueType(types[0].dtype, broadcast_width(types))


def _infer_float_arithmetic(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS)
    return _infer_arithmetic(types, attrs)


@op("Add", 2, _infer_arithmetic)
def add(x: Array, y: Array) -> Array:
    """x + y."""
    return x + y


@op("Sub", 2, _infer_arithmetic)
def sub(x: Array, y: Array) -> Array:
    """x - y."""
    return x - y


@op("Mul", 2, _infer_arithmetic)
def mul(x: Array, y: Array) -> Array:
    """x * y."""
    return x * y


@op("Div", 2, _infer_float_arithmetic)
def div(x: Array, y: Array) -> Array:
    """x / y, with IEEE results for division by zero."""
    return x / y


@op("Minimum", 2, _infer_arithmetic)
def minimum(x: Array, y: Array) -> Array:
    """The smaller of the two, NaN where either is NaN; of two zeros y (numpy.minimum leaves that to the CPU)."""
    return np.where((x < y) | (x != x), x, y)


@op("Maximum", 2, _infer_arithmetic)
def maximum(x: Array, y: Array) -> Array:
    """The larger of the two, NaN where either is NaN; of two zeros y (numpy.maximum leaves that to the CPU)."""
    return np.where((x > y) | (x != x), x, y)


def _infer_compare(types: Types, attrs: Attrs) -> ValueType:
    same_dtype(types)
    require_dtype(types[0], *NUMBERS)
    return ValueType("bool", broadcast_width(types))


def _infer_equal(types: Types, attrs: Attrs) -> ValueType:
    same_dtype(types)
    return ValueType("bool", broadcast_width(types))


@op("Less", 2, _infer_compare)
def less(x: Array, y: Array) -> Array:
    """x < y; false where either is NaN."""
    return x < y


@op("LessEqual", 2, _infer_compare)
def less_equal(x: Array, y: Array) -> Array:
    """x <= y; false where either is NaN."""
    return x <= y


@op("Greater", 2, _infer_compare)
def greater(x: Array, y: Array) -> Array:
    """x > y; false where either is NaN."""
    return x > y


@op("GreaterEqual", 2, _infer_compare)
def greater_equal(x: Array, y: Array) -> Array:
    """x >= y; false where either is NaN."""
    return x >= y


@op("Equal", 2, _infer_equal)
def equal(x: Array, y: Array) -> Array:
    """x == y, strings included; NaN equals nothing."""
    return np.asarray(x == y, dtype=bool)


def _infer_logic(types: Types, attrs: Attrs) -> ValueType:
    same_dtype(types)
    require_dtype(types[0], "bool")
    return ValueType("bool", broadcast_width(types))


@op("And", 2, _infer_logic)
def logical_and(x: Array, y: Array) -> Array:
    """Both true."""
    return x & y


@op("Or", 2, _infer_logic)
def logical_or(x: Array, y: Array) -> Array:
    """Either true."""
    return x | y


@op("Not", 1, _infer_logic)
def logical_not(x: Array) -> Array:
    """Negation of a bool value."""
    return ~x


def _infer_where(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], "bool")
    same_dtype(types[1:])
    return ValueType(types[1].dtype, broadcast_width(types))


@op("Where", 3, _infer_where)
def where(condition: Array, x: Array, y: Array) -> Array:
    """x where the condition holds, else y."""
    return np.where(condition, x, y)


def _infer_same(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS)
    return types[0]


def _infer_same_number(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *NUMBERS)
    return types[0]


@op("Neg", 1, _infer_same_number)
def neg(x: Array) -> Array:
    """-x."""
    return -x


@op("Abs", 1, _infer_same_number)
def absolute(x: Array) -> Array:
    """Absolute value."""
    return np.abs(x)


@op("Sqrt", 1, _infer_same)
def sqrt(x: Array) -> Array:
    """Square root, NaN below zero."""
    return np.sqrt(x)


def _through_float64(function: Any, x: Array) -> Array:
    """Apply a float64 function; float32 results are the float64 result rounded once."""
    result: Array = function(x.astype(np.float64)).astype(x.dtype)
    return result


@op("Exp", 1, _infer_same)
def exp(x: Array) -> Array:
    """e to the power x."""
    return _through_float64(elementary.exp, x)


@op("Log", 1, _infer_same)
def log(x: Array) -> Array:
    """Natural logarithm, -inf at zero, NaN below."""
    return _through_float64(elementary.log, x)


@op("Sigmoid", 1, _infer_same)
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), scipy.special.expit."""
    return _through_float64(elementary.sigmoid, x)


@op("Tanh", 1, _infer_same)
def tanh(x: Array) -> Array:
    """Hyperbolic tangent."""
    return _through_float64(elementary.tanh, x)


def _infer_is_nan(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS, "string")
    return ValueType("bool", types[0].width)


@op("IsNaN", 1, _infer_is_nan)
def is_nan(x: Array) -> Array:
    """True where a number, or a cell of a string column, is NaN."""
    return np.asarray(x != x, dtype=bool)


def _infer_is_none(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], "string")
    return ValueType("bool", types[0].width)


@op("IsNone", 1, _infer_is_none)
def is_none(x: Array) -> Array:
    """True where a cell of a string column is None."""
    return np.asarray(np.frompyfunc(lambda cell: cell is None, 1, 1)(x), dtype=bool)


# --- along a row ---------------------------------------------------------------------------------------------------
def _infer_reduce(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *NUMBERS)
    if types[0].width < 1:
        raise ProgramError("cannot reduce a value of width 0")
    return ValueType(types[0].dtype, 1)


@op("ReduceSum", 1, _infer_reduce)
def reduce_sum(x: Array) -> Array:
    """Sum along the row, from the first column to the last."""
    if x.shape[1] > _WIDE:  # the same additions; with many columns and few rows, a thousandth of the time
        return np.add.accumulate(x, axis=1)[:, -1:].copy()
    total = x[:, :1].copy()
    for j in range(1, x.shape[1]):
        total += x[:, j : j + 1]
    return total


@op("ReduceMax", 1, _infer_reduce)
def reduce_max(x: Array) -> Array:
    """Largest of a row; NaN if any is NaN; of equal zeros the last."""
    result = x[:, :1]
    for j in range(1, x.shape[1]):
        result = maximum(result, x[:, j : j + 1])
    return result


@op("ReduceMin", 1, _infer_reduce)
def reduce_min(x: Array) -> Array:
    """Smallest of a row; NaN if any is NaN; of equal zeros the last."""
    result = x[:, :1]
    for j in range(1, x.shape[1]):
        result = minimum(result, x[:, j : j + 1])
    return result


def _infer_arg(types: Types, attrs: Attrs) -> ValueType:
    _infer_reduce(types, attrs)
    return ValueType("int64", 1)


@op("ArgMax", 1, _infer_arg)
def arg_max(x: Array) -> Array:
    """Position of the first largest of a row; of the first NaN if there is one."""
    return np.asarray(np.argmax(x, axis=1)[:, None], dtype=np.int64)


@op("ArgMin", 1, _infer_arg)
def arg_min(x: Array) -> Array:
    """Position of the first smallest of a row; of the first NaN if there is one."""
    return np.asarray(np.argmin(x, axis=1)[:, None], dtype=np.int64)


@op("Softmax", 1, _infer_same)
def softmax(x: Array) -> Array:
    """exp(x - max) / sum along the row, as sklearn.utils.extmath.softmax computes it."""
    shifted = exp(x - x.max(axis=1, keepdims=True))
    return shifted / reduce_sum(shifted)
