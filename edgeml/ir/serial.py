"""A program as JSON plus raw arrays, and back. The native artifact of a bundle is stored so; nothing is ever executed.

``dump`` gives a JSON-ready dict and the arrays it refers to by position; equal arrays are stored once. Nothing is
written that the op table knows: no types of results, no attributes that are not there. ``load`` trusts nothing:
whatever is malformed raises ProgramError, and the result is legal by the rules of spec.py. bundle/FORMAT.md describes
the dict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops import OPS
from edgeml.ir.program import Attr, Input, Node, Output, Program, ValueType, attr_key
from edgeml.ir.spec import check_inputs, check_outputs, result_type
from edgeml.ir.table import Array

ARRAY_DTYPES = (
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
)  # fmt: skip
MOST_DEPTH = 4  # loops inside loops


def dump(program: Program) -> tuple[dict[str, Any], list[Array]]:
    """JSON-ready description and the arrays it points to."""
    arrays: list[Array] = []
    places: dict[object, int] = {}

    def describe(program: Program) -> dict[str, Any]:
        origins = {origin: at for at, origin in enumerate(dict.fromkeys(node.origin for node in program.nodes))}
        return {
            "inputs": [
                [kind.dtype, kind.width, [i.name for i in group]]
                for kind, group in groupby(program.inputs, lambda i: i.type)
            ],
            "origins": list(origins),
            "steps": [
                [origins[origin], *map(entry, group)] for origin, group in groupby(program.nodes, lambda n: n.origin)
            ],
            "outputs": [[o.name, o.form, o.dtype, *o.values] for o in program.outputs.values()],
        }

    def encode(value: Attr) -> Any:
        if isinstance(value, np.ndarray):
            key = attr_key(value)
            if key not in places:
                places[key] = len(arrays)
                arrays.append(np.ascontiguousarray(value))
            return places[key]
        if isinstance(value, tuple):
            return [{"nan": True} if isinstance(c, float) else c for c in value]
        return describe(value) if isinstance(value, Program) else value

    def entry(node: Node) -> list[Any]:
        attrs = {k: encode(v) for k, v in node.attrs.items()}
        return [node.op, *node.inputs, attrs] if attrs else [node.op, *node.inputs]

    return describe(program), arrays


def array_places(description: Mapping[str, Any], *ops: str) -> list[dict[str, int]]:
    """For every node of the given ops, in what ``dump`` returned: its attributes that are arrays and where they are."""
    found = []
    for _, *nodes in description["steps"]:
        for op, *rest in nodes:
            if op in ops:
                found.append({name: rest[-1][name] for name, kind in OPS[op].attrs.items() if kind == "array"})
    return found


def load(description: Any, arrays: Sequence[Array], *, depth: int = 0) -> Program:
    """The program a description and its arrays hold, ``depth`` others around it. ProgramError when they hold none."""
    if depth > MOST_DEPTH:
        raise ProgramError(f"programs inside programs, more than {MOST_DEPTH} deep")
    try:
        inputs = tuple(
            Input(str(name), ValueType(dtype, _index(width)))
            for dtype, width, names in description["inputs"]
            for name in names
        )
        check_inputs(inputs)
        types = [entry.type for entry in inputs]
        nodes: list[Node] = []
        origins = description["origins"]
        for at, *step in description["steps"]:
            origin = str(origins[_place(at, len(origins))])
            for entry in step:
                nodes.append(_node(entry, arrays, types, origin, depth))
                types.append(nodes[-1].type)
        outputs = {
            name: Output(name, tuple(_index(v) for v in values), form, str(dtype))
            for name, form, dtype, *values in description["outputs"]
        }
        if len(outputs) < len(description["outputs"]):
            raise ProgramError("two outputs have one name")
        check_outputs(outputs, types)
        return Program(inputs, tuple(nodes), outputs)
    except ProgramError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise ProgramError(f"a malformed program description: {type(error).__name__}: {error}") from None


def _node(entry: Any, arrays: Sequence[Array], types: Sequence[ValueType], origin: str, depth: int) -> Node:
    op, *rest = entry
    given = rest.pop() if rest and isinstance(rest[-1], Mapping) else {}
    if op not in OPS:
        raise ProgramError(f"op {op!r:.80} is not known to this version of EdgeML", "upgrade edgeml-sdk")
    kinds = OPS[op].attrs
    attrs = {name: _attr(kinds.get(name, ""), value, arrays, depth) for name, value in given.items()}
    inputs = tuple(_index(value) for value in rest)
    return Node(op, inputs, result_type(op, inputs, attrs, types, origin), attrs, origin)


def _attr(kind: str, value: Any, arrays: Sequence[Array], depth: int) -> Attr:
    """The value of an attribute: arrays are given by position, cells of strings as a list, programs as here."""
    if kind == "program":
        return load(value, arrays, depth=depth + 1)
    if kind == "keys" and isinstance(value, list):
        return tuple(float("nan") if isinstance(c, Mapping) else c for c in value)
    if kind not in ("array", "keys"):
        return value
    array = arrays[_place(value, len(arrays))]
    if array.dtype.name not in ARRAY_DTYPES:
        raise ProgramError(f"an array of {array.dtype}")
    return array


def _place(value: Any, count: int) -> int:
    """An index of a list of ``count``; a negative one would count from the end."""
    if not 0 <= _index(value) < count:
        raise ProgramError(f"a program description refers to item {value} of {count}")
    return int(value)


def _index(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProgramError(f"a value id must be an integer, got {value!r}")
    return value
