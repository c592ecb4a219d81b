"""NumPy's functions that put the cells of a row in order, and what follows from it: medians and quantiles.

Entered in the table of function_calls.py, through which they are called; importing this module is enough.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_calls import along, traces
from edgeml.converters.function_ufuncs import where
from edgeml.ir import Value


def _places(trace: Trace, name: str, x: Traced) -> Value:
    """Positions of a row's cells from the smallest to the largest, NaN last."""
    if x.dtype.kind != "f":
        raise trace.refuse(f"{name} of {x.dtype.name}", "turn X into float64 first: X.astype(float)")
    builder, width = trace.builder, x.value.width
    order = builder.op("TopK", x.value, k=width)
    # onnxruntime has infinity and NaN in one order; a second one, of equals by their place, parts them.
    missing = builder.op("TakeAlong", builder.is_nan(x.value).cast("float32"), order)
    return builder.op("TakeAlong", order, builder.op("TopK", missing, k=width))


@traces(np.sort)
def _sort(trace: Trace, a: Any, axis: Any = -1, kind: Any = None) -> Traced:
    x = along(trace, "sort", a, axis)
    return x.like(trace.builder.op("TakeAlong", x.value, _places(trace, "sort", x)).held_as(x.value.numpy))


@traces(np.argsort)
def _argsort(trace: Trace, a: Any, axis: Any = -1, kind: Any = None) -> Traced:
    if kind not in ("stable", "mergesort"):
        raise trace.refuse("argsort without kind='stable', which leaves the order of equal cells open", "give it")
    x = along(trace, "argsort", a, axis)
    return x.like(_places(trace, "argsort", x))


@traces(np.take_along_axis)
def _take_along_axis(trace: Trace, arr: Any, indices: Any, axis: Any) -> Traced:
    x, places = along(trace, "take_along_axis", arr, axis), along(trace, "take_along_axis", indices, axis)
    inside = (places.value >= -x.value.width) & (places.value < x.value.width)
    checked = trace.builder.require(places.value, inside, f"an index outside {x.value.width} columns")
    within = trace.builder.where(checked < 0, checked + x.value.width, checked)
    within = trace.builder.clip(within, 0, x.value.width - 1)
    return places.like(trace.builder.op("TakeAlong", x.value, within).held_as(x.value.numpy))


def _quantile(trace: Trace, name: str, a: Any, part: float, axis: Any, keepdims: bool) -> Any:
    """Between the two cells around the place, as numpy.quantile's method "linear" goes; NaN where any cell is."""
    x = along(trace, name, a, axis)
    x = x if x.dtype.kind == "f" else x.astype(float)
    ordered = trace.builder.op("TakeAlong", x.value, _places(trace, name, x))
    place = part * (x.value.width - 1)
    low = int(np.floor(place))
    below, above = (ordered.select([min(k, x.value.width - 1)]) for k in (low, low + 1))
    t, step = place - low, above - below
    value = below + step * t if t < 0.5 else above - step * (1.0 - t)
    value = below if t == 0.0 else value
    kept = tuple(n if isinstance(n, Rows) else 1 for n in x.shape)
    result = x.like(value, kept if keepdims else tuple(n for n in x.shape if isinstance(n, Rows)))
    missing = np.any(np.isnan(x), axis=axis, keepdims=keepdims)
    return where(trace, missing, np.asarray(np.nan, dtype=x.dtype), result)


@traces(np.median)
def _median(trace: Trace, a: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """The mean of the two cells in the middle, or the one there is."""
    x = along(trace, "median", a, axis)
    x = x if x.dtype.kind == "f" else x.astype(float)
    ordered = trace.builder.op("TakeAlong", x.value, _places(trace, "median", x))
    half, odd = divmod(x.value.width, 2)
    value = ordered.select([half])
    if not odd:
        value = (ordered.select([half - 1]) + value) / 2.0
    kept = tuple(n if isinstance(n, Rows) else 1 for n in x.shape)
    result = x.like(value, kept if keepdims else tuple(n for n in x.shape if isinstance(n, Rows)))
    missing = np.any(np.isnan(x), axis=axis, keepdims=keepdims)
    return where(trace, missing, np.asarray(np.nan, dtype=x.dtype), result)


@traces(np.quantile)
def _np_quantile(trace: Trace, a: Any, q: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if np.ndim(q) or isinstance(q, Traced) or not 0 <= q <= 1:
        raise trace.refuse(f"quantile of {q!r}", "ask for one quantile at a time")
    return _quantile(trace, "quantile", a, float(q), axis, keepdims)


@traces(np.percentile)
def _percentile(trace: Trace, a: Any, q: Any, axis: Any = None, keepdims: bool = False) -> Any:
    if np.ndim(q) or isinstance(q, Traced) or not 0 <= q <= 100:
        raise trace.refuse(f"percentile of {q!r}", "ask for one percentile at a time")
    return _quantile(trace, "percentile", a, float(q) / 100.0, axis, keepdims)
