"""Splits a program that takes texts apart in two: the front, which has them as terms, and the rest for the kernels.

In comes a program, out go two that mean the same one after the other: the front turns raw columns into the dense values
where terms end (the scores of a linear layer, the norm of a row), the rest has these among its inputs. The kernels hold
dense rows, so every value that is sparse stays in front, which the interpreter runs on rows of nonzero cells. Called
for the native artifact by ``coded``.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import replace

from edgeml.ir.ops import OPS
from edgeml.ir.program import Input, Node, Output, Program
from edgeml.ir.sparse import KEEPS, SOURCES


def split_front(program: Program) -> tuple[Program | None, Program]:
    """The front, None for a program without texts that are taken apart, and the rest.

    Outputs of the front have the names of inputs of the rest, and the dtypes of their values.
    """
    if not any(node.op in SOURCES for node in program.nodes):
        return None, program
    first = len(program.inputs)
    sparse: set[int] = set()
    reads: set[int] = set()  # values that read a sparse one
    for value, node in enumerate(program.nodes, first):
        found = not sparse.isdisjoint(node.inputs)
        if found:
            reads.add(value)
        if node.op in SOURCES or (found and node.op in KEEPS):
            sparse.add(value)
    ahead = sparse | reads
    answers = {value for output in program.outputs.values() for value in output.values}
    read = answers | {v for at, node in enumerate(program.nodes, first) if at not in ahead for v in node.inputs}
    ends = sorted(ahead & read)
    taken = {entry.name for entry in program.inputs}
    names = {value: _unused(f"%{value}", taken) for value in ends}
    checks = {value for value, node in enumerate(program.nodes, first) if OPS[node.op].effect}
    in_front = _needed(program, {*ends, *(checks & ahead)}, frozenset())
    # A check on the way to the terms is made in front, once.
    behind = _needed(program, answers | (checks - ahead - in_front), frozenset(ends))
    outputs = {names[v]: Output(names[v], (v,), "matrix", program.type_of(v).dtype) for v in ends}
    return _part(program, in_front, {}, outputs), _part(program, behind, names, program.outputs)


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"%{name}"
    return name


def _needed(program: Program, values: Set[int], given: Set[int]) -> set[int]:
    """The values and all that they are computed from, down to those that are given."""
    first, keep = len(program.inputs), set(values)
    for value in range(first + len(program.nodes) - 1, first - 1, -1):
        if value in keep and value not in given:
            keep.update(program.nodes[value - first].inputs)
    return keep


def _part(program: Program, keep: Set[int], given: Mapping[int, str], outputs: Mapping[str, Output]) -> Program:
    """The values in ``keep`` as a program of its own, which is handed those in ``given`` as inputs of these names."""
    first = len(program.inputs)
    inputs = [(at, entry) for at, entry in enumerate(program.inputs) if at in keep]
    inputs += [(v, Input(name, program.type_of(v))) for v, name in given.items()]
    place = {v: at for at, (v, _) in enumerate(inputs)}
    nodes: list[Node] = []
    for value, node in enumerate(program.nodes, first):
        if value in keep and value not in given:
            place[value] = len(inputs) + len(nodes)
            nodes.append(replace(node, inputs=tuple(place[v] for v in node.inputs)))
    placed = {n: replace(output, values=tuple(place[v] for v in output.values)) for n, output in outputs.items()}
    return Program(tuple(entry for _, entry in inputs), tuple(nodes), placed)
