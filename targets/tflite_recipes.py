"""What the front does to one raw column of numbers to make one input of the core: for a model's metadata.

Someone who has the ``.tflite`` alone repeats these steps and has the input; they are named as NumPy's functions.
Columns that more than one raw column goes into, or another kind of step, have no recipe: the bundle's front has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node, Program
from edgeml.ir.table import Array

# Name in a recipe of each op on a column and a constant, and of the same op with the constant in front.
_WITH_CONSTANT = {
    "Add": ("add", "add"), "Sub": ("subtract", ""), "Mul": ("multiply", "multiply"), "Div": ("divide", ""),
    "Minimum": ("minimum", "minimum"), "Maximum": ("maximum", "maximum"), "Less": ("less", "greater"),
    "LessEqual": ("less_equal", "greater_equal"), "Greater": ("greater", "less"),
    "GreaterEqual": ("greater_equal", "less_equal"), "Equal": ("equal", "equal"),
}  # fmt: skip
_ALONE = {
    "Neg": "negative", "Abs": "absolute", "Sqrt": "sqrt", "Exp": "exp", "Log": "log", "Tanh": "tanh", "IsNaN": "isnan",
    "Not": "logical_not",
}  # fmt: skip
_CHECKS = ("CheckFinite", "Require")


@dataclass(frozen=True, slots=True)
class Step:
    """``numbers``: none, one, or those that ``find`` and ``take`` look in."""

    name: str
    numbers: tuple[float, ...] = ()


Recipe = tuple[Step, ...]


def rounded(recipe: Recipe) -> Recipe:
    """A shorter recipe for a number that float32 holds in the end: its last factors as one, in float32."""
    factor, kept = 1.0, len(recipe)
    while kept and recipe[kept - 1].name in ("divide", "multiply"):
        number = recipe[kept - 1].numbers[0]
        with np.errstate(all="ignore"):
            factor = factor * number if recipe[kept - 1].name == "multiply" else float(np.divide(factor, number))
        kept -= 1
    with np.errstate(over="ignore"):
        single = float(np.float32(factor))
    if kept == len(recipe) or not float(np.finfo(np.float32).tiny) <= abs(single) < np.inf:
        return recipe
    return (*recipe[:kept], Step("multiply", (single,)))


class Recipes:
    """Recipes of a program's columns. A check is passed over: a row that it refuses has no input."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._known: dict[tuple[int, int], Recipe | None] = {}

    def of(self, value: int, column: int) -> Recipe | None:
        """The steps from the raw column, none for the column itself; None where there is no recipe."""
        key = (value, column)
        if key not in self._known:
            node = self._program.node_of(value)
            if node is None:
                plain = self._program.type_of(value).dtype != "string"
                self._known[key] = () if plain else None
            else:
                self._known[key] = self._of_node(node, column)
        return self._known[key]

    def _of_node(self, node: Node, column: int) -> Recipe | None:
        if node.op in _CHECKS:
            return self.of(node.inputs[0], column)
        if node.op == "Select":
            return self.of(node.inputs[0], int(node.attrs["indices"][column]))
        if node.op == "Concat":
            for part in node.inputs:
                width = self._program.type_of(part).width
                if column < width:
                    return self.of(part, column)
                column -= width
        if node.op == "Where":
            return self._filled(node, column)
        if node.op in _WITH_CONSTANT:
            return self._with_constant(node, column)
        # Of other ops a column of the result is none of the operand's.
        steps = self._steps(node, column) if node.inputs else None
        before = None if steps is None else self._operand(node, 0, column)
        return None if before is None or steps is None else before + steps

    def _operand(self, node: Node, number: int, column: int) -> Recipe | None:
        value = node.inputs[number]
        return self.of(value, column if self._program.type_of(value).width > 1 else 0)

    def _steps(self, node: Node, column: int) -> Recipe | None:
        """What a node does to its one operand."""
        if node.op == "Cast":
            return self._cast(node)
        if node.op in _ALONE:
            return (Step(_ALONE[node.op]),)
        table: Mapping[str, str] = {"Lookup": "keys", "Take": "table"}
        if node.op not in table or isinstance(node.attrs[table[node.op]], tuple):
            return None
        cells = np.asarray(node.attrs[table[node.op]])
        cells = cells[:, column] if node.op == "Take" else cells
        return (Step("find" if node.op == "Lookup" else "take", _numbers(cells)),)

    def _cast(self, node: Node) -> Recipe | None:
        kind, to = self._program.type_of(node.inputs[0]).dtype, node.type.dtype
        if to == "bool" and kind != "bool":
            return None
        if to == "int64" and kind in ("float64", "float32"):
            return (Step("trunc"),)
        return (Step("float32"),) if to == "float32" and kind != "bool" else ()

    def _constant(self, value: int, column: int) -> float | None:
        node = self._program.node_of(value)
        if node is None or node.op != "Constant" or node.type.dtype == "string":
            return None
        row = node.attrs["value"]
        return float(row[column if len(row) > 1 else 0])

    def _with_constant(self, node: Node, column: int) -> Recipe | None:
        for operand, name in enumerate(_WITH_CONSTANT[node.op]):
            number, before = self._constant(node.inputs[1 - operand], column), self._operand(node, operand, column)
            if number is not None and before is not None and name:
                return (*before, Step(name, (number,)))
        return None

    def _filled(self, node: Node, column: int) -> Recipe | None:
        """A column with its NaN replaced by a constant."""
        asked, before = self._operand(node, 0, column), self._operand(node, 2, column)
        number = self._constant(node.inputs[1], column)
        if number is None or before is None or asked != (*before, Step("isnan")):
            return None
        return (*before, Step("fill", (number,)))


def _numbers(cells: Array) -> tuple[float, ...]:
    return tuple(float(cell) for cell in cells.astype(np.float64))
