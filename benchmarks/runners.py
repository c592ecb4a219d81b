"""One runner a contender: how it is made from a fitted pipeline, how it answers one row and a batch.

Each runner gets what its own documentation recommends: scikit-learn a frame, onnxruntime one thread and its inputs
already split into arrays (the splitting is not timed), EdgeML the raw row as a dict. A contender that cannot run a
pipeline, or answers differently, is reported so instead of timed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import edgeml


@dataclass(frozen=True)
class Contender:
    """``one()`` answers a single row, ``batch()`` all rows; ``answer`` is the batch result to be compared."""

    one: Callable[[], Any]
    batch: Callable[[], Any]
    bytes: int | None = None


Make = Callable[[Any, Any], Contender]


def method_of(pipeline: Any) -> str:
    return "predict_proba" if hasattr(pipeline, "predict_proba") else "predict"


def scikit_learn(pipeline: Any, X: Any) -> Contender:
    call = getattr(pipeline, method_of(pipeline))
    row = X[:1]
    return Contender(lambda: call(row), lambda: call(X))


def _bundle(pipeline: Any, X: Any, engine: str) -> tuple[Any, int]:
    folder = tempfile.mkdtemp(prefix="edgeml-bench-")
    path = Path(folder) / "m.edgeml"
    edgeml.compile(pipeline, X, output=path, formats=[engine]).close()
    return edgeml.load(path, engine=engine), path.stat().st_size


def edgeml_native(pipeline: Any, X: Any) -> Contender:
    model, size = _bundle(pipeline, X, "native")
    method = method_of(pipeline)
    one = model.predict_proba_one if method == "predict_proba" else model.predict_one
    row = {str(k): v for k, v in X.iloc[0].items()} if hasattr(X, "iloc") else X[0].tolist()
    call = getattr(model, method)
    return Contender(lambda: one(row), lambda: call(X), size)


def edgeml_onnx(pipeline: Any, X: Any) -> Contender:
    model, size = _bundle(pipeline, X, "onnx")
    call = getattr(model, method_of(pipeline))
    row = X[:1]
    return Contender(lambda: call(row), lambda: call(X), size)


def skl2onnx_ort(pipeline: Any, X: Any) -> Contender:
    answer, split, size = skl2onnx_model(pipeline, X)
    many = split(X)
    first = {k: v[:1] for k, v in many.items()}
    return Contender(lambda: answer(first), lambda: answer(many).squeeze(), size)


def skl2onnx_model(
    pipeline: Any, X: Any
) -> tuple[Callable[[dict[str, Any]], Any], Callable[[Any], dict[str, Any]], int]:
    """(answers of onnxruntime, one thread, for arrays by input; rows to those arrays; bytes of the model)."""
    import onnxruntime
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import (
        BooleanTensorType,
        DoubleTensorType,
        Int64TensorType,
        StringTensorType,
    )

    if hasattr(X, "iloc"):
        kinds = {"f": DoubleTensorType, "i": Int64TensorType, "b": BooleanTensorType}
        types = [(c, kinds.get(X[c].dtype.kind, StringTensorType)([None, 1])) for c in X.columns]
    else:
        types = [("X", DoubleTensorType([None, X.shape[1]]))]
    options = {id(pipeline): {"zipmap": False}} if hasattr(pipeline, "predict_proba") else None
    proto = to_onnx(pipeline, initial_types=types, options=options).SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto, settings, providers=["CPUExecutionProvider"])
    inputs = [i.name for i in session.get_inputs()]
    output = [session.get_outputs()[-1].name]

    def split(rows: Any) -> dict[str, Any]:
        if not hasattr(rows, "iloc"):
            return {"X": np.asarray(rows, dtype=np.float64)}
        return {c: _cells(rows[c]) for c in inputs}

    return lambda arrays: session.run(output, arrays)[0], split, len(proto)


def _cells(column: Any) -> Any:
    if column.dtype.kind in "fib":
        return column.to_numpy().reshape(-1, 1)
    return column.fillna("").to_numpy(dtype=object).reshape(-1, 1)


CONTENDERS: dict[str, Make] = {
    "scikit-learn": scikit_learn,
    "EdgeML native": edgeml_native,
    "EdgeML onnx": edgeml_onnx,
    "skl2onnx + onnxruntime": skl2onnx_ort,
}
