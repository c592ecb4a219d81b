"""Neural networks: perceptrons of every activation and target, and the Boltzmann machine."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import Ridge
from sklearn.neural_network import BernoulliRBM, MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline

from tests.conformance.estimators.data import float32, iris, iris_names, number, one_column, two_names, two_numbers
from tests.conformance.estimators.table import variant

ACTIVATIONS = ("identity", "logistic", "tanh", "relu")


def two_labels() -> Any:
    """Two labels a row, each 0 or 1."""
    X, y = iris()
    return X, np.stack([y > 0, y == 2], axis=1).astype(np.int64)


def flags() -> Any:
    """Two classes that are bools."""
    X, y = iris()
    return X, y > 0


def amounts() -> Any:
    """A target above zero."""
    X, y = iris()
    return X, y + 0.5


def parts() -> Any:
    """Cells from 0 to 1, without targets."""
    X, _ = iris()
    return X / X.max(axis=0), None


def parts32() -> Any:
    """The same in float32."""
    return parts()[0].astype(np.float32), None


def parts_number() -> Any:
    """Cells from 0 to 1, and a numeric target."""
    return parts()[0], number()[1]


_SMALL: dict[str, Any] = {"hidden_layer_sizes": (6,), "max_iter": 20, "random_state": 0}

VARIANTS = (
    *(variant(MLPClassifier(activation=a, **_SMALL), iris_names) for a in ACTIVATIONS),
    *(variant(MLPRegressor(activation=a, **_SMALL), number) for a in ACTIVATIONS),
    *(variant(MLPClassifier(**_SMALL), data) for data in (two_names, two_labels, flags, float32)),
    *(variant(MLPRegressor(**_SMALL), data) for data in (two_numbers, one_column)),
    variant(MLPClassifier(hidden_layer_sizes=(5, 4), max_iter=20, random_state=0, solver="lbfgs"), iris),
    variant(MLPClassifier(hidden_layer_sizes=(), max_iter=20, random_state=0, solver="sgd"), iris),
    variant(MLPClassifier(early_stopping=True, **_SMALL), iris),
    variant(MLPRegressor(loss="poisson", **_SMALL), amounts),
    variant(BernoulliRBM(n_components=3, random_state=0), parts),
    variant(BernoulliRBM(n_components=2, learning_rate=0.01, n_iter=3, random_state=0), parts32),
    variant(
        make_pipeline(BernoulliRBM(n_components=3, random_state=0), Ridge()),
        parts_number,
        of="BernoulliRBM",
    ),
)
