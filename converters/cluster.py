"""K-means: the nearest centre of each row, and the distances to all centres.

In comes a fitted KMeans or MiniBatchKMeans; out go ``predict`` and ``transform``. Both use scikit-learn's
formula |x|^2 - 2 x.c + |c|^2 in its order. It cancels for a row that lies close to a centre and far from
the origin: there scikit-learn's own distances carry an error of about sqrt(2.2e-16) |x|, and another order
of summation gives another one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


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
    outputs: dict[str, Value | Block] = {"transform": Block(distances_to(c, x, centers))}
    if x.dtype == centers.dtype.name:
        outputs["predict"] = c.builder.argmin(c.builder.linear(x, -2.0 * centers.T, _squared_norms(centers)))
    else:
        c.cannot_give(
            est,
            "predict",
            f"compares {x.dtype} rows with {centers.dtype} centres, which scikit-learn refuses",
            "fit it on rows of the dtype it is to predict",
        )
    return outputs


def _squared_norms(rows: Any) -> Any:
    """sklearn.utils.extmath.row_norms(rows, squared=True)."""
    return np.einsum("ij,ij->i", rows, rows)


def distances_to(c: Conversion, x: Value, centers: Any) -> Value:
    """float64 inside; rounded to float32 before the root when rows and centres are both float32."""
    dtype = np.result_type(np.dtype(x.dtype), centers.dtype).name
    wide, centers = x.cast("float64"), centers.astype(np.float64)
    squared = c.builder.linear(wide, -2.0 * centers.T) + c.builder.sum(wide * wide) + _squared_norms(centers)
    return c.builder.sqrt(c.builder.maximum(squared.cast(dtype), 0.0))
