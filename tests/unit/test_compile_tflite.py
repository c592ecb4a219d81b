"""compile with a float32 artifact: what "auto" does without, what is an error by name, what parity and verify count."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import edgeml
from edgeml.compiler import judging
from edgeml.errors import EngineError, EngineNotInstalledError, FormatError, ParityError, VerificationError
from edgeml.runtimes import tflite
from edgeml.targets import base
from tests.conformance.cases import CASES

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {"a": RNG.normal(size=300), "b": RNG.lognormal(8, 1, 300), "c": pd.Series(RNG.choice(["x", "y"], 300), dtype="str")}
)
Y = (FRAME["a"] + (FRAME["c"] == "x") > 0.5).to_numpy()


def pipeline(estimator=None):
    prep = make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(handle_unknown="ignore"), ["c"]))
    return make_pipeline(prep, LogisticRegression() if estimator is None else estimator).fit(FRAME, Y)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "m.edgeml"


def cancelling():
    """A difference of two columns that move together, with large weights: four digits go."""
    X = RNG.normal(size=(200, 1)) / [1.0, 0.99] + [0.0, 1e-4] * RNG.normal(size=(200, 2))
    model = LinearRegression().fit(X, X[:, 0])
    model.coef_ = np.array([1e4, -9.9e3])
    return model, X


# --- what "auto" does without
def test_an_artifact_that_disagrees_is_left_out_with_the_reason(out):
    model, X = cancelling()
    bundle = edgeml.compile(model, X, output=out)
    assert set(bundle.manifest["artifacts"]) == {"native", "onnx"}
    reason = bundle.manifest["missing"]["tflite"]
    assert reason.startswith("in float32 its answers are not scikit-learn's: sample: predict: relative error ")
    assert not [name for name in bundle.names if "tflite" in name or "front" in name]
    report = bundle.json("report.json")
    assert {f["engine"] for f in report["findings"]} == {"native", "onnx"}
    assert report["disagreements"]["tflite"][0] in reason
    with pytest.raises(edgeml.errors.EngineNotInBundleError, match="in float32 its answers"):
        edgeml.load(out, engine="tflite")


def test_by_name_the_same_is_an_error(out):
    model, X = cancelling()
    for formats in ("tflite", ["native", "tflite"]):
        with pytest.raises(ParityError, match="tflite engine, sample: predict: relative error"):
            edgeml.compile(model, X, output=out, formats=formats)
    assert not list(out.parent.iterdir())


def test_other_engines_are_never_left_out(out, monkeypatch):
    real = judging.judge

    def wrong(model, *rest):
        found = real(model, *rest)
        return replace(found, problems=["predict: wrong"]) if model.engine != "native" else found

    monkeypatch.setattr(judging, "judge", wrong)
    with pytest.raises(ParityError) as caught:
        edgeml.compile(pipeline(), FRAME, output=out)
    assert "onnx engine, sample: predict: wrong" in caught.value.cause
    assert "tflite" not in caught.value.cause


def test_a_pipeline_that_tflite_cannot_express(out):
    model = make_column_transformer((SimpleImputer(strategy="most_frequent"), ["c"])).fit(FRAME)
    bundle = edgeml.compile(model, FRAME, output=out)
    assert bundle.manifest["missing"] == {"tflite": "transform returns strings or objects, and TFLite has only numbers"}
    with pytest.raises(FormatError, match="only numbers"):
        edgeml.compile(model, FRAME, output=out, formats=["tflite"])


def test_the_writers_library_is_not_installed(out, monkeypatch):
    for name in [n for n in sys.modules if n.startswith(("edgeml.targets.tflite", "ai_edge_litert", "flatbuffers"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    bundle = edgeml.compile(pipeline(), FRAME, output=out)
    assert "ai-edge-litert" in bundle.manifest["missing"]["tflite"]
    assert set(bundle.manifest["artifacts"]) == {"native", "onnx"}
    with pytest.raises(FormatError, match="ai-edge-litert") as caught:
        edgeml.compile(pipeline(), FRAME, output=out, formats=["tflite"])
    assert "edgeml-sdk[tflite]" in caught.value.remedy


def test_a_module_of_our_own_that_is_missing_is_no_missing_library(monkeypatch):
    monkeypatch.setitem(base.TARGETS, "odd", base.Entry("edgeml.targets.odd", True, "compile"))
    with pytest.raises(ModuleNotFoundError, match=r"edgeml\.targets\.odd"):
        base.target("odd")


def test_the_runtime_cannot_be_used(out, monkeypatch):
    def missing():
        raise EngineNotInstalledError("no runtime here", "install one")

    monkeypatch.setattr(tflite, "load_runtime", missing)
    bundle = edgeml.compile(pipeline(), FRAME, output=out)
    assert bundle.manifest["missing"] == {"tflite": "no runtime here"}
    with pytest.raises(EngineNotInstalledError, match="no runtime here"):
        edgeml.compile(pipeline(), FRAME, output=out, formats=["native", "tflite"])


# --- what parity and verify count
def test_rows_beyond_float32_are_counted(out):
    bundle = edgeml.compile(pipeline(), FRAME, output=out)
    findings = {(f["engine"], f["rows"]): f for f in bundle.json("report.json")["findings"]}
    assert findings["tflite", "sample"]["out_of_range"] == findings["native", "awkward rows"]["out_of_range"] == 0
    awkward = findings["tflite", "awkward rows"]
    assert 0 < awkward["out_of_range"] < awkward["count"] - awkward["refused"]
    assert awkward["passed"]
    for engine in ("native", "tflite"):
        found = edgeml.verify(out, engine=engine).golden
        assert (found.out_of_range > 0) == (engine == "tflite")
        assert found.bounds["decision_function"] == (1e-5 if engine == "tflite" else 1e-9)
    live = edgeml.verify(out, pipeline(), FRAME.iloc[:1], engine="tflite").live
    assert live.passed
    assert live.rows == 1


def test_a_sample_beyond_float32_has_no_tflite(out):
    X = np.concatenate([RNG.normal(size=(95, 1)), np.full((5, 1), 1e39)])
    model = LinearRegression().fit(X[:95], X[:95, 0] * 2)
    bundle = edgeml.compile(model, X, output=out)
    assert "sample: 5 of 100 rows are beyond the range of float32" in bundle.manifest["missing"]["tflite"]


def test_leaves_are_compared(out):
    bundle = edgeml.compile(pipeline(RandomForestClassifier(8, random_state=0)), FRAME, output=out)
    leaves = bundle.json("report.json")["leaves"]
    assert leaves["different"] == dict.fromkeys(("native", "onnx", "tflite"), 0)
    assert leaves["problems"] == {}


def test_awkward_rows_whose_digits_float32_has_not_are_counted(out):
    """A cell of 1e9 leaves a small score between components of 1e8; the sample's own rows are never excused."""
    model, X = next(case for case in CASES if case.name == "pca logistic").fit()
    findings = edgeml.compile(model, X, output=out, formats=["tflite"]).json("report.json")["findings"]
    sample, awkward = (f["methods"]["decision_function"] for f in findings[:2])
    assert sample["max_rel"] < 1e-5
    assert awkward["max_rel"] > 1e-5
    assert 0 < awkward["ill_conditioned_rows"] < 10
    edgeml.verify(out)


