"""Parity: awkward and boundary rows are what they claim, noise is told from errors, what always fails is left out."""

from __future__ import annotations

from copy import copy
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier, VotingRegressor
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, WhiteKernel
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeRegressor

import edgeml
from edgeml.compare import FLOAT64, compare
from edgeml.compiler import truths
from edgeml.converters import CONVERTERS, to_program
from edgeml.errors import EngineError, ParityError
from edgeml.ir import Builder
from edgeml.parity.awkward import awkward_rows, boundary_rows
from edgeml.parity.check import judge
from edgeml.parity.conditioning import ill_conditioned
from edgeml.parity.exponentials import off_by_a_unit
from edgeml.parity.golden_rows import GoldenRows
from edgeml.parity.rounding import determined
from edgeml.parity.splits import split_by_rounding
from edgeml.parity.truth import Truth, noise
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample, read_sample
from tests.conformance.cases import CASES


def test_awkward_rows_keep_the_dtypes_and_hold_what_they_should():
    pipeline, X = next(c for c in CASES if c.name == "logistic binary").fit()
    sample = read_sample(pipeline, X)
    rows = awkward_rows(sample, most=400).rows
    assert list(rows.dtypes) == list(X.dtypes)
    assert np.isinf(rows["income"]).any()
    assert np.signbit(rows["ratio"][rows["ratio"] == 0]).any()
    assert (rows["colour"] == "").any()
    assert (rows["colour"] == "never seen").any()
    assert (rows["age"] == 2**63 - 1).any()


@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean", "category", "string", "float32", "uint8"])
def test_awkward_rows_of_every_pandas_dtype(dtype):
    cells = ["a", "b"] * 20 if dtype in ("category", "string") else [0, 1] * 20
    frame = pd.DataFrame({"x": pd.array(cells, dtype=dtype)})
    rows = awkward_rows(read_sample(OneHotEncoder().fit(frame), frame), most=50).rows
    assert rows["x"].dtype == frame["x"].dtype


def test_boundary_rows_lie_on_thresholds_through_a_scaler():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)) * [1, 100, 1e-3]
    pipeline = make_pipeline(StandardScaler(), RandomForestClassifier(5, max_depth=4, random_state=0)).fit(
        X, X[:, 0] > 0
    )
    sample = read_sample(pipeline, X)
    program = to_program(pipeline, sample.schema, {"predict_proba": ("matrix", "<f8")})
    columns, _ = read_rows(X, sample.schema)
    rows = boundary_rows(program, sample, columns, most=40)
    thresholds = {
        (int(f), float(t))
        for e in pipeline[-1].estimators_
        for f, t in zip(e.tree_.feature, e.tree_.threshold, strict=True)
        if f >= 0
    }
    below, above = rows.rows[0::2], rows.rows[1::2]
    hit = 0
    for low, high in zip(below, above, strict=True):
        (at,) = np.flatnonzero(low != high)
        assert high[at] == np.nextafter(low[at], np.inf)
        a, b = (float(pipeline[0].transform([r])[0, at].astype(np.float32)) for r in (low, high))
        assert any(f == at and a <= t < b for f, t in thresholds)
        hit += 1
    assert hit >= 10


def test_noise_is_excused_and_errors_are_not():
    X = load_digits().data
    pipeline = make_pipeline(StandardScaler(), KMeans(200, n_init=1, random_state=0)).fit(X)
    sample = read_sample(pipeline, X)
    distances = pipeline.transform(X)
    nearest = np.argwhere(distances < 1e-6)
    assert len(nearest), "the data has no one-member cluster"
    noisy = distances.copy()
    noisy[tuple(nearest[0])] += 1e-7
    assert ill_conditioned(pipeline, sample, "transform", distances, noisy, 1e-9) == (1, 0.0)
    wrong = distances * (1 + 1e-8)
    assert ill_conditioned(pipeline, sample, "transform", distances, wrong, 1e-9)[1] > 5e-9


