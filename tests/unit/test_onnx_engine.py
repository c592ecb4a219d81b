"""OnnxEngine: scikit-learn's shapes and dtypes, batches in chunks, every refusal in EdgeML's words."""

import json
import math
import subprocess
import sys
import threading
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeml.errors import (
    ColumnTypeError,
    EngineError,
    EngineNotInstalledError,
    InputError,
    ManifestError,
    MissingColumnError,
    NonFiniteError,
    UnknownCategoryError,
)
from edgeml.ir import Builder, interpreter
from edgeml.runtimes import onnx as engine_module
from edgeml.runtimes.onnx import OLDEST, OnnxEngine
from edgeml.schema import Column, Schema
from edgeml.targets.base import About
from edgeml.targets.onnx import lower

NAN = math.nan


@dataclass
class FakeBundle:
    """As much of a bundle as an engine reads."""

    data: bytes
    manifest: dict
    schema: Schema
    path: str = "small.edgeml"
    members: dict = field(default_factory=dict)

    def member(self, name):
        assert name == "model.onnx"
        return memoryview(self.data)


def bundle_of(program, schema):
    methods = {o.name: {"form": o.form, "dtype": o.dtype} for o in program.outputs.values()}
    return FakeBundle(lower(program, About("small", 1, schema))["model.onnx"], {"methods": methods}, schema)


SCHEMA = Schema(
    "columns",
    (
        Column("color", "string", null="none"),
        Column("size", "float64"),
        Column("note", "any", used=False),
        Column("count", "int64"),
    ),
)


def program():
    """Labels as strings and small integers, checks of both kinds, a transform that mixes dtypes."""
    b = Builder()
    color, size = b.input("color", "string"), b.input("size", "float64")
    b.input("note", "string")
    count = b.input("count", "int64")
    with b.step("prep"):
        index = b.lookup(color, ("red", "blue", None, NAN))
        index = b.require(index, ~(index < 0), "an unknown category", "category")
    with b.step("fit"):
        X = b.check_finite(b.concat([count.cast("float64"), size]), "fit (LogisticRegression)")
    score = b.linear(X, [[1.0], [2.0]]) + index.cast("float64")
    b.output("predict", [b.take((score > 5.0).cast("int64"), ("no", "maybe"))], "vector", "<U5")
    b.output("predict_proba", [b.sigmoid(score), b.sigmoid(-score)], "matrix", "<f4")
    b.output("decision_function", [index], "vector", "<i4")
    b.output("transform", [color, score, b.concat([color, color]), count], "matrix", "|O")
    return b.finish()


def columns(rows=11):
    rng = np.random.default_rng(0)
    return {
        "color": rng.choice(np.array(["red", "blue", None, NAN], dtype=object), rows),
        "size": rng.normal(size=rows) * 3,
        "note": np.array([None] * rows, dtype=object),
        "count": rng.integers(0, 9, rows),
    }


def used(cols):
    return {k: v for k, v in cols.items() if k != "note"}


@pytest.fixture
def engine():
    return OnnxEngine.open(bundle_of(program(), SCHEMA), 1)


def cells(x):
    return [repr(c) for c in x.ravel()] if x.dtype == object else x.tolist()


@pytest.mark.parametrize("chunk", [1024, 11, 4, 1])
def test_results_equal_the_interpreter(engine, chunk, monkeypatch):
    monkeypatch.setattr(engine_module, "CHUNK", chunk)
    want = interpreter.run(program(), columns())
    got = engine.run(used(columns()), 11, list(want))
    assert set(got) == set(want)
    for name, expected in want.items():
        assert (got[name].dtype, got[name].shape) == (expected.dtype, expected.shape), name
        if name == "predict_proba":
            np.testing.assert_allclose(got[name], expected, rtol=1e-7)
        elif name == "transform":
            assert [cells(row) for row in got[name][:, [0, 2, 3, 4]]] == [
                cells(row) for row in expected[:, [0, 2, 3, 4]]
            ]
            np.testing.assert_allclose(got[name][:, 1].astype(float), expected[:, 1].astype(float), rtol=1e-12)
        else:
            assert got[name].tolist() == expected.tolist(), name


