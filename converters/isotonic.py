"""Isotonic regression: piecewise linear between the thresholds found in training.

In comes a fitted IsotonicRegression; out go its ``predict`` and ``transform``. Its interpolation serves the calibrators
of CalibratedClassifierCV too.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


@converter("sklearn.IsotonicRegression", honours=("out_of_bounds",), ignores=("y_min", "y_max", "increasing"))
def isotonic_regression(c: Conversion, est: Any, X: Block) -> Outputs:
    """The interpolation; outside the thresholds NaN, the nearest end, or a refusal, as ``out_of_bounds`` says."""
    x = X.matrix(c, est, dtype=est.X_thresholds_.dtype.name)
    y = interpolated(c, est, x)
    if len(est.X_thresholds_) > 1 and est.out_of_bounds != "clip":  # one threshold answers every row
        inside = (x >= est.X_thresholds_[:1]) & (x <= est.X_thresholds_[-1:])
        if est.out_of_bounds == "nan":
            y = c.builder.where(inside, y, float("nan"))
        else:
            message = f"{c.place(est)} was given a value outside its thresholds, which scikit-learn refuses too"
            y = c.builder.require(y, inside, message)
    return {"predict": y, "transform": Block(y)}


def interpolated(c: Conversion, est: Any, x: Value) -> Value:
    """Piecewise linear between ``X_thresholds_``, constant outside, in their dtype; x is one column of that dtype."""
    builder = c.builder
    xs, ys = est.X_thresholds_, est.y_thresholds_
    if xs.dtype == np.float64 or len(xs) == 1:
        y = builder.op("Interp", x.cast("float64"), xs=xs.astype(np.float64), ys=ys.astype(np.float64))
        return y.cast(xs.dtype.name)
    # SciPy interpolates float32 in float32, on the piece that ends with the first threshold at or above x.
    x = builder.clip(x, est.X_min_, est.X_max_)
    piece = builder.sum((builder.constant(xs) < x).cast("int64"))
    low = builder.clip(piece, 1, len(xs) - 1) - 1
    slope = (ys[1:] - ys[:-1]) / (xs[1:] - xs[:-1])
    return builder.take(low, slope) * (x - builder.take(low, xs[:-1])) + builder.take(low, ys[:-1])
