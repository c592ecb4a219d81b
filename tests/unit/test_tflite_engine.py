"""The TFLite engine: scikit-learn's answers from bundles, single rows, threads, refusals, and what may be missing."""

import importlib.metadata
import subprocess
import sys
import threading
import types

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from edgeml.errors import (
    EngineError,
    EngineNotInstalledError,
    ManifestError,
    NonFiniteError,
    OutOfRangeError,
    UnknownCategoryError,
)
from edgeml.ir import Builder
from edgeml.parity.leaves import leaf_program, sklearn_leaves
from edgeml.runtimes import tflite
from edgeml.runtimes.base import Model
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.tflite import TfliteEngine, load_runtime
from edgeml.runtimes.tflite_file import read_metadata
from tests.conformance.cases import CASES
from tests.oracle import reference
from tests.tflite_oracle import bundle_of, converted, worst_error
from tests.waiting import PATIENCE

# One of every kind; the whole table is the conformance suite's.
KINDS = (
    "logistic three classes", "sgd modified huber", "forest binary", "boosting three classes",
    "hist boosting native categories", "mlp binary", "k-means", "pca logistic", "float32 forest",
    "scaler and forest on integers", "voting hard", "stacking classification", "calibrated isotonic", "indicator",
)  # fmt: skip
# The largest error of float32 in answers of ordinary size; see worst_error for what it is relative to.
BOUND = 1e-5


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 500
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "income": np.where(rng.random(n) < 0.1, np.nan, rng.lognormal(10, 1, n)),
            "colour": rng.choice(["red", "green", "blue"], n).astype(object),
        }
    )


@pytest.fixture(scope="module")
def logistic(frame):
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="error"), ["colour"]),
    )
    y = np.where(frame["age"] + 20 * (frame["colour"] == "red") > 60, "old", "young")
    return make_pipeline(columns, LogisticRegression()).fit(frame, y)


def model_of(folder, pipeline, X, **options):
    bundle = bundle_of(folder / "m.edgeml", pipeline, X)
    return Model(bundle, TfliteEngine.open(bundle, 1, options))


# --- answers ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", KINDS)
def test_answers_of_every_kind(name, tmp_path):
    pipeline, X = next(case for case in CASES if case.name == name).fit()
    model = model_of(tmp_path, pipeline, X)
    for method, expected in reference(pipeline, X).items():
        actual = getattr(model, method)(X)
        assert actual.shape == expected.shape
        assert actual.dtype == expected.dtype
        if expected.dtype.kind == "f":
            assert worst_error(expected, actual, method) < BOUND, method
        else:
            np.testing.assert_array_equal(actual, expected)


def test_leaves_are_scikit_learns(frame, tmp_path):
    """On rows exactly at, and one float below and above, every threshold a tree compares with."""
    X = frame[["age", "income"]].to_numpy()
    est = RandomForestClassifier(20, random_state=0).fit(X, X[:, 0] > 50)
    splits = np.concatenate([t.tree_.threshold[t.tree_.feature == 1] for t in est.estimators_])
    rows = np.repeat(X[:3], len(splits), axis=0)
    rows[:, 1] = np.tile(splits, 3)
    above, below = rows.copy(), rows.copy()
    above[:, 1] = np.nextafter(rows[:, 1].astype(np.float32), np.float32(np.inf))
    below[:, 1] = np.nextafter(rows[:, 1], -np.inf)
    rows = np.concatenate([rows, above, below])
    program, _, _ = converted(est, X)
    probe = leaf_program(program)
    probe = probe.with_outputs([probe.outputs["leaves_0"]])
    engine = engine_of(tmp_path, probe, X)
    got = engine.run({"X": rows}, len(rows), ["leaves_0"])["leaves_0"]
    np.testing.assert_array_equal(got, sklearn_leaves(est, rows))


