"""What a legal program looks like. ``check`` runs after building, after every pass and after reading a bundle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import ref

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops import OPS
from edgeml.ir.program import DTYPES, Attr, Input, Output, Program, ValueType
from edgeml.ir.table import Array, Op

_FORMS = ("vector", "matrix", "list", "stack")


def check(program: Program) -> Program:
    """Return the program, or raise ProgramError naming the first node that is not legal."""
    check_inputs(program.inputs)
    types = [entry.type for entry in program.inputs]
    for node in program.nodes:
        expected = result_type(node.op, node.inputs, node.attrs, types, node.origin)
        if expected != node.type:
            where = f"%{len(types)} {node.op} ({node.origin or 'no origin'})"
            raise ProgramError(f"{where}: declared {node.type}, computes {expected}")
        types.append(node.type)
    check_outputs(program.outputs, types)
    return program


def check_inputs(inputs: Sequence[Input]) -> None:
    """Raise ProgramError where the inputs are not legal."""
    if len({entry.name for entry in inputs}) != len(inputs):
        raise ProgramError("two inputs have one name")
    for entry in inputs:
        if entry.type.dtype not in DTYPES or entry.type.width < 1:
            raise ProgramError(f"input {entry.name} has type {entry.type}")


def result_type(
    name: str, inputs: Sequence[int], attrs: Mapping[str, Attr], types: Sequence[ValueType], origin: str
) -> ValueType:
    """Type of what a node computes from the values before it, ``types``; ProgramError when the node is not legal."""
    where = f"%{len(types)} {name} ({origin or 'no origin'})"
    op = OPS.get(name)
    if op is None:
        raise ProgramError(f"{where}: no such op")
    if not inputs if op.arity is None else len(inputs) != op.arity:
        raise ProgramError(f"{where}: {len(inputs)} inputs, the op takes {op.arity}")
    if any(not 0 <= value < len(types) for value in inputs):
        raise ProgramError(f"{where}: reads a value that is not computed yet")
    if set(attrs) != set(op.attrs):
        raise ProgramError(f"{where}: attributes {sorted(attrs)}, the op takes {sorted(op.attrs)}")
    for attr, kind in op.attrs.items():
        if not _is_kind(attrs[attr], kind):
            raise ProgramError(f"{where}: attribute {attr} is not of kind {kind}")
    try:
        result = _infer(op, name, [types[v] for v in inputs], attrs)
    except ProgramError as error:
        raise ProgramError(f"{where}: {error.cause}") from None
    if result.dtype not in DTYPES or result.width < 0:
        raise ProgramError(f"{where}: computes {result}")
    return result


# What has been found legal: op, input types and attributes (arrays by their address in memory) -> result, with the
# arrays, weakly, as the proof that they are the same. Every pass is followed by a check of the whole program; of a
# forest with 5 million nodes each took a second, of a minute for all.
_Proof = tuple[ValueType, list["ref[Array]"]]
_FOUND: dict[Any, _Proof] = {}
_WORTH = 10_000  # elements of the largest array from which on that pays
_MOST = 64


def _infer(op: Op, name: str, types: Sequence[ValueType], attrs: Mapping[str, Attr]) -> ValueType:
    """``op.infer``, once for the same arrays: passes make new ones, they change none."""
    arrays = [value for value in attrs.values() if isinstance(value, np.ndarray)]
    if max((array.size for array in arrays), default=0) < _WORTH:
        return op.infer(types, attrs)
    key = (name, *types, *((k, id(v) if isinstance(v, np.ndarray) else v) for k, v in sorted(attrs.items())))
    proof = _FOUND.get(key)
    if proof is None or any(weak() is not array for weak, array in zip(proof[1], arrays, strict=True)):
        if len(_FOUND) >= _MOST:
            _FOUND.clear()
        proof = _FOUND[key] = op.infer(types, attrs), [ref(array) for array in arrays]
    return proof[0]


def check_outputs(outputs: Mapping[str, Output], types: Sequence[ValueType]) -> None:
    """Raise ProgramError where the outputs are not legal, given the types of all values."""
    for name, output in outputs.items():
        if name != output.name or output.form not in _FORMS or not output.values:
            raise ProgramError(f"output {name} is malformed")
        if any(not 0 <= value < len(types) for value in output.values):
            raise ProgramError(f"output {name} names a value that does not exist")
        if output.form == "vector" and (len(output.values) > 1 or types[output.values[0]].width != 1):
            raise ProgramError(f"output {name} is a vector but not one column")
        np.dtype(output.dtype)


def _is_kind(value: Attr, kind: str) -> bool:
    if kind == "array":
        return isinstance(value, np.ndarray) and value.dtype != object
    if kind == "keys":
        if isinstance(value, tuple):
            return all(c is None or isinstance(c, str) or (isinstance(c, float) and c != c) for c in value)
        return isinstance(value, np.ndarray) and value.dtype != object
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == "program":
        return isinstance(value, Program)
    return isinstance(value, {"float": float, "str": str, "bool": bool}[kind])
