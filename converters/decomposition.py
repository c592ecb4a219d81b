"""Decompositions: projection of rows on the components found in training.

In comes a fitted PCA, IncrementalPCA, TruncatedSVD, FactorAnalysis or FastICA; out go ``transform`` and, for models of
a density, ``score_samples``. PCA centres after the projection, by subtracting the projected mean, the others before it,
and so does the program.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value
from edgeml.ir.table import Array

# From so many columns on a precision is kept as its few components: of 5,000 columns it has 25 million cells, 200 MB in
# each artifact, and as many products a row.
_WIDE = 256
# Variance of a component beside the noise: so far a row's likelihood kept 11 digits, at 1e8 it kept 8.
_WIDEST_SPREAD = 1e5
_TRAINING = (
    "copy", "svd_solver", "tol", "iterated_power", "n_oversamples", "power_iteration_normalizer",
    "random_state", "batch_size",
)  # fmt: skip


@converter("sklearn.IncrementalPCA", honours=("n_components", "whiten"), ignores=_TRAINING)
def incremental_pca(c: Conversion, est: Any, X: Block) -> Outputs:
    """The projection."""
    return {"transform": Block(_projected(est, X.matrix(c, est)))}


@converter("sklearn.PCA", honours=("n_components", "whiten"), ignores=_TRAINING)
def pca(c: Conversion, est: Any, X: Block) -> Outputs:
    """The projection, and the log-likelihood of rows in probabilistic PCA."""
    x = X.matrix(c, est)
    return LazyOutputs(
        c,
        {
            "transform": lambda: Block(_projected(est, x)),
            # Costs a matrix of features by features: only where it is asked for.
            "score_samples": lambda: _log_likelihood(c, est, x),
        },
    )


def _projected(est: Any, x: Value) -> Value:
    """x @ components_.T - mean_ @ components_.T, divided by the standard deviations when whitening."""
    components = est.components_.T
    mean = (np.reshape(est.mean_, (1, -1)) @ components)[0]
    y = affine(x, components, -mean, in_place=True)
    if est.whiten:
        scale = np.sqrt(est.explained_variance_)
        # Components without variance: scikit-learn divides by the machine epsilon, not by zero.
        scale = np.maximum(scale, np.finfo(scale.dtype).eps)
        y = (y / scale).cast(y.dtype)
    return y


def _log_likelihood(c: Conversion, est: Any, x: Value) -> Value:
    """-0.5 (r @ precision @ r + features * log(2 pi) - log|precision|), r = x - mean_: Bishop, 12.2.1."""
    from sklearn.utils.extmath import fast_logdet

    precision = est.get_precision()
    residual = x - est.mean_
    thin = _thin(est, precision) if x.width >= _WIDE and x.dtype == "float64" else None
    if thin is None:
        form = c.builder.sum(residual * affine(residual, precision))
    else:
        inside = affine(residual, thin[1])
        form = c.builder.sum(residual * residual * thin[0]) - c.builder.sum(inside * inside)
    log_likelihood = -0.5 * form
    constant = 0.5 * (x.width * math.log(2.0 * np.pi) - fast_logdet(precision))
    return log_likelihood - np.atleast_1d(constant)


def _thin(est: Any, precision: Array) -> tuple[Array, Array] | None:
    """d (features,) and B (features, components) with precision = diag(d) - B B^T, by the matrix inversion lemma as
    scikit-learn's ``get_precision``; None where that is not how it is made, where B is no smaller, or where the
    difference cancels.
    """
    from scipy import linalg

    components, features = est.components_, len(precision)
    noise = np.broadcast_to(est.noise_variance_, features)
    if 2 * len(components) >= features or not len(components) or not noise.all():
        return None
    if hasattr(est, "explained_variance_"):  # PCA; the components of FactorAnalysis have unit variance
        components = components * np.sqrt(est.explained_variance_)[:, None] if est.whiten else components
        own = np.maximum(est.explained_variance_ - est.noise_variance_, 0.0)
    else:
        own = np.ones(len(components))
    with np.errstate(divide="ignore"):
        inner = components / noise @ components.T + np.diag(1.0 / own)
    spread = ((components * components).sum(axis=1) * own).max() / noise.min()
    if not np.isfinite(inner).all() or spread > _WIDEST_SPREAD:
        return None
    half = linalg.solve_triangular(linalg.cholesky(inner, lower=True), components / noise, lower=True).T
    return 1.0 / noise, np.ascontiguousarray(half)


@converter(
    "sklearn.TruncatedSVD",
    honours=("n_components",),
    ignores=("algorithm", "n_iter", "n_oversamples", "power_iteration_normalizer", "random_state", "tol"),
)
def truncated_svd(c: Conversion, est: Any, X: Block) -> Outputs:
    """x @ components_.T, without centring."""
    return {"transform": Block(affine(numeric(c, est, X), est.components_.T))}


@converter(
    "sklearn.FactorAnalysis",
    honours=("n_components",),
    ignores=(
        "tol",
        "copy",
        "max_iter",
        "noise_variance_init",
        "svd_method",
        "iterated_power",
        "rotation",
        "random_state",
    ),
)
def factor_analysis(c: Conversion, est: Any, X: Block) -> Outputs:
    """The expected latent variables (Barber, 21.2.33), and the log-likelihood of rows."""
    from scipy import linalg

    x = numeric(c, est, X)
    weighted = est.components_ / est.noise_variance_
    covariance = linalg.inv(np.eye(len(est.components_)) + np.dot(weighted, est.components_.T))
    return LazyOutputs(
        c,
        {
            "transform": lambda: Block(affine(affine(x - est.mean_, np.ascontiguousarray(weighted.T)), covariance)),
            "score_samples": lambda: _log_likelihood(c, est, x),
        },
    )


@converter(
    "sklearn.FastICA",
    honours=("whiten",),
    ignores=(
        "n_components", "algorithm", "fun", "fun_args", "max_iter", "tol", "w_init", "whiten_solver", "random_state",
    ),
)  # fmt: skip
def fast_ica(c: Conversion, est: Any, X: Block) -> Outputs:
    """The sources: centred where the estimator whitens, then unmixed."""
    x = X.matrix(c, est)
    centred = (x - est.mean_).cast(x.dtype) if est.whiten else x  # in place, as scikit-learn has it
    return {"transform": Block(affine(centred, np.ascontiguousarray(est.components_.T)))}
