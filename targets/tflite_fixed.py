"""Isotonic calibration of a forest's probabilities, in 64-bit integers.

An isotonic map is a staircase whose steps stand exactly at probabilities the forest gave in training: an argument that
is off by the rounding of float32 lands on another step. Sums of leaf values in units of 2^-s are exact in int64, so the
step is found, and the distance to its corner taken, before anything is rounded to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.table import Array
from edgeml.targets.tflite_graph import ROWS, Tensor
from edgeml.targets.tflite_leaves import add_up, reached
from edgeml.targets.tflite_lowering import Lowering

# Bits of a sum: one is left over, so that nothing wraps around.
_BITS = 62


@dataclass(frozen=True, slots=True)
class Score:
    """Column ``column`` of a TreeEnsemble, divided by ``divisor``."""

    value: int
    node: Node
    column: int
    divisor: float


def forest_score(program: Program, value: int) -> Score | None:
    """The value as a score of trees, when it is one column of their sum divided by a number; else None."""
    column, divisor = 0, 1.0
    while True:
        node = program.node_of(value)
        if node is None:
            return None
        if node.op == "TreeEnsemble":
            leaves = np.abs(node.attrs["leaf_values"])
            usable = np.isfinite(leaves).all() and leaves.any() and np.isfinite(node.attrs["base"]).all()
            return Score(value, node, column, divisor) if usable else None
        if node.op == "Select":
            column = int(node.attrs["indices"][column])
        elif node.op == "Div":
            by = program.node_of(node.inputs[1])
            if by is None or by.op != "Constant" or by.type.width != 1 or not by.attrs["value"][0] > 0:
                return None
            divisor *= float(by.attrs["value"][0])
        else:
            return None
        value = node.inputs[0]


def steep_interp(w: Lowering, node: Node, score: Score) -> Tensor:
    """slope * (x - xs[j]) + ys[j], where x and xs are integers and only the distance is rounded."""
    g, xs, ys = w.graph, node.attrs["xs"], node.attrs["ys"]
    total, unit = _sum(w, score)
    with np.errstate(all="ignore"):
        corners = np.rint(xs * score.divisor * unit)
        slopes = np.diff(ys) / np.diff(xs) / (score.divisor * unit)
    if not (np.abs(corners) < 2.0**_BITS).all() or not np.isfinite(slopes).all():
        raise w.refuse("has an isotonic calibration with corners beyond 64-bit integers")
    corner = corners.astype(np.int64)
    shape = (ROWS, 1)
    inside = g.op("MINIMUM", [g.op("MAXIMUM", [total, corner[:1, None]], shape), corner[-1:, None]], shape)
    if len(xs) > 2:
        passed = g.op("GREATER_EQUAL", [inside, corner[None, 1:-1]], (ROWS, len(xs) - 2), "bool")
        piece: Tensor | Array = g.reduce("SUM", g.cast(passed, "int32"), 1)
        start, value, slope = (
            g.reshape(g.gather(table, piece), shape) for table in (corner[:-1], w.number(ys[:-1]), w.number(slopes))
        )
        distance = g.cast(g.op("SUB", [inside, start], shape), "float32")
        return g.op("ADD", [g.op("MUL", [distance, slope], shape), value], shape)
    distance = g.cast(g.op("SUB", [inside, corner[:1, None]], shape), "float32")
    rise = g.op("MUL", [distance, w.number(slopes)[:, None]], shape)
    return g.op("ADD", [rise, w.number(ys)[:1, None]], shape)


def _sum(w: Lowering, score: Score) -> tuple[Tensor, float]:
    """int64 (ROWS, 1): the column's sum of leaf values and base in units of 1 / unit, and the unit."""
    found, base = reached(w, score.node), score.node.attrs["base"]
    largest = len(score.node.attrs["roots"]) * np.abs(found.table).max() + np.abs(base).max()
    unit = 2.0 ** (_BITS - 1 - int(np.ceil(np.log2(largest))))
    if found.by_output:
        total = add_up(w, found, w.graph.constant(_in_units(found.table, unit)[:, 0]), len(base))
        total = w.graph.gather(total, np.array([score.column], np.int32), axis=1)
    else:
        total = add_up(w, found, w.graph.constant(_in_units(found.table[:, score.column], unit)), 1)
    offset = _in_units(base[[score.column]], unit)
    return (w.graph.op("ADD", [total, offset[None, :]], (ROWS, 1)) if offset.any() else total), unit


def _in_units(values: Array, unit: float) -> Array:
    return np.rint(values * unit).astype(np.int64)
