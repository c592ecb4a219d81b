"""The way a pass rewrites nodes: one walk in execution order, a rule asked at every node.

Comes in: a program and a rule. Goes out: the rewritten program and whether a rule applied. Values keep their
order, so a rule always sees operands that were rewritten already; ids are handled here and nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from edgeml.ir.ops import OPS
from edgeml.ir.program import Attr, Input, Node, Program, ValueType
from edgeml.ir.table import Array


class Graph:
    """The program under construction, as rules see it. Value ids are those of the new program."""

    def __init__(self, inputs: tuple[Input, ...]) -> None:
        self.inputs = inputs
        self.nodes: list[Node] = []
        # How many nodes and outputs of the old program read a value; 0 for values that rules appended.
        self.readers: Counter[int] = Counter()
        self.discarded: set[int] = set()

    def type_of(self, value: int) -> ValueType:
        """Type of a value."""
        node = self.node(value)
        return self.inputs[value].type if node is None else node.type

    def node(self, value: int) -> Node | None:
        """The node that computes a value, None for an input."""
        n = len(self.inputs)
        return None if value < n else self.nodes[value - n]

    def node_if(self, value: int, *ops: str) -> Node | None:
        """The node that computes a value when it is one of ``ops``, else None."""
        node = self.node(value)
        return node if node is not None and node.op in ops else None

    @property
    def next_value(self) -> int:
        """The id of the next value to be appended."""
        return len(self.inputs) + len(self.nodes)

    def constant(self, value: int) -> Array | None:
        """The one row, (width,), of a numeric or bool Constant; None for anything else."""
        node = self.node_if(value, "Constant")
        return node.attrs["value"] if node is not None and isinstance(node.attrs["value"], np.ndarray) else None

    def discard(self, value: int) -> None:
        """Remove a check that a rule has put elsewhere. Nothing but the node being replaced may read it."""
        self.discarded.add(value)

    def append(self, node: Node) -> int:
        """Append a node that is known to be legal; returns its value."""
        self.nodes.append(node)
        return self.next_value - 1

    def emit(self, op: str, inputs: Sequence[int], attrs: Mapping[str, Attr], origin: str) -> int:
        """Append an operation, typed by the op table; returns its value."""
        types = [self.type_of(value) for value in inputs]
        return self.append(Node(op, tuple(inputs), OPS[op].infer(types, attrs), dict(attrs), origin))

    def select(self, value: int, indices: Array, origin: str) -> int:
        """Columns of a value by position; the value itself when that is all of them in order."""
        if np.array_equal(indices, np.arange(self.type_of(value).width)):
            return value
        return self.emit("Select", (value,), {"indices": np.asarray(indices, dtype=np.int64)}, origin)

    def concat(self, values: Sequence[int], origin: str) -> int:
        """Values side by side; the value itself when it is one."""
        return values[0] if len(values) == 1 else self.emit("Concat", values, {}, origin)


# Given a node with rewritten operands: the value that takes the node's place, or None to keep the node.
Rule = Callable[[Node, Graph], int | None]


def rewrite(program: Program, rule: Rule, graph: Graph | None = None) -> tuple[Program, bool]:
    """Ask the rule at every node. Returns the new program and True, or the same program and False.

    ``graph``, new and empty, is for rules that keep something beside it.
    """
    graph = graph or Graph(program.inputs)
    uses = program.uses()
    place = list(range(len(program.inputs)))
    graph.readers.update(dict(enumerate(uses[: len(place)])))
    modified = False
    for node in program.nodes:
        moved = replace(node, inputs=tuple(place[v] for v in node.inputs))
        value = rule(moved, graph)
        modified = modified or value is not None
        graph.readers[graph.next_value if value is None else value] += uses[len(place)]
        place.append(graph.append(moved) if value is None else value)
    if not modified:
        return program, False
    after = _finish(program, program.inputs, graph.nodes, place)
    if graph.discarded:
        after = keep_only(after, [value not in graph.discarded for value in range(graph.next_value)])
    return after, True


def keep_only(program: Program, keep: Sequence[bool]) -> Program:
    """The program without the values that are not kept. Nothing kept may read what is not."""
    place: list[int] = []
    total = 0
    for kept in keep:
        place.append(total)
        total += kept
    n = len(program.inputs)
    inputs = tuple(entry for entry, kept in zip(program.inputs, keep[:n], strict=True) if kept)
    nodes = [
        replace(node, inputs=tuple(place[v] for v in node.inputs))
        for node, kept in zip(program.nodes, keep[n:], strict=True)
        if kept
    ]
    return _finish(program, inputs, nodes, place)


def _finish(program: Program, inputs: tuple[Input, ...], nodes: Sequence[Node], place: Sequence[int]) -> Program:
    outputs = {
        name: replace(output, values=tuple(place[v] for v in output.values)) for name, output in program.outputs.items()
    }
    return Program(inputs, tuple(nodes), outputs)
