"""Nearest neighbours: votes and means of the k nearest and within a radius, in every metric, and their graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.neighbors import (
    KernelDensity,
    KNeighborsClassifier,
    KNeighborsRegressor,
    KNeighborsTransformer,
    LocalOutlierFactor,
    NearestCentroid,
    NeighborhoodComponentsAnalysis,
    RadiusNeighborsClassifier,
    RadiusNeighborsRegressor,
    RadiusNeighborsTransformer,
)

from tests.conformance.estimators.data import float32, iris, iris_names, number, two_names, two_numbers
from tests.conformance.estimators.table import variant


def clouds() -> Any:
    """Three classes, five columns, no two distances alike."""
    rng = np.random.default_rng(11)
    y = rng.integers(0, 3, 90)
    return rng.normal(size=(90, 5)) + y[:, None], y


def clouds_of_numbers() -> Any:
    """The same rows with a numeric target."""
    X, y = clouds()
    return X, X[:, 0] * y - X[:, 1]


def clouds_of_two() -> Any:
    """The same rows with two labels each, names."""
    X, y = clouds()
    return X, np.stack([np.array(["a", "b", "c"])[y], np.where(X[:, 0] > 0, "yes", "no")], axis=1)


def small_clouds() -> Any:
    """The same rows in float32."""
    X, y = clouds()
    return X.astype(np.float32), y


def wide_clouds() -> Any:
    """Thirty columns: brute force."""
    rng = np.random.default_rng(12)
    y = rng.integers(0, 4, 80)
    return rng.normal(size=(80, 30)) + y[:, None], y * 10 - 5


def yes_or_no() -> Any:
    """Twelve columns of 0 and 1, every row another."""
    rng = np.random.default_rng(13)
    return (rng.random((80, 12)) < 0.5).astype(float), rng.integers(0, 2, 80)


def places() -> Any:
    """Latitudes and longitudes in radians, and a number at each."""
    rng = np.random.default_rng(15)
    X = np.stack([rng.uniform(-1.5, 1.5, 70), rng.uniform(-3, 3, 70)], axis=1)
    return X, rng.normal(size=70)


def square() -> Any:
    """Distances between 60 rows, and classes."""
    X, y = clouds()
    return np.abs(X[:60, None] - X[None, :60]).sum(axis=2), y[:60]


def holes() -> Any:
    """Three classes, one cell in eight missing."""
    X, y = clouds()
    X[np.random.default_rng(14).random(X.shape) < 0.125] = np.nan
    return X, y


_VI = np.linalg.inv(np.cov(clouds()[0].T))
_METRICS = (
    ("euclidean", {}), ("manhattan", {}), ("chebyshev", {}), ("canberra", {}), ("braycurtis", {}), ("l1", {}),
    ("seuclidean", {"V": np.array([1.0, 2.0, 0.5, 1.5, 1.0])}), ("mahalanobis", {"VI": _VI}),
    ("minkowski", {"w": np.array([1.0, 2.0, 0.5, 0.1, 3.0])}),
)  # fmt: skip

VARIANTS = (
    variant(KNeighborsClassifier(), clouds),
    variant(KNeighborsClassifier(), iris_names),
    variant(KNeighborsClassifier(n_neighbors=3, weights="distance"), clouds, tflite="tflite engine"),
    variant(KNeighborsClassifier(n_neighbors=3, weights="distance"), clouds_of_two, tflite="tflite engine"),
    variant(KNeighborsClassifier(), clouds_of_two),
    variant(KNeighborsClassifier(), wide_clouds),
    variant(KNeighborsClassifier(), small_clouds),
    variant(KNeighborsClassifier(algorithm="brute", metric="manhattan"), small_clouds),
    variant(KNeighborsClassifier(n_neighbors=1), two_names),
    variant(KNeighborsClassifier(n_neighbors=4, p=3), clouds),
    variant(KNeighborsClassifier(n_neighbors=4, p=1.5), clouds),
    variant(KNeighborsClassifier(n_neighbors=4, p=np.inf), clouds),
    *(
        variant(
            KNeighborsClassifier(n_neighbors=4, metric=m, algorithm=a, metric_params=q or None, weights="distance"),
            clouds,
            what=a,
            tflite="" if m in ("canberra", "braycurtis") or (m, a) == ("mahalanobis", "brute") else "tflite engine",
        )
        for m, q in _METRICS
        for a in ("ball_tree", "brute")
        # A training row's distance to itself is noise of BLAS there, and so is its weight.
        if (m, a) != ("euclidean", "brute")
    ),
    *(
        variant(KNeighborsRegressor(metric=m, algorithm="brute"), clouds_of_numbers)
        for m in ("cosine", "correlation", "sqeuclidean")
    ),
    variant(KNeighborsClassifier(metric="nan_euclidean"), holes),
    variant(KNeighborsRegressor(3, metric="nan_euclidean", weights="distance"), small_clouds),
    variant(KNeighborsClassifier(metric="precomputed"), square),
    *(
        variant(KNeighborsClassifier(80, metric=m, algorithm=a, weights="distance"), yes_or_no)
        for m in ("hamming", "jaccard", "dice", "rogerstanimoto", "russellrao", "sokalsneath")
        for a in ("ball_tree", "brute")
    ),
    variant(KNeighborsClassifier(80, metric="yule", algorithm="brute", weights="distance"), yes_or_no),
    variant(KNeighborsRegressor(), number),
    variant(KNeighborsRegressor(weights="distance"), clouds_of_numbers),
    variant(KNeighborsRegressor(n_neighbors=2, algorithm="brute"), clouds_of_numbers),
    variant(KNeighborsRegressor(n_neighbors=7, weights="distance"), two_numbers),
    variant(RadiusNeighborsClassifier(radius=2.5, outlier_label=0), clouds),
    variant(RadiusNeighborsClassifier(radius=20.0, weights="distance"), clouds),
    variant(RadiusNeighborsClassifier(radius=1.0, outlier_label="most_frequent"), clouds),
    variant(RadiusNeighborsClassifier(radius=1.0, outlier_label=-7), clouds),
    variant(
        RadiusNeighborsClassifier(radius=1.0, outlier_label=["c", "no"]),
        clouds_of_two,
        tflite="TFLite has only numbers",
    ),
    variant(RadiusNeighborsClassifier(radius=5.0, outlier_label=1, algorithm="brute"), wide_clouds),
    variant(RadiusNeighborsClassifier(radius=1.0, algorithm="brute", outlier_label="most_frequent"), clouds),
    variant(RadiusNeighborsClassifier(radius=3.0, p=1, outlier_label=2), clouds),
    variant(RadiusNeighborsRegressor(radius=2.5), clouds_of_numbers),
    variant(RadiusNeighborsRegressor(radius=2.5, weights="distance"), clouds_of_numbers),
    variant(RadiusNeighborsRegressor(radius=0.5), two_numbers),
    variant(RadiusNeighborsRegressor(radius=4.0, algorithm="brute", metric="canberra"), clouds_of_numbers),
    variant(KNeighborsRegressor(4, metric="haversine", weights="distance"), places),
    variant(RadiusNeighborsRegressor(radius=0.7, metric="haversine", algorithm="brute"), places),
    variant(KNeighborsTransformer(n_neighbors=4, metric="haversine", algorithm="brute"), places),
    variant(KNeighborsTransformer(), clouds),
    variant(KNeighborsTransformer(mode="connectivity", n_neighbors=3), clouds),
    variant(RadiusNeighborsTransformer(radius=2.0), clouds),
    variant(RadiusNeighborsTransformer(radius=2.0, mode="connectivity", metric="manhattan"), clouds),
    variant(LocalOutlierFactor(novelty=True), iris),
    variant(LocalOutlierFactor(novelty=True, n_neighbors=5, contamination=0.1, p=1), clouds),
    variant(LocalOutlierFactor(novelty=True, n_neighbors=5), float32),
    variant(NearestCentroid(), iris_names),
    variant(NearestCentroid(), two_names, tflite="tflite engine, awkward rows"),
    variant(NearestCentroid(metric="manhattan"), clouds),
    variant(NearestCentroid(shrink_threshold=0.5), clouds),
    variant(NearestCentroid(priors="empirical"), clouds, tflite="tflite engine"),
    variant(NearestCentroid(priors=[0.2, 0.3, 0.5], metric="manhattan"), clouds, tflite="tflite engine"),
    variant(NearestCentroid(), small_clouds),
    variant(NeighborhoodComponentsAnalysis(random_state=0, max_iter=5), clouds),
    variant(NeighborhoodComponentsAnalysis(n_components=2, init="pca", max_iter=5), small_clouds),
    *(
        variant(KernelDensity(kernel=kernel, bandwidth=3.0), clouds)
        for kernel in ("gaussian", "tophat", "epanechnikov", "exponential", "linear", "cosine")
    ),
    variant(KernelDensity(bandwidth="scott", metric="manhattan"), clouds),
    variant(KernelDensity(bandwidth="silverman", algorithm="ball_tree", metric="chebyshev", leaf_size=7), iris),
)
