"""What a ``.tflite`` says of itself, so that someone who has nothing else can use it: the metadata entry ``edgeml``.

JSON, in the TFLite metadata buffer of that name:

    edgeml, name, version   of EdgeML, and of the model
    columns                 kind of each raw column the answers depend on, by name; of a matrix [kind, width] under "X"
    inputs                  of the signature ``serve``: groups of neighbouring columns of ``features`` and of ``codes``.
                            A group has ``step`` (the pipeline step that computes it), ``from`` (for each column the
                            raw column it depends on, or a list of several; positions for a matrix, [first, "to", last]
                            where they count up), and how that raw column becomes the input:
                            ``how``, for columns of numbers: steps one after the other, each the name of a function of
                            NumPy and, where it takes one, a number for all columns of the group or the place of one
                            for each. ``float32`` rounds, ``fill`` replaces NaN, ``find`` gives the position among its
                            numbers (NaN is found, too; -1 for none), ``take`` the number at a position. Cells are
                            float64, or float32 where the raw column is and after ``float32``; true is 1. Without
                            steps the input is the cell. Features come out to the digits of float32, ranks exactly.
                            ``edges``, of ranks, after these steps: the place of each column's edges; the input is how
                            many of them are below the cell, one more than all for NaN; null for too many to list.
                            ``codes``, of a column made of one string column, instead: cells, what each becomes (their
                            first number where they count up by one), and what any other becomes; among the cells null
                            stands for None and "(NaN)" for NaN, among the numbers null for a row that is refused;
                            null instead of all three where the strings are too many to list.
                            ``minus``: a number that is subtracted from each column in the end.
                            A place is dtype, byte to start at, and count, in the metadata entry ``edgeml_edges``.
                            A group with none of ``how``, ``edges`` and ``codes`` depends on several raw columns or
                            takes other steps: the program in the bundle's member ``front``, which is exact for all.
                            With a signature ``raw`` there is no ``how``.
    outputs                 for each method its form and dtype in scikit-learn, and ``labels`` where the graph gives the
                            index of a class instead of its label (one table a column)
    checks                  what ``refused`` = 1, 2, … stands for; 0 is a row that scikit-learn answers
    raw                     ``inputs`` and ``checks`` of the signature ``raw``, or the ``reason`` it is missing
    rows                    how many rows to compute at once
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from edgeml._version import __version__
from edgeml.ir import Node, Output, Program
from edgeml.ir.table import Array
from edgeml.jsonutil import dumps
from edgeml.schema import MATRIX, Schema
from edgeml.targets.base import About
from edgeml.targets.tflite_recipes import Recipe, Recipes, rounded
from edgeml.targets.tflite_sources import MOST_STRINGS, Source, sources_of, string_table
from edgeml.targets.tflite_split import CODES, FEATURES, Cell, Column, Split

ENTRY, EDGES = "edgeml", "edgeml_edges"
# Numbers of edges that are written out, 2 to 8 bytes each; of more the front has them.
MOST_EDGES = 1_000
# Numbers of all steps, 2 to 8 bytes each.
MOST_NUMBERS = 4_000
_DTYPES = ("float16", "float32", "float64")
_TABLES = ("find", "take")


def metadata(
    program: Program, parts: Split, about: About, front: str, serve: Mapping[str, Any], raw: Mapping[str, Any]
) -> dict[str, bytes]:
    """The entries. ``program`` is the whole ranked program; ``serve`` and ``raw`` are facts of the two graphs."""
    described = _Columns(program, parts, Recipes(program) if "reason" in raw else None)
    content = dumps(
        {
            "edgeml": __version__,
            "name": about.name,
            "version": about.version,
            "columns": _columns_of(about.schema),
            "front": front,
            "inputs": {n: described.groups(n, c) for n, c in ((FEATURES, parts.features), (CODES, parts.codes)) if c},
            "outputs": _outputs_of(program.outputs.values(), parts.labels),
            **serve,
            "raw": raw,
        }
    )
    return {ENTRY: content, EDGES: bytes(described.edges)} if described.edges else {ENTRY: content}


def _columns_of(schema: Schema) -> dict[str, Any]:
    if schema.form == "matrix":
        return {MATRIX: [schema.kind, len(schema.columns)]}
    return {c.name: c.kind for c in schema.columns if c.used}


def _outputs_of(outputs: Iterable[Output], labels: Mapping[str, list[list[Cell]]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for output in outputs:
        result[output.name] = {"form": output.form, "dtype": output.dtype}
        if output.name in labels:
            result[output.name]["labels"] = [[_plain(c) for c in table] for table in labels[output.name]]
    return result


def _plain(cell: Cell) -> Cell:
    """A label as JSON has it: null for NaN."""
    return None if isinstance(cell, float) and cell != cell else cell


def _alike(group: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether a column's description goes with those of a group: the same steps, but for their numbers."""
    if group.keys() != entry.keys() or group["step"] != entry["step"]:
        return False
    if "how" not in entry:
        return True
    one, other = ([step.name for step in x["how"][0]] for x in (group, entry))
    return one == other and not set(one).intersection(_TABLES)


