"""Distances from the rows to the points an estimator has kept, measured as scikit-learn measures them, and the nearest.

In comes a fitted estimator of sklearn.neighbors, or points and a metric; out goes a ``Measured``: what distances are
compared by, and how they become distances. Brute force takes |x|^2 - 2 x.y + |y|^2 for the Euclidean metric, trees and
all other metrics look at the differences of the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.products import numeric
from edgeml.converters.registry import Conversion
from edgeml.ir import Value
from edgeml.ir.metrics import METRICS

_ALIASES = {"l2": "euclidean", "l1": "manhattan", "cityblock": "manhattan", "infinity": "chebyshev", "p": "minkowski"}
_ALIASES |= {"matching": "hamming", "sokalmichener": "rogerstanimoto"}
_BOOLEAN = ("jaccard", "dice", "rogerstanimoto", "russellrao", "sokalsneath", "yule")
_AS_IS = ("manhattan", "chebyshev", "canberra", "braycurtis", "hamming", *_BOOLEAN[:-1])


_LARGEST = float(np.finfo(np.float64).max)
# How far a row is from a box, by the metric of a k-d tree; of other exponents the order is that of the squares.
DISTANCES_OF_BOXES = {
    "manhattan": "below", "l1": "below", "cityblock": "below", "chebyshev": "most_below", "infinity": "most_below",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Measured:
    """``ranks`` (rows, points) grows with the distance, float64; ``distance`` makes distances of some of its cells, of
    scikit-learn's dtype; ``limit`` is what a radius is compared with.
    """

    ranks: Value
    distance: Callable[[Value], Value]
    limit: Callable[[float], float]


def _same(x: Any) -> Any:
    return x


def _single(distance: Value) -> Value:
    """Distances that scikit-learn has in float32, and what it makes of them: those of no metric that its heaps know."""
    return distance.cast("float32")


def _root32(squared: Value) -> Value:
    root: Value = squared.builder.sqrt(squared.cast("float32"))
    return root


def of_neighbors(c: Conversion, est: Any, X: Block) -> Measured:
    """The distances that ``est.kneighbors`` and ``est.radius_neighbors`` look at."""
    metric = est.effective_metric_
    if not isinstance(metric, str):
        raise c.refuse(est, "metric", metric, "name one of scikit-learn's metrics; a function stays in Python")
    if metric == "precomputed":
        x = numeric(c, est, X).cast("float64")
        x = c.builder.require(
            x, x >= 0.0, f"{c.place(est)} was given a negative distance, which scikit-learn refuses too"
        )
        return Measured(x, _same, _same)
    x = X.matrix(c, est, dtype=X.dtype, allow_nan=metric == "nan_euclidean")
    points = est._fit_X.toarray() if hasattr(est._fit_X, "toarray") else np.asarray(est._fit_X)
    return measured(c, est, x, points, metric, est.effective_metric_params_, brute=est._fit_method == "brute")


def measured(
    c: Conversion, est: Any, x: Value, points: Any, metric: str, params: Mapping[str, Any], *, brute: bool
) -> Measured:
    """Distances of x to points (m, k): by a tree's arithmetic, or as brute force and pairwise_distances have them."""
    b, metric = c.builder, _ALIASES.get(metric, metric)
    # scikit-learn has an arithmetic of its own for float32 alone, and not in trees.
    single = brute and x.dtype == "float32" and points.dtype == np.float32
    if not single:
        x, points = x.cast("float64"), points.astype(np.float64)
    if metric in ("euclidean", "sqeuclidean") and brute:
        squares = expanded(c, x, points)
        return Measured(squares, _same, _same) if metric == "sqeuclidean" else Measured(squares, b.sqrt, _square)
    if metric == "euclidean":
        return Measured(b.distances(x, points, "sqeuclidean"), b.sqrt, _square)
    if metric == "minkowski":
        p, weights = float(params.get("p", 2)), params.get("w")
        if p == 2.0:
            ranks = b.distances(x, points, "minkowski", p=p, weights=weights)
            return Measured(_rounded(ranks, single), b.sqrt, _square)
        ranks = b.distances(x, points, "minkowski", p=p, weights=weights)
        return Measured(_rounded(ranks, single), lambda d: b.exp(b.log(d) / p), lambda r: float(r**p))
    if metric in ("seuclidean", "mahalanobis"):
        ranks = b.distances(x, points, metric, weights=_scatter(c, est, metric, params))
        return Measured(_rounded(ranks, single), b.sqrt, _square)
    if metric == "nan_euclidean":
        root = _root32 if x.dtype == points.dtype == "float32" else b.sqrt
        return Measured(nan_euclidean(c, x, points), root, _square)
    if metric in _BOOLEAN and brute:
        x, points = (x == 0.0).cast("float64"), (points == 0.0).astype(np.float64)
        x, points = 1.0 - x, 1.0 - points
    if metric == "haversine":
        return Measured(_haversine(x, points), _arc, lambda r: float(np.sin(0.5 * r) ** 2))
    if metric == "yule":
        return Measured(_yule(x, points), _same, _same)
    if metric in ("cosine", "correlation"):
        ranks = _cosine(x, points, centred=metric == "correlation")
        return Measured(ranks, _single if single and metric == "cosine" else _same, _same)
    if metric not in _AS_IS or metric not in METRICS:
        raise c.refuse(est, "metric", metric, "use another metric of scikit-learn, such as 'euclidean' or 'manhattan'")
    return Measured(_rounded(b.distances(x, points, metric), single), _same, _same)


