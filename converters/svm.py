"""Support vector machines of libsvm: SVC, NuSVC, SVR, NuSVR and OneClassSVM.

In comes a fitted estimator; out go its decision values, labels and Platt's probabilities. Kernels, sums and votes are
libsvm's: squared distances from differences, products added in the order of the support vectors, and a pair won by
its first class only where the value is above 0, ties between votes by the first class.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.kernels import dense, power
from edgeml.converters.pairs import one_vs_rest, pair_sums, votes
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_KERNEL = ("kernel", "degree", "gamma", "coef0")
_TRAINING = ("tol", "C", "nu", "epsilon", "shrinking", "cache_size", "verbose", "max_iter")
# Cells of a matrix with a column a pair; beyond it every class has its own, and sums are those of two.
_MOST_CELLS = 2**20
_LEAST_PROBABILITY = 1e-7


@converter(
    "sklearn.SVC",
    "sklearn.NuSVC",
    honours=(*_KERNEL, "probability", "decision_function_shape", "break_ties"),
    ignores=(*_TRAINING, "class_weight", "random_state"),
)
def support_vector_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Votes of pairs of classes, their scores, and probabilities where it was fitted with ``probability=True``."""
    if est.break_ties and est.decision_function_shape == "ovo":
        raise c.refuse(
            est,
            "break_ties",
            True,
            "scikit-learn itself predicts only with decision_function_shape='ovr', or break_ties=False",
        )
    builder, classes = c.builder, len(est.classes_)
    coefficients, bias = dense(est._dual_coef_), est._intercept_
    values = pair_sums(c, _kernel(c, est, X), coefficients, est._n_support, bias, _MOST_CELLS)
    if classes == 2:
        scores = -values
        index = (~(values > 0.0)).cast("int64")
    else:
        # The two differ where a value is 0: libsvm's votes then go to the second class, scores to the first.
        scores = one_vs_rest(c, values < 0.0, -values, classes) if est.decision_function_shape == "ovr" else values
        index = builder.argmax(scores if est.break_ties else votes(c, values > 0.0, classes))
    outputs = {"decision_function": scores, "predict": c.labels(index, est.classes_)}
    if len(est._probA):
        outputs["predict_proba"] = _probabilities(c, est, values)
    return outputs


@converter("sklearn.SVR", "sklearn.NuSVR", honours=_KERNEL, ignores=_TRAINING)
def support_vector_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The sum over the support vectors."""
    return {"predict": _sum(c, est, X)}


@converter("sklearn.OneClassSVM", honours=_KERNEL, ignores=_TRAINING)
def one_class_svm(c: Conversion, est: Any, X: Block) -> Outputs:
    """Inliers, 1, have a sum above 0, outliers, -1, have not."""
    decision = _sum(c, est, X)
    return {
        "decision_function": decision,
        "score_samples": decision + np.atleast_1d(est.offset_),
        "predict": c.builder.take((decision > 0.0).cast("int64"), np.array([-1, 1])),
    }


def _sum(c: Conversion, est: Any, X: Block) -> Value:
    """Products of kernel values and coefficients in the order of the support vectors, the intercept last."""
    if not len(est.support_):  # every target was within epsilon: the intercept, of rows that are checked all the same
        x = X.matrix(c, est, dtype="float64")
        return c.builder.linear(x, np.zeros((x.width, 1)), est._intercept_)
    return c.builder.linear(_kernel(c, est, X), dense(est._dual_coef_).T, est._intercept_)


def _kernel(c: Conversion, est: Any, X: Block) -> Value:
    """libsvm's kernel values against the support vectors, (rows, support vectors)."""
    if callable(est.kernel):
        raise c.refuse(
            est,
            "kernel",
            est.kernel,
            "use kernel='precomputed' and give it kernel values for rows, or one of linear, poly, rbf and sigmoid",
        )
    x = X.matrix(c, est, dtype="float64")
    if est.kernel == "precomputed":
        return x.select(est.support_)
    builder, points = c.builder, dense(est.support_vectors_)
    if est.kernel == "rbf":
        return builder.exp(builder.distances(x, points, "sqeuclidean") * float(-est._gamma))
    products = builder.linear(x, points.T)
    if est.kernel == "linear":
        return products
    shifted = products * float(est._gamma) + float(est.coef0)
    return builder.tanh(shifted) if est.kernel == "sigmoid" else power(c, shifted, est.degree)


def _probabilities(c: Conversion, est: Any, values: Value) -> Value:
    """Platt's sigmoid of every pair, kept off 0 and 1, then the classes' probabilities that fit them best."""
    builder = c.builder
    exponent = values * est._probA + est._probB
    small = builder.exp(-builder.abs(exponent))
    share = builder.where(exponent >= 0.0, small, 1.0) / (1.0 + small)
    # Comparisons in libsvm's order, by which a NaN becomes the least probability.
    share = builder.where(share > _LEAST_PROBABILITY, share, _LEAST_PROBABILITY)
    share = builder.where(share < 1.0 - _LEAST_PROBABILITY, share, 1.0 - _LEAST_PROBABILITY)
    return builder.op("CouplePairs", share, classes=len(est.classes_))
