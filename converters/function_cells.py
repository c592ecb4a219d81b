"""Functions of a cell or a row that a user wrote, for all cells and rows: the ways into the translation of sources.

Called by functions.py for a whole step, and where numpy.vectorize, numpy.apply_along_axis or pandas' apply meet one.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import Trace, Traced
from edgeml.converters.function_builtins import TABLE
from edgeml.converters.function_calls import traces
from edgeml.converters.function_source import Interpreter
from edgeml.converters.function_state import Closure, Frame, is_hashable, is_number
from edgeml.converters.function_text import Source, is_users, plain_function, source_of
from edgeml.converters.function_ufuncs import expand


def translatable(function: Any) -> bool:
    """Whether there is a source to translate, or, of what NumPy does not let stand-ins record, a translation."""
    inner = function.pyfunc if isinstance(function, np.vectorize) else function
    inner = inner.func if isinstance(inner, partial) else inner
    if is_hashable(inner) and inner in TABLE:
        return True
    return source_of(plain_function(inner)) is not None


def translate(trace: Trace, function: Any, X: Any, options: Mapping[str, Any]) -> Any:
    """What ``function(X, **options)`` gives, by its source."""
    return Interpreter(trace).expressions.call(_outside(), function, [X], dict(options))


def _outside() -> Frame:
    """The frame of what calls the function."""
    nothing = ast.parse("lambda: 0", mode="eval").body
    assert isinstance(nothing, ast.Lambda)
    return Frame(Source(nothing, {}, "", {}), "python", {})


def of_cells(trace: Trace, function: Any, arrays: Sequence[Any]) -> Traced:
    """A user's function of single cells, of every cell."""
    return over_cells(Interpreter(trace), _outside(), function, arrays, None)


def of_row(trace: Trace, function: Any, row: Any) -> Traced:
    """A user's function of one row, of every row."""
    interpreter = Interpreter(trace)
    result = interpreter.call(function, [row], {}, "python")
    if isinstance(result, Traced) and result.mixed:
        raise trace.refuse(
            "answers are whole numbers in one case and floats in another, and the type of all depends on other rows",
            "return floats in every case",
        )
    return interpreter.expressions.gathered(result)


def over_cells(interpreter: Interpreter, frame: Frame, function: Any, arrays: Sequence[Any], otypes: Any) -> Traced:
    """numpy.vectorize: the function of single cells, of every cell; arrays broadcast first."""
    trace = interpreter.trace
    whole = [a for a in arrays if isinstance(a, Traced)]
    widest = max(whole, key=lambda a: (a.value.width, a.ndim))
    cells = []
    for a in arrays:
        if isinstance(a, Traced):
            value = a.value.cast("float64") if a.dtype.kind == "f" else a.value
            if a.value.dtype == "string" or (a.row_axis is None and a.shape):
                raise trace.refuse("numpy.vectorize over strings", "encode strings first")
            cell = Traced(trace, expand(value, widest.value.width), ())
            cell.plain = True
            cells.append(cell)
        elif np.ndim(a) == 0:
            cells.append(a.item() if isinstance(a, np.generic) else a)
        else:
            raise trace.refuse("numpy.vectorize over a constant array", "pass numbers, or columns of X")
    result = interpreter.call(function, cells, {}, frame.mode, frame.path)
    if not is_number(result) or (isinstance(result, Traced) and result.shape):
        raise trace.refuse(f"{type(result).__name__} for a cell", "return one number")
    if isinstance(result, Traced) and result.mixed and not otypes:
        raise trace.refuse(
            "answers are whole numbers in one case and floats in another, and the type of all depends on other rows",
            "return floats in every case, or give numpy.vectorize otypes=[float]",
        )
    if not isinstance(result, Traced):
        result = Traced(trace, trace.builder.constant(np.asarray(result)), ())
    array = Traced(trace, expand(result.value, widest.value.width), widest.shape)
    return array.astype(np.dtype(otypes[0])) if otypes else array


@traces(np.apply_along_axis)
def _apply_along_axis(trace: Trace, func1d: Any, axis: int, arr: Any) -> Any:
    """A function of one row, for every row."""
    if not isinstance(arr, Traced) or arr.free_axis is None or axis % arr.ndim != arr.free_axis:
        raise trace.across(f"apply_along_axis with axis={axis}")
    row = arr.like(arr.value, (arr.value.width,), view=True)
    if isinstance(func1d, Closure) or is_users(plain_function(func1d)):
        return of_row(trace, func1d, row)
    return arr.like(func1d(row).value, (arr.shape[0],))
