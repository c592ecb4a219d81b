"""LightGBM: the trees of its classifier, regressor and ranker, and the links of its objectives.

In come the estimator, through the dump its booster makes of itself, and a Block; out go predict and predict_proba in
the library's arithmetic: cells compared in float64 with ``<=``, leaves added in float64 iteration by iteration. How a
node treats missing cells and zeros is its own. LightGBM is not imported.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.boosters import Tree, codes_of, forest_of, numbers_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import Value
from edgeml.ir.table import Array

# How a model is grown leaves its mark in the dump alone.
_GROWTH = (
    "boosting_type", "num_leaves", "max_depth", "learning_rate", "n_estimators", "subsample_for_bin", "class_weight",
    "min_split_gain", "min_child_weight", "min_child_samples", "subsample", "subsample_freq", "colsample_bytree",
    "reg_alpha", "reg_lambda", "random_state", "n_jobs", "importance_type", "verbose", "verbosity",
    # Of the library's own parameters, which the estimators take as they come:
    "min_data_in_leaf", "bagging_fraction", "bagging_freq", "feature_fraction", "lambda_l1", "lambda_l2", "max_bin",
    "min_data_in_bin", "cat_smooth", "cat_l2", "max_cat_threshold", "max_cat_to_onehot", "min_data_per_group", "seed",
    "use_missing", "zero_as_missing", "is_unbalance", "scale_pos_weight", "boost_from_average", "extra_trees",
    "path_smooth", "drop_rate", "skip_drop", "uniform_drop", "xgboost_dart_mode", "max_drop", "top_rate", "other_rate",
    "monotone_constraints", "monotone_constraints_method", "interaction_constraints", "early_stopping_round",
    "early_stopping_rounds", "metric", "min_sum_hessian_in_leaf", "deterministic", "force_row_wise", "force_col_wise",
    "num_threads", "label_gain", "lambdarank_truncation_level", "data_sample_strategy", "linear_tree", "num_class",
)  # fmt: skip
_READ = (
    "objective", "sigmoid", "reg_sqrt", "alpha", "fair_c", "poisson_max_delta_step", "tweedie_variance_power",
    "categorical_feature",
)  # fmt: skip
_IDENTITY = ("regression", "regression_l1", "huber", "fair", "quantile", "mape", "lambdarank", "rank_xendcg")
_EXP = ("poisson", "gamma", "tweedie")
_ZERO = float(np.float32(1e-35))  # kZeroThreshold: what LightGBM holds for zero


@converter("lightgbm.LGBMRegressor", "lightgbm.LGBMRanker", honours=_READ, ignores=_GROWTH)
def lgbm_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The link of the sum of leaves."""
    model = _Model(est)
    return {"predict": _linked(c, est, model, _averaged(model, _raw(c, est, model, X)))}


@converter("lightgbm.LGBMClassifier", honours=_READ, ignores=_GROWTH)
def lgbm_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Probabilities of several classes, or of the second of two; the largest wins, the first of equals."""
    model = _Model(est)
    raw = _raw(c, est, model, X)
    proba = _linked(c, est, model, _averaged(model, raw))
    if proba.width == 1:
        proba = c.builder.concat([1.0 - proba, proba])
    label = c.labels(c.builder.argmax(proba), est.classes_)
    return {"predict": label, "predict_proba": proba, "decision_function": raw}


class _Model:
    """The dump of a booster, up to the best iteration where fitting stopped early, as predict uses it."""

    def __init__(self, est: Any) -> None:
        dump = est.booster_.dump_model()
        name, *options = (dump.get("objective") or "custom").split()
        self.objective: str = name
        self.options = dict(option.split(":") for option in options if ":" in option)
        self.square_root = "sqrt" in options
        self.trees = dump["tree_info"]
        self.width = int(dump["num_tree_per_iteration"])
        self.average = bool(dump["average_output"])
        self.categories = dump.get("pandas_categorical") or []


def _linked(c: Conversion, est: Any, model: _Model, raw: Value) -> Value:
    """The prediction: the objective's link of the sum of leaves."""
    if callable(est.objective) or model.objective == "custom":
        raise c.refuse(est, "objective", est.objective, "use an objective of LightGBM's own, by its name")
    builder, name = c.builder, model.objective
    slope = float(model.options.get("sigmoid", 1.0))
    if name in ("binary", "multiclassova"):
        return 1.0 / (1.0 + builder.exp(-slope * raw))
    if name == "cross_entropy":
        return 1.0 / (1.0 + builder.exp(-raw))
    if name == "cross_entropy_lambda":
        return builder.log1p(builder.exp(raw))
    if name == "multiclass":
        return builder.softmax(raw)
    if name in _EXP:
        return builder.exp(raw)
    if name in _IDENTITY:
        return builder.where(raw < 0.0, -(raw * raw), raw * raw) if model.square_root else raw
    raise c.refuse(est, "objective", name, "use one of LightGBM's own objectives that this version knows")


