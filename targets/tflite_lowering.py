"""One program on its way into one TFLite graph, and the table of op lowerings.

``Lowering`` goes through a program in order and asks the function that a module ``tflite_*ops`` has entered in
``LOWERINGS`` for each node. float64 becomes float32, int64 becomes int32. What refuses rows in the program becomes one
more output, ``refused``: 0, or the number of the first check that a row fails, counted from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.errors import FormatError
from edgeml.ir import Node, Output, Program, ValueType
from edgeml.ir.interpreter import needed
from edgeml.ir.table import Array
from edgeml.targets.tflite_graph import ROWS, Graph, Model, Tensor

DTYPES = {"float64": "float32", "float32": "float32", "int64": "int32", "bool": "bool"}
REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Value:
    """A value of the program in the graph: shape (1, width) when ``one_row`` (it is constant), else (ROWS, width)."""

    tensor: Tensor
    type: ValueType
    one_row: bool

    @property
    def shape(self) -> tuple[int, int]:
        return (1 if self.one_row else ROWS, self.type.width)


Lower = Callable[..., Tensor]
LOWERINGS: dict[str, Lower] = {}


def lowers(*ops: str) -> Callable[[Lower], Lower]:
    """Enter the decorated function as the lowering of ``ops``: ``lower(lowering, node, *values)`` gives the result."""

    def enter(function: Lower) -> Lower:
        for name in ops:
            LOWERINGS[name] = function
        return function

    return enter


class Lowering:
    """Writes ``program`` as the graph and signature ``name`` of ``model``."""

    def __init__(self, model: Model, program: Program, name: str, raw: bool = False) -> None:
        """With ``raw`` every input is a float32 tensor, whatever the program's dtype."""
        self._start(program, model.graph(name))
        try:
            for entry in program.inputs:
                self.values.append(self._input(entry.name, entry.type, raw))
            self._write()
            for output in program.outputs.values():
                self.graph.outputs[output.name] = self._output(output)
            if self.checks:
                self.graph.outputs[REFUSED] = self._refused()
        except FormatError:
            model.discard(self.graph)
            raise

    @classmethod
    def of_body(cls, program: Program, graph: Graph, values: Sequence[Value], origin: str) -> Lowering:
        """The program of a loop, written into a part of a graph, which has its inputs already, and no outputs yet."""
        self = cls.__new__(cls)
        self._start(program, graph)
        self.values += values
        self._write(origin)
        return self

    def _start(self, program: Program, graph: Graph) -> None:
        self.program, self.graph = program, graph
        self.values: list[Value | None] = []
        self.checks: list[dict[str, Any]] = []
        self.cache: dict[object, Any] = {}  # what lowerings find once and use again
        self.origin = ""
        self._passes: list[Tensor] = []  # for each check, bool (ROWS, 1)
        self._no: Tensor | None = None

    def _write(self, origin: str = "") -> None:
        program = self.program
        keep = needed(program, program.outputs)
        for index, node in enumerate(program.nodes):
            if not keep[len(program.inputs) + index]:
                self.values.append(None)
                continue
            self.origin = node.origin or origin
            args = [self.value(v) for v in node.inputs]
            if node.op not in LOWERINGS:
                raise FormatError(f"step {self.origin or 'of the pipeline'}: TFLite has no way to compute {node.op}")
            tensor = LOWERINGS[node.op](self, node, *args)
            self.values.append(Value(tensor, node.type, all(x.one_row for x in args)))
        self.origin = ""

    def _input(self, name: str, kind: ValueType, raw: bool) -> Value:
        dtype = DTYPES[kind.dtype]
        tensor = self.graph.input(name, "float32" if raw else dtype, (ROWS, kind.width))
        if tensor.dtype != dtype:
            if dtype == "bool":
                zero = np.zeros((1, 1), np.float32)
                tensor = self.graph.op("NOT_EQUAL", [tensor, zero], tensor.shape, "bool")
            else:
                tensor = self.graph.cast(tensor, dtype)
        return Value(tensor, kind, False)

    # --- for lowerings
    def node(self, value: int) -> Node | None:
        """The node that computes a value, None for an input."""
        return self.program.node_of(value)

    def is_zero(self, value: int) -> bool:
        """Whether a value is the constant 0."""
        node = self.node(value)
        return node is not None and node.op == "Constant" and not np.any(node.attrs["value"])

    def shape(self, node: Node, *args: Value) -> tuple[int, int]:
        """Shape of a node's result."""
        return (1 if all(x.one_row for x in args) else ROWS, node.type.width)

    def value(self, value: int) -> Value:
        """A value that is computed already."""
        found = self.values[value]
        assert found is not None
        return found

    def number(self, array: Array) -> Array:
        """A constant of the program in the graph's dtype. Raises FormatError for one that it cannot hold."""
        if array.dtype.kind == "f":
            with np.errstate(over="ignore"):
                result: Array = array.astype(np.float32)
            if (np.isinf(result) & np.isfinite(array)).any():
                raise self.refuse("uses a constant beyond the range of float32")
            return result
        if array.dtype.kind in "iu":
            if array.size and max(-int(array.min()), int(array.max())) > np.iinfo(np.int32).max:
                raise self.refuse("uses an integer beyond the range of int32")
            return array.astype(np.int32)
        return array

    def refuse(self, why: str) -> FormatError:
        """The error for a step that TFLite cannot express."""
        return FormatError(
            f"step {self.origin or 'of the pipeline'} {why}; a TFLite graph computes in float32 and int32",
            "leave out the format tflite, or change that step",
        )

    def no(self) -> Tensor:
        """false for every row, bool (ROWS, 1)."""
        if self._no is None:
            x = next(x for x in self.graph.inputs.values() if x.shape[0] == ROWS)
            if x.shape[1] != 1:
                x = self.graph.gather(x, np.zeros(1, np.int32), axis=1)
            # No number is greater than itself, nor NaN.
            self._no = self.graph.op("NOT_EQUAL" if x.dtype == "bool" else "GREATER", [x, x], x.shape, "bool")
        return self._no

    def all_rows(self, x: Value) -> Tensor:
        """A constant repeated for every row; other values as they are."""
        if not x.one_row:
            return x.tensor
        shape = (ROWS, x.type.width)
        if x.tensor.dtype == "bool":
            return self.graph.op("LOGICAL_OR", [self.no(), x.tensor], shape)
        # SELECT_V2 leaves every bit of the constant as it is, NaN and -0.0 too.
        return self.graph.op("SELECT_V2", [self.no(), x.tensor, x.tensor], shape, x.tensor.dtype)

    def check(self, passes: Tensor, facts: Mapping[str, Any]) -> None:
        """Refuse the rows where ``passes``, bool (ROWS, 1), is false."""
        self.checks.append(dict(facts))
        self._passes.append(passes)

    def none_of(self, x: Tensor) -> Tensor:
        """Whether no column of a bool tensor holds, (ROWS, 1)."""
        g = self.graph
        any_of = x if x.shape[1] == 1 else g.reduce("REDUCE_ANY", x, 1, keep=True)
        return g.op("LOGICAL_NOT", [any_of], any_of.shape)

    # --- outputs
    def _output(self, output: Output) -> Tensor:
        """The graph output of a method: its values side by side, (ROWS, width), or (ROWS,) for a vector."""
        dtype = "float32" if np.dtype(output.dtype).kind == "f" else "int32"
        parts = [self.graph.cast(self.all_rows(self.value(v)), dtype) for v in output.values]
        width = sum(part.shape[1] for part in parts)
        joined = parts[0] if len(parts) == 1 else self.graph.op("CONCATENATION", parts, (ROWS, width), axis=1)
        return self.graph.named(joined, (ROWS,) if output.form == "vector" else (ROWS, width), output.name)

    def _refused(self) -> Tensor:
        g = self.graph
        number: Tensor | Array = np.zeros((1, 1), np.int32)
        for index in range(len(self._passes) - 1, -1, -1):
            failed = np.array([[index + 1]], np.int32)
            number = g.op("SELECT_V2", [self._passes[index], number, failed], (ROWS, 1), "int32")
        assert isinstance(number, Tensor)
        return g.reshape(number, (ROWS,), REFUSED)
