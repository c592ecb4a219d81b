"""Gaussian mixtures of every covariance type and prior."""

from __future__ import annotations

import numpy as np
from sklearn.mixture import BayesianGaussianMixture, GaussianMixture

from tests.conformance.estimators.data import float32, iris, one_column, scaled
from tests.conformance.estimators.table import variant


def rows():
    """Rows without a target."""
    return iris()[0], None


def one():
    """One column, no target."""
    return one_column()[0], None


def single():
    """Rows in float32, no target."""
    return float32()[0], None


def near_zero():
    """Rows in float32 around zero: where means are large, scikit-learn's squares cancel, and few digits are left."""
    rng = np.random.default_rng(9)
    far = np.arange(120)[:, None] % 2
    return (rng.normal(size=(120, 3)) * (1 + 2 * far)).astype(np.float32), None


def whole():
    """Whole numbers, which scikit-learn's arithmetic cuts distances to."""
    return np.rint(10 * iris()[0]).astype(np.int64), None


def short_of_bits():
    """Whole numbers in int16, where squares and distances wrap around."""
    return (40 * whole()[0]).astype(np.int16), None


def pixels():
    """Whole numbers in uint8."""
    return (3 * whole()[0]).astype(np.uint8), None


def bools():
    """Yes and no."""
    return iris()[0] > 3.0, None


def far():
    """Columns of very different sizes."""
    return scaled()[0], None


def _mixture(**parameters):
    return GaussianMixture(random_state=0, **parameters)


def _bayesian(**parameters):
    return BayesianGaussianMixture(random_state=0, **parameters)


# Squared distances are what is left of terms a thousand times larger.
_CANCELS = "tflite engine, "
_WHOLE = "what follows the model needs its answers in float64"

VARIANTS = (
    variant(GaussianMixture(), rows),
    variant(_mixture(n_components=3), rows),
    *(
        variant(_mixture(n_components=3, covariance_type=t), rows, tflite=_CANCELS)
        for t in ("tied", "diag", "spherical")
    ),
    variant(_mixture(n_components=2), single),
    variant(_mixture(n_components=2, covariance_type="tied"), single),
    variant(_mixture(n_components=2, covariance_type="diag"), near_zero),
    variant(_mixture(n_components=2, covariance_type="spherical"), near_zero),
    variant(_mixture(n_components=2, reg_covar=0.01), one),
    variant(_mixture(n_components=2, covariance_type="diag"), far),
    variant(_mixture(n_components=3, covariance_type="tied"), whole, tflite=_WHOLE),
    variant(_mixture(n_components=3), whole, tflite=_WHOLE),
    variant(_mixture(n_components=3), short_of_bits, tflite=_WHOLE),
    variant(_mixture(n_components=3, covariance_type="spherical"), short_of_bits),
    variant(_mixture(n_components=3, covariance_type="tied"), pixels, tflite=_WHOLE),
    variant(_mixture(n_components=3, covariance_type="diag"), pixels),
    *(variant(_mixture(n_components=2, covariance_type=t, reg_covar=0.01), bools) for t in ("diag", "spherical")),
    variant(_mixture(n_components=3, init_params="random", max_iter=5), rows),
    variant(_mixture(n_components=2, weights_init=[0.3, 0.7], n_init=2), rows),
    variant(BayesianGaussianMixture(), rows),
    variant(_bayesian(n_components=3), rows),
    *(
        variant(_bayesian(n_components=3, covariance_type=t), rows, tflite=_CANCELS)
        for t in ("tied", "diag", "spherical")
    ),
    variant(_bayesian(n_components=3, weight_concentration_prior_type="dirichlet_distribution"), rows),
    variant(
        _bayesian(n_components=3, covariance_type="diag", weight_concentration_prior_type="dirichlet_distribution"),
        rows,
        tflite=_CANCELS,
    ),
    variant(_bayesian(n_components=4, weight_concentration_prior=0.01), rows),
    variant(_bayesian(n_components=2, mean_precision_prior=0.1, mean_prior=[5.0, 3.0, 4.0, 1.0]), rows),
    variant(_bayesian(n_components=2, degrees_of_freedom_prior=9, covariance_type="tied"), single, tflite=_CANCELS),
    variant(_bayesian(n_components=2), one),
)
