"""Multi-layer perceptrons: product plus intercept, then the activation, layer by layer as scikit-learn goes.

In comes a fitted MLPClassifier, MLPRegressor or BernoulliRBM; out go ``predict`` and, for the classifier,
``predict_proba``; of the Boltzmann machine ``transform``. A network fitted on float32 has float32 weights and computes
in float32 on float32 rows.
"""

from __future__ import annotations

from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_TRAINING = (
    "solver", "alpha", "batch_size", "learning_rate", "learning_rate_init", "power_t", "max_iter",
    "shuffle", "random_state", "tol", "verbose", "warm_start", "momentum", "nesterovs_momentum",
    "early_stopping", "validation_fraction", "beta_1", "beta_2", "epsilon", "n_iter_no_change", "max_fun",
)  # fmt: skip


def _activate(c: Conversion, est: Any, parameter: str, name: str, x: Value) -> Value:
    builder = c.builder
    match name:
        case "identity":
            return x
        case "relu":
            return builder.maximum(x, 0.0)
        case "logistic":
            return builder.sigmoid(x)
        case "tanh":
            return builder.tanh(x)
        case "softmax":
            return builder.softmax(x)
        case "exp":
            return builder.exp(x)
    raise c.refuse(est, parameter, name, "use identity, logistic, tanh or relu")


def _forward(c: Conversion, est: Any, X: Block) -> Value:
    x = numeric(c, est, X)
    last = len(est.coefs_) - 1
    for layer, (weight, intercept) in enumerate(zip(est.coefs_, est.intercepts_, strict=True)):
        x = affine(x, weight, intercept, in_place=True)
        if layer < last:
            x = _activate(c, est, "activation", est.activation, x)
    return _activate(c, est, "out_activation_", est.out_activation_, x)


@converter("sklearn.MLPRegressor", honours=("activation", "hidden_layer_sizes", "loss"), ignores=_TRAINING)
def mlp_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The output layer: identity, or exp for the Poisson loss."""
    return {"predict": _forward(c, est, X)}


@converter("sklearn.MLPClassifier", honours=("activation", "hidden_layer_sizes"), ignores=_TRAINING)
def mlp_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Logistic outputs above 0.5 for two classes and multi-label targets, else the largest of the softmax."""
    output = _forward(c, est, X)
    target = est._label_binarizer.y_type_
    if target.startswith("multilabel"):
        return {"predict_proba": output, "predict": (output > 0.5).cast("int64")}
    if target == "multiclass":
        return {"predict_proba": output, "predict": c.labels(c.builder.argmax(output), est.classes_)}
    one_class = len(est.classes_) == 1
    index = c.builder.constant(0, "int64") if one_class else (output > 0.5).cast("int64")
    return {
        "predict_proba": c.builder.concat([1.0 - output, output]),
        "predict": c.labels(index, est.classes_),
    }


@converter(
    "sklearn.BernoulliRBM",
    ignores=("n_components", "learning_rate", "batch_size", "n_iter", "verbose", "random_state"),
    note="score_samples draws random numbers for every answer, and is left out",
    random=("score_samples",),
)
def bernoulli_rbm(c: Conversion, est: Any, X: Block) -> Outputs:
    """Probabilities of the hidden units."""
    hidden = affine(X.matrix(c, est), est.components_.T, est.intercept_hidden_, in_place=True)
    c.cannot_give(est, "score_samples", "draws random numbers for every answer", "use transform")
    return {"transform": Block(c.builder.sigmoid(hidden))}
