"""NumPy's ufuncs on stand-ins: dtypes resolved as NumPy resolves them, shapes broadcast, then one or more operations.

In come a ufunc and its operands, out goes a ``Traced``. Called by the operators of function_arrays.py, by NumPy's
protocols, and by the translation of sources. ``EMITTERS`` is the vocabulary of functions of cells.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.converters.function_arrays import DTYPES, Array, Rows, Shape, Trace, Traced
from edgeml.ir import Builder, Value

# From values of the loop's dtype, each as wide as the result or of width 1, to the result.
Emitter = Callable[..., Value]


# --- operands ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Operand:
    """``promotes`` is what NumPy promotes by: a dtype, or int and float of Python, which take the other's dtype."""

    promotes: Any
    shape: Shape
    traced: Traced | None
    constant: Array | None

    def value(self, builder: Builder, dtype: str) -> Value:
        """The cells as ``dtype``."""
        if self.traced is not None:
            return self.traced.value.cast(dtype)
        assert self.constant is not None
        return builder.constant(self.constant.ravel().astype(dtype))


def operand(trace: Trace, x: Any) -> Operand:
    """An operand of a ufunc. Raises Refused for what is neither an array nor a number."""
    if isinstance(x, Traced):
        return Operand(x.dtype, x.shape, x, None)
    if isinstance(x, Rows):
        raise trace.across("the number of rows")
    if type(x) in (int, float):
        return Operand(type(x), (), None, np.asarray(x))
    array = np.asarray(x)
    if array.dtype.kind not in "biuf" or array.ndim > 2:
        raise trace.refuse(f"an operand {x!r:.60}", "use numbers, and arrays of numbers with at most two dimensions")
    return Operand(array.dtype, array.shape, None, array)


def common_dtype(operands: Iterable[Operand]) -> np.dtype[Any]:
    """numpy.result_type, in which Python's numbers give way."""
    return np.result_type(*(o.promotes(0) if isinstance(o.promotes, type) else o.promotes for o in operands))


def broadcast(trace: Trace, shapes: Iterable[Shape]) -> Shape:
    """NumPy's broadcasting, where the number of rows equals itself alone."""
    shapes = list(shapes)
    result: list[int | Rows] = []
    for axis in range(max(map(len, shapes))):
        sizes = [shape[-1 - axis] for shape in shapes if len(shape) > axis]
        rows = next((n for n in sizes if isinstance(n, Rows)), None)
        others = {n for n in sizes if not isinstance(n, Rows)} - {1}
        if len(others) > 1 or (rows is not None and others):
            text = " and ".join(str(shape) for shape in shapes)
            raise trace.refuse(
                f"arrays of shapes {text} do not fit together for every number of rows",
                "make a column of a vector of rows: x[:, None]",
            )
        result.append(rows if rows is not None else others.pop() if others else 1)
    if len(result) > 2 or sum(isinstance(n, Rows) for n in result) > 1:
        raise trace.across("an operation that pairs every row with every other")
    return tuple(reversed(result))


def check_context(trace: Trace, shapes: Iterable[Shape]) -> None:
    """Raise Refused where a whole array meets the cells of one row: every row would need every other."""
    if len({any(isinstance(n, Rows) for n in shape) for shape in shapes}) > 1:
        raise trace.across("a whole array inside the loop over rows")


def expand(value: Value, width: int) -> Value:
    """A value of width 1 repeated, or as it is."""
    return value if value.width == width else value.select([0] * width)


