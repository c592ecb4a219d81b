"""The fast way for one raw row: cells go straight into a fixed buffer, one call of the kernels, the answer
comes out.

``row_function`` makes a function for one schema and method, asked for by ``native``. There are three ways, each for
what the one before does not take, and all answer the same. The compiled reader (native_call.py) takes a dict, a list or
a tuple of the cells that JSON and frames give and of NumPy's commonest scalars. The closures below take NumPy's other
scalars and arrays, and every row where Python is not CPython. Whatever else they meet (a missing key, an extra one, a
cell of another type, a refused row) goes to ``slow``, which reads the row as a batch of one and raises the error every
engine raises.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import getitem, itemgetter
from typing import Any

import numpy as np

from edgeml import fast
from edgeml.ir.coded import NAN, NONE, CodedProgram
from edgeml.ir.program import Output
from edgeml.ir.table import Array
from edgeml.runtimes.base import Row
from edgeml.runtimes.kernels.encode import Plan
from edgeml.runtimes.kernels.scratch import Register
from edgeml.runtimes.native_call import RowColumn, column_codes, compiled_reader
from edgeml.runtimes.native_code import KernelExecutor, Workspace
from edgeml.runtimes.native_text import TextCodes
from edgeml.schema import MATRIX, Schema

# Types whose cells struct writes as float64 without changing what a batch would compute on.
_SIGNED = (np.int8, np.int16, np.int32, np.int64)
_UNSIGNED = (np.uint8, np.uint16, np.uint32, np.uint64)
_NUMBERS = frozenset((float, int, bool, np.bool_, np.float16, np.float32, np.float64, *_SIGNED, *_UNSIGNED))
_INTEGERS = frozenset((int, bool, np.bool_, *_SIGNED, *_UNSIGNED))
_NAN = float("nan")
One = Callable[[Row], Any]


class _Bools:
    """1 for true and 0 for false, as numbers too; a KeyError for what a batch refuses, even if it equals 1."""

    def __getitem__(self, cell: object) -> int:
        if type(cell) in _NUMBERS:
            return {True: 1, False: 0}[cell]  # type: ignore[index]  # a number
        raise KeyError(cell)


# From a buffer, as float64 and int64, to a function that makes the answer of what lies there.
Reader = Callable[[Array, Array], Callable[[], Any]]


@dataclass(slots=True)
class _Buffer:
    """Memory of one call at a time, under the views the function needs; ``finish`` makes the answer."""

    space: Workspace
    memory: memoryview
    pointer: Any
    floats: Array
    finish: Callable[[], Any]


def row_function(
    kernels: KernelExecutor, coded: CodedProgram, texts: TextCodes, schema: Schema, method: str, slow: One
) -> One:
    """A function of one row for ``method``; ``slow`` itself where the schema has no fast way."""
    if not fast.on("one"):
        return slow
    program = kernels.program
    kinds: dict[str, Any] = {c.name: c.kind for c in schema.columns if c.used}
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
    tables: list[Any] = [texts.of_rows(n, nulls[n]) if kinds[n] == "string" else _Bools() for n in looked_up]
    read = _reader(plan.results[method], coded.text_outputs[method], program.outputs[method], texts)
    if read is None or not ordered:
        return slow
    pack = struct.Struct(f"={len(numbers)}d{len(ordered) - len(numbers)}q").pack_into
    place = {n: at for at, n in enumerate(schema.names)}
    by_name = tuple(getter(group) for group in (numbers, integers, looked_up))
    by_position = tuple(getter([place[n] for n in group]) for group in (numbers, integers, looked_up))
    used, width, known = len(ordered), len(schema.names), frozenset(schema.names)
    run, buffers = kernels.library.run, _Buffers(kernels, plan, read)

    def one(row: Row) -> Any:
        kind = row.__class__
        if kind is dict:
            if len(row) != used and not row.keys() <= known:  # type: ignore[union-attr]  # a dict
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
            wholes = get_integers(row)
            if not _INTEGERS.issuperset(map(type, wholes)):
                return slow(row)
            pack(buffer.memory, 0, *cells, *wholes, *map(getitem, tables, get_looked_up(row)))
            if run(buffer.pointer):
                return slow(row)
            return buffer.finish()
        except Exception:  # whatever a cell raises while it is read: ``slow`` finds the column and says what is wrong
            return slow(row)
        finally:
            buffers.append(buffer)

    columns = []
    for name in ordered:
        text = kinds[name] == "string"
        codes = column_codes(tables[looked_up.index(name)]) if text else None
        unknown = texts.unknown if text and not coded.text_inputs[name] else -1
        none = NAN if nulls[name] == "nan" else NONE
        columns.append(RowColumn(name, place[name], kinds[name], codes, unknown, none))
    unused = {n: place[n] for n in schema.names if n not in kinds}
    return _compiled(kernels, method, buffers, columns, unused, width, one)


def _matrix_function(kernels: KernelExecutor, coded: CodedProgram, schema: Schema, method: str, slow: One) -> One:
    """The function for a pipeline fitted on an array of numbers: a list, a tuple or an array of the schema's dtype."""
    program = kernels.program
    if [i.name for i in program.inputs] != [MATRIX] or schema.kind == "string":
        return slow
    plan = kernels.plan_one(method, [0])
    read = _reader(plan.results[method], coded.text_outputs[method], program.outputs[method], TextCodes(coded))
    if read is None:
        return slow
    width, floats, shape = len(schema.columns), schema.kind in ("float64", "float32"), (len(schema.columns),)
    dtype = np.dtype(schema.kind)
    pack = struct.Struct(f"={width}d").pack_into
    start, end = plan.entries[MATRIX].offset, plan.entries[MATRIX].offset + width
    run, buffers = kernels.library.run, _Buffers(kernels, plan, read)

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
            return buffer.finish()
        except Exception:  # as above
            return slow(row)
        finally:
            buffers.append(buffer)

    columns = [RowColumn(name, at, schema.kind) for at, name in enumerate(schema.names)]
    return _compiled(kernels, method, buffers, columns, {}, width, one if floats else slow)


