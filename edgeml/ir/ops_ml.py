"""The ML level of the op table: linear maps, table look-ups, tree ensembles, interpolation and checks on rows.

Every function is the op's meaning on arrays of shape (rows, width), in scikit-learn's arithmetic and order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.errors import InputError, NonFiniteError, OutOfRangeError, ProgramError, UnknownCategoryError
from edgeml.ir.ops_tensor import keys_array
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.table import Array, op, require_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]
FLOATS = ("float64", "float32")


# --- linear --------------------------------------------------------------------------------------------------------
def _infer_linear(types: Types, attrs: Attrs) -> ValueType:
    x, weight, bias = types[0], attrs["weight"], attrs["bias"]
    require_dtype(x, *FLOATS)
    if weight.ndim != 2 or weight.shape[0] != x.width or bias.shape != (weight.shape[1],):
        raise ProgramError(f"{x} times {weight.shape} plus {bias.shape} does not fit")
    if weight.dtype.name != x.dtype or bias.dtype.name != x.dtype:
        raise ProgramError(f"weight {weight.dtype} and bias {bias.dtype} must be {x.dtype}")
    return ValueType(x.dtype, weight.shape[1])


@op("Linear", 1, _infer_linear, {"weight": "array", "bias": "array"})
def linear(x: Array, weight: Array, bias: Array) -> Array:
    """x @ weight + bias; the products are added in column order, the bias last."""
    total = np.zeros((x.shape[0], weight.shape[1]), dtype=x.dtype)
    for k in range(weight.shape[0]):
        total += x[:, k : k + 1] * weight[k]
    return total + bias


# --- tables --------------------------------------------------------------------------------------------------------
def _infer_lookup(types: Types, attrs: Attrs) -> ValueType:
    x, keys = types[0], attrs["keys"]
    if x.width != 1:
        raise ProgramError(f"Lookup reads one column, got {x}")
    expected = "string" if isinstance(keys, tuple) else keys.dtype.name
    if expected != x.dtype:
        raise ProgramError(f"keys of {expected} looked up in {x}")
    return ValueType("int64", 1)


@op("Lookup", 1, _infer_lookup, {"keys": "keys"})
def lookup(x: Array, keys: Any) -> Array:
    """Position of x among the keys (the first of equals), -1 where it is none. NaN finds NaN, None finds None."""
    cells = keys_array(keys)
    if cells.dtype != object:
        order = np.argsort(cells, kind="stable")
        place = np.searchsorted(cells[order], x[:, 0])
        place = np.minimum(place, max(len(cells) - 1, 0))
        if not len(cells):
            return np.full((x.shape[0], 1), -1, dtype=np.int64)
        # searchsorted puts NaN last and finds the first of equals, but NaN == NaN is false.
        found = cells[order][place]
        equal = (found == x[:, 0]) | ((found != found) & (x[:, 0] != x[:, 0]))
        return np.where(equal, order[place], -1)[:, None].astype(np.int64)
    index: dict[object, int] = {}
    for i, key in enumerate(cells):
        index.setdefault(_cell_key(key), i)
    return np.array([[index.get(_cell_key(cell), -1)] for cell in x[:, 0]], dtype=np.int64).reshape(-1, 1)


_NAN = object()


def _cell_key(cell: object) -> object:
    return _NAN if isinstance(cell, float) and math.isnan(cell) else cell


def _infer_take(types: Types, attrs: Attrs) -> ValueType:
    if types[0].dtype != "int64" or types[0].width != 1:
        raise ProgramError(f"Take reads one int64 column, got {types[0]}")
    table = attrs["table"]
    if isinstance(table, tuple):
        return ValueType("string", 1)
    if table.ndim != 2:
        raise ProgramError(f"a table has two dimensions, got shape {table.shape}")
    return ValueType(table.dtype.name, table.shape[1])


@op("Take", 1, _infer_take, {"table": "keys"})
def take(x: Array, table: Any) -> Array:
    """Row x of the table. -1 is not a row: the converter sees to it that x lies in [0, rows of the table)."""
    if isinstance(table, tuple):
        return keys_array(table)[x]
    result: Array = table[x[:, 0]]
    return result


def _infer_one_hot(types: Types, attrs: Attrs) -> ValueType:
    if types[0].dtype != "int64" or types[0].width != 1:
        raise ProgramError(f"OneHot reads one int64 column, got {types[0]}")
    return ValueType(attrs["dtype"], attrs["width"])


@op("OneHot", 1, _infer_one_hot, {"width": "int", "dtype": "str"})
def one_hot(x: Array, width: int, dtype: str) -> Array:
    """1 in column x, 0 elsewhere; all 0 where x is outside [0, width)."""
    return np.asarray(x == np.arange(width, dtype=np.int64)[None, :], dtype=dtype)


# --- trees ---------------------------------------------------------------------------------------------------------
TREE_ATTRS = {
    "roots": "array",  # int32 (trees,): node of each root
    "feature": "array",  # int32 (nodes,): column compared; -1 in a leaf
    "threshold": "array",  # float64 (nodes,): x <= threshold goes left; in a categorical node unused
    "left": "array",  # int32 (nodes,): left child; in a leaf, its row of leaf_values
    "right": "array",  # int32 (nodes,): right child
    "missing_left": "array",  # uint8 (nodes,): 1 where NaN goes left
    "category_set": "array",  # int32 (nodes,): -1, or the row of `categories` that goes left
    "categories": "array",  # uint32 (sets, 8): bit c of a row is set when category c goes left
    "leaf_values": "array",  # float64 (leaves, k)
    "target": "array",  # int32 (trees,): output column a tree adds to (then k is 1); empty: all outputs, k = width
    "base": "array",  # float64 (width,): where the sums start
}
_TREE_DTYPES = {
    "roots": "int32",
    "feature": "int32",
    "threshold": "float64",
    "left": "int32",
    "right": "int32",
    "missing_left": "uint8",
    "category_set": "int32",
    "categories": "uint32",
    "leaf_values": "float64",
    "target": "int32",
    "base": "float64",
}


def _check_trees(types: Types, attrs: Attrs) -> None:
    x = types[0]
    require_dtype(x, *FLOATS)
    for name, dtype in _TREE_DTYPES.items():
        if attrs[name].dtype != dtype:
            raise ProgramError(f"{name} must be {dtype}, got {attrs[name].dtype}")
    feature, left, right, sets = (attrs[k] for k in ("feature", "left", "right", "category_set"))
    nodes, leaf = len(feature), feature < 0
    if any(len(attrs[k]) != nodes for k in ("threshold", "left", "right", "missing_left", "category_set")):
        raise ProgramError("node arrays of different lengths")
    if not len(attrs["roots"]) or attrs["roots"].min() < 0 or attrs["roots"].max() >= nodes:
        raise ProgramError("a root outside the nodes")
    if nodes and feature.max() >= x.width:
        raise ProgramError(f"a node reads column {feature.max()} of {x}")
    inner = np.flatnonzero(~leaf)
    # Children stand behind their parent, so every walk ends.
    if inner.size and (
        (left[inner] <= inner).any()
        or (right[inner] <= inner).any()
        or max(left[inner].max(), right[inner].max()) >= nodes
    ):
        raise ProgramError("a child must stand behind its parent")
    if leaf.any() and (left[leaf].min() < 0 or left[leaf].max() >= len(attrs["leaf_values"])):
        raise ProgramError("a leaf outside leaf_values")
    if nodes and sets.max() >= len(attrs["categories"]):
        raise ProgramError("a node outside categories")
    if attrs["categories"].shape[1:] != (8,):
        raise ProgramError("categories are rows of 8 uint32")


def _infer_trees(types: Types, attrs: Attrs) -> ValueType:
    _check_trees(types, attrs)
    width, k, target = len(attrs["base"]), attrs["leaf_values"].shape[1], attrs["target"]
    if target.size == 0:
        if k != width:
            raise ProgramError(f"leaves of {k} values for {width} outputs")
    elif k != 1 or len(target) != len(attrs["roots"]) or target.min() < 0 or target.max() >= width:
        raise ProgramError("a tree's target outside the outputs")
    return ValueType("float64", width)


def walk(x: Array, root: int, attrs: Attrs) -> Array:
    """Row of leaf_values that each row of x reaches in one tree, int64 (rows,).

    Comparisons follow scikit-learn's trees: float32 columns are compared with the float64 threshold exactly. A
    categorical node sends c left when bit c of its set is on; NaN and anything outside [0, 256) count as missing.
    """
    node = np.full(x.shape[0], root, dtype=np.int64)
    rows = np.arange(x.shape[0])
    feature, left, right = attrs["feature"], attrs["left"], attrs["right"]
    threshold, missing_left = attrs["threshold"], attrs["missing_left"]
    sets, categories = attrs["category_set"], attrs["categories"]
    while True:
        active = feature[node] >= 0
        if not active.any():
            return np.asarray(left[node], dtype=np.int64)
        here, at = node[active], rows[active]
        value = x[at, feature[here]].astype(np.float64)
        goes_left = value <= threshold[here]
        missing = np.isnan(value)
        categorical = sets[here] >= 0
        if categorical.any():
            outside = categorical & ~((value >= 0) & (value < 256))
            code = np.where(categorical & ~outside, value, 0.0)
            code = np.where(np.isnan(code), 0.0, code).astype(np.int64)
            word = categories[np.where(categorical, sets[here], 0), code >> 5]
            goes_left = np.where(categorical, (word >> (code & 31).astype(np.uint32)) & np.uint32(1) != 0, goes_left)
            missing = missing | outside
        goes_left = np.where(missing, missing_left[here] != 0, goes_left)
        node[active] = np.where(goes_left, left[here], right[here])


@op("TreeEnsemble", 1, _infer_trees, TREE_ATTRS)
def tree_ensemble(x: Array, **attrs: Any) -> Array:
    """base plus the leaf values of every tree, added in the order of the trees."""
    total = np.repeat(attrs["base"][None, :], x.shape[0], axis=0)
    values, target = attrs["leaf_values"], attrs["target"]
    for tree, root in enumerate(attrs["roots"]):
        leaf = walk(x, int(root), attrs)
        if target.size:
            total[:, target[tree]] += values[leaf, 0]
        else:
            total += values[leaf]
    return total


def _infer_leaves(types: Types, attrs: Attrs) -> ValueType:
    _check_trees(types, attrs)
    return ValueType("int64", len(attrs["roots"]))


@op("TreeLeaves", 1, _infer_leaves, TREE_ATTRS)
def tree_leaves(x: Array, **attrs: Any) -> Array:
    """The row of leaf_values reached in each tree. Parity checks use it to compare leaves, not only sums."""
    return np.stack([walk(x, int(root), attrs) for root in attrs["roots"]], axis=1)


# --- ranks -------------------------------------------------------------------------------------------------
def _infer_rank(types: Types, attrs: Attrs) -> ValueType:
    x, edges, offsets = types[0], attrs["edges"], attrs["offsets"]
    require_dtype(x, *FLOATS)
    if edges.dtype != np.float64 or edges.ndim != 1 or offsets.dtype != np.int64 or offsets.shape != (x.width + 1,):
        shapes = f"edges {edges.dtype}{edges.shape} and offsets {offsets.dtype}{offsets.shape}"
        raise ProgramError(f"Rank of {x} with {shapes}")
    if offsets[0] != 0 or offsets[-1] != len(edges) or (np.diff(offsets) < 0).any():
        raise ProgramError("Rank needs offsets from 0 up to the number of edges")
    inside = np.ones(max(len(edges) - 1, 0), dtype=bool)
    ends = offsets[1:-1]
    inside[ends[(ends > 0) & (ends < len(edges))] - 1] = False
    if np.isnan(edges).any() or np.isposinf(edges).any() or (np.diff(edges) <= 0)[inside].any():
        raise ProgramError("Rank needs the edges of a column to increase, without NaN and plus infinity")
    return ValueType("int64", x.width)


@op("Rank", 1, _infer_rank, {"edges": "array", "offsets": "array"})
def rank(x: Array, edges: Array, offsets: Array) -> Array:
    """How many edges of its column are below each cell; where it is NaN, one more than the column has.

    Column j has the edges ``edges[offsets[j] : offsets[j + 1]]``. With r the rank of x, ``x <= edges[i]`` exactly where
    ``r <= i``, and NaN is above them all.
    """
    result = np.empty(x.shape, dtype=np.int64)
    for j in range(x.shape[1]):
        own = edges[offsets[j] : offsets[j + 1]]
        result[:, j] = np.where(np.isnan(x[:, j]), len(own) + 1, np.searchsorted(own, x[:, j].astype(np.float64)))
    return result


# --- interpolation -------------------------------------------------------------------------------------------------
def _infer_interp(types: Types, attrs: Attrs) -> ValueType:
    xs, ys = attrs["xs"], attrs["ys"]
    require_dtype(types[0], "float64")
    if types[0].width != 1 or xs.ndim != 1 or xs.shape != ys.shape or len(xs) < 1:
        raise ProgramError(f"Interp of {types[0]} over {xs.shape} and {ys.shape}")
    if xs.dtype != np.float64 or ys.dtype != np.float64 or (np.diff(xs) <= 0).any():
        raise ProgramError("Interp needs increasing float64 xs and float64 ys")
    return ValueType("float64", 1)


@op("Interp", 1, _infer_interp, {"xs": "array", "ys": "array"})
def interp(x: Array, xs: Array, ys: Array) -> Array:
    """Piecewise linear through (xs, ys), constant outside; slope * (x - xs[j]) + ys[j], as numpy.interp computes it."""
    if len(xs) == 1:
        return np.where(np.isnan(x), np.nan, np.full(x.shape, ys[0]))
    j = np.clip(np.searchsorted(xs, x, side="right") - 1, 0, len(xs) - 2)
    y = (ys[j + 1] - ys[j]) / (xs[j + 1] - xs[j]) * (x - xs[j]) + ys[j]
    y = np.where(x == xs[j], ys[j], y)
    y = np.where(x >= xs[-1], ys[-1], np.where(x <= xs[0], ys[0], y))
    return np.where(np.isnan(x), x, y)


# --- checks on rows ------------------------------------------------------------------------------------------------
def _infer_check_finite(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], *FLOATS)
    return types[0]


def first_bad(bad: Array) -> tuple[int, int]:
    """Row and column of the first true cell."""
    row, column = np.argwhere(bad)[0]
    return int(row), int(column)


def non_finite_error(row: int, column: int, what: str, value: float | str) -> NonFiniteError:
    """The error of CheckFinite, shared by every engine; one that cannot tell the value names what it may be."""
    return NonFiniteError(
        f"{what} was given {value} (row {row}, its column {column}), which scikit-learn refuses too",
        "remove the row, or put an imputer in front of the estimator before compiling",
    )


@op("CheckFinite", 1, _infer_check_finite, {"allow_nan": "bool", "what": "str"}, effect=True)
def check_finite(x: Array, allow_nan: bool, what: str) -> Array:
    """x itself; refuses infinity, and NaN unless allowed, where scikit-learn's check_array does."""
    bad = np.isinf(x) if allow_nan else ~np.isfinite(x)
    if bad.any():
        row, column = first_bad(bad)
        raise non_finite_error(row, column, what, float(x[row, column]))
    return x


