"""Runs a program of numbers and codes on arrays of rows: with the kernels, or with NumPy where there are none.

The native engine hands an executor the columns it has coded and gets the values of each output as they are,
undecoded. Executors keep no state between calls that a refused row could spoil, and any number of threads may
call one.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeml.errors import EdgeMLError, ProgramError
from edgeml.ir import Output, Program, interpreter
from edgeml.ir.ops_ml import non_finite_error, require_error
from edgeml.ir.ops_raw import range_error
from edgeml.ir.table import Array, numpy_dtype
from edgeml.runtimes.kernels.constants import Constants, address, aligned
from edgeml.runtimes.kernels.encode import Plan, check_plan, plan_blocks, plan_one
from edgeml.runtimes.kernels.entry import Call
from edgeml.runtimes.number_column import NumberPort
from edgeml.runtimes.text_table import TextPort

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

    from edgeml.runtimes.kernels.library import Library

# Fewer rows than this are not worth handing to another thread (about 50 us of work for a linear model).
ROWS_PER_THREAD = 512
PARTS_A_THREAD = 8
# Columns that describe themselves to the kernels instead of being arrays.
DESCRIBED = (TextPort, NumberPort)


class Executor(Protocol):
    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, list[Array]]:
        """For each method its values, (rows, width) each. ``columns`` are (rows,) or (rows, width), without strings;
        the kernels take a ``TextPort`` for a column of codes too and a ``NumberPort`` for one of float64.

        Raises InputError where the program refuses a row; of several such rows it names one.
        """
        ...


class NumpyExecutor:
    """The interpreter: the meaning of the program, and the last resort."""

    def __init__(self, program: Program) -> None:
        # Outputs one value each, in the value's own dtype.
        self._names = {m: [f"{m}/{i}" for i in range(len(o.values))] for m, o in program.outputs.items()}
        self._program = program.with_outputs(
            Output(name, (value,), "matrix", numpy_dtype(program.type_of(value).dtype).str)
            for method, output in program.outputs.items()
            for name, value in zip(self._names[method], output.values, strict=True)
        )

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, list[Array]]:
        results = interpreter.run(self._program, columns, [name for m in methods for name in self._names[m]])
        return {
            m: [np.broadcast_to(results[name], (rows, results[name].shape[1])) for name in self._names[m]]
            for m in methods
        }


@dataclass(frozen=True, slots=True)
class Workspace:
    """Memory of one call at a time: scratch, the call that is handed to the machine, and what else it points to.

    A function of one row may outlive the plan and the executor that it was made from.
    """

    scratch: Array
    call: Array
    pointer: ctypes.c_void_p
    pointed_to: tuple[Plan, Constants]

    @classmethod
    def make(cls, plan: Plan, constants: Constants) -> Workspace:
        scratch = aligned(plan.cells)
        scratch[: len(plan.image)] = plan.image
        call = aligned(len(Call))
        call[[Call.CODE, Call.CONSTANTS, Call.SCRATCH]] = address(plan.code), address(constants.base), address(scratch)
        call[[Call.START, Call.END, Call.BLOCK]] = 0, 1, plan.block
        return cls(scratch, call, ctypes.c_void_p(address(call)), (plan, constants))


class KernelExecutor:
    """The compiled kernels. Plans are made when a set of methods is first asked for."""

    def __init__(self, program: Program, library: Library, threads: int) -> None:
        self.program = program
        self.library = library
        self._threads = threads
        check_plan(program)
        self.constants = Constants()
        self._plans: dict[tuple[tuple[str, ...], frozenset[str]], tuple[Plan, list[Workspace]]] = {}
        self._lock = threading.Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, list[Array]]:
        plan, spaces, ports, results, _kept = self.prepare(columns, rows, methods)
        parts, errors = self._parts(rows), dict[int, EdgeMLError]()
        if len(parts) == 1:
            self._work(plan, spaces, ports, parts, errors)
        else:
            from concurrent.futures import wait

            pool, others = self._workers(), min(self._threads, len(parts)) - 1
            waiting = [pool.submit(self._work, plan, spaces, ports, parts, errors) for _ in range(others)]
            try:
                self._work(plan, spaces, ports, parts, errors)
            finally:
                parts.clear()
                wait(waiting)  # they hold addresses of arrays that live no longer than this call
            for worker in waiting:
                worker.result()
        if errors:
            raise errors[min(errors)]
        return results

    def prepare(
        self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]
    ) -> tuple[Plan, list[Workspace], Array, dict[str, list[Array]], Any]:
        """The plan, its idle workspaces, the ports, room for the results, and what the ports' addresses point to."""
        described = {name: x for name, x in columns.items() if isinstance(x, DESCRIBED)}
        plan, spaces = self._plan(tuple(methods), frozenset(described))
        inputs = [
            described.get(port.name) or np.ascontiguousarray(columns[port.name], dtype=port.dtype)
            for port in plan.inputs
        ]
        if any(x.size != rows * port.width for x, port in zip(inputs, plan.inputs, strict=True)):
            raise ProgramError(f"columns of another length than {rows} rows")
        results = {m: [np.empty((rows, p.width), dtype=p.dtype) for p in plan.outputs[m]] for m in plan.outputs}
        places = [0 if isinstance(x, DESCRIBED) else address(x) for x in inputs]
        places += [address(x) for m in plan.outputs for x in results[m]]
        # The addresses that descriptions speak of come behind the plan's own ports.
        descriptions = {at: x.describe(places) for at, x in enumerate(inputs) if isinstance(x, DESCRIBED)}
        for at, description in descriptions.items():
            places[at] = address(description)
        ports = np.array(places, dtype=np.uintp)
        return plan, spaces, ports, results, (inputs, descriptions)

    def plan_one(self, method: str, order: Sequence[int]) -> Plan:
        """The plan of single rows for one method; the caller runs it."""
        return plan_one(self.program, (method,), self.constants, order)

    def _plan(self, methods: tuple[str, ...], described: frozenset[str]) -> tuple[Plan, list[Workspace]]:
        key = methods, described
        with self._lock:
            if key not in self._plans:
                self._plans[key] = plan_blocks(self.program, methods, self.constants, described), []
            return self._plans[key]

    def _work(
        self,
        plan: Plan,
        spaces: list[Workspace],
        ports: Array,
        parts: list[tuple[int, int]],
        errors: dict[int, EdgeMLError],
    ) -> None:
        """Run one part after the other until none is left; a refusal goes to ``errors`` under its part's first row."""
        while True:
            try:
                start, end = parts.pop()
            except IndexError:
                return
            error = self._call(plan, spaces, ports, start, end)
            if error is not None:
                errors[start] = error

    def _call(self, plan: Plan, spaces: list[Workspace], ports: Array, start: int, end: int) -> EdgeMLError | None:
        """Run rows [start, end); the error where a row is refused."""
        try:
            space = spaces.pop()
        except IndexError:
            space = Workspace.make(plan, self.constants)
        try:
            space.call[[Call.PORTS, Call.START, Call.END]] = address(ports), start, end
            if self.library.run_blocks(space.pointer):
                return refusal(self.program, plan, space)
            return None
        finally:
            spaces.append(space)

    # --- threads
    def _parts(self, rows: int) -> list[tuple[int, int]]:
        """Ranges of rows, the first one last: several a thread, so that one which others keep waiting does fewer."""
        if self._threads == 1:
            return [(0, rows)]
        count = max(1, min(self._threads * PARTS_A_THREAD, rows // ROWS_PER_THREAD))
        ends = [rows * i // count for i in range(count + 1)]
        return list(pairwise(ends))[::-1]

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            # A forked process inherits the pool without its threads.
            if self._pool is None or self._pool[0] != os.getpid():
                from concurrent.futures import ThreadPoolExecutor

                self._pool = os.getpid(), ThreadPoolExecutor(self._threads - 1, "edgeml")
            return self._pool[1]


def refusal(program: Program, plan: Plan, space: Workspace) -> EdgeMLError:
    """The error for the cell a kernel has refused, in the words every engine uses."""
    value, first, cell = (int(x) for x in space.call[[Call.VALUE, Call.FIRST, Call.CELL]])
    node = program.node_of(value)
    if node is not None and node.op in ("CheckFinite", "CheckRange"):
        r = plan.registers[value]
        row, column = divmod(cell, r.width)
        found = float(space.scratch.view(np.float64)[r.offset + column * r.step + row * r.row])
        if node.op == "CheckRange":
            return range_error(first + row, column, node.attrs, found)
        return non_finite_error(first + row, column, node.attrs["what"], found)
    if node is not None and node.op == "Require":
        row = cell // program.type_of(node.inputs[1]).width
        return require_error(first + row, node.attrs["message"], node.attrs["kind"])
    what = "an input" if node is None else f"{node.op} ({node.origin})"
    return ProgramError(f"%{value} {what} was given a value outside its table (row {first + cell})", "report it")
