"""Votes and means of neighbours: the k nearest, and those within a radius; their graphs.

In comes a fitted estimator of sklearn.neighbors with its training rows; out go ``predict``, ``predict_proba`` and
``transform``. Of training rows at equal distance those count
that scikit-learn's own search keeps.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs
from edgeml.converters.nearest import Measured, inverse_weights, nearest, numpy_sum, of_neighbors
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_SEARCH = ("algorithm", "p", "metric", "metric_params")
_SPEED = ("leaf_size", "n_jobs")


def _uniform(c: Conversion, est: Any) -> bool:
    """Whether all neighbours count the same; refuses functions of the distance."""
    if callable(est.weights):
        raise c.refuse(est, "weights", est.weights, "use weights='uniform' or 'distance'; a function stays in Python")
    return est.weights in ("uniform", None)


def _targets(est: Any) -> list[tuple[Any, Any]]:
    """(codes (points,), classes) of each output of a classifier."""
    if not est.outputs_2d_:
        return [(est._y, est.classes_)]
    return [(est._y[:, k], classes) for k, classes in enumerate(est.classes_)]


def _labels(c: Conversion, est: Any, votes: list[Value]) -> Value | Block:
    """The class of most votes, the first of equals."""
    chosen = [c.labels(c.builder.argmax(v), classes) for v, (_, classes) in zip(votes, _targets(est), strict=True)]
    return Block(*chosen) if est.outputs_2d_ else chosen[0]


def _shares(c: Conversion, est: Any, votes: list[Value]) -> Value | Block:
    """Votes as parts of their sum."""
    shares = []
    for v in votes:
        total = c.builder.sum(v)
        shares.append(v / c.builder.where(total == 0.0, 1.0, total))
    return Block(*shares) if est.outputs_2d_ else shares[0]


# --- the k nearest ----------------------------------------------------------------------------------------------
@converter("sklearn.KNeighborsClassifier", honours=("n_neighbors", "weights", *_SEARCH), ignores=_SPEED)
def k_neighbors_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Votes of the k nearest, added from the nearest on."""
    b = c.builder
    uniform = _uniform(c, est)
    found = nearest(c, est, X, est.n_neighbors)
    weights = None if uniform else inverse_weights(c, found.distances)
    if weights is not None:
        message = f"{c.place(est)} finds all neighbours infinitely far, which scikit-learn refuses too"
        # A weight of a distance that is NaN is no 0: scikit-learn answers with NaN.
        weights = b.require(weights, b.min((weights == 0.0).cast("float64")) == 0.0, message)
    votes = []
    for codes, classes in _targets(est):
        near = b.take_along(b.constant(codes.astype(np.int64)), found.positions)
        votes.append(_count(c, near, weights, len(classes)))
    return {"predict": _labels(c, est, votes), "predict_proba": _shares(c, est, votes)}


def _count(c: Conversion, codes: Value, weights: Value | None, classes: int) -> Value:
    """Sum of weights by class, (rows, classes); codes (rows, k)."""
    total: Value | None = None
    for j in range(codes.width):
        vote = c.builder.one_hot(codes.select(j), classes)
        vote = vote if weights is None else vote * weights.select(j)
        total = vote if total is None else total + vote
    assert total is not None
    return total


@converter("sklearn.KNeighborsRegressor", honours=("n_neighbors", "weights", *_SEARCH), ignores=_SPEED)
def k_neighbors_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """Mean of the targets of the k nearest, weighted or not."""
    b = c.builder
    uniform = _uniform(c, est)
    found = nearest(c, est, X, est.n_neighbors)
    y = est._y if est._y.ndim == 2 else est._y[:, None]
    # The mean of float32 numbers is float32; a weighted one is float64.
    y = y if y.dtype == np.float32 and uniform else y.astype(np.float64)
    weights = None if uniform else inverse_weights(c, found.distances)
    means = []
    for column in y.T:
        near = b.take_along(b.constant(column), found.positions)
        if weights is None:
            means.append(b.sum(near) / float(near.width))
        else:
            total = numpy_sum(weights) if weights.dtype == "float32" else b.sum(weights)
            means.append(b.sum(near * weights) / total)
    return {"predict": b.concat(means)}


@converter("sklearn.KNeighborsTransformer", honours=("mode", "n_neighbors", *_SEARCH), ignores=_SPEED)
def k_neighbors_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """One column a training row: its distance, or 1, where it is among the nearest, and 0 elsewhere."""
    b = c.builder
    found = nearest(c, est, X, est.n_neighbors + (est.mode == "distance"))
    total: Value | None = None
    for j in range(found.positions.width):
        hit = b.one_hot(found.positions.select(j), est.n_samples_fit_)
        hit = b.where(hit > 0.0, found.distances.select(j), 0.0) if est.mode == "distance" else hit
        total = hit if total is None else total + hit
    assert total is not None
    return {"transform": Block(total, form="sparse")}


# --- within a radius --------------------------------------------------------------------------------------------
def _within(c: Conversion, est: Any, X: Block) -> tuple[Measured, Value]:
    """The distances, and which of them are no longer than the radius."""
    found = of_neighbors(c, est, X)
    return found, found.ranks <= found.limit(float(est.radius))


def _radius_weights(c: Conversion, est: Any, found: Measured, near: Value) -> Value:
    if _uniform(c, est):
        return near.cast("float64")
    # Of float32 distances the weights are float32, and what is made of them is float64.
    return inverse_weights(c, found.distance(found.ranks), near).cast("float64")


