"""Gaussian mixtures: the log density of every component, weighted, and each component's share of a row.

In comes a fitted GaussianMixture or BayesianGaussianMixture of any covariance type; out go ``predict``,
``predict_proba`` and ``score_samples``. Densities follow scikit-learn's formulas, also where those cancel far from the
origin ("diag" and "spherical").
"""

from __future__ import annotations

import math
from dataclasses import dataclass
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
    return _shares(c, _log_density(c, est, X) + row(est._estimate_log_weights()))


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

    features = X.width
    log_density = _log_density(c, est, X) - row(0.5 * features * np.log(est.degrees_of_freedom_))
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


def _log_density(c: Conversion, est: Any, X: Block) -> Value:
    """_estimate_log_gaussian_prob: the log density of each component, (rows, components)."""
    x, means, roots = numeric(c, est, X), est.means_, est.precisions_cholesky_
    bits = X.numpy.itemsize * 8 if X.numpy.kind in "iu" and x.dtype == "int64" else 64
    stored = _Stored(bits, 0 if X.numpy.kind == "u" else -(2 ** (bits - 1)))
    distance, log_determinant = _DISTANCES[est.covariance_type](x, means, roots, stored)
    log_density: Value = -0.5 * (float(x.width * math.log(2 * math.pi)) + distance) + row(log_determinant)
    return log_density


@dataclass(frozen=True, slots=True)
class _Stored:
    """What scikit-learn keeps in arrays of the rows' own dtype, whole numbers of so many ``bits`` among them."""

    bits: int
    lowest: int

    def distances(self, x: Value, distances: list[Value]) -> Value:
        """Columns of one array: integers stay integers there; what is beyond int32 becomes its smallest."""
        if self.bits == 64:
            return x.builder.concat([distance.cast(x.dtype) for distance in distances])
        b, beyond = x.builder, 2.0**31
        whole = b.concat(distances)
        return self.wrapped(b.where(whole < beyond, whole, -beyond).cast("int64"))

    def squares(self, x: Value) -> Value:
        return x.cast("int64") if x.dtype == "bool" else self.wrapped(x * x)

    def norms(self, x: Value) -> Value:
        """Sums of squares, each of which is kept; a sum of bools says whether there is one."""
        if x.dtype == "bool":
            return x.builder.max(x.cast("int64"))
        return squared_norm(x) if self.bits == 64 else self.wrapped(x.builder.sum(self.squares(x)))

    def wrapped(self, x: Value) -> Value:
        """Whole numbers as an array of so many bits keeps them: modulo 2 ** bits, from the smallest on."""
        if self.bits == 64:
            return x
        b, span, lowest = x.builder, 2**self.bits, self.lowest
        # The quotient of a float64 may be one off, where the rest is next to the edge.
        quotient = b.op("Floor", (x.cast("float64") - float(lowest)) / float(span)).cast("int64")
        rest = x - quotient * span
        rest = b.where(rest < lowest + span, rest, rest - span)
        return b.where(rest < lowest, rest + span, rest)


def _full(x: Value, means: Any, roots: Any, stored: _Stored) -> tuple[Value, Any]:
    distances = [squared_norm(affine(x, root, -(mean @ root))) for mean, root in zip(means, roots, strict=True)]
    log_determinant = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(axis=1)
    return stored.distances(x, distances), log_determinant


def _tied(x: Value, means: Any, root: Any, stored: _Stored) -> tuple[Value, Any]:
    projected = affine(x, root)
    distances = [squared_norm(projected - mean @ root) for mean in means]
    return stored.distances(x, distances), np.sum(np.log(np.diagonal(root)))


def _diag(x: Value, means: Any, roots: Any, stored: _Stored) -> tuple[Value, Any]:
    precisions = roots**2
    own = np.sum(means**2 * precisions, axis=1)
    distance = row(own) - 2.0 * affine(x, (means * precisions).T) + affine(stored.squares(x), precisions.T)
    return distance, np.sum(np.log(roots), axis=1)


def _spherical(x: Value, means: Any, roots: Any, stored: _Stored) -> tuple[Value, Any]:
    precisions = roots**2
    own = np.sum(means**2, axis=1) * precisions
    distance = row(own) - 2.0 * (affine(x, means.T) * precisions) + stored.norms(x) * precisions
    return distance, x.width * np.log(roots)


_DISTANCES = {"full": _full, "tied": _tied, "diag": _diag, "spherical": _spherical}
