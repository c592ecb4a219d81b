"""CalibratedClassifierCV against scikit-learn: methods, folds, class counts, scores of either kind."""

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.tree import DecisionTreeClassifier

from edgeml.errors import NonFiniteError, UnsupportedEstimatorError
from edgeml.ir import interpreter
from tests.oracle import assert_same, columns_of, converted, schema_of

RNG = np.random.default_rng(3)
X = RNG.normal(size=(240, 4))
FAR = np.concatenate([X, X * 50, np.zeros((1, 4))])
LABELS = {2: ["no", "yes"], 3: ["b", "a", "ccc"], 10: [f"class {i}" for i in range(10)]}
WITH_DECISION = RidgeClassifier()
WITH_PROBA = DecisionTreeClassifier(max_depth=3, random_state=0)


def target(classes):
    codes = np.clip(np.floor((X[:, 0] + RNG.normal(size=len(X)) * 0.3 + 2) * classes / 4), 0, classes - 1)
    return np.array(LABELS[classes])[codes.astype(int)]


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("base", [WITH_DECISION, WITH_PROBA], ids=["decision", "proba"])
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibrated(method, base, ensemble, classes):
    est = CalibratedClassifierCV(base, method=method, ensemble=ensemble, cv=3)
    assert_same(est.fit(X, target(classes)), X, FAR)


def test_many_classes():
    assert_same(CalibratedClassifierCV(WITH_DECISION, method="isotonic", cv=2).fit(X, target(10)), X, FAR)


def test_sigmoid_fitted_on_large_scores():
    # Platt scaling divides scores of 30 and more before it fits; a_ and b_ hold for the raw score.
    est = CalibratedClassifierCV(RidgeClassifier(), cv=2).fit(X * 1e-3, target(2))
    large = CalibratedClassifierCV(FrozenEstimator(_scaled()), method="sigmoid").fit(X, target(2))
    assert np.abs(large.calibrated_classifiers_[0].estimator.decision_function(X)).max() > 30
    assert_same(est, X * 1e-3)
    assert_same(large, X, FAR)


def _scaled():
    est = LogisticRegression().fit(X, target(2))
    est.coef_ *= 100
    return est


@pytest.mark.parametrize("classes", [2, 3])
def test_frozen(classes):
    y = target(classes)
    est = CalibratedClassifierCV(FrozenEstimator(WITH_PROBA.fit(X, y)), method="isotonic").fit(X[:120], y[:120])
    assert_same(est, X, FAR)
    assert_same(FrozenEstimator(LogisticRegression().fit(X, y)), X)


def test_all_calibrators_at_zero_give_equal_probabilities():
    est = CalibratedClassifierCV(FrozenEstimator(RidgeClassifier().fit(X, target(3))), method="isotonic").fit(
        X, target(3)
    )
    for calibrator in est.calibrated_classifiers_[0].calibrators:
        calibrator.y_thresholds_[:] = 0.0
        calibrator._build_f(calibrator.X_thresholds_, calibrator.y_thresholds_)
    assert (est.predict_proba(X) == 1 / 3).all()
    assert_same(est, X)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
@pytest.mark.parametrize("classes", [2, 3])
def test_float32_scores(method, classes):
    Z = X.astype(np.float32)
    y = target(classes)
    base = LogisticRegression().fit(Z, y)
    assert base.decision_function(Z).dtype == np.float32
    est = CalibratedClassifierCV(FrozenEstimator(base), method=method).fit(Z, y)
    # scikit-learn adds float32 products in float32, in the order BLAS likes
    assert_same(est, Z, rtol=2e-5, atol=1e-7)


def test_a_fold_that_saw_fewer_classes():
    y = target(3)
    folds = [(np.flatnonzero(y != "ccc"), np.arange(len(y))), (np.arange(len(y)), np.arange(len(y)))]
    for base in (WITH_PROBA, DecisionTreeClassifier(max_depth=2)):
        assert_same(CalibratedClassifierCV(base, cv=folds).fit(X, y), X)


def test_a_fold_of_one_class_is_refused():
    y = target(2)
    everything = np.arange(len(y))
    est = CalibratedClassifierCV(
        HistGradientBoostingClassifier(max_iter=2),
        cv=[(np.flatnonzero(y == "no"), everything), (everything, everything)],
    )
    with pytest.raises(UnsupportedEstimatorError, match="one class only"):
        converted(est.fit(X, y), X)


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_scores_that_overflow_are_refused_as_scikit_learn_does(method):
    est = CalibratedClassifierCV(LogisticRegression(C=100), method=method, cv=2).fit(X, target(2))
    far = np.full((1, 4), 1.79e308)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"infinity|NaN"):
        est.predict(far)
    schema = schema_of(X)
    with pytest.raises(NonFiniteError, match=r"^CalibratedClassifierCV was given inf"):
        interpreter.run(converted(est, X), columns_of(far, schema))