def _infer_require(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[1], "bool")
    if attrs["kind"] not in ("category", "input", "range"):
        raise ProgramError(f"Require has no kind {attrs['kind']}")
    return types[0]


def require_error(row: int, message: str, kind: str) -> InputError:
    """The error of Require, shared by every engine."""
    if kind == "range":
        return OutOfRangeError(f"row {row}: {message}", "use engine='native', which computes in float64")
    error = UnknownCategoryError if kind == "category" else InputError
    return error(f"row {row}: {message}", "remove the row, or fit the pipeline so that it accepts such values")


@op("Require", 2, _infer_require, {"message": "str", "kind": "str"}, effect=True)
def require(x: Array, ok: Array, message: str, kind: str) -> Array:
    """x itself; refuses rows where ok does not hold in every column."""
    if not ok.all():
        raise require_error(first_bad(~ok)[0], message, kind)
    return x


# --- what only one target can run ------------------------------------------------------------------------------------
def _infer_onnx_graph(types: Types, attrs: Attrs) -> ValueType:
    return ValueType(attrs["dtype"], attrs["width"])


@op("OnnxGraph", None, _infer_onnx_graph, {"model": "array", "output": "str", "width": "int", "dtype": "str"})
def onnx_graph(*xs: Array, model: Array, output: str, width: int, dtype: str) -> Array:
    """An ONNX model (uint8 bytes) made by skl2onnx, fed with the inputs in order; only the ONNX target can lower it."""
    raise ProgramError("OnnxGraph has no NumPy meaning: only the ONNX target runs it")
