"""Gaussian processes: mean and standard deviation of a regressor, labels and probabilities of a classifier.

In comes a fitted GaussianProcessRegressor or GaussianProcessClassifier; out goes what it predicts: covariances with the
training rows (gaussian_process_kernels.py) times fitted coefficients.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.gaussian_process_kernels import covariance, variance
from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.products import affine, numeric, weight_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import NotFittedError
from edgeml.ir import Value

_TRAINING = ("optimizer", "n_restarts_optimizer", "copy_X_train", "random_state")


@converter(
    "sklearn.GaussianProcessRegressor",
    honours=("kernel", "normalize_y"),
    ignores=(*_TRAINING, "alpha", "n_targets"),
    note="return_std too; return_cov is about a batch, no row's own, and its diagonal is return_std squared",
)
def gaussian_process_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The mean: covariances with the training rows times ``alpha_``, in the units of the target; and how far it may be
    off: the variance of the kernel less what the training rows tell.
    """
    if not hasattr(est, "X_train_"):  # scikit-learn then predicts 0, the mean before any row is seen
        raise NotFittedError(
            f"step {c.builder.origin or 'pipeline'}: GaussianProcessRegressor is not fitted",
            "call fit on the pipeline before compiling it",
        )
    x, scale = numeric(c, est, X), np.atleast_1d(est._y_train_std)
    values = covariance(c, est, est.kernel_, x, est.X_train_)
    return LazyOutputs(
        c,
        {
            "predict": lambda: (
                affine(values, weight_of(np.transpose(est.alpha_))) * scale + np.atleast_1d(est._y_train_mean)
            ),
            "predict_std": lambda: _deviations(c, est, x, values, scale),
        },
    )


def _deviations(c: Conversion, est: Any, x: Value, values: Value, scale: Any) -> Value:
    """Of every target: rounding may make a variance negative, which is then 0."""
    spread = _unknown(c, est, x, values, est.L_, np.eye(len(est.L_)))
    return c.builder.sqrt(c.builder.where(spread < 0.0, 0.0, spread) * scale**2)


@converter(
    "sklearn.GaussianProcessClassifier",
    honours=("kernel", "multi_class"),
    ignores=(*_TRAINING, "max_iter_predict", "warm_start", "n_jobs"),
)
def gaussian_process_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """What its binary process, or one process a class or a pair of classes, predicts."""
    inner = Block(numeric(c, est, X), names=X.names)
    outputs = c.convert(est.base_estimator_, inner, "base_estimator_")
    given = {"predict": lambda: outputs["predict"]}
    if est.multi_class == "one_vs_rest" or len(est.classes_) == 2:
        given["predict_proba"] = lambda: outputs["predict_proba"]
    else:
        c.cannot_give(
            est,
            "predict_proba",
            "knows no probabilities with multi_class='one_vs_one'",
            "fit it with multi_class='one_vs_rest'",
        )
    return LazyOutputs(c, given)


@converter(
    "sklearn._BinaryGaussianProcessClassifierLaplace",
    honours=("kernel",),
    ignores=(*_TRAINING, "max_iter_predict", "warm_start"),
)
def binary_process(c: Conversion, est: Any, X: Block) -> Outputs:
    """The second class where the latent function's mean is above 0; probabilities by five error functions.

    Rasmussen and Williams, Gaussian Processes for Machine Learning, algorithm 3.2; the integral of line 7 after
    Williams and Barber, "Bayesian classification with Gaussian processes", appendix A.
    """
    x = X.matrix(c, est, dtype=X.dtype, check=False)
    values = covariance(c, est, est.kernel_, x, est.X_train_)
    mean = affine(values, weight_of(est.y_train_ - est.pi_))
    return LazyOutputs(
        c,
        {
            "predict": lambda: c.labels((mean > 0.0).cast("int64"), est.classes_),
            "predict_proba": lambda: _probabilities(c, est, mean, _latent_variance(c, est, x, values)),
        },
    )


def _latent_variance(c: Conversion, est: Any, x: Value, values: Value) -> Value:
    """Variance of the latent function: that of the kernel less what the training rows tell."""
    # scipy.linalg.solve checks what it is given: a covariance may overflow where its row does not.
    values = c.builder.check_finite(values, c.place(est))
    # L is the Cholesky factor of a matrix whose eigenvalues are at least 1: its inverse keeps every digit.
    return _unknown(c, est, x, values, est.L_, np.diag(est.W_sr_))


def _unknown(c: Conversion, est: Any, x: Value, values: Value, factor: Any, weights: Any) -> Value:
    """The variance of the kernel at x, less the squares of ``factor``^-1 @ ``weights`` @ values."""
    from scipy.linalg import solve_triangular

    known = affine(values, solve_triangular(factor, weights, lower=True).T)
    return variance(c, est, est.kernel_, x).cast("float64") - c.builder.sum(known * known)


def _probabilities(c: Conversion, est: Any, mean: Value, spread: Value) -> Value:
    from sklearn.gaussian_process._gpc import COEFS, LAMBDAS

    builder, slopes, weights = c.builder, LAMBDAS[:, 0], COEFS[:, 0]
    alpha = 1.0 / (2.0 * spread)
    arguments = mean * slopes * builder.sqrt(alpha / (alpha + slopes**2))
    integrals = builder.sqrt(math.pi / alpha) * builder.erf(arguments) / (2.0 * builder.sqrt(spread * 2.0 * math.pi))
    second = builder.sum(integrals * weights) + float(0.5 * weights.sum())
    return builder.concat([1.0 - second, second])