def engine_of(folder, program, X):
    from edgeml.bundle import open_bundle, write_bundle
    from edgeml.jsonutil import dumps
    from edgeml.targets.base import About
    from edgeml.targets.tflite import lower
    from tests.oracle import schema_of

    kinds = schema_of(X)
    members = lower(program, About("probe", 1, kinds))
    manifest = {
        "format_version": 1, "name": "probe", "version": 1, "estimator": "E", "classes": None, "missing": {},
        "methods": {o.name: {"form": o.form, "dtype": o.dtype} for o in program.outputs.values()},
        "artifacts": {"tflite": {"members": sorted(members), "bytes": sum(map(len, members.values()))}},
        "quantize": "none", "target": "generic", "profile_sha256": None, "versions": {},
    }  # fmt: skip
    empty = {"report.json": b"{}", "golden.json": b"{}", "golden.bin": b""}
    write_bundle(folder / "p.edgeml", manifest, {**members, **empty, "schema.json": dumps(kinds.to_json())})
    return TfliteEngine.open(open_bundle(folder / "p.edgeml"), 1)


def test_single_rows_are_the_batch(logistic, frame, tmp_path):
    model = model_of(tmp_path, logistic, frame)
    labels, proba = model.predict(frame), model.predict_proba(frame)
    for i in range(20):
        cells = frame.iloc[i].to_dict()
        assert model.predict_one(cells) == labels[i]
        assert type(model.predict_one(cells)) is type(labels[i])
        np.testing.assert_allclose(model.predict_proba_one(list(cells.values())), proba[i], rtol=1e-6)


def test_any_number_of_rows(logistic, frame, tmp_path):
    """Chunks, the last one short, and a change of size between calls."""
    model = model_of(tmp_path, logistic, frame)
    rows = pd.concat([frame] * 5, ignore_index=True)
    expected = logistic.predict_proba(rows)
    for count in (1, 7, 1023, 1024, 1025, 2500, 3):
        assert worst_error(expected[:count], model.predict_proba(rows[:count]), "predict_proba") < BOUND


def test_without_xnnpack(logistic, frame, tmp_path):
    model = model_of(tmp_path, logistic, frame, xnnpack=False)
    assert worst_error(logistic.predict_proba(frame), model.predict_proba(frame), "predict_proba") < BOUND


def test_threads_do_not_share_an_interpreter(logistic, frame, tmp_path):
    model = model_of(tmp_path, logistic, frame)
    expected, wrong = model.predict_proba(frame), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(15):
            rows = rng.integers(0, len(frame), rng.integers(1, 60))
            got = model.predict_proba(frame.iloc[rows])
            if np.abs(got - expected[rows]).max() > 1e-6:
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- refused rows ---------------------------------------------------------------------------------------------
def test_rows_that_scikit_learn_refuses(logistic, frame, tmp_path):
    model = model_of(tmp_path, logistic, frame)
    unknown = frame.head(6).assign(colour=["red", "red", "red", "pink", "red", "red"])
    with pytest.raises(UnknownCategoryError, match="row 3"):
        model.predict(unknown)
    infinite = frame.head(6).assign(income=[1.0, 2.0, np.inf, 3.0, 4.0, 5.0])
    with pytest.raises(NonFiniteError, match="row 2"):
        model.predict(infinite)
    with pytest.raises(UnknownCategoryError, match="row 0"):
        model.predict_one({"age": 3, "income": 1.0, "colour": "pink"})
    assert len(model.predict(frame)) == len(frame)  # and nothing is spoilt


def test_rows_beyond_float32(logistic, frame, tmp_path):
    model = model_of(tmp_path, logistic, frame)
    rows = frame.head(4).assign(income=[1.0, 2.0, 1e300, 3.0])
    assert logistic.predict(rows).shape == (4,)
    with pytest.raises(OutOfRangeError, match=r"row 2: .*float32(.|\n)*native"):
        model.predict(rows)


def test_answers_beyond_float32(tmp_path):
    X = np.random.default_rng(0).normal(size=(200, 1))
    est = PoissonRegressor().fit(X, np.exp(X[:, 0]))
    model = model_of(tmp_path, est, X)
    rows = np.array([[0.0], [1.0], [200.0]])
    assert np.isfinite(est.predict(rows)).all()
    with pytest.raises(OutOfRangeError, match="row 2: an answer is beyond the range of float32"):
        model.predict(rows)


