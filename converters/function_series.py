"""Stand-ins for pandas' objects: what frames and columns share, and a column.

The frame is in function_frames.py. NumPy's functions on a column give what they give on its cells.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_calls import call_function
from edgeml.converters.function_ufuncs import call_ufunc, where


class Pandas:
    """What a frame and a column share: every operator and ufunc goes cell by cell through ``_apply``."""

    _outranks_arrays = True
    _is_frame = False
    trace: Trace

    def _apply(self, function: Callable[..., Any], operands: Sequence[Any]) -> Any:
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise self.trace.refuse(f"numpy.{ufunc.__name__} with options, of a frame", "use X.to_numpy()")
        outer = next((x for x in inputs if getattr(x, "_is_frame", False)), self)
        return outer._apply(lambda *xs: call_ufunc(self.trace, ufunc, xs), inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions see the cells; those that have a method of pandas give what it gives."""
        name = function.__name__
        method = {"amax": "max", "amin": "min", "around": "round"}.get(name, name)
        if args and args[0] is self and method in _METHODS_OF_PANDAS and hasattr(type(self), method):
            return getattr(self, method)(*args[1:], **kwargs)
        cells = [cells_of(a) for a in args]
        return call_function(self.trace, function, cells, {k: cells_of(v) for k, v in kwargs.items()})

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.trace.refuse(
            "the cells are read as they are, by a function that is not in the vocabulary",
            "use functions of the documented vocabulary (docs/functions.md)",
        )

    def __bool__(self) -> bool:
        raise self.trace.refuse("a branch (if, and, or, not) depends on the cells", "use numpy.where, &, | and ~")

    def __getattr__(self, name: str) -> Any:
        import pandas as pd

        kind = pd.DataFrame if self._is_frame else pd.Series
        if name.startswith("_") or not hasattr(kind, name):
            raise AttributeError(f"no attribute {name!r}")
        raise self.trace.refuse(f".{name} of pandas", "use the documented vocabulary, or X.to_numpy() and NumPy")

    def __len__(self) -> int:
        raise self.trace.across("len(…)")

    def _two(self, function: Callable[..., Any], other: Any) -> Any:
        if getattr(other, "_is_frame", False) and not self._is_frame:
            raise self.trace.refuse("an operation of a column and a frame", "use frame.div(column, axis=0) and its kin")
        return self._apply(function, (self, other))

    def __neg__(self) -> Any:
        return self._apply(operator.neg, (self,))

    def __abs__(self) -> Any:
        return self._apply(np.abs, (self,))

    def __invert__(self) -> Any:
        return self._apply(operator.invert, (self,))

    abs = __abs__
    __hash__ = None  # type: ignore[assignment]  # as pandas

    # --- methods that go cell by cell
    def isna(self) -> Any:
        return self._apply(_missing, (self,))

    def notna(self) -> Any:
        return self._apply(lambda x: ~_missing(x), (self,))

    isnull, notnull = isna, notna

    def where(self, cond: Any, other: Any = np.nan) -> Any:
        return self._apply(lambda x, c, o: where(self.trace, c, x, o), (self, cond, other))

    def mask(self, cond: Any, other: Any = np.nan) -> Any:
        return self._apply(lambda x, c, o: where(self.trace, c, o, x), (self, cond, other))

    def clip(self, lower: Any = None, upper: Any = None) -> Any:
        return self._apply(lambda x: np.clip(x, lower, upper), (self,))

    def round(self, decimals: int = 0) -> Any:
        return self._apply(lambda x: np.round(x, decimals), (self,))

    def isin(self, values: Any) -> Any:
        return self._apply(lambda x: is_in(x, list(values)), (self,))


def _operator(function: Callable[..., Any], *, reflected: bool = False, whole: bool = True) -> Callable[..., Any]:
    def method(self: Pandas, other: Any) -> Any:
        def compute(x: Any, y: Any) -> Any:
            if not whole and all(
                np.asarray(getattr(v, "dtype", v)).dtype.kind != "f" and not _floats(v) for v in (x, y)
            ):
                raise self.trace.refuse("// and % of whole numbers, whose zeros pandas treats by itself", "use floats")
            return function(y, x) if reflected else function(x, y)

        return self._two(compute, other)

    return method


def _floats(x: Any) -> bool:
    return isinstance(x, float) or getattr(getattr(x, "dtype", None), "kind", "") == "f"


_OPERATORS = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "truediv": operator.truediv,
    "pow": operator.pow,
    "floordiv": operator.floordiv,
    "mod": operator.mod,
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}
for _name, _function in _OPERATORS.items():
    _whole = _name not in ("floordiv", "mod")
    setattr(Pandas, f"__{_name}__", _operator(_function, whole=_whole))
    setattr(Pandas, f"__r{_name}__", _operator(_function, reflected=True, whole=_whole))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Pandas, f"__{_name}__", _operator(getattr(operator, _name)))

