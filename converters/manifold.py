"""Embeddings of new rows by their neighbours among the training rows: Isomap, locally linear embedding, and labels
spread over a graph.

In comes a fitted estimator; out go ``transform``, or ``predict`` and ``predict_proba``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.nearest import expanded, nearest, numpy_sum, of_neighbors
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_TRAINING = ("eigen_solver", "tol", "max_iter", "random_state", "n_jobs", "neighbors_algorithm", "n_components")
# Training rows for which the paths through every one within a radius are still written out one by one.
_MOST_PATHS = 300


@converter(
    "sklearn.Isomap",
    honours=("n_neighbors", "radius", "metric", "p", "metric_params"),
    ignores=(*_TRAINING, "path_method"),
)
def isomap(c: Conversion, est: Any, X: Block) -> Outputs:
    """Shortest way to each training row through a neighbour, then the kernel PCA of half its square, negative."""
    b, paths = c.builder, np.asarray(est.dist_matrix_, dtype=np.float64)
    if est.n_neighbors is not None:
        found = nearest(c, est.nbrs_, X, est.nbrs_.n_neighbors)
        ways = [
            b.take(found.positions.select(j), paths) + found.distances.select(j) for j in range(found.positions.width)
        ]
    else:
        ways = _ways_within(c, est, X, paths)
    shortest = ways[0]
    for way in ways[1:]:
        shortest = b.minimum(shortest, way)
    single = X.dtype == "float32"
    shortest = shortest.cast("float32") if single else shortest
    gram = b.check_finite(-0.5 * (shortest * shortest), c.place(est))
    return {"transform": Block(_precomputed_pca(c, est.kernel_pca_, gram).cast(gram.dtype))}


def _ways_within(c: Conversion, est: Any, X: Block, paths: Any) -> list[Value]:
    b = c.builder
    if len(paths) > _MOST_PATHS:
        raise c.refuse(est, "radius", est.radius, f"fit with n_neighbors, or on at most {_MOST_PATHS} rows")
    found = of_neighbors(c, est.nbrs_, X)
    near = found.ranks <= found.limit(float(est.radius))
    message = f"{c.place(est)} found no neighbour within the radius, which scikit-learn refuses too"
    ranks = b.require(found.ranks, b.max(near.cast("float64")) > 0.0, message)
    steps = b.where(near, found.distance(ranks), np.inf)
    return [steps.select(j) + paths[j] for j in range(len(paths))]


def _precomputed_pca(c: Conversion, pca: Any, gram: Value) -> Value:
    """KernelPCA(kernel="precomputed").transform."""
    center = pca._centerer
    rows = np.asarray(center.K_fit_rows_, dtype=np.float64)
    mean = numpy_sum(gram) / float(len(rows))
    # Each step is rounded to the dtype of the rows, in place of the one before.
    centered = (gram.cast("float64") - rows).cast(gram.dtype) - mean
    centered = (centered.cast("float64") + float(center.K_fit_all_)).cast(gram.dtype)
    used = np.flatnonzero(pca.eigenvalues_)
    vectors = np.zeros_like(pca.eigenvectors_)
    vectors[:, used] = pca.eigenvectors_[:, used] / np.sqrt(pca.eigenvalues_[used])
    return affine(centered, vectors)


@converter(
    "sklearn.LocallyLinearEmbedding",
    honours=("n_neighbors", "reg"),
    ignores=(*_TRAINING, "method", "hessian_tol", "modified_tol"),
)
def locally_linear_embedding(c: Conversion, est: Any, X: Block) -> Outputs:
    """The embeddings of the neighbours, weighted so that the same weights give the row itself of theirs."""
    b = c.builder
    x = numeric(c, est, X).cast("float64")
    points = np.asarray(est.nbrs_._fit_X, dtype=np.float64)
    k = est.n_neighbors
    near = nearest(c, est.nbrs_, X, k).positions
    sides = [b.take(near.select(j), points) - x for j in range(k)]
    gram = [[b.sum(sides[i] * sides[j]) for j in range(i + 1)] for i in range(k)]
    trace = b.check_finite(b.sum(b.concat([gram[i][i] for i in range(k)])), c.place(est))
    ridge = b.where(trace > 0.0, float(est.reg) * trace, float(est.reg))
    for i in range(k):
        gram[i][i] = gram[i][i] + ridge
    weights = _solve_ones(c, gram)
    total = b.sum(b.concat(weights))
    # Of float32 rows the weights are kept in float32, though the training rows are float64.
    parts = [w / total for w in weights]
    parts = [p.cast("float32").cast("float64") for p in parts] if X.dtype == "float32" else parts
    embedded = b.take(near.select(0), np.asarray(est.embedding_)) * parts[0]
    for j in range(1, k):
        embedded = embedded + b.take(near.select(j), np.asarray(est.embedding_)) * parts[j]
    return {"transform": Block(embedded)}


def _solve_ones(c: Conversion, gram: list[list[Value]]) -> list[Value]:
    """x of gram @ x == 1 for a positive definite matrix, its lower triangle given, by Cholesky's factors."""
    b, k = c.builder, len(gram)
    columns: list[Value] = []  # column j of the factor, from the diagonal down
    for j in range(k):
        column = b.concat([gram[i][j] for i in range(j, k)])
        for t, done in enumerate(columns):
            column = column - done.select(slice(j - t, None)) * done.select(j - t)
        columns.append(column / b.sqrt(column.select(0)))
    half: list[Value] = []
    for i in range(k):
        rest: Value = b.constant([1.0])
        for t, value in enumerate(half):
            rest = rest - columns[t].select(i - t) * value
        half.append(rest / columns[i].select(0))
    solution: list[Value] = []
    for i in reversed(range(k)):
        rest = half[i]
        for t, value in zip(range(k - 1, i, -1), solution, strict=True):
            rest = rest - columns[i].select(t - i) * value
        solution.append(rest / columns[i].select(0))
    return solution[::-1]


@converter(
    "sklearn.LabelPropagation",
    "sklearn.LabelSpreading",
    honours=("kernel", "gamma", "n_neighbors"),
    ignores=("alpha", "max_iter", "tol", "n_jobs"),
)
def label_propagation(c: Conversion, est: Any, X: Block) -> Outputs:
    """Distributions of the training rows, of the nearest or weighted by exp(-gamma d^2), summing to 1."""
    b, shares = c.builder, np.asarray(est.label_distributions_, dtype=np.float64)
    if est.kernel == "rbf":
        x = numeric(c, est, X)
        single = x.dtype == "float32" and est.X_.dtype == np.float32
        squared = expanded(c, x, np.asarray(est.X_)).cast("float32" if single else "float64")
        total = b.linear(b.exp(squared * -float(est.gamma)).cast("float64"), shares)
    elif est.kernel == "knn":
        found = nearest(c, est.nn_fit, X, est.nn_fit.n_neighbors).positions
        total = b.take(found.select(0), shares)
        for j in range(1, found.width):
            total = total + b.take(found.select(j), shares)
    else:
        raise c.refuse(est, "kernel", est.kernel, "use kernel='rbf' or 'knn'; a function stays in Python")
    proba = total / b.sum(total)
    return {"predict": c.labels(b.argmax(proba), est.classes_), "predict_proba": proba}
