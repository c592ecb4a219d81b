"""Estimators that answer about a batch, or differently every time: what the truth about a row is then."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import NMF, PCA, FactorAnalysis, SparsePCA
from sklearn.ensemble import VotingRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import BernoulliRBM
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import edgeml
from edgeml.converters.answering import answers_alone, unrepeatable_methods
from edgeml.errors import UnsupportedParameterError, VerificationError
from edgeml.parity.truth import ask, methods_of
from edgeml.sample import read_sample

pytestmark = [
    # Short fits do not converge; answers are compared, not quality.
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
]


def rows(count=60, seed=0):
    return np.random.default_rng(seed).poisson(2.0, (count, 5)).astype(np.float64)


@pytest.fixture(scope="module")
def factors():
    return NMF(2, init="nndsvda", max_iter=30).fit(rows())


@pytest.mark.parametrize(
    ("make", "alone"),
    [
        (lambda: make_pipeline(PCA(2), Ridge()), False),
        (lambda: make_pipeline(NMF(2), Ridge()), True),
        (lambda: ColumnTransformer([("a", PCA(1), [0, 1]), ("b", NMF(1), [2, 3])]), True),
        (lambda: GridSearchCV(make_pipeline(NMF(2), Ridge()), {"ridge__alpha": [1.0, 2.0]}, cv=2), True),
        (lambda: VotingRegressor([("a", Ridge()), ("b", make_pipeline(NMF(2), Ridge()))]), True),
    ],
)
def test_an_estimator_of_a_batch_is_found_wherever_it_stands(make, alone):
    assert answers_alone(make().fit(rows(), np.arange(60.0))) is alone


def test_the_truth_about_a_row_is_its_own(factors):
    X = rows(seed=1)
    truth = ask(factors, read_sample(factors, X), ["transform"]).outputs["transform"]
    single = np.concatenate([factors.transform(X[i : i + 1]) for i in range(len(X))])
    np.testing.assert_array_equal(truth, single)
    assert np.abs(truth - factors.transform(X)).max() > 1e-6  # else nothing is shown


def test_a_step_that_drops_an_axis_of_a_single_row_reaches_the_next_one(tmp_path):
    """SparsePCA does: scikit-learn refuses single rows of such a pipeline, and a model answers them as in a batch."""
    X = rows(seed=2)
    model = make_pipeline(SparsePCA(2, random_state=0, max_iter=10), Ridge()).fit(X, X[:, 0])
    with pytest.raises(ValueError, match="1D array"):
        model.predict(X[:1])
    edgeml.compile(model, X, output=tmp_path / "m.edgeml").close()
    compiled = edgeml.load(tmp_path / "m.edgeml")
    np.testing.assert_allclose(compiled.predict(X), model.predict(X), rtol=1e-9)
    np.testing.assert_allclose(compiled.predict(X[:1]), model.predict(X)[:1], rtol=1e-9)


def test_every_row_is_put_to_the_first_steps_once(monkeypatch):
    X, calls, bad = rows(30), [], np.array([[-1.0, 0, 0, 0, 0]])  # NMF refuses negative numbers
    model = make_pipeline(NMF(2, max_iter=30), LogisticRegression()).fit(X, X[:, 0] > 1)
    own = NMF.transform
    monkeypatch.setattr(NMF, "transform", lambda self, given: calls.append(len(given)) or own(self, given))
    truth = ask(model, read_sample(model, np.vstack([X, bad])), ["predict", "predict_proba", "decision_function"])
    assert calls == [1] * 31
    assert truth.refused.tolist() == [False] * 30 + [True]
    single = np.concatenate([model.predict_proba(X[i : i + 1]) for i in range(30)])
    np.testing.assert_array_equal(truth.outputs["predict_proba"], single)
    np.testing.assert_array_equal(truth.outputs["predict"], single[:, 1] > 0.5)


def test_verify_asks_row_by_row(factors, tmp_path):
    X = rows(seed=1)
    with edgeml.compile(factors, X, output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        report = bundle.json("report.json")
    assert report["asked_row_by_row"] is True
    assert report["bounds"] == {"transform": 1e-6}
    for given in (X, X.tolist(), pd.DataFrame(X).to_numpy()):
        assert edgeml.verify(tmp_path / "m.edgeml", factors, given).passed
    other = NMF(2, init="nndsvda", max_iter=30, tol=1e-12).fit(X)
    with pytest.raises(VerificationError):
        edgeml.verify(tmp_path / "m.edgeml", other, X)


def test_methods_that_draw_random_numbers_are_left_out_by_name(tmp_path):
    model = BernoulliRBM(2, random_state=0).fit(rows() / 10)
    assert methods_of(model) == ("transform",)
    assert list(unrepeatable_methods(make_pipeline(PCA(2), model))) == ["score_samples"]
    with edgeml.compile(model, rows() / 10, output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        left_out = bundle.json("report.json")["methods_left_out"]
    assert "BernoulliRBM draws random numbers" in left_out["score_samples"]
    with edgeml.load(tmp_path / "m.edgeml") as compiled:
        assert not hasattr(compiled, "score_samples")


def collinear(count=60, width=4):
    """Columns in units far apart, the last one the sum of two others."""
    X = np.random.default_rng(3).normal(size=(count, width)) * np.geomspace(1e-6, 1e6, width)
    return np.column_stack([X, X[:, 0] * 1e6 + X[:, 1]])


def nearly_flat():
    """Six columns of two numbers, and a thousandth of noise."""
    rng = np.random.default_rng(4)
    return rng.normal(size=(60, 2)) @ rng.normal(size=(2, 6)) * 30 + rng.normal(size=(60, 6)) * 1e-3


@pytest.mark.parametrize(
    ("model", "X", "left_out"),
    [
        (PCA(), collinear(8, 20), True),
        (PCA(), collinear(8, 20).astype(np.float32), True),
        (make_pipeline(StandardScaler(), PCA()), collinear(), True),
        (make_pipeline(StandardScaler(), PCA(4)), collinear(), True),
        (make_pipeline(StandardScaler(), PCA(2)), collinear(), False),
        (PCA(), collinear()[:, :-1], False),
        (PCA(2), nearly_flat(), False),
        (PCA(2, whiten=True), nearly_flat(), True),  # of which scikit-learn takes the squares of the variances
        (PCA(2, whiten=True), rows(), False),
        (make_pipeline(OneHotEncoder(sparse_output=False), PCA()), rows() // 3, True),
        (make_pipeline(StandardScaler(), FactorAnalysis(2)), collinear(), True),
        (make_pipeline(StandardScaler(), FactorAnalysis(1)), collinear()[:, :-1], False),
    ],
)
def test_densities_of_singular_covariances_are_left_out_by_name(model, X, left_out, tmp_path):
    """What scikit-learn gives is rounding errors: the pipeline was refused for them, and its transform with it."""
    model.fit(X)
    assert methods_of(model) == (("transform",) if left_out else ("score_samples", "transform"))
    with edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native", "onnx"]) as bundle:
        assert ("score_samples" in bundle.json("report.json")["methods_left_out"]) == left_out


def test_shuffled_coordinates_need_a_seed(tmp_path):
    model = NMF(2, shuffle=True).fit(rows())
    with pytest.raises(UnsupportedParameterError, match="random_state") as caught:
        edgeml.compile(model, rows(), output=tmp_path / "m.edgeml")
    assert "set random_state to an integer" in str(caught.value)


def test_rows_that_lose_an_axis_get_it_back():
    """SparsePCA gives a single row's transform as a vector."""
    X = rows(4)
    model = SparsePCA(2, random_state=0).fit(rows())
    bad = X.copy()
    bad[1:] = np.nan
    truth = ask(model, read_sample(model, bad), ["transform"])
    assert truth.outputs["transform"].shape == (1, 2)
