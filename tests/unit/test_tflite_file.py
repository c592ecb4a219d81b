"""The file that the TFLite target writes: its bytes, operators and signatures, and what it says of itself."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from ai_edge_litert import schema_py_generated as schema
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from edgeml.ir import Builder
from edgeml.targets.tflite import lower
from edgeml.targets.tflite_graph import Model, Quantization
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_pack import ALIGNMENT
from edgeml.targets.tflite_versions import version
from tests.tflite_oracle import (
    ABOUT,
    answers,
    code_table,
    converted,
    entry,
    everyday,
    interpreter_of,
    metadata,
    operators,
    read,
    worst_error,
)
from tests.waiting import PATIENCE


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
        [sys.executable, "-I", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    label, proba = json.loads(done.stdout)
    raw = pd.DataFrame([row]).astype({"member": bool})
    assert label == est.predict(raw)[0]
    np.testing.assert_allclose(proba, est.predict_proba(raw)[0], rtol=1e-5)
