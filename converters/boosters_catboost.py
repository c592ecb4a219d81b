"""CatBoost: the trees over numbers of its classifier, regressor, ranker and plain model.

In come the estimator, through the JSON file its model writes of itself, and a Block; out go predict and predict_proba
in the library's arithmetic: cells as float32, above a border or not, leaves added in float64, then scale and bias.
A model keeps categories as hashes of their texts, which no program computes: such models are refused. CatBoost is not
imported.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.converters.trees import Forest
from edgeml.errors import UnsupportedParameterError
from edgeml.ir import Value
from edgeml.ir.table import Array

# How a model is grown leaves its mark in the file alone.
_GROWTH = (
    "iterations", "n_estimators", "num_boost_round", "num_trees", "learning_rate", "eta", "depth", "max_depth",
    "l2_leaf_reg", "reg_lambda", "model_size_reg", "rsm", "colsample_bylevel", "border_count", "max_bin",
    "feature_border_type", "per_float_feature_quantization", "input_borders", "output_borders",
    "fold_permutation_block",
    "od_pval", "od_wait", "od_type", "early_stopping_rounds", "nan_mode", "leaf_estimation_iterations",
    "leaf_estimation_method", "leaf_estimation_backtracking", "thread_count", "random_seed", "random_state",
    "use_best_model", "best_model_min_trees", "verbose", "silent", "logging_level", "metric_period",
    "ctr_leaf_count_limit",
    "store_all_simple_ctr", "max_ctr_complexity", "has_time", "allow_const_label", "target_border", "classes_count",
    "class_weights", "auto_class_weights", "class_names", "one_hot_max_size", "random_strength", "name", "train_dir",
    "custom_metric", "custom_loss", "eval_metric", "bagging_temperature", "save_snapshot", "snapshot_file",
    "snapshot_interval", "fold_len_multiplier", "used_ram_limit", "gpu_ram_part", "allow_writing_files",
    "final_ctr_computation_mode", "approx_on_full_history", "boosting_type", "simple_ctr", "combinations_ctr",
    "per_feature_ctr", "ctr_target_border_count", "task_type", "devices", "bootstrap_type", "subsample", "mvs_reg",
    "sampling_unit", "sampling_frequency", "dev_score_calc_obj_block_size", "dev_efb_max_buckets",
    "sparse_features_conflict_fraction", "grow_policy", "min_data_in_leaf", "min_child_samples", "max_leaves",
    "num_leaves", "score_function", "langevin", "diffusion_temperature", "posterior_sampling", "boost_from_average",
    "monotone_constraints", "feature_weights", "penalties_coefficient", "first_feature_use_penalties",
    "scale_pos_weight", "metadata", "model_shrink_rate", "model_shrink_mode", "data_partition",
)  # fmt: skip
_READ = ("loss_function", "objective", "cat_features", "ignored_features")
_BINARY = ("Logloss", "CrossEntropy", "Focal")
_SEVERAL = ("MultiClass", "MultiClassOneVsAll")
_LABELS = ("MultiLogloss", "MultiCrossEntropy")


@converter("catboost.CatBoost", "catboost.CatBoostRanker", honours=_READ, ignores=_GROWTH)
def catboost_raw(c: Conversion, est: Any, X: Block) -> Outputs:
    """The sum of leaves, whatever the loss."""
    return {"predict": _raw(c, est, X)}


@converter("catboost.CatBoostRegressor", honours=_READ, ignores=_GROWTH)
def catboost_regressor(c: Conversion, est: Any, X: Block) -> Outputs:
    """The sum of leaves; exp of it where the loss is one of counts; with uncertainty a mean and a variance."""
    loss = _loss(est)
    raw = _raw(c, est, X)
    if loss == "RMSEWithUncertainty":
        return {"predict": c.builder.concat([raw.select([0]), c.builder.exp(2.0 * raw.select([1]))])}
    return {"predict": c.builder.exp(raw) if loss in ("Poisson", "Tweedie") else raw}


@converter("catboost.CatBoostClassifier", honours=_READ, ignores=_GROWTH)
def catboost_classifier(c: Conversion, est: Any, X: Block) -> Outputs:
    """Of two classes the second wins above the raw value of its threshold; of several the one with the largest."""
    builder, loss = c.builder, _loss(est)
    if loss not in (*_BINARY, *_SEVERAL, *_LABELS):
        raise c.refuse(est, "loss_function", loss, f"use {', '.join((*_BINARY, *_SEVERAL, *_LABELS))}")
    raw = _raw(c, est, X)
    with np.errstate(divide="ignore"):  # a threshold of 0 or 1
        least = -float(np.log(1.0 / np.float64(est.get_probability_threshold()) - 1.0))
    above = (raw > least).cast("int64")
    if loss in _LABELS:
        return {"predict": above, "predict_proba": builder.sigmoid(raw)}
    if raw.width == 1:
        proba = builder.concat([builder.sigmoid(-raw), builder.sigmoid(raw)])
        return {"predict": c.labels(above, est.classes_), "predict_proba": proba}
    proba = builder.softmax(raw) if loss == "MultiClass" else builder.sigmoid(raw)
    return {"predict": c.labels(builder.argmax(raw), est.classes_), "predict_proba": proba}


def _loss(est: Any) -> str:
    """Name of the loss, without its parameters; of a loss that is no name, a word that is none of the others."""
    return str(est.get_all_params().get("loss_function", "RMSE")).partition(":")[0]


def _dump(est: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        est.save_model(str(path), format="json")
        return json.loads(path.read_text())


def _raw(c: Conversion, est: Any, X: Block) -> Value:
    """Scale times the sum of leaves, plus bias, (rows, outputs)."""
    dump = _dump(est)
    info = dump["features_info"]
    others = sorted(k for k in info if k != "float_features" and info[k])
    if others:
        raise c.refuse(
            est,
            "cat_features",
            est.get_params().get("cat_features"),
            f"the model keeps {', '.join(o.replace('_', ' ') for o in others)}, as hashes of texts: encode them by "
            "OneHotEncoder or OrdinalEncoder in front, and fit without cat_features",
        )
    features = info.get("float_features", [])
    width = 1 + max((f["flat_feature_index"] for f in features), default=0)
    if X.width != len(est.feature_names_):
        raise c.refuse(est, "X", f"{X.width} columns", f"pass the {len(est.feature_names_)} columns of fit")
    x = Block(*X.values, names=X.names).matrix(c, est, dtype="float32", check=False)
    assert x.width >= width
    column = {f["feature_index"]: f["flat_feature_index"] for f in features}
    missing_right = {f["feature_index"]: f["nan_value_treatment"] == "AsTrue" for f in features}
    scale, bias = dump["scale_and_bias"]
    bias = np.atleast_1d(np.asarray(bias, dtype=np.float64))
    k = len(bias)
    if "oblivious_trees" in dump:
        trees = [_oblivious(t, k) for t in dump["oblivious_trees"]]
    else:
        trees = [_grown(t, k) for t in dump["trees"]]
    leaves = sum(int((t["feature"] < 0).sum()) for t in trees)
    forest = Forest(len(trees), sum(len(t["feature"]) for t in trees), leaves, k)
    to_column = np.array([column.get(i, 0) for i in range(max(column, default=0) + 1)], dtype=np.int64)
    to_left = np.array([not missing_right.get(i, False) for i in range(len(to_column))], dtype=np.uint8)
    for t in trees:
        leaf = t["feature"] < 0
        feature = np.where(leaf, 0, t["feature"])
        forest.add(leaf, to_column[feature], t["threshold"], t["left"], t["right"], to_left[feature], t["value"][leaf])
    total = forest.node(x, np.zeros(k))
    return total * float(scale) + bias if scale != 1 else total + bias


def _oblivious(tree: Mapping[str, Any], k: int) -> dict[str, Array]:
    """A tree whose levels ask one question each: bit i of a leaf's number is the answer to question i."""
    splits = tree["splits"] or []
    depth = len(splits)
    nodes = 2 ** (depth + 1) - 1
    level = np.floor(np.log2(np.arange(1, nodes + 1))).astype(np.int64)
    inner = level < depth
    feature = np.array([s["float_feature_index"] for s in splits] + [-1], dtype=np.int64)[level]
    threshold = np.array([s["border"] for s in splits] + [0.0], dtype=np.float32).astype(np.float64)[level]
    place = np.arange(nodes) + 1 - 2**level  # of a node in its level: the answers so far, the first one highest
    number = np.zeros(nodes, dtype=np.int64)
    for i in range(depth):
        number |= ((place >> (depth - 1 - i)) & 1) << i
    values = np.asarray(tree["leaf_values"], dtype=np.float64).reshape(-1, k)
    here = np.arange(nodes)
    return {
        "feature": np.where(inner, feature, -1),
        "threshold": threshold,
        "left": np.where(inner, 2 * here + 1, 0),
        "right": np.where(inner, 2 * here + 2, 0),
        "value": values[np.where(inner, 0, number)],
    }


