"""SelfTrainingClassifier: what the classifier inside answers, which learned from rows it labelled itself."""

from __future__ import annotations

from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.members import one_array
from edgeml.converters.registry import Conversion, Outputs, converter


@converter(
    "sklearn.SelfTrainingClassifier",
    honours=("estimator", "base_estimator"),
    ignores=("threshold", "criterion", "k_best", "max_iter", "verbose"),
)
def self_training(c: Conversion, est: Any, X: Block) -> Outputs:
    """The classifier inside, fed with one array."""
    return c.convert(est.estimator_, one_array(c, est, X, check=False), "estimator_")
