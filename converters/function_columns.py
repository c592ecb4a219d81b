"""NumPy's functions that put columns side by side, pick, repeat and reshape them, on stand-ins.

Entered in the table of function_calls.py, through which they are called; importing this module is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_calls import along, traces
from edgeml.converters.function_ufuncs import (
    check_context,
    check_dtypes,
    operand,
)


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
        if (rows is not None and part.ndim == 1 and not columns) or (part.ndim == 2 and part.row_axis != 0):
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
def _concatenate(trace: Trace, arrays: Sequence[Any], axis: Any = 0) -> Any:
    parts = list(arrays)
    first = next(p for p in parts if isinstance(p, Traced))
    if axis is None or axis % first.ndim != first.free_axis:
        raise trace.across(f"concatenate with axis={axis}")
    if first.row_axis == 1:
        return _beside(trace, "concatenate", [p.T for p in parts], False).T
    return _beside(trace, "concatenate", parts, False)


@traces(np.append)
def _append(trace: Trace, arr: Any, values: Any, axis: Any = None) -> Any:
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
def _vstack(trace: Trace, tup: Sequence[Any]) -> Any:
    parts = list(tup)
    if any(isinstance(p, Traced) and p.shape and p.ndim == 1 and isinstance(p.shape[0], Rows) for p in parts):
        return _stack(trace, parts, 0)
    raise trace.across("vstack")


@traces(np.tile)
def _tile(trace: Trace, A: Any, reps: Any) -> Traced:
    times = (reps,) if isinstance(reps, int) else tuple(reps)
    if A.free_axis is None or A.ndim != len(times) or any(t != 1 for i, t in enumerate(times) if i != A.free_axis):
        raise trace.across(f"tile({reps!r})")
    return places_of(A, list(range(A.value.width)) * times[A.free_axis])


@traces(np.repeat)
def _repeat(trace: Trace, a: Any, repeats: Any, axis: Any = None) -> Traced:
    x = along(trace, "repeat", a, axis)
    return places_of(x, np.repeat(np.arange(x.value.width), repeats).tolist())


@traces(np.flip, np.fliplr)
def _flip(trace: Trace, m: Any, axis: Any = 1) -> Traced:
    x = along(trace, "flip", m, axis)
    return places_of(x, list(range(x.value.width))[::-1])


@traces(np.roll)
def _roll(trace: Trace, a: Any, shift: int, axis: Any = None) -> Traced:
    x = along(trace, "roll", a, axis)
    return places_of(x, np.roll(np.arange(x.value.width), shift).tolist())


@traces(np.delete)
def _delete(trace: Trace, arr: Any, obj: Any, axis: Any = None) -> Traced:
    x = along(trace, "delete", arr, axis)
    return places_of(x, np.delete(np.arange(x.value.width), obj).tolist())


def places_of(x: Traced, places: list[int]) -> Traced:
    shape = tuple(n if isinstance(n, Rows) else len(places) for n in x.shape)
    return x.like(x.value.select(places), shape)


@traces(np.array_split, np.split, np.hsplit)
def _split(trace: Trace, ary: Any, indices_or_sections: Any, axis: Any = 1) -> list[Traced]:
    x = along(trace, "split", ary, axis)
    return [places_of(x, part.tolist()) for part in np.array_split(np.arange(x.value.width), indices_or_sections)]


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
