"""ONNX lowerings of edgeml/ir/ops_search.py: a tree's order level by level, and the heap as a Scan.

In comes the op, out goes its ONNX value. The heap is pushed only what may enter it: a cell is compared with the k-th
smallest of those in blocks before its own, so that of thousands of cells some hundred are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.ir.program import Node
from edgeml.targets.onnx_graph import DTYPES, Tensor, Writer, lowers

_BLOCK = 64
_ONE, _MINUS_ONE = np.array([1]), np.array([-1])


def smallest(w: Writer, x: ir.Value, k: Any) -> tuple[ir.Value, ir.Value]:
    """Values and positions of a row's k smallest, the lower position first of equals; k a number or a value [1]."""
    results = [ir.Value(name=w.unique("nearest")) for _ in range(2)]
    count = k if isinstance(k, ir.Value) else w.stored(np.array([k], np.int64))
    w.nodes.append(
        ir.node("TopK", [x, count], {"axis": 1, "largest": 0, "sorted": 1}, outputs=results, version=w.opsets[""])
    )
    return results[0], results[1]


@lowers("VisitOrder")
def visit_order(w: Writer, node: Node, x: Tensor) -> ir.Value:
    points, starts = node.attrs["points"], node.attrs["starts"]
    leaves, rows = len(starts) - 1, w.op("Shape", x.value, start=0, end=1)
    nodes = w.op("Expand", np.zeros((1, 1), np.int64), w.op("Concat", rows, _ONE, axis=0))
    width = 1
    while width < leaves:
        left = w.op("Add", w.op("Add", nodes, nodes), np.array([[1]]))
        right = w.op("Add", left, np.array([[1]]))
        in_order = w.op(
            "LessOrEqual", w.op("GatherElements", x.value, left, axis=1), w.op("GatherElements", x.value, right, axis=1)
        )
        pair = [w.op("Where", in_order, a, b) for a, b in ((left, right), (right, left))]
        width *= 2
        both = w.op("Concat", *(w.op("Unsqueeze", p, np.array([2])) for p in pair), axis=2)
        nodes = w.op("Reshape", both, np.array([0, width]))
    if leaves == 1:
        return w.op("Expand", points[None, :], w.op("Concat", rows, _ONE, axis=0))
    _, rank = smallest(w, nodes, leaves)  # nodes are all different: where each stands is its rank
    of_points = w.op("Gather", rank, np.repeat(np.arange(leaves), np.diff(starts)), axis=1)
    _, order = smallest(w, of_points, len(points))
    return w.op("Gather", points, order, axis=0)


@lowers("HeapK")
def heap_k(w: Writer, node: Node, x: Tensor) -> ir.Value:
    k, width = node.attrs["k"], x.type.width
    block = max(_BLOCK, 2 * k)
    cells = x.value
    if width > 2 * block:
        cells, places = _entering(w, cells, width, k, block)
    else:
        shape = w.op("Shape", cells)
        places = w.op("Expand", np.arange(width)[None, :], shape)
    size = (1 << k.bit_length()) * 2 + 1
    rows = w.op("Shape", cells, start=0, end=1)
    heap = np.full((1, size), -np.inf)
    heap[0, :k] = np.inf
    shape = w.op("Concat", rows, np.array([size]), axis=0)
    held, at = w.op("Expand", heap, shape), w.op("Expand", np.zeros((1, size), np.int64), shape)
    held, at = _scan(w, k, size, held, at, cells, places)
    held, at = (w.op("Slice", v, np.array([0]), np.array([k]), _ONE) for v in (held, at))
    at, by_place = smallest(w, at, k)
    _, order = smallest(w, w.op("GatherElements", held, by_place, axis=1), k)
    return w.op("GatherElements", at, order, axis=1)