# --- calling -------------------------------------------------------------------------------------------------------
def call_ufunc(trace: Trace, ufunc: np.ufunc, inputs: Sequence[Any]) -> Any:
    """What ``ufunc`` gives for the operands. Raises Refused when it is not in the vocabulary."""
    if not any(isinstance(x, Traced) for x in inputs):
        return ufunc(*inputs)
    if ufunc in (np.equal, np.not_equal) and any(_is_text(x) for x in inputs):
        return _compare_text(trace, ufunc, inputs)
    if ufunc is np.matmul:
        from edgeml.converters.function_tables import matmul

        return matmul(trace, *inputs)
    if ufunc is np.divmod:
        return call_ufunc(trace, np.floor_divide, inputs), call_ufunc(trace, np.remainder, inputs)
    operands = [operand(trace, x) for x in inputs]
    check_context(trace, [o.traced.shape for o in operands if o.traced is not None])
    shape = broadcast(trace, [o.shape for o in operands])
    name, emit = vocabulary(ufunc)
    if emit is None:
        raise trace.refuse(
            f"{name} is not in the vocabulary", "use functions of the documented vocabulary (docs/functions.md)"
        )
    if any(o.promotes == np.dtype(object) for o in operands):
        raise trace.refuse(f"{name} of strings or objects", "encode strings first; turn objects into numbers")
    *dtypes, result = ufunc.resolve_dtypes((*(o.promotes for o in operands), *[None] * ufunc.nout))
    check_dtypes(trace, name, [*dtypes, result])
    values = [o.value(trace.builder, t.name) for o, t in zip(operands, dtypes, strict=True)]
    power = operands[-1].constant if ufunc in (np.power, np.float_power) else None
    value = emit(trace, *values) if power is None else to_constant_power(trace, values[0], power.ravel(), values[1])
    return Traced(trace, value.cast(result.name).held_as(result.name), shape)


def check_dtypes(trace: Trace, name: str, dtypes: Iterable[np.dtype[Any]]) -> None:
    """Raise Refused where NumPy would compute in a dtype that a program has not."""
    for dtype in dtypes:
        if dtype.name not in DTYPES:
            raise trace.refuse(f"{name} computes in {dtype.name}", "turn X into float64 first: X.astype(float)")


def _is_text(x: Any) -> bool:
    return isinstance(x, str) or (isinstance(x, Traced) and x.value.dtype == "string")


def _compare_text(trace: Trace, ufunc: np.ufunc, inputs: Sequence[Any]) -> Traced:
    values = [x.value if isinstance(x, Traced) else x for x in inputs]
    if not all(isinstance(x, str) or _is_text(x) for x in inputs):
        raise trace.refuse("a comparison of strings with something else", "compare strings with strings")
    equal = trace.builder.binary("Equal", *values)
    shape = broadcast(trace, [x.shape for x in inputs if isinstance(x, Traced)])
    return Traced(trace, equal if ufunc is np.equal else ~equal, shape)


def where(trace: Trace, condition: Any, x: Any, y: Any) -> Any:
    """numpy.where with three operands."""
    parts = [condition, x, y]
    if any(_is_text(p) for p in (x, y)):
        raise trace.refuse("numpy.where that gives strings", "give numbers")
    operands = [operand(trace, p) for p in parts]
    check_context(trace, [o.traced.shape for o in operands if o.traced is not None])
    shape = broadcast(trace, [o.shape for o in operands])
    dtype = common_dtype(operands[1:])
    check_dtypes(trace, "numpy.where", [dtype])
    dtypes = ("bool", dtype.name, dtype.name)
    chosen = [o.value(trace.builder, t) for o, t in zip(operands, dtypes, strict=True)]
    return Traced(trace, trace.builder.op("Where", *chosen).held_as(dtype.name), shape)


