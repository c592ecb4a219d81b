"""Python's built-in functions, and constructors of NumPy and pandas, in functions that are translated.

``TABLE`` maps each to a function of the interpreter's expressions, the frame of the call, and the arguments. Called by
function_expressions.py where an argument is a stand-in.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.converters.function_arrays import Rows, Traced
from edgeml.converters.function_calls import FUNCTIONS, call_function
from edgeml.converters.function_math import to_int
from edgeml.converters.function_state import AllRows, Frame, RowIndex, arrays_in, both, either

if TYPE_CHECKING:
    from edgeml.converters.function_expressions import Expressions

TABLE: dict[Any, Callable[..., Any]] = {}


def _stands_for(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        TABLE.update(dict.fromkeys(functions, function))
        return function

    return enter


@_stands_for(len)
def _len(e: Expressions, frame: Frame, x: Any) -> Any:
    if isinstance(x, (list, tuple, dict, set)):
        return len(x)
    return x.shape[0] if getattr(x, "shape", ()) else len(x)


@_stands_for(range)
def _range(e: Expressions, frame: Frame, *ends: Any) -> Any:
    if isinstance(ends[-1] if len(ends) < 3 else None, Rows) and ends[:-1] in ((), (0,)):
        return AllRows(RowIndex(e.trace))
    raise e.trace.refuse("a range whose ends depend on cells or rows", "use a range of constants, or of all rows")


@_stands_for(enumerate)
def _enumerate(e: Expressions, frame: Frame, items: Any, start: int = 0) -> Any:
    row = e.rows_of(items)
    return enumerate(items, start) if row is None else AllRows((RowIndex(e.trace), row))


@_stands_for(zip)
def _zip(e: Expressions, frame: Frame, *items: Any, strict: bool = False) -> Any:
    rows = [e.rows_of(x) for x in items]
    if all(r is None for r in rows):
        return list(zip(*items, strict=strict))
    if any(r is None for r in rows):
        raise e.trace.across("zip of rows with something else")
    return AllRows(tuple(rows))


@_stands_for(map)
def _map(e: Expressions, frame: Frame, function: Any, *items: Any) -> Any:
    rows = [e.rows_of(x) for x in items]
    if all(r is None for r in rows):
        return [e.call(frame, function, list(xs), {}) for xs in zip(*items, strict=False)]
    if any(r is None for r in rows):
        raise e.trace.across("map over rows and something else")
    return AllRows(e.call(frame, function, rows, {}))


@_stands_for(list, tuple)
def _list(e: Expressions, frame: Frame, items: Any) -> Any:
    return e.gathered(items.item) if isinstance(items, AllRows) else items if e.rows_of(items) else list(items)


@_stands_for(abs)
def _abs(e: Expressions, frame: Frame, x: Any) -> Any:
    return _as(np.abs(e.number(x)) if isinstance(x, Traced) else abs(x), x)


def _as(result: Any, like: Any) -> Any:
    """The result, as Python's own number where the operand is one."""
    if isinstance(result, Traced) and isinstance(like, Traced) and not result.plain:
        result.plain = like.plain
    return result


@_stands_for(float)
def _float(e: Expressions, frame: Frame, x: Any) -> Any:
    cell = _cell(e, x).astype(np.float64)
    cell.plain = True
    return cell


@_stands_for(int)
def _int(e: Expressions, frame: Frame, x: Any) -> Any:
    cell = _cell(e, x)
    return to_int(e, frame, np.trunc(cell) if cell.dtype.kind == "f" else cell)


@_stands_for(bool)
def _bool(e: Expressions, frame: Frame, x: Any) -> Any:
    cell = _cell(e, x).astype(bool)
    cell.plain = True
    return cell


def _cell(e: Expressions, x: Any) -> Traced:
    if not isinstance(x, Traced) or x.shape:
        raise e.trace.refuse(f"a number made of {type(x).__name__}", "take one cell")
    return x


@_stands_for(round)
def _round(e: Expressions, frame: Frame, x: Any, digits: Any = None) -> Any:
    if digits is not None:
        raise e.trace.refuse("round(x, digits) of Python, which rounds decimals exactly", "use numpy.round(x, digits)")
    cell = _cell(e, x)
    return to_int(e, frame, np.rint(cell))


