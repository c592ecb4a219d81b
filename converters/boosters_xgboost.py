"""XGBoost: boosted trees, dart and the linear booster of its classifier, regressor, ranker and random forests.

In come the estimator, through the JSON dump its booster makes of itself, and a Block; out go predict and predict_proba
in the library's arithmetic: cells as float32, compared with ``<``, base score and leaves added up as float32, tree by
tree, probabilities as float32. XGBoost is not imported.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.boosters import Tree, forest_of
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value
from edgeml.ir.table import Array

# How a model is grown leaves its mark in the dump alone.
_GROWTH = (
    "n_estimators", "max_depth", "max_leaves", "max_bin", "grow_policy", "learning_rate", "verbosity", "tree_method",
    "n_jobs", "gamma", "min_child_weight", "max_delta_step", "subsample", "sampling_method", "colsample_bytree",
    "colsample_bylevel", "colsample_bynode", "reg_alpha", "reg_lambda", "scale_pos_weight", "random_state",
    "num_parallel_tree", "monotone_constraints", "interaction_constraints", "importance_type", "device",
    "validate_parameters", "feature_weights", "max_cat_to_onehot", "max_cat_threshold", "eval_metric",
    "early_stopping_rounds", "callbacks", "kwargs",
    # Of the library's own parameters, which the estimators take as they come:
    "rate_drop", "skip_drop", "one_drop", "sample_type", "normalize_type", "quantile_alpha", "tweedie_variance_power",
    "huber_slope", "refresh_leaf", "process_type", "updater", "lambdarank_pair_method", "lambdarank_num_pair_per_sample",
    "lambdarank_unbiased", "lambdarank_bias_norm", "ndcg_exp_gain", "feature_selector", "top_k", "seed",
    "aft_loss_distribution", "aft_loss_distribution_scale",
)  # fmt: skip
_READ = (
    "objective", "booster", "base_score", "missing", "enable_categorical", "feature_types", "multi_strategy",
)  # fmt: skip
_SIGMOID = ("binary:logistic", "reg:logistic")
_EXP = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox", "survival:aft")
_IDENTITY = (
    "reg:squarederror", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror",
    "reg:linear", "rank:ndcg", "rank:pairwise", "rank:map", "binary:logitraw",
)  # fmt: skip
_MULTI = ("multi:softprob", "multi:softmax")
_MOST_EXPONENT = 88.7  # XGBoost's sigmoid goes no further, so that float32's exp does not overflow


@converter("xgboost.XGBRegressor", "xgboost.XGBRFRegressor", honours=_READ, ignores=_GROWTH)
@converter("xgboost.XGBRanker", honours=_READ, ignores=_GROWTH)
def xgb_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The link of the margin: exp for counts and times, the sigmoid for logistic regression."""
    name, margin = _margin(c, est, X)
    return {"predict": _linked(c, est, name, margin)}


