"""ONNX lowering of TreeEnsemble: the sums of leaf values, exact to the last bit.

onnxruntime's TreeEnsemble adds leaf values in an order of its own (it depends on threads and batch size). Where the
order cannot matter, because the values lie on a grid so coarse that no partial sum rounds, as whole numbers and float16
numbers do, it adds them itself. Elsewhere it is only asked which leaf each tree reaches: every tree writes a code to a
target of its own, and the values are gathered from a table and added in the order of the trees, as scikit-learn does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.onnx_graph import Tensor, Writer, lowers, narrowest
from edgeml.targets.onnx_trees import flatten, leaf_codes, trees

# Values gathered at once for one row: 8 KB of doubles. One group is fastest; a forest of 1,000 trees and 10
# classes in one group would hold 80 KB for every row of a batch.
GROUP = 1024
_DIGITS = {"float32": 24, "float64": 53}
# The finest grid that is looked for: float16's smallest number.
_FINEST = 24


@lowers("TreeEnsemble")
def tree_ensemble(w: Writer, node: Node, x: Tensor) -> ir.Value:
    attrs = node.attrs
    bits = _bits_of_sums(attrs)
    width = len(attrs["base"])
    if attrs["target"].size or width == 1:
        target = attrs["target"] if attrs["target"].size else np.zeros(len(attrs["roots"]), np.int32)
        if _exact(bits, x):
            return _added_by_onnx(w, node, x, target, bits)
        return _one_output_each(w, node, x, target)
    leaves = attrs["leaf_values"]
    if width == 2 and _exact(bits, x) and (leaves.sum(axis=1) == leaves[0].sum()).all():
        return _complementary(w, node, x, bits)
    return _all_outputs(w, node, x, bits)


# --- sums that no order can change --------------------------------------------------------------------------
def _bits_of_sums(attrs: Mapping[str, Array]) -> float:
    """Binary digits that hold every partial sum of leaves and base exactly; infinite where there is no such number."""
    leaves, base = attrs["leaf_values"], attrs["base"]
    cells = np.concatenate([leaves.reshape(-1), base])
    largest = len(attrs["roots"]) * np.abs(leaves).max(initial=0.0) + np.abs(base).max(initial=0.0)
    if not np.isfinite(largest):
        return np.inf
    fine = next((k for k in range(_FINEST + 1) if (cells * 2.0**k == np.rint(cells * 2.0**k)).all()), None)
    return np.inf if fine is None else float(np.log2(max(largest, 1.0)) + fine)


def _exact(bits: float, x: Tensor) -> bool:
    """Whether TreeEnsemble on x adds without rounding. On float32 columns it adds in float32."""
    return bits < _DIGITS[x.type.dtype]


def _added_by_onnx(w: Writer, node: Node, x: Tensor, target: Array, bits: float) -> ir.Value:
    """float64 (rows, width): every leaf carries its value."""
    attrs, width = node.attrs, len(node.attrs["base"])
    flat = flatten(attrs["roots"], attrs)
    weights = attrs["leaf_values"][flat.leaf_row, 0] + 0.0  # no -0.0: equal leaves are one
    single = bits < _DIGITS["float32"]
    source = node.inputs[0]
    total = trees(w, x, flat, attrs, width, target[flat.leaf_tree], weights, source=source, single=single)
    value = w.as_float64(total)
    return w.op("Add", value, attrs["base"][None, :]) if attrs["base"].any() else value


def _complementary(w: Writer, node: Node, x: Tensor, bits: float) -> ir.Value:
    """Two outputs whose leaves have one sum, as the two classes of a forest do: only the first is added."""
    attrs = node.attrs
    first = {**attrs, "leaf_values": attrs["leaf_values"][:, :1], "base": attrs["base"][:1]}
    half = Node(node.op, node.inputs, node.type, first, node.origin)
    value = _added_by_onnx(w, half, x, np.zeros(len(attrs["roots"]), np.int32), bits)
    both = len(attrs["roots"]) * attrs["leaf_values"][0].sum() + attrs["base"].sum()
    return w.op("Concat", value, w.op("Sub", np.array([[both]]), value), axis=1)


# --- sums in the order of the trees -------------------------------------------------------------------------
def _unique_rows(table: Array) -> tuple[Array, Array]:
    """Distinct rows (bit for bit), and the place of each row among them. Pure leaves are alike by the thousand."""
    table = np.ascontiguousarray(table)
    keys = table.view(np.dtype((np.void, table.dtype.itemsize * table.shape[1]))).reshape(-1)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return table[first], inverse.reshape(-1)


def _all_outputs(w: Writer, node: Node, x: Tensor, bits: float) -> ir.Value:
    """Every tree adds a row of values: (rows, trees, width) summed over the trees."""
    attrs = node.attrs
    roots, base = attrs["roots"], attrs["base"]
    size = max(1, GROUP // len(base))
    total: ir.Value | None = None
    for start in range(0, len(roots), size):
        part = roots[start : start + size]
        flat = flatten(part, attrs)
        values = attrs["leaf_values"][flat.leaf_row]
        if start == 0:
            first = flat.leaf_tree == 0
            values[first] = base + values[first]
        table, codes = _unique_rows(values)
        leaf = leaf_codes(w, x, flat, attrs, np.arange(len(part)), len(part), codes, node.inputs[0])
        if len(roots) == 1:
            return w.op("GatherND", table, leaf)
        total = _add(w, total, table, leaf, bits)
    assert total is not None
    return total


def _one_output_each(w: Writer, node: Node, x: Tensor, target: Array) -> ir.Value:
    """A tree adds to one output: (rows, rounds, width) summed over the rounds, trees of an output in their order."""
    attrs = node.attrs
    roots, base = attrs["roots"], attrs["base"]
    width = len(base)
    rounds = int(np.bincount(target).max())
    # Place of each tree among the trees of its output.
    order = np.argsort(target, kind="stable")
    starts = np.searchsorted(target[order], np.arange(width))
    place = np.empty(len(roots), np.int64)
    place[order] = np.arange(len(roots)) - starts[target[order]]
    size = max(1, GROUP // width)
    total: ir.Value | None = None
    for start in range(0, rounds, size):
        count = min(size, rounds - start)
        here = np.flatnonzero((place >= start) & (place < start + count))
        flat = flatten(roots[here], attrs)
        tree = here[flat.leaf_tree]
        values = attrs["leaf_values"][flat.leaf_row, 0]
        first = place[tree] == 0
        values[first] = base[target[tree[first]]] + values[first]
        # Code 0 stands for "no tree here": adding -0.0 changes nothing.
        table, codes = _unique_rows(values[:, None])
        slots = (place[here] - start) * width + target[here]
        leaf = leaf_codes(w, x, flat, attrs, slots, count * width, codes + 1, node.inputs[0])
        leaf = w.op("Reshape", leaf, np.array([0, count, width]))
        total = _add(w, total, np.append(-0.0, table), leaf, np.inf)
    assert total is not None
    alone = np.bincount(target, minlength=width) == 0
    return w.op("Add", total, np.where(alone, base, -0.0)[None, :]) if alone.any() else total


def _add(w: Writer, total: ir.Value | None, table: Array, leaf: ir.Value, bits: float) -> ir.Value:
    """total (rows, width) plus the rows of ``table`` at each leaf[:, i] in turn: the last of the running sums.

    CumSum is sequential in any implementation; ReduceSum is not, and which way it goes depends on shapes,
    threads and what the optimiser makes of its neighbours. Values on a coarse grid are gathered narrow and may be
    added in any order.
    """
    if bits < _DIGITS["float32"]:
        stack = w.op("Gather", w.constant(narrowest(table)), leaf, axis=0)
        part = w.cast(w.op("ReduceSum", w.cast(stack, "float32"), np.array([1]), keepdims=0), "float64")
        return part if total is None else w.op("Add", total, part)
    stack = w.op("Gather", table, leaf, axis=0)
    if total is not None:
        stack = w.op("Concat", w.op("Unsqueeze", total, np.array([1])), stack, axis=1)
    return w.op("Gather", w.op("CumSum", stack, np.int64(1)), np.int64(-1), axis=1)
