"""The TFLite target: the split, accuracy, the raw signature, the file, what it says of itself, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from ai_edge_litert import schema_py_generated as schema
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from edgeml.errors import FormatError, InputError, OutOfRangeError
from edgeml.ir import Builder, interpreter
from edgeml.passes import simplify
from edgeml.targets import tflite
from edgeml.targets.tflite import lower
from edgeml.targets.tflite_graph import Model, Quantization
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_pack import ALIGNMENT
from edgeml.targets.tflite_versions import version
from tests.oracle import columns_of
from tests.tflite_oracle import (
    ABOUT,
    answers,
    code_table,
    converted,
    entry,
    graph_answers,
    halves,
    interpreter_of,
    metadata,
    operators,
    program_answers,
    read,
    worst_error,
)

NAN, INF = np.nan, np.inf


# --- the split ----------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def mixed():
    rng = np.random.default_rng(3)
    n = 400
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.where(rng.random(n) < 0.1, NAN, rng.lognormal(10, 1, n)),
            "colour": pd.Series(rng.choice(["red", "green", "", "\U0001f600"], n), dtype=object),
            "member": rng.random(n) < 0.4,
        }
    )
    frame.loc[::17, "colour"] = None
    y = np.where(frame["income"].fillna(2e4) / 2e4 + frame["member"] + rng.normal(size=n) > 2, "yes", "no")
    return frame, y


def everyday():
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        ("passthrough", ["member"]),
    )


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


# --- the file ---------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    est = make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=30, random_state=0))
    with pytest.warns(match="converge"):
        est.fit(X[:1200], y[:1200])
    program, _, expected = converted(est, X)
    return est, X, program, lower(program, ABOUT)["model.tflite"], expected


def test_every_buffer_is_aligned(digits):
    data = digits[3]
    model = schema.Model.GetRootAs(data, 0)
    checked = 0
    for number in range(model.BuffersLength()):
        table = model.Buffers(number)._tab
        field = table.Offset(4)
        if field:
            checked += 1
            assert table.Vector(field) % ALIGNMENT == 0
    assert checked > 8
    assert data[4:8] == b"TFL3"


def test_equal_programs_give_equal_bytes(digits):
    again = converted(digits[0], digits[1])[0]
    assert lower(again, ABOUT)["model.tflite"] == digits[3]


def test_digits_network_is_small_and_exact(digits):
    _, X, _, data, expected = digits
    assert len(data) < 35_000
    got = answers(data, {"X": X.astype(np.float32)}, "raw", xnnpack=True)
    np.testing.assert_array_equal(got["predict"], expected["predict"])
    assert worst_error(expected["predict_proba"], got["predict_proba"], "predict_proba") < 1e-5


def test_batch_is_dynamic_and_signature_names_are_there(digits):
    running = interpreter_of(digits[3])
    assert running.get_signature_list()["serve"] == {
        "inputs": ["features"],
        "outputs": ["predict", "predict_log_proba", "predict_proba"],
    }
    details = running.get_input_details()[0]
    assert details["shape_signature"].tolist() == [-1, 64]
    for rows in (1, 3, 50, 2):
        running.resize_tensor_input(details["index"], [rows, 64])
        running.allocate_tensors()
        running.invoke()
        shapes = {d["name"]: running.get_tensor(d["index"]).shape for d in running.get_output_details()}
        assert shapes == {"predict": (rows,), "predict_proba": (rows, 10), "predict_log_proba": (rows, 10)}


def test_operator_versions(digits):
    found = dict(operators(digits[3]))
    assert found["FULLY_CONNECTED"] == 1
    assert version("FULLY_CONNECTED", ["float32", "int8", "float32"], "float32", {}, True) == 12
    assert version("FULLY_CONNECTED", ["float32", "int8", "float32"], "float32", {}) == 3
    assert version("FULLY_CONNECTED", ["int8", "int8", "int32"], "int8", {}, True) == 10
    assert version("FULLY_CONNECTED", ["int8", "int8", "int32"], "int8", {}) == 4
    assert version("GATHER", ["int32", "int32"], "int32", {"batchDims": 1}) == 5
    assert version("GATHER", ["int16", "int32"], "int16", {"batchDims": 0}) == 4
    assert version("QUANTIZE", ["float32"], "int16", {}) == 2
    assert version("DEQUANTIZE", ["int8"], "float32", {}, True) == 5


def test_forest_uses_the_versions_its_operators_need():
    X = np.random.default_rng(0).normal(size=(600, 3))
    est = RandomForestRegressor(3, random_state=0).fit(X, X.sum(axis=1))
    found = set(operators(lower(converted(est, X)[0], ABOUT)["model.tflite"]))
    assert {("GATHER", 5), ("GATHER", 4), ("GATHER", 1)} <= found


def test_a_newer_operator_is_refused_by_the_runtime():
    """What the versions are for: a runtime that does not know one says so instead of guessing."""
    b = Builder()
    b.output("out", [b.exp(b.input("x", "float64", 1))], "matrix", "<f8")
    model = Model("test")
    Lowering(model, b.finish(), "serve")
    packed = read(model.to_bytes())
    packed.operatorCodes[0].version = 99
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(packed.Pack(builder), b"TFL3")
    with pytest.raises((RuntimeError, ValueError), match="version"):
        interpreter_of(bytes(builder.Output())).allocate_tensors()


def test_quantised_tensors_can_be_written():
    """The seam for the quantised forms: QUANTIZE, an int8 layer with a scale a channel, DEQUANTIZE."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 6)).astype(np.float32)
    scale = np.abs(weight).max(axis=1) / 127
    model = Model("int8")
    g = model.graph("serve")
    x = g.input("x", "float32", (-1, 6))
    inner, outer = Quantization((2 / 127,), (0,)), Quantization((0.1,), (3,))
    q = g.op("QUANTIZE", [x], x.shape, "int8", quantization=inner)
    stored = np.round(weight / scale[:, None]).astype(np.int8)
    weights = g.constant(stored, Quantization(tuple(scale.tolist()), (0,) * 4))
    bias_scale = tuple((scale * 2 / 127).tolist())
    bias = g.constant(np.zeros(4, np.int32), Quantization(bias_scale, (0,) * 4))
    y = g.op("FULLY_CONNECTED", [q, weights, bias], (-1, 4), "int8", quantization=outer)
    g.outputs["y"] = g.op("DEQUANTIZE", [y], (-1, 4), "float32", name="y")
    data = model.to_bytes()
    assert dict(operators(data))["FULLY_CONNECTED"] == 10
    X = rng.uniform(-2, 2, (50, 6)).astype(np.float32)
    np.testing.assert_allclose(answers(data, {"x": X})["y"], X @ weight.T, atol=0.12)


