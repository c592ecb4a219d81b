"""GradientBoosting and HistGradientBoosting: boosted trees, their starting point and their link functions.

Both end in raw predictions (a sum of leaf values an output); the loss's link turns raw predictions into
probabilities or predicted values. The two libraries inside scikit-learn differ in everything before that:
float32 against float64 features, a starting estimator against a constant, and categories, which only the
histogram kind has.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.converters.trees import Forest, fill, leaves
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import Value
from edgeml.ir.table import Array

_GROWTH = (
    "n_estimators",
    "subsample",
    "criterion",
    "min_samples_split",
    "min_samples_leaf",
    "min_weight_fraction_leaf",
    "max_depth",
    "min_impurity_decrease",
    "random_state",
    "max_features",
    "verbose",
    "max_leaf_nodes",
    "warm_start",
    "validation_fraction",
    "n_iter_no_change",
    "tol",
    "ccp_alpha",
    "alpha",
)
_HIST_GROWTH = (
    "learning_rate",
    "max_iter",
    "max_leaf_nodes",
    "max_depth",
    "min_samples_leaf",
    "l2_regularization",
    "max_features",
    "max_bins",
    "monotonic_cst",
    "interaction_cst",
    "warm_start",
    "early_stopping",
    "scoring",
    "validation_fraction",
    "n_iter_no_change",
    "tol",
    "verbose",
    "random_state",
    "quantile",
    "class_weight",
)


# --- GradientBoosting ---------------------------------------------------------------------------------------
@converter("sklearn.GradientBoostingRegressor", honours=("loss", "learning_rate", "init"), ignores=_GROWTH)
def gradient_boosting_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The raw prediction: every loss of this estimator has the identity link."""
    return {"predict": _inverse_link(c, est, _staged(c, est, X))}


@converter("sklearn.GradientBoostingClassifier", honours=("loss", "learning_rate", "init"), ignores=_GROWTH)
def gradient_boosting_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Two classes: the second wins from a raw prediction of 0 on."""
    raw = _staged(c, est, X)
    index = (raw >= 0.0).cast("int64") if raw.width == 1 else c.builder.argmax(raw)
    return {
        "predict": c.labels(index, est.classes_),
        "predict_proba": _probabilities(c, est, raw),
        "decision_function": raw,
    }


def _staged(c: Conversion, est: Any, X: Block) -> Value:
    """Raw predictions: the start, then learning_rate * leaf value, stage by stage and class by class."""
    x = X.matrix(c, est, dtype="float32")  # unlike forests, this estimator refuses NaN
    stages, width = est.estimators_.shape
    trees = [tree.tree_ for tree in est.estimators_.ravel()]
    forest = fill(trees, (est.learning_rate * tree.value[leaves(tree), 0] for tree in trees), 1)
    target = np.tile(np.arange(width), stages)
    constant = _constant_start(est)
    if constant is not None:
        return forest.node(x, constant, target)
    return _start(c, est, x) + forest.node(x, np.zeros(width), target)


def _constant_start(est: Any) -> Array | None:
    """Raw prediction before the first tree where it is the same for all rows, (width,); otherwise None."""
    width = est.n_trees_per_iteration_
    if isinstance(est.init_, str):  # "zero"
        return np.zeros(width)
    if type(est.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        return None
    if est.init_.strategy == "stratified":
        raise UnsupportedParameterError(
            "GradientBoostingClassifier(init=DummyClassifier(strategy='stratified')) starts at random",
            "fit with init=None or a DummyClassifier of another strategy",
        )
    # scikit-learn itself computes it for one row, so that it is exact.
    one_row = np.zeros((1, est.n_features_in_), dtype=np.float32)
    result: Array = est._raw_predict_init(one_row)[0]
    return result


def _start(c: Conversion, est: Any, x: Value) -> Value:
    """Raw prediction of a starting estimator on float32 rows, linked as ``_init_raw_predictions`` does."""
    builder = c.builder
    outputs = c.convert(est.init_, Block(x), "init")
    if not hasattr(est, "classes_"):
        return _value(outputs["predict"]).cast("float64")
    eps = float(np.finfo(np.float64).eps)
    proba = _value(outputs["predict_proba"]).cast("float64")
    if est.n_trees_per_iteration_ == 1:
        proba = builder.clip(proba.select([1]), eps, 1 - eps)
        logit = builder.log(proba / (1.0 - proba))
        return 0.5 * logit if est.loss == "exponential" else logit
    proba = builder.clip(proba, eps, 1 - eps)
    mean_log = builder.sum(builder.log(proba)) / float(proba.width)
    return builder.log(proba / builder.exp(mean_log))


def _value(output: Value | Block) -> Value:
    assert isinstance(output, Value)
    return output


# --- HistGradientBoosting -----------------------------------------------------------------------------------
@converter("sklearn.HistGradientBoostingRegressor", honours=("loss", "categorical_features"), ignores=_HIST_GROWTH)
def hist_gradient_boosting_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The inverse link of the raw prediction: exp for poisson and gamma."""
    return {"predict": _inverse_link(c, est, _predictors(c, est, X))}


