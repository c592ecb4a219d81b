"""From a program to the instruction stream of the kernels, for some of its outputs.

``Encoder`` lays values out in scratch, lets each op's encoder emit instructions, and gives a ``Plan``.
Plans of a program share their ``Constants``. The native engine makes one plan for blocks of rows and one for single
rows, whose values the caller writes into scratch itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir import Node, Program
from edgeml.ir.ops import OPS
from edgeml.ir.table import Array
from edgeml.runtimes.kernels.constants import ALIGNMENT, CELL, Constants, Fact, NoConstants
from edgeml.runtimes.kernels.registry import encoder, number
from edgeml.runtimes.kernels.scratch import Free, Register, Scope, Storage, constant_cells

DTYPES = ("float64", "float32", "int64", "bool")
# Cells of scratch a block should need: half of a level-2 cache, with room for the constants.
SCRATCH_CELLS = 32 * 1024
MAX_BLOCK = 256
# 2 GB: far beyond any pipeline, and an error instead of an allocation for a file that asks for more.
MAX_CELLS = 2**28
# Kernels may read a few cells behind the last value.
SPARE_CELLS = 16


@dataclass(frozen=True, slots=True)
class Port:
    """An array of the caller, (rows, width): an input, or a value of an output."""

    name: str
    dtype: str
    width: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Instructions for the given outputs.

    ``image`` is what the first cells of a new scratch buffer must hold. Ports are given to the machine in the
    order inputs, outputs. A single-row plan is run without: the caller writes each input's cells at its
    register in ``entries``, which lie side by side in the order of ``inputs``, and reads ``results``, a value's
    columns side by side. ``registers`` has every value whose cells a message may show.
    """

    code: Array
    image: Array
    cells: int
    block: int
    inputs: tuple[Port, ...]
    outputs: Mapping[str, tuple[Port, ...]]
    registers: Mapping[int, Register]
    entries: Mapping[str, Register]
    results: Mapping[str, tuple[Register, ...]]


