"""Robust covariance: outliers by the Mahalanobis distance."""

from __future__ import annotations

from typing import Any

from sklearn.covariance import EllipticEnvelope

from tests.conformance.estimators.data import float32, iris, one_column
from tests.conformance.estimators.table import variant


def flowers() -> Any:
    """Iris without its classes."""
    return iris()[0], None


def centred() -> Any:
    """The same around zero."""
    X, _ = flowers()
    return X - X.mean(axis=0), None


def flowers32() -> Any:
    """The same in float32."""
    return float32()[0], None


def lengths() -> Any:
    """One column."""
    return one_column()[0], None


VARIANTS = (
    *(
        variant(EllipticEnvelope(random_state=0, **p), flowers)
        for p in (
            {},
            {"contamination": 0.3},
            {"store_precision": False},
            {"support_fraction": 0.9},
        )
    ),
    variant(EllipticEnvelope(random_state=0, assume_centered=True), centred),
    variant(EllipticEnvelope(random_state=0), flowers32),
    variant(EllipticEnvelope(random_state=0), lengths),
)
