"""Clusters by the nearest of fixed points, by a tree of centres, and of columns.

In comes a fitted estimator of sklearn.cluster other than plain k-means (cluster.py); out go ``predict`` and
``transform``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.cluster import nearest_center
from edgeml.converters.nearest import euclidean, nearest_point
from edgeml.converters.products import numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


@converter(
    "sklearn.BisectingKMeans",
    ignores=(
        "n_clusters", "init", "n_init", "random_state", "max_iter", "verbose", "tol", "copy_x", "algorithm",
        "bisecting_strategy",
    ),
)  # fmt: skip
def bisecting_k_means(c: Conversion, est: Any, X: Block) -> Outputs:
    """Down the tree of centres, to the nearer of two at each fork."""
    b = c.builder
    x = X.matrix(c, est)
    mean = est._X_mean if hasattr(est, "_X_mean") else 0.0

    def label(node: Any) -> Value:
        if node.left is None:
            return b.constant(np.array([node.label], np.int64))
        centers = np.vstack((node.left.center, node.right.center)) + mean
        centers = centers.astype(x.dtype)
        return b.where(nearest_center(x, centers) == 0, label(node.left), label(node.right))

    return {"predict": label(est._bisecting_tree), "transform": Block(euclidean(c, x, est.cluster_centers_))}


@converter(
    "sklearn.Birch", honours=("n_clusters",), ignores=("threshold", "branching_factor", "compute_labels", "copy")
)
def birch(c: Conversion, est: Any, X: Block) -> Outputs:
    """Label of the nearest subcluster; distances to all of them."""
    x = numeric(c, est, X)
    centers = est.subcluster_centers_
    labels = np.asarray(est.subcluster_labels_, dtype=np.int64)
    return {
        "predict": c.builder.take(nearest_point(c, x, centers), labels),
        "transform": Block(euclidean(c, x if x.dtype == "float32" else x.cast("float64"), centers)),
    }


@converter(
    "sklearn.MeanShift",
    ignores=("bandwidth", "seeds", "bin_seeding", "min_bin_freq", "cluster_all", "n_jobs", "max_iter"),
)
@converter(
    "sklearn.AffinityPropagation",
    honours=("affinity",),
    ignores=(
        "damping", "max_iter", "convergence_iter", "copy", "preference", "verbose", "random_state",
    ),
)  # fmt: skip
def nearest_of_all(c: Conversion, est: Any, X: Block) -> Outputs:
    """The nearest of cluster_centers_; -1 where the search for them did not converge."""
    if not hasattr(est, "cluster_centers_"):
        raise c.refuse(est, "affinity", est.affinity, "fit on rows with affinity='euclidean': it keeps no centres else")
    x = numeric(c, est, X)
    if len(est.cluster_centers_) == 0:
        return {"predict": c.builder.constant(np.array([-1], np.int64))}
    return {"predict": nearest_point(c, x, est.cluster_centers_)}


@converter(
    "sklearn.FeatureAgglomeration",
    honours=("pooling_func",),
    ignores=(
        "n_clusters", "metric", "memory", "connectivity", "compute_full_tree", "linkage", "distance_threshold",
        "compute_distances",
    ),
)  # fmt: skip
def feature_agglomeration(c: Conversion, est: Any, X: Block) -> Outputs:
    """One column a group of columns: what the pooling function makes of the group."""
    x = numeric(c, est, X)
    pool = _POOLS.get(getattr(est.pooling_func, "__name__", "")) if _is_numpy(est.pooling_func) else None
    if pool is None:
        raise c.refuse(est, "pooling_func", est.pooling_func, f"pool with one of NumPy's {', '.join(sorted(_POOLS))}")
    groups = [x.select(np.flatnonzero(est.labels_ == label)) for label in np.unique(est.labels_)]
    return {"transform": Block(c.builder.concat([pool(c, group) for group in groups]))}


def _is_numpy(function: Any) -> bool:
    return getattr(np, getattr(function, "__name__", ""), None) is function


def _mean(c: Conversion, x: Value) -> Value:
    """np.bincount adds in float64, whatever the columns are."""
    return c.builder.sum(x.cast("float64")) / float(x.width)


def _median(c: Conversion, x: Value) -> Value:
    """The middle one in order, or the mean of the middle two; whole numbers become float64."""
    b, half = c.builder, x.width // 2
    x = x if x.dtype == "float32" else x.cast("float64")
    middle = b.take_along(x, b.heap_k(x.cast("float64"), half + 1))
    if x.width % 2:
        return middle.select(half)
    return (middle.select(half - 1) + middle.select(half)) / 2.0


def _total(c: Conversion, x: Value) -> Value:
    return c.builder.sum(x.cast("int64") if x.dtype == "bool" else x)


def _product(c: Conversion, x: Value) -> Value:
    x = x.cast("int64") if x.dtype == "bool" else x
    result = x.select(0)
    for j in range(1, x.width):
        result = result * x.select(j)
    return result


def _largest(c: Conversion, x: Value) -> Value:
    return c.builder.max(x) if x.dtype != "bool" else c.builder.max(x.cast("int64")) == 1


def _smallest(c: Conversion, x: Value) -> Value:
    return c.builder.min(x) if x.dtype != "bool" else c.builder.min(x.cast("int64")) == 1


def _spread(c: Conversion, x: Value) -> Value:
    return c.builder.max(x) - c.builder.min(x)


def _variance(c: Conversion, x: Value) -> Value:
    x = x if x.dtype == "float32" else x.cast("float64")
    d = x - c.builder.sum(x) / float(x.width)
    return c.builder.sum(d * d) / float(x.width)


# NumPy's functions of a row that can pool columns, by their names there.
_POOLS: dict[str, Callable[[Conversion, Value], Value]] = {
    "mean": _mean,
    "median": _median,
    "max": _largest,
    "amax": _largest,
    "min": _smallest,
    "amin": _smallest,
    "sum": _total,
    "prod": _product,
    "ptp": _spread,
    "var": _variance,
    "std": lambda c, x: c.builder.sqrt(_variance(c, x)),
}
