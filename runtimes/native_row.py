"""The fast way for one raw row: cells go straight into a fixed buffer, one call of the kernels, the answer
comes out.

``row_function`` makes a function for one schema and method. It takes a dict, a list or a tuple of plain cells,
writes no array and looks nothing up twice. Whatever else it meets (a missing key, an extra one, a cell of
another type, a refused row) it hands to ``slow``, which reads the row as a batch of one and raises the error
every engine raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import getitem, itemgetter
from typing import Any

import numpy as np

from edgeml.ir.coded import CodedProgram
from edgeml.ir.program import Output
from edgeml.ir.table import Array
from edgeml.runtimes.base import Row
from edgeml.runtimes.kernels.encode import Plan, Register
from edgeml.runtimes.native_code import KernelExecutor, Workspace
from edgeml.runtimes.native_text import TextCodes
from edgeml.schema import MATRIX, Schema

# Types whose cells struct writes as float64 without changing what a batch would compute on.
_SIGNED = (np.int8, np.int16, np.int32, np.int64)
_UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)
_NUMBERS = frozenset((float, int, bool, np.bool_, np.float16, np.float32, np.float64, *_SIGNED, *_UNSIGNED))
_NAN = float("nan")
_BOOLS = {True: 1, False: 0}
One = Callable[[Row], Any]


@dataclass(slots=True)
class _Buffer:
    """Memory of one call at a time, under the views the function needs."""

    space: Workspace
    memory: memoryview
    pointer: Any
    floats: Array
    integers: Array


def row_function(
    kernels: KernelExecutor, coded: CodedProgram, texts: TextCodes, schema: Schema, method: str, slow: One
) -> One:
    """A function of one row for ``method``; ``slow`` itself where the schema has no fast way."""
    program = kernels.program
    kinds = {c.name: c.kind for c in schema.columns if c.used}
    nulls = {c.name: c.null for c in schema.columns}
    names = [i.name for i in program.inputs]
    if schema.form == "matrix":
        return _matrix_function(kernels, coded, schema, method, slow)
    if set(names) != set(kinds):
        return slow
    numbers = [n for n in names if kinds[n] in ("float64", "float32")]
    integers = [n for n in names if kinds[n] == "int64"]
    looked_up = [n for n in names if kinds[n] in ("bool", "string")]
    ordered = numbers + integers + looked_up
    plan = kernels.plan_one(method, [names.index(n) for n in ordered])
    tables: list[Any] = [texts.of_rows(n, nulls[n]) if kinds[n] == "string" else _BOOLS for n in looked_up]
    read = _reader(plan.results[method], coded.text_outputs[method], program.outputs[method], texts)
    if read is None or not ordered:
        return slow
    pack = struct.Struct(f"={len(numbers)}d{len(ordered) - len(numbers)}q").pack_into
    place = {n: at for at, n in enumerate(schema.names)}
    by_name = tuple(getter(group) for group in (numbers, integers, looked_up))
    by_position = tuple(getter([place[n] for n in group]) for group in (numbers, integers, looked_up))
    used, width, known = len(ordered), len(schema.names), frozenset(schema.names)
    run, buffers = kernels.library.run, _Buffers(kernels, plan)

    def one(row: Row) -> Any:
        kind = row.__class__
        if kind is dict:
            if len(row) != used and not row.keys() <= known:  # type: ignore[union-attr]
                return slow(row)
            get_numbers, get_integers, get_looked_up = by_name
        elif (kind is list or kind is tuple) and len(row) == width:
            get_numbers, get_integers, get_looked_up = by_position
        else:
            return slow(row)
        try:
            buffer = buffers.pop()
        except IndexError:
            buffer = buffers.make()
        try:
            cells = get_numbers(row)
            if not _NUMBERS.issuperset(map(type, cells)):
                cells = tuple(_NAN if cell is None else cell for cell in cells)
                if not _NUMBERS.issuperset(map(type, cells)):
                    return slow(row)
            pack(buffer.memory, 0, *cells, *get_integers(row), *map(getitem, tables, get_looked_up(row)))
            if run(buffer.pointer):
                return slow(row)
            return read(buffer.floats, buffer.integers)
        except (KeyError, TypeError, ValueError, OverflowError, struct.error):
            return slow(row)
        finally:
            buffers.append(buffer)

    return one


def _matrix_function(kernels: KernelExecutor, coded: CodedProgram, schema: Schema, method: str, slow: One) -> One:
    """The function for a pipeline fitted on an array of floats: a list, a tuple or an array of the schema's dtype."""
    program = kernels.program
    if [i.name for i in program.inputs] != [MATRIX] or schema.kind not in ("float64", "float32"):
        return slow
    plan = kernels.plan_one(method, [0])
    read = _reader(plan.results[method], coded.text_outputs[method], program.outputs[method], TextCodes(coded))
    if read is None:
        return slow
    width, dtype, shape = len(schema.columns), np.dtype(schema.kind), (len(schema.columns),)
    pack = struct.Struct(f"={width}d").pack_into
    start, end = plan.entries[MATRIX].offset, plan.entries[MATRIX].offset + width
    run, buffers = kernels.library.run, _Buffers(kernels, plan)

    def one(row: Any) -> Any:
        kind = row.__class__
        if kind is np.ndarray:
            if row.dtype != dtype or row.shape != shape:
                return slow(row)
        elif (kind is not list and kind is not tuple) or len(row) != width or not _NUMBERS.issuperset(map(type, row)):
            return slow(row)
        try:
            buffer = buffers.pop()
        except IndexError:
            buffer = buffers.make()
        try:
            if kind is np.ndarray:
                buffer.floats[start:end] = row
            else:
                pack(buffer.memory, 0, *row)
            if run(buffer.pointer):
                return slow(row)
            return read(buffer.floats, buffer.integers)
        except (OverflowError, struct.error):
            return slow(row)
        finally:
            buffers.append(buffer)

    return one


