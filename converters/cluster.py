"""K-means: the nearest centre of each row, and the distances to all centres.

In comes a fitted KMeans or MiniBatchKMeans; out go ``predict`` and ``transform``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.nearest import euclidean
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

# Rows whose products with the centres overflow are nobody's, unless the centres are large themselves.
_HUGE = {"float64": 1e300, "float32": np.float32(1e30)}


@converter(
    "sklearn.KMeans",
    "sklearn.MiniBatchKMeans",
    honours=("n_clusters",),
    ignores=(
        "init", "n_init", "max_iter", "tol", "verbose", "random_state", "copy_x", "algorithm", "batch_size",
        "compute_labels", "max_no_improvement", "init_size", "reassignment_ratio",
    ),
)  # fmt: skip
def k_means(c: Conversion, est: Any, X: Block) -> Outputs:
    """Nearest centre by |c|^2 - 2 x.c, the first of equals; distances as euclidean_distances has them."""
    x = X.matrix(c, est)
    centers = est.cluster_centers_
    outputs: dict[str, Value | Block] = {"transform": Block(euclidean(c, x, centers))}
    if x.dtype == centers.dtype.name:
        outputs["predict"] = nearest_center(x, centers)
    else:
        c.cannot_give(
            est,
            "predict",
            f"compares {x.dtype} rows with {centers.dtype} centres, which scikit-learn refuses",
            "fit it on rows of the dtype it is to predict",
        )
    return outputs


def nearest_center(x: Value, centers: Any) -> Value:
    """Position of the nearest centre by |c|^2 - 2 x.c, the first of equals, of rows and centres of one dtype.

    scikit-learn goes on from the first centre to smaller numbers. Where a huge row overflows to NaN, that is none, but
    for the first.
    """
    b = x.builder
    scores = b.linear(x, -2.0 * centers.T, np.einsum("ij,ij->i", centers, centers))
    with np.errstate(over="ignore"):
        overflows = not np.isfinite(2.0 * np.abs(centers).sum(axis=1) * _HUGE[x.dtype]).all()
    if overflows:
        scores = b.where(b.is_nan(scores), np.array([-np.inf] + [np.inf] * (len(centers) - 1), x.dtype), scores)
    return b.argmin(scores)
