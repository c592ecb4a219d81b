"""Decision trees and forests: every tree of an estimator goes into one TreeEnsemble node as flat arrays.

A fitted tree keeps its nodes in arrays already, so flattening is a few NumPy copies a tree and no loop
over nodes. ``Forest`` collects the trees for this module and for boosting.py; leaves are numbered tree by
tree in node order, which is the numbering edgeml/parity/leaves.py compares with scikit-learn's ``apply``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedEstimatorError
from edgeml.ir import Value
from edgeml.ir.table import Array

# How a tree is grown leaves its mark on the nodes alone; nothing of it is read again for new rows.
_TREE_GROWTH = (
    "criterion",
    "splitter",
    "max_depth",
    "min_samples_split",
    "min_samples_leaf",
    "min_weight_fraction_leaf",
    "max_features",
    "max_leaf_nodes",
    "random_state",
    "min_impurity_decrease",
    "class_weight",
    "ccp_alpha",
    "monotonic_cst",
)
_FOREST_GROWTH = (
    *_TREE_GROWTH,
    "n_estimators",
    "bootstrap",
    "oob_score",
    "n_jobs",
    "verbose",
    "warm_start",
    "max_samples",
)


class Forest:
    """The attributes of a TreeEnsemble, filled tree by tree into arrays of their final size.

    ``nodes`` and ``leaves`` are totals over all trees, ``k`` the number of values a leaf holds.
    """

    def __init__(self, trees: int, nodes: int, leaves: int, k: int) -> None:
        if max(nodes, leaves) > np.iinfo(np.int32).max:
            raise UnsupportedEstimatorError(
                f"an ensemble of {nodes} tree nodes, the limit is {np.iinfo(np.int32).max}",
                "fit fewer or smaller trees",
            )
        self.roots = np.zeros(trees, dtype=np.int32)
        self.feature = np.full(nodes, -1, dtype=np.int32)
        self.threshold = np.zeros(nodes, dtype=np.float64)
        self.left = np.zeros(nodes, dtype=np.int32)
        self.right = np.zeros(nodes, dtype=np.int32)
        self.missing_left = np.zeros(nodes, dtype=np.uint8)
        self.category_set = np.full(nodes, -1, dtype=np.int32)
        self.leaf_values = np.zeros((leaves, k), dtype=np.float64)
        self._sets: list[Array] = []
        self._trees = self._nodes = self._leaves = self._set_count = 0

    def add(
        self,
        leaf: Array,
        feature: Array,
        threshold: Array,
        left: Array,
        right: Array,
        missing_left: Array,
        values: Array,
        category_set: Array | None = None,
        categories: Array | None = None,
    ) -> None:
        """Append one tree whose root is its first node and whose children stand behind their parents.

        All arrays are (nodes,) but ``values``, (leaves, k) in node order, and ``categories``, (sets, 8).
        Cells of the other arrays that stand in a leaf are not read.
        """
        start, stop = self._nodes, self._nodes + len(leaf)
        inner = ~leaf
        self.roots[self._trees] = start
        self.feature[start:stop][inner] = feature[inner]
        self.threshold[start:stop][inner] = threshold[inner]
        self.right[start:stop][inner] = right[inner] + start
        self.left[start:stop][inner] = left[inner] + start
        self.left[start:stop][leaf] = np.arange(self._leaves, self._leaves + len(values), dtype=np.int32)
        self.missing_left[start:stop][inner] = missing_left[inner]
        self.leaf_values[self._leaves : self._leaves + len(values)] = values
        if category_set is not None and categories is not None:
            used = inner & (category_set >= 0)
            self.category_set[start:stop][used] = category_set[used] + self._set_count
            self._sets.append(categories)
            self._set_count += len(categories)
        self._trees, self._nodes, self._leaves = self._trees + 1, stop, self._leaves + len(values)

    def node(self, x: Value, base: Array, target: Array | None = None) -> Value:
        """The TreeEnsemble over x, its sums starting at ``base`` (width,); see TREE_ATTRS for ``target``."""
        sets = [*self._sets, np.zeros((0, 8), dtype=np.uint32)]
        return x.builder.op(
            "TreeEnsemble",
            x,
            roots=self.roots,
            feature=self.feature,
            threshold=self.threshold,
            left=self.left,
            right=self.right,
            missing_left=self.missing_left,
            category_set=self.category_set,
            categories=np.concatenate(sets).astype(np.uint32),
            leaf_values=self.leaf_values,
            target=np.zeros(0, dtype=np.int32) if target is None else target.astype(np.int32),
            base=np.ascontiguousarray(base, dtype=np.float64),
        )


def leaves(tree: Any) -> Array:
    """Which nodes of a ``Tree`` are leaves, bool (nodes,)."""
    found: Array = tree.children_left < 0
    return found


def fill(trees: Sequence[Any], values: Iterable[Array], k: int, columns: Sequence[Array] | None = None) -> Forest:
    """A Forest of scikit-learn ``Tree`` objects; ``values`` gives (leaves, k) for each of them.

    ``columns`` says for each tree which column of the matrix each of its features is; without it they are the same.
    """
    forest = Forest(len(trees), sum(t.node_count for t in trees), sum(t.n_leaves for t in trees), k)
    for number, (tree, of_leaves) in enumerate(zip(trees, values, strict=True)):
        forest.add(
            leaves(tree),
            tree.feature if columns is None else columns[number][np.maximum(tree.feature, 0)],
            tree.threshold,
            tree.children_left,
            tree.children_right,
            tree.missing_go_to_left,
            of_leaves,
        )
    return forest


def tree_input(c: Conversion, est: Any, X: Block, tree: Any) -> Value:
    """X as ``_validate_X_predict`` makes it: float32, without infinity, and NaN only if ``tree`` takes it."""
    return X.matrix(c, est, dtype="float32", allow_nan=takes_nan(tree, X))


def takes_nan(tree: Any, X: Block) -> bool:
    """Whether a tree takes NaN in X; none does in a sparse matrix, and with monotonic_cst none before 1.9."""
    return X.form != "sparse" and bool(tree._support_missing_values(np.empty((0, 0))))


def _trees(est: Any) -> list[Any]:
    return list(est.estimators_) if hasattr(est, "estimators_") else [est]


@converter(
    "sklearn.RandomForestRegressor",
    "sklearn.ExtraTreesRegressor",
    ignores=_FOREST_GROWTH,
    note="several outputs too",
)
@converter(
    "sklearn.DecisionTreeRegressor",
    "sklearn.ExtraTreeRegressor",
    ignores=_TREE_GROWTH,
    note="several outputs too",
)
def tree_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """Leaf values added in the order of estimators_, then divided by their number."""
    trees = _trees(est)
    x = tree_input(c, est, X, trees[0])
    k = est.n_outputs_
    inner = [t.tree_ for t in trees]
    total = fill(inner, (t.value[leaves(t), :, 0] for t in inner), k).node(x, np.zeros(k))
    return {"predict": _mean(est, total)}


@converter(
    "sklearn.RandomForestClassifier",
    "sklearn.ExtraTreesClassifier",
    ignores=_FOREST_GROWTH,
    note="several outputs too",
)
@converter(
    "sklearn.DecisionTreeClassifier",
    "sklearn.ExtraTreeClassifier",
    ignores=_TREE_GROWTH,
    note="several outputs too",
)
def tree_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Class fractions of the leaves added in the order of estimators_, divided by their number."""
    trees = _trees(est)
    x = tree_input(c, est, X, trees[0])
    counts = [int(n) for n in np.atleast_1d(est.n_classes_)]

    def fractions(tree: Any) -> Array:
        # A node holds fractions, not counts, padded to the largest number of classes of any output.
        value = tree.value[leaves(tree)]
        return np.concatenate([value[:, output, :n] for output, n in enumerate(counts)], axis=1)

    inner = [t.tree_ for t in trees]
    total = fill(inner, map(fractions, inner), sum(counts)).node(x, np.zeros(sum(counts)))
    proba = _mean(est, total)
    if est.n_outputs_ == 1:
        return {"predict": c.labels(c.builder.argmax(proba), est.classes_), "predict_proba": proba}
    stops = np.cumsum([0, *counts])
    parts = [proba.select(slice(a, b)) for a, b in pairwise(stops)]
    return {
        "predict": Block(
            *(c.labels(c.builder.argmax(part), classes) for part, classes in zip(parts, est.classes_, strict=True))
        ),
        "predict_proba": Block(*parts),
    }


def _mean(est: Any, total: Value) -> Value:
    """The sum over trees divided as forests do; a tree by itself divides nothing."""
    return total / float(len(est.estimators_)) if hasattr(est, "estimators_") else total
