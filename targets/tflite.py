"""Lowers a program to a TFLite model for the numeric core, and the front that makes its inputs, in native form.

    model.tflite         signature ``serve``: features float32 (rows, k), codes int32 (rows, c); an output a method
    front/program.json   raw columns to features and codes, in float64; see targets/native.py
    front/arrays.bin

tflite_split.py says what goes where, tflite_metadata.py what the model says of itself. When all raw columns are numbers
and nothing needs exact float64 comparisons, a second signature ``raw`` takes the raw columns as float32 and imputes and
scales in the graph; it shares all weights. A calibrated grid is rounded to the same step only behind exact numbers, so
a static int8 model has no ``raw``. Called by the compiler through targets/base.py.

Answers are those of float32: within 1e-5 of scikit-learn's, labels equal but where float32 cannot tell two scores
apart. Leaves of trees are exact. Rows with numbers beyond float32 are refused. Hand in a program whose scaling is not
folded into linear layers (``passes.simplify``, not ``optimise``): a fold moves the cancellation of large means into
float32. What a quantised program means is kept to the same 1e-5, but for int8 layers, whose results may be one step of
their grid away (tflite_quantised_ops.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml._version import __version__
from edgeml.errors import FormatError
from edgeml.ir import Program
from edgeml.ir.table import Array
from edgeml.passes import run_passes, simplify
from edgeml.passes.rank import RANK_TREES
from edgeml.targets import (  # noqa: F401  # they enter their lowerings
    native,
    tflite_iterate,
    tflite_leaves,
    tflite_ml_ops,
    tflite_ops,
    tflite_quantised_ops,
    tflite_search,
    tflite_special,
)
from edgeml.targets.base import About, refuse_texts
from edgeml.targets.tflite_centre import centre
from edgeml.targets.tflite_graph import Model, Tensor
from edgeml.targets.tflite_kinds import TREES
from edgeml.targets.tflite_lowering import REFUSED, Lowering
from edgeml.targets.tflite_metadata import metadata
from edgeml.targets.tflite_split import split

MEMBER = "model.tflite"
FRONT_PROGRAM, FRONT_ARRAYS = "front/program.json", "front/arrays.bin"
SERVE, RAW = "serve", "raw"
# Memory of one batch: temporaries of a few tensors at a time, in a level-2 cache.
_BATCH_BYTES = 2**18
_MOST_ROWS = 1024


def lower(program: Program, about: About, sample: Mapping[str, Array] | None = None) -> Mapping[str, bytes]:
    """The three members. Raises FormatError with the reason when the program cannot be expressed.

    ``sample``, raw columns as ``read_rows`` gives them, of some hundreds of rows that the pipeline answers, keeps the
    digits of columns that are far from zero and that the pipeline does not scale (tflite_centre.py).
    """
    for node in program.nodes:
        if node.op == "OnnxGraph":
            raise FormatError(
                f"step {node.origin or '?'} was converted by skl2onnx, and only onnxruntime runs what that makes",
                "use formats=['onnx'], or an estimator with a converter of EdgeML's own (README, supported estimators)",
            )
    refuse_texts(program, "tflite", "TFLite has no strings, and its inputs are dense rows, a column a term")
    ranked = simplify(run_passes(program, [RANK_TREES])[0])
    parts = split(ranked)
    if sample is not None:
        parts = centre(parts, sample)
    model = Model(f"{about.name} version {about.version}, compiled by EdgeML {__version__}")
    core = Lowering(model, parts.core, SERVE)
    raw = _raw(model, program, parts.labels)
    serve = {"checks": core.checks, "rows": _rows_at_once(core)}
    for entry, content in metadata(ranked, parts, about, FRONT_PROGRAM, serve, raw).items():
        model.describe(entry, content)
    front = native.lower(parts.front, about)
    return {
        MEMBER: model.to_bytes(),
        FRONT_PROGRAM: front[native.PROGRAM],
        FRONT_ARRAYS: front[native.ARRAYS],
    }


def _raw(model: Model, program: Program, labels: Mapping[str, Any]) -> dict[str, Any]:
    """Add the signature ``raw`` when there can be one. Its facts for the metadata."""
    for entry in program.inputs:
        if entry.type.dtype == "string":
            return {"reason": f"column {entry.name} holds strings"}
    for node in program.nodes:
        if node.op in ("FakeQuantize", "DynamicQuantize", "QuantizedLinear"):
            return {
                "reason": f"step {node.origin or '?'} is quantised, and a second graph would take a kilobyte or two"
            }
        if node.op in (*TREES, "Rank"):
            return {"reason": f"step {node.origin or '?'} compares with thresholds, exactly only in float64"}
    try:
        lowering = Lowering(model, without_labels(program, labels), RAW, raw=True)
    except FormatError as error:
        return {"reason": error.cause}
    return {"inputs": list(lowering.graph.inputs), "checks": lowering.checks}


def without_labels(program: Program, labels: Mapping[str, Any]) -> Program:
    """The program with the index of the class where a method returns labels that are not numbers of the graph."""
    outputs = []
    for output in program.outputs.values():
        if output.name in labels:
            indices = []
            for value in output.values:
                node = program.node_of(value)
                assert node is not None
                indices.append(node.inputs[0])
            output = type(output)(output.name, tuple(indices), output.form, "<i4")
        outputs.append(output)
    return simplify(program.with_outputs(outputs))


def _rows_at_once(lowering: Lowering) -> int:
    """Rows a batch, a power of two, so that the largest tensors of a graph stay in a cache."""
    widest = max((_cells(t) for t in lowering.graph.tensors), default=1)
    rows = _MOST_ROWS
    while rows > 1 and rows * widest * 4 > _BATCH_BYTES:
        rows //= 2
    return rows


def _cells(tensor: Tensor) -> int:
    """Cells of a row of a tensor, 0 when it is constant."""
    if not tensor.shape or tensor.shape[0] != -1:
        return 0
    cells = 1
    for size in tensor.shape[1:]:
        cells *= size
    return cells


__all__ = ["FRONT_ARRAYS", "FRONT_PROGRAM", "MEMBER", "RAW", "REFUSED", "SERVE", "lower"]
