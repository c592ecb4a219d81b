"""Models run by stock runtimes in a process without EdgeML: that the process is what it says, and the answers."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.ensemble import StackingRegressor
from sklearn.linear_model import PoissonRegressor, Ridge

import edgeml
from edgeml.compare import compare
from tests import stock
from tests.conformance.cases import CASES
from tests.oracle import reference
from tests.stock import worker
from tests.stock.client import Worker
from tests.tflite_oracle import bundle_of, worst_error

ROOT = Path(__file__).resolve().parents[2]
KINDS = (
    "logistic binary", "forest three classes grown out", "hist boosting native categories", "mlp three classes tanh",
    "k-means", "scaler and forest on integers", "voting hard", "calibrated isotonic", "transformer only",
)  # fmt: skip


@pytest.fixture
def another():
    process = Worker()
    yield process
    process.close()


def test_the_process_has_the_runtimes_and_nothing_of_edgeml():
    facts = stock.about("edgeml", "edgeml.runtimes", "sklearn", "onnx", "pandas", *worker.PACKAGES)
    assert {n for n, error in facts["errors"].items() if error is None} == set(worker.PACKAGES)
    outside = {m.partition(".")[0] for m in facts["modules"]} - set(sys.stdlib_module_names) - set(worker.PACKAGES)
    assert outside == {"__main__"}
    ours = [f for f in facts["files"] if Path(f).is_relative_to(ROOT) and "site-packages" not in f]
    assert ours == [worker.__file__]


@pytest.mark.parametrize("name", KINDS)
def test_answers_of_both_formats(name, tmp_path):
    pipeline, X = next(case for case in CASES if case.name == name).fit()
    edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml").close()
    given = stock.answers(tmp_path / "m.edgeml", X)
    assert set(given) == {"onnx", "tflite"}
    for method, want in reference(pipeline, X).items():
        for form in given:
            got = given[form][method]
            assert got.dtype == want.dtype, (form, method)
            if form == "tflite" and want.dtype.kind == "f":
                assert worst_error(want, got, method) <= 1e-5, method
            else:
                difference = compare(want, got, method)
                assert (difference.flips, difference.max_rel <= 1e-9) == (0, True), (form, method, difference)


def test_another_model_gives_other_answers(tmp_path):
    """The comparison has teeth: the bundle of a model with one changed coefficient does not pass for the first."""
    pipeline, X = next(case for case in CASES if case.name == "pca logistic").fit()
    want = pipeline.predict_proba(X)
    pipeline[-1].coef_[0, 0] += 1e-3
    bundle_of(tmp_path / "m.edgeml", pipeline, X).close()
    assert worst_error(want, stock.answers(tmp_path / "m.edgeml", X)["tflite"]["predict_proba"]) > 1e-5


def test_rows_in_parts_and_at_once(tmp_path):
    pipeline, X = next(case for case in CASES if case.name == "pca logistic").fit()
    with edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml", formats=["onnx"]) as bundle:
        model = bytes(bundle.member("model.onnx"))
    feeds = {"X": np.ascontiguousarray(X, dtype=np.float64)}
    at_once, parts = stock.onnx(model, feeds), stock.onnx(model, feeds, rows=13)
    assert at_once.keys() == parts.keys()
    assert all(np.array_equal(at_once[name], parts[name]) for name in at_once)


def test_errors_are_the_runtimes_own_and_cost_nothing(tmp_path):
    before = stock.about()["pid"]
    with pytest.raises(stock.StockError, match="protobuf parsing failed"):
        stock.onnx(b"no model", {})
    with pytest.raises(stock.StockError, match="ValueError"):
        stock.tflite(b"no model", {})
    X = np.linspace(0, 3, 60).reshape(-1, 1)
    stack = StackingRegressor([("exponential", PoissonRegressor(alpha=0))], Ridge()).fit(X, np.exp(X[:, 0]))
    bundle_of(tmp_path / "m.edgeml", stack, X).close()
    with pytest.raises(stock.StockError, match="row 1 is refused"):  # an exponential that float32 cannot hold
        stock.answers(tmp_path / "m.edgeml", np.array([[1.0], [200.0]]))
    assert stock.about()["pid"] == before


def test_a_process_that_dies_is_one_error(another):
    pid = another.ask({"kind": "about", "names": []})[0]["pid"]
    with pytest.raises(stock.StockError, match=r"code -11: .*Segmentation fault"):
        another.ask({"kind": "die"})
    assert another.ask({"kind": "about", "names": []})[0]["pid"] != pid


@pytest.mark.parametrize(
    "x",
    [
        np.array([[1.5], [np.nan]]),
        np.zeros((0, 3), np.float32),
        np.array([True, False]),
        np.array([["a"], ["\U0001f600"], [""], ["\ufdd0None"]], dtype=object),
        np.array(7, np.int64),
        np.arange(6, dtype=np.float64).reshape(2, 3).T,
    ],
    ids=["float64", "no rows", "bool", "strings", "scalar", "transposed"],
)
def test_messages(x):
    stream = io.BytesIO()
    worker.send(stream, {"kind": "onnx"}, [("x", x), ("y", x)], b"model")
    stream.seek(0)
    head, arrays, model = worker.receive(stream)
    assert (head, model, list(arrays)) == ({"kind": "onnx"}, b"model", ["x", "y"])
    for got in arrays.values():
        assert (got.dtype, got.shape) == (x.dtype, x.shape)
        np.testing.assert_array_equal(got, x)
    with pytest.raises(EOFError):
        worker.receive(stream)
