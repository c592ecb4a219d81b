"""The raw level of the op table: what stands over raw columns where scaled and one-hot columns stood before.

The passes of edgeml/passes/raw.py put these in the native artifact's program, and the kernels run them; no converter
makes them and no other target knows them. What they mean is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from edgeml.errors import NonFiniteError, ProgramError
from edgeml.ir.ops_ml import first_bad, lookup, non_finite_error
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.table import Array, op, require_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]
FLOATS = ("float64", "float32")
# The ops of this module, which only the native target lowers.
NATIVE_ONLY = ("Recode", "TableLinear", "CheckRange")


# --- categories ----------------------------------------------------------------------------------------------------
def _infer_recode(types: Types, attrs: Attrs) -> ValueType:
    x, keys, values = types[0], attrs["keys"], attrs["values"]
    if x.width != 1:
        raise ProgramError(f"Recode reads one column, got {x}")
    expected = "string" if isinstance(keys, tuple) else keys.dtype.name
    if expected != x.dtype:
        raise ProgramError(f"keys of {expected} looked up in {x}")
    if values.shape != (len(keys) + 1,) or values.dtype.name not in ("int64", *FLOATS):
        raise ProgramError(f"{len(keys)} keys with values {values.dtype}{values.shape}")
    return ValueType(values.dtype.name, 1)


@op("Recode", 1, _infer_recode, {"keys": "keys", "values": "array"})
def recode(x: Array, keys: Any, values: Array) -> Array:
    """``values[p + 1]`` where p is the position that Lookup gives: the first value is for what is no key."""
    result: Array = values[lookup(x, keys) + 1]
    return result


# --- linear maps with tables -----------------------------------------------------------------------------------
def _infer_table_linear(types: Types, attrs: Attrs) -> ValueType:
    x, weight, bias, table = types[0], attrs["weight"], attrs["bias"], attrs["table"]
    starts, after = attrs["starts"], attrs["after"]
    require_dtype(x, *FLOATS)
    if any(t.dtype != "int64" or t.width != 1 for t in types[1:]):
        raise ProgramError("TableLinear reads codes of int64[1], got " + ", ".join(map(str, types[1:])))
    if weight.ndim != 2 or weight.shape[0] != x.width or bias.shape != (weight.shape[1],):
        raise ProgramError(f"{x} times {weight.shape} plus {bias.shape} does not fit")
    if table.shape[1:] != bias.shape or any(a.dtype.name != x.dtype for a in (weight, bias, table)):
        raise ProgramError(f"weight, bias and table must be {x.dtype} for {len(bias)} outputs")
    if starts.dtype != np.int64 or starts.shape != (len(types),) or after.dtype != np.int64:
        raise ProgramError(f"{len(types) - 1} codes need as many places and one more, got starts {starts.shape}")
    if starts[0] != 0 or starts[-1] != len(table) or (np.diff(starts) < 0).any():
        raise ProgramError("starts must grow from 0 to the rows of the table")
    if after.shape != (len(types) - 1,) or (np.diff(after, prepend=0, append=x.width) < 0).any():
        raise ProgramError(f"after must grow within the {x.width} columns of x")
    return ValueType(x.dtype, weight.shape[1])


_TABLE_LINEAR = {"weight": "array", "bias": "array", "table": "array", "starts": "array", "after": "array"}


@op("TableLinear", None, _infer_table_linear, _TABLE_LINEAR)
def table_linear(
    x: Array, *codes: Array, weight: Array, bias: Array, table: Array, starts: Array, after: Array
) -> Array:
    """x @ weight + bias with a row of the table added for every code, in the order of the columns it stands for.

    Code t has the rows ``table[starts[t] : starts[t + 1]]``; its row is added when the first ``after[t]`` columns of x
    have been. Nothing is added for a code outside. The bias comes last, as in Linear.
    """
    total = np.zeros((max(v.shape[0] for v in (x, *codes)), len(bias)), dtype=x.dtype)
    done = 0
    for code, stop, (first, end) in zip(codes, after, pairwise(starts), strict=True):
        for k in range(done, stop):
            total += x[:, k : k + 1] * weight[k]
        done = int(stop)
        inside = (code[:, 0] >= 0) & (code[:, 0] < end - first)
        rows = np.concatenate([table[first:end], np.zeros((1, len(bias)), dtype=x.dtype)])
        total += rows[np.where(inside, code[:, 0], end - first)]
    for k in range(done, len(weight)):
        total += x[:, k : k + 1] * weight[k]
    return total + bias


# --- checks on rows ------------------------------------------------------------------------------------------------
def _infer_check_range(types: Types, attrs: Attrs) -> ValueType:
    x = types[0]
    require_dtype(x, *FLOATS)
    for name, dtype in (("low", "float64"), ("high", "float64"), ("allow_nan", "bool"), ("columns", "int64")):
        if attrs[name].dtype != dtype or attrs[name].shape != (x.width,):
            raise ProgramError(f"CheckRange of {x} with {name} {attrs[name].dtype}{attrs[name].shape}")
    return x


def range_error(row: int, column: int, attrs: Attrs, value: float) -> NonFiniteError:
    """The error of CheckRange, shared by every engine: that of the CheckFinite whose place it takes."""
    made = value if np.isnan(value) else float("inf") if value > attrs["high"][column] else float("-inf")
    return non_finite_error(row, int(attrs["columns"][column]), attrs["what"], made)


_CHECK_RANGE = {"low": "array", "high": "array", "allow_nan": "array", "columns": "array", "what": "str"}


@op("CheckRange", 1, _infer_check_range, _CHECK_RANGE, effect=True)
def check_range(x: Array, low: Array, high: Array, allow_nan: Array, columns: Array, what: str) -> Array:
    """x itself; refuses cells outside [low, high] of their column, and NaN unless allowed there.

    It takes the place of a CheckFinite of columns computed from x: column j of x is its column ``columns[j]``.
    """
    bad = np.where(np.isnan(x), ~allow_nan, ~((x >= low) & (x <= high)))
    if bad.any():
        row, column = first_bad(bad)
        raise range_error(row, column, {"high": high, "columns": columns, "what": what}, float(x[row, column]))
    return x
