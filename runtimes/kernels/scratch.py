"""Where values lie while a program runs: columns of scratch, which are taken, freed and taken again.

``encode.py`` lays out the values of a program, and of the programs inside it, by what stands here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from edgeml.ir import Program
from edgeml.ir.interpreter import needed


@dataclass(frozen=True, slots=True)
class Register:
    """Where a value lies in scratch: cell ``offset + column * step + row * self.row``; ``row`` is 0 for a
    constant.
    """

    offset: int
    step: int
    row: int
    width: int
    dtype: str

    def columns(self, first: int, count: int) -> Register:
        """Neighbouring columns of the value."""
        return Register(self.offset + first * self.step, self.step, self.row, count, self.dtype)


@dataclass(slots=True)
class Storage:
    """Columns of scratch, and how many values still live in them."""

    column: int
    count: int
    values: int = 1


@dataclass(slots=True)
class Free:
    """Columns of scratch that no live value needs, first fit."""

    runs: list[tuple[int, int]] = field(default_factory=list)
    end: int = 0

    def take(self, count: int) -> int:
        for at, (column, length) in enumerate(self.runs):
            if length >= count:
                self.runs[at : at + 1] = [(column + count, length - count)] if length > count else []
                return column
        self.end += count
        return self.end - count

    def give(self, column: int, count: int) -> None:
        self.runs.append((column, count))
        self.runs.sort()
        merged: list[tuple[int, int]] = []
        for start, length in self.runs:
            if merged and merged[-1][0] + merged[-1][1] == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + length)
            else:
                merged.append((start, length))
        self.runs = merged


def constant_cells(program: Program, keep: Sequence[bool]) -> int:
    """Cells of the constants of a program that are kept, and of all in the bodies of its loops."""
    cells = 0
    for node, kept in zip(program.nodes, keep[len(program.inputs) :], strict=True):
        if kept and node.op == "Constant":
            cells += node.type.width
        for body in node.attrs.values() if kept else ():
            if isinstance(body, Program):
                cells += constant_cells(body, needed(body, body.outputs))
    return cells


def last_uses(program: Program, outputs: Iterable[str], keep: Sequence[bool]) -> list[int]:
    """For each value the last value computed from it; beyond all for outputs."""
    inputs = len(program.inputs)
    last = [-1] * (inputs + len(program.nodes))
    for index, node in enumerate(program.nodes):
        if keep[inputs + index]:
            for value in node.inputs:
                last[value] = inputs + index
    for method in outputs:
        for value in program.outputs[method].values:
            last[value] = len(last)
    return last


@dataclass(slots=True)
class Scope:
    """What an encoder knows of the program at hand: the whole one, or the body of a loop, whose node ``path`` names."""

    program: Program
    keep: Sequence[bool]
    last: Sequence[int]
    path: tuple[int, ...] = ()
    registers: dict[int, Register] = field(default_factory=dict)
    storage: dict[int, Storage] = field(default_factory=dict)
    temporary: list[Storage] = field(default_factory=list)

    @classmethod
    def of(cls, program: Program, outputs: Sequence[str], path: tuple[int, ...] = ()) -> Scope:
        """The scope of a program of which some outputs are wanted."""
        keep = needed(program, outputs)
        return cls(program, keep, last_uses(program, outputs, keep), path)