@converter("sklearn.HistGradientBoostingClassifier", honours=("loss", "categorical_features"), ignores=_HIST_GROWTH)
def hist_gradient_boosting_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Two classes: the second wins above a raw prediction of 0."""
    raw = _predictors(c, est, X)
    index = (raw > 0.0).cast("int64") if raw.width == 1 else c.builder.argmax(raw)
    return {
        "predict": c.labels(index, est.classes_),
        "predict_proba": _probabilities(c, est, raw),
        "decision_function": raw,
    }


def _predictors(c: Conversion, est: Any, X: Block) -> Value:
    """Raw predictions: the baseline, then every leaf value (learning rate included), iteration by iteration.

    Nodes compare float64 features. In a categorical node a category code goes left when its bit is set;
    NaN, which the preprocessing makes of unknown and missing categories alike, goes where missing values go.
    """
    x = _features(c, est, X)
    predictors = [p for iteration in est._predictors for p in iteration]
    forest = Forest(
        len(predictors),
        sum(len(p.nodes) for p in predictors),
        sum(int(p.nodes["is_leaf"].sum()) for p in predictors),
        1,
    )
    for predictor in predictors:
        nodes = predictor.nodes
        leaf = nodes["is_leaf"] != 0
        forest.add(
            leaf,
            nodes["feature_idx"],
            nodes["num_threshold"],
            nodes["left"],
            nodes["right"],
            nodes["missing_go_to_left"],
            nodes["value"][leaf, None],
            np.where(nodes["is_categorical"] != 0, nodes["bitset_idx"].astype(np.int64), -1),
            predictor.raw_left_cat_bitsets,
        )
    target = np.tile(np.arange(est.n_trees_per_iteration_), len(est._predictors))
    return forest.node(x, est._baseline_prediction[0], target)


def _features(c: Conversion, est: Any, X: Block) -> Value:
    """The float64 matrix the trees read: category codes, then the numerical columns, infinity allowed."""
    if est._preprocessor is None:
        return X.matrix(c, est, dtype="float64", check=False)
    X.check(c, est)
    categorical = np.asarray(est.is_categorical_, dtype=bool)
    fitted = est._preprocessor.named_transformers_
    codes = c.convert(fitted["encoder"], X.columns(np.flatnonzero(categorical).tolist()), "categories")
    parts = [value.cast("float64") for value in _block(codes["transform"]).values]
    if not categorical.all():
        numerical = X.columns(np.flatnonzero(~categorical).tolist())
        parts.append(numerical.matrix(c, fitted["numerical"], dtype="float64", check=False))
    return c.builder.concat(parts)


def _block(output: Value | Block) -> Block:
    assert isinstance(output, Block)
    return output


# --- links --------------------------------------------------------------------------------------------------
def _link(est: Any) -> str:
    return type(est._loss.link).__name__


def _inverse_link(c: Conversion, est: Any, raw: Value) -> Value:
    """Predicted value of a regressor's raw prediction."""
    if _link(est) == "IdentityLink":
        return raw
    if _link(est) == "LogLink":
        return c.builder.exp(raw)
    raise _unknown_link(c, est)


def _probabilities(c: Conversion, est: Any, raw: Value) -> Value:
    """Class probabilities of a classifier's raw predictions."""
    link = _link(est)
    if link == "MultinomialLogit":
        return c.builder.softmax(raw)
    if link == "HalfLogitLink":
        raw = 2.0 * raw
    elif link != "LogitLink":
        raise _unknown_link(c, est)
    positive = c.builder.sigmoid(raw)
    return c.builder.concat([1.0 - positive, positive])


def _unknown_link(c: Conversion, est: Any) -> UnsupportedParameterError:
    return c.refuse(est, "loss", est.loss, "use one of scikit-learn's losses by name")
