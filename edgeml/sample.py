"""Reads the sample handed to ``compile``: checks it against the fitted pipeline and infers the schema from it.

In comes whatever a model accepts at run time; out goes a ``Sample``: the rows in the container the pipeline was fitted
on (a pandas frame or an array, so that scikit-learn itself can be asked about them) and the schema. Used by the
compiler only; pandas is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, cast, get_args

import numpy as np

from edgeml.errors import NotFittedError, SampleError
from edgeml.runtimes.cells import to_array
from edgeml.runtimes.item_rows import items_of
from edgeml.runtimes.sparse import is_sparse
from edgeml.sample_texts import texts_or_dicts
from edgeml.schema import ITEMS, MATRIX, Column, ColumnKind, Items, Null, Schema, Unit
from edgeml.sparse_rows import from_sparse

# Libraries whose null strings scikit-learn reads as None.
_NULLS_ARE_NONE = ("polars", "pyarrow")
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class Sample:
    """Rows as the pipeline takes them, and what their columns are."""

    rows: Any
    schema: Schema

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def is_frame(self) -> bool:
        return hasattr(self.rows, "iloc")

    def take(self, indices: Any) -> Any:
        """Some rows, in the pipeline's container."""
        return self.rows.iloc[indices].reset_index(drop=True) if self.is_frame else self.rows[indices]


def read_sample(pipeline: Any, X: Any) -> Sample:
    """The sample of a fitted pipeline. Raises SampleError naming the column when the two do not fit together."""
    special = texts_or_dicts(pipeline, X)
    if special is not None:
        return Sample(*special)
    rows = _to_rows(X)
    if rows.ndim != 2:
        raise SampleError(
            f"the sample has {rows.ndim} dimension(s), a table of rows and columns is due",
            "pass a frame, or an array of shape (rows, columns)",
        )
    if len(rows) == 0:
        raise SampleError("the sample has no rows", "pass raw training rows, some hundreds or more")
    expected = _feature_names(pipeline)
    if hasattr(rows, "columns"):
        return _frame_sample(pipeline, rows, expected, "none" if _library(X) in _NULLS_ARE_NONE else None)
    if expected is not None:
        raise SampleError(
            f"the pipeline was fitted on a frame with the columns {_some(expected)}, the sample is an array",
            "pass a frame with those columns, rows as they were at fit",
        )
    width = _width(pipeline, rows.shape[1])
    if rows.shape[1] != width:
        raise SampleError(
            f"the pipeline was fitted on {width} columns, the sample has {rows.shape[1]}",
            "pass raw rows as they were at fit, without the target",
        )
    if rows.dtype.kind in "OUST":
        rows = rows.astype(object)
        columns = tuple(
            Column(f"x{i}", object_kind(rows[:, i], f"x{i}"), null=null_kind(rows[:, i])) for i in range(rows.shape[1])
        )
        return Sample(rows, Schema("columns", columns))
    kind = number_kind(rows.dtype, MATRIX)
    if kind == "any":
        raise SampleError(f"an array of {rows.dtype} cannot be compiled", "use float, int, bool or str columns")
    if rows.dtype.kind == "u" and rows.max(initial=0) > _INT64.max:
        raise SampleError("the sample holds integers beyond int64", "fit on floats, and pass them: X.astype('float64')")
    return Sample(rows, Schema("matrix", tuple(Column(f"x{i}", kind) for i in range(rows.shape[1]))))


def _to_rows(X: Any) -> Any:
    """A pandas frame or a NumPy array of what came in."""
    module = _library(X)
    if module == "pandas":
        X = _with_plain_decimals(X)
        if X.ndim == 2 and not X.columns.is_unique:
            raise SampleError(
                f"the sample has two columns called {X.columns[X.columns.duplicated()][0]!r}",
                "rename or drop one",
            )
        return X
    if is_sparse(X):
        return from_sparse(X)
    import pandas as pd

    if module in _NULLS_ARE_NONE:
        return _frame_with_none(X)
    if isinstance(X, Mapping):
        return pd.DataFrame(dict(X))
    if isinstance(X, np.ndarray):
        # A numpy.matrix stays two-dimensional where a column is taken.
        return pd.DataFrame(X) if X.dtype.names else np.asarray(X) if isinstance(X, np.matrix) else X
    if isinstance(X, Sequence) and not isinstance(X, (str, bytes)):
        if len(X) and isinstance(X[0], Mapping):
            return pd.DataFrame(list(X))
        return np.asarray(X)
    raise SampleError(
        f"a sample of type {type(X).__name__} cannot be read",
        "pass a pandas or polars frame, an Arrow table, an array, a dict of columns or a list of dicts",
    )


def _with_plain_decimals(X: Any) -> Any:
    """Arrow's decimals as Python's: the same values, in a column that cells of any size can be written into."""
    if X.ndim != 2:
        return X
    decimals = [c for c, dtype in X.dtypes.items() if str(dtype).startswith("decimal")]
    plain = {c: X[c].astype(object).where(X[c].notna(), None) for c in decimals}
    return X.assign(**plain) if decimals else X


