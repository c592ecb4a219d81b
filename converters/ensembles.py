"""Voting and stacking: every sub-estimator is converted on the same rows, then the answers are combined.

scikit-learn puts the answers into one array first, so they meet in a common dtype; averages add estimator
after estimator in the order of estimators_ and divide at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs, Output
from edgeml.converters.members import answer_of, beside, common, side_by_side, value_of
from edgeml.converters.registry import Conversion, Outputs, converter, key_of
from edgeml.ir import Value


def _named(est: Any) -> list[tuple[str, Any]]:
    """Names and fitted estimators as they were when fit was called, dropped ones left out."""
    return [(name, fitted) for name, fitted in est.named_estimators_.items() if not isinstance(fitted, str)]


def _answers(c: Conversion, est: Any, X: Block, methods: Sequence[str]) -> list[Value]:
    """One answer of each sub-estimator by the method named for it."""
    return [
        value_of(c, c.convert(fitted, X, name), fitted, name, method)
        for (name, fitted), method in zip(_named(est), methods, strict=True)
    ]


def _average(values: Sequence[Value], weights: Sequence[float] | None) -> Value:
    """numpy.average over estimators: the weighted sum in order, divided by the sum of the weights."""
    values = common(values)
    dtype = np.dtype(values[0].dtype)
    if weights is None:
        scale = np.array(len(values))
        # numpy.mean adds integers as float64.
        values = [v if dtype.kind == "f" else v.cast("float64") for v in values]
    else:
        w = np.asarray(weights)
        result = np.result_type(dtype, w.dtype, *([] if dtype.kind == "f" else ["f8"]))
        scale = w.sum(dtype=result)
        values = [v.cast(result.name) * float(weight) for v, weight in zip(values, w.astype(result), strict=True)]
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total / float(scale)


def _weights(est: Any) -> list[float] | None:
    weights = est._weights_not_none
    return None if weights is None else list(weights)


@converter(
    "sklearn.VotingClassifier",
    honours=("estimators", "voting", "weights", "flatten_transform"),
    ignores=("n_jobs", "verbose"),
)
def voting_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Soft: argmax of the average probabilities. Hard: the largest weighted count. Ties: the first class."""
    soft = est.voting == "soft"
    if not soft and any(key_of(m) == "catboost.CatBoostClassifier" and len(m.classes_) > 2 for _, m in _named(est)):
        raise c.refuse(
            est,
            "voting",
            est.voting,
            "use voting='soft': of several classes CatBoostClassifier gives its labels in a column, at which "
            "scikit-learn's own hard voting fails",
        )
    answers = _answers(c, est, X, ["predict_proba" if soft else "predict"] * len(est.estimators_))
    outputs: dict[str, Value | Block] = {}
    if soft:
        outputs["predict_proba"] = votes = _average(answers, _weights(est))
    else:
        votes = _count(c, est, answers)
    outputs["predict"] = c.labels(c.builder.argmax(votes), est.le_.classes_)
    # Without flatten_transform an array of three axes, one matrix a member.
    outputs["transform"] = Block(*common(answers))
    return outputs


def _count(c: Conversion, est: Any, answers: Sequence[Value]) -> Value:
    """numpy.bincount of the encoded labels of a row: each vote adds its weight to its class, in order."""
    weights = _weights(est) or [1.0] * len(answers)
    if min(weights) < 0:
        # bincount stops at the largest class voted for, so an absent class wins or not by its number.
        raise c.refuse(est, "weights", est.weights, "use weights that are not negative")
    width = len(est.le_.classes_)
    total: Value | None = None
    for answer, weight in zip(answers, weights, strict=True):
        vote = c.builder.one_hot(answer.cast("int64"), width) * float(weight)
        total = vote if total is None else total + vote
    assert total is not None
    return total


@converter("sklearn.VotingRegressor", honours=("estimators", "weights"), ignores=("n_jobs", "verbose"))
def voting_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The average prediction; transform gives the single ones side by side."""
    answers = _answers(c, est, X, ["predict"] * len(est.estimators_))
    return {"predict": _average(answers, _weights(est)), "transform": Block(*common(answers))}


@converter(
    "sklearn.StackingClassifier",
    "sklearn.StackingRegressor",
    honours=("estimators", "final_estimator", "stack_method", "passthrough"),
    ignores=("cv", "n_jobs", "verbose"),
)
def stacking(c: Conversion, est: Any, X: Block) -> Outputs:
    """The final estimator on the sub-estimators' answers, each by the method that fit chose for it.

    Of two class probabilities only the second is passed on, of several labels all but the first of each;
    ``passthrough`` appends the raw columns.
    """
    classes = getattr(est, "classes_", None)
    parts: list[Value] = []
    for (name, fitted), method in zip(_named(est), est.stack_method_, strict=True):
        answer = answer_of(c, c.convert(fitted, X, name), fitted, name, method)
        if method == "predict_proba" and isinstance(answer, Block):
            parts += [part.select(slice(1, None)) for part in answer.values if part.width > 1]
        elif method == "predict_proba" and classes is not None and len(classes) == 2:
            parts.append(side_by_side(c, answer).select(slice(1, None)))
        else:
            parts.append(side_by_side(c, answer))
    columns = [Block(*parts), X] if est.passthrough else [Block(*parts)]
    features = Block.hstack(columns, "sparse" if est.passthrough and X.form == "sparse" else "array")
    outputs = c.convert(est.final_estimator_, features, "final_estimator")
    final = est.final_estimator_

    def answers(method: str) -> Value | Block:
        return answer_of(c, outputs, final, "final_estimator", method)

    def predict() -> Value | Block:
        if classes is None:
            return answers("predict")
        # The final estimator was fitted on positions in classes_.
        positions = side_by_side(c, answers("predict")).cast("int64")
        if not isinstance(classes, list):
            return c.labels(positions, classes)
        return c.builder.concat([c.labels(positions.select([i]), each) for i, each in enumerate(classes)])

    def predict_proba() -> Value | Block:
        proba = answers("predict_proba")
        # Of several labels scikit-learn gives the probability of the first class of each.
        return beside([p.select([0]) for p in proba.values]) if isinstance(proba, Block) else proba

    functions: dict[str, Callable[[], Output]] = {"transform": lambda: features, "predict": predict}
    if classes is not None and hasattr(est, "predict_proba"):
        functions["predict_proba"] = predict_proba
    if classes is not None and hasattr(est, "decision_function"):
        functions["decision_function"] = lambda: answers("decision_function")
    return LazyOutputs(c, functions)
