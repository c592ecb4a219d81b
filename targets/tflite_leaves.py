"""TFLite lowering of TreeEnsemble: the leaves that tflite_trees.py finds, added up.

Leaf values that are whole numbers, a quantised ensemble's, are added exactly, in any order. When each leaf has one
value, the leaf's number is that value and there is no table of values; otherwise the table has the narrowest dtype that
holds it. Equal leaves are stored once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers
from edgeml.targets.tflite_trees import layout, leaf_numbers, node_bytes, table_of

# Values that are added one by one; more are added in groups, since a long float32 sum loses digits.
_ADDED_AT_ONCE = 64
# Sums of whole numbers that int32 holds.
_EXACT = 2**31
# What a GATHER takes, beside int32.
_NARROW = ("uint8", "int8", "int16")


@dataclass(frozen=True, slots=True)
class Reached:
    """``code``, int32 (ROWS, slots): the row of ``table`` that each tree adds. Slots in the order of adding: by output
    when every tree adds to one (``by_output``), then by group, ``groups`` of a size.
    """

    code: Tensor
    table: Array
    groups: tuple[int, int]
    by_output: bool


@lowers("TreeEnsemble")
def tree_ensemble(w: Lowering, node: Node, x: Value) -> Tensor:
    base, total = node.attrs["base"], _whole_sum(w, node, x.type.width)
    if total is None:
        found = reached(w, node)
        total = add_up(w, found, _stored(w, found.table), len(base))
    return w.graph.op("ADD", [total, w.number(base)[None, :]], total.shape) if base.any() else total


def reached(w: Lowering, node: Node) -> Reached:
    """The leaves of a TreeEnsemble; looked for once, however often they are added up."""
    key = ("reached", id(node))
    if key not in w.cache:
        w.cache[key] = _reached(w, node, _ADDED_AT_ONCE)
    found: Reached = w.cache[key]
    return found


def _reached(w: Lowering, node: Node, at_once: int, codes: bool = False) -> Reached:
    """With ``codes``, of leaves that have one value, the leaf's number is its value less the smallest."""
    attrs, width = node.attrs, w.program.type_of(node.inputs[0]).width
    table, leaf = unique_rows(attrs["leaf_values"])
    groups, roots = _slots(attrs, at_once)
    if (roots < 0).any():  # slots without a tree: they reach a leaf of zeros
        attrs, roots, table, leaf = _with_nothing(attrs, roots, table, leaf)
    number = (table - table.min())[:, 0].astype(np.int64)[leaf] if codes else leaf
    code = leaf_numbers(w, node, table_of(roots, attrs, number, width))
    return Reached(code, table, groups, bool(attrs["target"].size))


def add_up(w: Lowering, found: Reached, values: Tensor, outputs: int) -> Tensor:
    """Sums (ROWS, outputs) of the rows of ``values`` that stand for the rows of ``found.table``."""
    taken = w.graph.gather(values, found.code)
    # Codes are looked up in the narrowest dtype; their sums need more.
    return _sum(w, found, w.graph.cast(taken, "int32") if taken.dtype in _NARROW else taken, outputs)


def _sum(w: Lowering, found: Reached, values: Tensor, outputs: int) -> Tensor:
    """Sums of the trees' values, (ROWS, slots), or (ROWS, slots, outputs) where each tree has one for each output."""
    parts = found.groups if found.groups[0] > 1 else found.groups[1:]
    if len(values.shape) == 2:
        total, first = w.graph.reshape(values, (ROWS, outputs, *parts)), 2
    else:
        total, first = w.graph.reshape(values, (ROWS, *parts, outputs)), 1
    for axis in reversed(range(first, first + len(parts))):
        total = w.graph.reduce("SUM", total, axis)
    return total


def _stored(w: Lowering, table: Array) -> Tensor:
    """The leaf values as a tensor of floats, (leaves,) where each has one; float16 in the file where that is exact."""
    values = w.number(table[:, 0] if table.shape[1] == 1 else table)
    with np.errstate(over="ignore"):
        short = values.astype(np.float16)
    if not (short == values).all():
        return w.graph.constant(values)
    return w.graph.op("DEQUANTIZE", [short], short.shape, "float32")


# --- whole numbers ----------------------------------------------------------------------------------------------------
def _whole_sum(w: Lowering, node: Node, width: int) -> Tensor | None:
    """The exact sum of leaf values that are whole numbers, None for others."""
    g, attrs, values = w.graph, node.attrs, node.attrs["leaf_values"]
    low, high = min(values.min(), 0.0), max(values.max(), 0.0)
    if not (high - low) * len(attrs["roots"]) < _EXACT or (values != np.floor(values)).any():
        return None
    outputs, low, high = len(attrs["base"]), int(low), int(high)
    short = _narrowest(low, high)
    table = np.unique(values, axis=0)
    if values.shape[1] == 1:
        options = layout(attrs, high - low, width), layout(attrs, len(table), width)
        direct, listed = (len(attrs["feature"]) * node_bytes(option, width) for option in options)
        if direct <= listed + len(table) * short.itemsize:
            found = _reached(w, node, len(attrs["roots"]), codes=True)
            total = _sum(w, found, found.code, outputs)
            shift = np.full((1, 1), int(found.table.min()) * found.groups[1], np.int32)
            return g.cast(g.op("ADD", [total, shift], total.shape), "float32")
    found = _reached(w, node, len(attrs["roots"]))
    codes = found.table.astype(short)
    total = add_up(w, found, g.constant(codes[:, 0] if codes.shape[1] == 1 else codes), outputs)
    return g.cast(total, "float32")


def _narrowest(low: int, high: int) -> np.dtype[Any]:
    """The smallest dtype for a GATHER that holds both numbers."""
    fitting = (d for d in _NARROW if np.iinfo(d).min <= low and high <= np.iinfo(d).max)
    return np.dtype(next(fitting, "int32"))


def unique_rows(table: Array) -> tuple[Array, Array]:
    """Distinct rows (bit for bit), and the place of each row among them: pure leaves are alike by the thousand."""
    table = np.ascontiguousarray(table)
    keys = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return table[first], inverse.reshape(-1)


def _slots(attrs: Mapping[str, Array], at_once: int) -> tuple[tuple[int, int], Array]:
    """Trees in the order of adding: groups and their size, and the root in each slot, -1 where there is none.

    With targets the slots of one output stand together.
    """
    roots, target = attrs["roots"].astype(np.int64), attrs["target"]
    outputs = len(attrs["base"]) if target.size else 1
    owner = target if target.size else np.zeros(len(roots), np.int64)
    most = int(np.bincount(owner, minlength=outputs).max())
    size = most if most <= at_once else int(np.ceil(np.sqrt(most)))
    groups = -(-most // size)
    slots = np.full((outputs, groups * size), -1, np.int64)
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(outputs))
    slots[owner[order], np.arange(len(roots)) - starts[owner[order]]] = roots[order]
    return (groups, size), slots.reshape(-1)


def _with_nothing(
    attrs: Mapping[str, Array], roots: Array, table: Array, leaf: Array
) -> tuple[dict[str, Array], Array, Array, Array]:
    """One more node, a leaf of zeros, for the slots without a tree."""
    nodes = len(attrs["feature"])
    more = {"feature": -1, "threshold": 0, "left": len(leaf), "right": 0}
    extended = dict(attrs) | {k: np.append(attrs[k], np.array([v], attrs[k].dtype)) for k, v in more.items()}
    zeros = np.zeros((1, table.shape[1]))
    return extended, np.where(roots < 0, nodes, roots), np.concatenate([table, zeros]), np.append(leaf, len(table))
