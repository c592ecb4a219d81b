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
