"""From a frame with strings to probabilities: what reading and coding cost, and what two threads gain.

    python -m benchmarks.frames [--rows 100000] [--clock cpu] [--json FILE]

Pipelines of the flights table (16 numeric and 3 string columns) over every container a frame comes in, with the
strings coded by the kernels and, as ``objects``, one by one; beside scikit-learn and skl2onnx with onnxruntime, whose
inputs are split already or, as ``+ splitting``, not. Every answer is compared with scikit-learn's first. ``--clock
cpu`` counts the process's CPU time, for a machine that others use; the figures of threads need the wall clock.
``measure`` is for other scripts.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import edgeml
from edgeml.demo_data import NUMERIC, STRINGS, flights, split

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
FEW = (1, 8, 64, 256)


def encoded() -> Any:
    """Numbers imputed and scaled, strings one-hot: what skl2onnx converts too."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), list(NUMERIC)),
        (OneHotEncoder(handle_unknown="ignore"), list(STRINGS)),
        sparse_threshold=0,  # HistGradientBoosting takes dense rows only
    )


def estimators() -> dict[str, Any]:
    return {
        "logistic regression": LogisticRegression(max_iter=300),
        "random forest": RandomForestClassifier(100, max_depth=8, random_state=0, n_jobs=1),
        "histogram boosting": HistGradientBoostingClassifier(random_state=0),
    }


def containers(X: Any) -> dict[str, Any]:
    """The same rows, a pandas frame of str, in every container."""
    import polars
    import pyarrow

    texts = list(STRINGS)
    table = pyarrow.Table.from_pandas(X, preserve_index=False)
    own, shared = X.astype(dict.fromkeys(texts, object)), X.copy()
    for name in texts:  # as a reader of files makes them: equal strings are one object
        shared[name] = X[name].astype("category").astype(object)
    return {
        "pandas str": X,
        "pandas object": shared,
        "pandas object, each its own": own,
        "pandas category": X.astype(dict.fromkeys(texts, "category")),
        "polars": polars.from_pandas(X),
        "pyarrow": table,
    }


@contextmanager
def _switched(choice: str) -> Iterator[None]:
    before = os.environ.get("EDGEML_FAST")
    os.environ["EDGEML_FAST"] = choice
    try:
        yield
    finally:
        if before is None:
            del os.environ["EDGEML_FAST"]
        else:
            os.environ["EDGEML_FAST"] = before


def _least(call: Callable[[], Any], clock: Callable[[], float], seconds: float = 1.0) -> float:
    """The shortest of many calls, in seconds; a short call is repeated until the clock can see it."""
    call()
    start = clock()
    call()
    inner = max(1, int(0.002 / max(clock() - start, 1e-7)))
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = clock()
        for _ in range(inner):
            call()
        best = min(best, (clock() - start) / inner)
    return best


def _onnxruntime(pipeline: Any, X: Any) -> tuple[Callable[[Any], Any], Callable[[Any], dict[str, Any]]]:
    """(answers for arrays by input, frames to those arrays). Numbers are float32: its imputer knows no others."""
    import onnxruntime
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    texts = set(STRINGS)
    types = [(c, (StringTensorType if c in texts else FloatTensorType)([None, 1])) for c in X.columns]
    proto = to_onnx(pipeline, initial_types=types, options={id(pipeline): {"zipmap": False}}).SerializeToString()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto, settings, providers=["CPUExecutionProvider"])
    output = [session.get_outputs()[-1].name]

    def parted(rows: Any) -> dict[str, Any]:
        kinds = {c: object if c in texts else np.float32 for c in rows.columns}
        return {c: rows[c].to_numpy(dtype=kind).reshape(-1, 1) for c, kind in kinds.items()}

    return lambda arrays: session.run(output, arrays)[0], parted


def measure(pipeline: Any, X: Any, sample: Any, clock: Callable[[], float], threads: tuple[int, ...] = (1, 2)) -> Any:
    """us a row of ``predict_proba`` by contender and container, for all rows of ``X`` and for its first few."""
    from edgeml.runtimes.frames import read_columns

    expected = pipeline.predict_proba(X)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.edgeml"
        edgeml.compile(pipeline, sample, output=path, formats=["native"]).close()
        frames = containers(X)
        for count in threads:
            model = edgeml.load(path, engine="native", threads=count)
            for name, frame in frames.items():
                np.testing.assert_allclose(model.predict_proba(frame), expected, rtol=1e-9)
                key = f"EdgeML, {name}, {count} thread" + "s" * (count > 1)
                found[key] = _least(lambda m=model, f=frame: m.predict_proba(f), clock) / len(X) * 1e6
        model = edgeml.load(path, engine="native")
        library = model._engine.text_library
        for name, frame in frames.items():
            call = lambda f=frame: read_columns(f, model.schema, library)  # noqa: E731  # one of several
            found[f"reading, {name}"] = _least(call, clock) / len(X) * 1e6
            for rows in FEW:
                few = frame[:rows]
                found[f"EdgeML, {name}, {rows} rows"] = _least(lambda f=few: model.predict_proba(f), clock, 0.3) * 1e6
        with _switched("-text"):
            for name, frame in frames.items():
                key = f"EdgeML objects, {name}, 1 thread"
                found[key] = _least(lambda f=frame: model.predict_proba(f), clock) / len(X) * 1e6
    found["scikit-learn"] = _least(lambda: pipeline.predict_proba(X), clock) / len(X) * 1e6
    try:
        answer, parted = _onnxruntime(pipeline, sample)
        inputs = parted(X)
        found["onnxruntime, worst difference"] = float(np.abs(answer(inputs) - expected).max())
    except Exception as error:  # whatever it is, a peer that fails is shown so
        return found | {"onnxruntime": str(error)[:200]}
    found["onnxruntime"] = _least(lambda: answer(inputs), clock) / len(X) * 1e6
    found["onnxruntime + splitting"] = _least(lambda: answer(parted(X)), clock) / len(X) * 1e6
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()

    X, y, held_out, _ = split(*flights())
    whole = {name: "float64" for name, dtype in X.dtypes.items() if dtype.kind == "i"}
    X, held_out = X.astype(whole), held_out.astype(whole)  # skl2onnx's imputer takes no integers
    rows = held_out.sample(options.rows, replace=True, random_state=0).reset_index(drop=True)
    results = {}
    for name, estimator in estimators().items():
        pipeline = make_pipeline(encoded(), estimator).fit(X[:60_000], y[:60_000])
        results[name] = measure(pipeline, rows, X[:2000], CLOCKS[options.clock])
        print(f"--- {name}: us a row; for a few rows, us a call")
        for key, value in results[name].items():
            print(f"{value:12.4g}  {key}" if isinstance(value, float) else f"{value}: {key}")
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