@converter("xgboost.XGBClassifier", "xgboost.XGBRFClassifier", honours=_READ, ignores=_GROWTH)
def xgb_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Classes are 0, 1, 2, …; of two the second wins above a probability of 0.5."""
    name, margin = _margin(c, est, X)
    if name in _MULTI:
        proba = c.builder.softmax(margin).cast("float32")
        return {"predict": c.builder.argmax(proba), "predict_proba": proba}
    if margin.width > 1:
        raise c.refuse(est, "objective", name, "fit one classifier a label: several labels at once are not supported")
    positive = _linked(c, est, name, margin)
    label = (positive > 0.5).cast("int64")
    both = c.builder.concat([np.float32(1.0) - positive, positive])
    return {"predict": label, "predict_proba": both}


def _linked(c: Conversion, est: Any, name: str, margin: Value) -> Value:
    """The prediction of a margin."""
    if name in _SIGMOID:
        exponent = c.builder.minimum(-margin, _MOST_EXPONENT)
        return (1.0 / (c.builder.exp(exponent) + 1.0)).cast("float32")
    if name in _EXP:
        return c.builder.exp(margin).cast("float32")
    if name == "binary:hinge":
        return (margin > 0.0).cast("float32")
    if name in _IDENTITY:
        return margin
    raise c.refuse(est, "objective", name, "use one of XGBoost's own objectives that this version knows")


def _margin(c: Conversion, est: Any, X: Block) -> tuple[str, Value]:
    """The objective's name, and the sum of base score and leaves as float32, (rows, groups)."""
    if callable(est.objective):
        raise c.refuse(est, "objective", est.objective, "use an objective of XGBoost's own, by its name")
    learner = json.loads(bytes(est.get_booster().save_raw("json")))["learner"]
    name, model = learner["objective"]["name"], learner["gradient_booster"]
    base = _base_margin(learner["learner_model_param"], name)
    if model["name"] == "gblinear":
        return name, _linear(c, est, X, model["model"]["weights"], base)
    weights = model.get("weight_drop")
    trees = model.get("gbtree", model)["model"]
    x = _cells(c, est, X, learner, trees)
    last = int(trees["iteration_indptr"][_rounds(est, trees)])
    factors = np.ones(last) if weights is None else np.asarray(weights[:last])
    own = [_tree(c, est, tree, factor) for tree, factor in zip(trees["trees"][:last], factors, strict=True)]
    if not own:
        return name, c.builder.concat([_constant(x, b) for b in base.astype(np.float32)])
    x, forest = forest_of(x, own)
    # A column a tree: the library adds up in float32, the base first, and after hundreds of trees that shows.
    leaves = forest.node(x, np.zeros(last), np.arange(last)).cast("float32")
    group = np.asarray(trees["tree_info"][:last])
    sums = []
    for g, start in enumerate(base.astype(np.float32)):
        first = leaves.select([int(np.argmax(group == g))]) + start if (group == g).any() else None
        rest = leaves.select(np.flatnonzero(group == g)[1:])
        sums.append(_constant(x, start) if first is None else c.builder.sum(c.builder.concat([first, rest])))
    return name, c.builder.concat(sums)


def _constant(x: Value, number: Any) -> Value:
    """A number for every row, whatever its cells."""
    here = x.select([0])
    return x.builder.where(here == here, number, number) if x.width else x.builder.constant(number)


def _rounds(est: Any, trees: Any) -> int:
    """Rounds that predict uses: up to the best one where fitting stopped early."""
    try:
        return int(est.best_iteration) + 1
    except AttributeError:
        return len(trees["iteration_indptr"]) - 1


def _base_margin(parameters: Any, objective: str) -> Array:
    """base_score of each group as a margin, float64 numbers that float32 holds."""
    text = parameters["base_score"]
    scores = json.loads(text) if isinstance(text, str) else text
    groups = max(int(parameters["num_class"]), int(parameters["num_target"]), 1)
    score = np.broadcast_to(np.atleast_1d(np.asarray(scores, dtype=np.float32)), (groups,))
    if objective in (*_SIGMOID, "binary:logitraw"):
        score = -np.log(np.float32(1.0) / score - np.float32(1.0))
    elif objective in _EXP:
        score = np.log(score)
    return score.astype(np.float32).astype(np.float64)