def test_numpys_own_exponentials_are_noise():
    """Of probabilities near 1, 1 - p keeps the digits that numpy.exp has on this processor."""
    X, y = load_wine(return_X_y=True)
    X = StandardScaler().fit_transform(X)
    model = OneVsRestClassifier(GaussianNB()).fit(X, y > 0)
    sample, expected = read_sample(model, X), model.predict_proba(X)
    near = np.argmin(np.where(expected[:, 0] > 1e-12, expected[:, 0], 1.0))
    other = expected.copy()
    other[near] += [2.0**-53, -(2.0**-53)]
    assert compare(expected, other, "predict_proba").max_rel > 1e-9
    assert ill_conditioned(model, sample, "predict_proba", expected, other, 1e-9) == (1, 0.0)
    assert ill_conditioned(model, sample, "predict_proba", expected, expected * (1 + 1e-8), 1e-9)[1] > 5e-9


def test_exponentials_off_by_a_unit():
    x = np.array([-1e-10, -3.0, 2.0, 0.0, -800.0, 800.0, np.nan])
    with np.errstate(all="ignore"):
        exact, before = np.exp(x), np.exp
        with off_by_a_unit(np.random.default_rng(0)):
            found = [np.exp(x) for _ in range(40)]
            out = np.empty_like(x)
            assert np.exp(x, out=out) is out
            assert isinstance(np.exp(1.0), float)
    assert np.exp is before
    assert len(np.unique([f[:3] for f in found], axis=0)) > 9
    for f in found:
        np.testing.assert_array_equal(f[3:], exact[3:])
        assert (np.abs(f[:3] - exact[:3]) <= np.spacing(exact[:3])).all()


def test_linear_errors_are_never_noise():
    X = np.random.default_rng(0).normal(size=(50, 3))
    model = LinearRegression().fit(X, X @ [1.0, 2.0, 3.0])
    expected = model.predict(X)
    sample = Sample(X, read_sample(model, X).schema)
    assert ill_conditioned(model, sample, "predict", expected, expected * (1 + 3e-9), 1e-9)[1] > 1e-9


@pytest.mark.parametrize("format_", ["native", "onnx"])
@pytest.mark.parametrize(
    ("model", "weight"),
    [
        (Ridge(), "coef_"),
        (SVR(C=10.0), "_dual_coef_"),
        (GaussianProcessRegressor(RBF() + WhiteKernel(), optimizer=None), "alpha_"),
        (GaussianProcessRegressor(RBF() + WhiteKernel(), optimizer=None), "L_"),
    ],
    ids=["Ridge", "SVR", "GPR", "GPR deviations"],
)
def test_a_weight_that_is_slightly_off_is_never_excused(model, weight, format_, tmp_path, monkeypatch):
    """By 1e-7, where scikit-learn's own answers are known to 1e-12."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 4))
    model.fit(X, X[:, 0] + np.sin(X[:, 1]) + rng.normal(size=80) * 0.1)
    entry = CONVERTERS[f"sklearn.{type(model).__name__}"]

    def broken(c, est, block):
        est = copy(est)
        cells = np.array(getattr(est, weight))
        cells.flat[np.abs(cells).argmax()] *= 1 + 1e-7
        setattr(est, weight, cells)
        return entry.convert(c, est, block)

    monkeypatch.setitem(CONVERTERS, entry.key, replace(entry, convert=broken))
    with pytest.raises(ParityError, match=rf"{format_} engine, sample: predict.*: relative error"):
        edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=[format_])


def test_a_formula_that_cancels_where_that_of_scikit_learn_does_not_is_never_excused(tmp_path, monkeypatch):
    """Rounding of the program's own that scikit-learn does not have is an error of the converter."""
    X = np.random.default_rng(0).normal(size=(80, 4))
    model = Ridge().fit(X, X[:, 0] + 1.0)
    entry = CONVERTERS["sklearn.Ridge"]

    def cancels(c, est, block):
        outputs = entry.convert(c, est, block)
        far = c.builder.linear(outputs["predict"], np.eye(1), np.array([1e8]))
        return {"predict": c.builder.linear(far, np.eye(1), np.array([-1e8]))}

    monkeypatch.setitem(CONVERTERS, entry.key, replace(entry, convert=cancels))
    with pytest.raises(ParityError, match=r"native engine, sample: predict: relative error"):
        edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"])


@pytest.mark.parametrize(
    "pipeline", [PCA(), PCA(whiten=True), make_pipeline(StandardScaler(), KMeans(200, n_init=1, random_state=0))]
)
def test_singular_and_noisy_estimators_compile(pipeline, tmp_path):
    X = load_digits().data
    bundle = edgeml.compile(pipeline.fit(X), X, output=tmp_path / "m.edgeml")
    report = bundle.json("report.json")
    if isinstance(pipeline, PCA):
        assert "score_samples" not in bundle.manifest["methods"]
        assert "singular" in report["methods_left_out"]["score_samples"]


