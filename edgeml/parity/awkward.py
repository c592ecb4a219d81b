"""Makes the rows that break converters: missing and infinite cells, extremes, unknown categories, split boundaries.

Every row starts as a row of the sample, so that it is a plausible row but for the cells under test. Boundary rows hold
the raw value that the program carries exactly onto a tree's threshold, and the next float above it; they are found by
bisection over floats through the program itself, whatever preprocessing lies between. Deterministic for a seed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.ir import interpreter
from edgeml.ir.program import Output, Program
from edgeml.ir.table import Array
from edgeml.parity.rounding import determined
from edgeml.sample import Sample
from edgeml.schema import Column

_FLOATS = (
    np.inf, -np.inf, 0.0, -0.0, 1e300, -1e300, 1e-300, 5e-324, 3.4028236e38, -3.4028236e38, 1e9, -1e9,
    0.1, 1.0, -1.0, 255.0, 256.0,
)  # fmt: skip
_STRINGS = ("", " ", "never seen", "\U0001f600 non-BMP", "nan", "None", "é" * 300, "NaN\n")
# Letters that change in number or kind in lower case or without accents, stop words alone, long documents.
_DOCUMENTS = (
    *_STRINGS, "the of and", "STRASSE Straße STRAẞE", "İstanbul ıssız", "ΟΔΥΣΣΕΎΣ ΟΔΟΣ", "e\u0301te\u0301 ÉTÉ",
    "Ⅳ ﬁn ½ x²", "nul\0nul a\tb\r\nc\u2028d\u00a0\u3000e", "日本語 한국어 हिन्दी", "\U0001d400\U0001d401 \U00010400",
    "a" * 10_000, "word " * 2_000,
)  # fmt: skip
# Of several items: none, empty names, repeated ones, what adds up to nothing, and letters of several bytes.
_ITEMS: dict[str, list[Any]] = {
    "tokens": [[], [""], ["a"] * 7, ["never seen", "Straße", "\U0001f600", "日本語"], [f"t{i}" for i in range(40)]],
    "pairs": [[], [("", 1)], [("a", 2.5), ("a", -2.5)], [("a", 0), ("b", "Straße"), ("日", 1e-300)], [("a", 1e300)]],
    "dicts": [{}, {"": 1}, {"never seen": 2.5, "Straße": "\U0001f600"}, {"a": 0, "日": 1e300}],
}
_DATES = ("1970-01-01", "1969-12-31T23:59:59", "2000-02-29", "2100-12-31", "NaT")
_INTS = (0, -1, 1, 255, 256, 2**31, -(2**31), 2**53 + 1, 2**63 - 1, -(2**63))


def awkward_rows(sample: Sample, *, most: int, seed: int = 0) -> Sample:
    """Up to ``most`` rows, each a sample row with one awkward cell, and some with every cell awkward."""
    rng = np.random.default_rng(seed)
    cells = [
        (at, value)
        for at, column in enumerate(sample.schema.columns)
        if column.used and column.kind != "any"
        for value in _values(sample, at, column)
    ]
    if len(cells) > most:
        cells = [cells[i] for i in np.sort(rng.choice(len(cells), most, replace=False))]
    by_column: dict[int, list[Any]] = {}
    for at, value in cells:
        by_column.setdefault(at, []).append(value)
    all_awkward = 8
    base = sample.take(rng.integers(0, len(sample), len(cells) + all_awkward))
    edits = [(row, at, value) for row, (at, value) in enumerate(cells)]
    edits += [
        (len(cells) + row, at, values[int(rng.integers(len(values)))])
        for row in range(all_awkward)
        for at, values in by_column.items()
    ]
    return Sample(_edit(base, sample, edits), sample.schema)


def _values(sample: Sample, at: int, column: Column) -> list[Any]:
    """Awkward cells that the column's dtype can hold."""
    import pandas as pd

    if column.items is not None:
        return _ITEMS[column.items]
    cells = _column(sample.rows, at, column.name)
    dtype = cells.dtype
    # scikit-learn refuses pandas.NA in many places: it comes only into columns that had it in fit.
    missing = [np.nan] if getattr(dtype, "na_value", np.nan) is not pd.NA or cells.isna().any() else []
    if hasattr(dtype, "categories"):
        # A categorical column holds its categories and nothing else; the schema of an int64 one has no missing cells.
        return [*list(dtype.categories[:3]), *([np.nan] if column.kind not in ("int64", "bool") else [])]
    if column.unit is not None:
        return [pd.Timestamp(text).as_unit("us") for text in _DATES] + [cells.max(), cells.min()]
    if column.kind == "string":
        values: list[Any] = [*(_DOCUMENTS if sample.schema.rows == "documents" else _STRINGS), *missing]
        if dtype == "object" and (any(c is None for c in cells) or not any(isinstance(c, float) for c in cells)):
            values.append(None)
        first = next((c for c in cells if isinstance(c, str) and c), None)
        return values + ([first + " ", first.swapcase()] if first is not None else [])
    # A column without missing cells in the sample is int64 or bool in the schema, which has no place for them.
    if isinstance(dtype, np.dtype) or column.kind not in ("float64", "float32"):
        missing = []
    numbers = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    if numbers.kind == "b" or column.kind == "bool":
        return [True, False, *missing]
    if numbers.kind in "iu" or column.kind == "int64":
        low, high = (np.iinfo(numbers).min, np.iinfo(numbers).max) if numbers.kind in "iu" else (_INTS[-1], _INTS[-2])
        return [*(v for v in _INTS if low <= v <= min(high, 2**63 - 1)), *missing]
    known = pd.Series(cells).to_numpy(dtype=np.float64, na_value=np.nan)
    finite = known[np.isfinite(known)]
    with np.errstate(over="ignore"):
        extremes = [finite.max(), finite.min(), finite.max() * 10, finite.min() * 10] if finite.size else []
        nan: list[Any] = [] if getattr(dtype, "na_value", np.nan) is pd.NA and not missing else [np.nan]
        if dtype == "object" and column.null == "none":
            nan = [None]  # what scikit-learn saw in fit; a program has NaN for both
        floats = [*nan, *_FLOATS, *extremes]
        return [np.float32(v) for v in floats] if column.kind == "float32" else floats