def _grown(tree: Mapping[str, Any], k: int) -> dict[str, Array]:
    """A tree of any shape, in which nodes hold their children."""
    nodes: list[Mapping[str, Any]] = []
    left: list[int] = []
    right: list[int] = []
    waiting: list[tuple[Mapping[str, Any], int, list[int]]] = [(tree, -1, left)]
    while waiting:
        node, parent, side = waiting.pop()
        here = len(nodes)
        nodes.append(node)
        left.append(0)
        right.append(0)
        if parent >= 0:
            side[parent] = here
        if "split" in node:
            waiting += [(node["right"], here, right), (node["left"], here, left)]
    split = [n.get("split", {"float_feature_index": -1, "border": 0.0}) for n in nodes]
    if any("float_feature_index" not in s for s in split):
        raise UnsupportedParameterError("CatBoost: a split that is not of a number", "encode categories in front")
    return {
        "feature": np.array([s["float_feature_index"] for s in split], dtype=np.int64),
        "threshold": np.array([s["border"] for s in split], dtype=np.float32).astype(np.float64),
        "left": np.array(left, dtype=np.int64),
        "right": np.array(right, dtype=np.int64),
        "value": np.array([np.broadcast_to(n.get("value", 0.0), (k,)) for n in nodes], dtype=np.float64),
    }
