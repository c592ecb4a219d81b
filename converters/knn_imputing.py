"""KNNImputer: missing cells become the mean of the nearest training rows that have the cell.

In comes a Block, out goes ``transform``; a row that shares no column with any donor gets the column's mean.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.nearest import inverse_weights, nan_euclidean
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


@converter(
    "sklearn.KNNImputer",
    honours=("missing_values", "n_neighbors", "weights", "metric", "add_indicator", "keep_empty_features"),
    ignores=("copy",),
)
def knn_imputer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Column by column: the nearest of the rows that have it, weighted or not."""
    if est.metric != "nan_euclidean":
        raise c.refuse(est, "metric", est.metric, "use metric='nan_euclidean'; a function stays in Python")
    if callable(est.weights):
        raise c.refuse(est, "weights", est.weights, "use weights='uniform' or 'distance'; a function stays in Python")
    b = c.builder
    by_nan = isinstance(est.missing_values, float) and math.isnan(est.missing_values)
    x = X.matrix(c, est, allow_nan=by_nan)
    missing = b.is_nan(x) if by_nan else x == float(est.missing_values)
    points = np.where(est._mask_fit_X, np.asarray(np.nan, dtype=est._fit_X.dtype), est._fit_X)
    squared = nan_euclidean(c, b.where(missing, b.constant(np.nan, x.dtype), x), points)
    points = points.astype(np.float64)
    columns, kept = [], []
    for at in range(x.width):
        if not est._valid_mask[at]:
            if est.keep_empty_features:
                columns.append(b.constant(np.zeros(1, dtype=x.dtype)))
                kept.append(at)
            continue
        filled = _fill(c, est, squared, points[:, at]).cast(x.dtype)
        columns.append(b.where(missing.select(at), filled, x.select(at)))
        kept.append(at)
    reported = est.indicator_.features_ if est.add_indicator else []
    if len(reported):
        columns.append(missing.select(reported).cast(x.dtype))
    names = None
    if X.names is not None:
        names = [X.names[i] for i in kept] + [f"missingindicator_{X.names[i]}" for i in reported]
    return {"transform": Block(*columns, names=names)}


def _fill(c: Conversion, est: Any, squared: Value, cells: Any) -> Value:
    """What stands in for a missing cell of a column; cells (points,) are the training rows', NaN where missing."""
    b = c.builder
    donors = np.flatnonzero(~np.isnan(cells))
    distances = squared.select(donors)
    nearest = b.top_k(distances, min(est.n_neighbors, len(donors)))
    near = b.sqrt(b.take_along(distances, nearest))
    unknown = b.is_nan(near)
    if est.weights == "distance":
        weights = b.where(unknown, 0.0, inverse_weights(c, near))
    else:
        weights = (~unknown).cast("float64")
    values = b.take_along(b.constant(cells[donors]), nearest)
    total = b.sum(weights)
    alone = b.max((~unknown).cast("float64")) == 0.0
    mean = b.sum(values * weights) / b.where(alone, 1.0, total)
    return b.where(alone, float(cells[donors].mean()), mean)
