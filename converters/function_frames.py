"""Stand-ins for a pandas frame and its columns, for functions that are called with a frame.

In comes a Block whose columns have names; a function picks, computes, adds, renames and drops columns, as the methods
here allow; out goes a Block again. Answers follow pandas: reductions skip missing cells, operands meet by name. NumPy's
functions on a column give what they give on its cells. Called by functions.py.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_calls import call_function
from edgeml.converters.function_ufuncs import call_ufunc, where


def frame_of(trace: Trace, X: Block) -> TracedFrame:
    """The stand-in of a Block of form "frame"."""
    rows = Rows(trace)
    names = X.names or [str(i) for i in range(X.width)]
    columns = {n: Traced(trace, X.column(i), (rows,), given=True) for i, n in enumerate(names)}
    return TracedFrame(trace, columns, rows, given=True)


class _Pandas:
    """What a frame and a column share: every operator and ufunc goes cell by cell through ``_apply``."""

    _outranks_arrays = True
    trace: Trace

    def _apply(self, function: Callable[..., Any], operands: Sequence[Any]) -> Any:
        raise NotImplementedError

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise self.trace.refuse(f"numpy.{ufunc.__name__} with options, of a frame", "use X.to_numpy()")
        outer = next((x for x in inputs if isinstance(x, TracedFrame)), self)
        return outer._apply(lambda *xs: call_ufunc(self.trace, ufunc, xs), inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """NumPy's functions see the cells; those that have a method of pandas give what it gives."""
        name = function.__name__
        method = {"amax": "max", "amin": "min", "around": "round"}.get(name, name)
        if args and args[0] is self and method in _METHODS_OF_PANDAS and hasattr(type(self), method):
            return getattr(self, method)(*args[1:], **kwargs)
        cells = [_cells(a) for a in args]
        return call_function(self.trace, function, cells, {k: _cells(v) for k, v in kwargs.items()})

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.trace.refuse(
            "the cells are read as they are, by a function that is not in the vocabulary",
            "use functions of the documented vocabulary (README)",
        )

    def __bool__(self) -> bool:
        raise self.trace.refuse("a branch (if, and, or, not) depends on the cells", "use numpy.where, &, | and ~")

    def __getattr__(self, name: str) -> Any:
        import pandas as pd

        kind = pd.DataFrame if isinstance(self, TracedFrame) else pd.Series
        if name.startswith("_") or not hasattr(kind, name):
            raise AttributeError(f"no attribute {name!r}")
        raise self.trace.refuse(f".{name} of pandas", "use the documented vocabulary, or X.to_numpy() and NumPy")

    def __len__(self) -> int:
        raise self.trace.across("len(…)")

    def _two(self, function: Callable[..., Any], other: Any) -> Any:
        if isinstance(other, TracedFrame) and not isinstance(self, TracedFrame):
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
        return self._apply(lambda x: _is_in(x, list(values)), (self,))


def _operator(function: Callable[..., Any], *, reflected: bool = False, whole: bool = True) -> Callable[..., Any]:
    def method(self: _Pandas, other: Any) -> Any:
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
    setattr(_Pandas, f"__{_name}__", _operator(_function, whole=_whole))
    setattr(_Pandas, f"__r{_name}__", _operator(_function, reflected=True, whole=_whole))
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(_Pandas, f"__{_name}__", _operator(getattr(operator, _name)))

_METHODS_OF_PANDAS = ("sum", "mean", "max", "min", "std", "var", "round", "clip", "any", "all", "median")


def _cells(x: Any) -> Any:
    """NumPy's view of an argument, inside lists too."""
    if isinstance(x, TracedSeries):
        return x.array
    if isinstance(x, TracedFrame):
        return x.to_numpy()
    return type(x)(_cells(item) for item in x) if type(x) in (list, tuple) else x


