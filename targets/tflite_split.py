"""Splits a program in two: the front, run in float64 by the native engine, and the core, which TFLite computes.

The front hands the core two matrices: ``features`` (float32) and ``codes`` (int32). The rule, node by node:

1. What needs exact numbers stays in front, with all it depends on: strings and look-ups, ranks (and so all a tree's
   thresholds are compared with), fractions turned into integers, and an interpolation so steep that it would magnify
   the rounding of float32 (but not that of a forest's scores, which the core adds up in integers: tflite_fixed.py).
   So does an iteration to a tolerance, but where nothing of the model would be left for the core.
2. Of the rest the model goes to the core: linear maps, trees over ranks, activations (``MODEL``), the reductions and
   labels that come after the last of them (``LATE``), and all that depends on these.
3. What is left is preprocessing. It stays in front, in float64, but for what is exact in small integers and makes the
   core's input smaller: one-hot columns travel as one code, members of category sets as the category's rank. Checks of
   rows in front stay there; those of what the core computes become an output of the graph.

Class labels that are strings (or numbers that float32 and int32 do not hold) stay out of both: the core gives the index
of the class, and the engine looks it up. Both halves are programs: front, then core, means what the whole one means.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from edgeml.errors import FormatError
from edgeml.ir import Input, Node, Output, Program, ValueType
from edgeml.ir.table import Array
from edgeml.passes import simplify
from edgeml.passes.facts import Known
from edgeml.passes.rewrite import Graph
from edgeml.targets.tflite_fixed import forest_score
from edgeml.targets.tflite_kinds import EXACT, GRIDS, INTEGER, LATE, MODEL, WEIGHTS
from edgeml.targets.tflite_ml_ops import is_steep
from edgeml.targets.tflite_range import settle, within
from edgeml.targets.tflite_refusals import nothing_left

FEATURES, CODES = "features", "codes"
_FLOATS = ("float64", "float32")
_INT32 = 2.0**31 - 1
Cell = str | float | int | bool | None


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the core's input: column ``column`` of the whole program's value ``value`` (-1: a zero)."""

    value: int
    column: int


@dataclass(slots=True)
class Split:
    """``labels`` has, for a method that returns labels, a table of labels for each of its columns.

    ``features`` and ``codes`` are the columns of the core's inputs in order, each with its position. ``shift`` is what
    tflite_centre.py had the front subtract from the features.
    """

    front: Program
    core: Program
    labels: dict[str, list[list[Cell]]] = field(default_factory=dict)
    features: dict[Column, int] = field(default_factory=dict)
    codes: dict[Column, int] = field(default_factory=dict)
    shift: Array | None = None


def split(program: Program) -> Split:
    """Both halves of a program whose trees are ranked.

    Raises FormatError for answers that are neither numbers nor labels, and where nothing of the model would be left.
    """
    return _Splitter(program).run()


