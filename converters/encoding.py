"""OneHotEncoder and OrdinalEncoder: categories looked up column by column.

In comes a Block, out goes ``transform``. Every column becomes a Lookup among its categories, then one-hot
columns or a code; grouping of infrequent categories, dropped categories and unknown ones are settled here,
in the tables.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import Value

Array = npt.NDArray[Any]
Keys = tuple[str | float | None, ...] | Array


@converter(
    "sklearn.OneHotEncoder",
    honours=(
        "categories",
        "drop",
        "sparse_output",
        "dtype",
        "handle_unknown",
        "min_frequency",
        "max_categories",
    ),
    ignores=("feature_name_combiner",),
)
def one_hot_encoder(c: Conversion, est: Any, X: Block) -> Outputs:
    """One column a category that is kept; zeros for a dropped or unknown one."""
    X.check(c, est)
    dtype = _storage(c, est)
    columns = []
    for i in range(X.width):
        groups = _groups(est, i)
        dropped = None if est._drop_idx_after_grouping is None else est._drop_idx_after_grouping[i]
        kept = [g for g in range(max(groups) + 1) if g != dropped]
        place = {g: k for k, g in enumerate(kept)}  # column of a group
        unknown = -1
        if est.handle_unknown in ("infrequent_if_exist", "warn") and _infrequent(est, i) is not None:
            unknown = place.get(groups[_infrequent(est, i)[0]], -1)
        x, keys, categories = category_keys(c, est, X, i)
        targets = [place.get(groups[k], -1) for k in categories]
        found = _find(c, est, X, i, x, *_in_order(keys, targets, unknown))
        if kept:
            columns.append(c.builder.one_hot(found, len(kept), dtype))
    values = [c.builder.concat(columns).held_as(np.dtype(est.dtype).name)] if columns else []
    return {"transform": Block(*values, form="sparse" if est.sparse_output else "array")}


@converter(
    "sklearn.OrdinalEncoder",
    honours=(
        "categories",
        "dtype",
        "handle_unknown",
        "unknown_value",
        "encoded_missing_value",
        "min_frequency",
        "max_categories",
    ),
)
def ordinal_encoder(c: Conversion, est: Any, X: Block) -> Outputs:
    """The code of a category: its position, after grouping; missing and unknown cells have their own."""
    X.check(c, est)
    storage = _storage(c, est)
    columns = []
    for i in range(X.width):
        groups = np.array(_groups(est, i), dtype=np.int64)
        # The assignments scikit-learn makes, on the table instead of the rows: same casts, same wrap-around.
        codes = groups.astype(est.dtype)
        if i in est._missing_indices:
            codes[est._missing_indices[i]] = est.encoded_missing_value
        unknown = np.zeros(1, dtype=est.dtype)
        if est.handle_unknown == "use_encoded_value":
            unknown[0] = est.unknown_value
        x, keys, categories = category_keys(c, est, X, i)
        table = np.concatenate([unknown, codes[categories]]).astype(storage)
        found = _find(c, est, X, i, x, keys, None)
        plain = np.arange(-1, len(categories)).astype(storage)
        if np.array_equal(table[1:], plain[1:]) and (est.handle_unknown == "error" or table[0] == -1):
            columns.append(found.cast(storage))
        else:
            columns.append(c.builder.take(found + 1, table))
    encoded = c.builder.concat(columns).held_as(np.dtype(est.dtype).name)
    return {"transform": Block(encoded, names=X.names)}


def _storage(c: Conversion, est: Any) -> str:
    """IR dtype that holds the encoder's dtype."""
    dtype = np.dtype(est.dtype)
    if dtype in (np.float64, np.float32, np.bool_):
        return str(dtype.name)
    if dtype.kind in "iu":
        return "int64"
    raise c.refuse(est, "dtype", est.dtype, "use float64, float32, an integer dtype or bool")


def _infrequent(est: Any, i: int) -> Any:
    """Positions of the infrequent categories of a column, or None."""
    return est._infrequent_indices[i] if est._infrequent_enabled else None


def _groups(est: Any, i: int) -> list[int]:
    """Position of each category after grouping; the missing category of an ordinal encoder keeps its own."""
    count = len(est.categories_[i])
    mapping = est._default_to_infrequent_mappings[i] if est._infrequent_enabled else None
    return list(range(count)) if mapping is None else [*mapping.tolist(), *range(len(mapping), count)]


