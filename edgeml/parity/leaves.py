"""Which leaf every row reaches: an output of the program, and scikit-learn's answer in the same numbers.

Sums of leaves can agree by luck; leaves cannot. ``leaf_program`` makes the leaves visible in any engine,
and ``sklearn_leaves`` is the reference where the library can say which leaf it took. leaf_check.py
compares them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from edgeml.ir.program import Node, Output, Program, ValueType
from edgeml.ir.table import Array


def leaf_program(program: Program) -> Program:
    """The program with one more output for each TreeEnsemble, in their order: ``leaves_0``, ``leaves_1``, …

    Each is a matrix of int64, (rows, trees): the row of ``leaf_values`` that every tree reaches.
    """
    nodes, outputs = list(program.nodes), dict(program.outputs)
    for node in program.nodes:
        if node.op == "TreeEnsemble":
            value = len(program.inputs) + len(nodes)
            nodes.append(
                Node(
                    "TreeLeaves",
                    node.inputs,
                    ValueType("int64", len(node.attrs["roots"])),
                    node.attrs,
                    node.origin,
                )
            )
            name = f"leaves_{len(nodes) - len(program.nodes) - 1}"
            outputs[name] = Output(name, (value,), "matrix", "int64")
    return replace(program, nodes=tuple(nodes), outputs=outputs)


def sklearn_leaves(pipeline: Any, X: Any) -> Array | None:
    """Leaves that scikit-learn itself reaches, int64 (rows, trees), numbered as the converters number them.

    ``pipeline`` is a tree ensemble, or a Pipeline that ends in one. None for any other estimator, which has
    no ``apply``. Raises what scikit-learn raises for rows it refuses.
    """
    pipeline = getattr(pipeline, "best_estimator_", pipeline)  # of a search, which has no apply itself
    steps = getattr(pipeline, "steps", None)
    est = pipeline if steps is None else steps[-1][1]
    if not _has_leaves(est):
        return None
    with np.errstate(all="ignore"):  # scikit-learn's finiteness check adds up cells, and extreme ones overflow
        for _, step in [] if steps is None else steps[:-1]:
            # imbalanced-learn leaves samplers out of all but fit, and cannot cut a pipeline off behind one.
            if step not in (None, "passthrough") and not hasattr(step, "fit_resample"):
                X = step.transform(X)
        return _hist_leaves(est, X) if hasattr(est, "_predictors") else _leaves(est, X)


_TREES = (
    "DecisionTree",
    "ExtraTree",
    "RandomForest",
    "ExtraTrees",
    "GradientBoosting",
    "HistGradientBoosting",
)
_WITH_LEAVES = {prefix + kind for prefix in _TREES for kind in ("Classifier", "Regressor")}


def _has_leaves(est: Any) -> bool:
    cls = type(est)
    return cls.__module__.startswith("sklearn.") and cls.__name__ in _WITH_LEAVES


def _leaves(est: Any, X: Any) -> Array:
    estimators = np.ravel(getattr(est, "estimators_", [est]))
    nodes = np.asarray(est.apply(X)).astype(np.int64).reshape(-1, len(estimators))
    is_leaf = [tree.tree_.children_left < 0 for tree in estimators]
    return _renumber(nodes, is_leaf)


def _renumber(nodes: Array, is_leaf: Iterable[Array]) -> Array:
    """Node of each tree -> its place among the leaves of all trees, tree by tree in node order."""
    result, before = np.empty_like(nodes), 0
    for tree, leaf in enumerate(is_leaf):
        result[:, tree] = before + np.cumsum(leaf)[nodes[:, tree]] - 1
        before += int(leaf.sum())
    return result


def _hist_leaves(est: Any, X: Any) -> Array:
    """HistGradientBoosting has no ``apply``; its predictors tell leaves whose values are their numbers."""
    x = est._preprocess_X(X, reset=False)
    known, place = est._bin_mapper.make_known_categories_bitsets()
    columns, before = [], 0
    for predictor in (p for iteration in est._predictors for p in iteration):
        numbered = predictor.nodes.copy()
        leaf = numbered["is_leaf"] != 0
        numbered["value"][leaf] = before + np.arange(leaf.sum())
        before += int(leaf.sum())
        probe = type(predictor)(numbered, predictor.binned_left_cat_bitsets, predictor.raw_left_cat_bitsets)
        columns.append(probe.predict(x, known, place, 1))
    return np.stack(columns, axis=1).astype(np.int64)
