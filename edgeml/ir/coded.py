"""The native form of a program: no strings in it, only integer codes, and the tables that turn one into the
other.

``code_strings`` rewrites a program for targets/native.py; the native engine codes string columns at its edge,
runs the rewritten program, and decodes string results. Strings of the whole program share one vocabulary, so
that codes of two columns can be compared. NaN, None and strings outside the vocabulary have codes of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.builder import Builder, Value
from edgeml.ir.front import split_front
from edgeml.ir.program import Node, Output, Program
from edgeml.ir.table import Array

NAN, NONE, FIRST = 0, 1, 2  # codes of NaN, of None, of the first string of the vocabulary


@dataclass(frozen=True, slots=True)
class CodedProgram:
    """``vocabulary[i]`` has the code ``FIRST + i``; other strings have codes from ``FIRST + len(vocabulary)`` on.

    ``text_inputs`` maps each input that was a string to whether two strings outside the vocabulary must get two codes
    (because they are compared or given back); ``text_outputs`` has, for each output, which of its values are codes.
    ``front`` takes texts apart: its outputs are inputs of ``program`` (front.py).
    """

    program: Program
    vocabulary: tuple[str, ...]
    text_inputs: Mapping[str, bool]
    text_outputs: Mapping[str, tuple[bool, ...]]
    front: Program | None = None


def code_strings(program: Program) -> CodedProgram:
    """The program over codes. Raises ProgramError for an op that works on the characters of a string."""
    front, rest = split_front(program)
    return replace(_Rewriter(rest).run(), front=front)


class _Rewriter:
    def __init__(self, program: Program) -> None:
        self._program = program
        self._builder = Builder()
        self._codes: dict[str, int] = {}
        # For each string value the inputs its cells may come from, and whether it may hold NaN.
        self._sources: dict[int, frozenset[str]] = {}
        self._distinct: set[str] = set()

    def run(self) -> CodedProgram:
        program, builder = self._program, self._builder
        text_inputs = [i.name for i in program.inputs if i.type.dtype == "string"]
        values: list[Value] = []
        for index, entry in enumerate(program.inputs):
            text = entry.type.dtype == "string"
            values.append(builder.input(entry.name, "int64" if text else entry.type.dtype, entry.type.width))
            if text:
                self._sources[index] = frozenset((entry.name,))
        for index, node in enumerate(program.nodes):
            with builder.at(node.origin):
                values.append(self._node(len(program.inputs) + index, node, [values[v] for v in node.inputs]))
        text_outputs = {}
        for name, output in program.outputs.items():
            text_outputs[name] = tuple(program.type_of(v).dtype == "string" for v in output.values)
            for value in output.values:
                self._distinct |= self._sources.get(value, frozenset())
        outputs = [
            Output(o.name, tuple(values[v].id for v in o.values), o.form, o.dtype) for o in program.outputs.values()
        ]
        return CodedProgram(
            builder.finish().with_outputs(outputs),
            tuple(self._codes),
            {name: name in self._distinct for name in text_inputs},
            text_outputs,
        )

    def _node(self, value: int, node: Node, inputs: list[Value]) -> Value:
        texts = [v for v in node.inputs if self._program.type_of(v).dtype == "string"]
        if not texts and node.type.dtype != "string":
            return self._builder.append(Node(node.op, tuple(v.id for v in inputs), node.type, node.attrs, node.origin))
        rewrite = _RULES.get(node.op)
        if rewrite is None:
            raise ProgramError(f"{node.op} ({node.origin or 'no origin'}) works on the characters of strings")
        if node.type.dtype == "string":
            self._sources[value] = frozenset().union(*(self._sources.get(v, frozenset()) for v in texts))
        return rewrite(self, node, inputs)

    # --- rules
    def _same(self, node: Node, inputs: list[Value]) -> Value:
        return self._builder.op(node.op, *inputs, **node.attrs)

    def _constant(self, node: Node, inputs: list[Value]) -> Value:
        return self._builder.constant(self._coded(node.attrs["value"]))

    def _lookup(self, node: Node, inputs: list[Value]) -> Value:
        return self._builder.op("Lookup", inputs[0], keys=self._coded(node.attrs["keys"]))

    def _recode(self, node: Node, inputs: list[Value]) -> Value:
        return self._builder.op("Recode", inputs[0], keys=self._coded(node.attrs["keys"]), values=node.attrs["values"])

    def _take(self, node: Node, inputs: list[Value]) -> Value:
        return self._builder.op("Take", inputs[0], table=self._coded(node.attrs["table"])[:, None])

    def _is_nan(self, node: Node, inputs: list[Value]) -> Value:
        return inputs[0] == np.array([NAN])

    def _is_none(self, node: Node, inputs: list[Value]) -> Value:
        return inputs[0] == np.array([NONE])

    def _equal(self, node: Node, inputs: list[Value]) -> Value:
        sources = [self._sources[v] for v in node.inputs]
        if all(sources):
            self._distinct |= sources[0] | sources[1]
        equal = inputs[0] == inputs[1]
        if all(self._may_be_nan(v) for v in node.inputs):
            equal = equal & ~(inputs[0] == np.array([NAN]))
        return equal

    # --- helpers
    def _coded(self, cells: Sequence[str | float | None]) -> Array:
        """Codes of cells, int64; new strings enter the vocabulary."""
        codes = np.empty(len(cells), dtype=np.int64)
        for at, cell in enumerate(cells):
            if isinstance(cell, str):
                codes[at] = FIRST + self._codes.setdefault(cell, len(self._codes))
            else:
                codes[at] = NONE if cell is None else NAN
        return codes

    def _may_be_nan(self, value: int) -> bool:
        node = self._program.node_of(value)
        return node is None or node.op != "Constant" or any(isinstance(c, float) for c in node.attrs["value"])


_RULES: dict[str, Callable[[_Rewriter, Node, list[Value]], Value]] = {
    "Constant": _Rewriter._constant,
    "Concat": _Rewriter._same,
    "Select": _Rewriter._same,
    "Where": _Rewriter._same,
    "Require": _Rewriter._same,
    "Equal": _Rewriter._equal,
    "IsNaN": _Rewriter._is_nan,
    "IsNone": _Rewriter._is_none,
    "Lookup": _Rewriter._lookup,
    "Take": _Rewriter._take,
    "Recode": _Rewriter._recode,
}


# --- storage ------------------------------------------------------------------------------------------------
def tables_to_json(coded: CodedProgram) -> dict[str, Any]:
    """Everything but the program, JSON-ready; outputs without strings are left out."""
    return {
        "vocabulary": list(coded.vocabulary),
        "text_inputs": dict(coded.text_inputs),
        "text_outputs": {name: list(flags) for name, flags in coded.text_outputs.items() if any(flags)},
    }


def tables_from_json(program: Program, tables: Any) -> CodedProgram:
    """The coded program. Raises ProgramError when the tables do not fit it."""
    try:
        vocabulary = tuple(tables["vocabulary"])
        text_inputs = dict(tables["text_inputs"])
        text_outputs = {name: tuple(flags) for name, flags in tables["text_outputs"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProgramError(f"malformed tables of strings: {type(error).__name__}: {error}") from None
    types = {i.name: i.type for i in program.inputs}
    if not all(isinstance(s, str) for s in vocabulary) or len(set(vocabulary)) != len(vocabulary):
        raise ProgramError("the vocabulary is not a list of different strings")
    if any(
        name not in types or types[name].dtype != "int64" or not isinstance(flag, bool)
        for name, flag in text_inputs.items()
    ):
        raise ProgramError("a column of codes is not an int64 input of the program")
    if not text_outputs.keys() <= program.outputs.keys():
        raise ProgramError("outputs of strings are listed that the program does not have")
    text_outputs = {o.name: text_outputs.get(o.name, (False,) * len(o.values)) for o in program.outputs.values()}
    for name, flags in text_outputs.items():
        values = program.outputs[name].values
        if len(flags) != len(values) or any(
            not isinstance(flag, bool) or (flag and program.type_of(value).dtype != "int64")
            for flag, value in zip(flags, values, strict=True)
        ):
            raise ProgramError(f"the codes of output {name} are malformed")
    return CodedProgram(program, vocabulary, text_inputs, text_outputs)