def write(array: Traced, key: Any, new: Any) -> None:
    """``array[key] = new``: a mask of cells or rows, or columns by position."""
    trace = array.trace
    if isinstance(new, Traced):
        check_context(trace, [array.shape, new.shape])
    keys = key if isinstance(key, tuple) else (key,)
    mask = next((k for k in keys if isinstance(k, Traced)), None)
    if mask is not None and mask.dtype != bool:
        raise trace.refuse("an assignment to places that depend on cells", "use numpy.where")
    if mask is not None and mask.shape == array.shape and len(keys) == 1:
        _store(array, slice(None), where(trace, mask, _cells_of(array, new), array))
        return
    columns = slice(None)
    if array.ndim == 2 and array.row_axis == 0:
        if len(keys) == 2:
            columns = keys[1]
        rows = keys[0]
    elif array.ndim == 2 and len(keys) == 1 and mask is None:
        columns, rows = keys[0], slice(None)
    else:
        rows = keys[0] if array.row_axis == 0 else slice(None)
        columns = slice(None) if array.row_axis == 0 else keys[0]
    if rows is Ellipsis:
        rows = slice(None)
    if mask is None:
        array._all_rows(rows)
        _store(array, columns, new)
        return
    if rows is not mask or mask.ndim != 1:
        raise trace.refuse(f"an assignment to [{key!r}]", "use numpy.where")
    old = array[(slice(None), columns)] if array.ndim == 2 else array
    if isinstance(new, Traced) and new.row_axis is not None:
        raise trace.across("an assignment of rows to the rows of a mask")
    _store(array, columns, where(trace, mask if old.ndim == 1 else mask[:, None], _cells_of(old, new), old))


def _cells_of(array: Traced, new: Any) -> Any:
    """What is assigned, in the dtype of the array, as an assignment casts it."""
    if isinstance(new, Traced):
        if new.shape != ():
            raise array.trace.across("an assignment of an array to the cells of a mask")
        return new.astype(array.dtype)
    return np.asarray(new).astype(array.dtype)


def _store(array: Traced, columns: Any, new: Any) -> None:
    """Columns of an array become ``new``, broadcast and cast as NumPy's assignment does."""
    trace, width = array.trace, array.value.width
    place = array._place(columns) if array.free_axis is not None else slice(None)
    places = np.atleast_1d(np.arange(width)[place])
    key = tuple(slice(None) if isinstance(n, Rows) else columns for n in array.shape)
    target = array[key].shape
    cells = operand(trace, new)
    if broadcast(trace, [cells.shape, target]) != target:
        raise ValueError(f"could not broadcast {cells.shape} into {target}")
    source = np.arange(width)
    source[places] = width + np.arange(len(places))  # of a column named twice, the last counts, as in NumPy
    value = expand(cells.value(trace.builder, array.value.dtype), len(places))
    array.value = trace.builder.concat([array.value, value]).select(source).held_as(array.value.numpy)


def vocabulary(ufunc: np.ufunc) -> tuple[str, Emitter | None]:
    """The full name of a ufunc, and how it is emitted; None where it is not in the vocabulary."""
    from edgeml.converters.function_emitters import NUMPY, SCIPY

    name = ufunc.__name__
    if getattr(np, name, None) is ufunc:
        return f"numpy.{name}", NUMPY.get(name)
    special = sys.modules.get("scipy.special")
    if special is not None and getattr(special, name, None) is ufunc:
        return f"scipy.special.{name}", SCIPY.get(name)
    return name, None


def to_constant_power(trace: Trace, x: Value, powers: Array, as_value: Value) -> Value:
    """x to powers that are known: products of whole small ones, the same bits as NumPy's for 2, -1 and 0.5."""
    from edgeml.converters.function_emitters import NUMPY

    power = powers[0] if len(set(powers.tolist())) == 1 else None
    if x.dtype == "int64":
        if power is None or power < 0:
            raise trace.refuse("whole numbers to several or negative powers", "turn X into float64 first")
        return _product(trace, x, int(power))
    if power == 0.5:
        return trace.builder.sqrt(x)
    if power == -1:
        return 1.0 / x
    if power in (1, 2):
        return _product(trace, x, int(power))
    return NUMPY["power"](trace, x, as_value)


def _product(trace: Trace, x: Value, power: int) -> Value:
    """x * x * …, by squaring: of whole numbers the bits are those of any order, modulo 2^64."""
    result: Value | None = None
    while power:
        if power & 1:
            result = x if result is None else result * x
        power >>= 1
        x = x * x if power else x
    return expand(trace.builder.constant(1, x.dtype), x.width) if result is None else result
