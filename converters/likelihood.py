"""From log-likelihoods of classes or components to what a classifier answers: logarithms of sums, shares, labels.

In comes a matrix (rows, classes) of joint log-likelihoods as an estimator computes them; out go its ``predict``,
``predict_proba`` and ``predict_log_proba``. Called by the converters of naive Bayes, discriminant analysis, mixtures.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.registry import Conversion, Outputs
from edgeml.ir import Value


def log_sum_exp(x: Value) -> Value:
    """Logarithm of the sum of exp along the row, shifted by the largest unless that is infinite, (rows, 1).

    As scikit-learn adds it: the largest stands outside the sum and the others go through log1p. A class that is all but
    certain then has its probability to the last bit, which the logarithms of a calibrator would magnify otherwise.
    """
    builder = x.builder
    largest = builder.max(x)
    at = x == largest
    shift = builder.where(largest - largest == 0.0, largest, 0.0)
    count = builder.sum(at.cast(x.dtype))
    rest = builder.sum(builder.where(at, 0.0, builder.exp(x - shift)))
    # Beside an infinite one the others may overflow, which changes nothing; of NaN the count is 0.
    rest = builder.minimum(rest / count, float(x.width))
    return _log1p(rest) + builder.log(count) + largest


def _log1p(x: Value) -> Value:
    """log1p of finite numbers from 0 on, by ops that every target has: what 1 + x rounds off cancels.

    Goldberg, What every computer scientist should know about floating-point arithmetic, theorem 4.
    """
    builder = x.builder
    step = (x + 1.0) - 1.0
    tiny = step == 0.0
    return builder.where(tiny, x, x * (builder.log(x + 1.0) / builder.where(tiny, 1.0, step)))


def classified(c: Conversion, est: Any, joint: Value) -> Outputs:
    """What naive Bayes answers: the first class of the largest joint log-likelihood, and its shares."""
    log_proba = joint - log_sum_exp(joint)
    return LazyOutputs(
        c,
        {
            "predict": lambda: c.labels(c.builder.argmax(joint), est.classes_),
            "predict_log_proba": lambda: log_proba,
            "predict_proba": lambda: c.builder.exp(log_proba),
        },
    )


def discriminated(c: Conversion, est: Any, scores: Value) -> Outputs:
    """What DiscriminantAnalysisPredictionMixin answers; ``scores`` has a column a class, also of two classes.

    Of two classes the decision function is the second score minus the first.
    """
    builder = c.builder
    shifted = scores - builder.max(scores)
    log_proba = shifted - builder.log(builder.sum(builder.exp(shifted)))
    two = len(est.classes_) == 2
    return LazyOutputs(
        c,
        {
            "predict": lambda: c.labels(builder.argmax(scores), est.classes_),
            "decision_function": lambda: scores.select([1]) - scores.select([0]) if two else scores,
            "predict_log_proba": lambda: log_proba,
            "predict_proba": lambda: builder.exp(log_proba),
        },
    )


def squared_norm(x: Value) -> Value:
    """Sum of the squares along the row, (rows, 1)."""
    return x.builder.sum(x * x)


def row(values: Any) -> Any:
    """A fitted number or array as one row of a program, in its own dtype: it promotes as NumPy's arrays do."""
    return np.atleast_1d(np.asarray(values))
