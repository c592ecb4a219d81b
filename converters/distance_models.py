"""Classes and densities by the distance to fixed points: nearest centroid, kernel density, learned components.

In comes a fitted estimator; out go its labels, scores, probabilities or transform, in scikit-learn's arithmetic.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.nearest import expanded, measured
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value


@converter("sklearn.NearestCentroid", honours=("metric", "priors"), ignores=("shrink_threshold",))
def nearest_centroid(c: Conversion, est: Any, X: Block) -> Outputs:
    """The nearest centroid where the classes are equally likely; else, and for probabilities, discriminant scores."""
    b = c.builder
    x = numeric(c, est, X)
    even = bool(np.isclose(est.class_prior_, 1 / len(est.classes_)).all())
    outputs: dict[str, Value | Block] = {}
    scores = None if even and est.metric != "euclidean" else _discriminant(c, est, x.cast("float64"))
    if even:
        # The centroids are float64, so that scikit-learn measures float32 rows in float64 too.
        ranks = measured(c, est, x.cast("float64"), est.centroids_, est.metric, {}, brute=True).ranks
        outputs["predict"] = c.labels(b.heap_k(ranks, 1), est.classes_)
    elif scores is not None:
        outputs["predict"] = c.labels(b.argmax(scores), est.classes_)
    if est.metric == "euclidean" and scores is not None:
        two = len(est.classes_) == 2
        outputs["decision_function"] = scores.select(1) - scores.select(0) if two else scores
        likelihood = scores - b.max(scores)
        log_proba = likelihood - b.log(b.sum(b.exp(likelihood)))
        outputs["predict_log_proba"] = log_proba
        outputs["predict_proba"] = b.exp(log_proba)
    return outputs


def _discriminant(c: Conversion, est: Any, x: Value) -> Value:
    """2 log(prior) less the squared distance to each centroid, columns in units of their deviation within classes."""
    b, deviation = c.builder, est.within_class_std_dev_
    scale = np.where(deviation != 0, deviation, 1.0)
    x, centroids = b.check_finite(x / scale, c.place(est)), est.centroids_ / scale
    if est.metric == "euclidean":
        root = b.sqrt(expanded(c, x, centroids))
    else:
        root = measured(c, est, x, centroids, est.metric, {}, brute=True).ranks
    with np.errstate(divide="ignore"):  # a class of prior 0 is never chosen
        log_priors = np.log(est.class_prior_)
    return -(root * root) + np.asarray(2.0 * log_priors)


@converter(
    "sklearn.NeighborhoodComponentsAnalysis",
    ignores=("n_components", "init", "warm_start", "max_iter", "tol", "callback", "verbose", "random_state"),
)
def neighborhood_components(c: Conversion, est: Any, X: Block) -> Outputs:
    """X @ components_.T."""
    x = numeric(c, est, X)
    x = x if x.dtype in ("float64", "float32") else x.cast("float64")
    return {"transform": Block(affine(x, np.asarray(est.components_).T))}


@converter(
    "sklearn.KernelDensity",
    honours=("kernel", "bandwidth", "metric", "metric_params", "atol", "rtol"),
    ignores=("algorithm", "breadth_first", "leaf_size"),
    note="the sum of all kernels: in far tails scikit-learn's walk of its tree stops short of it, and is not followed",
)
def kernel_density(c: Conversion, est: Any, X: Block) -> Outputs:
    """log of the sum of kernels over all training rows; with a tolerance scikit-learn stops before it has them all."""
    b = c.builder
    for name in ("atol", "rtol"):
        if getattr(est, name):
            raise c.refuse(
                est, name, getattr(est, name), f"set {name}=0: with a tolerance scikit-learn's own answer is not exact"
            )
    if not isinstance(est.metric, str):
        raise c.refuse(est, "metric", est.metric, "name one of scikit-learn's metrics; a function stays in Python")
    x = X.matrix(c, est).cast("float64")
    data, weights = np.asarray(est.tree_.data), est.tree_.sample_weight
    found = measured(
        c,
        est,
        x,
        data,
        "euclidean" if est.metric == "minkowski" and not est.metric_params else est.metric,
        est.metric_params or {},
        brute=False,
    )
    logs = _log_kernel(c, est, found.distance(found.ranks))
    if weights is not None:
        with np.errstate(divide="ignore"):  # a weight of 0 counts nothing
            logs = logs + np.log(np.asarray(weights))
    total = float(data.shape[0] if weights is None else est.tree_.sum_weight)
    largest = b.max(logs)
    none = largest == -np.inf
    peak = b.where(none, 0.0, largest)
    density = b.log(b.sum(b.exp(logs - peak))) + peak
    # A cosine's norm in four and more dimensions may be NaN in scikit-learn, and then so is every answer.
    norm = _log_norm(est, data.shape[1])
    return {"score_samples": b.where(none, -np.inf + norm, density + norm) - np.log(total)}


def _log_norm(est: Any, width: int) -> float:
    """log of the constant that makes the kernel integrate to 1: its density at its own only point."""
    from sklearn.neighbors import KDTree

    origin = np.zeros((1, width))
    return float(KDTree(origin).kernel_density(origin, h=est.bandwidth_, kernel=est.kernel, return_log=True)[0])


def _log_kernel(c: Conversion, est: Any, distance: Value) -> Value:
    """log of each kernel, -infinity outside its support."""
    b, h = c.builder, float(est.bandwidth_)
    inside = distance < h
    if est.kernel == "gaussian":
        return -0.5 * (distance * distance) / (h * h)
    if est.kernel == "exponential":
        return -distance / h
    if est.kernel == "tophat":
        return b.where(inside, b.constant(0.0), b.constant(-np.inf))
    near = b.where(inside, distance, 0.0)
    if est.kernel == "epanechnikov":
        part = 1.0 - near * near / (h * h)
    elif est.kernel == "linear":
        part = 1.0 - near / h
    else:
        part = b.op("Cos", 0.5 * np.pi * near / h)
    return b.where(inside, b.log(part), -np.inf)