class _Columns:
    """Describes columns of the core's input."""

    def __init__(self, program: Program, parts: Split, recipes: Recipes | None) -> None:
        self.program, self.parts, self.recipes = program, parts, recipes
        self.sources = sources_of(program)
        self.edges = bytearray()
        self.edges_left, self.numbers_left = MOST_EDGES, MOST_NUMBERS
        self.tables: dict[Source, list[tuple[Cell, dict[str, Any] | None]]] = {}

    def groups(self, name: str, columns: Mapping[Column, int]) -> list[dict[str, Any]]:
        """Neighbouring columns with the same kind of description, put together."""
        result: list[dict[str, Any]] = []
        for column, position in columns.items():
            entry = self._column(name, column, position)
            if result and _alike(result[-1], entry):
                for key in entry.keys() - {"step"}:
                    result[-1][key] += entry[key]
            else:
                result.append(entry)
        for group in result:
            at = group["from"]
            if len(at) > 3 and type(at[0]) is int and at == [*range(at[0], at[0] + len(at))]:
                group["from"] = [at[0], "to", at[-1]]
            if "how" in group:
                self._set_steps(group, group.pop("how"))
        return result

    def _column(self, name: str, column: Column, position: int) -> dict[str, Any]:
        if column.value < 0:
            return {"step": "a zero for every row", "from": [[]]}
        node = self.program.node_of(column.value)
        sources = sorted(self.sources[column.value][column.column])
        names = [self._label(s) for s in sources]
        result: dict[str, Any] = {"step": node.origin if node else "", "from": names if len(names) == 1 else [names]}
        if name == FEATURES and self.parts.shift is not None:
            result["minus"] = [float(self.parts.shift[position])]
        if len(sources) == 1 and self.program.inputs[sources[0][0]].type.dtype == "string":
            table = [(cell, _number(values, name, position)) for cell, values in self._table(sources[0])]
            result["codes"] = [_codes(table) if len(table) < MOST_STRINGS else None]
            return result
        value = column.value
        if node is not None and node.op == "Rank":
            result["edges"] = [self._place_of_edges(node, column.column)]
            value = node.inputs[0]
        recipe = None if self.recipes is None else self.recipes.of(value, column.column)
        if recipe is not None:
            result["how"] = [rounded(recipe) if name == FEATURES else recipe]
        elif "edges" in result:
            del result["edges"]  # they mean nothing without the number that is compared with them
        return result

    def _set_steps(self, group: dict[str, Any], recipes: list[Recipe]) -> None:
        """``how`` of a group, unless it takes too many numbers."""
        steps: list[list[Any]] = []
        self.numbers_left -= sum(len(step.numbers) for recipe in recipes for step in recipe)
        if self.numbers_left < 0:
            group.pop("edges", None)
            return
        for same in zip(*recipes, strict=True):
            numbers = [n for step in same for n in step.numbers]
            plain = len(set(numbers)) == 1 and same[0].name not in _TABLES and np.isfinite(numbers[0])
            steps.append(
                [same[0].name, *([numbers[0] if plain else self._place(np.array(numbers))] if numbers else [])]
            )
        group["how"] = steps

    def _label(self, source: Source) -> str | int:
        """Name of a raw column; its position in the matrix of a pipeline that was fitted on an array."""
        entry = self.program.inputs[source[0]]
        return entry.name if entry.type.width == 1 else source[1]

    def _place_of_edges(self, node: Node, column: int) -> list[str | int] | None:
        start, end = node.attrs["offsets"][column : column + 2]
        self.edges_left -= int(end - start)
        if self.edges_left < 0:
            return None
        return self._place(node.attrs["edges"][start:end])

    def _place(self, numbers: Array) -> list[str | int]:
        """Where the numbers now lie, in the narrowest dtype that holds them."""
        with np.errstate(over="ignore"):
            tried = (numbers.astype(np.dtype(d).newbyteorder("<")) for d in _DTYPES)
            narrow = next(n for n in tried if np.array_equal(n, numbers, equal_nan=True))
        first = len(self.edges)
        self.edges += narrow.tobytes()
        return [narrow.dtype.str, first, len(numbers)]

    def _table(self, source: Source) -> list[tuple[Cell, dict[str, Any] | None]]:
        if source not in self.tables:
            self.tables[source] = string_table(self.parts.front, self.program.inputs[source[0]].name)
        return self.tables[source]


def _number(values: Mapping[str, Any] | None, name: str, position: int) -> float | int | None:
    if values is None:
        return None
    cell = values[name][position]
    return int(cell) if values[name].dtype.kind == "i" else float(cell)


def _codes(table: list[tuple[Cell, float | int | None]]) -> list[Any]:
    """Cells, what they become, and what any other becomes, the last of the table. Shorter where they count up."""
    other = table[-1][1]
    known = sorted((pair for pair in table[:-1] if pair[1] != other), key=lambda p: (p[1] is not None, p[1] or 0))
    cells, values = [cell for cell, _ in known], [value for _, value in known]
    first = values[0] if values and type(values[0]) is int else None
    counted = first is not None and values == [*range(first, first + len(values))]
    return [cells, first if counted else values, other]
