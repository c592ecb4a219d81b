"""Where the columns of a program come from, and what the strings of a raw column become: for a model's metadata."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeml.errors import InputError
from edgeml.ir import Node, Program, interpreter
from edgeml.targets.tflite_split import Cell

# Longer tables are cut: the bundle's front has them.
MOST_STRINGS = 10_000
# Stands for any string that no step of the pipeline knows: a noncharacter, which no text holds.
_UNHEARD = "\ufdd0"

Source = tuple[int, int]  # input and column of the program
Sources = list[set[Source]]  # of each column of a value
Row = dict[str, Any]  # output of the front -> its one row

_ELEMENTWISE = (
    "Add", "Sub", "Mul", "Div", "Minimum", "Maximum", "Less", "LessEqual", "Greater", "GreaterEqual", "Equal", "And",
    "Or", "Not", "Where", "Neg", "Abs", "Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "Log1p", "Expm1", "Sin", "Cos", "Erf",
    "NormalQuantile", "Digamma", "LogGamma", "BesselK", "Floor", "Round", "Sign", "Pow", "Fmod", "IsNaN",
    "IsNone", "Cast", "Rank",
)  # fmt: skip


def sources_of(program: Program) -> list[Sources]:
    """For each column of each value the raw columns it depends on."""
    result: list[Sources] = []
    for value, entry in enumerate(program.inputs):
        result.append([{(value, j)} for j in range(entry.type.width)])
    for node in program.nodes:
        result.append(_sources_of_node(node, [result[v] for v in node.inputs]))
    return result


def _sources_of_node(node: Node, xs: Sequence[Sources]) -> Sources:
    width = node.type.width
    if node.op == "Concat":
        return [s for x in xs for s in x]
    if node.op == "Select":
        return [xs[0][j] for j in node.attrs["indices"]]
    if node.op in ("CheckFinite", "Require"):
        return xs[0]
    if node.op in _ELEMENTWISE:
        return [set().union(*(x[j if len(x) > 1 else 0] for x in xs)) for j in range(width)]
    everything: set[Source] = set().union(*(s for x in xs for s in x))
    return [everything] * width


def string_table(front: Program, name: str) -> list[tuple[Cell, Row | None]]:
    """What the front makes of each string that a step knows of in one raw column, then of None, NaN and any other.

    Found by running the front on them, whatever its steps are. None where the row is refused; other columns are 0 or
    empty, so only outputs that depend on this column alone mean something.
    """
    own = next((i for i, entry in enumerate(front.inputs) if entry.name == name), None)
    if own is None:
        return []
    front, known = _of_one_column(front, own)
    cells: list[Cell] = [*known[:MOST_STRINGS], None, float("nan"), _UNHEARD]
    try:
        answers: list[Row | None] = list(_run(front, own, cells))
    except InputError:
        answers = [_answer(front, own, cell) for cell in cells]
    return list(zip([*known[:MOST_STRINGS], None, "(NaN)", "(any other)"], answers, strict=True))


def _of_one_column(front: Program, own: int) -> tuple[Program, list[str]]:
    """The front without the checks that read other raw columns, and the strings this column is compared with."""
    sources = sources_of(front)
    nodes, known = [], set[str]()
    for node in front.nodes:
        read = {i for v in node.inputs for columns in sources[v] for i, _ in columns}
        if node.op in ("CheckFinite", "Require") and read != {own}:
            node = replace(node, op="Select", inputs=node.inputs[:1], attrs={"indices": np.arange(node.type.width)})
        constants = [front.node_of(v) for v in node.inputs] if own in read else []
        for attrs in (node.attrs if own in read else {}, *(c.attrs for c in constants if c is not None)):
            known.update(c for a in attrs.values() if isinstance(a, tuple) for c in a if isinstance(c, str))
        nodes.append(node)
    return replace(front, nodes=tuple(nodes)), sorted(known)


def _run(front: Program, own: int, cells: Sequence[Cell]) -> list[Row]:
    """The front's answers for rows with these cells in column ``own``."""
    columns = {}
    for index, entry in enumerate(front.inputs):
        text = entry.type.dtype == "string"
        column = np.full((len(cells), entry.type.width), "" if text else 0, dtype=object if text else entry.type.dtype)
        if index == own:
            column[:, 0] = cells
        columns[entry.name] = column
    results = interpreter.run(front, columns)
    return [{name: rows[i] for name, rows in results.items()} for i in range(len(cells))]


def _answer(front: Program, own: int, cell: Cell) -> Row | None:
    try:
        return _run(front, own, [cell])[0]
    except InputError:
        return None
