"""Inlines models made by skl2onnx (the op OnnxGraph) into the one graph that is being written.

Comes in: the bytes of a model and the values to feed it with; goes out: the value of one of its outputs. The
model's values get names of their own, its nodes keep their order, and its operator sets are merged with ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from edgeml.errors import FormatError
from edgeml.ir.program import Node, attr_key
from edgeml.ir.table import Array
from edgeml.targets.onnx_compact import bodies
from edgeml.targets.onnx_graph import DTYPES, ML, OPSET, Tensor, Writer, lowers

# ai.onnx.ml 5 retired these; 4 has them, but no TreeEnsemble that takes doubles.
_RETIRED = ("TreeEnsembleClassifier", "TreeEnsembleRegressor")
_BEFORE_RETIRED = 4


def _model(data: Array) -> ir.Model:
    return ir.from_proto(onnx.load_from_string(data.tobytes()))


def _nodes(model: ir.Model) -> list[ir.Node]:
    """All nodes, those of loop bodies and branches included."""
    return list(ir.traversal.RecursiveGraphIterator(model.graph))


def merge_opsets(w: Writer, kept: Sequence[Node]) -> None:
    """Settle the operator sets of the whole graph before anything is written. Raises FormatError when none fits all."""
    seen: set[object] = set()
    retired: str | None = None
    for node in kept:
        if node.op != "OnnxGraph" or attr_key(node.attrs["model"]) in seen:
            continue
        seen.add(attr_key(node.attrs["model"]))
        model = _model(node.attrs["model"])
        for domain, version in model.opset_imports.items():
            if domain not in ("", ML):
                w.opsets[domain] = max(version, w.opsets.get(domain, 0))
        _same_meaning(node, model)
        if any(n.domain == ML and n.op_type in _RETIRED for n in _nodes(model)):
            retired = node.origin
    if retired is None:
        return
    w.opsets[ML] = _BEFORE_RETIRED
    for node in kept:
        if node.op in ("TreeEnsemble", "TreeLeaves"):
            raise FormatError(
                f"step {retired!r} became a tree operator of skl2onnx that ai.onnx.ml 5 retired, and step "
                f"{node.origin!r} needs the exact trees that came with ai.onnx.ml 5: no model can hold both",
                "replace one of the two estimators, or leave out the format onnx",
            )


def _same_meaning(node: Node, model: ir.Model) -> None:
    """Refuse a model whose operators of the default domain mean something else in the opset written here."""
    version = model.opset_imports.get("", OPSET)
    for n in _nodes(model):
        if n.domain != "" or version == OPSET:
            continue
        theirs = onnx.defs.get_schema(n.op_type, min(version, OPSET), "").since_version
        ours = onnx.defs.get_schema(n.op_type, max(version, OPSET), "").since_version
        if theirs != ours:
            raise FormatError(
                f"step {node.origin}: the model made by skl2onnx uses {n.op_type} of opset {version}, "
                f"which differs in opset {OPSET}",
                f"convert with target_opset={OPSET}",
            )


@lowers("OnnxGraph")
def onnx_graph(w: Writer, node: Node, *xs: Tensor) -> ir.Value:
    key = (attr_key(node.attrs["model"]), tuple(x.value.name for x in xs))
    if key not in w.embedded:
        w.embedded[key] = _inline(w, node, xs)
    outputs = w.embedded[key]
    if node.attrs["output"] not in outputs:
        raise FormatError(f"step {node.origin}: the model made by skl2onnx has no output {node.attrs['output']}")
    result = outputs[node.attrs["output"]]
    want = DTYPES[node.type.dtype]
    if result.dtype != want:
        result = w.op("Cast", result, to=want)
    return w.op("Reshape", result, np.array([-1, node.type.width]))


def _inline(w: Writer, node: Node, xs: Sequence[Tensor]) -> dict[str, ir.Value]:
    """Move the model's nodes into the writer, fed with xs; its outputs by name."""
    model = _model(node.attrs["model"])
    graph = model.graph
    if len(graph.inputs) != len(xs):
        raise FormatError(
            f"step {node.origin}: the model made by skl2onnx has {len(graph.inputs)} inputs, not {len(xs)}"
        )
    if model.functions:
        raise FormatError(f"step {node.origin}: the model made by skl2onnx holds functions of its own")
    outputs = {str(value.name): value for value in graph.outputs}
    for inner in _nodes(model):
        inner.name = w.unique(f"{node.origin}/{inner.name or inner.op_type}")
        for value in inner.outputs:
            if value.name:  # an optional output that is left out has no name
                value.name = w.unique(f"{node.origin}/{value.name}")
        for attribute in inner.attributes.values():
            for body in bodies(attribute):
                for value in (*body.inputs, *body.initializers.values()):
                    value.name = w.unique(f"{node.origin}/{value.name}")
    for name, initializer in list(graph.initializers.items()):
        assert initializer.const_value is not None
        graph.initializers.pop(name)
        initializer.name = w.unique(f"{node.origin}/{name}")
        initializer.const_value.name = initializer.name
        w.initializers.append(initializer)
    for formal, x in zip(list(graph.inputs), xs, strict=True):
        fed = w.all_rows(x)
        if formal.dtype is not None and formal.dtype != DTYPES[x.type.dtype]:
            fed = w.op("Cast", fed, to=formal.dtype)
        formal.replace_all_uses_with(fed, replace_graph_outputs=True)
        for name, value in outputs.items():
            if value is formal:
                outputs[name] = fed
    inner_nodes = list(graph)
    graph.outputs.clear()
    graph.remove(inner_nodes)
    w.nodes.extend(inner_nodes)
    return outputs