_METHODS_OF_PANDAS = ("sum", "mean", "max", "min", "std", "var", "round", "clip", "any", "all", "median")


def cells_of(x: Any) -> Any:
    """NumPy's view of an argument, inside lists too."""
    if isinstance(x, TracedSeries):
        return x.array
    if getattr(x, "_is_frame", False):
        return x.to_numpy()
    return type(x)(cells_of(item) for item in x) if type(x) in (list, tuple) else x


def _missing(x: Traced) -> Traced:
    """pandas.isna."""
    if x.value.dtype == "string":
        return x.like(x.trace.builder.is_nan(x.value) | x.trace.builder.is_none(x.value))
    result: Any = np.isnan(x)
    assert isinstance(result, Traced)
    return result


def is_in(x: Traced, keys: list[Any]) -> Traced:
    if x.value.dtype != "string":
        result: Any = np.isin(x, keys)
        assert isinstance(result, Traced)
        return result
    if not all(isinstance(k, str) for k in keys):
        raise x.trace.refuse("isin of strings and others", "give a list of strings")
    return x.like(x.trace.builder.lookup(x.value, tuple(keys)) >= 0)


class TracedSeries(Pandas):
    """One column: ``array`` of shape (rows,)."""

    def __init__(self, trace: Trace, array: Traced, name: str | None) -> None:
        self.trace, self.array, self.name = trace, array, name

    @property
    def __class__(self) -> type:
        import pandas as pd

        kind: type = pd.Series
        return kind

    @__class__.setter
    def __class__(self, _: type) -> None:
        raise TypeError("a stand-in keeps its class")

    @property
    def dtype(self) -> Any:
        return self.array.dtype

    @property
    def values(self) -> Traced:
        return self.array

    def to_numpy(self, dtype: Any = None) -> Traced:
        return self.array if dtype is None else self.array.astype(dtype)

    def to_frame(self, name: str | None = None) -> Any:
        from edgeml.converters.function_frames import TracedFrame

        return TracedFrame(self.trace, {str(name or self.name): self.array}, rows_in(self.array))

    def copy(self, deep: bool = True) -> TracedSeries:
        return TracedSeries(self.trace, self.array.copy(), self.name)

    def rename(self, name: str) -> TracedSeries:
        return TracedSeries(self.trace, self.array, name)

    def astype(self, dtype: Any) -> TracedSeries:
        return TracedSeries(self.trace, self.array.astype(dtype), self.name)

    def _apply(self, function: Callable[..., Any], operands: Sequence[Any]) -> TracedSeries:
        result = function(*(cells_of(x) for x in operands))
        if not isinstance(result, Traced) or result.ndim != 1:
            raise self.trace.refuse("an operation of a column that gives no column", "use X.to_numpy()")
        return TracedSeries(self.trace, result, self.name)

    def fillna(self, value: Any) -> TracedSeries:
        return TracedSeries(self.trace, filled(self.array, cells_of(value)), self.name)

    def between(self, left: Any, right: Any) -> Any:
        return (self >= left) & (self <= right)

    def apply(self, func: Any) -> TracedSeries:
        """A function of single cells, or one of NumPy's of the column."""
        if isinstance(func, np.ufunc) and not hasattr(func, "_dispatcher"):
            result: TracedSeries = func(self)
            return result

        from edgeml.converters.function_cells import of_cells

        return TracedSeries(self.trace, of_cells(self.trace, func, [self.array]), self.name)

    def map(self, arg: Any) -> TracedSeries:
        """A dict's number for each string, NaN where it has none; a function of single cells."""
        if callable(arg):
            return self.apply(arg)
        if not isinstance(arg, Mapping) or self.array.value.dtype != "string":
            raise self.trace.refuse("Series.map of numbers", "use numpy.select, or map strings by a dict")
        keys, numbers = tuple(arg), [float(v) for v in arg.values()]
        if not all(isinstance(k, str) for k in keys):
            raise self.trace.refuse("Series.map by keys that are not strings", "map strings")
        builder = self.trace.builder
        table = np.asarray([np.nan, *numbers])
        cells = builder.take(builder.lookup(self.array.value, keys) + 1, table)
        return TracedSeries(self.trace, self.array.like(cells), self.name)

    def as_block(self) -> Block:
        return Block(self.array.value)


def rows_in(array: Traced) -> Rows:
    rows = array.shape[0]
    assert isinstance(rows, Rows)
    return rows


def filled(array: Traced, value: Any) -> Traced:
    missing = _missing(array)
    if array.value.dtype != "string":
        result: Traced = where(array.trace, missing, value, array)
        return result
    if not isinstance(value, str):
        raise array.trace.refuse("fillna of strings with something else", "fill strings with a string")
    return array.like(array.trace.builder.where(missing.value, (value,), array.value))
