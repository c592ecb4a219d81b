"""compile with quantisation that rounds: the budget is kept or refused, the report says how, verify follows it."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier, VotingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

import edgeml
from edgeml import errors
from edgeml.bundle import write_bundle
from edgeml.jsonutil import dumps
from edgeml.quantize.forms import ROUNDING
from edgeml.runtimes.verify_budget import most_flips
from tests.quantize_tools import compiled, numbers, quantization


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlp = make_pipeline(StandardScaler(), MLPClassifier((64, 32), random_state=0, max_iter=300)).fit(X[::2], y[::2])
    return mlp, X, y


@pytest.mark.parametrize("mode", ROUNDING)
def test_every_mode_keeps_its_budget_and_says_so(mode, digits, tmp_path):
    mlp, X, y = digits
    budget = edgeml.Budget(label_flips=0.005)
    bundle = compiled(tmp_path, mlp, X, y, quantize=mode, budget=budget, formats=["native"])
    report = quantization(bundle)
    assert bundle.manifest["quantize"] == report["mode"] == mode
    assert report["rows"] == {"calibration": 898, "judged": 899}
    assert report["budget"]["label_flips"] == 0.005
    found = report["formats"]["native"]
    assert found["kept"]
    assert {limit["name"] for limit in found["limits"]} == {"label_flips", "metric_drop"}
    assert (
        found["metrics"]["accuracy"]["low"]
        <= found["metrics"]["accuracy"]["drop"]
        <= found["metrics"]["accuracy"]["high"]
    )
    size = {part: sum(m[part] for m in found["members"].values()) for part in ("float", "quantized")}
    assert size["quantized"] < size["float"]
    assert len(report["ops"]) == 3
    model = edgeml.load(bundle.path, engine="native")
    assert (model.predict(X) == mlp.predict(X)).mean() >= 0.995
    assert edgeml.verify(bundle.path, engine="native").passed
    assert edgeml.verify(bundle.path, mlp, X, engine="native").passed


def test_equal_inputs_give_equal_bytes(digits, tmp_path):
    mlp, X, y = digits
    first = compiled(tmp_path, mlp, X, y, quantize="int8", formats=["native"]).path.read_bytes()
    assert compiled(tmp_path, mlp, X, y, quantize="int8", formats=["native"]).path.read_bytes() == first


def test_verify_sees_another_pipeline(digits, tmp_path):
    mlp, X, y = digits
    bundle = compiled(tmp_path, mlp, X, y, quantize="int8", formats=["native"])
    other = make_pipeline(StandardScaler(), LogisticRegression(max_iter=50)).fit(X, (y + 1) % 10)
    with pytest.raises(errors.VerificationError, match="another label"):
        edgeml.verify(bundle.path, other, X, engine="native")


def _altered(bundle, path, values):
    """The same bundle with other numbers in its budget, or another budget."""
    members = {
        name: bytes(bundle.member(name)) for name in bundle.names if name not in ("manifest.json", "report.json")
    }
    report = bundle.json("report.json")
    budget = report["quantization"]["budget"]
    report["quantization"]["budget"] = values if not isinstance(values, dict) else budget | values
    write_bundle(
        path, {k: v for k, v in bundle.manifest.items() if k != "members"}, members | {"report.json": dumps(report)}
    )
    return path


def test_verify_follows_the_budget_of_the_report(tmp_path):
    """Every limit of answers, for labels, for numbers, and for the distances beside labels."""
    X = numbers(600)
    ridge = Ridge().fit(X, X @ np.arange(5))
    points = KMeans(6, n_init=1, random_state=0).fit(X)
    none = {"label_flips": None, "metric_drop": None, "max_abs_error": None}
    for pipeline, broken, named in (
        (ridge, {"metric_drop": 1e-9}, "predict: R2 against the pipeline is 0.99"),
        (ridge, {"max_abs_error": 1e-9}, "predict: 600 of 600 answers are off by more"),
        (points, {"max_abs_error": 1e-9}, "transform: 600 of 600 answers are off by more"),
        (ridge, {"label_flips": 0.0}, None),
        (points, {"metric_drop": 1e-9}, None),
    ):
        bundle = compiled(tmp_path, pipeline, X, quantize="int8", formats=["native"])
        path = _altered(bundle, tmp_path / "other.edgeml", none | broken)
        if named is None:
            assert edgeml.verify(path, pipeline, X).passed
        else:
            with pytest.raises(errors.VerificationError, match=named):
                edgeml.verify(path, pipeline, X)
    for wrong in ("much", {"metric_drop": True}, {"label_flips": "0.1"}):
        path = _altered(bundle, tmp_path / "other.edgeml", wrong)
        with pytest.raises(errors.ManifestError, match="budget must be an object of numbers"):
            edgeml.verify(path, points, X)


def test_float_labels_are_labels_to_verify(tmp_path):
    X = numbers(600)
    y = np.where(X[:, 0] > 0, 1.0, 2.0)
    model = LogisticRegression().fit(X, y)
    bundle = compiled(tmp_path, model, X, quantize="int8", formats=["native"])
    assert edgeml.verify(bundle.path, model, X).passed
    with pytest.raises(errors.VerificationError, match=r"\d+ of 600 rows have another label"):
        edgeml.verify(bundle.path, LogisticRegression().fit(-X, y), X)


def test_a_few_live_rows_raise_no_false_alarm(tmp_path):
    """Two rows that are alike have next to no variance: R2 of them says nothing."""
    X = numbers(400)
    model = Ridge().fit(X, X[:, 0])
    bundle = compiled(tmp_path, model, X, quantize="int8", formats=["native"])
    order = np.argsort(model.predict(X))
    for first in range(0, 390, 10):
        assert edgeml.verify(bundle.path, model, X[order[first : first + 2]]).passed


def test_flips_that_chance_allows():
    assert most_flips(0.0, 1000) == 0
    assert most_flips(0.001, 1000) == 5  # P(more than 5 | mean 1) = 0.0006
    assert most_flips(0.001, 10) == 1
    assert 2000 < most_flips(0.002, 1_000_000) < 2200


# --- what cannot be met -----------------------------------------------------------------------------------------
def test_a_budget_that_cannot_be_met(digits, tmp_path):
    mlp, X, y = digits
    budget = edgeml.Budget(label_flips=None, metric_drop=None, max_abs_error=1e-9)
    with pytest.raises(errors.BudgetError, match=r"no int8 form keeps.*best.*int16 weights.*max_abs_error") as caught:
        compiled(tmp_path, mlp, X, y, quantize="int8", budget=budget)
    assert "auto" in caught.value.remedy
    assert caught.value.exit_code == 1
    assert not list(tmp_path.iterdir())


def test_auto_leaves_in_float_what_has_to_be(digits, tmp_path):
    mlp, X, y = digits
    budget = edgeml.Budget(label_flips=None, metric_drop=None, max_abs_error=1e-9)
    bundle = compiled(tmp_path, mlp, X, y, quantize="auto", budget=budget, formats=["native"])
    assert "float" in {op["form"] for op in quantization(bundle)["ops"]}
    np.testing.assert_allclose(edgeml.load(bundle.path).predict_proba(X), mlp.predict_proba(X), atol=1e-9)


def test_too_few_bytes(digits, tmp_path):
    mlp, X, y = digits
    with pytest.raises(
        errors.BudgetError, match=r"over the budget: native: max_bytes [\d,]+ bytes \(limit 1,000 bytes\)"
    ):
        compiled(tmp_path, mlp, X, y, quantize="int8", budget=edgeml.Budget(max_bytes=1000), formats=["native"])
    with pytest.raises(errors.BudgetError, match="max_bytes"):
        compiled(tmp_path, mlp, X, y, budget=edgeml.Budget(max_bytes=1000))
    assert not list(tmp_path.iterdir())


def test_time_is_measured_where_it_is_limited(digits, tmp_path):
    mlp, X, y = digits
    budget = edgeml.Budget(label_flips=0.01, max_latency_us=1e6)
    report = quantization(compiled(tmp_path, mlp, X, y, quantize="int8", budget=budget, formats=["native"]))
    assert 0 < report["formats"]["native"]["latency_us"] < 1e6
    hurry = edgeml.Budget(label_flips=0.01, max_latency_us=0.01)
    with pytest.raises(errors.BudgetError, match="max_latency_us"):
        compiled(tmp_path, mlp, X, y, quantize="int8", budget=hurry, formats=["native"])


def test_too_few_rows(digits, tmp_path):
    mlp, X, _ = digits
    with pytest.raises(errors.SampleError, match=r"needs 64 rows.*the sample has 40"):
        compiled(tmp_path, mlp, X[:40], quantize="int8")
    assert compiled(tmp_path, mlp, X[:64], quantize="int8", formats=["native"]).manifest["quantize"] == "int8"


def test_few_rows_are_told(digits, tmp_path):
    mlp, X, _ = digits
    report = quantization(compiled(tmp_path, mlp, X[:300], quantize="float16", formats=["native"]))
    flips = report["formats"]["native"]["limits"][0]
    assert "one-sided bound 1.98 %" in flips["note"]
    assert "too few to show the limit" in flips["note"]
    assert flips["bound"] < 0.001


def test_a_budget_of_which_nothing_can_be_judged(digits, tmp_path):
    _, X, y = digits
    votes = LinearSVC().fit(X, y)
    hard = VotingClassifier([("a", votes), ("b", LogisticRegression(max_iter=5000))]).fit(X, y)
    with pytest.raises(errors.BudgetValueError, match="metrics of a classifier without scores need y"):
        compiled(tmp_path, hard, X, quantize="int8", budget=edgeml.Budget(label_flips=None), formats=["native"])
    ridge = Ridge().fit(X, y)
    with pytest.raises(errors.BudgetValueError, match="predicts no labels"):
        compiled(tmp_path, ridge, X, y, quantize="int8", budget=edgeml.Budget(metric_drop=None))
    assert not list(tmp_path.iterdir())
    alone = edgeml.Budget(label_flips=None, metric_drop=None, max_bytes=100_000)
    assert compiled(tmp_path, ridge, X, quantize="int8", budget=alone, formats=["native"])


def test_what_is_not_judged_is_in_the_report(tmp_path):
    X = numbers(300)
    report = quantization(compiled(tmp_path, Ridge().fit(X, X[:, 0]), X, quantize="float16", formats=["native"]))
    assert report["formats"]["native"]["not_judged"] == {"label_flips": "the pipeline predicts no labels"}


# --- targets ----------------------------------------------------------------------------------------------------
def test_targets_as_a_column(digits, tmp_path):
    mlp, X, y = digits
    budget = edgeml.Budget(label_flips=0.01)
    for targets in (y[:, None], pd.DataFrame({"y": y}), pd.Series(y, dtype="category")):
        bundle = compiled(tmp_path, mlp, X, targets, quantize="float16", budget=budget, formats=["native"])
        assert quantization(bundle)["formats"]["native"]["metrics"].keys() >= {"accuracy", "roc_auc"}


def test_targets_that_do_not_fit(tmp_path):
    X = numbers(200)
    one, two = Ridge().fit(X, X[:, 0]), Ridge().fit(X, X[:, :2])
    for model, y, named in (
        (one, np.full(200, "a"), "y cannot be compared"),
        (one, X[:, :2], r"y has the shape \(100, 2\)"),
        (two, X[:, 0], r"predicts of the same rows \(100, 2\)"),
    ):
        with pytest.raises(errors.SampleError, match=named):
            compiled(tmp_path, model, X, y, quantize="int8", formats=["native"])
    y = X[:, :2] * [1.0, 1e-9]
    bundle = compiled(tmp_path, Ridge().fit(X, y), X, y, quantize="int8", formats=["native"])
    assert edgeml.load(bundle.path).predict(X).shape == (200, 2)
    points = KMeans(3, n_init=1, random_state=0).fit(X)
    bundle = compiled(tmp_path, points, X, np.full(200, "a"), quantize="int8", formats=["native"])
    assert quantization(bundle)["formats"]["native"]["metrics"] == {}


# --- kinds ------------------------------------------------------------------------------------------------------
def test_leaves_and_points_and_components(digits, tmp_path):
    _, X, y = digits
    forest = RandomForestClassifier(40, max_depth=8, random_state=0).fit(X[::2], y[::2])
    bundle = compiled(tmp_path, forest, X, y, quantize="int8", formats=["native"])
    assert [op["form"] for op in quantization(bundle)["ops"]] == ["int8 leaves"]
    assert bundle.json("report.json")["leaves"]["different"] == {"native": 0}
    assert bundle.json("report.json")["leaves"]["sklearn"] == 0
    proba = edgeml.load(bundle.path).predict_proba(X)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)

    points = KMeans(8, n_init=1, random_state=0).fit(X)
    bundle = compiled(tmp_path, points, X, quantize="int8", formats=["native"])
    distances = edgeml.load(bundle.path).transform(X)
    np.testing.assert_allclose(distances, points.transform(X), rtol=0.02)

    components = make_pipeline(StandardScaler(), PCA(8, whiten=True)).fit(X)
    bundle = compiled(tmp_path, components, X, quantize="int8", formats=["native"])
    answers, expected = edgeml.load(bundle.path).transform(X), components.transform(X)
    assert (np.mean((answers - expected) ** 2, axis=0) / np.var(expected, axis=0)).max() < 0.003


def test_a_step_of_skl2onnx_is_refused_by_name(tmp_path, monkeypatch):
    from sklearn.gaussian_process import GaussianProcessRegressor

    from edgeml.converters import CONVERTERS

    monkeypatch.delitem(CONVERTERS, "sklearn.GaussianProcessRegressor")
    X = numbers(80)
    pipeline = make_pipeline(StandardScaler(), GaussianProcessRegressor()).fit(X, X[:, 0])
    with pytest.raises(errors.QuantizeError, match=r"gaussianprocessregressor was converted by skl2onnx") as caught:
        compiled(tmp_path, pipeline, X, quantize="int8")
    assert caught.value.exit_code == 2


def test_nothing_to_quantise(tmp_path):
    X = numbers(200)
    bundle = compiled(tmp_path, StandardScaler().fit(X), X, quantize="int8", formats=["native"])
    assert quantization(bundle)["ops"] == []
    np.testing.assert_array_equal(edgeml.load(bundle.path).transform(X), StandardScaler().fit(X).transform(X))


def test_refusals_stay(tmp_path):
    """Rows that scikit-learn refuses are refused by a quantised model too."""
    X = numbers(600)
    y = (X[:, 0] > 0).astype(int)
    pipeline = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()).fit(X, y)
    model = edgeml.load(compiled(tmp_path, pipeline, X, y, quantize="int8", formats=["native"]).path)
    row = X[:1].copy()
    row[0, 0] = np.nan
    assert model.predict(row).shape == (1,)
    row[0, 0] = np.inf
    with pytest.raises(errors.NonFiniteError):
        model.predict(row)


def test_a_constant_and_an_empty_column(tmp_path):
    X = numbers(600)
    X[:, 1], X[:, 2] = 3.0, np.nan
    y = (X[:, 0] > 0).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imputer = SimpleImputer(keep_empty_features=True)
        pipeline = make_pipeline(imputer, StandardScaler(), LogisticRegression()).fit(X, y)
    model = edgeml.load(compiled(tmp_path, pipeline, X, y, quantize="int8", formats=["native"]).path)
    assert (model.predict(X) == pipeline.predict(X)).all()


def test_report_is_json_without_nan(digits, tmp_path):
    mlp, X, y = digits
    bundle = compiled(tmp_path, mlp, X, y, quantize="int8", formats=["native"])
    json.dumps(bundle.json("report.json"), allow_nan=False)