def _tree(c: Conversion, est: Any, dump: Any, factor: float) -> Tree:
    """One tree: x < t is x <= the float32 below t; the categories of a node go right there, and left here."""
    if int(dump["tree_param"]["size_leaf_vector"]) > 1:
        raise c.refuse(est, "multi_strategy", est.multi_strategy, "fit with multi_strategy='one_output_per_tree'")
    conditions = np.asarray(dump["split_conditions"], dtype=np.float32)
    left, right = (np.asarray(dump[k], dtype=np.int64) for k in ("left_children", "right_children"))
    default_left = np.asarray(dump["default_left"], dtype=np.uint8)
    sets = {}
    starts, sizes = dump["categories_segments"], dump["categories_sizes"]
    for node, start, size in zip(dump["categories_nodes"], starts, sizes, strict=True):
        sets[int(node)] = np.asarray(dump["categories"][start : start + size], dtype=np.int64)
        left[node], right[node] = right[node], left[node]
        default_left[node] = 1 - default_left[node]
    values = conditions if factor == 1.0 else np.float32(factor) * conditions
    return Tree(
        feature=np.asarray(dump["split_indices"]),
        threshold=np.nextafter(conditions, np.float32(-np.inf)),
        left=left,
        right=right,
        missing_left=default_left,
        value=values.astype(np.float64),
        sets=sets,
    )


def _cells(c: Conversion, est: Any, X: Block, learner: Any, trees: Any) -> Value:
    """X as float32, infinity allowed; ``missing`` becomes NaN, and categories of a frame their codes."""
    encoders = (trees.get("cats") or {}).get("enc") or []
    X.check(c, est)
    if not any("values" in e and (e["values"] or e.get("offsets")) for e in encoders):
        x = X.matrix(c, est, dtype="float32", check=False)
    else:
        columns = [_codes(c, est, X, j, e) for j, e in enumerate(encoders)]
        x = c.builder.concat(columns)
    if est.missing is None or est.missing != est.missing:
        return x
    missing = np.float32(est.missing)
    return c.builder.where(x == missing, np.float32(np.nan), x)


def _codes(c: Conversion, est: Any, X: Block, j: int, encoder: Any) -> Value:
    """One column; of a category its place among those of fit, NaN where it is missing or was not there."""
    values, offsets = encoder.get("values", []), encoder.get("offsets")
    part = X.columns([j])
    if not values and not offsets:
        return part.matrix(c, _Column(est), dtype="float32", check=False)
    cell = X.column(j)
    if offsets:
        if min(values, default=0) < 0:
            # XGBoost 3.2 itself cuts such names in the wrong places.
            raise c.refuse(est, "enable_categorical", True, "rename the categories to ASCII letters")
        text = bytes(values).decode()
        keys: Any = tuple(text[a:b] for a, b in zip(offsets, offsets[1:], strict=False))
    else:
        keys = np.asarray(values).astype("float64" if cell.dtype in ("float64", "float32") else cell.dtype)
    if (cell.dtype == "string") != isinstance(keys, tuple):
        raise c.refuse(est, "enable_categorical", True, "pass the categories as they were in fit")
    place = c.builder.lookup(cell if cell.dtype != "float32" else cell.cast("float64"), keys)
    missing = c.builder.is_nan(cell) if cell.dtype in ("string", "float64", "float32") else ~(cell == cell)
    if cell.dtype == "string":
        missing = missing | c.builder.is_none(cell)
    message = f"{c.place(est)} was given a category that was not there in fit, in {X.label(j)}"
    place = c.builder.require(place, (place >= 0) | missing, message, "category")
    return c.builder.where(missing, np.float32(np.nan), place.cast("float32"))


class _Column:
    """Stands for the estimator where one column of several is checked."""

    def __init__(self, est: Any) -> None:
        self.__class__ = type(type(est).__name__, (), {})


def _linear(c: Conversion, est: Any, X: Block, weights: Any, base: Array) -> Value:
    """The linear booster: weights feature by feature, the last row the biases; missing cells count nothing."""
    x = X.matrix(c, est, dtype="float32", allow_nan=True).cast("float64")
    if est.missing is not None and est.missing == est.missing:
        x = c.builder.where(x == float(np.float32(est.missing)), 0.0, x)
    x = c.builder.where(x == x, x, 0.0)
    matrix = np.asarray(weights, dtype=np.float32).astype(np.float64).reshape(-1, len(base))
    return c.builder.linear(x, matrix[:-1], matrix[-1] + base).cast("float32")
