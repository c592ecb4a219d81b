"""XGBoost: boosted trees, dart and the linear booster of its classifier, regressor, ranker and random forests.

In come the estimator, through the JSON dump its booster makes of itself, and a Block; out go predict and predict_proba
in the library's arithmetic: cells as float32, compared with ``<``, base score and leaves added up as float32, tree by
tree, probabilities as float32. XGBoost is not imported.
"""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.boosters import Tree, codes_of, forest_of, numbers_of
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
    "huber_slope", "refresh_leaf", "process_type", "updater", "lambdarank_pair_method",
    "lambdarank_num_pair_per_sample",
    "lambdarank_unbiased", "lambdarank_bias_norm", "ndcg_exp_gain", "feature_selector", "top_k", "seed",
    "aft_loss_distribution", "aft_loss_distribution_scale", "num_class",
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
_LEAST_SHARE = np.float32(1e-6)  # base_score of logistic objectives is held this far from 0 and 1
_MOST_EXPONENT = 88.7  # XGBoost's sigmoid goes no further, so that float32's exp does not overflow


@converter("xgboost.XGBRegressor", "xgboost.XGBRFRegressor", honours=_READ, ignores=_GROWTH)
@converter("xgboost.XGBRanker", honours=_READ, ignores=_GROWTH)
def xgb_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The link of the margin: exp for counts and times, the sigmoid for logistic regression."""
    name, margin = _margin(c, est, X)
    return {"predict": _linked(c, est, name, margin)}


@converter("xgboost.XGBClassifier", "xgboost.XGBRFClassifier", honours=_READ, ignores=_GROWTH)
def xgb_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Classes are 0, 1, 2, …; of two the second wins above a probability of 0.5, and so does every label of several."""
    name, margin = _margin(c, est, X)
    if est.objective == "multi:softmax":
        label = c.builder.argmax(_softmax(c, margin))
        return {"predict": label, "predict_proba": c.builder.softmax(margin)}
    proba = _linked(c, est, name, margin)
    if proba.width > 1 and est.n_classes_ != 2:
        return {"predict": c.builder.argmax(proba), "predict_proba": proba}
    above = proba > 0.5
    if proba.width > 1:
        return {"predict": above.cast("float64"), "predict_proba": proba}
    both = c.builder.concat([np.float32(1.0) - proba, proba])
    return {"predict": above.cast("int64"), "predict_proba": both}


def _linked(c: Conversion, est: Any, name: str, margin: Value) -> Value:
    """The prediction of a margin."""
    if name in _SIGMOID:
        exponent = c.builder.minimum(-margin, _MOST_EXPONENT)
        return (1.0 / (c.builder.exp(exponent) + 1.0)).cast("float32")
    if name in _EXP:
        return c.builder.exp(margin).cast("float32")
    if name == "binary:hinge":
        return (margin > 0.0).cast("float32")
    if name == "multi:softprob":
        return _softmax(c, margin)
    if name == "multi:softmax":
        return c.builder.argmax(margin).cast("float32")
    if name in _IDENTITY:
        return margin
    raise c.refuse(est, "objective", name, "use one of XGBoost's own objectives that this version knows")


def _softmax(c: Conversion, margin: Value) -> Value:
    """Probabilities as XGBoost rounds them: powers of float32, whose sum is found in float64."""
    powers = c.builder.exp(margin - c.builder.max(margin))
    return powers / c.builder.sum(powers.cast("float64")).cast("float32")


def _margin(c: Conversion, est: Any, X: Block) -> tuple[str, Value]:
    """The objective's name, and the sum of base score and leaves as float32, (rows, groups)."""
    if callable(est.objective):
        raise c.refuse(est, "objective", est.objective, "use an objective of XGBoost's own, by its name")
    learner = json.loads(bytes(est.get_booster().save_raw("json")))["learner"]
    name, model = learner["objective"]["name"], learner["gradient_booster"]
    base = _base_margin(learner["learner_model_param"], name)
    if model["name"] == "gblinear":
        return name, _linear(c, est, X, model["model"]["weights"], base)
    trees = model.get("gbtree", model)["model"]
    x = _cells(c, est, X, learner, trees)
    starts = base.astype(np.float32)
    own, group = _trees(c, est, trees, starts, model.get("weight_drop"))
    if not own:
        return name, c.builder.concat([_constant(x, start) for start in starts])
    x, forest = forest_of(x, own)
    # A column a tree: the library adds up in float32, the base first, and after hundreds of trees that shows.
    leaves = forest.node(x, np.zeros(len(own)), np.arange(len(own))).cast("float32")
    parts = [leaves.select(np.flatnonzero(group == g)) for g in range(len(starts))]
    return name, c.builder.concat([_added(x, start, part) for start, part in zip(starts, parts, strict=True)])