def test_what_the_core_refuses_is_told_by_its_row(tmp_path):
    """A check behind an exponential stays in the graph; row 1,500 is in the second chunk."""
    b = Builder()
    x = b.exp(b.linear(b.input("X", "float64", 2), [[1.0], [0.0]]))
    y = b.linear(b.check_finite(x, "ridge (Ridge)"), [[2.0]])
    b.output("predict", [y], "vector", "<f8")
    X = np.zeros((2000, 2))
    engine = engine_of(tmp_path, b.finish(), X)
    assert (engine.run({"X": X}, 2000, ["predict"])["predict"] == 2).all()
    X[1500] = 200.0
    with pytest.raises(OutOfRangeError, match=r"row 1500: ridge \(Ridge\) .*float32"):
        engine.run({"X": X}, 2000, ["predict"])
    with pytest.raises(OutOfRangeError, match="row 0"):
        engine.one("predict")([200.0, 0.0])


# --- what may be missing or wrong -----------------------------------------------------------------------------
def test_no_runtime_is_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    with pytest.raises(EngineNotInstalledError, match=r"needs ai-edge-litert(.|\n)*pip install"):
        load_runtime()


def test_the_old_runtime_needs_the_old_numpy(monkeypatch):
    """It imports under NumPy 2 and fails later with a SystemError, so it is not even tried there."""
    old = types.ModuleType("tflite_runtime.interpreter")
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", old)
    monkeypatch.setattr(tflite.np, "__version__", "2.4.1")
    with pytest.raises(EngineNotInstalledError, match=r'NumPy 2 .*2\.4\.1(.|\n)*"numpy<2"'):
        load_runtime()
    monkeypatch.setattr(tflite.np, "__version__", "1.26.4")
    assert load_runtime() is old


def test_unknown_options(logistic, frame, tmp_path):
    bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame)
    with pytest.raises(EngineError, match=r"no option 'gpu'(.|\n)*delegate"):
        TfliteEngine.open(bundle, 1, {"gpu": True})
    with pytest.raises(EngineError, match=r"delegate 'nothing\.so' cannot be loaded"):
        TfliteEngine.open(bundle, 1, {"delegate": "nothing.so"})


def test_delegates_are_handed_on(logistic, frame, tmp_path, monkeypatch):
    runtime, seen = load_runtime(), {}

    def interpreter(**arguments):
        seen.update(arguments)
        return real(model_content=arguments["model_content"])

    real = runtime.Interpreter
    monkeypatch.setattr(runtime, "Interpreter", interpreter)
    bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame)
    delegate = object()
    TfliteEngine.open(bundle, 3, {"delegate": delegate})
    assert seen["experimental_delegates"] == [delegate]
    assert seen["num_threads"] == 3


def test_models_that_are_no_models(logistic, frame, tmp_path):
    def cut(members):
        members["model.tflite"] = members["model.tflite"][: len(members["model.tflite"]) // 2]

    def empty(members):
        members["model.tflite"] = b""

    def garbage(members):
        members["model.tflite"] = b"\xff" * 4096

    for change in (cut, empty, garbage):
        bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame, change)
        with pytest.raises((ManifestError, EngineError)):
            TfliteEngine.open(bundle, 1)


