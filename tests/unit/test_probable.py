"""Naive Bayes, discriminant analysis, mixtures, dummies and isotonic regression: rows refused, refusals, wide data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture
from sklearn.naive_bayes import CategoricalNB, GaussianNB, MultinomialNB

import edgeml
from edgeml.errors import CompileError, InputError, UnknownCategoryError

ENGINES = ("native", "onnx")
RNG = np.random.default_rng(0)
X = RNG.normal(size=(90, 3))
Y = np.arange(90) % 3


@pytest.fixture
def load(tmp_path):
    """A compiled and loaded model of an engine."""
    models = []

    def compiled(estimator, rows, engine):
        path = tmp_path / f"{len(models)}.edgeml"
        edgeml.compile(estimator, rows, output=path, formats=list(ENGINES)).close()
        models.append(edgeml.load(path, engine=engine))
        return models[-1]

    yield compiled
    for model in models:
        model.close()


@pytest.mark.parametrize("strategy", ["stratified", "uniform"])
def test_a_dummy_that_draws_is_refused_by_name(strategy, tmp_path):
    model = DummyClassifier(strategy=strategy, random_state=0).fit(X, Y)
    with pytest.raises(CompileError, match=rf"DummyClassifier\(strategy='{strategy}'\)") as caught:
        edgeml.compile(model, X, output=tmp_path / "m.edgeml")
    assert "strategy='prior'" in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("rows", [1, 2, 50])
def test_answers_that_depend_on_no_column_have_as_many_rows_as_the_input(engine, rows, load):
    labels = load(DummyClassifier().fit(X, Y), X, engine)
    assert labels.predict(X[:rows]).shape == (rows,)
    assert labels.predict_proba(X[:rows]).shape == labels.predict_log_proba(X[:rows]).shape == (rows, 3)
    assert labels.predict_one(X[0]) == 0
    assert labels.predict_proba_one(X[0]).shape == (3,)
    numbers = load(DummyRegressor().fit(X, X[:, :2]), X, engine)
    assert numbers.predict(X[:rows]).shape == (rows, 2)


@pytest.mark.parametrize("engine", ENGINES)
def test_categories_that_were_not_seen_are_refused(engine, load):
    codes = np.tile(np.arange(3), (90, 1)).astype(float)
    codes[:30] = 0
    model = load(CategoricalNB(min_categories=4).fit(codes, Y), codes, engine)
    fitted = CategoricalNB(min_categories=4).fit(codes, Y)
    fine = np.array([[3.9, -0.5, 2.0]])  # cut to 3, 0 and 2
    assert np.allclose(model.predict_proba(fine), fitted.predict_proba(fine))
    for bad in (4.0, -1.0, 1e9):
        row = np.array([[0.0, bad, 0.0]])
        with pytest.raises((IndexError, ValueError)):
            fitted.predict(row)
        with pytest.raises(UnknownCategoryError, match="CategoricalNB was given a category"):
            model.predict(row)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_impossible_category_rules_its_class_out(engine, load):
    codes = np.array([[0, 1], [0, 0], [1, 1], [2, 1]] * 5, dtype=float)
    labels = np.array([0, 0, 1, 1] * 5)
    with np.errstate(divide="ignore"):
        fitted = CategoricalNB(alpha=0.0, force_alpha=True).fit(codes, labels)
    model = load(fitted, codes, engine)
    with np.errstate(all="ignore"):
        assert np.array_equal(model.predict_proba(codes), fitted.predict_proba(codes))


@pytest.mark.parametrize("engine", ENGINES)
def test_outside_its_thresholds_isotonic_regression_does_what_out_of_bounds_says(engine, load):
    x, outside = X[:, :1], np.array([[100.0], [0.0], [-100.0]])
    for how in ("nan", "clip"):
        fitted = IsotonicRegression(out_of_bounds=how).fit(x, Y)
        model = load(fitted, x, engine)
        np.testing.assert_allclose(model.predict(outside), fitted.predict(outside), rtol=1e-12)
        assert model.transform(outside).shape == (3,)
    model = load(IsotonicRegression(out_of_bounds="raise").fit(x, Y), x, engine)
    with pytest.raises(InputError, match="IsotonicRegression was given a value outside its thresholds"):
        model.predict(outside)


@pytest.mark.parametrize("kind", ["spherical", "diag", "tied", "full"])
def test_many_components_and_columns_stay_few_operations(kind, tmp_path):
    """What follows the distances does not grow; distances are one operation a column only where scikit-learn loops."""
    wide = RNG.normal(size=(60, 200 if kind in ("spherical", "diag") else 8))
    model = GaussianMixture(20, covariance_type=kind, random_state=0).fit(wide)
    with edgeml.compile(model, wide, output=tmp_path / "m.edgeml", formats=["native"]) as bundle:
        assert bundle.json("report.json")["lowered_ops"] < (55 if kind in ("spherical", "diag") else 55 + 5 * 20)


def _same_log_proba(fitted, rows, path):
    edgeml.compile(fitted, rows[:40], output=path, formats=list(ENGINES)).close()
    for engine in ENGINES:
        with edgeml.load(path, engine=engine) as model:
            np.testing.assert_allclose(
                model.predict_log_proba(rows[-5:]), fitted.predict_log_proba(rows[-5:]), rtol=1e-9, err_msg=engine
            )


def test_three_hundred_classes(tmp_path):
    labels = np.arange(600) % 300
    rows = RNG.normal(size=(600, 4)) + labels[:, None]
    _same_log_proba(GaussianNB().fit(rows, labels), rows, tmp_path / "m.edgeml")


@pytest.mark.parametrize("estimator", [MultinomialNB(), CategoricalNB(min_categories=9)])
def test_five_thousand_columns(estimator, tmp_path):
    rows = RNG.poisson(0.3, size=(45, 5000)).astype(float)
    _same_log_proba(estimator.fit(rows, np.arange(45) % 3), rows, tmp_path / "m.edgeml")


def test_a_parameter_that_nobody_knows_is_refused_by_name(tmp_path):
    class Odd(LinearDiscriminantAnalysis):
        def __init__(self, solver="svd", twist=0):
            super().__init__(solver=solver)
            self.twist = twist

    Odd.__module__, Odd.__qualname__ = "sklearn.odd", "LinearDiscriminantAnalysis"
    with pytest.raises(CompileError, match=r"\(twist=2\) cannot be compiled"):
        edgeml.compile(Odd(twist=2).fit(X, Y), X, output=tmp_path / "m.edgeml")


def test_a_mixture_refuses_missing_cells_by_its_name(load):
    model = load(BayesianGaussianMixture(n_components=2, random_state=0).fit(X), X, "native")
    with pytest.raises(InputError, match="BayesianGaussianMixture was given nan"):
        model.predict(np.full((1, 3), np.nan))