def _square(radius: float) -> float:
    return radius * radius


def _rounded(ranks: Value, single: bool) -> Value:
    """scikit-learn's metrics of float32 rows return float32."""
    return ranks.cast("float32").cast("float64") if single else ranks


def expanded(c: Conversion, x: Value, points: Any, dtype: str = "float64") -> Value:
    """euclidean_distances(x, points, squared=True): |x|^2 - 2 x.y + |y|^2, none below 0, in float64 and then rounded.

    It cancels for a row that lies close to a point and far from the origin: there scikit-learn's own distances carry an
    error of about sqrt(2.2e-16) |x|, and another order of summation gives another one.
    """
    wide, points = x.cast("float64"), points.astype(np.float64)
    squares = np.einsum("ij,ij->i", points, points)
    squared = c.builder.linear(wide, -2.0 * points.T) + c.builder.sum(wide * wide) + squares
    return c.builder.maximum(squared.cast(dtype), 0.0)


def euclidean(c: Conversion, x: Value, points: Any) -> Value:
    """euclidean_distances(x, points): float32 of rows and points that both are."""
    return c.builder.sqrt(expanded(c, x, points, np.result_type(np.dtype(x.dtype), points.dtype).name))


def nearest_point(c: Conversion, x: Value, points: Any) -> Value:
    """pairwise_distances_argmin: position of the nearest point, the first of equals, or where all overflow."""
    return c.builder.heap_k(_pushed(expanded(c, x, np.asarray(points))), 1)


def _pushed(squared: Value) -> Value:
    """Squared distances as the heap of scikit-learn meets them: it takes the larger of 0 and NaN, which is left where
    a huge row overflows, to be 0."""
    b = squared.builder
    return b.where(b.is_nan(squared), 0.0, squared)


def nan_euclidean(c: Conversion, x: Value, points: Any) -> Value:
    """Squared nan_euclidean_distances: over the columns both have, scaled up to all; NaN where there is none.

    Of float32 on both sides the products are float64 and the rest is float32, as scikit-learn has it: it loses digits
    that decide which points are near.
    """
    single = x.dtype == points.dtype == "float32"
    b, wide, points = c.builder, x.cast("float64"), points.astype(np.float64)
    lost, missing = np.isnan(points), b.is_nan(wide)
    wide, points = b.where(missing, 0.0, wide), np.where(lost, 0.0, points)
    gone, squares = missing.cast("float64"), points * points
    shared = b.linear(1.0 - gone, (~lost).T.astype(np.float64))
    if single:
        mine, theirs = wide.cast("float32"), points.astype(np.float32)
        squared = expanded(c, wide, points).cast("float32") - b.linear(mine * mine, lost.T.astype(np.float32))
        squared = b.maximum(squared - b.linear(gone.cast("float32"), (theirs * theirs).T), np.float32(0.0))
        scaled = (squared.cast("float64") / b.maximum(shared, 1.0)).cast("float32") * np.float32(x.width)
        return b.where(shared == 0.0, float("nan"), scaled.cast("float64"))
    squared = expanded(c, wide, points) - b.linear(wide * wide, lost.T.astype(np.float64)) - b.linear(gone, squares.T)
    scaled = b.maximum(squared, 0.0) / b.maximum(shared, 1.0) * float(x.width)
    return b.where(shared == 0.0, float("nan"), scaled)


