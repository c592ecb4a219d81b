"""Real data, every held-out row: New York's flights through the five everyday pipelines, on every engine."""

from __future__ import annotations

import io

import joblib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import edgeml
from edgeml.compare import Measure, compare
from edgeml.converters import to_program
from edgeml.parity.leaf_check import check_leaves
from edgeml.parity.truth import ask
from edgeml.passes import optimise, simplify
from edgeml.sample import read_sample
from edgeml.targets.base import About, Programs
from tests.conformance.flights import PIPELINES, data, fitted

FORMATS = ["native", "onnx", "tflite"]
NONE_DIFFERENT = dict.fromkeys(FORMATS, 0)


@pytest.mark.parametrize("name", PIPELINES)
def test_held_out_flights(name, tmp_path):
    X_train, _, X, _ = data()
    assert len(X) == 98_204
    assert X["carrier"].isna().any()
    assert X["wind_gust"].isna().mean() > 0.5
    pipeline = fitted(name)
    labels, proba = pipeline.predict(X), pipeline.predict_proba(X)
    path = tmp_path / "flights.edgeml"
    bundle = edgeml.compile(pipeline, X_train.iloc[:20_000], output=path, formats=FORMATS)
    trees = bundle.json("report.json")["leaves"]
    if "forest" in name or "hist" in name or "categories" in name:
        assert trees["trees"] >= 100
        assert trees["different"] == NONE_DIFFERENT
    for engine in ("native", "onnx"):
        with edgeml.load(path, engine=engine) as model:
            assert np.array_equal(model.predict(X), labels)
            # Strictly relative, the smallest probabilities included; where it is 0, so is ours.
            assert (np.abs(model.predict_proba(X) - proba) <= 1e-9 * proba).all(), engine
    with edgeml.load(path, engine="tflite") as model:
        assert np.array_equal(model.predict(X), labels)
        assert compare(proba, model.predict_proba(X), "predict_proba", Measure("float32")).max_rel <= 1e-5


@pytest.mark.parametrize("name", ["forest", "hist boosting", "native categories"])
def test_leaves_of_every_held_out_flight(name, tmp_path):
    """All held-out rows reach the same leaf of every tree on every engine, in the program, and in scikit-learn."""
    _, _, X, _ = data()
    pipeline = fitted(name)
    sample = read_sample(pipeline, X)
    program = simplify(to_program(pipeline, sample.schema, {"predict_proba": ("matrix", "<f8")}))
    programs = Programs(optimise(program), program)
    bundle = edgeml.compile(pipeline, X.iloc[:500], output=tmp_path / "m.edgeml", formats=FORMATS)
    truth = ask(pipeline, sample, ["predict"])
    about = About("flights", 1, bundle.schema)
    found = check_leaves(
        pipeline, programs, bundle.manifest, about, {"held out": (sample, truth)}, tmp_path, most=len(X)
    )
    assert found["rows"] == 98_204
    assert found["trees"] >= 100
    assert found["different"] == NONE_DIFFERENT
    assert set(found["out_of_range"].values()) == {0}
    assert found["sklearn"] == 0


# Of the joblib file: an artifact may have this part of its bytes. The joblib of the logistic regression has 7 kB, less
# than names, categories and a file's frame take: 4, 7 and 11 kB are what it comes to.
PARTS = {"native": 1 / 8, "onnx": 1 / 5, "tflite": 1 / 8}
LOGISTIC = {"native": 0.65, "onnx": 1.1, "tflite": 1.7}


@pytest.mark.parametrize("name", ["logistic", "forest", "hist boosting", "mlp"])
def test_int8_on_held_out_flights(name, tmp_path):
    """Labels, ranking and bytes of all three int8 artifacts; the budget is that of a caller who sets none."""
    X_train, y_train, X, y = data()
    pipeline = fitted(name)
    labels, proba = pipeline.predict(X), pipeline.predict_proba(X)[:, 1]
    path = tmp_path / "flights.edgeml"
    bundle = edgeml.compile(pipeline, X_train.iloc[:20_000], y_train[:20_000], output=path, quantize="int8")
    file = io.BytesIO()
    joblib.dump(pipeline, file)
    whole = len(file.getvalue())
    assert bundle.manifest["artifacts"].keys() == PARTS.keys()
    for engine, artifact in bundle.manifest["artifacts"].items():
        with edgeml.load(path, engine=engine) as model:
            answers, scores = model.predict(X), model.predict_proba(X)[:, 1]
        assert (answers != labels).mean() <= 0.001, engine
        assert roc_auc_score(y, proba) - roc_auc_score(y, scores) <= 0.001, engine
        part = LOGISTIC[engine] if name == "logistic" else PARTS[engine]
        assert artifact["bytes"] <= part * whole, engine