def _raw(c: Conversion, est: Any, model: _Model, X: Block) -> Value:
    """Leaves summed: a raw score, of a random forest too."""
    trees = [_tree(c, est, info) for info in model.trees]
    zero = {int(f) for tree, info in zip(trees, model.trees, strict=True) for f in _zero_is_missing(tree, info)}
    x, forest = forest_of(_cells(c, est, model, X, zero), trees, lowest=-1.0)
    return forest.node(x, np.zeros(model.width), np.arange(len(trees)) % model.width)


def _averaged(model: _Model, raw: Value) -> Value:
    """The sum of a random forest divided by its rounds, as it is linked."""
    return raw / float(len(model.trees) // model.width) if model.average else raw


def _cells(c: Conversion, est: Any, model: _Model, X: Block, zero: set[int]) -> Value:
    """X as float64: categories of a frame as their codes, unknown ones missing; zeros missing where they count so."""
    width = int(est.n_features_in_)
    if X.width != width:
        X.check(c, est)
    builder, categories = c.builder, iter(model.categories)
    if X.form == "frame" and model.categories:
        text = _category_columns(c, est, model, X)
        columns = []
        for j in range(width):
            if j in text:
                place, _ = codes_of(c, est, X, j, next(categories))
                columns.append(builder.where(place < 0, np.nan, place.cast("float64")))
            else:
                columns.append(numbers_of(c, est, X, j).cast("float64"))
        x = builder.concat(columns)
    else:
        # LightGBM does not ask a frame for its names; whole numbers of an array it holds as float32.
        block = Block(*X.values, names=X.names)
        x = block.matrix(c, est, dtype=block.dtype, check=False)
        if X.form != "frame" and x.dtype in ("int64", "bool"):
            x = x.cast("float32")
        x = x.cast("float64")
    if not zero:
        return x
    column = np.zeros(width, dtype=bool)
    column[list(zero)] = True
    is_zero = (builder.abs(x) <= _ZERO) & builder.constant(column)
    return builder.where(is_zero, np.nan, x)


def _category_columns(c: Conversion, est: Any, model: _Model, X: Block) -> set[int]:
    """Positions of the columns that were pandas categories in fit: those whose trees' nodes compare sets."""
    info = est.booster_.dump_model()["feature_infos"]
    names = est.booster_.feature_name()
    found = {j for j, n in enumerate(names) if n in info and info[n]["values"]}
    strings = {j for j in range(X.width) if X.column(j).dtype == "string"}
    chosen = found | strings
    if len(chosen) != len(model.categories):
        raise c.refuse(
            est, "categorical_feature", "auto", "encode categories by an OrdinalEncoder and name their columns in fit"
        )
    return chosen


def _tree(c: Conversion, est: Any, info: Any) -> Tree:
    """A tree of the dump, in which nodes hold their children."""
    nodes: list[dict[str, Any]] = []
    left: list[int] = []
    right: list[int] = []
    waiting = [(info["tree_structure"], -1, left)]
    while waiting:
        node, parent, side = waiting.pop()
        here = len(nodes)
        nodes.append(node)
        left.append(-1)
        right.append(-1)
        if parent >= 0:
            side[parent] = here
        if "split_feature" in node:
            waiting += [(node["right_child"], here, right), (node["left_child"], here, left)]
        elif node.get("leaf_coeff"):
            raise UnsupportedParameterError(
                f"step {c.builder.origin or 'pipeline'}: {type(est).__name__}(linear_tree=True) has a linear model in "
                "its leaves",
                "fit with linear_tree=False",
            )
    sets = {
        k: np.array([int(v) for v in node["threshold"].split("||")], dtype=np.int64)
        for k, node in enumerate(nodes)
        if node.get("decision_type") == "=="
    }
    threshold = np.array([0.0 if k in sets else float(n.get("threshold", 0.0)) for k, n in enumerate(nodes)])
    return Tree(
        feature=np.array([n.get("split_feature", 0) for n in nodes], dtype=np.int64),
        threshold=_around_zero(threshold),
        left=np.array(left, dtype=np.int64),
        right=np.array(right, dtype=np.int64),
        missing_left=np.array([_missing_left(n, t) for n, t in zip(nodes, threshold, strict=True)], dtype=np.uint8),
        value=np.array([n.get("leaf_value", 0.0) for n in nodes], dtype=np.float64),
        sets=sets,
    )


def _around_zero(threshold: Array) -> Array:
    """Thresholds for rows as they come: LightGBM makes 0 of every cell that it holds for zero, before it compares."""
    near = np.abs(threshold) <= _ZERO
    return np.where(near, np.where(threshold >= 0.0, _ZERO, np.nextafter(-_ZERO, -np.inf)), threshold)


def _missing_left(node: Any, threshold: float) -> bool:
    """Where NaN goes: as 0 where fit saw none, by default where it did, and right in a node of categories."""
    if node.get("decision_type") != "<=":
        return False
    return bool(threshold >= 0.0 if node["missing_type"] == "None" else node["default_left"])


def _zero_is_missing(tree: Tree, info: Any) -> set[int]:
    """Features whose zeros go where missing cells go."""
    found, waiting = set(), [info["tree_structure"]]
    while waiting:
        node = waiting.pop()
        if "split_feature" in node:
            waiting += [node["left_child"], node["right_child"]]
            if node["missing_type"] == "Zero" and node["decision_type"] == "<=":
                found.add(int(node["split_feature"]))
    return found