@converter(
    "sklearn.RadiusNeighborsClassifier", honours=("radius", "weights", "outlier_label", *_SEARCH), ignores=_SPEED
)
def radius_neighbors_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Votes of all within the radius; a row without any gets the outlier label, or is refused."""
    b = c.builder
    found, near = _within(c, est, X)
    weights = _radius_weights(c, est, found, near)
    alone = b.max(near.cast("float64")) == 0.0
    if est.outlier_label_ is None:
        message = f"{c.place(est)} found no neighbour within the radius, which scikit-learn refuses too"
        weights = b.require(weights, ~alone, message)
    votes, labels = [], []
    for k, (codes, classes) in enumerate(_targets(est)):
        vote = b.linear(weights, np.eye(len(classes))[codes])
        if est.outlier_label_ is not None:
            at = _place_of_outliers(est, k, classes)
            vote = b.where(alone, np.eye(len(classes))[at] if at >= 0 else np.zeros(len(classes)), vote)
        votes.append(vote)
        label = c.labels(b.argmax(vote), classes)
        if est.outlier_label_ is not None:
            label = b.where(b.max(vote) == 0.0, _one_label(c, classes, est.outlier_label_[k]), label)
        labels.append(label)
    return {
        "predict": Block(*labels) if est.outputs_2d_ else labels[0],
        "predict_proba": _shares(c, est, votes),
    }


def _place_of_outliers(est: Any, k: int, classes: Any) -> int:
    """Column that an outlier's probability stands in, -1 for none.

    scikit-learn's brute force for one output compares the label with the columns' numbers, not with the classes.
    """
    from sklearn.metrics._pairwise_distances_reduction import RadiusNeighborsClassMode
    from sklearn.neighbors._classification import _adjusted_metric

    metric, _ = _adjusted_metric(metric=est.metric, metric_kwargs=est.metric_params, p=est.p)
    by_number = (
        est.weights == "uniform"
        and est._fit_method == "brute"
        and not est.outputs_2d_
        and RadiusNeighborsClassMode.is_usable_for(est._fit_X, est._fit_X, metric)
    )
    if by_number:
        wanted = est.outlier_label
        number = int(wanted) if isinstance(wanted, (int, np.integer)) else -1
        return number if number < len(classes) else -1
    at = np.flatnonzero(classes == est.outlier_label_[k])
    return int(at[0]) if at.size == 1 else -1


def _one_label(c: Conversion, classes: Any, label: Any) -> Value:
    """A label as a constant of the classes' kind."""
    return c.labels(c.builder.constant(np.array([0], np.int64)), np.asarray([label], dtype=np.asarray(classes).dtype))


@converter("sklearn.RadiusNeighborsRegressor", honours=("radius", "weights", *_SEARCH), ignores=_SPEED)
def radius_neighbors_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """Mean of the targets within the radius, weighted or not; NaN where there is none."""
    b = c.builder
    found, near = _within(c, est, X)
    y = est._y if est._y.ndim == 2 else est._y[:, None]
    with np.errstate(invalid="ignore"):  # NaN among integers is whatever NumPy casts it to, and so are its answers
        empty = float(np.full_like(y[0], np.nan)[0])
    weights = _radius_weights(c, est, found, near)
    total = b.sum(weights)
    alone = b.max(near.cast("float64")) == 0.0
    mean = b.linear(weights, y.astype(np.float64)) / b.where(alone, 1.0, total)
    return {"predict": b.where(alone, empty, mean)}


@converter("sklearn.RadiusNeighborsTransformer", honours=("mode", "radius", *_SEARCH), ignores=_SPEED)
def radius_neighbors_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """One column a training row: its distance, or 1, where it lies within the radius, and 0 elsewhere."""
    found, near = _within(c, est, X)
    if est.mode == "connectivity":
        return {"transform": Block(near.cast("float64"), form="sparse")}
    return {"transform": Block(c.builder.where(near, found.distance(found.ranks), 0.0), form="sparse")}


# --- outliers ---------------------------------------------------------------------------------------------------
@converter("sklearn.LocalOutlierFactor", honours=("n_neighbors", "novelty", "contamination", *_SEARCH), ignores=_SPEED)
def local_outlier_factor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The mean density of the k nearest over the row's own, with the sign turned; only novelty=True sees new rows."""
    if not est.novelty:
        raise c.refuse(est, "novelty", False, "fit it with novelty=True: without, it has no answer for new rows")

    def scores() -> Value:
        b = c.builder
        # Its own rows may have no NaN, whatever its metric makes of them.
        found = nearest(c, est, Block(X.matrix(c, est, dtype=X.dtype)), est.n_neighbors_)
        single = X.dtype == "float32"
        distances = found.distances.cast("float32").cast("float64") if single else found.distances
        own = np.asarray(est._distances_fit_X_[:, est.n_neighbors_ - 1], dtype=np.float64)
        reach = b.maximum(distances, b.take_along(b.constant(own), found.positions))
        density = 1.0 / (b.sum(reach) / float(reach.width) + 1e-10)
        near = b.take_along(b.constant(np.asarray(est._lrd, dtype=np.float64)), found.positions)
        return -(b.sum(near / density) / float(near.width))

    shared: list[Value] = []

    def score() -> Value:
        if not shared:
            shared.append(scores())
        return shared[0]

    def predict() -> Value:
        b = c.builder
        decision = score() - float(est.offset_)
        return b.where(decision < 0.0, np.array([-1]), b.constant(np.array([1])))

    return LazyOutputs(
        c,
        {
            "score_samples": score,
            "decision_function": lambda: score() - float(est.offset_),
            "predict": predict,
        },
    )
