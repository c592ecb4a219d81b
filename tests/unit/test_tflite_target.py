"""The TFLite target: the split, accuracy, the raw signature, and what is refused."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from edgeml.errors import FormatError, InputError, OutOfRangeError
from edgeml.ir import Builder, interpreter
from edgeml.passes import simplify
from edgeml.targets import tflite
from edgeml.targets.tflite import lower
from tests.oracle import columns_of
from tests.tflite_oracle import (
    ABOUT,
    answers,
    converted,
    everyday,
    graph_answers,
    halves,
    interpreter_of,
    metadata,
    operators,
    program_answers,
    worst_error,
)
from tests.waiting import PATIENCE

NAN, INF = np.nan, np.inf


# --- the split ----------------------------------------------------------------------------------------------
def test_one_hot_travels_as_one_code(mixed):
    program, _, _ = converted(make_pipeline(everyday(), LogisticRegression()).fit(*mixed), mixed[0])
    parts = halves(program)
    assert [(e.name, e.type.width) for e in parts.core.inputs] == [("features", 2), ("codes", 2)]
    assert {"OneHot", "Linear", "Sigmoid"} <= {n.op for n in parts.core.nodes}
    assert "Linear" not in {n.op for n in parts.front.nodes}
    assert {"Lookup", "Where", "CheckFinite"} <= {n.op for n in parts.front.nodes}


def test_front_and_core_mean_the_program(mixed):
    frame, y = mixed
    ordinal = make_column_transformer((OrdinalEncoder(), ["colour"]), ("passthrough", ["age", "income", "member"]))
    for estimator in (
        make_pipeline(everyday(), LogisticRegression()),
        make_pipeline(everyday(), RandomForestClassifier(5, max_depth=4, random_state=0)),
        make_pipeline(ordinal, HistGradientBoostingClassifier(max_iter=5, categorical_features=[0])),
        everyday(),
    ):
        program, kinds, _ = converted(estimator.fit(frame, y), frame)
        parts = halves(program)
        handed = interpreter.run(parts.front, columns_of(frame, kinds))
        assert {k: v.dtype.name for k, v in handed.items()}.items() <= {"features": "float32", "codes": "int32"}.items()
        got = interpreter.run(parts.core, {k: v.astype(np.float64) for k, v in handed.items()})
        want = interpreter.run(program, columns_of(frame, kinds))
        for method, expected in want.items():
            if method in parts.labels:
                assert np.array(parts.labels[method][0], dtype=object)[got[method]].tolist() == expected.tolist()
            else:
                assert worst_error(expected, got[method], method) < 1e-6


def test_what_trees_compare_stays_in_float64(mixed):
    """PCA in front of a forest is computed in front; the forest alone is in the graph."""
    X = np.random.default_rng(0).normal(size=(300, 6))
    est = make_pipeline(PCA(3), RandomForestClassifier(5, max_depth=4, random_state=0)).fit(X, X[:, 0] > 0)
    parts = halves(converted(est, X)[0])
    assert [n.op for n in parts.front.nodes if n.op in ("Linear", "Rank")] == ["Linear", "Rank"]
    assert [n.op for n in parts.core.nodes if n.op in ("Linear", "TreeEnsemble")] == ["TreeEnsemble"]


def test_labels_that_numbers_cannot_hold_are_looked_up():
    X = np.random.default_rng(0).normal(size=(60, 2))
    for classes in (["a", "b", "ä"], [0.1, 0.2, 0.3], [2**40, 5, 6]):
        y = np.array(classes)[np.arange(60) % 3]
        est = LogisticRegression().fit(X, [str(v) for v in y])
        est.classes_ = np.sort(np.array(classes))  # a classifier of floats needs whole numbers at fit
        program, _, expected = converted(est, X)
        assert halves(program).labels["predict"] == [est.classes_.tolist()]
        assert program_answers(program, {"X": X})["predict"].tolist() == expected["predict"].tolist()
    y = np.array([3, 7, 300])[np.arange(60) % 3]
    program, _, expected = converted(LogisticRegression().fit(X, y), X)
    assert not halves(program).labels
    np.testing.assert_array_equal(program_answers(program, {"X": X})["predict"], expected["predict"])


def test_constant_answers_have_as_many_rows_as_the_input():
    X = np.random.default_rng(0).normal(size=(40, 2))
    est = RandomForestClassifier(3, random_state=0).fit(X, np.zeros(40))
    program, _, expected = converted(est, X)
    got = program_answers(program, {"X": X[:7]})
    np.testing.assert_array_equal(got["predict_proba"], expected["predict_proba"][:7])


# --- accuracy that float32 does not give by itself -------------------------------------------------------------
def test_small_probabilities_keep_their_digits():
    """1 - sigmoid(x) and the logarithms of probabilities far below the resolution of 1 in float32."""
    b = Builder()
    x = b.linear(b.input("x", "float64", 1), [[1.0, -1.0, 0.5]])
    p = b.sigmoid(x.select([0]))
    pair = b.concat([1.0 - p, p])
    b.output("predict_proba", [pair], "matrix", "<f8")
    b.output("pair_log", [b.log(pair)], "matrix", "<f8")
    b.output("softmax_log", [b.log(b.softmax(x))], "matrix", "<f8")
    program = b.finish()
    X = np.linspace(-60, 60, 241)[:, None]
    want, got = interpreter.run(program, {"x": X}), program_answers(program, {"x": X})
    for name, expected in want.items():
        # 1 - p is itself off by 1e-16 in float64, a share of 1e-5 of itself at 25, and 0 from 36.7 on.
        rough = np.where((X > 25) & (X < 36.7), 0.5, 1e-6) if "log" in name else 2e-16
        with np.errstate(invalid="ignore"):
            error = np.where(got[name] == expected, 0, np.abs(got[name] - expected))
        allowed = rough + 1e-5 * np.abs(np.where(np.isfinite(expected), expected, 0))
        wrong = np.argwhere(~(error <= allowed))
        assert not wrong.size, (name, X[wrong[0, 0]], expected[wrong[0, 0]], got[name][wrong[0, 0]])


def test_distances_close_to_a_centre():
    X = np.random.default_rng(0).normal(size=(200, 5)) * 0.01 + np.arange(200)[:, None] % 4 * 3
    est = KMeans(4, n_init=1, random_state=0).fit(X)
    rows = np.concatenate([est.cluster_centers_ + 1e-3, X])
    program, _, _ = converted(est, rows)
    got = program_answers(program, {"X": rows})
    # The rounding of x itself to float32; |x|^2 - 2 x.c + |c|^2 would be off by 3e-3.
    np.testing.assert_allclose(got["transform"], est.transform(rows), rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(got["predict"], est.predict(rows))
    assert "Linear" in {n.op for n in halves(program).core.nodes}
    names = [name for name, _ in operators(lower(program, ABOUT)["model.tflite"])]
    assert names.count("FULLY_CONNECTED") == 1  # of predict; the one of transform is not in the file


def test_columns_far_from_zero_keep_their_digits():
    """Without a scaler, products of a year and of a pressure swamp float32; the sample says where they are."""
    rng = np.random.default_rng(0)
    X = np.column_stack([2010 + rng.integers(0, 12, 500), 1e6 + 50 * rng.normal(size=500), rng.normal(size=500)])
    est = LinearRegression().fit(X, 3e4 * (X[:, 0] - 2010) + 40 * (X[:, 1] - 1e6) + X[:, 2])
    program, _, expected = converted(est, X)
    blind = program_answers(program, {"X": X})["predict"]
    assert worst_error(expected["predict"], blind) > 1e-5
    sighted = program_answers(program, {"X": X}, sample={"X": X})["predict"]
    assert worst_error(expected["predict"], sighted) < 1e-6
    minus = metadata(lower(program, ABOUT, {"X": X})["model.tflite"])["inputs"]["features"][0]["minus"]
    assert minus[0] == pytest.approx(2015, abs=3)
    assert minus[2] == 0


def test_columns_that_something_else_reads_are_not_moved():
    b = Builder()
    x = b.input("x", "float64", 2)
    b.output("predict", [b.linear(x, [[1.0], [1.0]])], "vector", "<f8")
    b.output("transform", [x.select([1])], "matrix", "<f8")
    b.output("score_samples", [b.tanh(x.select([0]) * 1e-3)], "vector", "<f8")
    X = np.array([[1000.0, 1000.0], [1000.5, 1001.0]])
    got = program_answers(b.finish(), {"x": X}, sample={"x": X})
    np.testing.assert_array_equal(got["transform"], X[:, 1:])
    np.testing.assert_array_equal(got["predict"], X.sum(axis=1))
    np.testing.assert_allclose(got["score_samples"], np.tanh(X[:, 0] * 1e-3), rtol=1e-6)


@pytest.mark.parametrize("classes", [2, 3])
def test_isotonic_staircase_of_a_forest(classes):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 4))
    y = np.digitize(X[:, 0] + rng.normal(size=500), np.linspace(-0.5, 0.5, classes - 1))
    forest = RandomForestClassifier(20, max_depth=4, random_state=0)
    est = CalibratedClassifierCV(forest, method="isotonic", cv=3).fit(X, y)
    program, _, expected = converted(est, X)
    got = program_answers(program, {"X": X})
    assert worst_error(expected["predict_proba"], got["predict_proba"], "predict_proba") < 1e-5
    np.testing.assert_array_equal(got["predict"], expected["predict"])
    assert "TreeEnsemble" not in {n.op for n in halves(program).front.nodes}


def test_numbers_beyond_float32_are_refused():
    X = np.random.default_rng(0).normal(size=(200, 2))
    est = make_pipeline(StandardScaler(), MLPClassifier((4,), max_iter=20, random_state=0))
    with pytest.warns(match="converge"):
        est.fit(X, X[:, 0] > 0)
    program, _, _ = converted(est, X)
    parts, data = halves(program), lower(program, ABOUT)["model.tflite"]
    with pytest.raises(OutOfRangeError, match=r"row 1: .*float32.*\n.*native"):
        interpreter.run(parts.front, {"X": np.array([[0.0, 0.0], [1e200, 0.0]])})
    answered = 0
    for size in 10.0 ** np.arange(0, 301, 2):
        try:
            handed = interpreter.run(parts.front, {"X": np.array([[size, -size]])})
        except OutOfRangeError:
            continue
        answered += 1
        for xnnpack in (False, True):
            got = answers(data, handed, xnnpack=xnnpack)
            np.testing.assert_allclose(got["predict_proba"], est.predict_proba([[size, -size]]), rtol=1e-5, atol=1e-12)
    assert answered > 8


# --- the raw signature ----------------------------------------------------------------------------------------
def test_raw_signature_imputes_and_scales_in_the_graph():
    rng = np.random.default_rng(0)
    X = np.where(rng.random((300, 5)) < 0.1, NAN, rng.normal(size=(300, 5)) * [1, 10, 100, 0.1, 1] + 3)
    est = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), PCA(3), LogisticRegression())
    program, _, expected = converted(est.fit(X, np.nan_to_num(X[:, 0]) > 3), X)
    data = lower(program, ABOUT)["model.tflite"]
    got = answers(data, {"X": X.astype(np.float32)}, "raw")
    for method in ("predict_proba", "decision_function"):
        assert worst_error(expected[method], got[method], method) < 1e-5
    np.testing.assert_array_equal(got["predict"], expected["predict"])
    assert not got["refused"].any()
    X[5, 0] = INF
    refused = answers(data, {"X": X.astype(np.float32)}, "raw")["refused"]
    assert np.flatnonzero(refused).tolist() == [5]
    checks = metadata(data)["raw"]["checks"]
    assert "SimpleImputer" in checks[refused[5] - 1]["what"]


def test_raw_signature_takes_a_frame_of_numbers_and_shares_the_weights():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.integers(0, 99, 200), "b": rng.normal(size=200), "c": rng.random(200) < 0.5})
    est = make_pipeline(StandardScaler(), MLPClassifier((200, 200), max_iter=3, random_state=0))
    with pytest.warns(match="converge"):
        est.fit(frame, frame["a"] > 50)
    program, _, expected = converted(est, frame)
    data = lower(program, ABOUT)["model.tflite"]
    feeds = {name: frame[name].to_numpy(np.float32)[:, None] for name in frame}
    got = answers(data, feeds, "raw")
    np.testing.assert_array_equal(got["predict"], expected["predict"])
    weights = 4 * (3 * 200 + 200 * 200 + 200)
    assert weights < len(data) < weights + 16_000


@pytest.mark.parametrize("reason", ["strings", "thresholds"])
def test_why_there_is_no_raw_signature(mixed, reason):
    frame, y = mixed
    if reason == "strings":
        est = make_pipeline(everyday(), LogisticRegression())
    else:
        frame = frame[["age", "member"]]
        est = RandomForestClassifier(3, max_depth=3, random_state=0)
    data = lower(converted(est.fit(frame, y), frame)[0], ABOUT)["model.tflite"]
    assert list(interpreter_of(data).get_signature_list()) == ["serve"]
    assert reason in metadata(data)["raw"]["reason"]


# --- what cannot be expressed -----------------------------------------------------------------------------------
def test_strings_as_answers_are_refused(mixed):
    est = SimpleImputer(strategy="constant", fill_value="?", missing_values=None).fit(mixed[0][["colour"]])
    with pytest.raises(FormatError, match="transform returns strings"):
        lower(converted(est, mixed[0][["colour"]])[0], ABOUT)


def test_isotonic_calibration_of_a_linear_model_is_refused():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 3))
    est = CalibratedClassifierCV(LogisticRegression(), method="isotonic", cv=2)
    est.fit(X, X[:, 0] + rng.normal(size=400) > 0)
    with pytest.raises(FormatError, match="isotonic calibration has steps too steep"):
        lower(converted(est, X)[0], ABOUT)


def test_constants_beyond_float32_are_refused():
    b = Builder()
    with b.step("huge"):
        b.output("predict", [b.linear(b.input("x", "float64"), [[1e200]])], "vector", "<f8")
    with pytest.raises(FormatError, match="step huge uses a constant beyond the range of float32"):
        lower(b.finish(), ABOUT)


def test_integers_beyond_int32_are_refused():
    b = Builder()
    b.output("transform", [b.input("n", "int64", 1)], "matrix", "<i8")
    with pytest.raises(FormatError, match="column n: its integers may be beyond the range of int32"):
        lower(b.finish(), ABOUT)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    b = Builder()
    b.output("predict", [b.linear(b.input("x", "float64"), [[2.0]])], "vector", "<f8")
    with pytest.raises(FormatError, match=r"ai-edge-litert(.|\n)*pip install"):
        lower(b.finish(), ABOUT)


def test_the_target_imports_its_library_late():
    code = "import sys; import edgeml.targets.tflite; assert not {'ai_edge_litert', 'flatbuffers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)
    assert tflite.MEMBER == "model.tflite"


def test_refused_rows_are_numbered_in_the_order_of_the_checks():
    b = Builder()
    x = b.input("x", "float64", 2)
    first = b.check_finite(x, "first")
    second = b.require(first, first <= 5.0, "too large")
    b.output("transform", [second], "matrix", "<f8")
    X = np.array([[1.0, 2.0], [NAN, 0.0], [9.0, 0.0], [INF, 9.0]])
    np.testing.assert_array_equal(graph_answers(b.finish(), {"x": X})["refused"], [0, 1, 2, 1])


def test_select_k_best_reads_only_what_it_keeps():
    X = np.random.default_rng(0).normal(size=(200, 9))
    est = make_pipeline(SelectKBest(k=2), LogisticRegression()).fit(X, X[:, 3] > 0)
    parts = halves(converted(est, X)[0])
    assert [(e.name, e.type.width) for e in parts.core.inputs] == [("features", 2)]
    with pytest.raises(InputError):  # the check of all nine columns stays in front
        interpreter.run(parts.front, {"X": np.where(np.arange(9) == 8, NAN, X[:1])})
    assert simplify(parts.core) == parts.core
