"""Values with few nonzero cells, as the interpreter holds those that come from texts: a vocabulary of 100,000 terms
never becomes dense rows on the way to a linear layer.

In comes a node and its arguments, arrays or ``Sparse``; out goes what the op's dense meaning is, to the bit, as a
``Sparse`` where it is one again. An op without a rule here is given dense arrays, which is always right; the
interpreter sees to it that they have few rows. Sums run in column order, and what is left out of them are zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.ir.ops_ml import non_finite_error
from edgeml.ir.program import Attr, Node
from edgeml.ir.table import OPS, Array

# Ops whose result is sparse by themselves: op name -> function of the arguments and attributes.
SOURCES: dict[str, Callable[..., Sparse]] = {}
_COLUMNS_AT_ONCE = 16  # of a linear layer's outputs: as many products of every cell are in memory


class Sparse:
    """Cells (rows, width) in rows: row r has ``data[indptr[r] : indptr[r + 1]]`` in the columns ``indices[…]``, which
    increase; every other cell is ``fill``, a scalar of the same dtype.
    """

    __slots__ = ("_rows", "data", "fill", "indices", "indptr", "width")

    def __init__(self, data: Array, indices: Array, indptr: Array, width: int, fill: Any = 0) -> None:
        self.data, self.indices, self.indptr, self.width = data, indices, indptr, width
        self.fill = data.dtype.type(fill)
        self._rows: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.indptr) - 1, self.width

    @property
    def rows(self) -> Array:
        """Row of every cell, int64."""
        if self._rows is None:
            self._rows = np.repeat(np.arange(len(self.indptr) - 1), self.indptr[1:] - self.indptr[:-1])
        return self._rows

    def dense(self) -> Array:
        """The same as an array."""
        result = np.full(self.shape, self.fill, dtype=self.data.dtype)
        result[self.rows, self.indices] = self.data
        return result

    def alike(self, data: Array, fill: Any) -> Sparse:
        """Other cells in the same places."""
        result = Sparse(data, self.indices, self.indptr, self.width, fill)
        result._rows = self._rows
        return result


Argument = Array | Sparse


def dense(x: Argument) -> Array:
    """x as an array."""
    return x.dense() if isinstance(x, Sparse) else x


def evaluate(node: Node, arguments: Sequence[Argument]) -> Argument:
    """What the node computes. Raises InputError where it refuses a row."""
    source = SOURCES.get(node.op)
    if source is not None:
        return source(*map(dense, arguments), **node.attrs)
    if any(isinstance(x, Sparse) for x in arguments):
        rule = _RULES.get(node.op)
        result = None if rule is None else rule(node.op, arguments, node.attrs)
        if result is not None:
            return result
    return OPS[node.op].evaluate(*map(dense, arguments), **node.attrs)


# What was found out about whole rows of constants, which stand for a vocabulary: that takes longer than a document.
_FOUND: dict[Any, tuple[list[Array], Any]] = {}
_MOST = 64


def _once(key: Any, arrays: Sequence[Array], find: Callable[[], Any]) -> Any:
    """What ``find`` makes of the arrays, once for those that are parts of a program: rows of constants and weights.

    They are known by where they lie, which is theirs alone as long as they are kept; an array that was only just
    computed owns its memory, and is not.
    """
    wide = [x for x in arrays if x.size > 1]
    if not wide or any(x.base is None or (x.ndim == 2 and x.shape[1] == 1) for x in wide):
        return find()
    known = (key, *((x.ctypes.data, x.shape, x.dtype) if x.size > 1 else x.item() for x in arrays))
    found = _FOUND.get(known)
    if found is None:
        if len(_FOUND) >= _MOST:
            _FOUND.clear()
        found = _FOUND[known] = wide, find()
    return found[1]


# --- rules: (op, arguments, attributes) -> the result, or None where only dense arrays will do -----------------
def _elementwise(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Sparse | None:
    like = max((x for x in arguments if isinstance(x, Sparse)), key=lambda x: x.width)
    cells: list[Array] = []
    fills: list[Array] = []
    for x in arguments:
        if isinstance(x, Sparse) and x.width < like.width:
            x = x.dense()
        if isinstance(x, Sparse):
            if x.indices is not like.indices or x.indptr is not like.indptr:
                return None
            cells.append(x.data)
            fills.append(np.array([[x.fill]]))
        elif x.shape == (1, 1):
            cells.append(x[0])
            fills.append(x)
        elif x.shape[0] == 1:
            cells.append(x[0, like.indices])
            fills.append(x)
        elif x.shape[1] == 1:
            cells.append(x[like.rows, 0])
            fills.append(x)
        else:
            return None
    if sum(x.size > 1 for x in fills) > 1:
        return None
    evaluate = OPS[op].evaluate

    def fill_of() -> Any:
        fill = evaluate(*fills, **attrs).ravel()
        return fill[0] if fill.size and (fill == fill[0]).all() else None

    fill = _once((op, *attrs.values()), fills, fill_of)
    if fill is None:
        return None
    data = evaluate(*(x[None, :] for x in cells), **attrs)[0]
    return like.alike(np.broadcast_to(data, like.data.shape), fill)


def _sum(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Array | None:
    x = arguments[0]
    return _added(x, x.data) if isinstance(x, Sparse) and x.fill == 0 else None


def _added(x: Sparse, cells: Array) -> Array:
    """Sums of ``cells`` by row, one after the other from 0, (rows, 1)."""
    if cells.dtype == np.float64:
        return np.bincount(x.rows, cells, x.shape[0])[:, None]
    total = np.zeros((x.shape[0], 1), dtype=cells.dtype)
    np.add.at(total[:, 0], x.rows, cells)
    return total


def _extreme(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Array | None:
    x = arguments[0]
    if not isinstance(x, Sparse) or not x.data.size:
        return None
    best: Any = np.maximum if op == "ReduceMax" else np.minimum
    start = x.data.min() if op == "ReduceMax" else x.data.max()
    result = np.full(x.shape[0], start, dtype=x.data.dtype)
    best.at(result, x.rows, x.data)
    count = np.diff(x.indptr)
    result[count == 0] = x.fill
    return np.where(count < x.width, best(result, x.fill), result)[:, None]


def _linear(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Array | None:
    x, weight, bias = arguments[0], attrs["weight"], attrs["bias"]
    if not isinstance(x, Sparse) or x.fill != 0:
        return None
    if not _once("finite", [weight], lambda: bool(np.isfinite(weight).all())):
        return None  # nothing times infinity is something
    total = _product(x, weight)
    total += bias
    return total


def _product(x: Sparse, weight: Array) -> Array:
    """x @ weight in x's dtype, whatever the weight's."""
    total = np.empty((x.shape[0], weight.shape[1]), dtype=x.data.dtype)
    for first in range(0, weight.shape[1], _COLUMNS_AT_ONCE):
        chosen = weight[x.indices, first : first + _COLUMNS_AT_ONCE].astype(x.data.dtype, copy=False)
        for at, product in enumerate((x.data[:, None] * chosen).T, first):
            total[:, at : at + 1] = _added(x, product)
    return total


def _quantized_linear(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Array | None:
    x = arguments[0]
    if not isinstance(x, Sparse) or x.fill != 0:
        return None
    total = _product(x, attrs["weight"])
    total *= attrs["scale"]
    total += attrs["bias"]
    return total


def _dynamic_quantize(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Sparse | None:
    x = arguments[0]
    if not isinstance(x, Sparse) or x.fill != 0:
        return None
    largest = np.zeros(x.shape[0], dtype=x.data.dtype)
    np.maximum.at(largest, x.rows, np.abs(x.data))
    # Each cell as a row of its own, beside the largest of the row it is from: they have one grid.
    cells = np.stack([x.data, largest[x.rows]], axis=1)
    return x.alike(OPS[op].evaluate(cells, **attrs)[:, 0], 0)


def _select(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Sparse | None:
    x, chosen = arguments[0], attrs["indices"]
    assert isinstance(x, Sparse)
    order = np.argsort(chosen, kind="stable")
    wanted = chosen[order]
    if not len(wanted) or (wanted[1:] == wanted[:-1]).any():
        return None
    place = np.minimum(np.searchsorted(wanted, x.indices), len(wanted) - 1)
    kept = wanted[place] == x.indices
    columns, rows = order[place[kept]], x.rows[kept]
    sorting = np.lexsort((columns, rows))
    return Sparse(x.data[kept][sorting], columns[sorting], _starts(rows, x.shape[0]), len(chosen), x.fill)


def _concat(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Sparse | None:
    rows = max(x.shape[0] for x in arguments)
    narrow = sum(x.shape[1] for x in arguments if not isinstance(x, Sparse))
    wide = sum(x.width for x in arguments if isinstance(x, Sparse))
    if narrow > wide or any(isinstance(x, Sparse) and x.fill != 0 for x in arguments):
        return None
    parts, at = [], 0
    for x in arguments:
        if isinstance(x, Sparse):
            parts.append((x.data, x.indices + at, x.rows))
        else:
            cells = np.broadcast_to(x, (rows, x.shape[1]))
            parts.append((cells.ravel(), np.tile(np.arange(at, at + x.shape[1]), rows), _rows_of(cells)))
        at += x.shape[1]
    data, columns, owners = (np.concatenate(part) for part in zip(*parts, strict=True))
    sorting = np.argsort(owners, kind="stable")  # the parts stand in the order of their columns
    return Sparse(data[sorting], columns[sorting], _starts(owners, rows), at)


def _rows_of(cells: Array) -> Array:
    return np.repeat(np.arange(cells.shape[0]), cells.shape[1])


def _starts(owners: Array, rows: int) -> Array:
    return np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=rows))])


def _check_finite(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Argument | None:
    x = arguments[0]
    assert isinstance(x, Sparse)
    bad = np.isinf(x.data) if attrs["allow_nan"] else ~np.isfinite(x.data)
    if bad.any():
        at = int(np.flatnonzero(bad)[0])
        raise non_finite_error(int(x.rows[at]), int(x.indices[at]), attrs["what"], float(x.data[at]))
    return x if np.isfinite(x.fill) else None


def _check_range(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Argument | None:
    x, low, high = arguments[0], attrs["low"], attrs["high"]
    assert isinstance(x, Sparse)
    allowed = attrs["allow_nan"][x.indices] & np.isnan(x.data)
    inside = allowed | ((x.data >= low[x.indices]) & (x.data <= high[x.indices]))
    fill = np.array([x.fill])
    zeros = _once("inside", [low, high, fill], lambda: bool(((low <= fill) & (high >= fill)).all()))
    return x if zeros and inside.all() else None


def _require(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Argument:
    x, ok = arguments
    OPS["Require"].evaluate(None, dense(ok), **attrs)
    return x


def _trees(op: str, arguments: Sequence[Argument], attrs: Mapping[str, Attr]) -> Array:
    """Only the columns that some node compares."""
    x, feature = arguments[0], attrs["feature"]
    used = np.unique(feature[feature >= 0]).astype(np.int64)
    chosen = _select("Select", [x], {"indices": used})
    cells = np.empty((x.shape[0], 0), dtype=np.float64) if chosen is None else chosen.dense()
    places = np.where(feature >= 0, np.searchsorted(used, feature), -1).astype(feature.dtype)
    return OPS[op].evaluate(cells, **{**attrs, "feature": places})


# What looks at one cell at a time.
ELEMENTWISE = frozenset(
    (
        "Cast", "Add", "Sub", "Mul", "Div", "Minimum", "Maximum", "Less", "LessEqual", "Greater", "GreaterEqual",
        "Equal", "And", "Or", "Not", "Where", "Neg", "Abs", "Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "IsNaN", "Fmod",
        "Pow", "Log1p", "Expm1", "Sin", "Cos", "Erf", "NormalQuantile", "Digamma", "LogGamma", "Floor", "Round", "Sign",
        "BesselK", "FakeQuantize",
    )
)  # fmt: skip
_Rule = Callable[[str, Sequence[Argument], Mapping[str, Attr]], "Argument | None"]
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    "ReduceSum": _sum,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
    "Linear": _linear,
    "QuantizedLinear": _quantized_linear,
    "DynamicQuantize": _dynamic_quantize,
    "Select": _select,
    "Concat": _concat,
    "CheckFinite": _check_finite,
    "CheckRange": _check_range,
    "Require": _require,
    "TreeEnsemble": _trees,
    "TreeLeaves": _trees,
}
# Ops that give sparse values when they are given some.
KEEPS = ELEMENTWISE | {"DynamicQuantize", "Select", "Concat", "CheckFinite", "CheckRange", "Require"}