@_stands_for(pow)
def _pow(e: Expressions, frame: Frame, x: Any, y: Any) -> Any:
    return e.operate(frame, ast.Pow(), x, y)


@_stands_for(divmod)
def _divmod(e: Expressions, frame: Frame, x: Any, y: Any) -> Any:
    return e.operate(frame, ast.FloorDiv(), x, y), e.operate(frame, ast.Mod(), x, y)


def _items(items: tuple[Any, ...]) -> list[Any]:
    return list(items[0] if len(items) == 1 else items)


@_stands_for(max)
def _max(e: Expressions, frame: Frame, *items: Any) -> Any:
    """Python's: the first of equals, and whatever comparisons with NaN leave."""
    return _chosen(e, items, lambda new, best: new > best)


@_stands_for(min)
def _min(e: Expressions, frame: Frame, *items: Any) -> Any:
    return _chosen(e, items, lambda new, best: new < best)


def _chosen(e: Expressions, items: tuple[Any, ...], better: Callable[[Any, Any], Any]) -> Any:
    best, *others = _items(items)
    for new in others:
        best = e.interpreter.merged(e.truth(better(new, best)), new, best, "max or min")
    return best


@_stands_for(sum)
def _sum(e: Expressions, frame: Frame, items: Any, start: Any = 0) -> Any:
    total = start
    for item in _items((items,)):
        total = e.operate(frame, ast.Add(), total, item)
    return total


@_stands_for(any)
def _any(e: Expressions, frame: Frame, items: Any) -> Any:
    found: Any = False
    for item in items:
        found = either(found, e.truth(item))
    return found


@_stands_for(all)
def _all(e: Expressions, frame: Frame, items: Any) -> Any:
    found: Any = True
    for item in items:
        found = both(found, e.truth(item))
    return found


@_stands_for(isinstance)
def _isinstance(e: Expressions, frame: Frame, x: Any, kinds: Any) -> bool:
    if isinstance(x, Traced) and not x.shape:
        number: Any = float if x.dtype.kind == "f" else int if x.dtype.kind == "i" else bool
        return issubclass(number if x.plain else x.dtype.type, kinds)
    return isinstance(x, kinds)


@_stands_for(print)
def _print(e: Expressions, frame: Frame, *_: Any, **__: Any) -> None:
    """Nothing: an answer does not depend on it."""


# --- arrays --------------------------------------------------------------------------------------------------------
def _tall(number: float | None) -> Callable[..., Any]:
    def make(e: Expressions, frame: Frame, shape: Any, *given: Any, dtype: Any = float) -> Any:
        sizes = shape if isinstance(shape, tuple) else (shape,)
        fill, rest = (number, given) if number is not None else (given[0], given[1:])
        wanted = np.dtype(rest[0] if rest else dtype)
        if number is None and not rest and dtype is float:
            wanted = np.asarray(fill).dtype
        if not isinstance(sizes[0], Rows) or len(sizes) > 2 or any(isinstance(n, Rows) for n in sizes[1:]):
            raise e.trace.across(f"an array of shape {sizes}")
        if wanted.name not in ("float64", "float32", "int64", "bool"):
            raise e.trace.refuse(f"an array of {wanted}", "use float, numpy.float32, int or bool")
        width = sizes[1] if len(sizes) == 2 else 1
        return Traced(e.trace, e.trace.builder.constant(np.full(width, fill, dtype=wanted)), sizes)

    return make


_stands_for(np.zeros, np.empty)(_tall(0.0))
_stands_for(np.ones)(_tall(1.0))
_stands_for(np.full)(_tall(None))


@_stands_for(np.array, np.asarray, np.asanyarray, np.ascontiguousarray)
def _array(e: Expressions, frame: Frame, x: Any, dtype: Any = None, copy: Any = None) -> Any:
    """An array of what is one already, of columns, or of the cells of a row."""
    if isinstance(x, AllRows):
        x = e.gathered(x.item)
    if isinstance(x, (list, tuple)):
        x = FUNCTIONS[np.stack](e.trace, [arrays_in(item) for item in x])
    elif not isinstance(x, Traced):
        x = x.to_numpy()
    return call_function(e.trace, np.asarray, (x,), {"dtype": dtype}).copy()