def test_verify_finds_what_float32_does_not_explain(out):
    edgeml.compile(pipeline(), FRAME, output=out)
    other = pipeline(LogisticRegression(C=0.9999))
    assert np.abs(other.decision_function(FRAME) - pipeline().decision_function(FRAME)).max() < 1e-3
    with pytest.raises(
        VerificationError, match=r"tflite engine(.|\n)*decision_function: relative error .* is over 1e-05"
    ):
        edgeml.verify(out, other, FRAME, engine="tflite")


# --- options
def test_options_reach_the_engine(out, monkeypatch):
    edgeml.compile(pipeline(), FRAME, output=out)
    given = []
    real = tflite._arguments

    def spy(runtime, threads, options):
        given.append((threads, options))
        return real(runtime, threads, options)

    monkeypatch.setattr(tflite, "_arguments", spy)
    options = {"xnnpack": False}
    with edgeml.load(out, engine="tflite", threads=2, options=options) as model:
        np.testing.assert_allclose(model.predict_proba(FRAME), pipeline().predict_proba(FRAME), atol=1e-6)
        again, how = model.__reduce__()  # what a worker process does
        with again(*how) as there:
            assert there.engine == "tflite"
    assert given == [(2, options), (2, options)]
    with pytest.raises(EngineError, match="the engine 'tflite' has no option 'gpu'"):
        edgeml.load(out, engine="tflite", options={"gpu": True})


@pytest.mark.parametrize("engine", ["native", "onnx", "auto"])
def test_an_engine_without_options_says_so(engine, out):
    edgeml.compile(pipeline(), FRAME, output=out)
    with pytest.raises(EngineError, match=r"has no option 'xnnpack', nor any other(.|\n)*that has some: tflite"):
        edgeml.load(out, engine=engine, options={"xnnpack": False})
    with edgeml.load(out, engine=engine, options={}) as model:
        assert len(model.predict(FRAME)) == 300


def test_auto_takes_tflite_where_nothing_else_is(out):
    edgeml.compile(pipeline(), FRAME, output=out, formats="tflite")
    with edgeml.load(out) as model:
        assert model.engine == "tflite"
