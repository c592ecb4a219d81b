"""Stand-ins for the arrays that a user's function is called with, so that one call records what it computes.

``Traced`` looks like a NumPy array whose number of rows is not known. Operators, ufuncs and NumPy functions on it add
operations to the program; whatever depends on other rows, or on the cells themselves, is refused with its name and a
way out. The tables of functions are in function_ufuncs.py and function_calls.py; functions.py makes the first
stand-in of a Block, and takes the last one back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.ir import Builder, Value

Array = npt.NDArray[Any]
# dtypes in which a program computes as NumPy does; int8 and its kin wrap around where a program does not.
DTYPES = ("float64", "float32", "int64", "bool")


class Refused(Exception):
    """A function does what no program can: ``cause`` says what, ``remedy`` what to write instead."""

    def __init__(self, cause: str, remedy: str) -> None:
        super().__init__(f"{cause}: {remedy}")
        self.cause, self.remedy = cause, remedy


class Trace:
    """One call of a function. ``refusal`` is the first refusal: a function that catches it is refused all the same."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.refusal: Refused | None = None

    def refuse(self, cause: str, remedy: str) -> Refused:
        """The error to raise."""
        self.refusal = self.refusal or Refused(cause, remedy)
        return self.refusal

    def across(self, what: str) -> Refused:
        """The error where an answer would depend on other rows."""
        return self.refuse(
            f"{what} depends on the other rows of a batch",
            "compute it in fit and keep the numbers, or work along the row (axis=1)",
        )


