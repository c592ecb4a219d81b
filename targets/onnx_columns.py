"""What every column of a program's values is known to hold, so that the ONNX target can compare and add in narrow
types.

Bounds and NaN come from passes/facts.py; added here is whether a column holds whole numbers or float32 numbers only.
``narrow_splits`` turns comparisons with float64 thresholds into float32 ones that answer alike for every number.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node, Program, ValueType
from edgeml.ir.table import Array
from edgeml.passes.facts import Facts, Known
from edgeml.passes.rewrite import Graph

# Kinds of a column, a whole number being the most that can be known. NaN and infinity belong to every kind.
ANY, FLOAT32, WHOLE = 0, 1, 2
_EXACT_FLOAT32 = 2**24
# Thresholds are looked for on grids as fine as 2**-20.
_FINEST = 20

_FIRST = ("CheckFinite", "Require", "Neg", "Abs")
_LEAST = ("Minimum", "Maximum", "ReduceMax", "ReduceMin")
_WHOLE_OF_WHOLE = ("Add", "Sub", "Mul", "ReduceSum")


class Columns:
    """Facts and kinds of every value of a program."""

    def __init__(self, program: Program) -> None:
        graph = Graph(program.inputs)
        graph.nodes.extend(program.nodes)
        self._known = Known(graph)
        self._kinds = [_of_type(entry.type) for entry in program.inputs]
        for node in program.nodes:
            self._kinds.append(_kinds(node, [self._kinds[v] for v in node.inputs]))
        self._last = len(self._kinds) - 1

    def facts(self, value: int) -> Facts:
        """Bounds of a value, given that every check of the program passes: else onnxruntime gives no answer at all."""
        self._known.of(self._last)
        return self._known.of(value)

    def kinds(self, value: int) -> Array:
        """ANY, FLOAT32 or WHOLE for each column of a value."""
        return self._kinds[value]


def _of_type(t: ValueType) -> Array:
    kind = WHOLE if t.dtype in ("int64", "bool") else FLOAT32 if t.dtype == "float32" else ANY
    return np.full(t.width, kind)


def _kinds(node: Node, xs: list[Array]) -> Array:
    """Kinds of a node's columns; never less than its dtype tells."""
    own = _of_type(node.type)
    found: Array = np.array([ANY])
    if node.op in ("Cast", *_FIRST):
        found = xs[0]
    elif node.op == "Constant" and node.type.dtype != "string":
        found = _of_numbers(node.attrs["value"][None, :])
    elif node.op == "Take" and node.type.dtype != "string":
        found = _of_numbers(np.asarray(node.attrs["table"]).reshape(-1, node.type.width))
    elif node.op == "Select":
        found = xs[0][node.attrs["indices"]]
    elif node.op == "Concat":
        found = np.concatenate(xs)
    elif node.op == "OneHot":
        found = np.array([WHOLE])
    elif node.op == "Where":
        found = np.minimum(xs[1], xs[2])
    elif node.op in _LEAST:
        found = np.array([min(x.min() for x in xs)]) if len(xs) == 1 else np.minimum(*xs)
    elif node.op in _WHOLE_OF_WHOLE and all((x == WHOLE).all() for x in xs):
        found = np.array([WHOLE])  # rounding moves no whole number off the whole numbers
    return np.asarray(np.maximum(own, found))


def _of_numbers(cells: Array) -> Array:
    """Kinds of the columns of a matrix of numbers."""
    with np.errstate(all="ignore"):
        whole = ((cells == np.rint(cells)) | (cells != cells)).all(axis=0)
        single = ((cells.astype(np.float32) == cells) | (cells != cells)).all(axis=0)
    return np.where(whole, WHOLE, np.where(single, FLOAT32, ANY))


def round_down(threshold: Array) -> Array:
    """Largest float32 <= threshold: for a float32 x, x <= it exactly where x <= threshold."""
    with np.errstate(over="ignore"):
        rounded = threshold.astype(np.float32)
        below = np.nextafter(rounded, np.float32(-np.inf))  # of the lowest float32: -inf
    return np.where(rounded.astype(np.float64) > threshold, below, rounded)


def narrow_splits(feature: Array, split: Array, kinds: Array) -> tuple[Array, Array | None] | None:
    """float32 splits for float64 columns, and the factor a column is multiplied by before it is rounded up, if any.

    ``x <= split`` holds exactly where ``float32(ceil(x * factor)) <= narrow`` does, or ``float32(x) <= narrow``
    without factors. None where there is no such form. A column needs nothing where its kind is known; else its splits
    must lie on a grid of steps 1 / factor, a power of two, since then no x between two steps can tell the difference.
    Whole numbers beyond 2**24 lose digits in float32, but keep their order with smaller ones.
    """
    finite = np.isfinite(split)
    if (kinds[feature] != ANY).all():
        whole = kinds[feature] == WHOLE
        narrow = np.where(whole, np.floor(split), split)
        if (np.abs(narrow[whole & finite]) >= _EXACT_FLOAT32).any():
            return None
        return round_down(narrow), None
    factor = np.ones(len(kinds))
    for column in np.unique(feature):
        here = (feature == column) & finite
        if kinds[column] == WHOLE:
            continue
        steps = next((2.0**k for k in range(_FINEST + 1) if _on_grid(split[here] * 2.0**k)), None)
        if steps is None:
            return None
        factor[column] = steps
    narrow = np.floor(split * factor[feature])
    if (np.abs(narrow[finite]) >= _EXACT_FLOAT32).any():
        return None
    return narrow.astype(np.float32), factor


def _on_grid(split: Array) -> bool:
    return bool((split == np.rint(split)).all())
