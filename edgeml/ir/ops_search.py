"""Ops that find the k nearest as scikit-learn's search does, where points of equal distance compete for the last place.

``VisitOrder`` is the order in which a k-d or ball tree comes to its points, ``HeapK`` what a heap of k places keeps of
cells that are pushed one after the other. Which of equals stays depends on both: see
converters/nearest.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.table import Array, op, require_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]


def _infer_heap_k(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], "float64")
    if not 1 <= attrs["k"] <= types[0].width:
        raise ProgramError(f"the {attrs['k']} smallest of {types[0]}")
    return ValueType("int64", attrs["k"])


@op("HeapK", 1, _infer_heap_k, {"k": "int"})
def heap_k(x: Array, k: int) -> Array:
    """Positions of k of a row's smallest cells, smallest first, of equals the leftmost first: those that a max-heap of
    k places, at first infinity at position 0, holds in the end. From left to right a cell enters
    if it is below the root.
    """
    rows = np.arange(x.shape[0])
    held = np.full((x.shape[0], k), np.inf)
    at = np.zeros((x.shape[0], k), dtype=np.int64)
    for j in range(x.shape[1]):
        entering = rows[x[:, j] < held[:, 0]]
        if entering.size:
            _sift(held, at, entering, x[entering, j], j)
    order = np.lexsort((at, held), axis=1)
    return np.take_along_axis(at, order, axis=1)


def _sift(held: Array, at: Array, rows: Array, cell: Array, j: int) -> None:
    """Replace the root by the cell, and let it sink below every larger child."""
    k = held.shape[1]
    place = np.zeros(len(rows), dtype=np.int64)
    while rows.size:
        left, right = 2 * place + 1, 2 * place + 2
        of_left = np.where(left < k, held[rows, np.minimum(left, k - 1)], -np.inf)
        of_right = np.where(right < k, held[rows, np.minimum(right, k - 1)], -np.inf)
        child, largest = np.where(of_left >= of_right, left, right), np.maximum(of_left, of_right)
        sinks = cell < largest
        held[rows, place] = np.where(sinks, largest, cell)
        at[rows, place] = np.where(sinks, at[rows, np.where(sinks, child, 0)], j)
        rows, cell, place = rows[sinks], cell[sinks], child[sinks]


def _infer_visit_order(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], "float64")
    points, starts = attrs["points"], attrs["starts"]
    leaves = len(starts) - 1
    if points.dtype != np.int64 or starts.dtype != np.int64 or points.ndim != 1 or starts.ndim != 1:
        raise ProgramError("points and starts are one-dimensional int64 arrays")
    if leaves < 1 or leaves & (leaves - 1) or types[0].width != 2 * leaves - 1:
        raise ProgramError(f"{leaves} leaves are not those of a full tree of {types[0].width} nodes")
    if starts[0] != 0 or starts[-1] != len(points) or (np.diff(starts) < 0).any():
        raise ProgramError("starts do not divide the points")
    if not np.array_equal(np.sort(points), np.arange(len(points))):
        raise ProgramError("points are not a permutation")
    return ValueType("int64", len(points))


@op("VisitOrder", 1, _infer_visit_order, {"points": "array", "starts": "array"})
def visit_order(x: Array, points: Array, starts: Array) -> Array:
    """Points in the order in which a search goes through a full binary tree, (rows, points): x (rows, nodes) are
    bounds, node 0 the root, 2 i + 1 and 2 i + 2 the children of i; of two the left comes first unless its bound is
    larger. Leaf i, from the left, has the points[starts[i]:starts[i + 1]].
    """
    leaves = len(starts) - 1
    nodes = np.zeros((x.shape[0], 1), dtype=np.int64)
    while nodes.shape[1] < leaves:
        left = 2 * nodes + 1
        in_order = np.take_along_axis(x, left, axis=1) <= np.take_along_axis(x, left + 1, axis=1)
        first = np.where(in_order, left, left + 1)
        nodes = np.stack([first, 2 * left + 1 - first], axis=2).reshape(x.shape[0], -1)
    rank = np.empty_like(nodes)
    np.put_along_axis(rank, nodes - (leaves - 1), np.arange(leaves, dtype=np.int64)[None, :], axis=1)
    of_points = np.repeat(rank, np.diff(starts), axis=1)
    return points[np.argsort(of_points, axis=1, kind="stable")]
