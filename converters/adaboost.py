"""AdaBoost: weighted votes of classifiers, and the weighted median of regressors.

In comes a fitted ensemble; out go the sums of its members' weights as scikit-learn adds them. Members that are decision
trees go into one TreeEnsemble, others are converted one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.bagging import are_trees, over_trees
from edgeml.converters.block import Block
from edgeml.converters.members import beside, one_array, position, total, value_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.converters.trees import leaves
from edgeml.ir import Value

_STEP = "estimators_"
_GROWTH = ("estimator", "n_estimators", "learning_rate", "random_state")


@converter("sklearn.AdaBoostClassifier", honours=("estimator",), ignores=(*_GROWTH, "algorithm"))
def ada_boost_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Each member adds its weight w to its class and -w / (classes - 1) to the others: the SAMME algorithm."""
    builder, k = c.builder, est.n_classes_
    array = one_array(c, est, X)
    if k == 1:
        label = c.labels(builder.constant(0, "int64"), est.classes_)
        zero = builder.constant(0, array.dtype)
        return {"decision_function": zero, "predict": label, "predict_proba": builder.constant(1.0)}
    # Row j of a table: what a vote for class j adds to each class.
    shares = [np.where(np.eye(k, dtype=bool), w, -1 / (k - 1) * w) for w in est.estimator_weights_]
    if are_trees(est.estimators_):
        pairs = list(zip([t.tree_ for t in est.estimators_], shares, strict=False))
        values = (share[tree.value[leaves(tree), 0].argmax(axis=1)] for tree, share in pairs)
        summed = over_trees(c, est, array, values, k)
    else:
        votes = []
        for member, share in zip(est.estimators_, shares, strict=False):
            label = value_of(c, c.convert(member, array, _STEP), member, _STEP, "predict")
            votes.append(builder.take(position(c, label, est.classes_), share))
        summed = total(votes)
    scores = summed / float(est.estimator_weights_.sum())
    if k == 2:
        decision = -scores.select([0]) + scores.select([1])
        return {
            "decision_function": decision,
            "predict": c.labels((decision > 0.0).cast("int64"), est.classes_),
            "predict_proba": builder.softmax(builder.concat([-decision, decision]) / 2.0),
        }
    return {
        "decision_function": scores,
        "predict": c.labels(builder.argmax(scores), est.classes_),
        "predict_proba": builder.softmax(scores / float(k - 1)),
    }


@converter("sklearn.AdaBoostRegressor", honours=("estimator",), ignores=(*_GROWTH, "loss"))
def ada_boost_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The weighted median: the first of the sorted predictions at which half of all weight is reached."""
    builder, count = c.builder, len(est.estimators_)
    array = one_array(c, est, X)
    predictions = _predictions(c, est, array)
    order = builder.top_k(predictions, count)
    weights = builder.take_along(builder.constant(est.estimator_weights_[:count]), order)
    # numpy.cumsum: every product is by 1 or 0, and adding 0 changes no sum.
    reached = builder.linear(weights, np.triu(np.ones((count, count))))
    enough = (reached >= 0.5 * reached.select([count - 1])).cast("int64")
    middle = builder.take_along(order, builder.argmax(enough))
    return {"predict": builder.take_along(predictions, middle)}


def _predictions(c: Conversion, est: Any, X: Block) -> Value:
    """One column a member."""
    if are_trees(est.estimators_):
        values = (t.tree_.value[leaves(t.tree_), :, 0] for t in est.estimators_)
        return over_trees(c, est, X, values, 1, target=np.arange(len(est.estimators_), dtype=np.int32))
    return beside([value_of(c, c.convert(member, X, _STEP), member, _STEP, "predict") for member in est.estimators_])
