"""The front of the native engine: texts become terms, and terms the dense values that the kernels go on with.

``read_front`` reads the members that targets/native.py wrote, ``Front`` runs them with the interpreter, on rows of
nonzero cells (edgeml/ir/sparse.py). Both are called by ``native``; models without texts have no front.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.bundle.arrays import unpack
from edgeml.bundle.read import Bundle
from edgeml.errors import ManifestError, ProgramError
from edgeml.ir import interpreter
from edgeml.ir.ops import OPS
from edgeml.ir.program import Program
from edgeml.ir.serial import load
from edgeml.ir.table import Array
from edgeml.runtimes.text_column import TextColumn
from edgeml.schema import MATRIX

TEXTS, TEXT_ARRAYS = "native/texts.json", "native/texts.bin"


def read_front(bundle: Bundle, rest: Program) -> Program:
    """The front that makes inputs of ``rest``. Raises ManifestError, ArrayError or ProgramError."""
    member = bundle.json(TEXTS)
    try:
        description, index = member["program"], member["arrays"]
    except (KeyError, TypeError) as error:
        raise ManifestError(f"{TEXTS}: it lacks {error}", "compile the pipeline again") from None
    front = load(description, unpack(index, bundle.member(TEXT_ARRAYS)))
    kinds = {column.name: column.kind for column in bundle.schema.columns if column.used}
    for entry in front.inputs:
        if entry.name != MATRIX and kinds.get(entry.name) != entry.type.dtype:
            raise ProgramError(f"{TEXTS}: it reads {entry.name!r:.40}, which is no such column of the schema")
    wanted = {entry.name: entry.type for entry in rest.inputs}
    for name, output in front.outputs.items():
        if output.form != "matrix" or [wanted.get(name)] != [front.type_of(v) for v in output.values]:
            raise ProgramError(f"{TEXTS}: {name!r:.40} is not an input of the program")
    return front


class Front:
    """One front, ready to run. Any number of threads may use it at once."""

    def __init__(self, front: Program, rest: Program) -> None:
        self._front, self._rest = front, rest
        self._checked = any(OPS[node.op].effect for node in rest.nodes)
        self._wanted: dict[tuple[str, ...], list[str]] = {}

    def run(self, columns: Mapping[str, Any], methods: Sequence[str]) -> dict[str, Array]:
        """What the methods need of the front's values, (rows, width) each. Raises InputError for a refused row."""
        read = {entry.name: _array(columns[entry.name]) for entry in self._front.inputs}
        return interpreter.run(self._front, read or columns, self._names(tuple(methods)))

    def answers(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, Array] | None:
        """The answers where the front has all of them already, as of a vectoriser alone; else None."""
        names = [entry.name for entry in self._rest.inputs]
        outputs = [self._rest.outputs[method] for method in methods]
        if self._checked or any(
            v >= len(names) or names[v] not in self._front.outputs for o in outputs for v in o.values
        ):
            return None
        return {o.name: interpreter.assemble([columns[names[v]] for v in o.values], o, rows) for o in outputs}

    def _names(self, methods: tuple[str, ...]) -> list[str]:
        if methods not in self._wanted:
            keep = interpreter.needed(self._rest, methods)
            own = {entry.name for entry, kept in zip(self._rest.inputs, keep, strict=False) if kept}
            self._wanted[methods] = [name for name in self._front.outputs if name in own]
        return self._wanted[methods]


def _array(column: Any) -> Array:
    return column.objects() if isinstance(column, TextColumn) else np.asarray(column)
