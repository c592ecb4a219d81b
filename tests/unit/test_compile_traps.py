"""Samples that mislead a quantiser, and rows that they do not hold: the budget is kept, or the refusal is clear."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

import edgeml
from edgeml import errors
from edgeml.quantize.forms import ROUNDING
from edgeml.runtimes.verify_budget import most_flips
from tests.conformance.cases import everyday, mixed
from tests.quantize_tools import compiled, numbers, quantization

LOOSE = edgeml.Budget(label_flips=0.5, metric_drop=None)


# --- rows that the sample does not hold -----------------------------------------------------------------------------
def test_a_model_that_has_memorised_its_rows_keeps_the_budget_on_others(tmp_path):
    """Training accuracy 1, elsewhere 0.6: of its own rows int8 flips none, of others it would flip 0.8 %."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(6000, 30))
    y = (X @ rng.normal(size=30) / 5 + np.sin(3 * X[:, 0]) + 1.5 * rng.normal(size=6000) > 0).astype(int)
    seen, unseen = X[:1500], X[1500:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = MLPClassifier((64, 64), max_iter=400, alpha=0, random_state=0)
        pipeline = make_pipeline(StandardScaler(), network).fit(seen, y[:1500])
    assert pipeline.score(seen, y[:1500]) == 1
    bundle = compiled(tmp_path, pipeline, seen, y[:1500], quantize="int8", formats=["native"])
    limits = quantization(bundle)["formats"]["native"]["limits"]
    assert any("rows between neighbours" in limit["note"] for limit in limits)
    flips = (edgeml.load(bundle.path).predict(unseen) != pipeline.predict(unseen)).sum()
    assert flips <= most_flips(0.001, len(unseen))


def test_rows_between_strings_and_missing_cells(tmp_path):
    frame, binary, _, _ = mixed()
    pipeline = make_pipeline(everyday(), LogisticRegression(max_iter=300)).fit(frame, binary)
    bundle = compiled(tmp_path, pipeline, frame, quantize="int8", formats=["native"])
    notes = [limit["note"] for limit in quantization(bundle)["formats"]["native"]["limits"]]
    assert "of 4000 rows between neighbours" in notes
    ridge = make_pipeline(everyday(), Ridge()).fit(frame, frame["age"])
    bundle = compiled(tmp_path, ridge, frame, quantize="int8", formats=["native"])
    notes = [limit["note"] for limit in quantization(bundle)["formats"]["native"]["limits"]]
    assert "of r2 against scikit-learn's predict, 4000 rows between neighbours" in notes


def test_repeated_rows_are_no_sample(tmp_path):
    X = np.repeat(numbers(20), 50, axis=0)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    with pytest.raises(errors.SampleError, match="needs 32 different rows to calibrate on; those of the sample are 20"):
        compiled(tmp_path, pipeline, X, quantize="int8")


def test_few_rows_differ_where_columns_have_few_values(tmp_path):
    flags = np.random.default_rng(0).random((500, 2)) < 0.5
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(flags, flags[:, 0])
    bundle = compiled(tmp_path, pipeline, flags, quantize="int8")
    for engine in bundle.manifest["artifacts"]:
        np.testing.assert_array_equal(edgeml.load(bundle.path, engine=engine).predict(flags), flags[:, 0])
    with pytest.raises(errors.SampleError, match="different rows"):
        compiled(tmp_path, pipeline, np.ones((500, 2), dtype=bool), quantize="int8")


def test_static_activations_need_rows_that_tell_their_range(tmp_path):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    pipeline = make_pipeline(MinMaxScaler(), LogisticRegression()).fit(X, X[:, 0] > 0)
    few = compiled(tmp_path, pipeline, X[:200], quantize="int8", formats=["native"], budget=LOOSE)
    (op,) = quantization(few)["ops"]
    assert op["form"] == "int8 weights, float activations"
    assert "100 calibration rows are too few for the range" in op["note"]
    stuck = X.copy()
    stuck[:, 1] = 2.0
    same = compiled(tmp_path, pipeline, stuck, quantize="int8", formats=["native"], budget=LOOSE)
    assert "the same in every calibration row" in quantization(same)["ops"][0]["note"]
    assert quantization(compiled(tmp_path, pipeline, X, quantize="int8", formats=["native"], budget=LOOSE))["ops"][0][
        "form"
    ].endswith("int8 activations")


def test_a_smaller_artifact_further_on_is_found(tmp_path):
    """In a small network grids cost more than narrow weights save: the walk goes on past what is too large."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(1500, 12))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = MLPClassifier((24, 12), max_iter=60, random_state=0).fit(X, X[:, 0] + X[:, 1] * X[:, 2] > 0)
    loose = compiled(tmp_path, net, X, quantize="int8", formats=["onnx"], budget=LOOSE)
    size = loose.manifest["artifacts"]["onnx"]["bytes"]
    tight = edgeml.Budget(label_flips=0.5, metric_drop=None, max_bytes=size - 100)
    smaller = compiled(tmp_path, net, X, quantize="int8", formats=["onnx"], budget=tight)
    assert smaller.manifest["artifacts"]["onnx"]["bytes"] < size


# --- traps ------------------------------------------------------------------------------------------------------
def _wild():
    X = numbers() * 10.0 ** np.array([-6, -3, 0, 3, 6])
    return X, (X[:, 0] * 1e6 + X[:, 2] + X[:, 4] / 1e6 > 0).astype(int)


def _near_constant():
    X = numbers()
    X[:, 3] = 1 + 1e-9 * X[:, 3]
    X[:, 4] = 7
    return X, (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype(int)


def _heavy_tails():
    X = np.random.default_rng(5).standard_cauchy((4000, 5))
    return X, (X[:, 0] + np.sign(X[:, 1]) > 0).astype(int)


def _imbalanced():
    X = numbers()
    return X, (X[:, 0] + X[:, 1] > 3.0).astype(int)


TRAPS = {"wild ranges": _wild, "near-constant": _near_constant, "heavy tails": _heavy_tails, "imbalanced": _imbalanced}


@pytest.mark.parametrize("trap", TRAPS)
@pytest.mark.parametrize("model", [LogisticRegression, lambda: MLPClassifier((16,), random_state=0, max_iter=60)])
def test_traps_keep_the_budget_on_unseen_rows(trap, model, tmp_path):
    X, y = TRAPS[trap]()
    seen, unseen = X[:3000], X[3000:]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = make_pipeline(StandardScaler(), model()).fit(seen, y[:3000])
    for mode, formats in (("int8", "auto"), ("auto", ["native"])):
        bundle = compiled(tmp_path, pipeline, seen, y[:3000], quantize=mode, formats=formats)
        for engine in bundle.manifest["artifacts"]:
            flips = (edgeml.load(bundle.path, engine=engine).predict(unseen) != pipeline.predict(unseen)).sum()
            assert flips <= most_flips(0.001, len(unseen)), (mode, engine)


def test_a_rare_category_that_decides(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=6000), "kind": rng.choice(["a", "b", "c"], 6000)})
    rare = rng.choice(6000, 30, replace=False)
    frame.loc[rare, "kind"] = "stop"
    y = np.where(frame["kind"] == "stop", 1, (frame["x"] + rng.normal(size=6000) > 1.5).astype(int))
    columns = make_column_transformer((StandardScaler(), ["x"]), (OneHotEncoder(), ["kind"]))
    pipeline = make_pipeline(columns, LogisticRegression(C=1e4, max_iter=2000)).fit(frame, y)
    assert pipeline.predict(frame.loc[rare]).mean() > 0.9
    for mode in ("int8", "auto"):
        bundle = compiled(tmp_path, pipeline, frame, y, quantize=mode, formats=["native"])
        answers = edgeml.load(bundle.path).predict(frame.loc[rare])
        np.testing.assert_array_equal(answers, pipeline.predict(frame.loc[rare]))


@pytest.mark.parametrize("size", [1e6, 1e-6])
@pytest.mark.parametrize("model", [Ridge, lambda: RandomForestRegressor(30, random_state=0)])
@pytest.mark.parametrize("mode", ROUNDING)
def test_targets_of_every_size(size, model, mode, tmp_path):
    X, y = load_diabetes(return_X_y=True)
    y = y / 100 * size
    pipeline = make_pipeline(StandardScaler(), model()).fit(X[:300], y[:300])
    bundle = compiled(tmp_path, pipeline, X[:300], y[:300], quantize=mode, formats=["native"])
    expected, answers = pipeline.predict(X[300:]), edgeml.load(bundle.path).predict(X[300:])
    assert 1 - np.mean((expected - answers) ** 2) / np.var(expected) > 0.998
