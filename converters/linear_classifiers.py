"""Linear classifiers: one score a class (one in all for two classes), and the probabilities made of them.

In comes a fitted classifier of scikit-learn with ``coef_`` and ``intercept_``; out go its
``decision_function``, ``predict`` and, where it has them, probabilities. Training parameters have no
bearing on new rows.
"""

from __future__ import annotations

from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.products import affine, expit, numeric, weight_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_SGD = (
    "penalty", "alpha", "l1_ratio", "C", "max_iter", "tol", "shuffle", "verbose", "epsilon", "n_jobs",
    "random_state", "learning_rate", "eta0", "power_t", "early_stopping", "validation_fraction",
    "n_iter_no_change", "class_weight", "warm_start", "average",
)  # fmt: skip


def scores_of(est: Any, x: Value) -> Value:
    """x @ coef_.T + intercept_: width 1 for two classes, else one column a class."""
    return affine(x, weight_of(est.coef_), est.intercept_)


def _scores(c: Conversion, est: Any, X: Block) -> Value:
    return scores_of(est, numeric(c, est, X))


def predicted(c: Conversion, est: Any, scores: Value) -> Value:
    """The class of the largest score; of two classes, the second where the score is above 0."""
    index = (scores > 0.0).cast("int64") if scores.width == 1 else c.builder.argmax(scores)
    return c.labels(index, est.classes_)


def _one_vs_rest_sum_to_one(c: Conversion, shares: Value) -> Value:
    """Shares divided by their sum; equal shares where all are zero."""
    total = c.builder.sum(shares)
    none = total == 0.0
    return c.builder.where(none, 1.0, shares) / c.builder.where(none, float(shares.width), total)


def _one_vs_rest_proba(c: Conversion, scores: Value) -> Value:
    """LinearClassifierMixin._predict_proba_lr: the logistic function of each score, summing to 1."""
    p = expit(scores)
    if scores.width == 1:
        return c.builder.concat([1.0 - p, p])
    return _one_vs_rest_sum_to_one(c, p)


@converter(
    "sklearn.LogisticRegression",
    "sklearn.LogisticRegressionCV",
    honours=("fit_intercept", "refit"),
    ignores=(
        "penalty", "C", "Cs", "l1_ratio", "l1_ratios", "dual", "tol", "intercept_scaling", "class_weight",
        "cv", "random_state", "solver", "scoring", "max_iter", "verbose", "warm_start", "n_jobs",
        "use_legacy_attributes",
    ),
)  # fmt: skip
def logistic_regression(c: Conversion, est: Any, X: Block) -> Outputs:
    """Two classes: logistic function of the score. More: softmax of the scores, whatever the solver."""
    scores = _scores(c, est, X)
    proba = _one_vs_rest_proba(c, scores) if len(est.classes_) <= 2 else c.builder.softmax(scores)
    return {"decision_function": scores, "predict": predicted(c, est, scores), "predict_proba": proba}


@converter("sklearn.SGDClassifier", honours=("loss", "fit_intercept"), ignores=_SGD)
def sgd_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Probabilities for log_loss (one against the rest) and modified_huber ((clip(score, -1, 1) + 1) / 2)."""
    scores = _scores(c, est, X)
    outputs = {"decision_function": scores, "predict": predicted(c, est, scores)}
    if est.loss == "log_loss":
        outputs["predict_proba"] = _one_vs_rest_proba(c, scores)
    elif est.loss == "modified_huber":
        clipped = c.builder.clip(scores, -1.0, 1.0)
        if scores.width == 1:
            # scikit-learn writes the two columns into a float64 array, also for float32 scores.
            p = (clipped.cast("float64") + 1.0) / 2.0
            outputs["predict_proba"] = c.builder.concat([1.0 - p, p])
        else:
            outputs["predict_proba"] = _one_vs_rest_sum_to_one(c, (clipped + 1.0) / 2.0)
    return outputs


@converter(
    "sklearn.Perceptron",
    "sklearn.PassiveAggressiveClassifier",
    honours=("fit_intercept",),
    ignores=(*_SGD, "loss"),
)
@converter(
    "sklearn.LinearSVC",
    honours=("fit_intercept", "multi_class"),
    ignores=(
        "penalty", "loss", "dual", "tol", "C", "intercept_scaling", "class_weight", "verbose",
        "random_state", "max_iter",
    ),
)  # fmt: skip
def linear_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Scores and classes only."""
    scores = _scores(c, est, X)
    return {"decision_function": scores, "predict": predicted(c, est, scores)}


@converter(
    "sklearn.RidgeClassifier",
    "sklearn.RidgeClassifierCV",
    honours=("fit_intercept",),
    ignores=(
        "alpha", "alphas", "copy_X", "max_iter", "tol", "class_weight", "solver", "positive",
        "random_state", "scoring", "cv", "store_cv_results",
    ),
)  # fmt: skip
def ridge_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Scores and classes; for multi-label targets 1 where a label's score is above 0."""
    scores = _scores(c, est, X)
    if est._label_binarizer.y_type_.startswith("multilabel"):
        return {"decision_function": scores, "predict": (scores > 0.0).cast("int64")}
    return {"decision_function": scores, "predict": predicted(c, est, scores)}
