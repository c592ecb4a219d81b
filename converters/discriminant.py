"""Discriminant analysis: linear and quadratic scores of classes, and the projection that separates classes best.

In comes a fitted LinearDiscriminantAnalysis or QuadraticDiscriminantAnalysis of any solver; out go the decision
function, classes, probabilities and their logarithms, and of the linear one ``transform``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs, Output
from edgeml.converters.likelihood import discriminated, row, squared_norm
from edgeml.converters.linear_classifiers import predicted, scores_of
from edgeml.converters.products import affine, expit, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


@converter(
    "sklearn.LinearDiscriminantAnalysis",
    honours=("solver", "n_components"),
    ignores=("shrinkage", "priors", "store_covariance", "tol", "covariance_estimator"),
)
def linear(c: Conversion, est: Any, X: Block) -> Outputs:
    """Linear scores; the logistic function of the one score of two classes, else softmax."""
    builder = c.builder
    x = numeric(c, est, X)
    scores = scores_of(est, x)

    def proba() -> Value:
        if len(est.classes_) != 2:
            return builder.softmax(scores)
        second = expit(scores)
        return builder.concat([1.0 - second, second])

    def log_proba() -> Value:
        """The smallest normal number in the place of a probability of 0: its logarithm stays finite."""
        p = proba()
        return builder.log(builder.where(p == 0.0, float(np.finfo(p.dtype).smallest_normal), p))

    outputs: dict[str, Any] = {
        "decision_function": lambda: scores,
        "predict": lambda: predicted(c, est, scores),
        "predict_proba": proba,
        "predict_log_proba": log_proba,
    }
    if est.solver != "lsqr":  # which finds no projection
        outputs["transform"] = lambda: _projected(est, x)
    return LazyOutputs(c, outputs)


def _projected(est: Any, x: Value) -> Output:
    """Rows times the scalings, centred first where the solver is "svd"."""
    x = x - est.xbar_ if est.solver == "svd" else x
    return Block(affine(x, est.scalings_[:, : est._max_components]))


@converter(
    "sklearn.QuadraticDiscriminantAnalysis",
    ignores=("solver", "shrinkage", "priors", "reg_param", "store_covariance", "tol", "covariance_estimator"),
)
def quadratic(c: Conversion, est: Any, X: Block) -> Outputs:
    """-0.5 (squared Mahalanobis distance + log determinant) + log(prior), class by class."""
    x = numeric(c, est, X)
    distances = [
        squared_norm(affine(x - mean, rotation * scaling**-0.5))
        for mean, rotation, scaling in zip(est.means_, est.rotations_, est.scalings_, strict=True)
    ]
    determinants = np.asarray([np.sum(np.log(scaling)) for scaling in est.scalings_])
    scores = -0.5 * (c.builder.concat(distances) + determinants) + row(np.log(est.priors_))
    return discriminated(c, est, scores)