class _Splitter:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.first = len(program.inputs)
        graph = Graph(program.inputs)
        for node in program.nodes:
            graph.append(node)
        self.known = Known(graph)
        self.result = Split(program, program)
        self.outputs = {name: self._numbers_of(output) for name, output in program.outputs.items()}
        self.loops: tuple[str, ...] = ()
        pinned = self._pinned()
        self.model = self._model(pinned)
        weights = (*WEIGHTS, "Loop")
        if not self.model & self._all(*WEIGHTS) and self._all("Loop"):
            self.loops = ("Loop",)  # in front, with all that depends on them, they would leave nothing
            pinned = self._pinned()
            self.model = self._model(pinned)
        self.core = set(self.model)
        if not self.core & self._all(*weights) and self._all(*weights):
            raise nothing_left(program, pinned)

    # --- which values
    def _all(self, *ops: str) -> set[int]:
        return {self.first + i for i, node in enumerate(self.program.nodes) if node.op in ops}

    def _pinned(self) -> set[int]:
        """Values that must be computed in float64, or on strings."""
        nodes = list(enumerate(self.program.nodes, self.first))
        exact = {v for v, node in nodes if self._needs_exact(node) and not self._is_label(v)}
        scores = {v: forest_score(self.program, node.inputs[0]) for v, node in nodes if node.op == "Interp"}
        while True:
            pinned = exact | self._ancestors(exact)
            # A staircase goes where its forest is.
            torn = {v for v, score in scores.items() if score is not None and score.value in pinned} - pinned
            if not torn:
                return pinned
            exact |= torn

    def _ancestors(self, values: set[int]) -> set[int]:
        """What the values depend on."""
        result: set[int] = set()
        for index in range(len(self.program.nodes) - 1, -1, -1):
            if self.first + index in values or self.first + index in result:
                result.update(self.program.nodes[index].inputs)
        return result

    def _needs_exact(self, node: Node) -> bool:
        kinds = [self.program.type_of(v).dtype for v in node.inputs]
        if (node.op in EXACT and node.op not in self.loops) or "string" in (*kinds, node.type.dtype):
            return True
        if node.op == "Cast":
            return kinds[0] in _FLOATS and node.type.dtype not in _FLOATS
        return node.op == "Interp" and is_steep(node) and forest_score(self.program, node.inputs[0]) is None

    def _model(self, pinned: set[int]) -> set[int]:
        """Values that the core computes by rule 2."""
        core: set[int] = set()
        early = self._ancestors(self._all(*WEIGHTS))
        for index, node in enumerate(self.program.nodes):
            value = self.first + index
            depends = any(v in core for v in node.inputs)
            model = node.op in (*MODEL, *self.loops) or (node.op in LATE and value not in early)
            if (model or depends) and value not in pinned and node.type.dtype != "string":
                core.add(value)
        return core

    # --- outputs
    def _numbers_of(self, output: Output) -> list[int]:
        """The values of an output, with the index in the place of a class label that must be looked up."""
        tables = [self._label_table(v) for v in output.values]
        if any(table is not None for table in tables):
            if any(table is None for table in tables):
                raise FormatError(
                    f"{output.name} returns class labels beside other values, and TFLite has only numbers",
                    "leave out the format tflite",
                )
            self.result.labels[output.name] = [table for table in tables if table is not None]
            return [self._node(v).inputs[0] for v in output.values]
        if np.dtype(output.dtype).kind not in "fiub":
            raise FormatError(
                f"{output.name} returns strings or objects, and TFLite has only numbers", "leave out the format tflite"
            )
        return list(output.values)

    def _node(self, value: int) -> Node:
        node = self.program.node_of(value)
        assert node is not None
        return node

    def _label_table(self, value: int) -> list[Cell] | None:
        """Labels by class index, when the value is a label the graph cannot hold."""
        node = self.program.node_of(value)
        if node is None or node.op != "Take":
            return None
        table = node.attrs["table"]
        if isinstance(table, tuple):
            return list(table)
        if table.shape[1] != 1 or table.dtype.kind not in "fi":
            return None
        narrow = table.astype(np.float32 if table.dtype.kind == "f" else np.int32)
        exact = np.array_equal(narrow.astype(table.dtype), table, equal_nan=True)
        return None if exact or not self._read_by_outputs_only(value) else table[:, 0].tolist()

    def _read_by_outputs_only(self, value: int) -> bool:
        return not any(value in node.inputs for node in self.program.nodes)

    def _is_label(self, value: int) -> bool:
        """Whether a value is a class label that the engine looks up, and nothing else reads."""
        return self._label_table(value) is not None and self._read_by_outputs_only(value)

    # --- the halves
    def run(self) -> Split:
        boundary = self._boundary()
        for value in sorted(boundary):
            self._hand_over(value)
        if not self.result.features and not self.result.codes:
            self.result.codes[Column(-1, 0)] = 0  # constant answers: a column of zeros tells the number of rows
        nan = any(self.known.of(c.value).nan[c.column] for c in self.result.features)
        self.bound, core = settle(simplify(self._core_program(boundary)), FEATURES, nan)
        self.result.core = simplify(core)
        read = {entry.name for entry in self.result.core.inputs}
        for name, columns in ((FEATURES, self.result.features), (CODES, self.result.codes)):
            if name not in read:  # only checks read it, and they are gone
                columns.clear()
        self.result.front = simplify(self._front_program())
        return self.result

    def _boundary(self) -> set[int]:
        """Values that the core reads and does not compute; rule 3 moves them towards narrower ones."""
        waiting = [v for values in self.outputs.values() for v in values]
        waiting += [v for value in self.core for v in self._node(value).inputs]
        boundary: set[int] = set()
        while waiting:
            value = waiting.pop()
            if value in self.core or value in boundary:
                continue
            if self._moves(value):
                self.core.add(value)
                inputs = self._node(value).inputs
                waiting += inputs[:1] if self._is_check(value) else inputs
            else:
                boundary.add(value)
        return boundary

    def _moves(self, value: int) -> bool:
        """Whether the core may as well compute a value of the preprocessing: exactly, from no more columns."""
        node = self.program.node_of(value)
        if node is None or node.type.dtype == "string":
            return False
        if node.op in ("Constant", "Concat") or self._is_check(value) or self._is_square(value):
            return True
        if node.op == "Cast" and node.type.dtype in _FLOATS and self.program.type_of(node.inputs[0]).dtype in _FLOATS:
            return True  # the core's input is rounded to float32 anyway
        if self._is_equalisation(value, node):
            return True
        if not all(self._small(v) for v in node.inputs):
            return False
        if node.op in ("OneHot", "Take"):
            return True
        integer = node.type.dtype not in _FLOATS and self._small(value)
        return node.op in INTEGER and (integer or node.op == "Cast")

    def _is_check(self, value: int) -> bool:
        """Whether a value is another one that the front has checked; the core reads that one."""
        node = self.program.node_of(value)
        return node is not None and node.op in ("CheckFinite", "Require") and value not in self.model

    def _is_square(self, value: int) -> bool:
        """Whether a value is x * x or the sum of it along the row, of distances: x itself is handed over too."""
        node = self.program.node_of(value)
        if node is not None and node.op == "ReduceSum":
            node = self.program.node_of(node.inputs[0])
        return node is not None and node.op == "Mul" and node.inputs[0] == node.inputs[1]

    def _is_equalisation(self, value: int, node: Node) -> bool:
        """Whether a value is columns times a constant row for a quantised layer, among them some that travel as codes.

        The product would be as wide as all columns of the one-hot codes. float32 is enough for what is rounded next.
        """
        if node.op != "Mul" or self._node_if(node.inputs[1], "Constant") is None:
            return False
        if {n.op for n in self.program.nodes if value in n.inputs} - {*GRIDS, "QuantizedLinear"}:
            return False
        x = node.inputs[0]
        while (above := self._node_if(x, "CheckFinite", "Require", "Cast")) is not None:
            x = above.inputs[0]
        joined = self._node_if(x, "Concat")
        return joined is not None and any(map(self._exact, joined.inputs))

    def _exact(self, value: int) -> bool:
        """Whether a value is one-hot, or small integers as floats."""
        node = self._node_if(value, "OneHot", "Cast", "Take")
        return node is not None and self._small(node.inputs[0])

    def _node_if(self, value: int, *ops: str) -> Node | None:
        node = self.program.node_of(value)
        return node if node is not None and node.op in ops else None

    def _small(self, value: int) -> bool:
        """Whether a value is bool, or an integer that int32 surely holds."""
        kind = self.program.type_of(value)
        if kind.dtype == "int64":
            facts = self.known.of(value)
            return bool((facts.low >= -_INT32).all() and (facts.high <= _INT32).all())
        return kind.dtype == "bool"

    def _hand_over(self, value: int) -> None:
        kind = self.program.type_of(value)
        if kind.dtype not in _FLOATS and not self._small(value):
            node = self.program.node_of(value)
            where = f"step {node.origin}" if node is not None and node.origin else f"column {self._name(value)}"
            raise FormatError(
                f"{where}: its integers may be beyond the range of int32, the largest TFLite computes with",
                "leave out the format tflite",
            )
        chosen = self.result.features if kind.dtype in _FLOATS else self.result.codes
        for column in range(kind.width):
            chosen.setdefault(self._source(value, column), len(chosen))

    def _name(self, value: int) -> str:
        return self.program.inputs[value].name if value < self.first else "?"

    def _source(self, value: int, column: int) -> Column:
        """The same column where it was first computed: a column that is selected twice travels once."""
        while True:
            node = self.program.node_of(value)
            if node is None or node.op not in ("Select", "Concat"):
                return Column(value, column)
            if node.op == "Select":
                value, column = node.inputs[0], int(node.attrs["indices"][column])
                continue
            for part in node.inputs:
                width = self.program.type_of(part).width
                if column < width:
                    value = part
                    break
                column -= width

    def _core_program(self, boundary: set[int]) -> Program:
        names = [(FEATURES, self.result.features, "float64"), (CODES, self.result.codes, "int64")]
        inputs = tuple(Input(n, ValueType(d, len(c))) for n, c, d in names if c)  # type: ignore[arg-type]
        graph = Graph(inputs)
        number = {entry.name: i for i, entry in enumerate(inputs)}
        place: dict[int, int] = {}
        for value in sorted(boundary | self.core):
            if value in boundary:
                place[value] = self._received(graph, value, number)
            elif self._is_check(value):
                place[value] = place[self._node(value).inputs[0]]
            else:
                node = self._node(value)
                moved = tuple(place[v] for v in node.inputs)
                place[value] = graph.append(Node(node.op, moved, node.type, node.attrs, node.origin))
        outputs = {}
        for output in self.program.outputs.values():
            dtype = "<i4" if output.name in self.result.labels or np.dtype(output.dtype).kind != "f" else "<f4"
            values = tuple(place[v] for v in self.outputs[output.name])
            outputs[output.name] = Output(output.name, values, output.form, dtype)
        return Program(inputs, tuple(graph.nodes), outputs)

    def _received(self, graph: Graph, value: int, number: dict[str, int]) -> int:
        """A boundary value, put together from the core's input columns."""
        kind, node = self.program.type_of(value), self.program.node_of(value)
        origin = node.origin if node else ""
        name, columns = (FEATURES, self.result.features) if kind.dtype in _FLOATS else (CODES, self.result.codes)
        indices = [columns[self._source(value, j)] for j in range(kind.width)]
        received = graph.select(number[name], np.array(indices, dtype=np.int64), origin)
        if graph.type_of(received).dtype != kind.dtype:
            received = graph.emit("Cast", (received,), {"to": kind.dtype}, origin)
        return received

    def _front_program(self) -> Program:
        graph = Graph(self.program.inputs)
        gone: set[int] = set()
        for node in self.program.nodes:
            if graph.next_value in self.model or gone.intersection(node.inputs):
                gone.add(graph.next_value)
                node = _NOTHING
            graph.append(node)
        outputs = {}
        for name, columns, dtype in ((FEATURES, self.result.features, "<f4"), (CODES, self.result.codes, "<i4")):
            if columns:
                # One value each: what the engine hands over in one piece.
                parts = [self._handed(graph, run) for run in _runs(columns)]
                wide = "float64" if name == FEATURES else "int64"
                value = graph.concat([_cast(graph, part, wide) for part in parts], "")
                outputs[name] = Output(name, (value,), "matrix", dtype)
        return Program(self.program.inputs, tuple(graph.nodes), outputs)

    def _handed(self, graph: Graph, run: Sequence[Column]) -> int:
        """Neighbouring columns of one value; rows that float32 cannot hold are refused."""
        if run[0].value < 0:
            return graph.emit("Constant", (), {"value": np.zeros(1, dtype=np.int64)}, "")
        node = self.program.node_of(run[0].value)
        origin = node.origin if node else ""
        value = graph.select(run[0].value, np.array([c.column for c in run], dtype=np.int64), origin)
        largest = self.known.of(run[0].value).magnitude[[c.column for c in run]].max(initial=0.0)
        return value if largest <= self.bound else within(graph, value, self.bound, origin)


# Takes the place of what the front does not compute, so that values keep their numbers; dropped as dead.
_NOTHING = Node("Constant", (), ValueType("bool", 1), {"value": np.zeros(1, dtype=bool)})


def _runs(columns: Iterable[Column]) -> list[list[Column]]:
    """Columns of the same value that stand side by side."""
    runs: list[list[Column]] = []
    for column in columns:
        if runs and runs[-1][0].value == column.value:
            runs[-1].append(column)
        else:
            runs.append([column])
    return runs


def _cast(graph: Graph, value: int, dtype: str) -> int:
    return value if graph.type_of(value).dtype == dtype else graph.emit("Cast", (value,), {"to": dtype}, "")