def _frame_with_none(X: Any) -> Any:
    """A pandas frame that scikit-learn reads as it reads a polars or Arrow one: a null string is None, never NaN."""
    import pandas as pd

    frame = X.to_pandas()
    polars = _library(X) == "polars"
    for at, name in enumerate(frame.columns):
        if polars and frame[name].dtype == np.float32:
            # check_array asks a frame of polars for no dtype, so where it keeps pandas' float32 it makes float64 here.
            frame[name] = frame[name].astype(np.float64)
        elif column_kind(frame[name], str(name)) == "string":
            cells = to_array(X[name] if polars else X.column(at), str(name), None)
            frame[name] = pd.Series(cells, dtype=object)
    return frame


def _library(X: Any) -> str:
    return type(X).__module__.partition(".")[0]


def _width(pipeline: Any, given: int) -> int:
    """Columns the pipeline was fitted on; ``given`` where it does not say: a loaded CatBoost model says 0."""
    return int(getattr(pipeline, "n_features_in_", None) or given)


def _feature_names(pipeline: Any) -> list[str] | None:
    """feature_names_in_ of the pipeline, or None when it was fitted on an array."""
    try:
        names = getattr(pipeline, "feature_names_in_", None)
    except (AttributeError, IndexError):
        names = None
    if names is not None and [str(n) for n in names] == [f"Column_{i}" for i in range(len(names))]:
        return None  # LightGBM's names for an array's columns
    return None if names is None else [str(n) for n in names]


def classes_of(pipeline: Any) -> Any:
    """classes_ of a classifier; None of any other, such as CatBoost's regressors, which have an empty list."""
    classes = getattr(pipeline, "classes_", None)
    return None if classes is None or len(classes) == 0 else classes


def _frame_sample(pipeline: Any, frame: Any, expected: list[str] | None, null: Null | None = None) -> Sample:
    if expected is None:
        width = _width(pipeline, frame.shape[1])
        if frame.shape[1] != width:
            raise SampleError(
                f"the pipeline was fitted on {width} columns, the sample has {frame.shape[1]}",
                "pass raw rows as they were at fit, without the target",
            )
        if all(isinstance(c, str) for c in frame.columns) and not _has_strings(frame):
            # Fitted on an array: scikit-learn would go by position and warn about the names; so take the array, and
            # keep the names, by which the model then meets such frames.
            unnamed = read_sample(pipeline, frame.to_numpy())
            columns = tuple(replace(c, name=n) for c, n in zip(unnamed.schema.columns, frame.columns, strict=True))
            return Sample(unnamed.rows, replace(unnamed.schema, columns=columns))
        columns = tuple(_column(frame[c], str(c), null) for c in frame.columns)
        return Sample(frame, Schema("columns", columns))
    present = [str(c) for c in frame.columns]
    missing = [c for c in expected if c not in present]
    extra = [c for c in present if c not in set(expected)]
    if missing or extra:
        what = []
        if missing:
            what.append(f"lacks {_some(missing)}")
        if extra:
            what.append(f"has {_some(extra)}, which the pipeline never saw")
        raise SampleError(
            f"the sample does not have the columns the pipeline was fitted on: it {' and '.join(what)}",
            "pass X[list(pipeline.feature_names_in_)], raw rows as they were at fit, without the target "
            "(the command: --target-column and --drop)",
        )
    frame = frame[expected]
    columns = tuple(_column(frame[c], c, null) for c in expected)
    return Sample(frame, Schema("columns", columns))


def _column(series: Any, name: str, null: Null | None) -> Column:
    items = None if isinstance(series.dtype, np.dtype) and series.dtype.kind != "O" else column_items(series)
    if items is not None:
        return Column(name, "string", items=items)
    return Column(name, column_kind(series, name), null=null or null_kind(series), unit=date_unit(series.dtype))


def date_unit(dtype: Any) -> Unit | None:
    """Unit of a ``datetime64`` without time zone; None for any other dtype."""
    if not isinstance(dtype, np.dtype) or dtype.kind != "M":
        return None
    unit, count = np.datetime_data(dtype)
    return cast("Unit", unit) if count == 1 and unit in get_args(Unit) else None


def numpy_dtypes(sample: Sample) -> dict[str, str]:
    """dtypes of the columns that NumPy promotes otherwise than their kind; that of a matrix goes by "X".

    int8 beside float32 makes float32 where int64 makes float64. check_array makes float64 of pandas' own integers and
    booleans, whatever they meet. A column of kind "any" has the name of its dtype, for messages.
    """
    if sample.schema.form == "matrix":
        return {MATRIX: sample.rows.dtype.name}
    columns = sample.schema.columns
    if sample.schema.rows == "dicts":
        return {}
    if not sample.is_frame:
        several = "objects of several types"
        return {c.name: ITEMS[c.items] if c.items else several if c.kind == "any" else "object" for c in columns}
    found: dict[str, str] = {}
    for column, dtype in zip(columns, sample.rows.dtypes, strict=True):
        if column.items is not None:
            found[column.name] = ITEMS[column.items]
        elif column.kind == "any":
            found[column.name] = "objects of several types" if dtype == "object" else str(dtype)
        elif isinstance(dtype, np.dtype) and dtype.kind in "iufOM":
            found[column.name] = dtype.name
        elif column.kind in ("int64", "bool") and not (isinstance(dtype, np.dtype) or hasattr(dtype, "categories")):
            found[column.name] = "float64"
    return found


