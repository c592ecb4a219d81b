"""Ensembles of one kind of estimator: bagging, and the forests that isolate or embed rows.

In comes a fitted ensemble whose ``estimators_`` are alike; out go the sums scikit-learn forms of their answers, in the
order of ``estimators_``. Decision trees, the usual members, go into one TreeEnsemble; others are converted one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.lazy import LazyOutputs, Output
from edgeml.converters.members import common, log_proba, one_array, total, value_of
from edgeml.converters.registry import Conversion, Outputs, converter, key_of
from edgeml.converters.trees import fill, leaves, takes_nan
from edgeml.ir import Value
from edgeml.ir.table import Array

_STEP = "estimators_"  # of all members, so that what they check alike is checked once
_TREES = frozenset(
    f"sklearn.{name}"
    for name in ("DecisionTreeClassifier", "ExtraTreeClassifier", "DecisionTreeRegressor", "ExtraTreeRegressor")
)
_GROWTH = (
    "estimator", "n_estimators", "max_samples", "max_features", "bootstrap", "bootstrap_features", "oob_score",
    "warm_start", "n_jobs", "random_state", "verbose",
)  # fmt: skip


def are_trees(members: Sequence[Any]) -> bool:
    """Whether all members are decision trees, which one TreeEnsemble holds."""
    return all(key_of(member) in _TREES for member in members)


def over_trees(
    c: Conversion,
    est: Any,
    X: Block,
    values: Iterable[Array],
    k: int,
    *,
    features: Sequence[Array] | None = None,
    target: Array | None = None,
    check: bool = True,
) -> Value:
    """The sum over the trees in ``est.estimators_``, starting at 0; ``values`` gives (leaves, k) for each.

    ``features`` are the columns of X that each tree sees; ``check`` refuses what a tree refuses in them.
    """
    trees = list(est.estimators_)
    x = X.matrix(c, est, dtype="float32", check=False)
    seen = [np.arange(x.width)] * len(trees) if features is None else [np.asarray(f) for f in features]
    used = np.unique(np.concatenate(seen))
    x = x.select(used)
    if check:
        with c.builder.step(_STEP):
            x = c.builder.check_finite(x, c.place(trees[0]), allow_nan=takes_nan(trees[0], X))
    columns = [np.searchsorted(used, f) for f in seen]
    width = k if target is None else int(target.max()) + 1
    return fill([t.tree_ for t in trees], values, k, columns).node(x, np.zeros(width), target)


@converter("sklearn.BaggingClassifier", honours=("estimator",), ignores=_GROWTH)
def bagging_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Probabilities added and divided by the number of estimators; of members without them, votes."""
    builder, count = c.builder, float(est.n_estimators)
    array = one_array(c, est, X, check=False)
    members = _Members(c, est, array)

    def proba() -> Value:
        if are_trees(est.estimators_):
            fractions = (_scattered(t, t.tree_.value[leaves(t.tree_), 0], est.n_classes_) for t in est.estimators_)
            summed = over_trees(c, est, array, fractions, est.n_classes_, features=est.estimators_features_)
        else:
            summed = total([members.proba(at) for at in range(len(est.estimators_))])
        return summed / count

    def logarithms() -> Value:
        if are_trees(est.estimators_) or not hasattr(est.estimator_, "predict_log_proba"):
            return builder.log(_value(outputs["predict_proba"]))
        return _log_of_sum(c, [members.log_proba(at) for at in range(len(est.estimators_))]) - np.log([count])

    functions: dict[str, Callable[[], Output]] = {
        "predict_proba": proba,
        "predict_log_proba": logarithms,
        "predict": lambda: c.labels(builder.argmax(_value(outputs["predict_proba"])), est.classes_),
    }
    if hasattr(est, "decision_function"):
        functions["decision_function"] = lambda: _mean(members.all("decision_function"), count)
    outputs = LazyOutputs(c, functions)
    return outputs


@converter("sklearn.BaggingRegressor", honours=("estimator",), ignores=_GROWTH)
def bagging_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """Predictions added in order and divided by the number of estimators."""
    array = one_array(c, est, X, check=False)
    if not are_trees(est.estimators_):
        return {"predict": _mean(_Members(c, est, array).all("predict"), float(est.n_estimators))}
    k = est.estimators_[0].n_outputs_
    values = (t.tree_.value[leaves(t.tree_), :, 0] for t in est.estimators_)
    summed = over_trees(c, est, array, values, k, features=est.estimators_features_)
    return {"predict": summed / float(est.n_estimators)}


class _Members:
    """The members of a bagging ensemble, each converted on its own columns when first asked."""

    def __init__(self, c: Conversion, est: Any, X: Block) -> None:
        self._c, self._est, self._X = c, est, X
        self._outputs: dict[int, Outputs] = {}

    def _of(self, at: int) -> tuple[Any, Outputs]:
        member = self._est.estimators_[at]
        if at not in self._outputs:
            columns = self._X.columns(np.asarray(self._est.estimators_features_[at]).tolist())
            self._outputs[at] = self._c.convert(member, columns, _STEP)
        return member, self._outputs[at]

    def all(self, method: str) -> list[Value]:
        found = [self._of(at) for at in range(len(self._est.estimators_))]
        return [value_of(self._c, outputs, member, _STEP, method) for member, outputs in found]

    def proba(self, at: int) -> Value:
        """Probabilities of all classes of the ensemble, float64; 0 for those that a member never saw."""
        member, outputs = self._of(at)
        if not hasattr(member, "predict_proba"):
            votes = value_of(self._c, outputs, member, _STEP, "predict")
            return self._c.builder.one_hot(votes.cast("int64"), self._est.n_classes_)
        return self._all_classes(member, value_of(self._c, outputs, member, _STEP, "predict_proba"), 0.0)

    def log_proba(self, at: int) -> Value:
        member, outputs = self._of(at)
        return self._all_classes(member, log_proba(self._c, outputs, member, _STEP), -np.inf)

    def _all_classes(self, member: Any, scores: Value, absent: float) -> Value:
        """Members are fitted on positions in ``classes_`` of the ensemble."""
        scores, count = scores.cast("float64"), self._est.n_classes_
        if len(member.classes_) == count:
            return scores
        place = {int(label): at for at, label in enumerate(member.classes_)}
        nothing = self._c.builder.constant(absent, "float64")
        return self._c.builder.concat(
            [scores.select([place[label]]) if label in place else nothing for label in range(count)]
        )