def _column(rows: Any, at: int, name: str) -> Any:
    if hasattr(rows, "iloc"):
        return rows.iloc[:, at]
    if rows.ndim == 2:
        return rows[:, at]
    return np.array([row.get(name) for row in rows], dtype=object) if isinstance(rows[0], dict) else rows


def _edit(rows: Any, sample: Sample, edits: list[tuple[int, int, Any]]) -> Any:
    """Rows with cells replaced, every column keeping its dtype."""
    if not hasattr(rows, "iloc") and rows.ndim == 1:
        rows, names = rows.copy(), sample.schema.names
        for row, at, value in edits:
            rows[row] = {**rows[row], names[at]: value} if sample.schema.rows == "dicts" else value
        return rows
    if not hasattr(rows, "iloc"):
        rows = rows.copy()
        with np.errstate(over="ignore"):  # a large number becomes infinity in a narrow float
            for row, at, value in edits:
                rows[row, at] = value
        return rows
    import pandas as pd

    by_column: dict[int, list[tuple[int, Any]]] = {}
    for row, at, value in edits:
        by_column.setdefault(at, []).append((row, value))
    parts = []
    for at, name in enumerate(rows.columns):
        series = rows.iloc[:, at]
        if at in by_column:
            cells = series.to_numpy(dtype=object, copy=True)
            for row, value in by_column[at]:
                cells[row] = value
            # pandas.array knows missing cells of its own dtypes and of dates; NumPy's take the cells as they are.
            own = not isinstance(series.dtype, np.dtype) or series.dtype.kind == "M"
            with np.errstate(over="ignore"):  # a large number becomes infinity in a narrow float
                column = pd.array(cells, dtype=series.dtype) if own else cells.astype(series.dtype)
            series = pd.Series(column, name=name, dtype=series.dtype)  # else pandas 3 makes str of object cells
        parts.append(series)
    return pd.concat(parts, axis=1)