class Encoder:
    """State of one plan in the making. Encoders of ops (see registry.py) call the methods of the second half."""

    def __init__(
        self,
        program: Program,
        methods: Sequence[str],
        constants: Constants,
        block: int,
        order: Sequence[int] | None = None,
        described: Set[str] = frozenset(),
    ) -> None:
        """``block`` is the most rows a block has, a power of two; with 1 the plan is for single rows, and
        ``order`` says how the inputs lie in scratch. The ports of the inputs in ``described`` are descriptions: of
        strings where codes are due (text.py), of chunks where float64 is (move.py).
        """
        self._scope = Scope.of(program, methods)
        self._methods = methods
        self._order = range(len(program.inputs)) if order is None else order
        self._described = described
        self._at = -1
        self._constants = constants
        self.block = block
        self._single = block == 1
        self._free = Free()
        self._code: list[int] = []
        self._image: list[Array] = []
        self._image_cells = 0
        cells = constant_cells(program, self._scope.keep)
        self._base = cells + -cells % (ALIGNMENT // CELL)

    def plan(self) -> Plan:
        """The whole plan. Raises ProgramError for what no kernel can do, or what would take too much memory."""
        program = self._scope.program
        ports: list[Port] = []
        entries: dict[str, Register] = {}
        for value in self._order:
            if self._scope.keep[value] or self._single:  # whoever writes single rows writes all columns
                self._start(value)
                entry = program.inputs[value]
                entries[entry.name] = self._load(value, len(ports))
                ports.append(Port(entry.name, entry.type.dtype, entry.type.width))
        self._nodes()
        outputs = self._store(len(ports))
        results = {m: tuple(self._scope.registers[v] for v in program.outputs[m].values) for m in self._methods}
        cells = self._base + self._free.end * self.block + SPARE_CELLS
        if cells > MAX_CELLS:
            raise ProgramError(f"the program needs {cells * CELL} bytes of scratch memory for {self.block} rows")
        image = np.concatenate([*self._image, np.empty(0, dtype=np.int64)])
        code = np.array([*self._code, -1], dtype=np.int64)
        shown = {v: r for v, r in self._scope.registers.items() if self._names_cell(v)}
        return Plan(code, image, cells, self.block, tuple(ports), outputs, shown, entries, results)

    # --- for encoders of ops
    def register(self, value: int) -> Register:
        """Where a value lies."""
        return self._scope.registers[value]

    def allocate(self, value: int) -> Register:
        """A place for the value a node computes."""
        kind = self._scope.program.type_of(value)
        self._scope.registers[value] = self._columns(kind.width, kind.dtype, value)
        return self._scope.registers[value]

    def temporary(self, columns: int) -> Register:
        """Columns that only the instruction of the node at hand needs."""
        register = self._columns(columns, "float64", None)
        return register

    def cells_of(self, count: int) -> int:
        """``count`` cells side by side that only the instructions of the node at hand need; the first one."""
        return self.temporary(-(-count // self.block)).offset

    def alias(self, value: int, of: int, register: Register) -> None:
        """The node computes nothing new: its value is ``register``, which lies within the value ``of``."""
        scope = self._scope
        scope.registers[value] = replace(register, dtype=scope.program.type_of(value).dtype)
        if of in scope.storage:
            scope.storage[value] = scope.storage[of]
            scope.storage[value].values += 1

    def alias_inputs(self, value: int, parts: Sequence[int]) -> bool:
        """Whether the node computes nothing new because its columns, those of ``parts``, lie side by side already.

        Only in a plan for single rows, whose inputs stay where the caller wrote them: 9 ns less for every raw column.
        """
        scope = self._scope
        registers = [scope.registers[part] for part in parts]
        if not self._single or any(part >= len(scope.program.inputs) for part in parts):
            return False
        if any(y.offset != x.offset + x.width for x, y in pairwise(registers)):
            return False
        width = sum(x.width for x in registers)
        scope.registers[value] = replace(registers[0], width=width, dtype=scope.program.type_of(value).dtype)
        return True

    def place_constant(self, value: int, row: Array) -> None:
        """The node is a constant: its cells are part of the image of scratch."""
        kind = self._scope.program.type_of(value)
        self._scope.registers[value] = Register(self._image_cells, 1, 0, kind.width, kind.dtype)
        self._image.append(self.cells(row).view(np.int64))
        self._image_cells += kind.width

    def constants(self, value: int, name: str, make: Callable[[], Array]) -> int:
        """Offset of an array of 8-byte elements that belongs to the node of ``value``."""
        return self._constants.place((*self._scope.path, value, name), make)

    def fact(self, value: int, name: str, find: Callable[[], Fact]) -> Fact:
        """What ``find`` finds out about the node of ``value``, once for all plans of the program."""
        return self._constants.fact((*self._scope.path, value, name), find)

    def cells(self, array: Array) -> Array:
        """The elements of an array as cells of scratch: float64 or int64."""
        if array.dtype.name not in DTYPES:
            raise ProgramError(f"the native engine has no cells for {array.dtype}")
        return array.astype(np.float64 if array.dtype.kind == "f" else np.int64)

    def emit(self, kernel: str, *words: int) -> None:
        """One instruction of the node at hand."""
        self._code += [number(kernel), len(words), self._at, *words]

    def elementwise(self, kernel: str, out: Register, *operands: Register, more: Sequence[int] = ()) -> None:
        """An instruction of a kernel that loops over columns and rows; ``more`` words follow those of the operands.

        For single rows the columns become the inner loop: they lie side by side.
        """
        columns = [0 if x.width == 1 else x.step for x in operands]
        if self._single:
            words = [1, out.width, out.offset, 0]
            for x, step in zip(operands, columns, strict=True):
                words += [x.offset, 0, step]
        else:
            words = [out.width, 1, out.offset, out.step]
            for x, step in zip(operands, columns, strict=True):
                words += [x.offset, step, x.row]
        self.emit(kernel, *words, *more)

    @contextmanager
    def body(self, program: Program, value: int, inputs: Sequence[Register]) -> Iterator[Mapping[str, Register]]:
        """The instructions of a program inside the node at hand, and where its outputs, of one value each, lie.

        ``inputs`` stay as they are; the outputs are there until the block ends.
        """
        outer, methods = self._scope, tuple(program.outputs)
        inner = self._scope = Scope.of(program, methods, (*outer.path, value))
        inner.registers.update(enumerate(inputs))
        self._nodes()
        yield {name: inner.registers[output.values[0]] for name, output in program.outputs.items()}
        for storage in {id(s): s for s in inner.storage.values()}.values():
            self._free.give(storage.column, storage.count)
        self._scope = outer

    @property
    def length(self) -> int:
        """Words of the instructions so far."""
        return len(self._code)

    # --- layout
    def _nodes(self) -> None:
        """The instructions of all nodes that are kept."""
        scope = self._scope
        for value, node in enumerate(scope.program.nodes, len(scope.program.inputs)):
            if not scope.keep[value]:
                continue
            encode = encoder(node.op)
            if encode is None:
                raise ProgramError(f"%{value}: the native engine has no kernel for {node.op}")
            if not scope.path:
                self._start(value)
            encode(self, node, value)
            self._release(value, node)

    def _columns(self, count: int, dtype: str, value: int | None) -> Register:
        storage = Storage(self._free.take(count), count)
        if value is None:
            self._scope.temporary.append(storage)
        else:
            self._scope.storage[value] = storage
        if self._base + self._free.end * self.block > MAX_CELLS:
            raise ProgramError(f"a value of {count} columns is more than the native engine can hold")
        return Register(self._base + storage.column * self.block, self.block, 1, count, dtype)

    def _release(self, value: int, node: Node) -> None:
        """Free what no later node reads; the inputs of single rows stay, see ``alias_inputs``."""
        scope = self._scope
        inputs = len(scope.program.inputs)
        for storage in scope.temporary:
            self._free.give(storage.column, storage.count)
        scope.temporary.clear()
        for dead in {*node.inputs, value}:
            if scope.last[dead] <= value and dead in scope.storage and not (self._single and dead < inputs):
                storage = scope.storage.pop(dead)
                storage.values -= 1
                if storage.values == 0:
                    self._free.give(storage.column, storage.count)

    def _start(self, value: int) -> None:
        """Instructions from here on belong to ``value``."""
        self._at = value
        kind = self._scope.program.type_of(value)
        if kind.dtype not in DTYPES:
            raise ProgramError(f"%{value}: the native engine has no cells for {kind}")

    def _names_cell(self, value: int) -> bool:
        node = self._scope.program.node_of(value)
        return node is not None and OPS[node.op].effect

    # --- ports
    def _load(self, value: int, port: int) -> Register:
        register = self.allocate(value)
        if self._single:
            if register.dtype == "float32":
                self.emit("exact32", register.offset, register.step, register.width)
            return register
        if self._scope.program.inputs[value].name in self._described:
            self.emit("load_text" if register.dtype == "int64" else "load_chunks", port, register.offset)
            return register
        name = {"float32": "load32", "bool": "load8"}.get(register.dtype, "load64")
        self.emit(name, port, 0, register.width, register.width, register.offset, register.step)
        return register

    def _store(self, first: int) -> dict[str, tuple[Port, ...]]:
        outputs: dict[str, tuple[Port, ...]] = {}
        port = first
        for method in self._methods:
            registers = [self._scope.registers[v] for v in self._scope.program.outputs[method].values]
            outputs[method] = tuple(Port(method, r.dtype, r.width) for r in registers)
            if self._single:
                continue
            for r in registers:
                name = {"float32": "store32", "bool": "store8"}.get(r.dtype, "store64")
                self.emit(name, port, 0, r.width, r.width, r.offset, r.step, r.row)
                port += 1
        return outputs


def block_for(cells_a_row: int) -> int:
    """Rows of a block, a power of two, so that it stays in cache."""
    most = max(SCRATCH_CELLS // max(cells_a_row, 1), 2)
    return min(1 << (most.bit_length() - 1), MAX_BLOCK)


def plan_blocks(
    program: Program, methods: Sequence[str], constants: Constants, described: Set[str] = frozenset()
) -> Plan:
    """The plan for blocks of as many rows as fit the cache; see ``Encoder`` for ``described``."""
    block = block_for(Encoder(program, methods, constants, 1).plan().cells)
    plan = Encoder(program, methods, constants, block, described=described).plan()
    # A single row needs room for lanes that a block shares among its rows.
    while block < MAX_BLOCK and 2 * plan.cells <= SCRATCH_CELLS:
        block *= 2
        plan = Encoder(program, methods, constants, block, described=described).plan()
    return plan


def check_plan(program: Program) -> None:
    """Raise ProgramError where the kernels cannot run the program; cheap, no table is made."""
    Encoder(program, tuple(program.outputs), NoConstants(), 1).plan()


def plan_one(program: Program, methods: Sequence[str], constants: Constants, order: Sequence[int]) -> Plan:
    """The plan for single rows, inputs in the given order."""
    return Encoder(program, methods, constants, 1, order).plan()