def _scatter(c: Conversion, est: Any, metric: str, params: Mapping[str, Any]) -> Any:
    """Variances of seuclidean, or the inverse covariance of mahalanobis."""
    from sklearn.metrics import DistanceMetric

    try:
        _, vector, matrix, *_ = DistanceMetric.get_metric(metric, **params).__getstate__()
    except (TypeError, ValueError) as error:  # scikit-learn's own words for what is missing
        raise c.refuse(est, "metric_params", dict(params), f"give the metric its parameters: {error}") from None
    return np.asarray(vector if metric == "seuclidean" else matrix)


def _yule(x: Value, points: Any) -> Value:
    """2 R / (TT FF + R) with R = TF FT, 0 where R is 0; x and points of 0 and 1, so that the counts are exact."""
    b = x.builder
    both, mine, theirs = b.linear(x, points.T), b.sum(x), points.sum(axis=1)
    only, other = mine - both, theirs - both
    neither = float(points.shape[1]) - both - only - other
    half = only * other
    total = both * neither + half
    return b.where(half == 0.0, 0.0, 2.0 * half / b.where(half == 0.0, 1.0, total))


def _haversine(x: Value, points: Any) -> Value:
    """Squared sine of half the angle between two places, each (latitude, longitude) in radians."""
    b, latitude, longitude = x.builder, points[:, 0], points[:, 1]
    north, east = b.sin(0.5 * (x.select(0) - latitude)), b.sin(0.5 * (x.select(1) - longitude))
    across: Value = b.cos(x.select(0)) * np.cos(latitude) * east * east
    return north * north + across


def _arc(squared: Value) -> Value:
    """2 asin(sqrt(squared)): by Newton's steps below a half, where sin is steep, from the complement above."""
    b = squared.builder
    large = squared > 0.25
    sine = b.sqrt(b.where(large, (1.0 - b.sqrt(b.minimum(squared, 1.0))) / 2.0, squared))
    angle = sine + sine * sine * sine / 6.0
    for _ in range(3):
        angle = angle - (b.sin(angle) - sine) / b.cos(angle)
    return 2.0 * b.where(large, np.pi / 2.0 - 2.0 * angle, angle)


def _cosine(x: Value, points: Any, *, centred: bool) -> Value:
    """1 - cosine similarity; of correlations, of rows less their mean."""
    b, points = x.builder, points.copy()
    if centred:
        x, points = x.cast("float64"), points.astype(np.float64)
        x, points = x - b.sum(x) / float(x.width), points - points.mean(axis=1, keepdims=True)
    norms, own = np.sqrt(np.einsum("ij,ij->i", points, points)), b.sqrt(b.sum(x * x))
    own = own if centred else b.where(own == 0.0, 1.0, own)
    norms = norms if centred else np.where(norms == 0, points.dtype.type(1), norms)
    similarity = b.linear(x / own, (points / norms[:, None]).T)
    return b.clip(1.0 - similarity, 0.0, 2.0).cast("float64")


@dataclass(frozen=True, slots=True)
class Neighbors:
    """The k nearest points of each row: int64 positions, nearest first, and the distances to them."""

    positions: Value
    distances: Value


