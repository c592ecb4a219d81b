"""Moves large means out of a float32 core: columns that only linear maps read arrive with their centre subtracted.

A year, 2013 +- 3, or a pressure of 101,300 +- 400 multiplied by its coefficient in float32 loses the digits that tell
two rows apart, and so does the sum. The front subtracts a centre in float64, the bias of each linear map takes it in,
and what the core multiplies is as large as the column's spread. A pipeline with a scaler has nothing to move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeml.ir import Node, Program, interpreter
from edgeml.ir.table import Array
from edgeml.passes.rewrite import Graph, rewrite
from edgeml.targets.tflite_kinds import LINEAR
from edgeml.targets.tflite_split import FEATURES, Split

# Rows that the centres are taken from.
_ROWS = 2000
# A centre this many times the spread costs two bits of float32's 24.
_FAR = 4.0


def centre(parts: Split, sample: Mapping[str, Array]) -> Split:
    """The same split with centred features; the same object when none is far from zero. ``sample``: raw columns."""
    if not parts.features:
        return parts
    columns = {name: x[:_ROWS] for name, x in sample.items()}
    output = replace(parts.front.outputs[FEATURES], dtype="float64")
    front, _ = rewrite(parts.front.with_outputs([output]), _pass_over_checks)
    cells = interpreter.run(front, columns)[FEATURES]
    shift = np.where(_only_in_linear(parts.core), _centres(cells), 0.0)
    if not shift.any():
        return parts
    return replace(parts, front=_shifted_front(parts.front, shift), core=_shifted_core(parts.core, shift), shift=shift)


def _pass_over_checks(node: Node, graph: Graph) -> int | None:
    """A few rows of the sample may be beyond float32; they move no median."""
    return node.inputs[0] if node.op in ("Require", "CheckFinite") else None


def _centres(cells: Array) -> Array:
    """For each column its median as float32, 0 where that is not far from zero."""
    result = np.zeros(cells.shape[1])
    for j in range(cells.shape[1]):
        known = cells[np.isfinite(cells[:, j]), j]
        middle = float(np.float32(np.median(known))) if known.size else 0.0
        with np.errstate(over="ignore"):
            spread = float(np.sqrt(np.mean((known - middle) ** 2))) if known.size else 0.0
        result[j] = middle if np.isfinite(middle) and abs(middle) > _FAR * spread else 0.0
    return result


def _origins(core: Program) -> list[list[int]]:
    """For each column of each value the feature it is, -1 for everything else."""
    result = [[*range(e.type.width)] if e.name == FEATURES else [-1] * e.type.width for e in core.inputs]
    for node in core.nodes:
        xs = [result[v] for v in node.inputs]
        if node.op == "Concat":
            result.append([j for x in xs for j in x])
        elif node.op == "Select":
            result.append([xs[0][j] for j in node.attrs["indices"]])
        elif node.op == "Cast" and core.type_of(node.inputs[0]).dtype in ("float64", "float32"):
            result.append(xs[0])
        else:
            result.append([-1] * node.type.width)
    return result


def _only_in_linear(core: Program) -> Array:
    """bool (features,): whether nothing but linear maps computes with a feature."""
    width = next(e.type.width for e in core.inputs if e.name == FEATURES)
    origins, good = _origins(core), np.ones(width, dtype=bool)
    for index, node in enumerate(core.nodes):
        handed_on = (
            node.op in ("Concat", "Select", "Cast") and origins[len(core.inputs) + index] != [-1] * node.type.width
        )
        if node.op not in LINEAR and not handed_on:
            for value in node.inputs:
                _mark(good, origins[value])
    for output in core.outputs.values():
        for value in output.values:
            _mark(good, origins[value])
    return good


def _mark(good: Array, columns: Sequence[int]) -> None:
    good[[j for j in columns if j >= 0]] = False


def _shifted_core(core: Program, shift: Array) -> Program:
    origins = _origins(core)
    moved = np.append(shift, 0.0)  # -1 is the last
    nodes = []
    for node in core.nodes:
        if node.op in LINEAR:
            weight, bias = node.attrs["weight"].astype(np.float64), node.attrs["bias"]
            if "scale" in node.attrs:
                weight = weight * node.attrs["scale"]
            total = bias + moved[origins[node.inputs[0]]] @ weight
            node = replace(node, attrs={**node.attrs, "bias": total.astype(bias.dtype)})
        nodes.append(node)
    return replace(core, nodes=tuple(nodes))


def _shifted_front(front: Program, shift: Array) -> Program:
    graph = Graph(front.inputs)
    for node in front.nodes:
        graph.append(node)
    output = front.outputs[FEATURES]
    value = output.values[0]
    constant = graph.append(Node("Constant", (), graph.type_of(value), {"value": shift}))
    moved = graph.emit("Sub", (value, constant), {}, "")
    outputs = {**front.outputs, FEATURES: replace(output, values=(moved,))}
    return Program(front.inputs, tuple(graph.nodes), outputs)
