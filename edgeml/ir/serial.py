"""A program as JSON plus raw arrays, and back. The native artifact of a bundle is stored so; nothing is ever executed.

``dump`` gives a JSON-ready dict and the arrays it refers to by position; equal arrays are stored once. ``load`` trusts
nothing: whatever is malformed raises ProgramError, and the result has passed the spec check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops import OPS
from edgeml.ir.program import Attr, Input, Node, Output, Program, ValueType, attr_key
from edgeml.ir.spec import check
from edgeml.ir.table import Array

ARRAY_DTYPES = (
    "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8", "bool",
)  # fmt: skip


def dump(program: Program) -> tuple[dict[str, Any], list[Array]]:
    """JSON-ready description and the arrays it points to."""
    arrays: list[Array] = []
    places: dict[object, int] = {}

    def encode(value: Attr) -> Any:
        if isinstance(value, np.ndarray):
            key = attr_key(value)
            if key not in places:
                places[key] = len(arrays)
                arrays.append(np.ascontiguousarray(value))
            return {"array": places[key]}
        if isinstance(value, tuple):
            return {"cells": [{"nan": True} if isinstance(c, float) else c for c in value]}
        return value

    nodes = [
        {
            "op": node.op,
            "inputs": list(node.inputs),
            "type": [node.type.dtype, node.type.width],
            "attrs": {k: encode(v) for k, v in node.attrs.items()},
            "origin": node.origin,
        }
        for node in program.nodes
    ]
    return {
        "inputs": [{"name": i.name, "type": [i.type.dtype, i.type.width]} for i in program.inputs],
        "nodes": nodes,
        "outputs": [
            {"name": o.name, "values": list(o.values), "form": o.form, "dtype": o.dtype}
            for o in program.outputs.values()
        ],
    }, arrays


def load(description: Any, arrays: Sequence[Array]) -> Program:
    """The program a description and its arrays hold. Raises ProgramError when they hold none."""

    def decode(value: Any) -> Attr:
        if not isinstance(value, Mapping):
            return value
        if "array" in value:
            array = arrays[_place(value["array"], len(arrays))]
            if array.dtype.name not in ARRAY_DTYPES:
                raise ProgramError(f"an array of {array.dtype}")
            return array
        return tuple(float("nan") if isinstance(c, Mapping) else c for c in value["cells"])

    try:
        inputs = tuple(Input(str(i["name"]), _type(i["type"])) for i in description["inputs"])
        nodes = tuple(
            Node(
                n["op"],
                tuple(_index(v) for v in n["inputs"]),
                _type(n["type"]),
                {k: decode(v) for k, v in n["attrs"].items()},
                str(n["origin"]),
            )
            for n in description["nodes"]
        )
        outputs = {
            o["name"]: Output(o["name"], tuple(_index(v) for v in o["values"]), o["form"], str(o["dtype"]))
            for o in description["outputs"]
        }
        if len(outputs) < len(description["outputs"]):
            raise ProgramError("two outputs have one name")
        for node in nodes:
            if node.op not in OPS:
                raise ProgramError(f"op {node.op!r} is not known to this version of EdgeML", "upgrade edgeml-sdk")
        return check(Program(inputs, nodes, outputs))
    except ProgramError:
        raise
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise ProgramError(f"a malformed program description: {type(error).__name__}: {error}") from None


def _place(value: Any, count: int) -> int:
    """An index of a list of ``count``; a negative one would count from the end."""
    if not 0 <= _index(value) < count:
        raise ProgramError(f"a program description refers to item {value} of {count}")
    return int(value)


def _index(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise ProgramError(f"a value id must be an integer, got {value!r}")
    return value


def _type(value: Any) -> ValueType:
    dtype, width = value
    return ValueType(dtype, _index(width))