class Rows:
    """The number of rows in a shape: it can be handed on to reshape, and nothing else."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __repr__(self) -> str:
        return "rows"

    def _refuse(self, *_: object) -> Any:
        raise self._trace.across("the number of rows")

    __index__ = __int__ = __float__ = __bool__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse


Shape = tuple[int | Rows, ...]


def _binary(ufunc: np.ufunc) -> Callable[[Traced, Any], Any]:
    return lambda self, other: NotImplemented if hasattr(other, "_outranks_arrays") else self._call(ufunc, self, other)


def _reflected(ufunc: np.ufunc) -> Callable[[Traced, Any], Any]:
    return lambda self, other: self._call(ufunc, other, self)


def _unary(ufunc: np.ufunc) -> Callable[[Traced], Any]:
    return lambda self: self._call(ufunc, self)


def _in_place(ufunc: np.ufunc) -> Callable[[Traced, Any], Any]:
    def method(self: Traced, other: Any) -> Any:
        result = self._call(ufunc, self, other)
        self.assign(result, f"{ufunc.__name__} in place")
        return self

    return method


class Traced:
    """An array of ``shape``, its cells in ``value``: an axis of Rows, and one other axis at most.

    Inside a loop over rows there is no axis of rows: a row has the shape (columns,), a cell (). ``given`` marks the
    function's own argument, ``view`` what shares its memory with another array: neither is written to.

    In a function that is translated, ``plain`` marks a number of Python's own, whose division by zero raises, and
    ``mixed`` one that is whole in one case and a float in another.
    """

    plain = False
    mixed = False

    def __init__(self, trace: Trace, value: Value, shape: Shape, *, given: bool = False, view: bool = False) -> None:
        self.trace, self.value, self.shape = trace, value, shape
        self.given, self.view = given, view

    @property
    def __class__(self) -> type:  # functions ask isinstance(X, np.ndarray)
        return np.ndarray

    @__class__.setter
    def __class__(self, _: type) -> None:
        raise TypeError("a stand-in keeps its class")

    # --- what an array tells about itself
    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.value.numpy)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        if any(isinstance(n, Rows) for n in self.shape):
            raise self.trace.across("the size of an array")
        return self.value.width

    @property
    def row_axis(self) -> int | None:
        """Position of the axis of rows."""
        return next((i for i, n in enumerate(self.shape) if isinstance(n, Rows)), None)

    @property
    def free_axis(self) -> int | None:
        """Position of the axis along the row."""
        return next((i for i, n in enumerate(self.shape) if not isinstance(n, Rows)), None)

    def __repr__(self) -> str:
        return f"array of shape {self.shape} and dtype {self.dtype}"

    def like(self, value: Value, shape: Shape | None = None, *, view: bool = False) -> Traced:
        """Another array of the same call."""
        return Traced(self.trace, value, self.shape if shape is None else shape, view=view)

    # --- NumPy's protocols
    def _call(self, ufunc: np.ufunc, *operands: Any) -> Any:
        from edgeml.converters.function_ufuncs import call_ufunc

        return call_ufunc(self.trace, ufunc, operands)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        from edgeml.converters.function_calls import reduce_by
        from edgeml.converters.function_ufuncs import call_ufunc

        if any(hasattr(x, "_outranks_arrays") for x in inputs):
            return NotImplemented
        out = options.pop("out", None)
        options = {k: v for k, v in options.items() if not (k == "where" and v is True)}
        if method == "reduce":
            return reduce_by(self.trace, ufunc, *inputs, **options)
        if method != "__call__" or options:
            what = f"numpy.{ufunc.__name__}" + (f".{method}" if method != "__call__" else f"({', '.join(options)}=…)")
            raise self.trace.refuse(f"{what} is not in the vocabulary", "call the plain function, and numpy.where")
        result = call_ufunc(self.trace, ufunc, inputs)
        if out is None:
            return result
        if len(out) != 1 or not isinstance(out[0], Traced):
            raise self.trace.refuse(f"numpy.{ufunc.__name__}(out=…) writes into an array", "use the result")
        out[0].assign(result, f"numpy.{ufunc.__name__}(out=…)")
        return out[0]

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        from edgeml.converters.function_calls import call_function

        if any(hasattr(t, "_outranks_arrays") for t in types):
            return NotImplemented
        return call_function(self.trace, function, args, kwargs)

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise self.trace.refuse(
            "the cells are read as they are, by a function that is not in the vocabulary",
            "use NumPy functions of the documented vocabulary",
        )

    # --- what only cells can answer
    def _needs_cells(self, what: str) -> Refused:
        return self.trace.refuse(f"{what} depends on the cells", "use numpy.where for both cases")

    def __bool__(self) -> bool:
        raise self._needs_cells("a branch (if, while, and, or, not)")

    def __int__(self) -> int:
        raise self._needs_cells("int(…)")

    def __float__(self) -> float:
        raise self._needs_cells("float(…)")

    def __index__(self) -> int:
        raise self.trace.refuse("an index depends on the cells", "use numpy.take(table, index)")

    def __len__(self) -> int:
        if not self.shape or isinstance(self.shape[0], Rows):
            raise self.trace.across("len(…)")
        return self.shape[0]

    def __iter__(self) -> Iterator[Traced]:
        if not self.shape or isinstance(self.shape[0], Rows):
            raise self.trace.refuse("a loop over rows", "work on whole columns: X[:, j]")
        return iter([self[i] for i in range(self.shape[0])])

    # --- operators
    __add__, __radd__, __iadd__ = _binary(np.add), _reflected(np.add), _in_place(np.add)
    __sub__, __rsub__, __isub__ = _binary(np.subtract), _reflected(np.subtract), _in_place(np.subtract)
    __mul__, __rmul__, __imul__ = _binary(np.multiply), _reflected(np.multiply), _in_place(np.multiply)
    __truediv__, __rtruediv__ = _binary(np.true_divide), _reflected(np.true_divide)
    __itruediv__ = _in_place(np.true_divide)
    __floordiv__, __rfloordiv__ = _binary(np.floor_divide), _reflected(np.floor_divide)
    __mod__, __rmod__ = _binary(np.remainder), _reflected(np.remainder)
    __pow__, __rpow__ = _binary(np.power), _reflected(np.power)
    __and__, __rand__ = _binary(np.bitwise_and), _reflected(np.bitwise_and)
    __or__, __ror__ = _binary(np.bitwise_or), _reflected(np.bitwise_or)
    __xor__, __rxor__ = _binary(np.bitwise_xor), _reflected(np.bitwise_xor)
    __lt__, __le__, __gt__, __ge__ = map(_binary, (np.less, np.less_equal, np.greater, np.greater_equal))
    __eq__, __ne__ = _binary(np.equal), _binary(np.not_equal)  # elementwise, as arrays do
    __neg__, __abs__, __invert__, __pos__ = map(_unary, (np.negative, np.absolute, np.invert, np.positive))
    __hash__ = None  # type: ignore[assignment]  # as arrays

    def __matmul__(self, other: Any) -> Any:
        return np.matmul(self, other)

    def __rmatmul__(self, other: Any) -> Any:
        return np.matmul(other, self)

    # --- cells by position
    def __getitem__(self, key: Any) -> Traced:
        shape: list[int | Rows] = []
        value, axis, view = self.value, 0, True
        for item in self._full_key(key):
            if item is None:
                shape.append(1)
                continue
            n, axis = self.shape[axis], axis + 1
            if isinstance(n, Rows):
                self._all_rows(item)
                shape.append(n)
                continue
            place = self._place(item)
            view = view and not isinstance(place, list)
            if isinstance(place, int):
                value = value.select([place])
                continue
            value = value.select(place)
            shape.append(value.width)
        return self.trace_shape(value, shape, view)

    def trace_shape(self, value: Value, shape: Sequence[int | Rows], view: bool) -> Traced:
        """An array of ``shape``, if a program has such."""
        if len(shape) > 2 or sum(not isinstance(n, Rows) for n in shape) > 1:
            raise self.trace.refuse(f"an array of {len(shape)} dimensions {tuple(shape)}", "stay within two dimensions")
        return self.like(value, tuple(shape), view=view)

    def _full_key(self, key: Any) -> list[Any]:
        items = list(key) if isinstance(key, tuple) else [key]
        used = sum(item is not None and item is not Ellipsis for item in items)
        if used > self.ndim:
            raise IndexError(f"too many indices for an array of {self.ndim} dimensions")
        rest = [slice(None)] * (self.ndim - used)
        at = next((i for i, item in enumerate(items) if item is Ellipsis), len(items))
        return [*items[:at], *rest, *items[at + 1 :]]

    def _all_rows(self, item: Any) -> None:
        if not (isinstance(item, slice) and item == slice(None)):
            what = "a mask that drops rows" if isinstance(item, Traced) else f"rows by position [{item!r}]"
            raise self.trace.across(what)

    def _place(self, item: Any) -> int | slice | list[int]:
        if isinstance(item, Traced):
            raise self.trace.refuse("columns picked by cells", "use numpy.where, or numpy.take_along_axis on constants")
        if isinstance(item, slice):
            return item
        if isinstance(item, (int, np.integer)) and not isinstance(item, bool):
            width = self.value.width
            if not -width <= item < width:
                raise IndexError(f"column {item} of an array with {width}")
            return int(item) % width
        places = np.asarray(item)
        if places.ndim != 1 or (places.dtype.kind not in "iub" and places.size):
            raise self.trace.refuse(f"an index {item!r}", "pick columns by position, slice, list or mask")
        found: list[int] = np.arange(self.value.width)[places if places.size else places.astype(int)].tolist()
        return found

    def __setitem__(self, key: Any, new: Any) -> None:
        from edgeml.converters.function_ufuncs import write

        self._writable("an assignment to cells")
        write(self, key, new)

    def _writable(self, what: str) -> None:
        if self.given:
            raise self.trace.refuse(f"{what} changes the function's argument", "work on a copy: X = X.copy()")
        if self.view:
            raise self.trace.refuse(
                f"{what} of a view changes the array it was taken from", "assign to that array, or work on a copy"
            )

    def assign(self, result: Any, what: str) -> None:
        """The array's cells become ``result``, in the array's own dtype and shape."""
        self._writable(what)
        if not isinstance(result, Traced) or result.shape != self.shape:
            raise ValueError(f"{what}: {result!r} does not fit {self!r}")
        if not np.can_cast(result.dtype, self.dtype, "same_kind"):
            raise TypeError(f"{what}: cannot cast {result.dtype} to {self.dtype}")
        self.value = result.value.cast(self.value.dtype).held_as(self.value.numpy)

    # --- shape and dtype
    @property
    def T(self) -> Traced:
        return self.like(self.value, self.shape[::-1], view=True)

    def transpose(self) -> Traced:
        return self.T

    def reshape(self, *shape: Any, order: str = "C") -> Traced:
        """One row stays one row: (rows, k), (rows,) and (rows, 1) only."""
        wanted = list(shape[0] if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else shape)
        width = self.value.width
        free = [n for n in wanted if not isinstance(n, Rows)]
        if self.row_axis is None:
            if free == [-1] or free == [width]:
                return self.like(self.value, (width,), view=True)
        elif self.row_axis == 0:
            rows = self.shape[0]
            first_is_rows = bool(wanted) and (isinstance(wanted[0], Rows) or wanted[0] == -1)
            if first_is_rows and free[-1:] == [width] and len(wanted) == 2:
                return self.like(self.value, (rows, width), view=True)
            if len(wanted) == 2 and isinstance(wanted[0], Rows) and wanted[1] == -1:
                return self.like(self.value, (rows, width), view=True)
            if len(wanted) == 1 and first_is_rows and width == 1:
                return self.like(self.value, (rows,), view=True)
        raise self.trace.refuse(
            f"reshape of {self.shape} to {tuple(wanted)} moves cells between rows",
            "keep one row a row: reshape(-1, 1) of a column, reshape(X.shape[0], -1)",
        )

    def ravel(self, order: str = "C") -> Traced:
        return self.reshape(-1)

    def squeeze(self, axis: Any = None) -> Traced:
        if self.ndim == 2 and self.value.width == 1 and axis in (None, self.free_axis, -1):
            return self.like(self.value, tuple(n for n in self.shape if isinstance(n, Rows)), view=True)
        return self

    def copy(self, order: str = "C") -> Traced:
        return self.like(self.value)

    def flatten(self, order: str = "C") -> Traced:
        return self.ravel().copy()

    def astype(self, dtype: Any, order: str = "K", casting: str = "unsafe", copy: bool = True) -> Traced:
        """float64, float32, int64 and bool: a program has no other numbers."""
        wanted = np.dtype(dtype)
        if self.value.dtype == "string" or wanted.name not in DTYPES:
            raise self.trace.refuse(
                f"astype({wanted.name}) of {self.dtype.name}", f"a program knows {', '.join(DTYPES)}"
            )
        return self.like(self.value.cast(wanted.name).held_as(wanted.name))

    def item(self, *_: Any) -> Any:
        raise self._needs_cells("item()")

    def tolist(self) -> Any:
        raise self.trace.refuse("tolist() leaves NumPy", "work on the array")

    # --- reductions and others, by the function of the same name
    def __getattr__(self, name: str) -> Any:
        if name in _METHODS:
            return lambda *args, **kwargs: getattr(np, _METHODS[name])(self, *args, **kwargs)
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(f"an array has no attribute {name!r}")  # hasattr(X, "columns") asks what X is
        raise self.trace.refuse(f"the method or attribute .{name}", "use NumPy functions of the documented vocabulary")


_METHODS = {
    name: name
    for name in (
        "sum", "mean", "std", "var", "min", "max", "argmin", "argmax", "prod", "cumsum", "cumprod", "any", "all",
        "clip", "round", "take", "repeat",
        "argsort", "dot",
    )
}  # fmt: skip
