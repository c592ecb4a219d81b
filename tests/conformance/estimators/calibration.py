"""Calibrated classifiers: every method, one or several folds, classifiers with scores and with probabilities."""

from __future__ import annotations

from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from tests.conformance.estimators.data import float32, iris, iris_names, number, scaled, two_classes, two_names
from tests.conformance.estimators.linear_classifiers import odd_numbers, true_or_false
from tests.conformance.estimators.table import variant

_FOREST = RandomForestClassifier(n_estimators=4, max_depth=3, random_state=0)
_MARGIN = LinearSVC(random_state=0)
_FROZEN = FrozenEstimator(_MARGIN.fit(*iris()))
_FROZEN_FOREST = FrozenEstimator(_FOREST.fit(*two_classes()))


def one_length():
    """Three classes by one column: scores have one rounding. Rows lie on the thresholds of isotonic calibrators, so that
    of sums, in an order that BLAS chooses, probabilities would be noise."""
    X, y = iris_names()
    return X[:, 2:3], y


def two_lengths():
    """Two such classes."""
    X, y = two_names()
    return X[:, 2:3], y


def _calibrated(*arguments, **parameters):
    return CalibratedClassifierCV(*arguments, **{"cv": 3, **parameters})


_SMOOTH = ("sigmoid", "temperature")
_METHODS = (*_SMOOTH, "isotonic")
_STEEP = "isotonic calibration has steps too steep"

VARIANTS = (
    *(variant(_calibrated(_MARGIN, method=m), iris_names) for m in _SMOOTH),
    *(variant(_calibrated(_MARGIN, method=m), two_names) for m in _SMOOTH),
    variant(_calibrated(_MARGIN, method="isotonic"), one_length, tflite=_STEEP),
    variant(_calibrated(_MARGIN, method="isotonic"), two_lengths),
    *(variant(_calibrated(_FOREST, method=m), iris) for m in _METHODS),
    *(variant(_calibrated(_FOREST, method=m), true_or_false) for m in _METHODS),
    variant(_calibrated(_MARGIN, method="sigmoid", ensemble=False), odd_numbers),
    # Not of odd_numbers: scikit-learn 1.9 takes numbers for positions of classes there, and reads memory beyond.
    variant(_calibrated(_MARGIN, method="temperature", ensemble=False), iris),
    variant(_calibrated(_MARGIN, method="isotonic", ensemble=False), odd_numbers, tflite=_STEEP),
    *(variant(_calibrated(_FROZEN, method=m), iris) for m in _SMOOTH),
    variant(_calibrated(_FROZEN, method="isotonic"), iris, tflite=_STEEP),
    *(variant(_calibrated(_FROZEN_FOREST, method=m, ensemble=False), two_classes) for m in _METHODS),
    variant(_calibrated(), two_names),
    variant(_calibrated(GaussianNB()), iris),
    variant(_calibrated(GaussianNB(), method="isotonic", ensemble=False), two_names),
    variant(_calibrated(LogisticRegression(), method="temperature"), iris),
    variant(_calibrated(make_pipeline(StandardScaler(), SGDClassifier(random_state=0))), scaled),
    variant(_calibrated(GradientBoostingClassifier(n_estimators=3, random_state=0), method="isotonic"), iris),
    variant(_calibrated(LogisticRegression(class_weight="balanced"), method="sigmoid"), two_classes),
    variant(_calibrated(_FOREST, method="isotonic"), float32),
    variant(FrozenEstimator(StandardScaler().fit(iris()[0])), iris),
    variant(FrozenEstimator(Ridge().fit(*number())), number),
    variant(FrozenEstimator(LogisticRegression(max_iter=1000).fit(*iris_names())), iris_names),
)