class _RefusesSingles:
    """Answers a batch and refuses a row alone, as a pipeline whose frames change dtype with their rows may."""

    def predict(self, X):
        if len(X) == 1 and X[0, 0] == 3.0:
            raise ValueError("Found unknown categories [None]")
        return X[:, 0] * (1.0 if len(X) > 1 else 1.0 + 1e-12)


def test_noise_passes_over_a_row_that_scikit_learn_refuses_alone():
    X = np.arange(8.0)[:, None]
    sample = read_sample(LinearRegression().fit(X, X[:, 0]), X)
    assert 5e-13 < noise(_RefusesSingles(), sample, "predict") < 2e-12


def _voting(dtype):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(300, 5)).astype(dtype)
    y = X[:, 0] * 2 + rng.normal(size=300)
    return VotingRegressor([("a", Ridge()), ("b", DecisionTreeRegressor(max_depth=3))]).fit(X, y), X


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 1e-5), ("float64", 1e-9)])
def test_float64_answers_that_stand_on_float32_sums_have_the_bound_of_float32(dtype, bound, tmp_path):
    pipeline, X = _voting(dtype)
    assert pipeline.predict(X).dtype == np.float64
    bundle = edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    assert bundle.json("report.json")["bounds"]["predict"] == bound
    edgeml.verify(tmp_path / "m.edgeml")


def test_small_float32_probabilities_are_known_to_some_units_of_one():
    expected = np.array([[0.00102973, 0.99897027]], dtype=np.float32)
    actual = expected + np.array([[2**-24, -(2**-24)]], dtype=np.float32)
    assert 0 < compare(expected, actual, "predict_proba").max_rel < 1e-5
    assert compare(np.log(expected), np.log(actual), "predict_log_proba").max_rel < 1e-5
    assert compare(expected, actual + np.float32(1e-6), "predict_proba").max_rel > 1e-5
    assert compare(expected.astype(float), actual.astype(float), "predict_proba").max_rel > 1e-5


def test_determined_columns():
    builder = Builder()
    x = builder.input("X", "float64", 2)
    score = builder.op("Linear", x, weight=np.ones((2, 1)), bias=np.zeros(1))
    joined = builder.concat([x / np.array([2.0, 3.0]), score])
    builder.output("y", [joined, joined.select([2, 0])], "matrix", "<f8")
    program = builder.finish()
    known = determined(program)
    both = [known[v].tolist() for v in program.outputs["y"].values]
    assert both == [[True, True, False], [False, True]]


def test_no_boundary_rows_of_a_feature_that_has_no_last_bit(tmp_path):
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(60, 1)) * 2) / 2
    y = (X[:, 0] + rng.normal(size=60) * 0.3 > 0).astype(int)
    forest = RandomForestClassifier(4, random_state=0)
    stacked = StackingClassifier([("a", LogisticRegression())], forest, cv=2).fit(X, y)
    sample = read_sample(stacked, X)
    program = to_program(stacked, sample.schema, {"predict_proba": ("matrix", "<f8")})
    columns, _ = read_rows(X, sample.schema)
    assert boundary_rows(program, sample, columns, most=40) is None
    edgeml.compile(stacked, X, output=tmp_path / "m.edgeml")


def test_golden_rows_that_are_noise_are_left_out():
    expected = np.array([1.0, 2.0, 3.0, 4.0])
    golden = GoldenRows(
        {"X": np.arange(5.0)[:, None]}, {"decision_function": expected}, np.array([False, False, False, False, True])
    )

    class Off:
        class _engine:
            @staticmethod
            def run(columns, rows, methods):
                assert rows == len(columns["X"]) == 4
                return {"decision_function": expected * np.array([1, 1 + 1e-6, 1, 1])}

    kept = golden.settled([(Off, FLOAT64)], {"decision_function": 1e-9})
    assert kept.columns["X"][:, 0].tolist() == [0.0, 2.0, 3.0, 4.0]
    assert kept.outputs["decision_function"].tolist() == [1.0, 3.0, 4.0]
    assert kept.refused.tolist() == [False, False, False, True]


