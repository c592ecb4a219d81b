"""SimpleImputer and MissingIndicator: missing cells filled with fitted statistics, or reported as bools.

In comes a Block, out goes ``transform``. scikit-learn works on one array: of numbers, or of objects as
soon as one column holds strings; in an object array every column keeps its own kind, and None and NaN are
two missing values.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block, BlockForm
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


def is_scalar_nan(cell: Any) -> bool:
    """scikit-learn's is_scalar_nan."""
    return isinstance(cell, numbers.Real) and not isinstance(cell, numbers.Integral) and math.isnan(cell)


def _is_na(cell: Any) -> bool:
    return type(cell).__name__ == "NAType"


@converter(
    "sklearn.SimpleImputer",
    honours=("missing_values", "strategy", "fill_value", "add_indicator", "keep_empty_features"),
    ignores=("copy",),
)
def simple_imputer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Missing cells become statistics_; a column whose statistic is NaN goes; indicators come last."""
    any_dtype = est.strategy in ("most_frequent", "constant")
    objects = est._fit_dtype.kind == "O"
    allow_nan = is_scalar_nan(est.missing_values) or _is_na(est.missing_values)
    values = _validated(c, est, X, objects=objects, dtype=X.dtype if any_dtype else "float", allow_nan=allow_nan)
    if est.strategy == "constant" and not objects and not np.can_cast(est._fill_dtype, values[0].dtype, "same_kind"):
        raise c.refuse(
            est,
            "fill_value",
            est.fill_value,
            f"fit on a sample of {values[0].dtype}, the dtype of the rows to come",
        )
    kept = [i for i, s in enumerate(est.statistics_) if est.keep_empty_features or not is_scalar_nan(s)]
    filled, flags, start = [], [], 0
    for value in values:
        missing = missing_cells(c, est, value)
        inside = [i - start for i in kept if start <= i < start + value.width]
        statistics = est.statistics_[[start + i for i in inside]]
        if inside and missing is None:
            filled.append(value.select(inside))
        elif inside and missing is not None:
            fill = (
                _object_fill(c, est, value, statistics)
                if objects
                else statistics.astype(est._fill_dtype).astype(value.dtype)
            )
            filled.append(_where(c, missing.select(inside), fill, value.select(inside)))
        if est.add_indicator:
            here = [i - start for i in est.indicator_.features_ if start <= i < start + value.width]
            flag = _flags(c, value, missing).select(here)
            flags.append(flag if objects else flag.cast(value.dtype))
        start += value.width
    names = None
    if X.names is not None:
        reported = est.indicator_.features_ if est.add_indicator else []
        names = [X.names[i] for i in kept] + [f"missingindicator_{X.names[i]}" for i in reported]
    parts = [*filled, *flags]
    if not objects:
        parts = [part.held_as(values[0].numpy) for part in parts]
    return {"transform": _block(X, parts, names, objects)}


def _block(X: Block, values: Sequence[Value], names: Sequence[str] | None, objects: bool) -> Block:
    if objects and not any(v.dtype == "string" for v in values):
        return Block(*values, names=names, form="object")
    return Block(*values, names=names, form="sparse" if X.form == "sparse" else "array")


@converter("sklearn.MissingIndicator", honours=("missing_values", "features", "error_on_new"), ignores=("sparse",))
def missing_indicator(c: Conversion, est: Any, X: Block) -> Outputs:
    """One bool a column of features_; with ``error_on_new`` missing cells in other columns are refused."""
    values = _validated(c, est, X, objects=X.is_object, dtype=X.dtype, allow_nan=is_scalar_nan(est.missing_values))
    flags = c.builder.concat([_flags(c, v, missing_cells(c, est, v)) for v in values])
    new = sorted(set(range(X.width)) - set(est.features_.tolist()))
    if est.features == "missing-only" and est.error_on_new and new:
        others = flags.select(new)
        where = ", ".join(X.label(i) for i in new[:6]) + (" or another" if len(new) > 6 else "")
        c.builder.require(
            others,
            ~others,
            f"a missing value in {where}, which had none in fit (MissingIndicator(error_on_new=True))",
        )
    form: BlockForm = "sparse" if est.sparse is True or (est.sparse == "auto" and X.form == "sparse") else "array"
    return {"transform": Block(flags.select(est.features_), form=form)}


def _validated(c: Conversion, est: Any, X: Block, *, objects: bool, dtype: str, allow_nan: bool) -> list[Value]:
    """The values of X after validate_data: one matrix of numbers, or the columns of an object array."""
    if not objects:
        if not isinstance(est.missing_values, numbers.Real) and not _is_na(est.missing_values):
            raise c.refuse(est, "missing_values", est.missing_values, "use a number or NaN for columns of numbers")
        return [X.matrix(c, est, dtype=dtype, allow_nan=allow_nan)]
    X.check(c, est)
    if allow_nan:
        return list(X.values)
    # In an object array scikit-learn refuses NaN, not infinity. None in a column of numbers arrives as NaN.
    refused = ("string",) if est.missing_values is None else ("string", "float64", "float32")
    message = f"{c.place(est)} was given NaN, which scikit-learn refuses too"
    return [c.builder.require(v, ~c.builder.is_nan(v), message) if v.dtype in refused else v for v in X.values]


def missing_cells(c: Conversion, est: Any, value: Value) -> Value | None:
    """Where a cell equals missing_values (scikit-learn's _get_mask), or None when no cell of the kind can."""
    placeholder = est.missing_values
    if value.dtype == "string":
        if _is_na(placeholder):
            return c.builder.is_nan(value) | c.builder.is_none(value)
        if is_scalar_nan(placeholder):
            return c.builder.is_nan(value)
        if placeholder is None:
            return c.builder.is_none(value)
        return value == placeholder if isinstance(placeholder, str) else None
    if placeholder is None or _is_na(placeholder) or is_scalar_nan(placeholder):
        # None in a column of numbers arrives as NaN; NaN itself is refused there by scikit-learn.
        return c.builder.is_nan(value) if value.dtype in ("float64", "float32") else None
    if isinstance(placeholder, str) or (value.dtype == "bool" and placeholder not in (0, 1)):
        return None
    if value.dtype == "bool":
        value = value.cast("int64")
    # A NumPy scalar takes part in the promotion, a Python number does not.
    return value == (np.asarray([placeholder]) if isinstance(placeholder, np.generic) else placeholder)


def _flags(c: Conversion, value: Value, missing: Value | None) -> Value:
    return c.builder.constant(np.zeros(value.width, dtype=bool)) if missing is None else missing


def _object_fill(c: Conversion, est: Any, value: Value, statistics: Sequence[Any]) -> Any:
    """Statistics as cells of ``value``'s kind; one of another kind would leave a column of two kinds behind."""
    parameter = "fill_value" if est.strategy == "constant" else "strategy"
    for cell in statistics:
        if not _fits(cell, value.dtype):
            raise c.refuse(
                est,
                parameter,
                getattr(est, parameter),
                f"it puts {cell!r} into a column of kind {value.dtype}; impute columns of different kinds in "
                "separate steps of a ColumnTransformer",
            )
    if value.dtype == "string":
        return tuple(str(s) if isinstance(s, str) else None if s is None else math.nan for s in statistics)
    return np.asarray(list(statistics))


def _fits(cell: Any, dtype: str) -> bool:
    """Whether a cell can stand in a column of an IR dtype."""
    if dtype == "string":
        return cell is None or isinstance(cell, str) or is_scalar_nan(cell)
    if dtype == "bool":
        return isinstance(cell, (bool, np.bool_))
    return isinstance(cell, numbers.Integral if dtype == "int64" else numbers.Real)


def _where(c: Conversion, missing: Value, fill: Any, value: Value) -> Value:
    """``fill`` where missing, else value, in the common dtype of the two."""
    constant = c.builder.constant(fill)
    if value.dtype != "string":
        common = np.result_type(np.dtype(value.dtype), np.dtype(constant.dtype)).name
        constant, value = constant.cast(common), value.cast(common)
    return c.builder.where(missing, constant, value)
