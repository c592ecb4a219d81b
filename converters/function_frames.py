"""Stand-ins for a pandas frame and its columns, for functions that are called with a frame.

In comes a Block whose columns have names; a function picks, computes, adds, renames and drops columns, as the methods
here allow; out goes a Block again. Answers follow pandas: reductions skip missing cells, operands meet by name. NumPy's
functions on a column give what they give on its cells. Called by functions.py.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.function_arrays import Rows, Trace, Traced
from edgeml.converters.function_series import Pandas, TracedSeries, cells_of, filled, rows_in


def frame_of(trace: Trace, X: Block) -> TracedFrame:
    """The stand-in of a Block of form "frame"."""
    rows = Rows(trace)
    names = X.names or [str(i) for i in range(X.width)]
    columns = {n: Traced(trace, X.column(i), (rows,), given=True) for i, n in enumerate(names)}
    return TracedFrame(trace, columns, rows, given=True)


class TracedFrame(Pandas):
    """Columns by name, each an array of shape (rows,). ``given`` marks the function's own argument."""

    _is_frame = True

    def __init__(self, trace: Trace, columns: Mapping[str, Traced], rows: Rows, *, given: bool = False) -> None:
        self.trace, self._columns, self._rows, self._given = trace, dict(columns), rows, given

    @property
    def __class__(self) -> type:
        import pandas as pd

        kind: type = pd.DataFrame
        return kind

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
        if isinstance(key, (Pandas, slice)):
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

    def _own(self) -> None:
        """Raise Refused where a change would be one of the function's argument."""
        if self._given:
            raise self.trace.refuse("an assignment to a column changes the function's argument", "X = X.copy() first")

    def __setitem__(self, name: Any, new: Any) -> None:
        self._own()
        names = [name] if isinstance(name, str) else list(name)
        if isinstance(new, TracedFrame):
            parts = list(new._columns.values())
        else:
            parts = [self._column(new)] if len(names) == 1 else [self._column(new[:, j]) for j in range(len(names))]
        self._columns.update(zip(names, parts, strict=True))

    def _column(self, new: Any) -> Traced:
        cells = cells_of(new)
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
            result[name] = column(result) if callable(column) and not isinstance(column, Pandas) else column
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

    def insert(self, loc: int, column: str, value: Any) -> None:
        self._own()
        if column in self._columns:
            raise ValueError(f"cannot insert {column}, already exists")
        behind = list(self._columns.items())[loc:]
        self._columns = {n: a for n, a in self._columns.items() if n not in dict(behind)}
        self._columns |= {column: self._new(dict(behind) or self._columns)._column(value), **dict(behind)}

    def pop(self, item: str) -> TracedSeries:
        self._own()
        return TracedSeries(self.trace, self._columns.pop(item), item)

    def filter(
        self, items: Any = None, like: str | None = None, regex: str | None = None, axis: Any = 1
    ) -> TracedFrame:
        if axis not in (1, "columns") or sum(x is not None for x in (items, like, regex)) != 1:
            raise self.trace.refuse("filter by other than one of items, like and regex", "pick columns by name: X[[…]]")
        if items is not None:
            return self._new({n: self._columns[n] for n in items if n in self._columns})
        kept = [n for n in self._columns if (like in n if like is not None else re.search(regex or "", n))]
        return self._new({n: self._columns[n] for n in kept})

    def reindex(self, columns: Any) -> TracedFrame:
        if not set(columns) <= set(self._columns):
            raise self.trace.refuse("reindex with columns that are not there", "assign them: X.assign(name=…)")
        return self._new({n: self._columns[n] for n in columns})

    def select_dtypes(self, include: Any = None, exclude: Any = None) -> TracedFrame:
        within, without = self._of_types(include), self._of_types(exclude)
        kept = {n for n in self._columns if (include is None or n in within) and n not in without}
        return self._new({n: a for n, a in self._columns.items() if n in kept})

    def _of_types(self, wanted: Any) -> set[str]:
        """Names of the columns of numbers, or of bools; pandas alone tells texts, dates and numbers of one size."""
        found: set[str] = set()
        for one in [] if wanted is None else wanted if isinstance(wanted, (list, tuple, set)) else [wanted]:
            if one not in ("number", np.number, "bool", bool):
                raise self.trace.refuse(f"select_dtypes by {one!r}", "use 'number' or 'bool', or pick columns by name")
            kinds = ("float64", "float32", "int64") if one in ("number", np.number) else ("bool",)
            found |= {n for n, a in self._columns.items() if a.value.dtype in kinds and a.value.numpy[:8] != "datetime"}
        return found

    def pipe(self, func: Any, *args: Any, **options: Any) -> Any:
        return func(self, *args, **options)

    # --- cells
    def map(self, func: Any) -> TracedFrame:
        return self._new({n: s.apply(func).array for n, s in self.items()})

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
        return self._new({n: filled(a, wanted[n]) if n in wanted else a for n, a in self._columns.items()})

    def apply(self, func: Any, axis: Any = 0) -> Any:
        if axis not in (0, "index"):
            from edgeml.converters.function_cells import of_row

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
    data: Any = given.get("data", given.get("objs"))
    if name == "Series" and isinstance(data, Traced):
        return TracedSeries(trace, data, given.get("name"))
    if name == "concat" and given.get("axis") in (1, "columns"):
        parts = [p.to_frame() if isinstance(p, TracedSeries) else p for p in data]
        columns = {n: a for p in parts for n, a in p._columns.items()}
        return TracedFrame(trace, columns, parts[0]._rows)
    if name == "DataFrame" and isinstance(data, Traced) and data.ndim == 2 and given.get("columns") is not None:
        names = list(given["columns"])
        return TracedFrame(trace, {n: data[:, j] for j, n in enumerate(names)}, rows_in(data))
    if name == "DataFrame" and isinstance(data, Mapping):
        first = next((cells_of(v) for v in data.values() if isinstance(cells_of(v), Traced)), None)
        if first is not None:
            frame = TracedFrame(trace, {"": first}, rows_in(first))
            return TracedFrame(trace, {n: frame._column(v) for n, v in data.items()}, rows_in(first))
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
        if self._by_name and isinstance(key, tuple) and isinstance(key[0], TracedSeries):
            for name in [key[1]] if isinstance(key[1], str) else key[1]:
                self._frame[name] = self._frame[name].mask(key[0], new)
            return
        names = self._names(key)
        self._frame[names if isinstance(names, str) else list(names)] = new