def test_a_pipeline_that_magnifies_rounding_is_named_as_such(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(20, 30))[rng.integers(0, 20, 200)]
    y = (X[:, 0] > 0).astype(int)
    pipeline = make_pipeline(PCA(25, whiten=True), LogisticRegression(C=1e6)).fit(X, y)
    pipeline[-1].coef_ += 1.0  # the last components are nothing but noise, divided by nearly nothing
    with pytest.raises(ParityError, match=r"scikit-learn's own decision_function .* magnifies rounding"):
        edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    assert not list(tmp_path.iterdir())


def test_noise_without_a_measure_is_reported(tmp_path, monkeypatch):
    """A category that a row has in a batch and not alone: JSON has no infinity."""
    monkeypatch.setattr(truths, "noise", lambda *a: np.inf)
    X = np.random.default_rng(1).normal(size=(40, 3))
    with edgeml.compile(PCA(2).fit(X), X, output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        assert bundle.json("report.json")["noise"]["transform"] > 1e300


@pytest.mark.parametrize(("estimator", "step"), [(SVC(), "SVC"), (make_pipeline(StandardScaler(), SVC()), "svc")])
def test_a_stand_in_of_skl2onnx_that_disagrees_is_named(estimator, step, tmp_path, monkeypatch):
    monkeypatch.delitem(CONVERTERS, "sklearn.SVC")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4))
    with pytest.raises(ParityError, match=rf"no converter for {step}: it was converted by skl2onnx"):
        edgeml.compile(estimator.fit(X, (X[:, 0] > 0).astype(int)), X, output=tmp_path / "m.edgeml")


def test_an_engine_that_fails_is_a_finding():
    X = np.arange(12.0).reshape(6, 2)
    pipeline = LinearRegression().fit(X, X[:, 0])
    sample = read_sample(pipeline, X)

    class Broken:
        engine = "onnx"

        def predict(self, rows):
            raise EngineError("onnxruntime failed: index is out of range")

    outputs = {"predict": pipeline.predict(X)[:5]}
    truth = Truth(outputs, np.array([False] * 5 + [True]), "ValueError: negative values")
    found = judge(Broken(), sample, truth, {"predict": 1e-9}, "sample")
    assert found.problems[0] == "predict fails: onnxruntime failed: index is out of range"
    assert found.problems[1].startswith("row 5 of the sample fails (onnxruntime failed")


def _rows_on_splits(first, tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 4)) @ rng.normal(size=(4, 4))
    y = (X[:, 0] + X[:, 1] ** 2 + rng.normal(size=600) > 1).astype(int)
    pipeline = make_pipeline(first, HistGradientBoostingClassifier(max_iter=5)).fit(X, y)
    bundle = edgeml.compile(pipeline, X, output=tmp_path / "m.edgeml")
    edgeml.verify(tmp_path / "m.edgeml")
    return pipeline, X, bundle


@pytest.mark.parametrize("first", [PCA(2), Normalizer(), KMeans(3, n_init=1, random_state=0)])
def test_training_rows_that_lie_on_a_split_up_to_rounding_are_counted_not_judged(first, tmp_path):
    _, _, bundle = _rows_on_splits(first, tmp_path)
    report = bundle.json("report.json")
    assert 0 < report["undetermined_rows"]["sample"] < 300
    assert report["leaves"]["sklearn"] == 0


def test_every_row_is_judged_where_a_tree_reads_what_is_known_to_the_last_bit(tmp_path):
    _, _, bundle = _rows_on_splits(StandardScaler(), tmp_path)
    assert set(bundle.json("report.json")["undetermined_rows"].values()) == {0}


def test_rows_split_by_rounding_are_those_near_a_threshold(tmp_path):
    pipeline, X, bundle = _rows_on_splits(PCA(2), tmp_path)
    program = to_program(pipeline, bundle.schema, {"predict_proba": ("matrix", "<f8")})
    z = pipeline[:-1].transform(X)
    near = np.zeros(len(X), dtype=bool)
    for (predictor,) in pipeline[-1]._predictors:
        inner = predictor.nodes[predictor.nodes["is_leaf"] == 0]
        for f, t in zip(inner["feature_idx"], inner["num_threshold"], strict=True):
            near |= np.abs(z[:, f] - t) < 1e-12
    assert near.any()
    assert split_by_rounding(program, {"X": X}).tolist() == near.tolist()
