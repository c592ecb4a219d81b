"""Clusters: k-means and its kin, nearest of fixed points, groups of columns."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.cluster import (
    AffinityPropagation,
    Birch,
    BisectingKMeans,
    FeatureAgglomeration,
    KMeans,
    MeanShift,
    MiniBatchKMeans,
)

from tests.conformance.estimators.data import float32, iris, scaled
from tests.conformance.estimators.table import variant


def unlabelled() -> Any:
    """Rows of iris without targets."""
    return iris()[0], None


def unlabelled_float32() -> Any:
    """The same in float32."""
    return float32()[0], None


def whole_numbers() -> Any:
    """Seven columns of whole numbers, some alike."""
    rng = np.random.default_rng(21)
    base = rng.integers(0, 9, (60, 3))
    return np.concatenate([base, base + rng.integers(0, 2, (60, 3)), base[:, :1]], axis=1), None


def columns_of_many() -> Any:
    """Nine columns in groups of like ones."""
    rng = np.random.default_rng(22)
    base = rng.normal(size=(70, 3))
    return np.repeat(base, 3, axis=1) + 0.1 * rng.normal(size=(70, 9)), None


def yes_and_no() -> Any:
    """Seven columns of bools."""
    return whole_numbers()[0] > 4, None


VARIANTS = (
    variant(KMeans(4, n_init=2, random_state=0), unlabelled),
    variant(KMeans(3, n_init=1, algorithm="elkan", init="random", random_state=0), unlabelled_float32),
    variant(KMeans(5, n_init=1, random_state=0), scaled),
    variant(MiniBatchKMeans(5, n_init=1, batch_size=20, random_state=0), unlabelled),
    variant(BisectingKMeans(random_state=0), unlabelled),
    variant(BisectingKMeans(5, bisecting_strategy="largest_cluster", init="k-means++", random_state=1), unlabelled),
    variant(BisectingKMeans(1, random_state=0), unlabelled),
    variant(BisectingKMeans(4, random_state=0), unlabelled_float32),
    variant(Birch(), unlabelled),
    variant(Birch(n_clusters=None, threshold=1.0, branching_factor=20), unlabelled),
    variant(Birch(n_clusters=4, threshold=0.8), whole_numbers),
    variant(Birch(n_clusters=3), unlabelled_float32),
    variant(MeanShift(), unlabelled),
    variant(MeanShift(bandwidth=1.5, bin_seeding=True, cluster_all=False), unlabelled),
    variant(AffinityPropagation(random_state=0), unlabelled),
    variant(AffinityPropagation(random_state=0, damping=0.7, preference=-20), unlabelled),
    variant(
        AffinityPropagation(random_state=0, max_iter=2, convergence_iter=1),
        unlabelled,
        what="no centres",
    ),
    variant(FeatureAgglomeration(), columns_of_many),
    variant(FeatureAgglomeration(4, pooling_func=np.max), columns_of_many),
    variant(FeatureAgglomeration(3, pooling_func=np.min, linkage="average"), unlabelled_float32),
    variant(FeatureAgglomeration(3, pooling_func=np.median), columns_of_many),
    variant(FeatureAgglomeration(3, pooling_func=np.median), whole_numbers),
    variant(FeatureAgglomeration(3, pooling_func=np.sum), whole_numbers, tflite="beyond the range of int32"),
    variant(FeatureAgglomeration(3, pooling_func=np.max), yes_and_no),
    variant(FeatureAgglomeration(3, pooling_func=np.min), yes_and_no),
    variant(FeatureAgglomeration(3, pooling_func=np.prod), columns_of_many),
    variant(FeatureAgglomeration(3, pooling_func=np.ptp), columns_of_many),
    variant(FeatureAgglomeration(3, pooling_func=np.std), columns_of_many),
    variant(FeatureAgglomeration(3, pooling_func=np.var), columns_of_many),
    variant(FeatureAgglomeration(n_clusters=None, distance_threshold=5.0), whole_numbers),
)
