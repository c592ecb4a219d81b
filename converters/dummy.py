"""Dummies: the same answer to every row, whatever its columns.

In comes a fitted DummyClassifier or DummyRegressor; out go constants. scikit-learn itself is asked for them, about one
row, so that labels, numbers and their order are its own. Dummies check nothing: rows may hold anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_ONE_ROW = np.zeros((1, 1))


@converter("sklearn.DummyClassifier", honours=("strategy", "constant"), ignores=("random_state",))
def dummy_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """The label that won in training, or the constant one. Strategies that draw random numbers are refused."""
    if est.strategy in ("stratified", "uniform"):
        raise c.refuse(
            est,
            "strategy",
            est.strategy,
            "its predictions are random numbers drawn at each call: fit with strategy='prior', 'most_frequent' or "
            "'constant'",
        )
    answer = est.predict(_ONE_ROW)
    labels = answer.toarray() if hasattr(answer, "toarray") else answer  # of targets in a sparse matrix
    outputs: dict[str, Value | Block] = {"predict": _labels(c, labels)}
    proba = est.predict_proba(_ONE_ROW)
    if est.n_outputs_ == 1:
        return outputs | {"predict_proba": c.builder.constant(proba[0])}
    return outputs | {"predict_proba": Block(*(c.builder.constant(p[0]) for p in proba))}


@converter("sklearn.DummyRegressor", honours=("strategy", "constant", "quantile"))
def dummy_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The mean, median, quantile or constant of each output."""
    mean, deviation = est.predict(_ONE_ROW, return_std=True)
    return {"predict": c.builder.constant(mean.reshape(-1)), "predict_std": c.builder.constant(deviation.reshape(-1))}


def _labels(c: Conversion, answer: Any) -> Value | Block:
    """One row's labels as constants: a value, or of several outputs a value each."""
    zero = c.builder.constant(0, "int64")
    values = [c.labels(zero, np.asarray(label).reshape(1)) for label in answer.reshape(-1)]
    return values[0] if answer.ndim == 1 else Block(*values)
