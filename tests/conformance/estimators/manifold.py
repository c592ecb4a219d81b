"""Embeddings by neighbours, and labels spread over a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.manifold import Isomap, LocallyLinearEmbedding
from sklearn.semi_supervised import LabelPropagation, LabelSpreading

from tests.conformance.estimators.neighbors import clouds, small_clouds
from tests.conformance.estimators.table import variant


def roll() -> Any:
    """Sixty rows of four columns on a bent sheet."""
    rng = np.random.default_rng(31)
    t, h = rng.uniform(1, 4, 60), rng.uniform(0, 3, 60)
    return np.stack([t * np.cos(t), h, t * np.sin(t), 0.1 * rng.normal(size=60)], axis=1), None


def roll_float32() -> Any:
    """The same in float32."""
    return roll()[0].astype(np.float32), None


def few_labels() -> Any:
    """Three classes, of which one row in three is labelled."""
    X, y = clouds()
    return X, np.where(np.arange(len(y)) % 3 == 0, y, -1)


def few_small_labels() -> Any:
    """The same in float32."""
    X, _ = small_clouds()
    return X, few_labels()[1]


VARIANTS = (
    variant(Isomap(), roll),
    variant(Isomap(n_neighbors=8, n_components=3, metric="manhattan"), roll),
    variant(Isomap(n_neighbors=None, radius=2.5), roll),
    variant(Isomap(n_neighbors=8, p=3, eigen_solver="dense", path_method="D"), roll),
    variant(Isomap(n_neighbors=8), roll_float32, tflite="tflite engine"),
    variant(LocallyLinearEmbedding(random_state=0), roll),
    variant(LocallyLinearEmbedding(n_neighbors=8, n_components=3, reg=1e-2, random_state=0), roll),
    variant(LocallyLinearEmbedding(n_neighbors=6, eigen_solver="dense"), roll_float32),
    variant(LocallyLinearEmbedding(n_neighbors=9, method="modified", random_state=0), roll),
    variant(LocallyLinearEmbedding(n_neighbors=9, method="hessian", random_state=0), roll),
    variant(LocallyLinearEmbedding(n_neighbors=9, method="ltsa", random_state=0), roll),
    variant(LabelPropagation(), few_labels, tflite="tflite engine"),
    variant(LabelPropagation(gamma=0.2), few_labels, tflite="tflite engine"),
    variant(LabelPropagation(kernel="knn", n_neighbors=5), few_labels),
    variant(LabelPropagation(gamma=0.5), few_small_labels),
    variant(LabelSpreading(gamma=0.2, alpha=0.4), few_labels, tflite="tflite engine"),
    variant(LabelSpreading(kernel="knn", n_neighbors=4), few_labels),
)
