"""Outliers by a robust covariance: EllipticEnvelope.

In comes the fitted estimator; out go ``score_samples`` (minus the squared Mahalanobis distance), ``decision_function``
and ``predict``. The other estimators of sklearn.covariance have no method for new rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter


@converter(
    "sklearn.EllipticEnvelope",
    honours=("store_precision",),
    ignores=("assume_centered", "support_fraction", "contamination", "random_state"),
)
def elliptic_envelope(c: Conversion, est: Any, X: Block) -> Outputs:
    """SciPy takes the root of the sum, and scikit-learn squares it: the last bit decides on the envelope itself."""
    b = c.builder
    away = numeric(c, est, X).cast("float64") - est.location_.astype(np.float64)
    precision = np.asarray(est.get_precision(), dtype=np.float64)
    distance = b.sqrt(b.sum(away * affine(away, np.ascontiguousarray(precision.T))))
    score = -(distance * distance)
    decision = score - est.offset_
    inlier = decision >= 0.0
    return {
        "score_samples": score,
        "decision_function": decision,
        "predict": b.where(inlier, b.constant([1]), b.constant([-1])),
    }
