"""Contenders for whole pipelines: how each is made from a fitted pipeline, and how it answers single rows and a batch.

Each gets what its own documentation recommends: scikit-learn the frame it was fitted on, onnxruntime one thread without
a pool, EdgeML raw rows in whatever they come. ``RUNNERS`` is the table: a name and a function that gives Contenders,
one a form of the rows. Those for estimators alone are in tree_peers.py. One that fails or differs is shown so.
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.impute import SimpleImputer

import edgeml
from benchmarks.models import rows_of
from edgeml.runtimes.frames import read_rows

ONES = 64  # single rows a contender is asked about in turn: one row alone would teach the branch predictor its answer


@dataclass(frozen=True, slots=True)
class Contender:
    """``one(item)`` answers each of ``ones``; ``batch(rows)`` answers ``rows``. Either may be missing.

    ``form`` says what rows come in, ``compile_s`` what making it took where the peer compiles.
    """

    name: str
    form: str
    one: Callable[[Any], Any] | None
    ones: Sequence[Any]
    batch: Callable[[Any], Any] | None
    rows: Any
    bytes: int | None = None
    compile_s: float | None = None
    shaped: Callable[[Any], Any] = np.asarray  # an answer in scikit-learn's shape


Make = Callable[[Any, Any], Iterator[Contender]]


def method_of(pipeline: Any) -> str:
    return "predict_proba" if hasattr(pipeline, "predict_proba") else "predict"


def scikit_learn(pipeline: Any, X: Any) -> Iterator[Contender]:
    call = getattr(pipeline, method_of(pipeline))
    ones = [X[i : i + 1] for i in range(ONES)]
    yield Contender("scikit-learn", "pandas" if hasattr(X, "iloc") else "NumPy", call, ones, call, X)


# --- EdgeML --------------------------------------------------------------------------------------------------------
def compiled(pipeline: Any, X: Any, engine: str, **options: Any) -> tuple[Path, float]:
    """(bundle of one engine in a folder of its own, seconds to compile)."""
    path = Path(tempfile.mkdtemp(prefix="edgeml-bench-")) / "m.edgeml"
    start = time.perf_counter()
    edgeml.compile(pipeline, X[:2000], output=path, formats=[engine], **options).close()
    return path, time.perf_counter() - start


def edgeml_native(pipeline: Any, X: Any, **options: Any) -> Iterator[Contender]:
    path, seconds = compiled(pipeline, X, "native", **options)
    model: Any = edgeml.load(path, engine="native")
    method = method_of(pipeline)
    name = "EdgeML " + options["quantize"] if options else "EdgeML"
    size, batch = path.stat().st_size, getattr(model, method)
    for form, rows in forms(X).items():
        # Single rows are asked once, not once a form.
        one = getattr(model, method + "_one") if form in ("pandas", "NumPy") else None
        ones = rows_of(X, ONES) if one else ()
        yield Contender(name, form, one, ones, batch, rows, size, seconds)


def forms(X: Any) -> dict[str, Any]:
    """The same rows in every kind of frame. A NumPy array has one dtype for all: with strings its cells are objects."""
    if not hasattr(X, "iloc"):
        return {"NumPy": X}
    import polars
    import pyarrow

    words = [c for c in X.columns if X[c].dtype.kind not in "fiubM"]
    as_objects = X.astype(dict.fromkeys(words, object))
    return {
        "pandas": X,
        "pandas object": as_objects,
        "polars": polars.from_pandas(X),
        "pyarrow": pyarrow.Table.from_pandas(X, preserve_index=False),
        "NumPy objects": as_objects.to_numpy(dtype=object),
    }


def edgeml_onnx(pipeline: Any, X: Any) -> Iterator[Contender]:
    """EdgeML's ONNX artifact in a session of its own, as anyone without EdgeML runs it."""
    path, seconds = compiled(pipeline, X, "onnx")
    with zipfile.ZipFile(path) as file, edgeml.load(path, engine="onnx") as model:
        session, schema = session_of(file.read("model.onnx")), model.schema
    facts = session.get_modelmeta().custom_metadata_map
    outputs = json.loads(facts["edgeml.outputs"])[method_of(pipeline)]
    names: dict[str, str] = dict(json.loads(facts["edgeml.inputs"]))

    def split(rows: Any) -> dict[str, Any]:
        from tests.onnx_oracle import feeds

        columns = feeds(read_rows(rows, schema)[0])
        return {name: columns[column] for column, name in names.items()}

    yield from _sessions("EdgeML's ONNX in onnxruntime", lambda a: session.run(outputs, a)[0], split, X, path, seconds)


# --- onnxruntime ---------------------------------------------------------------------------------------------------
def session_of(model: bytes) -> Any:
    """A session of one thread as onnxruntime's documentation on threads has it: one intra-op thread is the caller's
    own, so there is no pool; one graph branch at a time; all graph optimisations, which is the default.
    """
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def skl2onnx_ort(pipeline: Any, X: Any) -> Iterator[Contender]:
    """With its inputs already split into arrays, and with the splitting: from a dict a row, from the frame a batch."""
    start = time.perf_counter()
    answer, split, size = skl2onnx_model(pipeline, X)
    yield from _sessions("skl2onnx + onnxruntime", answer, split, X, size, time.perf_counter() - start)


