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

    scikit-learn takes the largest out of the sum and uses log1p, which differs by no more than rounding.
    """
    builder = x.builder
    largest = builder.max(x)
    shift = builder.where(largest - largest == 0.0, largest, 0.0)
    return builder.log(builder.sum(builder.exp(x - shift))) + shift


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