# --- keys: the categories in the kind of the column --------------------------------------------------------
def category_keys(c: Conversion, est: Any, X: Block, i: int) -> tuple[Value, Keys, list[int]]:
    """The column in the dtype of its comparison, the keys to look up, and which category each key is."""
    x, cells = X.column(i), est.categories_[i]
    if x.dtype == "string":
        return x, _string_keys(c, est, X, i), list(range(len(cells)))
    if cells.dtype == object:
        categories, array = _number_cells(c, est, X, i, x.dtype)
    elif cells.dtype.kind == "M" and x.numpy.startswith("datetime64"):
        categories, array = list(range(len(cells))), cells.astype(x.numpy).view(np.int64)
    elif cells.dtype.kind in "biuf":
        categories, array = list(range(len(cells))), cells
        if x.dtype in ("float64", "float32"):  # an object array may hold infinity, one of floats may not
            what = f"{c.place(est)}, {X.label(i)},"
            x = c.builder.check_finite(x, what, allow_nan=True)
    else:
        raise _wrong_kind(c, est, X, i, cells)
    # Numbers of different dtypes are equal as NumPy's promotion makes them, which is float64 or int64.
    common = "float64" if "f" in (np.dtype(x.dtype).kind, array.dtype.kind) else "int64"
    return x.cast(common), array.astype(common), categories


def _string_keys(c: Conversion, est: Any, X: Block, i: int) -> Keys:
    keys: list[str | float | None] = []
    for cell in est.categories_[i].tolist():
        if isinstance(cell, str):
            keys.append(str(cell))
        elif cell is None or _is_nan(cell):
            keys.append(None if cell is None else math.nan)
        else:
            raise _wrong_kind(c, est, X, i, est.categories_[i])
    return tuple(keys)


def _number_cells(c: Conversion, est: Any, X: Block, i: int, dtype: str) -> tuple[list[int], Array]:
    """Positions and values of the numbers among object categories."""
    cells = est.categories_[i].tolist()
    if any(not isinstance(v, numbers.Real) for v in cells if v is not None):
        raise _wrong_kind(c, est, X, i, est.categories_[i])
    if dtype not in ("float64", "float32"):  # neither None nor NaN can be in the column
        positions = [k for k, v in enumerate(cells) if v is not None and not _is_nan(v)]
        return positions, np.array([cells[k] for k in positions])
    # None in a column of numbers arrives as NaN. That is right as long as scikit-learn refuses NaN itself.
    unknown = getattr(est, "handle_unknown", "ignore")  # which TargetEncoder always does
    if None in cells and (unknown != "error" or any(_is_nan(v) for v in cells if v is not None)):
        raise c.refuse(
            est,
            "handle_unknown",
            unknown,
            f"{X.label(i)} of numbers has None among its categories, which cannot be told from NaN: give the "
            "column a float dtype before fitting",
        )
    return list(range(len(cells))), np.array([math.nan if v is None else float(v) for v in cells])


def _is_nan(cell: Any) -> bool:
    return isinstance(cell, float) and math.isnan(cell)


def _wrong_kind(c: Conversion, est: Any, X: Block, i: int, categories: Any) -> Exception:
    types = sorted({type(v).__name__ for v in categories.tolist()})
    if X.column(i).dtype == "string" and X.kind(i) != "string":
        return UnsupportedParameterError(
            f"step {c.builder.origin or 'pipeline'}: {type(est).__name__} is given {X.kind(i)}: {X.label(i)}",
            "turn the column into numbers or strings before the pipeline, or leave it out of this step",
        )
    return c.refuse(
        est,
        "categories",
        f"{X.label(i)}: {', '.join(types)}",
        f"the sample's {X.label(i)} is of kind {X.column(i).dtype}: give it the one type it had in fit",
    )


# --- look-up -----------------------------------------------------------------------------------------------
def _in_order(keys: Keys, targets: Sequence[int], unknown: int) -> tuple[Keys, Array | None]:
    """Keys and a table such that the table (or, for None, the position itself) gives each key its target.

    Where the targets other than -1 are 0, 1, 2, … in some order, reordering the keys saves the table: dropped
    categories go to the end, where OneHot has no column for them.
    """
    order = sorted(range(len(targets)), key=lambda k: (targets[k] < 0, targets[k]))
    kept = [targets[k] for k in order if targets[k] >= 0]
    if unknown == -1 and kept == list(range(len(kept))) and _distinct(keys):
        if isinstance(keys, tuple):
            return tuple(keys[k] for k in order), None
        return keys[order], None
    return keys, np.array([unknown, *targets], dtype=np.int64)


def _distinct(keys: Keys) -> bool:
    """Whether no two keys are equal: integers beyond 2^53 may meet as float64, and then the first counts."""
    return isinstance(keys, tuple) or len(np.unique(keys)) == len(keys)


def _find(c: Conversion, est: Any, X: Block, i: int, x: Value, keys: Keys, table: Array | None) -> Value:
    """Position of the cell among the keys, -1 when unknown, or their entry of the table."""
    found = c.builder.lookup(x, keys)
    if est.handle_unknown == "error":
        message = f"{X.label(i)} has a category that {type(est).__name__} did not see in fit ({c.builder.origin})"
        found = c.builder.require(found, found >= 0, message, "category")
    return found if table is None else c.builder.take(found + 1, table)