# --- what it says of itself -------------------------------------------------------------------------------------
def test_metadata_has_the_code_tables(mixed):
    frame, y = mixed
    est = make_pipeline(everyday(), LogisticRegression()).fit(frame, y)
    facts = metadata(lower(converted(est, frame)[0], ABOUT)["model.tflite"])
    assert facts["outputs"]["predict"]["labels"] == [["no", "yes"]]
    (features,) = facts["inputs"]["features"]
    assert features["from"] == ["age", "income"]
    assert features["step"] == "columntransformer/pipeline/standardscaler"
    member, colour = facts["inputs"]["codes"]
    assert member["from"] == ["member"]
    codes = code_table(colour["codes"][0])
    encoder = est[0].named_transformers_["onehotencoder"].categories_[0].tolist()
    assert codes == {repr(c): i for i, c in enumerate(encoder)} | {"other": -1}


def test_metadata_says_which_strings_are_refused(mixed):
    frame, y = mixed
    frame = frame.assign(size=np.array(["s", "m", "l"], dtype=object)[np.arange(len(frame)) % 3])
    columns = make_column_transformer((OrdinalEncoder(), ["colour", "size"]), ("passthrough", ["member"]))
    est = make_pipeline(columns, RandomForestClassifier(3, random_state=0)).fit(frame, y)
    facts = metadata(lower(converted(est, frame)[0], ABOUT)["model.tflite"])
    table = next(group for group in facts["inputs"]["codes"] if "colour" in group["from"])["codes"][0]
    codes = code_table(table)
    assert codes["other"] is None
    assert codes["'red'"] is not None


def test_metadata_has_the_edges_of_ranks():
    X = np.random.default_rng(0).integers(0, 9, (300, 3)).astype(float)
    est = RandomForestClassifier(4, max_depth=3, random_state=0).fit(X, X[:, 0] > X[:, 2])
    data = lower(converted(est, X)[0], ABOUT)["model.tflite"]
    (group,) = metadata(data)["inputs"]["codes"]
    edges = [np.frombuffer(entry(data, "edgeml_edges"), d, count, start) for d, start, count in group["edges"]]
    assert {e.dtype.name for e in edges} == {"float16"}  # halves, exactly
    splits = [pair for e in est.estimators_ for pair in zip(e.tree_.feature, e.tree_.threshold, strict=True)]
    thresholds = [{t for f, t in splits if f == j} for j in group["from"]]
    assert [set(e.tolist()) for e in edges] == thresholds


def test_a_model_runs_without_edgeml(tmp_path, mixed):
    """Stock LiteRT, and what the metadata says, are enough to answer for a raw row."""
    frame, y = mixed
    est = make_pipeline(everyday(), LogisticRegression()).fit(frame, y)
    (tmp_path / "model.tflite").write_bytes(lower(converted(est, frame)[0], ABOUT)["model.tflite"])
    scaler = est[0].named_transformers_["pipeline"][1]
    row = {"age": 40.0, "income": 3e4, "colour": "red", "member": 1}
    program = f"""
import json, sys
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
data = open("model.tflite", "rb").read()
model = schema.ModelT.InitFromPackedBuf(data, 0)
facts = json.loads(bytes(model.buffers[next(m.buffer for m in model.metadata if m.name == b"edgeml")].data))
mean, scale, row = {scaler.mean_.tolist()}, {scaler.scale_.tolist()}, {row!r}
features = [(row[n] - m) / s for n, m, s in zip(facts["inputs"]["features"][0]["from"], mean, scale)]
codes = []
for group in facts["inputs"]["codes"]:
    cell = row[group["from"][0]]
    if "codes" in group:
        cells, first, other = group["codes"][0]
        cell = first + cells.index(cell) if cell in cells else other
    codes.append(cell)
run = Interpreter(model_content=data).get_signature_runner("serve")
out = run(features=np.array([features], np.float32), codes=np.array([codes], np.int32))
label = facts["outputs"]["predict"]["labels"][0][int(out["predict"][0])]
assert "edgeml" not in sys.modules
print(json.dumps([label, out["predict_proba"][0].tolist()]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=120
    )
    label, proba = json.loads(done.stdout)
    raw = pd.DataFrame([row]).astype({"member": bool})
    assert label == est.predict(raw)[0]
    np.testing.assert_allclose(proba, est.predict_proba(raw)[0], rtol=1e-5)


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
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
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