def _entering(w: Writer, x: ir.Value, width: int, k: int, block: int) -> tuple[ir.Value, ir.Value]:
    """The cells that may enter, side by side in their order, infinity behind them; and their positions."""

    def part(first: int, end: int) -> ir.Value:
        return w.op("Slice", x, np.array([first]), np.array([end]), _ONE)

    first, end = 0, block
    masks, best = [], part(0, 0)
    while first < width:
        here = part(first, end)
        if first == 0:
            masks.append(w.op("Equal", w.op("IsNaN", here), w.op("IsNaN", here)))
        else:
            masks.append(w.op("Less", here, w.op("Slice", best, np.array([k - 1]), np.array([k]), _ONE)))
        merged = here if first == 0 else w.op("Concat", best, here, axis=1)
        best, _ = smallest(w, merged, k)
        first, end = end, min(2 * end, width)
    mask = w.op("Concat", *masks, axis=1)
    key = w.op("Where", mask, np.arange(width)[None, :], np.array([[width]]))
    counts = w.op("ReduceSum", w.cast(mask, "int64"), _ONE, keepdims=0)
    # No rows have no largest count.
    most = w.op(
        "Reshape", w.op("ReduceMax", w.op("Concat", counts, _ONE, axis=0), np.array([0]), keepdims=0), _MINUS_ONE
    )
    places, _ = smallest(w, key, most)
    rows = w.op("Shape", x, start=0, end=1)
    outside = w.op("Expand", np.full((1, 1), np.inf), w.op("Concat", rows, _ONE, axis=0))
    padded = w.op("Concat", x, outside, axis=1)
    return w.op("GatherElements", padded, places, axis=1), places


def _scan(
    w: Writer, k: int, size: int, held: ir.Value, at: ir.Value, cells: ir.Value, places: ir.Value
) -> tuple[ir.Value, ir.Value]:
    """Push the cells one after the other: a heap of ``size`` places, -infinity behind the k that count."""
    kinds = ("float64", "int64", "float64", "int64")
    shapes = ((None, size), (None, size), (None,), (None,))
    inputs = [
        ir.Value(name=w.unique("push"), type=ir.TensorType(DTYPES[kind]), shape=ir.Shape(shape))
        for kind, shape in zip(kinds, shapes, strict=True)
    ]
    outer, w.nodes = w.nodes, []
    values, positions = inputs[0], inputs[1]
    cell, place = (w.op("Unsqueeze", v, _ONE) for v in inputs[2:])
    root = w.op("Slice", values, np.array([0]), np.array([1]), _ONE)
    active = w.op("Less", cell, root)
    here = w.op("Sub", place, place)
    for _ in range(k.bit_length()):
        left = w.op("Add", w.op("Add", here, here), np.array([[1]]))
        right = w.op("Add", left, np.array([[1]]))
        of_left, of_right = (w.op("GatherElements", values, v, axis=1) for v in (left, right))
        child = w.op("Where", w.op("GreaterOrEqual", of_left, of_right), left, right)
        largest = w.op("Max", of_left, of_right)
        sinks = w.op("And", active, w.op("Less", cell, largest))
        old, old_at = (w.op("GatherElements", v, here, axis=1) for v in (values, positions))
        kept = w.op("Where", active, cell, old)
        kept_at = w.op("Where", active, place, old_at)
        below = w.op("GatherElements", positions, child, axis=1)
        values = w.op("ScatterElements", values, here, w.op("Where", sinks, largest, kept), axis=1)
        positions = w.op("ScatterElements", positions, here, w.op("Where", sinks, below, kept_at), axis=1)
        here, active = w.op("Where", sinks, child, here), sinks
    outputs = [w.op("Identity", v) for v in (values, positions)]
    for value, kind in zip(outputs, kinds, strict=False):
        value.type, value.shape = ir.TensorType(DTYPES[kind]), ir.Shape([None, size])
    body = ir.Graph(inputs, outputs, nodes=w.nodes, name=w.unique("push"))
    w.nodes = outer
    results = [ir.Value(name=w.unique("heap")) for _ in range(2)]
    attributes = {"body": body, "num_scan_inputs": 2, "scan_input_axes": [1, 1]}
    w.nodes.append(ir.node("Scan", [held, at, cells, places], attributes, outputs=results, version=w.opsets[""]))
    return results[0], results[1]
