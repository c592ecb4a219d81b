"""Gaussian mixtures: the log density of every component, weighted, and each component's share of a row.

In comes a fitted GaussianMixture or BayesianGaussianMixture of any covariance type; out go ``predict``,
``predict_proba`` and ``score_samples``. Densities follow scikit-learn's formulas, also where those cancel far from the
origin ("diag" and "spherical").
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.likelihood import log_sum_exp, row, squared_norm
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_TRAINING = (
    "n_components", "tol", "reg_covar", "max_iter", "n_init", "init_params", "random_state", "warm_start", "verbose",
    "verbose_interval",
)  # fmt: skip


@converter(
    "sklearn.GaussianMixture",
    honours=("covariance_type",),
    ignores=(*_TRAINING, "weights_init", "means_init", "precisions_init"),
)
def gaussian_mixture(c: Conversion, est: Any, X: Block) -> Outputs:
    """Log densities plus the logarithms of the weights."""
    return _shares(c, _log_density(c, est, numeric(c, est, X)) + row(est._estimate_log_weights()))


@converter(
    "sklearn.BayesianGaussianMixture",
    honours=("covariance_type", "weight_concentration_prior_type"),
    ignores=(
        *_TRAINING, "weight_concentration_prior", "mean_precision_prior", "mean_prior", "degrees_of_freedom_prior",
        "covariance_prior",
    ),
)  # fmt: skip
def bayesian_gaussian_mixture(c: Conversion, est: Any, X: Block) -> Outputs:
    """As above, with the expectations of the log weights and of the precisions' log determinants."""
    from scipy.special import digamma

    x = numeric(c, est, X)
    features = x.width
    log_density = _log_density(c, est, x) - row(0.5 * features * np.log(est.degrees_of_freedom_))
    freedom = est.degrees_of_freedom_ - np.arange(0, features)[:, np.newaxis]
    log_lambda = features * np.log(2.0) + np.sum(digamma(0.5 * freedom), 0)
    log_density = log_density + row(0.5 * (log_lambda - features / est.mean_precision_))
    return _shares(c, log_density + row(est._estimate_log_weights()))


def _shares(c: Conversion, weighted: Value) -> Outputs:
    """The likeliest component, the shares of all, and the log density of the whole mixture."""
    builder = c.builder
    density = log_sum_exp(weighted)
    return LazyOutputs(
        c,
        {
            "predict": lambda: builder.argmax(weighted),
            "predict_proba": lambda: builder.exp(weighted - density),
            "score_samples": lambda: density,
        },
    )


def _log_density(c: Conversion, est: Any, x: Value) -> Value:
    """_estimate_log_gaussian_prob: the log density of each component, (rows, components)."""
    means, roots = est.means_, est.precisions_cholesky_
    distance, log_determinant = _DISTANCES[est.covariance_type](x, means, roots)
    log_density: Value = -0.5 * (float(x.width * math.log(2 * math.pi)) + distance) + row(log_determinant)
    return log_density


def _stored(x: Value, distances: list[Value]) -> Value:
    """Columns of one array of x's dtype, as scikit-learn writes them: integers stay integers there."""
    return x.builder.concat([distance.cast(x.dtype) for distance in distances])


def _full(x: Value, means: Any, roots: Any) -> tuple[Value, Any]:
    distances = [squared_norm(affine(x, root, -(mean @ root))) for mean, root in zip(means, roots, strict=True)]
    log_determinant = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    return _stored(x, distances), log_determinant


def _tied(x: Value, means: Any, root: Any) -> tuple[Value, Any]:
    projected = affine(x, root)
    distances = [squared_norm(projected - mean @ root) for mean in means]
    return _stored(x, distances), np.sum(np.log(np.diagonal(root)))


def _diag(x: Value, means: Any, roots: Any) -> tuple[Value, Any]:
    precisions = roots**2
    own = np.sum(means**2 * precisions, axis=1)
    distance = row(own) - 2.0 * affine(x, (means * precisions).T) + affine(x * x, precisions.T)
    return distance, np.sum(np.log(roots), axis=1)


def _spherical(x: Value, means: Any, roots: Any) -> tuple[Value, Any]:
    precisions = roots**2
    own = np.sum(means**2, axis=1) * precisions
    distance = row(own) - 2.0 * (affine(x, means.T) * precisions) + squared_norm(x) * precisions
    return distance, x.width * np.log(roots)


_DISTANCES = {"full": _full, "tied": _tied, "diag": _diag, "spherical": _spherical}