def _compiled(
    kernels: KernelExecutor,
    method: str,
    buffers: _Buffers,
    columns: Sequence[RowColumn],
    unused: Mapping[str, int],
    width: int,
    one: One,
) -> One:
    """The compiled reader before ``one``, or ``one`` where there is none."""
    buffer = buffers.make()
    made = compiled_reader(
        kernels.library, method, columns, unused, width, buffer.space, buffers.first, buffer.finish, one
    )
    return one if made is None else made


class _Buffers(list[_Buffer]):
    """Buffers no call is using. Taking and giving back one is atomic, so no lock is needed and no two calls
    share one, not even when a row's own cell calls the model again.
    """

    def __init__(self, kernels: KernelExecutor, plan: Plan, read: Reader) -> None:
        super().__init__()
        self._kernels, self._plan, self._read = kernels, plan, read
        self.first = min(r.offset for r in plan.entries.values())

    def make(self) -> _Buffer:
        space = Workspace.make(self._plan, self._kernels.constants)
        memory = memoryview(space.scratch[self.first :]).cast("B")  # type: ignore[arg-type]  # a buffer
        floats = space.scratch.view(np.float64)
        return _Buffer(space, memory, space.pointer, floats, self._read(floats, space.scratch))


def getter(keys: Sequence[Any]) -> Callable[[Any], tuple[Any, ...]]:
    """The cells under ``keys`` as a tuple; itemgetter gives one only for two keys or more."""
    if not keys:
        return lambda row: ()
    if len(keys) == 1:
        key = keys[0]
        return lambda row: (row[key],)
    return itemgetter(*keys)


def _reader(registers: Sequence[Register], texts: Sequence[bool], output: Output, codes: TextCodes) -> Reader | None:
    """From a buffer to what makes the answer of it; None where only ``slow`` can put it together.

    The answers are arrays or scalars of NumPy, as a batch gives them, and no view of the buffer.
    """
    dtype, text = np.dtype(output.dtype), texts[0]
    if any(texts) != all(texts) or (not text and dtype.kind not in "fiub"):
        return None
    floats = [r.dtype in ("float64", "float32") for r in registers]
    places = [(r.offset, r.offset + r.width) for r in registers]
    (at, end), one_float = places[0], floats[0]
    # What is float32 already cannot overflow; else a conversion may, as in scikit-learn, without a warning.
    wide = max(8 if r.dtype == "float64" else 4 for r in registers)
    quiet: Callable[[Callable[[], Any]], Callable[[], Any]] = (
        _as_it_is if dtype.itemsize >= wide or not any(floats) else _errors_ignored
    )
    if output.form == "vector":
        if text:
            labels = list(codes.table(output))
            return lambda f, i: _label(labels, memoryview(i), at)  # type: ignore[arg-type]  # a buffer
        if dtype == (np.float64 if one_float else np.int64):
            return lambda f, i: partial(getitem, f if one_float else i, at)
        return lambda f, i: quiet(partial(_scalar, dtype.type, f if one_float else i, at))
    if text:
        table = codes.table(output)
        if len(registers) > 1:
            return lambda f, i: partial(_labels_together, table, [i[start:stop] for start, stop in places])
        return lambda f, i: partial(_labels, table, i[at:end])
    if len(registers) > 1:

        def together(f: Array, i: Array) -> Callable[[], Any]:
            parts = [(f if x else i)[start:stop] for x, (start, stop) in zip(floats, places, strict=True)]
            return quiet(partial(np.concatenate, parts, dtype=dtype, casting="unsafe"))

        return together
    if dtype == np.float64 and one_float:
        return lambda f, i: f[at:end].copy
    return lambda f, i: quiet(partial((f if one_float else i)[at:end].astype, dtype))


def _as_it_is(function: Callable[[], Any]) -> Callable[[], Any]:
    return function


def _errors_ignored(function: Callable[[], Any]) -> Callable[[], Any]:
    quiet: Callable[[], Any] = np.errstate(all="ignore")(function)
    return quiet


def _label(labels: Sequence[Any], integers: memoryview, at: int) -> Callable[[], Any]:
    return lambda: labels[integers[at]]


def _labels(table: Array, places: Array) -> Array:
    result: Array = table[places]
    return result


def _labels_together(table: Array, places: Sequence[Array]) -> Array:
    return _labels(table, np.concatenate(places))


def _scalar(convert: Callable[[Any], Any], cells: Array, at: int) -> Any:
    return convert(cells[at])
