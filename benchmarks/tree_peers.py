"""Contenders for estimators alone, over an array of numbers: the compilers of trees, and onnxruntime at its best.

tl2cgen and treelite are set up as tl2cgen's documentation has it (branch annotation, several files compiled at once,
``DMatrix`` ready before the call), m2cgen and emlearn write C (c_models.py), Hummingbird makes tensors where torch is
installed. LightGBM's boosters, which scikit-learn's are modelled on, have contenders of their own. ``ALONE`` and
``BOOSTERS`` are the tables; each maker raises what stops it, and the report shows that.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.c_models import as_cast, emlearn_c, m2cgen_c
from benchmarks.runners import ONES, Contender, Make, edgeml_native, scikit_learn, session_of


def as_proba(answer: Any) -> Any:
    """Answers as scikit-learn's predict_proba has them. Peers give (rows, 1, classes), or of two classes the
    probability of the second.
    """
    found = np.asarray(answer, dtype=np.float64)
    found = found.reshape(len(found), -1)
    return np.concatenate([1 - found, found], axis=1) if found.shape[1] == 1 else found


# --- onnxruntime ---------------------------------------------------------------------------------------------------
def onnx_floats(model: Any, X: Any) -> Iterator[Contender]:
    """As skl2onnx's documentation has it: one float32 tensor, here made before the call."""
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    start = time.perf_counter()
    kind = [("X", FloatTensorType([None, X.shape[1]]))]
    proto = to_onnx(model, initial_types=kind, options={id(model): {"zipmap": False}}).SerializeToString()
    session, seconds = session_of(proto), time.perf_counter() - start
    output = [session.get_outputs()[-1].name]
    rows = {"X": np.asarray(X, dtype=np.float32)}
    ones = [{"X": rows["X"][i : i + 1]} for i in range(ONES)]

    def run(arrays: Any) -> Any:
        return session.run(output, arrays)[0]

    yield Contender("skl2onnx + onnxruntime", "float32 tensor", run, ones, run, rows, len(proto), seconds)


# --- tl2cgen and treelite ------------------------------------------------------------------------------------------
def tl2cgen_compiled(model: Any, X: Any) -> Iterator[Contender]:
    import treelite

    yield from _tl2cgen(lambda: treelite.sklearn.import_model(model), as_cast(model, X))


def tl2cgen_booster(model: Any, X: Any) -> Iterator[Contender]:
    import treelite

    yield from _tl2cgen(lambda: treelite.frontend.from_lightgbm(model.booster_), X)


def _tl2cgen(load: Callable[[], Any], X: Any) -> Iterator[Contender]:
    import tl2cgen

    folder = Path(tempfile.mkdtemp(prefix="edgeml-bench-"))
    library, notes = folder / "m.so", folder / "annotation.json"
    start = time.perf_counter()
    trees = load()
    tl2cgen.annotate_branch(trees, tl2cgen.DMatrix(X[:10_000], dtype=trees.input_type), path=notes, nthread=1)
    parameters = {"parallel_comp": os.cpu_count(), "annotate_in": str(notes)}
    tl2cgen.export_lib(trees, toolchain="gcc", libpath=library, params=parameters)
    seconds = time.perf_counter() - start
    predictor = tl2cgen.Predictor(library, nthread=1)
    dtype = predictor.threshold_type

    def one(row: Any) -> Any:
        return predictor.predict(tl2cgen.DMatrix(row, dtype=dtype))  # a new row needs a new matrix

    ones = [np.ascontiguousarray(X[i : i + 1]) for i in range(ONES)]
    rows = tl2cgen.DMatrix(np.ascontiguousarray(X), dtype=dtype)
    yield Contender(
        "tl2cgen + treelite", "DMatrix", one, ones, predictor.predict, rows, library.stat().st_size, seconds,
        shaped=as_proba,
    )  # fmt: skip


# --- Hummingbird ---------------------------------------------------------------------------------------------------
def hummingbird(model: Any, X: Any) -> Iterator[Contender]:
    from hummingbird.ml import convert

    start = time.perf_counter()
    made = convert(model, "torch", np.asarray(X[:100], dtype=np.float32))
    seconds = time.perf_counter() - start
    import torch

    torch.set_num_threads(1)
    rows = np.asarray(X, dtype=np.float32)
    ones = [rows[i : i + 1] for i in range(ONES)]
    yield Contender("Hummingbird", "float32 array", made.predict_proba, ones, made.predict_proba, rows, None, seconds)


# --- boosters of LightGBM ------------------------------------------------------------------------------------------
def lightgbm_itself(model: Any, X: Any) -> Iterator[Contender]:
    predict = model.booster_.predict
    ones = [np.ascontiguousarray(X[i : i + 1]) for i in range(ONES)]

    def call(rows: Any) -> Any:
        return predict(rows, num_threads=1)

    yield Contender("LightGBM", "NumPy", call, ones, call, X, shaped=as_proba)


def lleaves_compiled(model: Any, X: Any) -> Iterator[Contender]:
    import lleaves

    path = Path(tempfile.mkdtemp(prefix="edgeml-bench-")) / "m.txt"
    model.booster_.save_model(path)
    start = time.perf_counter()
    made = lleaves.Model(model_file=path)
    made.compile()
    seconds = time.perf_counter() - start

    def call(rows: Any) -> Any:
        return made.predict(rows, n_jobs=1)

    ones = [np.ascontiguousarray(X[i : i + 1]) for i in range(ONES)]
    yield Contender("lleaves", "NumPy", call, ones, call, X, None, seconds, shaped=as_proba)


def edgeml_lossless(model: Any, X: Any) -> Iterator[Contender]:
    """Ranks instead of thresholds: the same answers from a smaller file."""
    yield from edgeml_native(model, X, quantize="lossless")


ALONE: dict[str, Make] = {
    "scikit-learn": scikit_learn,
    "EdgeML": edgeml_native,
    "EdgeML lossless": edgeml_lossless,
    "skl2onnx + onnxruntime": onnx_floats,
    "tl2cgen + treelite": tl2cgen_compiled,
    "m2cgen": m2cgen_c,
    "emlearn": emlearn_c,
    "Hummingbird": hummingbird,
}
BOOSTERS: dict[str, Make] = {
    "LightGBM": lightgbm_itself,
    "EdgeML": edgeml_native,
    "tl2cgen + treelite": tl2cgen_booster,
    "lleaves": lleaves_compiled,
}