def _added(x: Value, start: np.float32, terms: Value) -> Value:
    """The sum of a start and terms in their order, one rounding an addition."""
    if not terms.width:
        return _constant(x, start)
    first, rest = terms.select([0]) + start, terms.select(slice(1, None))
    return x.builder.sum(x.builder.concat([first, rest])) if rest.width else first


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
    if objective in _SIGMOID:
        score = np.clip(score, _LEAST_SHARE, np.float32(1.0) - _LEAST_SHARE)
        score = -np.log(np.float32(1.0) / score - np.float32(1.0))
    elif objective in _EXP:
        with np.errstate(divide="ignore"):  # a target that is 0 throughout starts at minus infinity
            score = np.log(score)
    return score.astype(np.float32).astype(np.float64)


def _trees(c: Conversion, est: Any, trees: Any, starts: Array, weights: Any) -> tuple[list[Tree], Array]:
    """Trees of one number a leaf, and the output that each adds to; one with several numbers a leaf becomes several.

    ``weights`` are those of dart: its trees are asked with the base, which is then taken off again, in float32.
    """
    last = int(trees["iteration_indptr"][_rounds(est, trees)])
    found, group = [], []
    for number, dump in enumerate(trees["trees"][:last]):
        size = int(dump["tree_param"]["size_leaf_vector"])
        if size > 1 and "leaf_weights" not in dump:
            raise c.refuse(est, "multi_strategy", est.multi_strategy, "fit with XGBoost 3.2, or one_output_per_tree")
        outputs = range(size) if size > 1 else [int(trees["tree_info"][number])]
        for place, g in enumerate(outputs):
            tree = _tree(dump, place)
            if weights is not None:
                alone = (starts[g] + tree.value.astype(np.float32)) - starts[g]
                tree = replace(tree, value=alone * np.float32(weights[number]))
            found.append(tree)
            group.append(g)
    return found, np.array(group)


def _tree(dump: Any, place: int) -> Tree:
    """One tree: x < t is x <= the float32 below t; the categories of a node go right there, and left here.

    Of a leaf with several numbers, which stand in a table of their own, the one at ``place``.
    """
    conditions = np.asarray(dump["split_conditions"], dtype=np.float32)
    left, right = (np.asarray(dump[k], dtype=np.int64) for k in ("left_children", "right_children"))
    default_left = np.asarray(dump["default_left"], dtype=np.uint8)
    values, leaf = conditions, left < 0
    if dump.get("leaf_weights"):
        table = np.asarray(dump["leaf_weights"], dtype=np.float32)
        table = table.reshape(-1, int(dump["tree_param"]["size_leaf_vector"]))
        values = np.where(leaf, table[np.where(leaf, right, 0), place], np.float32(0.0))
    sets = {}
    starts, sizes = dump["categories_segments"], dump["categories_sizes"]
    for node, start, size in zip(dump["categories_nodes"], starts, sizes, strict=True):
        sets[int(node)] = np.asarray(dump["categories"][start : start + size], dtype=np.int64)
        left[node], right[node] = right[node], left[node]
        default_left[node] = 1 - default_left[node]
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
    """X as float32, infinity allowed; ``missing`` becomes NaN, and categories of a frame their codes.

    Of a sparse matrix XGBoost knows what is stored: a zero is a missing cell.
    """
    encoders = (trees.get("cats") or {}).get("enc") or []
    X.check(c, est)
    if X.form == "sparse":
        x = X.matrix(c, est, dtype="float64", check=False)
        x = c.builder.where(x == 0.0, np.nan, x).cast("float32")
    elif not any("values" in e and (e["values"] or e.get("offsets")) for e in encoders):
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
    if not values and not offsets:
        return numbers_of(c, est, X, j).cast("float32")
    keys: Any = values
    if offsets:
        if min(values, default=0) < 0:
            # XGBoost 3.2 itself cuts such names in the wrong places.
            raise c.refuse(est, "enable_categorical", True, "rename the categories to ASCII letters")
        text = bytes(values).decode()
        keys = [text[a:b] for a, b in pairwise(offsets)]
    place, missing = codes_of(c, est, X, j, keys)
    message = f"{c.place(est)} was given a category that was not there in fit, in {X.label(j)}"
    place = c.builder.require(place, (place >= 0) | missing, message, "category")
    return c.builder.where(missing, np.float32(np.nan), place.cast("float32"))


def _linear(c: Conversion, est: Any, X: Block, weights: Any, base: Array) -> Value:
    """The linear booster: weights feature by feature, the last row the biases; missing cells count nothing.

    Sums of float32 in the order of the features, on the base of the first output for all of them, as the library does.
    """
    x = X.matrix(c, est, dtype="float32", allow_nan=True)
    if est.missing is not None and est.missing == est.missing:
        x = c.builder.where(x == np.float32(est.missing), np.float32(np.nan), x)
    matrix = np.asarray(weights, dtype=np.float32).reshape(-1, len(base))
    starts = matrix[-1] + np.float32(base[0])
    sums = []
    for start, column in zip(starts, matrix[:-1].T, strict=True):
        terms = x * column
        sums.append(_added(x, start, c.builder.where(x == x, terms, np.float32(0.0))))
    return c.builder.concat(sums)