def nearest(c: Conversion, est: Any, X: Block, k: int) -> Neighbors:
    """What ``est.kneighbors(X, k)`` gives."""
    if k > est.n_samples_fit_:
        raise c.refuse(est, "n_neighbors", k, f"ask for at most the {est.n_samples_fit_} rows it was fitted on")
    b, found = c.builder, of_neighbors(c, est, X)
    if est._tree is not None:
        order = _visits(c, est, X)
        ranks = b.take_along(found.ranks, order)
        first = b.heap_k(ranks, k)
        # A place of the heap that no finite distance has taken names row 0.
        taken = b.take_along(ranks, first) <= _LARGEST
        positions = b.where(taken, b.take_along(order, first), b.constant(np.array([0])))
    elif _by_heap(est, X):
        # The heap of brute force starts from the largest float64, which is left where all distances overflow.
        expands = est.effective_metric_ in ("euclidean", "l2", "sqeuclidean")
        pushed = _pushed(found.ranks) if expands else found.ranks
        ranks = b.minimum(pushed, _LARGEST)
        positions = b.heap_k(pushed, k)
        return Neighbors(positions, found.distance(b.take_along(ranks, positions)))
    else:
        positions = b.top_k(found.ranks, k)
    return Neighbors(positions, found.distance(b.take_along(found.ranks, positions)))


def _by_heap(est: Any, X: Block) -> bool:
    """Whether brute force pushes the rows on a heap in their order; else NumPy partitions all distances."""
    from sklearn.metrics._pairwise_distances_reduction import ArgKmin

    row = np.ones((1, X.width), dtype=X.numpy)
    if hasattr(est._fit_X, "toarray"):  # rows are sparse as those that it was fitted on were
        row = type(est._fit_X)(row)
    return bool(ArgKmin.is_usable_for(row, est._fit_X, est.effective_metric_))


def _visits(c: Conversion, est: Any, X: Block) -> Value:
    """The order in which the tree's search comes to the training rows, of which the first of equals stay."""
    b = c.builder
    _, points, nodes, bounds = (np.asarray(part) for part in est._tree.get_arrays())
    leaves = nodes[len(nodes) // 2 :]
    starts = np.append(leaves["idx_start"], leaves["idx_end"][-1]).astype(np.int64)
    points = points.astype(np.int64)
    if len(leaves) == 1:
        return b.constant(points)
    x = X.matrix(c, est, dtype=X.dtype).cast("float64")
    if est._fit_method == "kd_tree":
        power = DISTANCES_OF_BOXES.get(est.effective_metric_, "below_squared")
        twice = np.repeat(np.arange(x.width), 2)
        sides = b.concat([x, -x]).select(twice + np.tile([0, x.width], x.width))
        boxes = np.stack([bounds[0], -bounds[1]], axis=2).reshape(len(nodes), -1)
        least = b.distances(sides, boxes, power)
    else:
        found = measured(c, est, x, bounds[0], est.effective_metric_, est.effective_metric_params_, brute=False)
        least = b.maximum(found.distance(found.ranks) - nodes["radius"], 0.0)
        least = least * least if est.effective_metric_ in ("euclidean", "l2") else least
    return b.op("VisitOrder", least, points=points, starts=starts)


def numpy_sum(x: Value) -> Value:
    """np.sum along the row, in NumPy's order: eight running sums in blocks of at most 128 columns, added in pairs."""
    width = x.width
    if width < 8:
        return x.builder.sum(x)
    if width > 128:
        half = width // 2 - width // 2 % 8
        return numpy_sum(x.select(slice(0, half))) + numpy_sum(x.select(slice(half, None)))
    sums = x.select(slice(0, 8))
    for start in range(8, width - width % 8, 8):
        sums = sums + x.select(slice(start, start + 8))
    pairs = sums.select([0, 2, 4, 6]) + sums.select([1, 3, 5, 7])
    pairs = pairs.select([0, 2]) + pairs.select([1, 3])
    total = pairs.select(0) + pairs.select(1)
    for at in range(width - width % 8, width):
        total = total + x.select(at)
    return total


def inverse_weights(c: Conversion, distances: Value, among: Value | None = None) -> Value:
    """_get_weights(weights="distance"): 1 / distance, and where a distance is 0 the same for those, none for others.

    ``among`` says which cells of a row count. The weights have the dtype of the distances.
    """
    b, dtype, distances = c.builder, distances.dtype, distances.cast("float64")
    zero = distances == 0.0
    zero = zero if among is None else zero & among
    exact = b.max(zero.cast("float64")) > 0.0
    weights = 1.0 / b.where(distances == 0.0, 1.0, distances)
    # A distance so small that its inverse is infinite counts as 0 among the k nearest.
    weights = weights if among is None else b.where(among, weights, 0.0)
    return b.where(exact, zero.cast("float64"), weights).cast(dtype)
