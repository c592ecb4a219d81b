"""Many classes by binary classifiers: one against the rest, one against one, and codes.

In comes a fitted meta-estimator; out go the scores of its members side by side, and the labels scikit-learn reads from
them. A member's score is its decision function where it has one, else the probability of its second class, and of a
regressor its prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs, Output
from edgeml.converters.members import beside, common, one_array, value_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_STEP = "estimators_"  # of all members, so that what they check alike is checked once


@converter("sklearn._ConstantPredictor")
def constant_predictor(c: Conversion, est: Any, X: Block) -> Outputs:
    """Stands where a class has all rows or none: the same answer to every row."""
    value = int(est.y_[0])
    proba = np.array([1.0 - value, float(value)])
    constant = c.builder.constant(np.atleast_1d(est.y_))
    return {"predict": constant, "decision_function": constant, "predict_proba": c.builder.constant(proba)}


def _score(c: Conversion, outputs: Outputs, member: Any) -> Value:
    """sklearn.multiclass._predict_binary."""
    from sklearn.base import is_regressor

    if is_regressor(member):
        return value_of(c, outputs, member, _STEP, "predict")
    if hasattr(member, "decision_function"):
        return value_of(c, outputs, member, _STEP, "decision_function")
    return value_of(c, outputs, member, _STEP, "predict_proba").select([1])


def _threshold(member: Any) -> float:
    """sklearn.multiclass._threshold_for_binary_predict."""
    from sklearn.base import is_classifier

    return 0.0 if hasattr(member, "decision_function") and is_classifier(member) else 0.5


@converter("sklearn.OneVsRestClassifier", honours=("estimator",), ignores=("n_jobs", "verbose"))
def one_vs_rest(c: Conversion, est: Any, X: Block) -> Outputs:
    """The class with the largest score; of several labels a row, each whose score is over the threshold."""
    builder, members = c.builder, list(est.estimators_)
    converted = [c.convert(member, X, _STEP) for member in members]
    pairs = list(zip(members, converted, strict=True))

    def predict() -> Value:
        scores = beside([_score(c, outputs, member) for member, outputs in pairs])
        if est.label_binarizer_.y_type_ == "multiclass":
            return c.labels(builder.argmax(_floats(scores)), est.classes_)
        over = (_floats(scores) > _threshold(members[0])).cast("int64")
        if est.multilabel_:
            return over
        # A target of one class has one estimator, which is never asked.
        return c.labels(over if len(est.classes_) > 1 else builder.constant(0, "int64"), est.classes_)

    def predict_proba() -> Value:
        second = [value_of(c, outputs, member, _STEP, "predict_proba").select([1]) for member, outputs in pairs]
        shares = beside(second)
        if len(members) == 1:
            shares = builder.concat([1.0 - shares, shares])
        if est.multilabel_:
            return shares
        summed = builder.sum(shares)
        return builder.where(summed == 0.0, shares, shares / summed)

    functions: dict[str, Callable[[], Output]] = {"predict": predict}
    if hasattr(est, "predict_proba"):
        functions["predict_proba"] = predict_proba
    if hasattr(est, "decision_function"):
        functions["decision_function"] = lambda: beside(
            [value_of(c, outputs, member, _STEP, "decision_function") for member, outputs in pairs]
        )
    return LazyOutputs(c, functions)


def _floats(scores: Value) -> Value:
    """Scores of constant predictors alone are integers; scikit-learn compares them as float64."""
    return scores if scores.dtype in ("float64", "float32") else scores.cast("float64")


@converter("sklearn.OneVsOneClassifier", honours=("estimator",), ignores=("n_jobs",))
def one_vs_one(c: Conversion, est: Any, X: Block) -> Outputs:
    """Votes of every pair of classes, and their confidences, squeezed below a third of a vote, to settle ties."""
    builder, members, n = c.builder, list(est.estimators_), len(est.classes_)
    array = one_array(c, est, X, check=False)
    indices = [None] * len(members) if est.pairwise_indices_ is None else list(est.pairwise_indices_)
    predicted, scores = [], []
    for member, columns in zip(members, indices, strict=True):
        part = array if columns is None else array.columns(np.asarray(columns).tolist())
        outputs = c.convert(member, part, _STEP)
        predicted.append(value_of(c, outputs, member, _STEP, "predict"))
        scores.append(_score(c, outputs, member))
    votes, confidences = beside(predicted), beside(scores).cast("float64")
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    first, second = np.zeros((len(pairs), n)), np.zeros((len(pairs), n))
    for k, (i, j) in enumerate(pairs):
        first[k, i] = second[k, j] = 1.0
    summed = builder.linear(confidences, second - first)
    zero, one = (np.zeros(1, dtype=votes.dtype), np.ones(1, dtype=votes.dtype))
    counted = builder.linear((votes == zero).cast("float64"), first)
    counted = counted + builder.linear((votes == one).cast("float64"), second)
    decision = counted + summed / (3.0 * (builder.abs(summed) + 1.0))
    if n == 2:
        decision = decision.select([1])
        label = (decision > _threshold(members[0])).cast("int64")
    else:
        label = builder.argmax(decision)
    return {"decision_function": decision, "predict": c.labels(label, est.classes_)}


@converter("sklearn.OutputCodeClassifier", honours=("estimator", "code_size"), ignores=("random_state", "n_jobs"))
def output_code(c: Conversion, est: Any, X: Block) -> Outputs:
    """The class whose code is nearest to the members' scores, the first of equals.

    Squared distances as |score|^2 - 2 score.code + |code|^2: of scores beyond 1e16 all are equal, in scikit-learn too.
    """
    scores = beside(common([_score(c, c.convert(member, X, _STEP), member) for member in est.estimators_])).cast(
        "float64"
    )
    scores = c.builder.check_finite(scores, c.place(est), allow_nan=False)  # by pairwise_distances_argmin
    code = est.code_book_
    squared = c.builder.sum(scores * scores) + c.builder.linear(scores, -2.0 * code.T) + (code * code).sum(axis=1)
    return {"predict": c.labels(c.builder.argmin(c.builder.maximum(squared, 0.0)), est.classes_)}
