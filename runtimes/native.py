"""The native engine: EdgeML's own kernels run the pipeline, strings to answers, with NumPy as its only
companion.

``open`` reads the members that targets/native.py wrote. ``run`` codes string columns, lets an executor compute,
and puts the results in scikit-learn's shapes and dtypes; ``one`` is the fast way for a single row
(native_row.py). Where there is neither Numba nor a library of kernels, the interpreter runs the same program,
slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeml import fast
from edgeml.bundle.arrays import unpack
from edgeml.bundle.read import Bundle
from edgeml.errors import ManifestError
from edgeml.ir.coded import CodedProgram, tables_from_json
from edgeml.ir.compact import restore
from edgeml.ir.interpreter import assemble
from edgeml.ir.program import Output
from edgeml.ir.serial import load
from edgeml.ir.table import Array
from edgeml.runtimes.base import Row, generic_one
from edgeml.runtimes.kernels import library
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.native_code import Executor, KernelExecutor, NumpyExecutor
from edgeml.runtimes.native_front import TEXTS, Front, read_front
from edgeml.runtimes.native_row import row_function
from edgeml.runtimes.native_text import TextCodes
from edgeml.runtimes.number_column import NumberColumn, NumberPort
from edgeml.schema import Schema

PROGRAM = "native/program.json"
ARRAYS = "native/arrays.bin"


class NativeEngine:
    """One program, ready to run. Any number of threads may use it at once."""

    name = "native"

    def __init__(self, coded: CodedProgram, schema: Schema, threads: int = 1) -> None:
        self._coded = coded
        self._schema = schema
        found = library.entry()
        self._texts = TextCodes(coded, found)
        self._kernels = KernelExecutor(coded.program, found, threads) if found is not None else None
        self._executor: Executor = self._kernels or NumpyExecutor(coded.program)
        self._front = None if coded.front is None else Front(coded.front, coded.program)

    @classmethod
    def open(cls, bundle: Bundle, threads: int) -> NativeEngine:
        """The engine for a bundle. Raises ManifestError, ArrayError or ProgramError for members that are
        malformed.
        """
        coded = read_program(bundle, PROGRAM, ARRAYS)
        if TEXTS in bundle.manifest["artifacts"]["native"]["members"]:
            coded = replace(coded, front=read_front(bundle, coded.program))
        for method, facts in bundle.manifest["methods"].items():
            output = coded.program.outputs.get(method)
            if (
                output is None
                or (output.form, output.dtype) != (facts["form"], facts["dtype"])
                or (
                    output.form in ("list", "stack")
                    and [coded.program.type_of(v).width for v in output.values] != facts["widths"]
                )
            ):
                raise ManifestError(f"{PROGRAM}: method {method} is not what the manifest says", "compile it again")
        return cls(coded, bundle.schema, threads)

    @property
    def source(self) -> str:
        """Where the kernels are from, for people: a library's path, the cache, Numba, or NumPy."""
        return "NumPy" if self._kernels is None else self._kernels.library.source

    @property
    def text_library(self) -> Library | None:
        """What codes string columns in their buffers; None where they have to come as objects."""
        return self._kernels.library if self._kernels is not None and fast.on("text") else None

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, Array]:
        """Results by method. Raises InputError where the program refuses a row; of several such rows it names one."""
        if self._front is not None:
            columns = {**columns, **self._front.run(columns, methods)}
            direct = self._front.answers(columns, rows, methods)
            if direct is not None:
                return direct
        new: dict[str, int] = {}
        values = self._executor.run(self.inputs(columns, new), rows, methods)
        return {method: self._result(method, values[method], rows, new) for method in methods}

    def inputs(self, columns: Mapping[str, Any], new: dict[str, int]) -> dict[str, Any]:
        """The columns as the executor takes them; ``new`` gets the strings that need codes of their own."""
        inputs = {**columns, **self._texts.encode(columns, new)}
        if any(isinstance(x, NumberColumn) for x in columns.values()):
            # One of them, or all columns of float64: so a program has two plans and not one for each set of columns.
            floats = [i.name for i in self._coded.program.inputs if i.type.dtype == "float64" and i.name in columns]
            inputs |= {name: NumberPort(columns[name]) for name in floats}
        return inputs

    def one(self, method: str) -> Callable[[Row], Any]:
        """A function of one raw row; see native_row.py for what takes the fast way."""
        slow = generic_one(self, self._schema, method)
        if self._kernels is None or any(c.unit is not None and c.used for c in self._schema.columns):
            return slow  # the fast reader takes numbers, and dates are none
        return row_function(self._kernels, self._coded, self._texts, self._schema, method, slow)

    def _result(self, method: str, values: Sequence[Array], rows: int, new: Mapping[str, int]) -> Array:
        output = self._coded.program.outputs[method]
        parts = [
            self._texts.decode(x, output, new) if text else x
            for x, text in zip(values, self._coded.text_outputs[method], strict=True)
        ]
        with np.errstate(all="ignore"):  # float64 to float32 may overflow, as it does in scikit-learn
            return join(parts, output, rows)


def read_program(bundle: Bundle, program: str, arrays: str) -> CodedProgram:
    """What the members ``program`` and ``arrays`` hold. Raises ManifestError, ArrayError or ProgramError."""
    member = bundle.json(program)
    try:
        index, recipes, description, tables = (member[k] for k in ("arrays", "recipes", "program", "strings"))
    except (KeyError, TypeError) as error:
        raise ManifestError(f"{program}: it lacks {error}", "compile the pipeline again") from None
    stored = restore(recipes, unpack(index, bundle.member(arrays)))
    return tables_from_json(load(description, stored), tables)


def join(parts: Sequence[Array], output: Output, rows: int) -> Array:
    """An output from its values, (rows, width) each."""
    if len(parts) > 1:
        return assemble(list(parts), output, rows)
    result = parts[0].astype(np.dtype(output.dtype), copy=False)
    return result.reshape(rows) if output.form == "vector" else result
