"""Variants of the samplers of sklearn.kernel_approximation and of sklearn.random_projection."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.kernel_approximation import AdditiveChi2Sampler, PolynomialCountSketch, RBFSampler, SkewedChi2Sampler
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

from tests.conformance.estimators.data import float32, iris, positive
from tests.conformance.estimators.table import Variant, variant


def shares() -> Any:
    """Non-negative numbers with zeros among them."""
    X = positive()[0] / 7.0
    return X, None


def yes_or_no() -> Any:
    """The same as bools: whether a share is large."""
    cells, y = shares()
    return cells > np.median(cells), y


def shares32() -> Any:
    """The same in float32."""
    return shares()[0].astype(np.float32), None


def wide() -> Any:
    """More columns than rows."""
    return np.random.default_rng(21).normal(size=(60, 200)), None


def wide32() -> Any:
    """The same in float32."""
    return wide()[0].astype(np.float32), None


def _sparse(estimator: Any) -> Variant:
    """The estimator behind a step whose output is sparse."""
    step = KBinsDiscretizer(n_bins=3, strategy="uniform")
    return variant(make_pipeline(step, estimator), iris, of=type(estimator).__name__)


VARIANTS: tuple[Variant, ...] = (
    variant(RBFSampler(n_components=20, random_state=0), iris),
    variant(RBFSampler(gamma="scale", n_components=7, random_state=0), iris),
    variant(RBFSampler(gamma=0.2, n_components=20, random_state=0), float32),
    _sparse(RBFSampler(n_components=9, random_state=0)),
    variant(SkewedChi2Sampler(n_components=12, random_state=0), iris),
    variant(SkewedChi2Sampler(skewedness=0.3, n_components=12, random_state=0), shares),
    variant(SkewedChi2Sampler(n_components=5, random_state=0), float32),
    variant(AdditiveChi2Sampler(), shares),
    variant(AdditiveChi2Sampler(), yes_or_no),
    variant(AdditiveChi2Sampler(sample_steps=1), shares),
    variant(AdditiveChi2Sampler(sample_steps=3), shares),
    variant(AdditiveChi2Sampler(sample_steps=4, sample_interval=0.35), shares),
    variant(AdditiveChi2Sampler(), shares32),
    variant(AdditiveChi2Sampler(), positive, tflite="beyond the range of int32"),
    _sparse(AdditiveChi2Sampler()),
    variant(PolynomialCountSketch(n_components=5, random_state=0), iris),
    variant(PolynomialCountSketch(degree=3, gamma=0.3, n_components=11, random_state=0), iris),
    variant(PolynomialCountSketch(degree=4, coef0=1, n_components=10, random_state=0), float32),
    _sparse(PolynomialCountSketch(n_components=10, coef0=0.5, random_state=0)),
    variant(GaussianRandomProjection(n_components=5, random_state=0), wide),
    variant(GaussianRandomProjection(n_components=5, random_state=0), wide32),
    variant(GaussianRandomProjection(eps=0.9, compute_inverse_components=True, random_state=0), wide),
    variant(SparseRandomProjection(n_components=6, random_state=0), wide),
    variant(SparseRandomProjection(n_components=6, density=0.3, dense_output=True, random_state=0), wide),
    variant(SparseRandomProjection(n_components=6, compute_inverse_components=True, random_state=0), wide32),
    _sparse(SparseRandomProjection(n_components=3, random_state=0)),
    _sparse(SparseRandomProjection(n_components=3, dense_output=True, random_state=0)),
)
