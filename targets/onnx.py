"""Lowers a program to one self-contained ONNX model that stock onnxruntime runs: raw columns in, predictions
out.

A graph input a raw column, tensor [N, 1] (or the one matrix X, [N, k]); only columns that some output depends
on. A graph output a method, [N] or [N, k]; columns that differ in dtype come as ``transform_0``,
``transform_1``, … in order. Arithmetic is in float64 where scikit-learn's is. Rows that scikit-learn refuses
make the session fail in a node whose name says why. ``metadata_props`` tell a reader what the model is:

    edgeml.name, edgeml.version   of the model
    edgeml.schema                 the raw columns, as schema.json of a bundle
    edgeml.missing_strings        how None and NaN are spelled in a string column
    edgeml.inputs                 graph input of each column
    edgeml.outputs                graph outputs of each method
    edgeml.checks                 what the nodes that may fail check
    edgeml.rows_only              the input that no output depends on, when it only tells the number of rows

Called by the compiler through targets/base.py. The op lowerings are in the modules onnx_*.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from edgeml._version import __version__
from edgeml.errors import FormatError
from edgeml.ir import Program
from edgeml.ir.interpreter import needed
from edgeml.ir.program import Node, Output, ValueType
from edgeml.ir.table import Array
from edgeml.targets import (  # noqa: F401  # they enter their lowerings
    onnx_distances,
    onnx_iterate,
    onnx_ml_ops,
    onnx_pairs,
    onnx_quantised,
    onnx_rank,
    onnx_remainder,
    onnx_search,
    onnx_special,
    onnx_tensor_ops,
    onnx_text,
    onnx_tree_sums,
)
from edgeml.targets.base import About, refuse_texts
from edgeml.targets.onnx_columns import Columns
from edgeml.targets.onnx_compact import needed as needed_nodes
from edgeml.targets.onnx_compact import packed, shorten_names, strip
from edgeml.targets.onnx_embed import merge_opsets
from edgeml.targets.onnx_graph import (
    BATCH,
    CHECKS,
    DTYPES,
    IR_VERSION,
    LOWERINGS,
    MISSING_NAN,
    MISSING_NONE,
    Tensor,
    Writer,
    check_name,
)

MEMBER = "model.onnx"
_NO_TEXTS = {
    "HashedTerms": "onnxruntime has no operator that gives the bytes of a string, of which its hash is made",
    "HashedItems": "an ONNX tensor holds no lists or dicts, and no operator hashes a string",
    "CountedItems": "an ONNX tensor holds no lists or dicts",
}
_MAX_BYTES = 2**31 - 1  # of a protobuf message


def lower(program: Program, about: About, sample: Mapping[str, Array] | None = None) -> Mapping[str, bytes]:
    """``{"model.onnx": bytes}``, checked by onnx.checker. Raises FormatError when the program cannot be expressed."""
    for op, reason in _NO_TEXTS.items():
        refuse_texts(program, "onnx", reason, (op,))
    proto = ir.to_proto(_Lowering(program, about).model())
    if proto.ByteSize() > _MAX_BYTES:
        raise FormatError(
            f"the ONNX model has {proto.ByteSize() / 2**30:.1f} GB, an ONNX file holds at most 2",
            "fit fewer or smaller trees, or leave out the format onnx",
        )
    _check(proto, program)
    strip(proto)
    return {MEMBER: packed(proto)}


def _check(proto: onnx.ModelProto, program: Program) -> None:
    try:
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # ValidationError, InferenceError, and whatever onnx adds
        steps = sorted({node.origin or "pipeline" for node in program.nodes if node.op == "OnnxGraph"})
        by = f", which holds what skl2onnx made of step {', '.join(steps)}" if steps else ""
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise FormatError(
            f"onnx.checker refuses the model{by}: {reason[:300]}",
            "replace the step by a supported estimator (README)" if steps else "report it with the pipeline",
        ) from error


class _Lowering:
    """One program on its way into one graph."""

    def __init__(self, program: Program, about: About) -> None:
        self.program, self.about = program, about
        self.keep = needed(program, program.outputs)
        self.first = len(program.inputs)
        self.writer = Writer(Columns(program))
        self.tensors: dict[int, Tensor] = {}
        self.input_names: dict[str, str] = {}
        self.output_names: dict[str, list[str]] = {}
        self.checks: dict[str, dict[str, Any]] = {}
        self.rows_only: str | None = None

    def model(self) -> ir.Model:
        inputs = self._inputs()
        methods = {name: self.writer.unique(name) for name in self.program.outputs}
        kept = [node for i, node in enumerate(self.program.nodes) if self.keep[self.first + i]]
        merge_opsets(self.writer, kept)
        pending = self._nodes()
        self.writer.origin = ""
        outputs = [
            value
            for output in self.program.outputs.values()
            for value in self._output(output, methods[output.name], pending)
        ]
        nodes, read = needed_nodes(self.writer.nodes, outputs)
        constants = [value for value in self.writer.initializers if value in read]
        ends = {*inputs, *outputs}
        inner = [*constants, *(value for node in nodes for value in node.outputs if value not in ends)]
        shorten_names(inner, {str(value.name) for value in ends})
        graph = ir.Graph(
            inputs,
            outputs,
            nodes=nodes,
            initializers=constants,
            opset_imports=self.writer.opsets,
            name=self.about.name,
        )
        return ir.Model(
            graph,
            ir_version=IR_VERSION,
            producer_name="edgeml",
            producer_version=__version__,
            model_version=self.about.version,
            metadata_props=self._metadata(),
        )

    # --- inputs and nodes
    def _inputs(self) -> list[ir.Value]:
        entries = list(enumerate(self.program.inputs))
        used = [(i, entry) for i, entry in entries if self.keep[i]]
        if not used:  # constant outputs still have as many rows as the input
            used = entries[:1]
            self.rows_only = used[0][1].name
        values = []
        for i, entry in used:
            value = ir.Value(name=self.writer.unique(entry.name or "column"))
            self.input_names[entry.name] = str(value.name)
            self.tensors[i] = self.writer.declare(value, entry.type, one_row=False)
            values.append(value)
        self.writer.batch = values[0]
        return values

    def _nodes(self) -> list[tuple[ir.Value, str]]:
        """Lower every needed node. Returns index and name of each check whose result no one reads."""
        pending = []
        read = {v for i, n in enumerate(self.program.nodes) if self.keep[self.first + i] for v in n.inputs}
        read |= {v for output in self.program.outputs.values() for v in output.values}
        for i, node in enumerate(self.program.nodes):
            at = self.first + i
            if not self.keep[at]:
                continue
            self.writer.origin = node.origin
            args = [self.tensors[v] for v in node.inputs]
            one_row = all(x.one_row for x in args)
            if node.op in CHECKS:
                index = CHECKS[node.op](self.writer, node, *args)
                name = self._check(node)
                if at not in read:
                    pending.append((index, name))
                    continue
                value = self.writer.guard(args[0].value, (0, node.type.width), index, name)
                one_row = args[0].one_row
            else:
                value = LOWERINGS[node.op](self.writer, node, *args)
                onnx_quantised.follow(self.writer, self.program, node, args, value)
            self.tensors[at] = self.writer.declare(value, node.type, one_row)
        return pending

    def _check(self, node: Node) -> str:
        """A name for the graph node that fails, entered in the table of checks."""
        name = self.writer.unique(check_name(node))
        self.checks[name] = {"op": node.op, "width": node.type.width, **node.attrs}
        return name

    # --- outputs
    def _output(self, output: Output, name: str, pending: list[tuple[ir.Value, str]]) -> list[ir.Value]:
        """The graph outputs of one method, called ``name``: neighbouring values of one dtype side by side.

        Checks that nothing reads are hung on the first output. onnxruntime runs the whole graph for any
        output.
        """
        w = self.writer
        groups: list[list[Tensor]] = []
        for v in output.values:
            part = self._in_dtype(self.tensors[v], output)
            if groups and groups[-1][0].type.dtype == part.type.dtype and output.form in ("vector", "matrix"):
                groups[-1].append(part)
            else:
                groups.append([part])
        values = []
        for number, parts in enumerate(groups):
            joined = parts[0]
            if len(parts) > 1:
                kind = ValueType(joined.type.dtype, sum(p.type.width for p in parts))
                joined = Tensor(w.op("Concat", *(w.all_rows(p) for p in parts), axis=1), kind, False)
            value = w.all_rows(joined)
            shape: tuple[int, ...] = (0, joined.type.width)
            if output.form == "vector":
                value, shape = w.op("Squeeze", value, np.array([1])), (0,)
            while pending:
                value = w.guard(value, shape, *pending.pop(0))
            if output.form != "vector":
                value = w.op("Identity", value)  # a graph output of its own, whatever the value is
            value.name = name if len(groups) == 1 else w.unique(f"{name}_{number}")
            value.type = ir.TensorType(DTYPES[joined.type.dtype])
            value.shape = ir.Shape([BATCH, *shape[1:]])
            values.append(value)
        self.output_names[output.name] = [str(value.name) for value in values]
        return values

    def _in_dtype(self, x: Tensor, output: Output) -> Tensor:
        """x in the dtype of the output where ONNX has it here; else as it is, and the engine converts."""
        dtype = np.dtype(output.dtype).name
        if dtype == x.type.dtype or dtype not in DTYPES or x.type.dtype == "string":
            return x
        kind = ValueType(dtype, x.type.width)  # type: ignore[arg-type]
        return Tensor(self.writer.cast(x.value, dtype), kind, x.one_row)

    def _metadata(self) -> dict[str, str]:
        spelled = {"None": MISSING_NONE, "NaN": MISSING_NAN}
        properties: dict[str, Any] = {
            "edgeml.name": self.about.name,
            "edgeml.version": str(self.about.version),
            "edgeml.schema": self.about.schema.to_json(),
            "edgeml.missing_strings": spelled,
            "edgeml.inputs": self.input_names,
            "edgeml.outputs": self.output_names,
            "edgeml.checks": self.checks,
        }
        terms = [
            node.type.width
            for i, node in enumerate(self.program.nodes, self.first)
            if self.keep[i] and node.op == "Terms"
        ]
        if terms:
            properties["edgeml.terms"] = max(terms)
        if self.rows_only is not None:
            properties["edgeml.rows_only"] = self.rows_only
        return {k: v if isinstance(v, str) else _json(v) for k, v in properties.items()}


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)
