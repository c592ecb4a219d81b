"""What is known of every value before any row is seen: per column, its least and largest number, and whether
NaN occurs.

Interval arithmetic over the program in execution order. A bound of infinity means that infinity may occur, so
"finite" is proven by bounds within the dtype's range. Used by the passes that remove or move checks; an op
without a rule here counts as unknown, which is always right.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from edgeml.ir.ops_quantised import largest_code
from edgeml.ir.program import Node, ValueType
from edgeml.ir.table import Array
from edgeml.passes.rewrite import Graph

# Rounding can carry a result past the bound computed from rounded operands. Every bound made by arithmetic is
# widened by this much (relative), more than a sum of a million terms can err in float64.
_SLACK = 1e-9
# The same for float32: a sum of a hundred thousand terms.
_SLACK32 = 1e-2
# Ops that hand on cells as they are, or bound them by themselves: nothing to widen.
_KEEP = (
    "Constant",
    "Concat",
    "Select",
    "Where",
    "Minimum",
    "Maximum",
    "Neg",
    "Abs",
    "CheckFinite",
    "CheckRange",
    "Require",
    "Take",
    "Recode",
)
_INT64 = 2.0**63
_MOST_TERMS = 2.0**40
_FLOATS = ("float64", "float32")


@dataclass(frozen=True, slots=True)
class Facts:
    """Bounds of a value: ``low``, ``high`` float64 (width,), and ``nan`` bool (width,), each cell for one
    column.
    """

    low: Array
    high: Array
    nan: Array

    def finite(self, dtype: str, *, allow_nan: bool = False) -> bool:
        """Whether no cell can be infinite, nor NaN unless allowed."""
        largest = float(np.finfo(dtype).max)
        inside = bool(np.all((self.low >= -largest) & (self.high <= largest)))
        return inside and (allow_nan or not self.nan.any())

    @property
    def magnitude(self) -> Array:
        """Largest absolute value of each column."""
        result: Array = np.maximum(np.abs(self.low), np.abs(self.high))
        return result


def _facts(low: object, high: object, nan: object, width: int) -> Facts:
    """Facts from numbers or rows, widened to ``width`` columns."""
    return Facts(
        np.broadcast_to(np.asarray(low, dtype=np.float64), width),
        np.broadcast_to(np.asarray(high, dtype=np.float64), width),
        np.broadcast_to(np.asarray(nan, dtype=bool), width),
    )


def unknown(t: ValueType) -> Facts:
    """What is known of any value of a type."""
    if t.dtype == "bool":
        return _facts(0, 1, False, t.width)
    if t.dtype == "int64":
        return _facts(-_INT64, _INT64, False, t.width)
    return _facts(-np.inf, np.inf, True, t.width)


class Known:
    """Facts of every value of a graph, learnt in execution order as the graph grows.

    A check teaches something of its operand too: the nodes behind it only run when it has passed.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._facts = [unknown(entry.type) for entry in graph.inputs]

    def of(self, value: int) -> Facts:
        """What is known of a value, given every node that stands in the graph so far."""
        n = len(self._graph.inputs)
        for node in self._graph.nodes[len(self._facts) - n :]:
            operands = [self._facts[v] for v in node.inputs]
            if node.op == "Where":
                operands[2] = self._without_replaced_nan(node, operands[2])
            found = facts_of_node(node, operands)
            if node.op in ("CheckFinite", "CheckRange"):
                self._facts[node.inputs[0]] = found
            self._facts.append(found)
        return self._facts[value]

    def _without_replaced_nan(self, node: Node, kept: Facts) -> Facts:
        """Facts of x in Where(IsNaN(x), y, x), the form of every imputer."""
        test = self._graph.node_if(node.inputs[0], "IsNaN")
        if test is None or test.inputs[0] != node.inputs[2]:
            return kept
        return Facts(kept.low, kept.high, np.zeros_like(kept.nan))