def _missing(x: Traced) -> Traced:
    """pandas.isna."""
    if x.value.dtype == "string":
        return x.like(x.trace.builder.is_nan(x.value) | x.trace.builder.is_none(x.value))
    result: Traced = np.isnan(x)
    return result


def _is_in(x: Traced, keys: list[Any]) -> Traced:
    if x.value.dtype != "string":
        result: Traced = np.isin(x, keys)
        return result
    if not all(isinstance(k, str) for k in keys):
        raise x.trace.refuse("isin of strings and others", "give a list of strings")
    return x.like(x.trace.builder.lookup(x.value, tuple(keys)) >= 0)


class TracedSeries(_Pandas):
    """One column: ``array`` of shape (rows,)."""

    def __init__(self, trace: Trace, array: Traced, name: str | None) -> None:
        self.trace, self.array, self.name = trace, array, name

    @property
    def __class__(self) -> type:
        import pandas as pd

        return pd.Series

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

    def to_frame(self, name: str | None = None) -> TracedFrame:
        return TracedFrame(self.trace, {str(name or self.name): self.array}, _rows(self.array))

    def copy(self, deep: bool = True) -> TracedSeries:
        return TracedSeries(self.trace, self.array.copy(), self.name)

    def rename(self, name: str) -> TracedSeries:
        return TracedSeries(self.trace, self.array, name)

    def astype(self, dtype: Any) -> TracedSeries:
        return TracedSeries(self.trace, self.array.astype(dtype), self.name)

    def _apply(self, function: Callable[..., Any], operands: Sequence[Any]) -> TracedSeries:
        result = function(*(_cells(x) for x in operands))
        if not isinstance(result, Traced) or result.ndim != 1:
            raise self.trace.refuse("an operation of a column that gives no column", "use X.to_numpy()")
        return TracedSeries(self.trace, result, self.name)

    def fillna(self, value: Any) -> TracedSeries:
        return TracedSeries(self.trace, _filled(self.array, _cells(value)), self.name)

    def between(self, left: Any, right: Any) -> Any:
        return (self >= left) & (self <= right)  # type: ignore[operator]  # set from the table of operators

    def apply(self, func: Any) -> TracedSeries:
        """A function of single cells, or one of NumPy's of the column."""
        if isinstance(func, np.ufunc) and not hasattr(func, "_dispatcher"):
            result: TracedSeries = func(self)
            return result
        from edgeml.converters.function_source import of_cells

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


def _rows(array: Traced) -> Rows:
    rows = array.shape[0]
    assert isinstance(rows, Rows)
    return rows


def _filled(array: Traced, value: Any) -> Traced:
    missing = _missing(array)
    if array.value.dtype != "string":
        result: Traced = where(array.trace, missing, value, array)
        return result
    if not isinstance(value, str):
        raise array.trace.refuse("fillna of strings with something else", "fill strings with a string")
    return array.like(array.trace.builder.where(missing.value, (value,), array.value))