def _scattered(tree: Any, fractions: Array, classes: int) -> Array:
    """Fractions of a tree's leaves, (leaves, its classes), among all ``classes``, (leaves, classes)."""
    if len(tree.classes_) == classes:
        return fractions
    result = np.zeros((len(fractions), classes))
    result[:, tree.classes_.astype(np.int64)] = fractions
    return result


def _mean(values: Sequence[Value], count: float) -> Value:
    summed = total(common(values))
    return (summed if summed.dtype in ("float64", "float32") else summed.cast("float64")) / count


def _log_of_sum(c: Conversion, logarithms: Sequence[Value]) -> Value:
    """log(sum(exp(x))) of each column over the estimators, as numpy.logaddexp: minus infinity where all are."""
    builder = c.builder
    largest = logarithms[0]
    for value in logarithms[1:]:
        largest = builder.maximum(largest, value)
    shift = builder.where(largest == -np.inf, 0.0, largest)
    return builder.log(total([builder.exp(value - shift) for value in logarithms])) + shift


def _value(output: Output) -> Value:
    assert isinstance(output, Value)
    return output


@converter(
    "sklearn.IsolationForest",
    ignores=(
        "n_estimators", "max_samples", "contamination", "max_features", "bootstrap", "n_jobs", "random_state",
        "verbose", "warm_start",
    ),
)  # fmt: skip
def isolation_forest(c: Conversion, est: Any, X: Block) -> Outputs:
    """Depths of the leaves added over the trees; the score is -(2 ** -(depths / (trees * usual depth)))."""
    from sklearn.ensemble._iforest import _average_path_length

    inner = [t.tree_ for t in est.estimators_]
    depths = (
        (steps[leaves(tree)] + usual[leaves(tree)] - 1.0)[:, None]
        for tree, steps, usual in zip(inner, est._decision_path_lengths, est._average_path_length_per_tree, strict=True)
    )
    # validate_data(dtype=float32, ensure_all_finite=False): trees take what there is.
    summed = over_trees(c, est, X, depths, 1, features=est.estimators_features_, check=False)
    usual = len(inner) * float(_average_path_length([est._max_samples])[0])

    def scores(depth: Any) -> Any:
        return -(2.0 ** -(depth / usual if usual else np.ones_like(depth)))

    share = summed / usual if usual else summed * 0.0 + 1.0
    samples = -c.builder.exp(share * -np.log(2.0))
    # A training row may lie exactly on the offset: labels follow from the depth where NumPy's own score crosses it.
    first = _first(lambda depth: ~(scores(depth) - est.offset_ < 0))
    return {
        "score_samples": samples,
        "decision_function": samples - float(est.offset_),
        "predict": c.builder.where(summed >= first, np.ones(1, np.int64), np.full(1, -1, np.int64)),
    }


def _first(holds: Callable[[Array], Array]) -> float:
    """The smallest number from 0 on for which a condition that stays true holds; infinity where it never does."""
    low, high = -1, int(np.array(np.inf).view(np.int64))  # bits of floats from 0 on sort as they do
    while high - low > 1:
        middle = (low + high) // 2
        if holds(np.array([middle], dtype=np.int64).view(np.float64))[0]:
            high = middle
        else:
            low = middle
    return float(np.array(high, dtype=np.int64).view(np.float64))


@converter(
    "sklearn.RandomTreesEmbedding",
    ignores=(
        "n_estimators", "max_depth", "min_samples_split", "min_samples_leaf", "min_weight_fraction_leaf",
        "max_leaf_nodes", "min_impurity_decrease", "sparse_output", "n_jobs", "random_state", "verbose", "warm_start",
    ),
)  # fmt: skip
def random_trees_embedding(c: Conversion, est: Any, X: Block) -> Outputs:
    """A column a leaf, 1 where the row ends: leaves are numbered as one-hot encoding of their node ids orders them."""
    trees, categories = est.estimators_, est.one_hot_encoder_.categories_
    places = []
    for tree, known in zip(trees, categories, strict=True):
        nodes = np.flatnonzero(leaves(tree.tree_))
        at = np.searchsorted(known, nodes)
        found = known[np.minimum(at, len(known) - 1)] == nodes
        places.append(np.where(found, at, -1).astype(np.float64)[:, None])
    target = np.arange(len(trees), dtype=np.int32)
    reached = over_trees(c, est, X, places, 1, target=target)
    if any((place < 0).any() for place in places):
        message = f"{c.place(est)}: a row ends in a leaf that no training row reached"
        reached = c.builder.require(reached, reached >= 0.0, message, "category")
    widths = [len(known) for known in categories]
    owner = np.repeat(np.arange(len(trees)), widths)
    number = np.concatenate([np.arange(width, dtype=np.float64) for width in widths])
    return {"transform": Block((reached.select(owner) == number).cast("float64"))}