def facts_of_node(node: Node, operands: Sequence[Facts]) -> Facts:
    """What is known of a node's result, given its operands."""
    rule = _RULES.get(node.op)
    if rule is None:
        return unknown(node.type)
    with np.errstate(all="ignore"):
        found = rule(node, operands)
        if node.type.dtype == "float32" and node.op not in _KEEP:
            found = _rounded_to_float32(found)
    if node.type.dtype == "int64" and found.magnitude.max(initial=0.0) >= _INT64:
        return unknown(node.type)  # integers wrap around
    return found


def _rounded_to_float32(x: Facts) -> Facts:
    """Facts of a float32 result computed as if in float64: infinite earlier, and rounded to 24 bits."""
    largest = float(np.finfo(np.float32).max)
    low, high = _widen(x.low, _SLACK32, -1), _widen(x.high, _SLACK32, 1)
    return Facts(np.where(low < -largest, -np.inf, low), np.where(high > largest, np.inf, high), x.nan)


def _narrowed(before: Facts, dtype: str, allow_nan: bool) -> Facts:
    """What is known of a value once a CheckFinite on it has passed."""
    largest = float(np.finfo(dtype).max)
    nan = before.nan if allow_nan else np.zeros_like(before.nan)
    return Facts(np.maximum(before.low, -largest), np.minimum(before.high, largest), nan)


# --- rules --------------------------------------------------------------------------------------------------
def _widen(bound: Array, slack: float, direction: int) -> Array:
    """A bound moved outward by a relative slack; a bound that is NaN (unknown) becomes infinite."""
    moved = bound + direction * slack * np.abs(bound)
    return np.where(np.isnan(moved), direction * np.inf, moved)


def _hull(corners: Sequence[Array], nan: Array) -> Facts:
    """Facts that hold for every corner, with slack for rounding."""
    stacked = np.stack(np.broadcast_arrays(*corners))
    unknown_corner = np.isnan(stacked).any(axis=0)
    low = np.where(unknown_corner, -np.inf, np.min(stacked, axis=0))
    high = np.where(unknown_corner, np.inf, np.max(stacked, axis=0))
    return Facts(_widen(low, _SLACK, -1), _widen(high, _SLACK, 1), np.broadcast_to(nan, low.shape))


def _infinite(x: Facts) -> Array:
    return np.isinf(x.low) | np.isinf(x.high)


def _constant(node: Node, xs: Sequence[Facts]) -> Facts:
    value = node.attrs["value"]
    if isinstance(value, tuple):
        return unknown(node.type)
    row, nan = value.astype(np.float64), value != value
    return Facts(np.where(nan, np.inf, row), np.where(nan, -np.inf, row), nan)


def _concat(node: Node, xs: Sequence[Facts]) -> Facts:
    return Facts(*(np.concatenate([getattr(x, name) for x in xs]) for name in ("low", "high", "nan")))


def _select(node: Node, xs: Sequence[Facts]) -> Facts:
    at, x = node.attrs["indices"], xs[0]
    return Facts(x.low[at], x.high[at], x.nan[at])


def _cast(node: Node, xs: Sequence[Facts]) -> Facts:
    x = xs[0]
    if node.attrs["to"] in _FLOATS:
        return x
    if node.attrs["to"] == "int64" and not x.nan.any() and not _infinite(x).any():
        return Facts(np.trunc(x.low), np.trunc(x.high), x.nan)
    return unknown(node.type)


def _add(node: Node, xs: Sequence[Facts]) -> Facts:
    a, b = xs
    return _hull([a.low + b.low, a.high + b.high], a.nan | b.nan | (_infinite(a) & _infinite(b)))


def _sub(node: Node, xs: Sequence[Facts]) -> Facts:
    a, b = xs
    return _hull([a.low - b.high, a.high - b.low], a.nan | b.nan | (_infinite(a) & _infinite(b)))


def _mul(node: Node, xs: Sequence[Facts]) -> Facts:
    a, b = xs
    corners = [a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high]
    return _hull(corners, a.nan | b.nan | _infinite(a) | _infinite(b))


