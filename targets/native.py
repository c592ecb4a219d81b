"""Program -> the native engine's artifact: the program over codes as JSON, and its arrays in as few bytes as
they need.

runtimes/native.py reads it. Everything but an ONNX sub-graph can be expressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgeml.bundle.arrays import pack
from edgeml.errors import FormatError, ProgramError
from edgeml.ir import Node, Program
from edgeml.ir.coded import code_strings, tables_to_json
from edgeml.ir.compact import shrink
from edgeml.ir.preorder import in_preorder, is_preorder, leaves_in_order
from edgeml.ir.serial import array_places, dump
from edgeml.ir.table import Array
from edgeml.jsonutil import dumps
from edgeml.passes.lossless import float32_at_most
from edgeml.targets.base import About

PROGRAM = "native/program.json"
ARRAYS = "native/arrays.bin"
TEXTS, TEXT_ARRAYS = "native/texts.json", "native/texts.bin"


def lower(program: Program, about: About, sample: Mapping[str, Array] | None = None) -> Mapping[str, bytes]:
    """The members ``native/program.json`` and ``native/arrays.bin``; ``native/texts.json`` and ``native/texts.bin``
    where texts are taken apart.

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
    recipes, stored = shrink(arrays, _tree_arrays(description, arrays))
    index, blob = pack(stored)
    member = {"program": description, "strings": tables_to_json(coded), "recipes": recipes, "arrays": index}
    return {PROGRAM: dumps(member), ARRAYS: blob, **_texts(coded.front)}


def _texts(front: Program | None) -> Mapping[str, bytes]:
    """The members of a front, none without: its description, and its arrays as they are."""
    if front is None:
        return {}
    description, arrays = dump(front)
    index, blob = pack(arrays)
    return {TEXTS: dumps({"program": description, "arrays": index}), TEXT_ARRAYS: blob}


_TREES = ("TreeEnsemble", "TreeLeaves")
# What each array of nodes is to compact.py.
_PARTS = {
    "threshold": "node", "missing_left": "node", "category_set": "node", "roots": "roots", "left": "left",
    "right": "right", "feature": "feature",
}  # fmt: skip


def _tidy_trees(program: Program, node: Node) -> Node:
    """Trees in preorder, whose unused elements are all alike; thresholds are float32 where the columns are."""
    if node.op not in _TREES:
        return node
    attrs = in_preorder(node.attrs) or dict(node.attrs)
    if node.op == "TreeEnsemble":
        attrs = leaves_in_order(attrs)
    leaf = attrs["feature"] < 0
    unused = {
        "feature": leaf,
        "threshold": leaf | (attrs["category_set"] >= 0),
        "right": leaf,
        "missing_left": leaf,
        "category_set": leaf,
    }
    if program.type_of(node.inputs[0]).dtype == "float32":
        attrs["threshold"] = float32_at_most(attrs["threshold"])
    for name, where in unused.items():
        blank = attrs[name].dtype.type(-1 if name in ("feature", "category_set") else 0)
        attrs[name] = np.where(where, blank, attrs[name])
    return replace(node, attrs=attrs)


def _tree_arrays(description: Mapping[str, Any], arrays: Sequence[Array]) -> dict[int, tuple[str, int]]:
    """What each array of an ensemble in preorder is; see shrink."""
    parts: dict[int, tuple[str, int]] = {}
    features = set()
    for places in array_places(description, *_TREES):
        if is_preorder({name: arrays[at] for name, at in places.items()}):
            features.add(places["feature"])
            parts |= {places[name]: (part, places["feature"]) for name, part in _PARTS.items()}
    return {at: ("feature", at) if at in features else part for at, part in parts.items()}
