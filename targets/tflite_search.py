"""TFLite lowerings of the search for a row's smallest cells, and of cells by computed position.

In come the ops of edgeml/ir/ops_distances.py and ops_search.py, out go int32 positions, or cells. Which of equal cells
comes first is part of their meaning, and so are NaN (last) and the zeros (equal).
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Node
from edgeml.ir.table import Array
from edgeml.targets.tflite_distances import scores_of_points
from edgeml.targets.tflite_graph import ROWS, Graph, Tensor
from edgeml.targets.tflite_lowering import Lowering, Value, lowers
from edgeml.targets.tflite_ops import columns

_LOWEST = np.full((1, 1), np.iinfo(np.int32).min, np.int32)
_ZERO = np.zeros((1, 1), np.int32)


@lowers("TopK")
def top_k(w: Lowering, node: Node, x: Value) -> Tensor:
    return smallest(w, x.tensor, node.attrs["k"])


def smallest(w: Lowering, x: Tensor, k: int) -> Tensor:
    """Positions of the k smallest cells of a float32 tensor, of equal ones the leftmost first, NaN last.

    TOPK_V2 takes the largest, of equals the leftmost first, but NaN is equal to everything there. So it is handed the
    bits of the cells, as integers in the same order: those of negative floats grow with the size.
    """
    g, shape = w.graph, x.shape
    bits = g.op("BITCAST", [x], shape, "int32")
    negative = g.op("LESS", [bits, _ZERO], shape, "bool")
    # Minus the order: -bits where positive, and bits - lowest, the size, where negative; both zeros are 0.
    falls = g.op(
        "SELECT_V2",
        [negative, g.op("SUB", [bits, _LOWEST], shape), g.op("SUB", [_ZERO, bits], shape, "int32")],
        shape,
        "int32",
    )
    is_nan = g.op("NOT_EQUAL", [x, x], shape, "bool")
    key = g.op("SELECT_V2", [is_nan, _LOWEST, falls], shape, "int32")
    return _largest(w, key, k)


def _largest(w: Lowering, key: Tensor, k: int) -> Tensor:
    """Positions of the k largest cells of an int32 tensor, of equal ones the leftmost first."""
    result = ("int32", (key.shape[0], k))
    return w.graph.ops("TOPK_V2", [key, np.array(k, np.int32)], [result, result])[1]


@lowers("HeapK")
def heap_k(w: Lowering, node: Node, x: Value) -> Tensor:
    """A cell at a time sinks into a heap of k places, in a loop; of one place, the smallest cell is left."""
    g, k, cells = w.graph, node.attrs["k"], w.all_rows(x)
    scores = scores_of_points(w, node.inputs[0])
    cells = cells if scores is None else scores
    if k == 1:
        return _least(w, cells)
    levels = int(k).bit_length()
    places = 2 ** (levels + 1) + 1  # the k that count, and below each leaf two that never sink
    empty = np.full((1, places), -np.inf, np.float32)
    empty[0, :k] = np.inf
    held, at = (_for_all_rows(w, v) for v in (empty, np.zeros((1, places), np.int32)))
    _, held, at, _ = g.loop(
        [np.zeros(1, np.int32), held, at, cells],
        lambda part, state: part.op("LESS", [state[0], np.full(1, x.type.width, np.int32)], (1,), "bool"),
        lambda part, state: _push(part, levels, *state),
    )
    held, at = (columns(w, v, np.arange(k)) for v in (held, at))
    # Smallest first, of equals the leftmost: by position, then by size.
    by_place = _largest(w, g.op("SUB", [_ZERO, at], at.shape), k)
    at, held = (_along(g, v, by_place) for v in (at, held))
    return _along(g, at, smallest(w, held, k))


def _for_all_rows(w: Lowering, row: Array) -> Tensor:
    g = w.graph
    return g.op("SELECT_V2", [w.no(), row, row], (ROWS, row.shape[1]), g.constant(row).dtype)


def _along(g: Graph, x: Tensor, positions: Tensor) -> Tensor:
    """The cells of each row at the row's positions."""
    return g.op("GATHER", [x, positions], positions.shape, axis=1, batchDims=1)


def _push(g: Graph, levels: int, number: Tensor, held: Tensor, at: Tensor, cells: Tensor) -> list[Tensor]:
    """The state of the loop after cell ``number``: it takes the root's place where it is below it, and sinks."""
    one, shape, places = (ROWS, 1), held.shape, np.arange(held.shape[1], dtype=np.int32)[None, :]
    cell = g.gather(cells, number, axis=1)
    here: Tensor | Array = np.zeros((1, 1), np.int32)
    active = g.op("LESS", [cell, g.gather(held, np.zeros(1, np.int32), axis=1)], one, "bool")
    for level in range(levels):
        left, right = (
            g.op("ADD", [g.op("ADD", [here, here], one), np.full((1, 1), n, np.int32)], one)
            if level
            else g.op("SELECT_V2", [active, np.full((1, 1), n, np.int32), np.full((1, 1), n, np.int32)], one, "int32")
            for n in (1, 2)
        )
        of_left, of_right = _along(g, held, left), _along(g, held, right)
        lesser = g.op("LESS", [of_left, of_right], one, "bool")
        child = g.op("SELECT_V2", [lesser, right, left], one, "int32")
        largest = g.op("SELECT_V2", [lesser, of_right, of_left], one, "float32")
        sinks = g.op("LOGICAL_AND", [active, g.op("LESS", [cell, largest], one, "bool")], one)
        value = g.op("SELECT_V2", [sinks, largest, cell], one, "float32")
        place = g.op("SELECT_V2", [sinks, _along(g, at, child), number], one, "int32")
        is_here = g.op("EQUAL", [here, places], shape if level else (1, shape[1]), "bool")
        written = g.op("LOGICAL_AND", [is_here, active], shape)
        held = g.op("SELECT_V2", [written, value, held], shape, "float32")
        at = g.op("SELECT_V2", [written, place, at], shape, "int32")
        here, active = child, sinks
    return [g.op("ADD", [number, np.ones(1, np.int32)], (1,)), held, at, cells]


def _least(w: Lowering, x: Tensor) -> Tensor:
    """Position of the smallest cell that is below infinity, the first of equals; 0 where there is none."""
    g = w.graph
    is_nan = g.op("NOT_EQUAL", [x, x], x.shape, "bool")
    known = g.op("SELECT_V2", [is_nan, np.full((1, 1), np.inf, np.float32), x], x.shape, "float32")
    return g.reshape(g.extreme("ARG_MIN", known, 1), (x.shape[0], 1))


@lowers("TakeAlong")
def take_along(w: Lowering, node: Node, x: Value, positions: Value) -> Tensor:
    g, shape = w.graph, w.shape(node, x, positions)
    if x.one_row:
        found = g.gather(g.reshape(x.tensor, (x.type.width,)), positions.tensor)
        return g.reshape(found, shape) if found.shape != shape else found
    if positions.one_row:
        row = g.reshape(positions.tensor, (positions.type.width,))
        return g.gather(x.tensor, row, axis=1)
    return _along(g, x.tensor, positions.tensor)
