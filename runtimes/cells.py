"""One raw column, or a matrix, as an array of the kind its schema asks for.

In comes a column of any library (NumPy, pandas, polars, Arrow, a list), recognised without importing the
library; out goes a NumPy array of the schema's kind, or a ColumnTypeError that names column, row and value.
``frames`` calls it.

What is accepted for a kind is what leaves every value as it is: scikit-learn would compute on the values it
is given, so a conversion that changes one would change answers in silence.

- float64: any float up to 64 bits, integers and decimals (rounded as scikit-learn rounds them), booleans.
- float32: numbers that float32 holds exactly. scikit-learn would compute on others in float64.
- int64: integers, booleans, and floats without fraction (pandas turns integers into floats readily).
- bool: booleans, and numbers that are 0 or 1.
- string: str, None, NaN. An integer never equals a str category in scikit-learn, so numbers are refused.

A missing cell (None, NaN, pandas.NA, a null of Arrow or polars) is NaN in a float column. In a string column
None stays None and NaN stays NaN, as scikit-learn tells them apart; pandas.NA and nulls become what the
schema says they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from edgeml.errors import ColumnTypeError, ShapeError
from edgeml.runtimes.cell_messages import due, place_of, refuse_cell, remedy_for, shown, with_article
from edgeml.schema import Kind

Array = npt.NDArray[Any]

_NAN = float("nan")
_NUMBERS = (int, float, np.integer, np.floating, np.bool_)
_ARROW_NUMBERS = frozenset(
    (
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "halffloat",
        "float",
        "double",
        "bool",
    )
)
_ARROW_STRINGS = frozenset(("string", "large_string", "string_view"))
_POLARS_NUMBERS = frozenset(
    (
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float16",
        "Float32",
        "Float64",
        "Boolean",
    )
)
_POLARS_STRINGS = ("String", "Categorical", "Enum")
_NOT_NUMBERS = {
    "U": "holds strings",
    "T": "holds strings",
    "S": "holds bytes",
    "M": "holds dates",
    "m": "holds time differences",
    "c": "holds complex numbers",
    "V": "holds raw records",
}


def is_from(x: Any, library: str, *names: str) -> bool:
    """Whether ``x`` is an instance of a class of ``library``.

    Who never imported the library cannot hold one.
    """
    return _is_from(x.__class__, library, names)


@lru_cache(maxsize=256)
def _is_from(t: type, library: str, names: tuple[str, ...]) -> bool:
    # Kept by type, 0.1 us instead of 0.6: asked several times a column. What is imported later brings other types.
    module = sys.modules.get(library)
    return module is not None and issubclass(t, tuple(getattr(module, n) for n in names if hasattr(module, n)))


# --- from any library to a NumPy array ----------------------------------------------------------------------
def to_array(column: Any, name: str, null: float | None = _NAN) -> Array:
    """A one-dimensional array: numbers with NaN where missing, or objects with ``null`` for missing strings.

    Raises ColumnTypeError, ShapeError.
    """
    if type(column) is np.ndarray and column.ndim == 1:
        return column
    if is_from(column, "pandas", "Series", "Index") or is_from(column, "pandas.api.extensions", "ExtensionArray"):
        return _from_pandas(column, name, null)
    if is_from(column, "polars", "Series"):
        return _from_polars(column, name, null)
    if is_from(column, "pyarrow", "Array", "ChunkedArray"):
        return _from_arrow(column, name, null)
    if isinstance(column, (list, tuple)):
        return np.fromiter(column, dtype=object, count=len(column))
    if isinstance(column, np.ma.MaskedArray):
        column = unmasked(column, [name])
    if isinstance(column, (str, bytes)) or not (hasattr(column, "__array__") or isinstance(column, Sequence)):
        raise ShapeError(
            f"column {name!r} is a single {type(column).__name__}, a list or an array is due",
            "for one row call predict_one(row), or pass [row]",
        )
    array = np.asarray(column)
    if array.ndim != 1:
        raise ShapeError(f"column {name!r} has {array.ndim} dimensions", "pass one value a row")
    return array


def unmasked(array: Any, names: Sequence[str]) -> Array:
    """The data of a masked array that masks nothing. scikit-learn would read the masked values."""
    mask = np.ma.getmaskarray(array)
    if mask.any():
        at = int(np.flatnonzero(mask)[0])
        raise ColumnTypeError(
            f"{place_of(names, array.shape, at)}: the value is masked, which scikit-learn ignores",
            "fill masked cells first: X.filled(numpy.nan)",
        )
    result: Array = np.asarray(array)
    return result


def _from_pandas(series: Any, name: str, null: float | None) -> Array:
    """A Series, an Index, or the array that is in one."""
    dtype = series.dtype
    if isinstance(dtype, np.dtype):
        return np.asarray(series.to_numpy())
    kind = type(dtype).__name__
    if kind == "StringDtype":
        missing = _NAN if isinstance(dtype.na_value, float) else null
        return np.asarray(series.to_numpy(dtype=object, na_value=missing))
    if kind == "CategoricalDtype":
        values = series if hasattr(series, "codes") else series.array
        categories = to_array(dtype.categories, name)
        codes = np.asarray(values.codes)
        if (codes < 0).any():
            table = categories.astype(object) if categories.dtype.kind not in "f" else categories
            categories = np.concatenate([table, np.array([_NAN], dtype=table.dtype)])
        cells: Array = categories[codes]
        return cells
    if kind == "ArrowDtype":
        return _from_arrow(getattr(series, "array", series).__arrow_array__(), name, null)
    if hasattr(dtype, "numpy_dtype"):  # the nullable Int64, Float64, boolean and their like
        numpy_dtype = np.dtype(dtype.numpy_dtype)
        if not series.isna().any():
            return np.asarray(series.to_numpy(dtype=numpy_dtype))
        return np.asarray(series.to_numpy(dtype=numpy_dtype if numpy_dtype.kind == "f" else np.float64, na_value=_NAN))
    if kind == "SparseDtype":
        return np.asarray(series.to_numpy())
    refuse_type(name, str(dtype))


def _from_polars(series: Any, name: str, null: float | None) -> Array:
    dtype = str(series.dtype).partition("(")[0]
    if dtype == "Null":
        return np.full(len(series), null, dtype=object)
    if dtype == "Decimal":
        return np.fromiter(series.to_list(), dtype=object, count=len(series))
    if dtype not in _POLARS_STRINGS and dtype not in _POLARS_NUMBERS:
        refuse_type(name, str(series.dtype))
    values: Array = series.to_numpy()
    if dtype.startswith("Float") or not series.null_count():
        return values  # a null of a float column is NaN already
    nulls = series.is_null().to_numpy()
    return _with(values, nulls, null) if dtype in _POLARS_STRINGS else _numbers_with_nan(values, nulls)


def _from_arrow(column: Any, name: str, null: float | None) -> Array:
    kind = str(column.type)
    if kind.startswith("dictionary<"):
        # Decoded first: to_numpy of a chunked dictionary forgets its nulls (pyarrow 26).
        if str(column.type.value_type) == "string_view":  # pyarrow 26 decodes it to Python's objects alone
            cells = np.fromiter(column.to_pylist(), dtype=object, count=len(column))
            return _with(cells, np.fromiter((c is None for c in cells), dtype=bool, count=len(cells)), null)
        column = column.cast(column.type.value_type)
        kind = str(column.type)
    if kind == "null":
        return np.full(len(column), null, dtype=object)
    if kind.startswith("decimal"):
        return np.fromiter(column.to_pylist(), dtype=object, count=len(column))
    if kind not in _ARROW_STRINGS and kind not in _ARROW_NUMBERS:
        refuse_type(name, kind)
    values: Array = column.to_numpy(zero_copy_only=False)
    if values.dtype.kind == "f" or not column.null_count:
        return values  # a null of a float column is NaN already
    nulls = column.is_null().to_numpy(zero_copy_only=False)
    return _with(values, nulls, null) if kind in _ARROW_STRINGS else _numbers_with_nan(values, nulls)


def _with(cells: Array, nulls: Array, missing: float | None) -> Array:
    """Objects, fresh from ``to_numpy``, with ``missing`` where null."""
    cells[nulls] = missing
    return cells


def _numbers_with_nan(values: Array, nulls: Array) -> Array:
    """Numbers with NaN where null; nullable booleans arrive as objects."""
    if values.dtype.kind == "O":
        return _with(values, nulls, _NAN).astype(np.float64)
    return values if values.dtype.kind == "f" else np.where(nulls, _NAN, values)


def refuse_type(name: str, dtype: str) -> NoReturn:
    raise ColumnTypeError(
        f"column {name!r} has the type {dtype}, which no compiled pipeline reads",
        "convert it to numbers or strings first, as for the sample at compile time",
    )


# --- from a NumPy array to a kind ---------------------------------------------------------------------------
def convert(values: Array, kind: Kind, names: Sequence[str], null: float | None = _NAN) -> Array:
    """``values``, (rows,) or (rows, len(names)), as the NumPy dtype of ``kind``, which is object for strings.

    Raises ColumnTypeError naming column, row and value where a value would change or is of another type.
    """
    if kind == "string":
        return _to_strings(values, names, null)
    if values.dtype.kind == "O":
        values = _numbers_of_objects(values, kind, names)
    elif values.dtype.kind not in "fiub":
        what = _NOT_NUMBERS.get(values.dtype.kind, f"has the type {values.dtype}")
        such = f", such as {shown(values.flat[0])} in row 0" if values.dtype.kind in "UTS" else ""
        raise ColumnTypeError(f"column {names[0]!r} {what}{such}; {due(kind)}", remedy_for(kind))
    if kind == "float64":
        return values if values.dtype == np.float64 else _to_float(values, np.dtype(np.float64), names)
    if kind == "float32":
        return values if values.dtype == np.float32 else _to_float(values, np.dtype(np.float32), names)
    return _to_int(values, names) if kind == "int64" else _to_bool(values, names)


def _to_float(values: Array, dtype: np.dtype[Any], names: Sequence[str]) -> Array:
    with np.errstate(all="ignore"):
        result: Array = values.astype(dtype)
        if values.dtype.kind == "f" and values.dtype.itemsize > dtype.itemsize:
            changed = (result != values) & (values == values)
        elif dtype.itemsize == 4 and values.dtype.kind in "iu":
            # Compared as float64, which scikit-learn too would make of integers.
            changed = result.astype(np.float64) != values.astype(np.float64)
        else:
            return result
    if changed.any():
        refuse_cell(
            values,
            changed,
            names,
            f"is not exactly a {dtype}",
            f"round the values first: X.astype({dtype.name!r})",
        )
    return result


def _to_int(values: Array, names: Sequence[str]) -> Array:
    if values.dtype.kind in "ib":
        return values.astype(np.int64, copy=False)
    if values.dtype.kind == "u":
        big = values > np.uint64(np.iinfo(np.int64).max)
        if big.any():
            refuse_cell(values, big, names, "is beyond int64", remedy_for("int64"))
        return values.astype(np.int64)
    missing = np.isnan(values)
    if missing.any():
        why = "is missing, and the column had no missing values at compile time"
        refuse_cell(values, missing, names, why, remedy_for("int64"))
    with np.errstate(all="ignore"):
        wrong = (values != np.trunc(values)) | (values < -(2.0**63)) | (values >= 2.0**63)
    if wrong.any():
        refuse_cell(values, wrong, names, "is not an integer (int64), as all were at compile time", remedy_for("int64"))
    return values.astype(np.int64)


def _to_bool(values: Array, names: Sequence[str]) -> Array:
    if values.dtype.kind == "b":
        return values
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        refuse_cell(values, wrong, names, "is neither true nor false, as all were at compile time", remedy_for("bool"))
    return values.astype(np.bool_)


def _numbers_of_objects(values: Array, kind: Kind, names: Sequence[str]) -> Array:
    """Python objects as an array of numbers, missing cells as NaN."""
    cells = values.ravel().tolist()
    types = set(map(type, cells))
    missing = {t for t in types if t is type(None) or _is_na(t)}
    numbers = types - missing
    for t in numbers:
        if not issubclass(t, _NUMBERS) and not (kind == "float64" and _is_decimal(t)):
            at = next(i for i, c in enumerate(cells) if type(c) is t)
            raise ColumnTypeError(
                f"{place_of(names, values.shape, at)}: {shown(cells[at])} is {with_article(t)}; {due(kind)}",
                remedy_for(kind),
            )
    if missing:
        cells = [_NAN if type(c) in missing else c for c in cells]
    floats = bool(missing) or any(issubclass(t, (float, np.floating)) for t in numbers)
    if floats and kind == "int64" and not missing:
        # One by one, so that a float does not take the integers beyond 2**53 through float64.
        cells = [int(c) if isinstance(c, (float, np.floating)) and c == c // 1 else c for c in cells]
        floats = any(isinstance(c, (float, np.floating)) for c in cells)
    decimals = {t for t in numbers if _is_decimal(t)}
    if decimals:
        cells = [float(c) if type(c) in decimals else c for c in cells]
    dtype: Any = np.longdouble if np.longdouble in numbers else np.float64
    if not floats and kind in ("int64", "bool"):
        dtype = np.int64
    try:
        return np.array(cells, dtype=dtype).reshape(values.shape)
    except OverflowError:
        at = next(i for i, c in enumerate(cells) if _overflows(c, dtype))
        raise ColumnTypeError(
            f"{place_of(names, values.shape, at)}: the integer is too large; {due(kind)}", remedy_for(kind)
        ) from None


def _overflows(cell: Any, dtype: Any) -> bool:
    try:
        np.array([cell, 0], dtype=dtype)  # in a list: alone, a numpy.uint64 would wrap round in silence
    except OverflowError:
        return True
    return False


def _to_strings(values: Array, names: Sequence[str], null: float | None) -> Array:
    if values.dtype.kind in "UT":
        values = values.astype(object)
    if values.dtype.kind == "f" and np.isnan(values).all():
        return np.full(values.shape, _NAN, dtype=object)  # all missing: pandas makes float64 of such a column
    if values.dtype.kind != "O":
        refuse_cell(values, np.ones(values.shape, dtype=bool), names, "is not a string", remedy_for("string"))
    cells = values.ravel().tolist()
    types = set(map(type, cells))
    if types <= {str, type(None)}:
        return values
    if types <= {str, type(None), float} and all(c != c for c in cells if type(c) is float):
        return values
    result = np.empty(len(cells), dtype=object)
    for at, cell in enumerate(cells):
        if isinstance(cell, str):
            result[at] = str.__str__(cell)  # numpy.str_ and enumerations of strings
        elif cell is None:
            result[at] = None
        elif _is_na(type(cell)):
            result[at] = null
        elif isinstance(cell, (float, np.floating)) and cell != cell:
            result[at] = _NAN
        else:
            raise ColumnTypeError(
                f"{place_of(names, values.shape, at)}: {shown(cell)} is {with_article(type(cell))}; {due('string')}",
                "decode bytes to str first" if isinstance(cell, (bytes, bytearray)) else remedy_for("string"),
            )
    return result.reshape(values.shape)


def _is_decimal(t: type) -> bool:
    return _is_from(t, "decimal", ("Decimal",))


def _is_na(t: type) -> bool:
    return t.__name__ == "NAType" and t.__module__.partition(".")[0] == "pandas"