def boundary_rows(
    program: Program, sample: Sample, columns: dict[str, Array], *, most: int, seed: int = 0
) -> Sample | None:
    """Rows on tree thresholds and one float above, in raw units; None when no float column reaches a tree alone.

    ``columns`` are the sample's rows as the program reads them. For each chosen threshold, and a raw column that moves
    the compared feature, bisection over the ordered floats finds neighbours a < b with f(a) <= threshold < f(b). A
    feature that scikit-learn itself does not know to the last bit, a linear model's score say, has no such neighbours.
    """
    rng = np.random.default_rng(seed)
    rows: list[Any] = []
    edits: list[tuple[int, int, Any]] = []
    matrix = sample.schema.form == "matrix"
    float_columns = [
        (at, c)
        for at, c in enumerate(sample.schema.columns)
        if c.used
        and c.kind in ("float64", "float32")
        and _column(sample.rows, at, c.name).dtype in (np.float64, np.float32)
    ]
    trees = [n for n in program.nodes if n.op == "TreeEnsemble"]
    if not trees or not float_columns or any(n.op == "OnnxGraph" for n in program.nodes):
        return None
    known = determined(program)
    for node in trees:
        prefix = program.with_outputs([Output("x", (node.inputs[0],), "matrix", "float64")])
        base_row = int(rng.integers(len(sample)))
        base = {k: v[base_row : base_row + 1] for k, v in columns.items()}
        movers = _movers(prefix, base, columns, float_columns, matrix)
        inner = np.flatnonzero((node.attrs["feature"] >= 0) & (node.attrs["category_set"] < 0))
        inner = inner[np.isin(node.attrs["feature"][inner], list(movers))]
        inner = inner[known[node.inputs[0]][node.attrs["feature"][inner]]]
        if not inner.size:
            continue
        picked = rng.choice(inner, min(most // (2 * len(trees)) + 1, inner.size), replace=False)
        features = node.attrs["feature"][picked]
        at = np.array([movers[f] for f in features])
        low, high = _bisect(prefix, base, sample, at, features, node.attrs["threshold"][picked], matrix)
        for i in np.flatnonzero(np.isfinite(low)):
            for value in (low[i], high[i]):
                edits.append((len(rows), int(at[i]), _as_kind(value, sample.schema.columns[at[i]].kind)))
                rows.append(base_row)
    if not rows:
        return None
    return Sample(_edit(sample.take(np.array(rows)), sample, edits), sample.schema)


def _as_kind(value: float, kind: str) -> Any:
    return np.float32(value) if kind == "float32" else float(value)


def _evaluate(prefix: Program, columns: dict[str, Array]) -> Array | None:
    try:
        return interpreter.run(prefix, columns)["x"]
    except ValueError:
        return None  # the program refuses such rows before the tree sees them


def _with(base: dict[str, Array], at: Array, values: Array, matrix: bool, names: list[str]) -> dict[str, Array]:
    n = len(values)
    out = {k: np.repeat(v, n, axis=0) for k, v in base.items()}
    if matrix:
        key = next(iter(out))
        out[key][np.arange(n), at] = values
    else:
        for i, (column, value) in enumerate(zip(at, values, strict=True)):
            out[names[column]][i] = value
    return out


def _movers(
    prefix: Program,
    base: dict[str, Array],
    columns: dict[str, Array],
    float_columns: list[tuple[int, Column]],
    matrix: bool,
) -> dict[int, int]:
    """Tree feature -> the one float column that moves it; features moved by several columns are left out."""
    at_base = _evaluate(prefix, base)
    if at_base is None:
        return {}
    owner: dict[int, int] = {}
    for at, column in float_columns:
        trial = {k: v.copy() for k, v in base.items()}
        source = columns["X"][:, at] if matrix else columns[column.name]
        finite = source[np.isfinite(source)].astype(np.float64)
        if not finite.size:
            continue
        cell = finite.max() + abs(finite.max()) + 1.0
        if matrix:
            trial["X"][0, at] = cell
        else:
            trial[column.name][0] = cell
        moved = _evaluate(prefix, trial)
        if moved is None:
            continue
        for feature in np.flatnonzero(moved[0] != at_base[0]):
            owner[int(feature)] = -1 if int(feature) in owner else at
    return {f: at for f, at in owner.items() if at >= 0}


def _ordered(x: Array) -> Array:
    """float64 -> int64 that sorts alike, so that neighbours differ by one."""
    bits = x.view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


def _floats(order: Array) -> Array:
    return np.where(order < 0, np.int64(-(2**63)) - order, order).view(np.float64)


def _bisect(
    prefix: Program,
    base: dict[str, Array],
    sample: Sample,
    at: Array,
    features: Array,
    thresholds: Array,
    matrix: bool,
) -> tuple[Array, Array]:
    """Neighbouring raw floats on either side of each threshold; NaN where the column cannot reach it."""
    names = list(sample.schema.names)
    limit = 1e30  # beyond it float32 casts overflow
    low = np.full(len(at), _ordered(np.array([-limit]))[0])
    high = np.full(len(at), _ordered(np.array([limit]))[0])
    single = np.array([sample.schema.columns[i].kind == "float32" for i in at])

    def side(order: Array) -> Array | None:
        values = _floats(order)
        values = np.where(single, values.astype(np.float32).astype(np.float64), values)
        result = _evaluate(prefix, _with(base, at, values, matrix, names))
        return None if result is None else result[np.arange(len(at)), features] <= thresholds

    left, right = side(low), side(high)
    if left is None or right is None:
        return np.full(len(at), np.nan), np.full(len(at), np.nan)
    falling = ~left & right  # a negative scale turns the order round
    crosses = left != right
    for _ in range(64):
        middle = low // 2 + high // 2 + (low % 2 + high % 2) // 2
        here = side(middle)
        if here is None:
            return np.full(len(at), np.nan), np.full(len(at), np.nan)
        go_high = here != falling
        active = high > low + 1  # their difference would overflow
        low = np.where(active & go_high, middle, low)
        high = np.where(active & ~go_high, middle, high)
    return np.where(crosses, _floats(low), np.nan), np.where(crosses, _floats(high), np.nan)