def test_metadata_is_read_without_trust(logistic, frame, tmp_path):
    bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame)
    data = bytes(bundle.member("model.tflite"))
    assert read_metadata(data, "edgeml", "model.tflite")["name"] == "small"
    with pytest.raises(ManifestError, match="no entry other"):
        read_metadata(data, "other", "model.tflite")
    rng = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 8):
            damaged[at] = rng.integers(0, 256)
        try:
            read_metadata(bytes(damaged), "edgeml", "model.tflite")
        except ManifestError:
            continue


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        *(
            ((name,), bad)
            for name in ("inputs", "outputs", "checks", "rows")
            for bad in (None, "x", {"a": 1}, [[]], -1.5)
        ),
        (("inputs",), {}),
        (("inputs",), []),
        *((("outputs", "predict", "labels"), bad) for bad in ([], ["x"], [[]], [["a"]], [[["a"], ["b"]]], 7)),
        *((("checks",), [bad]) for bad in ({}, {"op": "Require"}, {"op": "CheckFinite"}, 3)),
    ],
)
def test_metadata_of_another_form(logistic, frame, tmp_path, path, wrong, monkeypatch):
    """A file may be signed and say anything: what cannot be followed is a ManifestError when it is opened or run."""
    bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame)
    facts = read_metadata(bytes(bundle.member("model.tflite")), "edgeml", "model.tflite")
    entry = facts
    for key in path[:-1]:
        entry = entry[key]
    entry[path[-1]] = wrong
    monkeypatch.setattr("edgeml.runtimes.tflite.read_metadata", lambda *_: facts)
    columns, rows = read_rows(frame, bundle.schema)
    if path == ("rows",) and wrong == -1.5:
        assert len(TfliteEngine.open(bundle, 1).run(columns, rows, ["predict"])["predict"]) == rows
        return
    with pytest.raises(ManifestError):
        TfliteEngine.open(bundle, 1).run(columns, rows, ["predict"])


def test_a_refusal_that_no_check_explains(tmp_path):
    b = Builder()
    x = b.exp(b.linear(b.input("X", "float64", 2), [[1.0], [0.0]]))
    b.output("predict", [b.linear(b.check_finite(x, "ridge (Ridge)"), [[2.0]])], "vector", "<f8")
    engine = engine_of(tmp_path, b.finish(), np.zeros((5, 2)))
    with pytest.raises(ManifestError, match="there is no check 2"):
        raise engine._refusal(np.array([0, 2]), 0)


def test_a_front_of_another_model(logistic, frame, tmp_path):
    other = bundle_of(tmp_path / "o.edgeml", *forest(frame))

    def swap(members):
        for name in ("front/program.json", "front/arrays.bin"):
            members[name] = bytes(other.member(name))

    bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame, swap)
    with pytest.raises(ManifestError, match=r"front/program\.json: it does not give features"):
        TfliteEngine.open(bundle, 1)


def forest(frame):
    X = frame[["age"]].to_numpy()
    return RandomForestClassifier(2, max_depth=2, random_state=0).fit(X, X[:, 0] > 50), X


def test_a_device_needs_no_compiler(frame, tmp_path):
    """Opening and running imports neither scikit-learn nor the writer's libraries; one row of plain Python cells."""
    columns = make_column_transformer((OrdinalEncoder(), ["colour"]), ("passthrough", ["age", "income"]))
    est = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=4, categorical_features=[0]))
    est.fit(frame, frame["age"] > 50)
    bundle_of(tmp_path / "m.edgeml", est, frame)
    code = """
import sys
from edgeml.bundle import open_bundle
from edgeml.runtimes.tflite import TfliteEngine
bundle = open_bundle("m.edgeml")
one = TfliteEngine.open(bundle, 1).one("predict")
print(one({"age": 70, "income": 1e4, "colour": "red"}))
banned = {"sklearn", "pandas", "onnx", "onnxruntime", "pyarrow", "ai_edge_litert.schema_py_generated", "tensorflow"}
assert not banned & set(sys.modules), banned & set(sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    assert done.stdout.strip() == "True"


def test_the_runtime_that_was_tested():
    assert importlib.metadata.version("ai-edge-litert") >= "2"
    assert load_runtime().__name__ == "ai_edge_litert.interpreter"


def test_rows_are_read_as_for_every_engine(logistic, frame, tmp_path):
    """The engine takes what read_rows gives, string columns as objects."""
    bundle = bundle_of(tmp_path / "m.edgeml", logistic, frame)
    columns, rows = read_rows(frame, bundle.schema)
    got = TfliteEngine.open(bundle, 2).run(columns, rows, ["predict", "predict_proba"])
    np.testing.assert_array_equal(got["predict"], logistic.predict(frame))
    assert got["predict_proba"].dtype == np.float64
