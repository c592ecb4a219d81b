"""Estimators with several outputs: lists of arrays, at every surface that hands out answers."""

from __future__ import annotations

import csv

import joblib
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import edgeml
from edgeml.bundle.manifest import several_outputs
from edgeml.cli.results import result_columns
from edgeml.errors import EngineError, ManifestError, VerificationError
from edgeml.ir import Builder
from tests.cli_tools import run
from tests.conformance.estimators.multioutput import two_labels, two_labels_by_name

ENGINES = ("native", "onnx", "tflite")


@pytest.fixture(scope="module")
def forest():
    X, y = two_labels_by_name()
    return make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5, random_state=0)).fit(X, y), X, y


@pytest.fixture(scope="module")
def path(forest, tmp_path_factory):
    pipeline, X, y = forest
    found = tmp_path_factory.mktemp("several") / "m.edgeml"
    edgeml.compile(pipeline, X, y, output=found, formats=["native", "onnx", "tflite"]).close()
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_predict_proba_is_a_list_of_arrays(forest, path, engine):
    pipeline, X, _ = forest
    within = 1e-6 if engine == "tflite" else 0.0
    with edgeml.load(path, engine=engine) as model:
        for rows in (X, X[:1]):
            found = model.predict_proba(rows)
            assert [p.shape for p in found] == [(len(rows), 3), (len(rows), 2)]
            assert all(p.dtype == np.float64 for p in found)
            for mine, theirs in zip(found, pipeline.predict_proba(rows), strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=0, atol=within)
        one = model.predict_proba_one(X[7].tolist())
        assert isinstance(one, list)
        for mine, theirs in zip(one, pipeline.predict_proba(X[7:8]), strict=True):
            np.testing.assert_allclose(mine, theirs[0], rtol=0, atol=within)
        labels = model.predict_one(X[7].tolist())
        assert labels.tolist() == pipeline.predict(X[7:8])[0].tolist()
        assert labels.dtype == pipeline.predict(X[7:8]).dtype


def test_classes_are_a_list_with_their_own_dtype(forest, path):
    pipeline, _, _ = forest
    with edgeml.load(path) as model:
        assert [c.tolist() for c in model.classes_] == [c.tolist() for c in pipeline.classes_]
        assert [c.dtype for c in model.classes_] == [c.dtype for c in pipeline.classes_]
        assert several_outputs(model.manifest["classes"])


def test_the_onnx_file_has_one_output_an_array(path):
    import onnxruntime

    with edgeml.bundle.open_bundle(path) as bundle:
        session = onnxruntime.InferenceSession(bytes(bundle.member("model.onnx")))
    shapes = {o.name: o.shape[1:] for o in session.get_outputs()}
    assert shapes["predict_proba_0"] == [3]
    assert shapes["predict_proba_1"] == [2]


def test_verify_against_the_live_pipeline(forest, path):
    pipeline, X, y = forest
    other = make_pipeline(StandardScaler(), RandomForestClassifier(n_estimators=5, random_state=1)).fit(X, y)
    with np.errstate(divide="ignore"):  # logarithms of 0
        assert edgeml.verify(path, pipeline, X).passed
        with pytest.raises(VerificationError, match="predict_proba"):
            edgeml.verify(path, other, X)


def test_recording_counts_every_column_and_hands_out_lists(forest, path, tmp_path):
    _, X, _ = forest
    with edgeml.load(path) as model:
        recorder = model.record_to(tmp_path / "spool")
        assert isinstance(model.predict_proba(X[:20]), list)
        assert isinstance(model.predict_proba_one(X[0].tolist()), list)
        model.track("a", model.predict(X[:1])[0])
        model.feedback("a", ["setosa", "no"])
        model.stop_recording()
        status = recorder.status()
        assert status["windows_closed"] == 1
        assert status["last_error"] is None


def test_the_command_line_names_columns_by_output_and_label(forest, path, tmp_path):
    pipeline, X, _ = forest
    np.savetxt(tmp_path / "rows.csv", X[:4], delimiter=",", header="x0,x1,x2,x3", comments="")
    done = run("predict", path, tmp_path / "rows.csv", "--method", "predict_proba", "-o", tmp_path / "o.csv")
    assert done.exit_code == 0, done.output
    with open(tmp_path / "o.csv") as file:
        rows = list(csv.reader(file))
    assert rows[0] == [f"predict_proba_0_{c}" for c in ("setosa", "versicolor", "virginica")] + [
        f"predict_proba_1_{c}" for c in ("no", "yes")
    ]
    expected = np.concatenate(pipeline.predict_proba(X[:4]), axis=1)
    np.testing.assert_array_equal(np.array(rows[1:], dtype=float), expected)


@pytest.mark.parametrize("method", ["predict_proba", "predict_log_proba", "predict"])
def test_bench_judges_lists(forest, path, tmp_path, method):
    joblib.dump(forest[0], tmp_path / "m.joblib")
    with np.errstate(divide="ignore"):
        done = run(
            "bench", path, "--method", method, "--seconds", "0.05", "--pipeline", tmp_path / "m.joblib", "--json"
        )
    assert done.exit_code == 0, done.output


def test_columns_without_labels_are_numbered():
    found = result_columns("transform", [np.zeros((2, 1)), np.ones((2, 2))], None)
    assert list(found) == ["transform_0_0", "transform_1_0", "transform_1_1"]


def test_an_artifact_of_another_width_is_refused(path):
    with edgeml.load(path) as model:
        model.manifest["methods"]["predict_proba"]["widths"] = [3, 3]
        with pytest.raises(EngineError, match="5 columns, the manifest says 6"):
            model.predict_proba(np.zeros((1, 4)))


@pytest.mark.parametrize("widths", [None, [], [0, 2], ["2"], [True], 3])
def test_malformed_widths_are_refused(widths):
    from edgeml.bundle.manifest import _method

    with pytest.raises(ManifestError, match="widths"):
        _method({"form": "list", "dtype": "<f8", "widths": widths}, "methods.predict_proba")


@pytest.mark.parametrize("classes", [[["a"], []], [["a"], [None]], [["a"], "b"]])
def test_malformed_classes_of_several_outputs_are_refused(classes):
    from edgeml.bundle.manifest import _classes

    with pytest.raises(ManifestError, match="classes"):
        _classes(classes, "classes")


def test_a_pass_may_not_move_a_boundary_between_arrays():
    from edgeml.errors import PassError
    from edgeml.passes.infrastructure import _check_kept

    def program(*cuts):
        c = Builder()
        x = c.input("X", "float64", 4)
        c.output("predict_proba", [x.select(slice(a, b)) for a, b in cuts], "list", "<f8")
        return c.finish()

    with pytest.raises(PassError, match="width"):
        _check_kept(program((0, 1), (1, 4)), program((0, 2), (2, 4)), True)


def test_sample_targets_of_several_outputs_are_judged(tmp_path):
    X, y = two_labels()
    model = RandomForestClassifier(n_estimators=3, random_state=0).fit(X, y)
    joblib.dump(model, tmp_path / "m.joblib")
    with edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        assert bundle.manifest["methods"]["predict_proba"]["widths"] == [3, 2]
