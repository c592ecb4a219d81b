"""CalibratedClassifierCV: scores of one or more classifiers, each turned into probabilities, then averaged.

A classifier's score is its decision function where it has one, else its probabilities; sigmoid and
isotonic calibration work class by class and normalise afterwards, temperature scaling is a softmax. Also
FrozenEstimator, the way to calibrate a classifier that is fitted already.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.isotonic import interpolated
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedEstimatorError
from edgeml.ir import Value

# Added to probabilities before their logarithm is taken, as sklearn.calibration._convert_to_logits does.
_LOG_EPS = 1e-12
# Interpolation may exceed 1 by this much through rounding, which scikit-learn sets back to 1.
_OVERSHOOT = 1.0 + 1e-5


@converter("sklearn.FrozenEstimator", honours=("estimator",))
def frozen_estimator(c: Conversion, est: Any, X: Block) -> Outputs:
    """The estimator inside, as it is."""
    return c.convert(est.estimator, X, "estimator")


@converter("sklearn.CalibratedClassifierCV", honours=("estimator", "method", "ensemble"), ignores=("cv", "n_jobs"))
def calibrated_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """The mean of the calibrated classifiers' probabilities, added in their order; the largest wins."""
    total: Value | None = None
    for number, calibrated in enumerate(est.calibrated_classifiers_):
        proba = _calibrated(c, calibrated, X, f"fold {number}")
        total = proba if total is None else total + proba
    assert total is not None
    proba = total / float(len(est.calibrated_classifiers_))
    return {"predict": c.labels(c.builder.argmax(proba), est.classes_), "predict_proba": proba}


def _calibrated(c: Conversion, calibrated: Any, X: Block, step: str) -> Value:
    """Probabilities of one classifier and its calibrators, (rows, classes) in float64."""
    builder = c.builder
    scores, method = _scores(c, calibrated.estimator, X, step)
    if calibrated.method != "sigmoid":  # which alone does without check_array
        origin = builder.origin
        what = f"{origin} (CalibratedClassifierCV)" if origin else "CalibratedClassifierCV"
        scores = builder.check_finite(scores, what, allow_nan=False)
    if calibrated.method == "temperature":
        proba = _temperature(c, calibrated, scores, method)
    else:
        proba = _class_by_class(c, calibrated, scores)
    rounded_up = (proba > 1.0) & (proba <= _OVERSHOOT)
    return builder.where(rounded_up, builder.constant(1.0), proba)


def _scores(c: Conversion, classifier: Any, X: Block, step: str) -> tuple[Value, str]:
    """What calibrators are fed with, and the method it comes from; of two classes the second one's score."""
    method = "decision_function" if hasattr(classifier, "decision_function") else "predict_proba"
    if len(classifier.classes_) < 2:
        raise UnsupportedEstimatorError(
            f"step {c.builder.origin}: {type(classifier).__name__} of {step} saw one class only",
            "fit CalibratedClassifierCV so that every fold holds every class",
        )
    remedy = "calibrate a supported classifier (README, supported estimators)"
    scores = c.answer(c.convert(classifier, X, step), classifier, step, method, remedy)
    assert isinstance(scores, Value)
    if method == "predict_proba" and len(classifier.classes_) == 2:
        scores = scores.select([1])
    return scores, method


def _class_by_class(c: Conversion, calibrated: Any, scores: Value) -> Value:
    builder = c.builder
    classes = calibrated.classes
    n = len(classes)
    known = np.searchsorted(classes, calibrated.estimator.classes_).tolist()
    # scikit-learn zips classes, scores and calibrators, so one score column serves the first class only.
    count = min(len(known), scores.width, len(calibrated.calibrators))
    proba = _calibrators(c, calibrated.calibrators[:count], scores.select(slice(count)))
    if n == 2:
        return builder.concat([1.0 - proba, proba])
    if count < n:  # a class that this fold never saw has no share
        places = [known.index(place) if place in known[:count] else count for place in range(n)]
        proba = builder.concat([proba, builder.constant(0.0)]).select(places)
    total = builder.sum(proba)
    return builder.where(total == 0.0, builder.constant(1 / n), proba / total)


def _calibrators(c: Conversion, calibrators: Any, scores: Value) -> Value:
    """Each calibrator's probability for its column of scores, in float64."""
    if all(type(calibrator).__name__ == "_SigmoidCalibration" for calibrator in calibrators):
        # a_ and b_ are float64, so float32 scores are computed in float64.
        slope, offset = (np.array([getattr(k, name) for k in calibrators], dtype=np.float64) for name in ("a_", "b_"))
        return c.builder.sigmoid(-(scores.cast("float64") * slope + offset))
    columns = [
        interpolated(c, calibrator, scores.select([column]).cast(calibrator.X_thresholds_.dtype.name)).cast("float64")
        for column, calibrator in enumerate(calibrators)
    ]
    return c.builder.concat(columns)


def _temperature(c: Conversion, calibrated: Any, scores: Value, method: str) -> Value:
    """softmax(beta * logits); probabilities are turned into logits by their logarithm.

    scikit-learn recognises probabilities by looking at the whole batch. They are taken for what they are
    here: a decision function is never mistaken for probabilities.
    """
    builder = c.builder
    if method == "predict_proba":
        if scores.width == 1:
            scores = builder.concat([1.0 - scores, scores])
        logits = builder.log(scores + _LOG_EPS)
    elif scores.width == 1:
        logits = builder.concat([-scores, scores])
    else:
        logits = scores
    beta = np.atleast_1d(np.asarray(calibrated.calibrators[0].beta_))
    return builder.softmax(logits * beta).cast("float64")
