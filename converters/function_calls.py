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
    call_ufunc,
    check_dtypes,
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
        raise trace.refuse(
            f"{name} is not in the vocabulary", "use functions of the documented vocabulary (docs/functions.md)"
        )
    options = {k: v for k, v in kwargs.items() if v is not np._NoValue}
    try:
        return known(trace, *args, **options)
    except TypeError as error:
        if "argument" not in str(error):
            raise
        what = f"{name} with the arguments {', '.join([f'{len(args)} by position', *options])}"
        raise trace.refuse(what, "use the documented arguments (README)") from None


# --- along the row -------------------------------------------------------------------------------------------------
def along(trace: Trace, name: str, x: Any, axis: Any) -> Traced:
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
    x = along(trace, "sum", a, axis)
    if dtype is not None:
        x = x.astype(dtype)
    return _reduced(x, trace.builder.sum(_addable(trace, "sum", x)), keepdims)


@traces(np.mean)
def _mean(trace: Trace, a: Any, axis: Any = None, dtype: Any = None, keepdims: bool = False) -> Traced:
    x = along(trace, "mean", a, axis)
    return _reduced(x, _mean_of(trace, x if dtype is None else x.astype(dtype)), keepdims)


def _mean_of(trace: Trace, x: Traced) -> Value:
    value = _addable(trace, "mean", x)
    value = value.cast("float64") if value.dtype == "int64" else value
    return trace.builder.sum(value) / float(x.value.width)


@traces(np.average)
def _average(trace: Trace, a: Any, axis: Any = None, weights: Any = None, keepdims: bool = False) -> Traced:
    x = along(trace, "average", a, axis)
    if weights is None:
        return _reduced(x, _mean_of(trace, x), keepdims)
    weight = np.asarray(weights)
    if weight.shape != (x.value.width,):
        raise trace.refuse(f"average with weights of shape {weight.shape}", "give one weight a column")
    result: Traced = np.sum(x * weight, axis=axis, keepdims=keepdims) / weight.sum()
    return result


@traces(np.var)
def _var(trace: Trace, a: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Traced:
    x = along(trace, "var", a, axis)
    value = x.value if x.value.dtype in ("float64", "float32") else x.value.cast("float64")
    away = value - trace.builder.sum(value) / float(value.width)
    # NumPy divides by no less than 0, where the answer is NaN or infinite.
    return _reduced(x, trace.builder.sum(away * away) / float(max(value.width - ddof, 0)), keepdims)


@traces(np.std)
def _std(trace: Trace, a: Any, axis: Any = None, ddof: float = 0, keepdims: bool = False) -> Any:
    return np.sqrt(_var(trace, a, axis, ddof, keepdims))


def _extreme(reduce: str, boolean: str) -> Callable[..., Traced]:
    def call(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        x = along(trace, "max and min", a, axis)
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
    return _folded(trace, along(trace, "any", a, axis), "Or", keepdims)


@traces(np.all)
def _all(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
    return _folded(trace, along(trace, "all", a, axis), "And", keepdims)


@traces(np.ptp)
def _ptp(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return _max(trace, a, axis, keepdims) - _min(trace, a, axis, keepdims)


def _position(name: str) -> Callable[..., Traced]:
    def call(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Traced:
        x = along(trace, name, a, axis)
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
    x = along(trace, "prod", a, axis)
    return _reduced(x, _running(x, _addable(trace, "prod", x), lambda p, q: p * q)[-1], keepdims)


@traces(np.cumsum)
def _cumsum(trace: Trace, a: Any, axis: Any = None) -> Traced:
    x = along(trace, "cumsum", a, axis)
    return x.like(trace.builder.concat(_running(x, _addable(trace, "cumsum", x), lambda p, q: p + q)))


@traces(np.cumprod)
def _cumprod(trace: Trace, a: Any, axis: Any = None) -> Traced:
    x = along(trace, "cumprod", a, axis)
    return x.like(trace.builder.concat(_running(x, _addable(trace, "cumprod", x), lambda p, q: p * q)))


@traces(np.diff)
def _diff(trace: Trace, a: Any, n: int = 1, axis: Any = -1) -> Any:
    x = along(trace, "diff", a, axis)
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
    x = along(trace, "a function that skips NaN", a, axis)
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
    row = along(trace, "norm", x, axis)
    row = row if row.dtype.kind == "f" else row.astype(float)
    if ord in (None, 2):
        return np.sqrt(np.sum(row * row, axis=axis, keepdims=keepdims))
    size = np.abs(row)
    if ord in (1, math.inf, -math.inf):
        functions: dict[float, Any] = {1: np.sum, math.inf: np.max, -math.inf: np.min}
        return functions[ord](size, axis=axis, keepdims=keepdims)
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
