"""``edgeml bench`` compares answers before it times: what differs is shown, what refuses the rows is not timed."""

import re
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import NMF
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import OneHotEncoder

import edgeml
from edgeml.errors import OutOfRangeError
from edgeml.runtimes.native import NativeEngine
from tests.bench_tools import QUICK, by_name, measured
from tests.cli_tools import run


def test_a_wrong_answer_is_shown(work, no_starts, monkeypatch):
    def wrong(self, columns, rows, methods):
        found = right(self, columns, rows, methods)
        found["predict"][3] = 1 - found["predict"][3]
        return found

    right = NativeEngine.run
    monkeypatch.setattr(NativeEngine, "run", wrong)
    args = ("bench", work / "model.edgeml", "--engine", "native", "--engine", "onnx", *QUICK)
    done = run(*args)
    assert done.exit_code == 0
    assert re.search(r"\n  native .* DIFFER\n", done.stdout)
    assert re.search(r"\n  onnx .* equal\n", done.stdout)
    assert re.search(
        r"warning: native answers otherwise than golden rows: a batch: 1 of \d+ rows have another", done.stderr
    )
    found = by_name(measured(*args[1:6]))
    assert (found["native"]["agreement"]["labels_different"], found["onnx"]["agreement"]["labels_different"]) == (1, 0)
    assert found["native"]["runs"], "it is timed all the same, and marked"


def test_a_wrong_number_of_a_single_row_is_shown(work, no_starts, monkeypatch):
    one = NativeEngine.one
    monkeypatch.setattr(NativeEngine, "one", lambda self, method: lambda row: one(self, method)(row) * (1 + 1e-6))
    found = by_name(measured(work / "model.edgeml", "--engine", "native", "--method", "predict_proba"))["native"]
    assert found["agreement"]["problems"] == ["single rows: relative error 1e-06 is over 1e-09"]
    assert found["agreement"]["max_rel"] == pytest.approx(1e-6)
    assert found["agreement"]["labels_different"] == 0


def test_the_answers_on_several_threads_are_judged_too(work, no_starts, monkeypatch):
    open_ = NativeEngine.open.__func__
    run_ = NativeEngine.run

    def opened(cls, bundle, threads):
        engine = open_(cls, bundle, threads)
        engine.threads = threads
        return engine

    def wrong(self, columns, rows, methods):
        found = run_(self, columns, rows, methods)
        return {m: x + self.threads - 1 for m, x in found.items()}

    monkeypatch.setattr(NativeEngine, "open", classmethod(opened))
    monkeypatch.setattr(NativeEngine, "run", wrong)
    for threads in ((1, 2), (2, 1)):
        options = [word for count in threads for word in ("--threads", count)]
        found = by_name(measured(work / "model.edgeml", "--engine", "native", *options))["native"]
        assert found["agreement"]["agrees"] is False


def test_an_engine_that_refuses_the_rows_is_not_timed(work, no_starts, monkeypatch):
    def refuses(self, columns, rows, methods):
        raise OutOfRangeError("row 0: beyond the range", "use another engine")

    monkeypatch.setattr("edgeml.runtimes.tflite.TfliteEngine.run", refuses)
    found = by_name(measured(work / "model.edgeml"))
    assert "a batch: row 0: beyond the range: use another engine" in found["tflite"]["problem"]
    assert found["tflite"]["runs"] == []
    assert found["native"]["runs"]
    assert "note: tflite was not measured: a batch: row 0" in run("bench", work / "model.edgeml", *QUICK).stderr


def test_scikit_learn_is_judged_by_the_budget_where_a_bundle_is_quantised(work, tmp_path, no_starts):
    done = run(
        "compile", work / "model.skops", "--data", work / "train.csv", "--target-column", "late", "--quantize", "int8",
        "-o", tmp_path / "q.edgeml",
    )  # fmt: skip
    if done.exit_code:
        pytest.skip(f"nothing of it is quantised: {done.stderr}")
    args = (tmp_path / "q.edgeml", "--pipeline", work / "model.skops", "--data", work / "train.csv", "--drop", "late")
    record = measured(*args, "--method", "predict_proba")
    assert all(e["agreement"]["agrees"] for e in record["engines"]), "inside its budget"
    assert by_name(record)["native"]["agreement"]["max_abs"] > 1e-9


X = np.random.default_rng(0).normal(size=(120, 3))
WORDS = pd.DataFrame({"town": ["Bern", "Chur", "é"] * 40, "kind": ["a", "b"] * 60})


@pytest.mark.parametrize(
    ("pipeline", "rows", "file"),
    [
        (Ridge().fit(X, np.c_[X[:, 0], X[:, 1]]), X, "rows.csv"),  # an array, several outputs
        (KMeans(2, n_init=1, random_state=0).fit(X), X, "rows.csv"),  # labels, no classes
        (NMF(2, random_state=0).fit(X**2), X**2, "rows.csv"),  # about each row alone
        (OneHotEncoder().fit(WORDS), WORDS, "rows.jsonl"),  # transform alone, a sparse matrix
        (RandomForestRegressor(3, random_state=0).fit(X.astype("f4"), X[:, 0]), X.astype("f4"), "rows.parquet"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("given", [("data",), ("pipeline",), ("data", "pipeline")], ids="+".join)
def test_pipelines_of_every_form_agree(tmp_path, no_starts, pipeline, rows, file, given):
    edgeml.compile(pipeline, rows, output=tmp_path / "m.edgeml").close()
    joblib.dump(pipeline, tmp_path / "m.joblib")
    frame = pd.DataFrame(rows) if hasattr(rows, "columns") else pd.DataFrame(rows, columns=["a", "b", "c"])
    {
        ".csv": lambda path: frame.to_csv(path, index=False),
        ".jsonl": lambda path: frame.to_json(path, orient="records", lines=True),
        ".parquet": lambda path: frame.to_parquet(path),
    }[Path(file).suffix](tmp_path / file)
    options = {"data": ("--data", tmp_path / file), "pipeline": ("--pipeline", tmp_path / "m.joblib")}
    record = measured(tmp_path / "m.edgeml", *(word for name in given for word in options[name]))
    for entry in record["engines"]:
        assert (entry["problem"], entry["agreement"]["problems"]) == (None, [])
        assert len(entry["runs"]) == 2
    assert ("scikit-learn" in by_name(record)) == ("pipeline" in given)