def column_items(series: Any) -> Items | None:
    """What the cells of a column of lists or dicts are; None for any other, and where they are not alike."""
    found: set[Items | None] = set()
    for cell in series:
        if isinstance(cell, str) or cell is None:
            return None  # by far the most columns, so none of their other cells is looked at
        if not (isinstance(cell, (list, tuple, np.ndarray)) and not len(cell)):
            found.add(items_of(cell))
    return found.pop() if len(found) == 1 else None


def _has_strings(frame: Any) -> bool:
    return any(column_kind(frame[c], str(c)) in ("string", "any") for c in frame.columns)


def _some(names: Sequence[str], most: int = 6) -> str:
    shown = ", ".join(repr(n) for n in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def number_kind(dtype: np.dtype[Any], name: str) -> ColumnKind:
    """Kind of a NumPy dtype; float16 widens exactly to float64, integers to int64."""
    if dtype.kind == "f":
        return "float32" if dtype == np.float32 else "float64"
    return cast("ColumnKind", {"i": "int64", "u": "int64", "b": "bool"}.get(dtype.kind, "any"))


def column_kind(series: Any, name: str) -> ColumnKind:
    """Kind of a pandas column; "any" for what no program can read (dates, decimals, mixed objects)."""
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.SparseDtype):
        raise SampleError(f"column {name!r} is sparse ({dtype})", "pass the rows dense: X.sparse.to_dense()")
    if date_unit(dtype) is not None:
        return "int64"
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        if dtype.kind == "u" and len(series) and int(series.max()) > _INT64.max:
            return "any"
        return number_kind(dtype, name)
    if isinstance(dtype, pd.CategoricalDtype):
        kind = column_kind(series.cat.categories.to_series(), name)
        if kind == "float32" or (kind in ("int64", "bool") and series.isna().any()):
            return "float64"
        return kind
    if isinstance(dtype, pd.StringDtype):
        return "string"
    if pd.api.types.is_bool_dtype(dtype) or pd.api.types.is_integer_dtype(dtype):
        if series.isna().any():
            return "float64"  # check_array turns nullable integers and booleans with missing cells into float64
        return "bool" if pd.api.types.is_bool_dtype(dtype) else "int64"
    if pd.api.types.is_float_dtype(dtype):
        return "float64"  # check_array makes float64 of pandas' own Float32, too
    if pd.api.types.is_string_dtype(dtype) or dtype == "object":
        return object_kind(series.to_numpy(dtype=object), name)
    return "any"


def null_kind(column: Any) -> Null:
    """The missing cell of a column, a series or an array; "nan" where it has none."""
    import pandas as pd

    if column.dtype.kind != "O":
        return "nan"
    none = [cell is None for cell in column[pd.isna(column)]]
    return "nan" if not any(none) else "none" if all(none) else "both"


def object_kind(cells: Any, name: str) -> ColumnKind:
    """Kind of Python objects: one type throughout, missing cells (None, NaN, pandas.NA) apart."""
    import pandas as pd

    missing = pd.isna(cells)
    types = {type(c) for c in cells[~missing]}
    if types and all(issubclass(t, str) for t in types):
        return "string"
    if types and all(issubclass(t, (bool, np.bool_)) for t in types):
        return "float64" if missing.any() else "bool"
    if types and all(issubclass(t, (int, np.integer)) and not issubclass(t, bool) for t in types):
        if not all(_INT64.min <= int(c) <= _INT64.max for c in cells[~missing]):
            return "any"  # as of uint64 beyond int64
        return "float64" if missing.any() else "int64"
    if all(issubclass(t, (int, float, np.integer, np.floating, Decimal)) and not issubclass(t, bool) for t in types):
        return "float64"  # floats, decimals, which check_array makes floats of, or nothing but missing cells
    return "any"


def check_has_fit(pipeline: Any) -> None:
    """Raise NotFittedError for a class, an estimator that is not fitted, or anything that is none."""
    from sklearn.exceptions import NotFittedError as SklearnNotFitted
    from sklearn.utils.validation import check_is_fitted

    if isinstance(pipeline, type) or not hasattr(pipeline, "fit"):
        raise NotFittedError(
            f"{pipeline!r:.80} is not a fitted scikit-learn estimator", "pass the fitted pipeline object itself"
        )
    try:
        check_is_fitted(pipeline)
    except SklearnNotFitted:
        raise not_fitted(pipeline) from None


def not_fitted(pipeline: Any) -> NotFittedError:
    """The error for a pipeline of which some step is not fitted."""
    return NotFittedError(
        f"{type(pipeline).__name__}, or a step of it, is not fitted", "call fit on the whole pipeline before compiling"
    )
