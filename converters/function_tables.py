"""NumPy's functions that choose, round, count and look up cell by cell, and products with constant matrices.

Entered in the table of function_calls.py, through which they are called; importing this module is enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Shape, Trace, Traced
from edgeml.converters.function_calls import along, traces
from edgeml.converters.function_columns import places_of
from edgeml.converters.function_ufuncs import (
    broadcast,
    check_dtypes,
    common_dtype,
    expand,
    operand,
    where,
)
from edgeml.ir import Value


# --- choices and tables --------------------------------------------------------------------------------------------
@traces(np.where)
def _where(trace: Trace, condition: Any, x: Any = None, y: Any = None) -> Any:
    if x is None or y is None:
        raise trace.refuse("numpy.where with one operand depends on the cells", "give both choices")
    return where(trace, condition, x, y)


@traces(np.select)
def _select(trace: Trace, condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    dtype = common_dtype(operand(trace, c) for c in (*choicelist, default))
    result = np.asarray(default, dtype=dtype) if not isinstance(default, Traced) else default.astype(dtype)
    for condition, choice in reversed(list(zip(condlist, choicelist, strict=True))):
        result = where(trace, condition, choice, result)
    return result


@traces(np.clip)
def _clip(trace: Trace, a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result = a if low is None else np.maximum(a, low)
    return result if high is None else np.minimum(result, high)


@traces(np.round, np.around)
def _round(trace: Trace, a: Any, decimals: int = 0) -> Any:
    if a.dtype.kind != "f":
        if decimals < 0:
            raise trace.refuse("round of whole numbers to tens", "turn X into float64 first")
        return a
    scale = 10.0 ** abs(decimals)
    if decimals == 0:
        return np.rint(a)
    return np.rint(a * scale) / scale if decimals > 0 else np.rint(a / scale) * scale


@traces(np.nan_to_num)
def _nan_to_num(
    trace: Trace, x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None
) -> Any:
    if not copy:
        raise trace.refuse("nan_to_num(copy=False) changes its argument", "use the result")
    if x.dtype.kind != "f":
        return x
    largest = float(np.finfo(x.dtype).max)
    kind = x.dtype.type
    x = where(trace, np.isnan(x), kind(nan), x)
    x = where(trace, x == math.inf, kind(largest if posinf is None else posinf), x)
    return where(trace, x == -math.inf, kind(-largest if neginf is None else neginf), x)


@traces(np.isclose)
def _isclose(trace: Trace, a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    finite = np.isfinite(b)
    close = (np.abs(a - b) <= atol + rtol * np.abs(b)) & finite | (a == b)
    return close | (np.isnan(a) & np.isnan(b)) if equal_nan else close


@traces(np.isin)
def _isin(trace: Trace, element: Any, test_elements: Any, invert: bool = False) -> Any:
    if isinstance(test_elements, Traced):
        raise trace.refuse("isin of computed elements", "give a list of numbers")
    keys = np.unique(np.asarray(list(test_elements)).astype(element.dtype))
    found = [trace.builder.lookup(element.value.select([j]), keys) >= 0 for j in range(element.value.width)]
    inside = trace.builder.concat(found)
    if element.dtype.kind == "f":
        inside = inside & (element.value == element.value)  # NaN is in no list, and a Lookup finds it
    return element.like(~inside if invert else inside)


@traces(np.take)
def _take(trace: Trace, a: Any, indices: Any, axis: Any = None) -> Any:
    if isinstance(a, Traced):
        return places_of(along(trace, "take", a, axis), np.atleast_1d(np.arange(a.value.width)[indices]).tolist())
    table = np.asarray(a)
    if table.ndim != 1 or indices.dtype.kind not in "iu":
        raise trace.refuse("take from a table of several columns", "take from one column at a time")
    check_dtypes(trace, "take", [table.dtype])
    found = [_row_of(trace, table, indices.value.select([j])) for j in range(indices.value.width)]
    return indices.like(trace.builder.concat(found))


def _row_of(trace: Trace, table: Any, index: Value) -> Value:
    """One cell of a table for each row; negative positions count from the end, others refuse the row as NumPy does."""
    inside = (index >= -len(table)) & (index < len(table))
    index = trace.builder.require(index, inside, f"an index outside a table of {len(table)} entries")
    place = trace.builder.where(index < 0, index + len(table), index)
    place = trace.builder.clip(place, 0, len(table) - 1)
    return trace.builder.take(place, table)


@traces(np.searchsorted)
def _searchsorted(trace: Trace, a: Any, v: Any, side: str = "left") -> Any:
    edges = np.asarray(a, dtype=float)
    if edges.ndim != 1 or not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
        raise trace.refuse("searchsorted in edges that are not finite and increasing", "sort them, without NaN")
    return _count_below(trace, edges, v, side == "left")


@traces(np.digitize)
def _digitize(trace: Trace, x: Any, bins: Any, right: bool = False) -> Any:
    edges = np.asarray(bins, dtype=float)
    if (edges[1:] >= edges[:-1]).all() and not np.isnan(edges).any():
        return _count_below(trace, edges, x, right)
    if (edges[1:] <= edges[:-1]).all():
        return len(edges) - _count_below(trace, edges[::-1], x, right)
    raise trace.refuse("digitize with bins that neither increase nor decrease", "sort them, without NaN")


def _count_below(trace: Trace, edges: Any, x: Traced, strictly: bool) -> Traced:
    """How many edges are below each cell, or not above it; all of them for NaN, which NumPy sorts to the end."""
    value = x.value.cast("float64")
    count = None
    for edge in edges:
        above = (value > float(edge)) if strictly else (value >= float(edge))
        one = (above | ~(value == value)).cast("int64")
        count = one if count is None else count + one
    if count is None:
        count = expand(trace.builder.constant(0, "int64"), value.width)
    return x.like(count)


@traces(np.interp)
def _interp(trace: Trace, x: Any, xp: Any, fp: Any) -> Any:
    xs, ys = (np.asarray(a, dtype=float) for a in (xp, fp))
    if (np.diff(xs) <= 0).any():
        raise trace.refuse("numpy.interp over points that do not increase", "sort them, without repeats")
    value = x.value.cast("float64")
    parts = [trace.builder.op("Interp", value.select([j]), xs=xs, ys=ys) for j in range(value.width)]
    return x.like(trace.builder.concat(parts))


@traces(np.polyval)
def _polyval(trace: Trace, p: Any, x: Any) -> Any:
    result = np.zeros_like(x)
    for coefficient in np.asarray(p):
        result = result * x + coefficient
    return result


# --- products ------------------------------------------------------------------------------------------------------
@traces(np.dot)
def _dot(trace: Trace, a: Any, b: Any) -> Any:
    return matmul(trace, a, b)


def matmul(trace: Trace, a: Any, b: Any) -> Any:
    """Rows times a constant matrix, or a constant matrix times columns."""
    if not isinstance(a, Traced):
        if isinstance(b, Traced) and b.ndim == 2 and b.row_axis == 1:
            return matmul(trace, b.T, np.asarray(a).T).T
        if isinstance(b, Traced) and b.row_axis is None and b.ndim == 1:
            return matmul(trace, b, np.asarray(a).T)
        raise trace.across("a product that sums over rows")
    if isinstance(b, Traced):
        if a.shape == b.shape and a.row_axis is None and a.ndim == 1:
            return np.sum(a * b)
        raise trace.refuse("a product of two computed matrices", "write (a * b).sum(axis=1) for products of rows")
    weight = np.asarray(b)
    if (a.ndim == 1 and a.row_axis == 0) or a.row_axis == 1:
        raise trace.across("a product that sums over rows")
    dtype = np.result_type(a.dtype, weight)
    check_dtypes(trace, "a matrix product", [dtype])
    matrix = weight[:, None] if weight.ndim == 1 else weight
    if matrix.ndim != 2 or matrix.shape[0] != a.value.width:
        raise ValueError(f"matmul: {a.shape} times {weight.shape} does not fit")
    if dtype.kind == "f":
        value = trace.builder.linear(a.value.cast(dtype.name), matrix)
    else:
        whole = a.value.cast("int64")
        columns = [trace.builder.sum(whole * matrix[:, k].astype(np.int64)) for k in range(matrix.shape[1])]
        value = trace.builder.concat(columns)
    rest: Shape = () if weight.ndim == 1 else (value.width,)
    result: Traced = a.like(value, (*a.shape[:-1], *rest))
    return result


@traces(np.broadcast_to)
def _broadcast_to(trace: Trace, array: Any, shape: Any) -> Traced:
    if broadcast(trace, [array.shape, tuple(shape)]) != tuple(shape):
        raise trace.refuse(f"broadcast of {array.shape} to {tuple(shape)}", "broadcasting happens by itself")
    width = next((n for n in shape if not isinstance(n, Rows)), 1)
    result: Traced = array.like(expand(array.value, width), tuple(shape), view=True)
    return result
