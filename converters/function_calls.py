"""NumPy's functions of whole arrays on stand-ins: sums along the row, columns side by side, choices, products, tables.

``call_function`` receives what NumPy's ``__array_function__`` protocol hands over, and looks it up in ``FUNCTIONS``,
the documented vocabulary of this level. Answers follow NumPy's axes and dtypes; what goes over rows is refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Shape, Trace, Traced
from edgeml.converters.function_ufuncs import (
    broadcast,
    call_ufunc,
    check_context,
    check_dtypes,
    common_dtype,
    expand,
    operand,
    where,
)
from edgeml.ir import Value

FUNCTIONS: dict[Any, Callable[..., Any]] = {}


def traces(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter the decorated function for functions of NumPy; it is called with the trace and their arguments."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        FUNCTIONS.update(dict.fromkeys(functions, function))
        return function

    return enter


def call_function(trace: Trace, function: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What a function of NumPy gives. Raises Refused when it, or one of its arguments, is not in the vocabulary."""
    name = f"{function.__module__}.{function.__name__}"
    known = FUNCTIONS.get(function)
    if known is None:
        raise trace.refuse(f"{name} is not in the vocabulary", "use functions of the documented vocabulary (README)")
    options = {k: v for k, v in kwargs.items() if v is not np._NoValue}
    try:
        return known(trace, *args, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        what = f"{name} with the arguments {', '.join([f'{len(args)} by position', *options])}"
        raise trace.refuse(what, "use the documented arguments (README)") from None


# --- along the row -------------------------------------------------------------------------------------------------
def _line(trace: Trace, name: str, x: Any, axis: Any) -> Traced:
    """The array, when ``axis`` is the one along the row. Raises Refused for every other."""
    if not isinstance(x, Traced):
        raise trace.refuse(f"{name} of {type(x).__name__}", "call it with an array")
    if isinstance(axis, tuple) and len(axis) == 1:
        axis = axis[0]
    if axis is None and x.row_axis is None:
        axis = 0
    if axis is None or x.free_axis is None or axis % x.ndim != x.free_axis:
        raise trace.across(f"{name} with axis={axis}")
    if x.value.dtype == "string":
        raise trace.refuse(f"{name} of strings", "encode strings first")
    return x


def _reduced(x: Traced, value: Value, keepdims: bool) -> Traced:
    """The result of a reduction, in the dtype of the value."""
    kept: Shape = tuple(n if isinstance(n, Rows) else 1 for n in x.shape)
    dropped: Shape = tuple(n for n in x.shape if isinstance(n, Rows))
    return x.like(value, kept if keepdims else dropped)


def _addable(trace: Trace, name: str, x: Traced) -> Value:
    """Cells as sums have them: whole numbers and bools become int64."""
    check_dtypes(trace, name, [x.dtype])
    return x.value.cast("int64") if x.value.dtype == "bool" else x.value


@traces(np.sum)
def _sum(trace: Trace, a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
    x = _line(trace, "sum", a, axis)
    if dtype is not None:
        x = x.astype(dtype)
    return _reduced(x, trace.builder.sum(_addable(trace, "sum", x)), keepdims)


@traces(np.mean)
def _mean(trace: Trace, a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
    x = _line(trace, "mean", a, axis)
    return _reduced(x, _mean_of(trace, x if dtype is None else x.astype(dtype)), keepdims)


def _mean_of(trace: Trace, x: Traced) -> Value:
    value = _addable(trace, "mean", x)
    value = value.cast("float64") if value.dtype == "int64" else value
    return trace.builder.sum(value) / float(x.value.width)


@traces(np.average)
def _average(trace: Trace, a: Any, axis: Any = None, weights: Any = None, keepdims: bool = False) -> Traced:
    x = _line(trace, "average", a, axis)
    if weights is None:
        return _reduced(x, _mean_of(trace, x), keepdims)
    weight = np.asarray(weights)
    if weight.shape != (x.value.width,):
        raise trace.refuse(f"average with weights of shape {weight.shape}", "give one weight a column")
    total: Traced = np.sum(x * weight, axis=axis, keepdims=keepdims)
    return total / weight.sum()


@traces(np.var)
def _var(trace: Trace, a: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Traced:
    x = _line(trace, "var", a, axis)
    value = x.value if x.value.dtype in ("float64", "float32") else x.value.cast("float64")
    away = value - trace.builder.sum(value) / float(value.width)
    # NumPy divides by no less than 0, where the answer is NaN or infinite.
    return _reduced(x, trace.builder.sum(away * away) / float(max(value.width - ddof, 0)), keepdims)


@traces(np.std)
def _std(trace: Trace, a: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sqrt(_var(trace, a, axis, ddof, keepdims))


def _extreme(reduce: str, boolean: str) -> Callable[..., Traced]:
    def call(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        x = _line(trace, "max and min", a, axis)
        if x.value.dtype == "bool":
            return _folded(trace, x, boolean, keepdims)
        return _reduced(x, trace.builder.op(reduce, x.value).held_as(x.value.numpy), keepdims)

    return call


_max = traces(np.max, np.amax)(_extreme("ReduceMax", "Or"))
_min = traces(np.min, np.amin)(_extreme("ReduceMin", "And"))


def _folded(trace: Trace, x: Traced, name: str, keepdims: bool) -> Traced:
    """Bools of a row folded with And or Or: the smallest or largest of them as whole numbers."""
    value = x.value.cast("bool").cast("int64")
    reduced = trace.builder.min(value) if name == "And" else trace.builder.max(value)
    return _reduced(x, reduced.cast("bool"), keepdims)


@traces(np.any)
def _any(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
    return _folded(trace, _line(trace, "any", a, axis), "Or", keepdims)


@traces(np.all)
def _all(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
    return _folded(trace, _line(trace, "all", a, axis), "And", keepdims)


@traces(np.ptp)
def _ptp(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _max(trace, a, axis, keepdims) - _min(trace, a, axis, keepdims)


def _position(name: str) -> Callable[..., Traced]:
    def call(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        x = _line(trace, name, a, axis)
        value = x.value.cast("int64") if x.value.dtype == "bool" else x.value
        return _reduced(x, getattr(trace.builder, name)(value), keepdims)

    return call


traces(np.argmax)(_position("argmax"))
traces(np.argmin)(_position("argmin"))


def _running(x: Traced, value: Value, step: Callable[[Value, Value], Value]) -> list[Value]:
    """First column, first and second together, and so on."""
    found = [value.select([0])]
    for j in range(1, value.width):
        found.append(step(found[-1], value.select([j])))
    return found


@traces(np.prod)
def _prod(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
    x = _line(trace, "prod", a, axis)
    return _reduced(x, _running(x, _addable(trace, "prod", x), lambda p, q: p * q)[-1], keepdims)


@traces(np.cumsum)
def _cumsum(trace: Trace, a: Any, axis: Any = None) -> Traced:
    x = _line(trace, "cumsum", a, axis)
    return x.like(trace.builder.concat(_running(x, _addable(trace, "cumsum", x), lambda p, q: p + q)))


@traces(np.cumprod)
def _cumprod(trace: Trace, a: Any, axis: Any = None) -> Traced:
    x = _line(trace, "cumprod", a, axis)
    return x.like(trace.builder.concat(_running(x, _addable(trace, "cumprod", x), lambda p, q: p * q)))


@traces(np.diff)
def _diff(trace: Trace, a: Any, n: int = 1, axis: Any = -1) -> Any:
    x = _line(trace, "diff", a, axis)
    for _ in range(n):
        width = x.value.width
        later, earlier = (x.value.select(slice(*ends)) for ends in ((1, width), (0, width - 1)))
        shape = tuple(m if isinstance(m, Rows) else width - 1 for m in x.shape)
        x = call_ufunc(
            trace, np.not_equal if x.dtype == bool else np.subtract, [x.like(later, shape), x.like(earlier, shape)]
        )
    return x


def _present(trace: Trace, a: Any, axis: Any, fill: float) -> tuple[Any, Any]:
    """The array with ``fill`` for NaN, and which cells are none."""
    x = _line(trace, "a function that skips NaN", a, axis)
    missing = np.isnan(x)
    return where(trace, missing, np.asarray(fill, dtype=x.dtype), x), ~missing


@traces(np.nansum)
def _nansum(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _sum(trace, _present(trace, a, axis, 0)[0], axis, None, keepdims)


@traces(np.nanmean)
def _nanmean(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    filled, present = _present(trace, a, axis, 0)
    count = _sum(trace, present, axis, None, keepdims)
    total = _sum(trace, filled, axis, None, keepdims)
    return (total / count).astype(total.dtype if total.dtype != np.int64 else float)


@traces(np.nanvar)
def _nanvar(trace: Trace, a: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    _, present = _present(trace, a, axis, 0)
    away = where(trace, present, a - _nanmean(trace, a, axis, True), np.asarray(0, dtype=a.dtype))
    count = _sum(trace, present, axis, None, keepdims) - ddof
    variance = _sum(trace, away * away, axis, None, keepdims) / count
    return where(trace, count > 0, variance, math.nan).astype(a.dtype)


@traces(np.nanstd)
def _nanstd(trace: Trace, a: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sqrt(_nanvar(trace, a, axis, ddof, keepdims))


def _nan_extreme(sign: float) -> Callable[..., Any]:
    def call(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
        filled, present = _present(trace, a, axis, -sign * math.inf)
        result = (_max if sign > 0 else _min)(trace, filled, axis, keepdims)
        return where(trace, _any(trace, present, axis, keepdims), result, np.asarray(math.nan, dtype=result.dtype))

    return call


traces(np.nanmax)(_nan_extreme(1.0))
traces(np.nanmin)(_nan_extreme(-1.0))


@traces(np.count_nonzero)
def _count_nonzero(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _sum(trace, np.not_equal(a, 0) if a.dtype != bool else a, axis, None, keepdims)


@traces(np.linalg.norm)
def _norm(trace: Trace, x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    row = _line(trace, "norm", x, axis)
    row = row if row.dtype.kind == "f" else row.astype(float)
    if ord in (None, 2):
        return np.sqrt(np.sum(row * row, axis=axis, keepdims=keepdims))
    size = np.abs(row)
    if ord in (1, math.inf, -math.inf):
        function = {1: np.sum, math.inf: np.max, -math.inf: np.min}[ord]
        return function(size, axis=axis, keepdims=keepdims)
    raise trace.refuse(f"numpy.linalg.norm(ord={ord!r})", "use ord=1, 2 or inf")


# What ufuncs do under the name of their reduction: numpy.add.reduce(X, axis=1).
_REDUCTIONS = {
    np.add: np.sum,
    np.multiply: np.prod,
    np.maximum: np.max,
    np.minimum: np.min,
    np.logical_and: np.all,
    np.logical_or: np.any,
}


def reduce_by(trace: Trace, ufunc: np.ufunc, x: Any, axis: Any = 0, **options: Any) -> Any:
    """``ufunc.reduce``, whose axis is 0 unless it is given."""
    if ufunc not in _REDUCTIONS:
        raise trace.refuse(f"numpy.{ufunc.__name__}.reduce", "use sum, prod, max, min, any or all along the row")
    options = {k: v for k, v in options.items() if not (k == "dtype" and v is None) and v is not np._NoValue}
    return call_function(trace, _REDUCTIONS[ufunc], (x, axis), options)


# --- columns side by side ------------------------------------------------------------------------------------------
def _beside(trace: Trace, name: str, parts: Sequence[Any], columns: bool) -> Traced:
    """Arrays side by side; with ``columns`` a vector is one column."""
    whole = [p for p in parts if isinstance(p, Traced)]
    check_context(trace, [p.shape for p in whole])
    rows = next((p.shape[p.row_axis] for p in whole if p.row_axis is not None), None)
    dtypes = [operand(trace, p).promotes for p in parts if not (isinstance(p, Traced) and p.value.dtype == "string")]
    if len(dtypes) < len(parts) and dtypes:
        raise trace.refuse(f"{name} of strings and numbers", "keep them in a frame")
    dtype = np.result_type(*dtypes) if dtypes else np.dtype(object)
    if dtypes:
        check_dtypes(trace, name, [dtype])
    values = []
    for part in parts:
        if not isinstance(part, Traced):
            cells = np.asarray(part)
            if rows is not None and (cells.ndim != 2 or cells.shape[0] != 1):
                raise trace.across(f"{name} with an array of {cells.shape}")
            values.append(trace.builder.constant(cells.ravel().astype(dtype)))
            continue
        if rows is not None and part.ndim == 1 and not columns or part.ndim == 2 and part.row_axis != 0:
            raise trace.across(f"{name} of arrays of shape {part.shape}")
        values.append(part.value.cast(dtype.name) if dtypes else part.value)
    value = trace.builder.concat(values).held_as(dtype.name)
    return Traced(trace, value, (value.width,) if rows is None else (rows, value.width))


@traces(np.hstack)
def _hstack(trace: Trace, tup: Sequence[Any]) -> Traced:
    return _beside(trace, "hstack", list(tup), False)


@traces(np.column_stack)
def _column_stack(trace: Trace, tup: Sequence[Any]) -> Traced:
    return _beside(trace, "column_stack", list(tup), True)


@traces(np.concatenate)
def _concatenate(trace: Trace, arrays: Sequence[Any], axis: Any = 0) -> Traced:
    parts = list(arrays)
    first = next(p for p in parts if isinstance(p, Traced))
    if axis is None or axis % first.ndim != first.free_axis:
        raise trace.across(f"concatenate with axis={axis}")
    if first.row_axis == 1:
        return _beside(trace, "concatenate", [p.T for p in parts], False).T
    return _beside(trace, "concatenate", parts, False)


@traces(np.append)
def _append(trace: Trace, arr: Any, values: Any, axis: Any = None) -> Traced:
    return _concatenate(trace, [arr, values], 0 if axis is None and arr.ndim == 1 else axis)


@traces(np.stack)
def _stack(trace: Trace, arrays: Sequence[Any], axis: int = 0) -> Traced:
    parts = list(arrays)
    shape = next(p.shape for p in parts if isinstance(p, Traced))
    parts = [np.broadcast_to(p, ()) if np.ndim(p) == 0 and not isinstance(p, Traced) else p for p in parts]
    if shape == ():
        return _beside(trace, "stack", [p if isinstance(p, Traced) else np.reshape(p, (1,)) for p in parts], True)
    if len(shape) != 1 or not isinstance(shape[0], Rows):
        raise trace.refuse(f"stack of arrays of shape {shape}", "use column_stack")
    side = _beside(trace, "stack", parts, True)
    return side if axis in (1, -1) else side.T


@traces(np.vstack)
def _vstack(trace: Trace, tup: Sequence[Any]) -> Traced:
    parts = list(tup)
    if any(isinstance(p, Traced) and p.shape and p.ndim == 1 and isinstance(p.shape[0], Rows) for p in parts):
        return _stack(trace, parts, 0)
    raise trace.across("vstack")


@traces(np.tile)
def _tile(trace: Trace, A: Any, reps: Any) -> Traced:
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    if A.free_axis is None or A.ndim != len(times) or any(t != 1 for i, t in enumerate(times) if i != A.free_axis):
        raise trace.across(f"tile({reps!r})")
    return _places(A, list(range(A.value.width)) * times[A.free_axis])


@traces(np.repeat)
def _repeat(trace: Trace, a: Any, repeats: Any, axis: Any = None) -> Traced:
    x = _line(trace, "repeat", a, axis)
    return _places(x, np.repeat(np.arange(x.value.width), repeats).tolist())


@traces(np.flip, np.fliplr)
def _flip(trace: Trace, m: Any, axis: Any = 1) -> Traced:
    x = _line(trace, "flip", m, axis)
    return _places(x, list(range(x.value.width))[::-1])


@traces(np.roll)
def _roll(trace: Trace, a: Any, shift: int, axis: Any = None) -> Traced:
    x = _line(trace, "roll", a, axis)
    return _places(x, np.roll(np.arange(x.value.width), shift).tolist())


@traces(np.delete)
def _delete(trace: Trace, arr: Any, obj: Any, axis: Any = None) -> Traced:
    x = _line(trace, "delete", arr, axis)
    return _places(x, np.delete(np.arange(x.value.width), obj).tolist())


def _places(x: Traced, places: list[int]) -> Traced:
    shape = tuple(n if isinstance(n, Rows) else len(places) for n in x.shape)
    return x.like(x.value.select(places), shape)


@traces(np.array_split, np.split, np.hsplit)
def _split(trace: Trace, ary: Any, indices_or_sections: Any, axis: Any = 1) -> list[Traced]:
    x = _line(trace, "split", ary, axis)
    return [_places(x, part.tolist()) for part in np.array_split(np.arange(x.value.width), indices_or_sections)]


# --- shape ---------------------------------------------------------------------------------------------------------
@traces(np.reshape)
def _reshape(trace: Trace, a: Any, shape: Any) -> Traced:
    result: Traced = a.reshape(shape)
    return result


@traces(np.ravel)
def _ravel(trace: Trace, a: Any) -> Traced:
    result: Traced = a.ravel()
    return result


@traces(np.squeeze)
def _squeeze(trace: Trace, a: Any, axis: Any = None) -> Traced:
    result: Traced = a.squeeze(axis)
    return result


@traces(np.expand_dims)
def _expand_dims(trace: Trace, a: Any, axis: int) -> Traced:
    key = [slice(None)] * a.ndim
    key.insert(axis if axis >= 0 else axis + a.ndim + 1, None)  # type: ignore[arg-type]  # None makes an axis
    result: Traced = a[tuple(key)]
    return result


@traces(np.atleast_2d)
def _atleast_2d(trace: Trace, a: Any) -> Any:
    if a.ndim < 2:
        raise trace.across("atleast_2d of a vector")
    return a


@traces(np.atleast_1d)
def _atleast_1d(trace: Trace, a: Any) -> Any:
    return a if a.ndim else a.reshape(1)


@traces(np.transpose)
def _transpose(trace: Trace, a: Any) -> Any:
    return a.T


@traces(np.copy)
def _copy(trace: Trace, a: Any) -> Any:
    return a.copy()


@traces(np.shape)
def _shape(trace: Trace, a: Any) -> Any:
    return a.shape


@traces(np.ndim)
def _ndim(trace: Trace, a: Any) -> Any:
    return a.ndim


@traces(np.asarray, np.array, np.asanyarray, np.ascontiguousarray)
def _asarray(trace: Trace, a: Any, dtype: Any = None, copy: Any = None) -> Any:
    return a if dtype is None else a.astype(dtype)


def _filled(trace: Trace, like: Any, number: Any, dtype: Any) -> Traced:
    """A constant as tall as an array, so that it can stand beside others and be written to."""
    wanted = np.dtype(like.dtype if dtype is None else dtype)
    check_dtypes(trace, "an array of constants", [wanted])
    cells = np.broadcast_to(np.asarray(number).astype(wanted), (like.value.width,))
    return Traced(trace, trace.builder.constant(cells.copy()), like.shape)


@traces(np.zeros_like, np.empty_like)
def _zeros_like(trace: Trace, a: Any, dtype: Any = None) -> Traced:
    return _filled(trace, a, 0, dtype)


@traces(np.ones_like)
def _ones_like(trace: Trace, a: Any, dtype: Any = None) -> Traced:
    return _filled(trace, a, 1, dtype)


@traces(np.full_like)
def _full_like(trace: Trace, a: Any, fill_value: Any, dtype: Any = None) -> Traced:
    return _filled(trace, a, fill_value, dtype)


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
    if low is not None and high is not None:
        return call_ufunc(trace, np._core.umath.clip, (a, low, high))
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
        return _places(_line(trace, "take", a, axis), np.atleast_1d(np.arange(a.value.width)[indices]).tolist())
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
    if not np.isfinite(edges).all() or (np.diff(edges) < 0).any():
        raise trace.refuse("digitize with bins that are not finite and increasing", "sort them, without NaN")
    return _count_below(trace, edges, x, right)


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
    if a.ndim == 1 and a.row_axis == 0 or a.row_axis == 1:
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
    return a.like(value, (*a.shape[:-1], *rest))


@traces(np.broadcast_to)
def _broadcast_to(trace: Trace, array: Any, shape: Any) -> Traced:
    if broadcast(trace, [array.shape, tuple(shape)]) != tuple(shape):
        raise trace.refuse(f"broadcast of {array.shape} to {tuple(shape)}", "broadcasting happens by itself")
    width = next((n for n in shape if not isinstance(n, Rows)), 1)
    return array.like(expand(array.value, width), tuple(shape), view=True)