def _sessions(
    name: str, answer: Callable[[Any], Any], split: Callable[[Any], Any], X: Any, size: Path | int, seconds: float
) -> Iterator[Contender]:
    bytes_ = size if isinstance(size, int) else size.stat().st_size
    arrays = split(X)
    ones = [{k: v[i : i + 1] for k, v in arrays.items()} for i in range(ONES)]
    yield Contender(name, "inputs already split", answer, ones, answer, arrays, bytes_, seconds, shaped=np.squeeze)
    if not hasattr(X, "iloc"):
        return
    kinds = {k: v.dtype for k, v in arrays.items()}

    def one(row: Any) -> Any:
        # A missing string is written as skl2onnx's own examples do, as the empty one.
        return answer({k: np.array([["" if row[k] is None else row[k]]], dtype=t) for k, t in kinds.items()})

    def batch(rows: Any) -> Any:
        return answer(split(rows))

    splits_rows = set(kinds) <= set(X.columns)
    yield Contender(
        name, "splitting included", one if splits_rows else None, rows_of(X, ONES) if splits_rows else (),
        batch, X, bytes_, seconds, shaped=np.squeeze,
    )  # fmt: skip


def skl2onnx_model(
    pipeline: Any, X: Any
) -> tuple[Callable[[dict[str, Any]], Any], Callable[[Any], dict[str, Any]], int]:
    """(answers of onnxruntime, one thread, for arrays by input; rows to those arrays; bytes of the model).

    skl2onnx refuses an imputer of strings that stands for NaN ("implemented when the missing values are string"), which
    the everyday pipeline has. It gets what a user of it has to write instead: the empty string for a missing one. All
    numbers are of one type, as skl2onnx concatenates no others: float64, which is scikit-learn's own, or float32, which
    its documentation uses, where float64 does not convert or does not load.
    """
    pipeline = with_empty_strings(copy.deepcopy(pipeline))
    failures = []
    for number in (np.float64, np.float32):
        try:
            return _skl2onnx_model(pipeline, X, number)
        except Exception as error:  # whatever skl2onnx raises: the other dtype may do, else the first is shown
            failures.append(error)
    raise failures[0]


def with_empty_strings(estimator: Any) -> Any:
    """The fitted pipeline, its imputers of strings changed to take the empty string for a missing one."""
    for step in getattr(estimator, "steps", ()):
        with_empty_strings(step[1])
    for transformer in getattr(estimator, "transformers_", ()):
        with_empty_strings(transformer[1])
    if isinstance(estimator, SimpleImputer) and estimator.statistics_.dtype.kind == "O":
        estimator.missing_values = ""
    return estimator


def _skl2onnx_model(
    pipeline: Any, X: Any, number: Any
) -> tuple[Callable[[dict[str, Any]], Any], Callable[[Any], dict[str, Any]], int]:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import BooleanTensorType, DoubleTensorType, FloatTensorType, StringTensorType

    numbers = DoubleTensorType if number is np.float64 else FloatTensorType
    if hasattr(X, "iloc"):
        kinds = {"f": numbers, "i": numbers, "b": BooleanTensorType}
        types = [(c, kinds.get(X[c].dtype.kind, StringTensorType)([None, 1])) for c in X.columns]
    else:
        types = [("X", numbers([None, X.shape[1]]))]
    options = {id(pipeline): {"zipmap": False}} if hasattr(pipeline, "predict_proba") else None
    proto = to_onnx(pipeline, initial_types=types, options=options).SerializeToString()
    session = session_of(proto)
    inputs = [i.name for i in session.get_inputs()]
    output = [session.get_outputs()[-1 if hasattr(pipeline, "predict_proba") else 0].name]

    def split(rows: Any) -> dict[str, Any]:
        if not hasattr(rows, "iloc"):
            return {"X": np.asarray(rows, dtype=number)}
        return {c: _cells(rows[c], number) for c in inputs}

    def answer(arrays: dict[str, Any]) -> Any:
        return session.run(output, arrays)[0]

    answer(split(X[:1]))  # some float64 graphs load and then do not run
    return answer, split, len(proto)


def _cells(column: Any, number: Any) -> Any:
    if column.dtype.kind in "fi":
        return column.to_numpy(dtype=number).reshape(-1, 1)
    if column.dtype.kind == "b":
        return column.to_numpy().reshape(-1, 1)
    return column.fillna("").to_numpy(dtype=object).reshape(-1, 1)


RUNNERS: dict[str, Make] = {
    "scikit-learn": scikit_learn,
    "EdgeML": edgeml_native,
    "EdgeML's ONNX in onnxruntime": edgeml_onnx,
    "skl2onnx + onnxruntime": skl2onnx_ort,
}