def _div(node: Node, xs: Sequence[Facts]) -> Facts:
    a, b = xs
    if not ((b.low > 0) | (b.high < 0)).all():
        return unknown(node.type)
    corners = [a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high]
    return _hull(corners, a.nan | b.nan | (_infinite(a) & _infinite(b)))


def _minimum(node: Node, xs: Sequence[Facts]) -> Facts:
    a, b = xs
    return Facts(np.minimum(a.low, b.low), np.minimum(a.high, b.high), a.nan | b.nan)


def _maximum(node: Node, xs: Sequence[Facts]) -> Facts:
    a, b = xs
    return Facts(np.maximum(a.low, b.low), np.maximum(a.high, b.high), a.nan | b.nan)


def _where(node: Node, xs: Sequence[Facts]) -> Facts:
    _, a, b = xs
    return _facts(np.minimum(a.low, b.low), np.maximum(a.high, b.high), a.nan | b.nan, node.type.width)


def _neg(node: Node, xs: Sequence[Facts]) -> Facts:
    return Facts(-xs[0].high, -xs[0].low, xs[0].nan)


def _abs(node: Node, xs: Sequence[Facts]) -> Facts:
    return Facts(np.zeros_like(xs[0].low), xs[0].magnitude, xs[0].nan)


def _sqrt(node: Node, xs: Sequence[Facts]) -> Facts:
    x = xs[0]
    return _hull([np.sqrt(np.maximum(x.low, 0)), np.sqrt(np.maximum(x.high, 0))], x.nan | (x.low < 0))


def _exp(node: Node, xs: Sequence[Facts]) -> Facts:
    return _hull([np.zeros_like(xs[0].high), np.exp(xs[0].high)], xs[0].nan)