class _Buffers(list[_Buffer]):
    """Buffers no call is using. Taking and giving back one is atomic, so no lock is needed and no two calls
    share one, not even when a row's own cell calls the model again.
    """

    def __init__(self, kernels: KernelExecutor, plan: Plan) -> None:
        super().__init__()
        self._kernels, self._plan = kernels, plan
        self._start = min(r.offset for r in plan.entries.values())

    def make(self) -> _Buffer:
        space = Workspace.make(self._plan, self._kernels.constants)
        memory = memoryview(space.scratch[self._start :]).cast("B")  # type: ignore[arg-type]
        return _Buffer(space, memory, space.pointer, space.scratch.view(np.float64), space.scratch)


def getter(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """The cells under ``keys`` as a tuple; itemgetter gives one only for two keys or more."""
    if not keys:
        return lambda row: ()
    if len(keys) == 1:
        key = keys[0]
        return lambda row: (row[key],)
    return itemgetter(*keys)


def _reader(
    registers: Sequence[Register], texts: Sequence[bool], output: Output, codes: TextCodes
) -> Callable[[Array, Array], Any] | None:
    """A function from scratch, as float64 and int64, to the answer; None where only ``slow`` can put it together."""
    if len(registers) != 1:
        return None
    at, end = registers[0].offset, registers[0].offset + registers[0].width
    dtype, floats = np.dtype(output.dtype), registers[0].dtype in ("float64", "float32")
    if output.form == "vector":
        if texts[0]:
            labels = list(codes.table(output))
            return lambda f, i: labels[i[at]]
        if dtype.kind not in "fiub":
            return None
        if dtype == (np.float64 if floats else np.int64):
            return (lambda f, i: f[at]) if floats else (lambda f, i: i[at])
        convert = np.errstate(all="ignore")(dtype.type) if floats else dtype.type
        return (lambda f, i: convert(f[at])) if floats else (lambda f, i: convert(i[at]))
    if texts[0]:
        table = codes.table(output)
        return lambda f, i: table[i[at:end]]
    if dtype.kind not in "fiub":
        return None
    if dtype == np.float64 and floats:
        return lambda f, i: f[at:end].copy()
    if floats:
        return np.errstate(all="ignore")(lambda f, i: f[at:end].astype(dtype))
    return lambda f, i: i[at:end].astype(dtype)
