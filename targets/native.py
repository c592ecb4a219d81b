"""Program -> the native engine's artifact: the program over codes as JSON, and its arrays in as few bytes as
they need.

runtimes/native.py reads it. Everything but an ONNX sub-graph can be expressed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from edgeml.bundle.arrays import pack
from edgeml.errors import FormatError, ProgramError
from edgeml.ir import Node, Program
from edgeml.ir.coded import code_strings, tables_to_json
from edgeml.ir.compact import shrink
from edgeml.ir.serial import dump
from edgeml.ir.table import Array
from edgeml.jsonutil import dumps
from edgeml.passes.lossless import float32_at_most
from edgeml.targets.base import About

PROGRAM = "native/program.json"
ARRAYS = "native/arrays.bin"


def lower(program: Program, about: About, sample: Mapping[str, Array] | None = None) -> Mapping[str, bytes]:
    """The members ``native/program.json`` and ``native/arrays.bin``.

    Raises FormatError, naming the step, for an op that no kernel can run.
    """
    for node in program.nodes:
        if node.op == "OnnxGraph":
            raise FormatError(
                f"step {node.origin or 'pipeline'} was converted by skl2onnx: only onnxruntime runs what that makes",
                "use formats=['onnx'], or an estimator with a converter of EdgeML's own (README, supported estimators)",
            )
    try:
        coded = code_strings(program)
    except ProgramError as error:
        raise FormatError(
            f"the native engine cannot run this pipeline: {error.cause}", "use formats=['onnx']"
        ) from None
    tidied = tuple(_tidy_trees(coded.program, node) for node in coded.program.nodes)
    description, arrays = dump(replace(coded.program, nodes=tidied))
    recipes, stored = shrink(arrays, _node_arrays(description))
    index, blob = pack(stored)
    member = {"program": description, "strings": tables_to_json(coded), "recipes": recipes, "arrays": index}
    return {PROGRAM: dumps(member), ARRAYS: blob}


_TREES = ("TreeEnsemble", "TreeLeaves")
_NODE_ARRAYS = ("threshold", "left", "right", "missing_left", "category_set")


def _tidy_trees(program: Program, node: Node) -> Node:
    """Trees whose unused elements are all alike, and whose thresholds are float32 where the columns are."""
    if node.op not in _TREES:
        return node
    attrs = dict(node.attrs)
    leaf = attrs["feature"] < 0
    unused = {
        "threshold": leaf | (attrs["category_set"] >= 0),
        "right": leaf,
        "missing_left": leaf,
        "category_set": leaf,
    }
    if program.type_of(node.inputs[0]).dtype == "float32":
        attrs["threshold"] = float32_at_most(attrs["threshold"])
    for name, where in unused.items():
        blank = attrs[name].dtype.type(-1 if name == "category_set" else 0)
        attrs[name] = np.where(where, blank, attrs[name])
    return replace(node, attrs=attrs)


def _node_arrays(description: Mapping[str, Any]) -> dict[int, int]:
    """For each array of tree nodes its position, and that of the features, which are negative in leaves."""
    split: dict[int, int] = {}
    for node in description["nodes"]:
        if node["op"] in _TREES:
            by = node["attrs"]["feature"]["array"]
            split |= {node["attrs"][name]["array"]: by for name in _NODE_ARRAYS}
            split.pop(by, None)
    features = set(split.values())
    return {position: by for position, by in split.items() if position not in features}