def test_a_caller_keeps_its_arrays(engine):
    cols = used(columns())
    before = {k: v.copy() for k, v in cols.items()}
    engine.run(cols, 11, ["transform"])
    assert {k: cells(v) for k, v in cols.items()} == {k: cells(v) for k, v in before.items()}


@pytest.mark.parametrize("row", [0, 3, 4, 10])
@pytest.mark.parametrize("chunk", [1024, 4])
def test_refused_rows_are_named(engine, row, chunk, monkeypatch):
    monkeypatch.setattr(engine_module, "CHUNK", chunk)
    for bad in (NAN, math.inf):
        cols = used(columns())
        cols["size"][[row, 10]] = bad
        with pytest.raises(
            NonFiniteError,
            match=rf"fit \(LogisticRegression\) was given NaN or infinity \(row {row}, its column 1\)",
        ):
            engine.run(cols, 11, ["predict"])
    cols = used(columns())
    cols["color"][[row, 10]] = "green"
    with pytest.raises(UnknownCategoryError, match=f"row {row}: an unknown category") as refused:
        engine.run(cols, 11, ["decision_function"])
    with pytest.raises(UnknownCategoryError) as expected:
        interpreter.run(program(), columns() | cols)
    assert str(refused.value) == str(expected.value)


def test_strings_that_onnx_cannot_hold(engine):
    for text, match in (
        ("\ufdd0None", "reserves for missing cells"),
        ("\ufdd0NaN", "row 2"),
        ("\ud800", "row 2: not valid Unicode"),
    ):
        cols = used(columns())
        cols["color"][2] = text
        with pytest.raises(ColumnTypeError, match=match):
            engine.run(cols, 11, ["predict"])


def test_a_model_that_reads_no_column():
    b = Builder()
    b.input("color", "string")
    b.output("predict", [b.constant([3])], "vector", "<i8")
    schema = Schema("columns", (Column("color", "string", used=False),))
    engine = OnnxEngine.open(bundle_of(b.finish(), schema), 1)
    assert engine.run({}, 5, ["predict"])["predict"].tolist() == [3] * 5
    assert engine.one("predict")({"color": "x"}) == 3


def test_matrix_of_floats():
    b = Builder()
    x = b.input("X", "float32", 3)
    b.output("predict", [b.sum(x)], "vector", "<f4")
    schema = Schema("matrix", tuple(Column(f"x{i}", "float32") for i in range(3)))
    engine = OnnxEngine.open(bundle_of(b.finish(), schema), 1)
    X = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3))
    assert engine.run({"X": X}, 2, ["predict"])["predict"].tolist() == [3.0, 12.0]
    assert engine.one("predict")([1.0, 2.0, 0.5]) == np.float32(3.5)


def test_one_row(engine):
    cols = columns()
    predict, proba = engine.one("predict"), engine.one("predict_proba")
    want = engine.run(used(cols), 11, ["predict", "predict_proba"])
    for i in range(11):
        row = {k: v[i] for k, v in cols.items()}
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in row.items()}
        for given in (row, plain, list(plain.values())):
            assert predict(given) == want["predict"][i]
            assert proba(given).tolist() == want["predict_proba"][i].tolist()
            assert proba(given).shape == (2,)
    assert isinstance(predict(plain), np.str_)


@pytest.mark.parametrize("null", ["nan", "none"])
def test_none_in_one_row_is_the_missing_cell_of_its_column(null):
    schema = Schema("columns", (Column("color", "string", null=null), *SCHEMA.columns[1:]))
    engine = OnnxEngine.open(bundle_of(program(), schema), 1)
    one = engine.one("decision_function")
    values = {"color": None, "size": 1.0, "note": None, "count": 3}
    assert one(values) == one(list(values.values())) == {"none": 2, "nan": 3}[null]


