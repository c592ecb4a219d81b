"""What a legal program looks like. ``check`` runs after building, after every pass and after reading a bundle."""

from __future__ import annotations

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops import OPS
from edgeml.ir.program import DTYPES, Attr, Program

_FORMS = ("vector", "matrix")


def check(program: Program) -> Program:
    """Return the program, or raise ProgramError naming the first node that is not legal."""
    names = [i.name for i in program.inputs]
    if len(set(names)) != len(names):
        raise ProgramError("two inputs have one name")
    for entry in program.inputs:
        if entry.type.dtype not in DTYPES or entry.type.width < 1:
            raise ProgramError(f"input {entry.name} has type {entry.type}")
    for index, node in enumerate(program.nodes):
        here = len(program.inputs) + index
        where = f"%{here} {node.op} ({node.origin or 'no origin'})"
        op = OPS.get(node.op)
        if op is None:
            raise ProgramError(f"{where}: no such op")
        if not node.inputs if op.arity is None else len(node.inputs) != op.arity:
            raise ProgramError(f"{where}: {len(node.inputs)} inputs, the op takes {op.arity}")
        if any(not 0 <= value < here for value in node.inputs):
            raise ProgramError(f"{where}: reads a value that is not computed yet")
        if set(node.attrs) != set(op.attrs):
            raise ProgramError(f"{where}: attributes {sorted(node.attrs)}, the op takes {sorted(op.attrs)}")
        for name, kind in op.attrs.items():
            if not _is_kind(node.attrs[name], kind):
                raise ProgramError(f"{where}: attribute {name} is not of kind {kind}")
        try:
            expected = op.infer([program.type_of(v) for v in node.inputs], node.attrs)
        except ProgramError as error:
            raise ProgramError(f"{where}: {error.cause}") from None
        if expected != node.type:
            raise ProgramError(f"{where}: declared {node.type}, computes {expected}")
    total = len(program.inputs) + len(program.nodes)
    for name, output in program.outputs.items():
        if name != output.name or output.form not in _FORMS or not output.values:
            raise ProgramError(f"output {name} is malformed")
        if any(not 0 <= value < total for value in output.values):
            raise ProgramError(f"output {name} names a value that does not exist")
        if output.form == "vector" and (len(output.values) > 1 or program.type_of(output.values[0]).width != 1):
            raise ProgramError(f"output {name} is a vector but not one column")
        np.dtype(output.dtype)
    return program


def _is_kind(value: Attr, kind: str) -> bool:
    if kind == "array":
        return isinstance(value, np.ndarray) and value.dtype != object
    if kind == "keys":
        if isinstance(value, tuple):
            return all(c is None or isinstance(c, str) or (isinstance(c, float) and c != c) for c in value)
        return isinstance(value, np.ndarray) and value.dtype != object
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, {"float": float, "str": str, "bool": bool}[kind])