class TracedFrame(_Pandas):
    """Columns by name, each an array of shape (rows,). ``given`` marks the function's own argument."""

    def __init__(self, trace: Trace, columns: Mapping[str, Traced], rows: Rows, *, given: bool = False) -> None:
        self.trace, self._columns, self._rows, self._given = trace, dict(columns), rows, given

    @property
    def __class__(self) -> type:
        import pandas as pd

        return pd.DataFrame

    @__class__.setter
    def __class__(self, _: type) -> None:
        raise TypeError("a stand-in keeps its class")

    @property
    def columns(self) -> Any:
        import pandas as pd

        return pd.Index(list(self._columns))

    @property
    def index(self) -> Any:
        """Of the rows; it can be handed on to pandas.DataFrame, which has the same rows."""
        return self._rows

    @property
    def shape(self) -> tuple[Rows, int]:
        return self._rows, len(self._columns)

    @property
    def dtypes(self) -> Any:
        import pandas as pd

        return pd.Series({n: a.dtype for n, a in self._columns.items()})

    def _new(self, columns: Mapping[str, Traced]) -> TracedFrame:
        return TracedFrame(self.trace, columns, self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def keys(self) -> Any:
        return self.columns

    def items(self) -> Iterator[tuple[str, TracedSeries]]:
        return iter((n, TracedSeries(self.trace, a, n)) for n, a in self._columns.items())

    # --- columns
    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return TracedSeries(self.trace, self._columns[key], key)
        if isinstance(key, _Pandas) or isinstance(key, slice):
            raise self.trace.across("a choice of rows")
        return self._new({n: self._columns[n] for n in key})

    def __getattr__(self, name: str) -> Any:
        columns = self.__dict__.get("_columns", {})
        return self[name] if name in columns else super().__getattr__(name)

    @property
    def iloc(self) -> _Indexer:
        return _Indexer(self, by_name=False)

    @property
    def loc(self) -> _Indexer:
        return _Indexer(self, by_name=True)

    def __setitem__(self, name: Any, new: Any) -> None:
        if self._given:
            raise self.trace.refuse("an assignment to a column changes the function's argument", "X = X.copy() first")
        names = [name] if isinstance(name, str) else list(name)
        if isinstance(new, TracedFrame):
            parts = list(new._columns.values())
        else:
            parts = [self._column(new)] if len(names) == 1 else [self._column(new[:, j]) for j in range(len(names))]
        self._columns.update(zip(names, parts, strict=True))

    def _column(self, new: Any) -> Traced:
        cells = _cells(new)
        if isinstance(cells, Traced) and cells.ndim == 2 and cells.value.width == 1:
            cells = cells.ravel()
        if isinstance(cells, Traced):
            return cells
        first = next(iter(self._columns.values()))
        if np.ndim(cells) or isinstance(cells, str):
            raise self.trace.across(f"a column made of {type(new).__name__}")
        return Traced(self.trace, self.trace.builder.constant(np.asarray(cells)), first.shape)

    def assign(self, **new: Any) -> TracedFrame:
        result = self.copy()
        for name, column in new.items():
            result[name] = column(result) if callable(column) and not isinstance(column, _Pandas) else column
        return result

    def copy(self, deep: bool = True) -> TracedFrame:
        return self._new({n: a.copy() for n, a in self._columns.items()})

    def drop(self, labels: Any = None, axis: Any = 0, columns: Any = None) -> TracedFrame:
        gone = columns if columns is not None else labels if axis in (1, "columns") else None
        if gone is None:
            raise self.trace.across("drop of rows")
        names = [gone] if isinstance(gone, str) else list(gone)
        if not set(names) <= set(self._columns):
            raise KeyError(f"{names} not found in axis")
        return self._new({n: a for n, a in self._columns.items() if n not in names})

    def rename(self, columns: Any) -> TracedFrame:
        name = columns if callable(columns) else lambda n: columns.get(n, n)
        return self._new({name(n): a for n, a in self._columns.items()})

    def add_prefix(self, prefix: str) -> TracedFrame:
        return self.rename(lambda n: prefix + n)

    def add_suffix(self, suffix: str) -> TracedFrame:
        return self.rename(lambda n: n + suffix)

    # --- cells
    def to_numpy(self, dtype: Any = None) -> Traced:
        block = self.as_block().as_array()
        if not block.values or len({v.dtype for v in block.values}) > 1 or block.form == "object":
            raise self.trace.refuse("an array of columns of several types", "pick columns of one type first")
        value = self.trace.builder.concat(list(block.values))
        held = "object" if value.dtype == "string" else block.numpy.name
        array = Traced(self.trace, value.held_as(held), self.shape)
        return array if dtype is None else array.astype(dtype)

    @property
    def values(self) -> Traced:
        return self.to_numpy()

    def astype(self, dtype: Any) -> TracedFrame:
        wanted = dtype if isinstance(dtype, Mapping) else dict.fromkeys(self._columns, dtype)
        return self._new({n: a.astype(wanted[n]) if n in wanted else a for n, a in self._columns.items()})

    def fillna(self, value: Any) -> TracedFrame:
        wanted = value if isinstance(value, Mapping) else dict.fromkeys(self._columns, value)
        return self._new({n: _filled(a, wanted[n]) if n in wanted else a for n, a in self._columns.items()})

    def apply(self, func: Any, axis: Any = 0) -> Any:
        if axis not in (0, "index"):
            from edgeml.converters.function_source import of_row

            array = of_row(self.trace, func, Record(self))
            if array.ndim > 1:
                raise self.trace.refuse("apply over rows that gives several numbers a row", "assign column by column")
            return TracedSeries(self.trace, array, None)
        parts = {n: func(s) for n, s in self.items()}
        if not all(isinstance(p, TracedSeries) for p in parts.values()):
            raise self.trace.across("apply with a function that reduces a column")
        return self._new({n: p.array for n, p in parts.items()})

    def _apply(self, function: Callable[..., Any], operands: Sequence[Any]) -> TracedFrame:
        return self._new({n: function(*(self._part(x, n, j) for x in operands)) for j, n in enumerate(self._columns)})

    def _part(self, x: Any, name: str, place: int) -> Any:
        if isinstance(x, TracedFrame):
            if set(x._columns) != set(self._columns):
                raise self.trace.refuse("an operation of frames with other columns", "pick the same columns of both")
            return x._columns[name]
        if isinstance(x, TracedSeries):
            raise self.trace.refuse("an operation of a frame and a column", "use frame.div(column, axis=0) and its kin")
        if isinstance(x, Traced):
            return x[:, place] if x.ndim == 2 and x.value.width == len(self._columns) else x.ravel()
        cells = np.asarray(x)
        return x if cells.ndim == 0 else cells.ravel()[place] if cells.size == len(self._columns) else x

    def _by(self, function: Callable[..., Any], other: Any, axis: Any) -> TracedFrame:
        if isinstance(other, TracedSeries) and axis in (0, "index"):
            return self._new({n: function(a, other.array) for n, a in self._columns.items()})
        result: TracedFrame = self._two(function, other)
        return result

    def add(self, other: Any, axis: Any = "columns") -> TracedFrame:
        return self._by(operator.add, other, axis)

    def sub(self, other: Any, axis: Any = "columns") -> TracedFrame:
        return self._by(operator.sub, other, axis)

    def mul(self, other: Any, axis: Any = "columns") -> TracedFrame:
        return self._by(operator.mul, other, axis)

    def div(self, other: Any, axis: Any = "columns") -> TracedFrame:
        return self._by(operator.truediv, other, axis)

    truediv, divide, subtract, multiply = div, div, sub, mul

    # --- along the row
    def _reduce(self, plain: Any, skipping: Any, axis: Any, skipna: bool, **options: Any) -> TracedSeries:
        if axis not in (1, "columns"):
            raise self.trace.across(f"{plain.__name__} over rows")
        array = self.to_numpy()
        function = skipping if skipna and array.dtype.kind == "f" else plain
        return TracedSeries(self.trace, function(array, axis=1, **options), None)

    def sum(self, axis: Any = 0, skipna: bool = True) -> TracedSeries:
        return self._reduce(np.sum, np.nansum, axis, skipna)

    def mean(self, axis: Any = 0, skipna: bool = True) -> TracedSeries:
        return self._reduce(np.mean, np.nanmean, axis, skipna)

    def max(self, axis: Any = 0, skipna: bool = True) -> TracedSeries:
        return self._reduce(np.max, np.nanmax, axis, skipna)

    def min(self, axis: Any = 0, skipna: bool = True) -> TracedSeries:
        return self._reduce(np.min, np.nanmin, axis, skipna)

    def std(self, axis: Any = 0, skipna: bool = True, ddof: int = 1) -> TracedSeries:
        return self._reduce(np.std, np.nanstd, axis, skipna, ddof=ddof)

    def var(self, axis: Any = 0, skipna: bool = True, ddof: int = 1) -> TracedSeries:
        return self._reduce(np.var, np.nanvar, axis, skipna, ddof=ddof)

    def any(self, axis: Any = 0) -> TracedSeries:
        return self._reduce(np.any, np.any, axis, False)

    def all(self, axis: Any = 0) -> TracedSeries:
        return self._reduce(np.all, np.all, axis, False)

    def as_block(self) -> Block:
        """The columns as a Block of a frame."""
        return Block(*(a.value for a in self._columns.values()), names=list(self._columns), form="frame")


class Record:
    """One row of a frame, in a function that ``apply(axis=1)`` is given: a cell by the name of its column."""

    def __init__(self, frame: TracedFrame) -> None:
        numbers = not any(a.value.dtype == "string" for a in frame._columns.values())
        array = frame.to_numpy() if numbers else None  # pandas makes one dtype of a row of numbers
        self._cells = {
            n: a.like(a.value if array is None else array[:, j].value, ())
            for j, (n, a) in enumerate(frame._columns.items())
        }

    _outranks_arrays = True

    def __getitem__(self, name: Any) -> Traced:
        return self._cells[name] if isinstance(name, str) else list(self._cells.values())[name]

    def __getattr__(self, name: str) -> Traced:
        if name.startswith("_") or name not in self._cells:
            raise AttributeError(name)
        return self._cells[name]


def construct(trace: Trace, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """pandas.DataFrame, Series and concat of stand-ins."""
    given = dict(zip(("data", "index", "columns"), args, strict=False)) | dict(kwargs)
    data = given.get("data", given.get("objs"))
    if name == "Series" and isinstance(data, Traced):
        return TracedSeries(trace, data, given.get("name"))
    if name == "concat" and given.get("axis") in (1, "columns"):
        parts = [p.to_frame() if isinstance(p, TracedSeries) else p for p in data]
        columns = {n: a for p in parts for n, a in p._columns.items()}
        return TracedFrame(trace, columns, parts[0]._rows)
    if name == "DataFrame" and isinstance(data, Traced) and data.ndim == 2 and given.get("columns") is not None:
        names = list(given["columns"])
        return TracedFrame(trace, {n: data[:, j] for j, n in enumerate(names)}, _rows(data))
    if name == "DataFrame" and isinstance(data, Mapping):
        first = next((_cells(v) for v in data.values() if isinstance(_cells(v), Traced)), None)
        if first is not None:
            frame = TracedFrame(trace, {"": first}, _rows(first))
            return TracedFrame(trace, {n: frame._column(v) for n, v in data.items()}, _rows(first))
    raise trace.refuse(f"pandas.{name} of this", "use DataFrame of a dict of columns, or concat(axis=1)")


class _Indexer:
    """.loc and .iloc, for all rows and some columns."""

    def __init__(self, frame: TracedFrame, by_name: bool) -> None:
        self._frame, self._by_name = frame, by_name

    def _names(self, key: Any) -> Any:
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        if not (isinstance(rows, slice) and rows == slice(None)):
            raise self._frame.trace.across("a choice of rows")
        if self._by_name and not isinstance(columns, slice):
            return columns
        names = np.array(list(self._frame._columns), dtype=object)
        if self._by_name and columns != slice(None):
            raise self._frame.trace.refuse("a range of names in .loc", "give a list of names")
        return names[columns]

    def __getitem__(self, key: Any) -> Any:
        names = self._names(key)
        return self._frame[names if isinstance(names, str) else list(names)]

    def __setitem__(self, key: Any, new: Any) -> None:
        names = self._names(key)
        self._frame[names if isinstance(names, str) else list(names)] = new