def _sigmoid(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(0, 1, xs[0].nan, node.type.width)


def _tanh(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(-1 - _SLACK, 1 + _SLACK, xs[0].nan, node.type.width)


def _turning(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(-1 - _SLACK, 1 + _SLACK, xs[0].nan | np.isinf(xs[0].magnitude), node.type.width)


def _sum(node: Node, xs: Sequence[Facts]) -> Facts:
    total = xs[0].magnitude.sum(keepdims=True)
    nan = xs[0].nan.any() | (_infinite(xs[0]).sum() > 1) | np.isinf(total)
    return _hull([-total, total], nan)


def _extreme(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(xs[0].low.min(), xs[0].high.max(), xs[0].nan.any(), 1)


def _softmax(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(0, 1 + _SLACK, xs[0].nan.any() | _infinite(xs[0]).any(), node.type.width)


def _linear(node: Node, xs: Sequence[Facts]) -> Facts:
    size = xs[0].magnitude
    total = size @ np.abs(node.attrs["weight"].astype(np.float64)) + np.abs(node.attrs["bias"].astype(np.float64))
    return _hull([-total, total], xs[0].nan.any() | ~np.isfinite(total))


def _convolve(node: Node, xs: Sequence[Facts]) -> Facts:
    total = np.full(node.type.width, xs[0].magnitude.sum() * xs[1].magnitude.max())
    return _hull([-total, total], xs[0].nan.any() | xs[1].nan.any() | ~np.isfinite(total))


def _quantized_linear(node: Node, xs: Sequence[Facts]) -> Facts:
    """The products are added before they are scaled: where their sum may be infinite, nothing is known."""
    scale, bias = (node.attrs[name].astype(np.float64) for name in ("scale", "bias"))
    products = xs[0].magnitude @ np.abs(node.attrs["weight"].astype(np.float64))
    total = np.where(products * (1 + _SLACK32) < np.finfo(node.type.dtype).max, products * scale + np.abs(bias), np.inf)
    return _hull([-total, total], xs[0].nan.any() | np.isinf(total))


def _fake_quantize(node: Node, xs: Sequence[Facts]) -> Facts:
    top, zero, scale = largest_code(node.attrs["bits"]), node.attrs["zero_point"], node.attrs["scale"]
    low, high = ((code - zero) * scale for code in (-top - 1, top))
    return Facts(np.clip(xs[0].low - scale, low, high), np.clip(xs[0].high + scale, low, high), xs[0].nan)


def _dynamic_quantize(node: Node, xs: Sequence[Facts]) -> Facts:
    largest = xs[0].magnitude.max(initial=0.0)
    return _hull([-xs[0].magnitude - largest, xs[0].magnitude + largest], xs[0].nan.any() | np.isinf(largest))


def _lookup(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(-1, len(node.attrs["keys"]) - 1, False, 1)


def _rank(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(0, np.diff(node.attrs["offsets"]) + 1, False, node.type.width)


def _take(node: Node, xs: Sequence[Facts]) -> Facts:
    table = node.attrs["table"]
    if isinstance(table, tuple) or not len(table):
        return unknown(node.type)
    cells = table.astype(np.float64)
    nan = np.isnan(cells)
    low, high = np.where(nan, np.inf, cells).min(axis=0), np.where(nan, -np.inf, cells).max(axis=0)
    return Facts(low, high, nan.any(axis=0))


def _recode(node: Node, xs: Sequence[Facts]) -> Facts:
    cells = node.attrs["values"].astype(np.float64)
    nan = np.isnan(cells)
    return _facts(np.where(nan, np.inf, cells).min(), np.where(nan, -np.inf, cells).max(), nan.any(), 1)


def _one_hot(node: Node, xs: Sequence[Facts]) -> Facts:
    return _facts(0, 1, False, node.type.width)


def _tree_ensemble(node: Node, xs: Sequence[Facts]) -> Facts:
    leaves = np.abs(node.attrs["leaf_values"]).max(initial=0.0)
    total = np.abs(node.attrs["base"]) + len(node.attrs["roots"]) * leaves
    return _hull([-total, total], ~np.isfinite(total))


def _terms(node: Node, xs: Sequence[Facts]) -> Facts:
    """Counts, of fewer terms than a computer holds."""
    return _facts(-_MOST_TERMS if node.attrs.get("signed") else 0, _MOST_TERMS, False, node.type.width)


def _check_finite(node: Node, xs: Sequence[Facts]) -> Facts:
    return _narrowed(xs[0], node.type.dtype, node.attrs["allow_nan"])


def _check_range(node: Node, xs: Sequence[Facts]) -> Facts:
    low, high, nan = node.attrs["low"], node.attrs["high"], node.attrs["allow_nan"]
    return Facts(np.maximum(xs[0].low, low), np.minimum(xs[0].high, high), xs[0].nan & nan)


def _require(node: Node, xs: Sequence[Facts]) -> Facts:
    return xs[0]


_RULES: dict[str, Callable[[Node, Sequence[Facts]], Facts]] = {
    "Constant": _constant,
    "Concat": _concat,
    "Select": _select,
    "Cast": _cast,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Minimum": _minimum,
    "Maximum": _maximum,
    "Where": _where,
    "Neg": _neg,
    "Abs": _abs,
    "Sqrt": _sqrt,
    "Exp": _exp,
    "Sigmoid": _sigmoid,
    "Tanh": _tanh,
    "Erf": _tanh,
    "Sign": _tanh,
    "Sin": _turning,
    "Cos": _turning,
    "ReduceSum": _sum,
    "ReduceMax": _extreme,
    "ReduceMin": _extreme,
    "Softmax": _softmax,
    "Linear": _linear,
    "Convolve": _convolve,
    "QuantizedLinear": _quantized_linear,
    "FakeQuantize": _fake_quantize,
    "DynamicQuantize": _dynamic_quantize,
    "Lookup": _lookup,
    "Rank": _rank,
    "Take": _take,
    "Recode": _recode,
    "OneHot": _one_hot,
    "TreeEnsemble": _tree_ensemble,
    "Terms": _terms,
    "HashedTerms": _terms,
    "CheckFinite": _check_finite,
    "CheckRange": _check_range,
    "Require": _require,
}