def test_one_row_is_refused_as_a_batch_is(engine):
    predict = engine.one("predict")
    row = {"color": "red", "size": 1.0, "note": 1, "count": 2}
    assert predict(row) == "no"
    for change, error in (
        ({"size": NAN}, NonFiniteError),
        ({"size": "wide"}, ColumnTypeError),
        ({"count": 2.5}, ColumnTypeError),
        ({"count": 2**70}, InputError),
        ({"color": "green"}, UnknownCategoryError),
        ({"color": "\ufdd0NaN"}, ColumnTypeError),
        ({"color": 3}, ColumnTypeError),
        ({"more": 1}, InputError),
    ):
        with pytest.raises(error):
            predict(row | change)
    with pytest.raises(MissingColumnError):
        predict({k: v for k, v in row.items() if k != "size"})


def test_any_thread_may_call():
    engine = OnnxEngine.open(bundle_of(program(), SCHEMA), 2)
    parts = [{k: np.resize(np.roll(v, i), 3000) for k, v in used(columns()).items()} for i in range(4)]
    alone = [engine.run(p, 3000, ["predict_proba"])["predict_proba"] for p in parts]
    results = [[] for _ in parts]

    def work(i):
        for _ in range(5):
            results[i].append(engine.run(parts[i], 3000, ["predict_proba"])["predict_proba"])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for expected, got in zip(alone, results, strict=True):
        assert len(got) == 5
        assert all(np.array_equal(g, expected) for g in got)


def test_onnxruntime_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineNotInstalledError, match=r'pip install "edgeml-sdk\[onnx\]"'):
        OnnxEngine.open(bundle_of(program(), SCHEMA), 1)


@pytest.mark.parametrize(
    ("version", "refused"),
    [("1.23.2", True), ("1.9.0", True), ("0.5", True), ("1.24.0rc1", False), ("1.24.4+cu12", False), ("2.0", False)],
)
def test_an_onnxruntime_that_adds_forests_wrongly_is_refused(version, refused, monkeypatch):
    monkeypatch.setattr("onnxruntime.__version__", version)
    if not refused:
        OnnxEngine.open(bundle_of(program(), SCHEMA), 1)
        return
    with pytest.raises(EngineError, match=f"needs onnxruntime 1.24 or newer and finds {version}"):
        OnnxEngine.open(bundle_of(program(), SCHEMA), 1)


def test_the_oldest_onnxruntime_is_the_one_that_pip_is_told_of():
    needed = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert needed["optional-dependencies"]["onnx"] == [f"onnxruntime>={OLDEST[0]}.{OLDEST[1]}"]


def test_a_model_that_cannot_be_read():
    bundle = bundle_of(program(), SCHEMA)
    good = bundle.data
    bundle.data = b"not a model"
    with pytest.raises(EngineError, match=r"cannot load model.onnx of small.edgeml"):
        OnnxEngine.open(bundle, 1)
    for key in ("edgeml.outputs", "edgeml.inputs", "edgeml.checks", "edgeml.missing_strings"):
        for value in (None, "{", "[]", "{}"):
            proto = onnx.load_from_string(good)
            for prop in list(proto.metadata_props):
                if prop.key == key:
                    proto.metadata_props.remove(prop)
                    if value is not None:
                        proto.metadata_props.add(key=key, value=value)
            bundle.data = proto.SerializeToString()
            if (key, value) in (("edgeml.inputs", "{}"), ("edgeml.checks", "{}")):
                continue  # a model may have neither
            with pytest.raises(ManifestError, match="metadata is malformed"):
                OnnxEngine.open(bundle, 1)


@pytest.mark.parametrize("wrong", [3, "x", [], {}, {"op": "Require"}, {"op": "CheckFinite", "width": None}])
def test_a_check_that_says_nothing(wrong):
    bundle = bundle_of(program(), SCHEMA)
    proto = onnx.load_from_string(bundle.data)
    entry = next(prop for prop in proto.metadata_props if prop.key == "edgeml.checks")
    entry.value = json.dumps(dict.fromkeys(json.loads(entry.value), wrong))
    bundle.data = proto.SerializeToString()
    with pytest.raises(ManifestError, match="metadata is malformed"):
        OnnxEngine.open(bundle, 1)


def test_import_needs_no_onnxruntime():
    code = (
        "import sys, edgeml.runtimes.onnx\nprint([m for m in ('onnxruntime', 'onnx', 'onnx_ir') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
