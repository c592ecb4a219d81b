"""Boosters of other libraries, alone and in pipelines: XGBoost, LightGBM, CatBoost."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from catboost import CatBoost, CatBoostClassifier, CatBoostRanker, CatBoostRegressor
from lightgbm import LGBMClassifier, LGBMRanker, LGBMRegressor
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer, OneHotEncoder, StandardScaler
from xgboost import XGBClassifier, XGBRanker, XGBRegressor, XGBRFClassifier, XGBRFRegressor

from tests.conformance.estimators.data import (
    float32,
    iris,
    iris_names,
    missing,
    number,
    one_column,
    two_names,
    two_numbers,
)
from tests.conformance.estimators.table import Variant, variant


def two() -> Any:
    """Two classes that overlap, called 0 and 1."""
    X, y = iris()
    return X[y > 0], y[y > 0] - 1


def two_bools() -> Any:
    """Two classes called False and True."""
    X, y = two()
    return X, y > 0


def two_labels() -> Any:
    """Two labels of 0 and 1 at once."""
    X, y = iris()
    return X, np.stack([y > 0, X[:, 1] > 3], axis=1).astype(int)


def never() -> Any:
    """A single class."""
    X, y = iris()
    return X, np.zeros_like(y)


def counts() -> Any:
    """A target of counts."""
    X, y = number()
    return X, np.round(np.abs(y)) + 1


def absent() -> Any:
    """Missing cells written as -1."""
    X, y = missing()
    return np.where(np.isnan(X), -1.0, X), y


def codes() -> Any:
    """Two columns of categories as codes, one of them with many, and one of numbers with missing cells."""
    rng = np.random.default_rng(8)
    X = np.stack([rng.integers(0, 7, 300), rng.integers(0, 400, 300), rng.normal(size=300)], axis=1).astype(float)
    X[rng.random((300, 3)) < 0.05] = np.nan
    code = np.nan_to_num(X)
    return X, (code[:, 0] % 3) * 2.0 + (code[:, 1] % 7 > 3) * 3.0 + code[:, 2]


def zeros() -> Any:
    """Numbers many of which are 0, of either sign, or missing."""
    X, y = missing()
    X = np.where(np.random.default_rng(4).random(X.shape) < 0.3, 0.0, X - 3.0)
    X[::7, 0] = -0.0
    return X, y.astype(float)


def whole() -> Any:
    """Whole numbers, some beyond what float32 tells apart."""
    X = np.random.default_rng(6).integers(-(2**30), 2**30, (120, 3))
    return X, (X[:, 0] % 1000) / 100.0


def categories() -> Any:
    """A frame with columns of pandas categories, strings and numbers."""
    rng = np.random.default_rng(9)
    X = pd.DataFrame({"a": rng.normal(size=200)})
    X["c"] = pd.Categorical(np.array(["u", "v", "w", "x", "y"])[rng.integers(0, 5, 200)])
    X["i"] = pd.Categorical(np.array([10, 20, 35])[rng.integers(0, 3, 200)])
    X.loc[rng.random(200) < 0.1, "c"] = np.nan
    return X, X["a"] + X["c"].cat.codes % 2 * 3 + X["i"].cat.codes


def table() -> Any:
    """Numbers and strings as a pipeline gets them, some missing; two classes."""
    rng = np.random.default_rng(10)
    X = pd.DataFrame(
        {"a": rng.normal(size=150), "b": rng.normal(size=150) * 100, "s": rng.choice(["x", "y", "z"], 150)}
    )
    X.loc[rng.random(150) < 0.1, "a"] = np.nan
    return X, (X["b"] + 50 * (X["s"] == "x") > 0).astype(int)


class Ranked(Variant):
    """Fitted on queries of ten documents each."""

    def fit(self) -> Any:
        X, y = self.data()
        query = {"group": [10] * (len(X) // 10)}
        if isinstance(self.estimator, CatBoostRanker):
            query = {"group_id": np.arange(len(X)) // 10}
        return clone(self.estimator).fit(X, y, **query), X


class Plain(Variant):
    """Of a class that scikit-learn cannot clone."""

    def fit(self) -> Any:
        X, y = self.data()
        return deepcopy(self.estimator).fit(X, y), X


def piped(model: Any) -> Any:
    columns = ColumnTransformer([
        ("num", make_pipeline(SimpleImputer(), StandardScaler()), ["a", "b"]),
        ("cat", OneHotEncoder(), ["s"]),
    ])  # fmt: skip
    return make_pipeline(columns, model)


SMALL = {"n_estimators": 12, "max_depth": 3, "n_jobs": 1}


def _named(cls: Any, data: Any, parameters: Any, defaults: Any, **skip: Any) -> Any:
    """A variant called by the parameters that are set: these libraries show all of theirs."""
    shown = ", ".join(f"{k}={v!r}" for k, v in parameters.items())
    made = variant(cls(**{**defaults, **parameters}), data, **skip)
    return replace(made, name=f"{cls.__name__}({shown}) on {data.__name__}")


def _xgb(cls: Any, data: Any, **parameters: Any) -> Any:
    return _named(cls, data, parameters, SMALL)


XGB = (
    _xgb(XGBRegressor, number),
    _xgb(XGBRegressor, one_column, max_depth=1),
    _xgb(XGBRegressor, float32, n_estimators=200, max_depth=6),
    _xgb(XGBRegressor, missing),
    _xgb(XGBRegressor, absent, missing=-1.0),
    _xgb(XGBRegressor, number, max_leaves=5, grow_policy="lossguide", tree_method="hist"),
    _xgb(XGBRegressor, number, booster="dart", rate_drop=0.5),
    _xgb(XGBRegressor, number, booster="dart", rate_drop=0.4, n_estimators=60, base_score=50.0),
    _xgb(XGBRegressor, number, booster="gblinear", max_depth=None),
    _xgb(XGBRegressor, two_numbers, booster="gblinear", max_depth=None),
    _xgb(XGBClassifier, iris, booster="gblinear", max_depth=None),
    _xgb(XGBRegressor, number, base_score=3.5),
    _xgb(XGBRegressor, number, num_parallel_tree=3, subsample=0.5),
    _xgb(XGBRegressor, two_numbers),
    _xgb(XGBRegressor, two_numbers, multi_strategy="multi_output_tree", tree_method="hist"),
    _xgb(XGBClassifier, iris, multi_strategy="multi_output_tree", tree_method="hist"),
    _xgb(XGBClassifier, two_labels),
    _xgb(XGBClassifier, two_labels, multi_strategy="multi_output_tree", tree_method="hist"),
    _xgb(XGBClassifier, never),
    _xgb(XGBClassifier, two, objective="multi:softprob", num_class=2),
    _xgb(XGBClassifier, two, objective="binary:logitraw"),
    _xgb(XGBRegressor, two, objective="binary:logitraw", base_score=0.3),
    *(_xgb(XGBRegressor, iris, objective=o, num_class=3) for o in ("multi:softmax", "multi:softprob")),
    *(
        _xgb(XGBRegressor, counts, objective=o)
        for o in ("count:poisson", "reg:gamma", "reg:tweedie", "reg:absoluteerror")
    ),
    *(_xgb(XGBRegressor, counts, objective=o) for o in ("reg:pseudohubererror", "reg:squaredlogerror")),
    _xgb(XGBRegressor, number, objective="reg:quantileerror", quantile_alpha=0.7),
    _xgb(XGBRegressor, two, objective="reg:logistic"),
    _xgb(XGBRegressor, codes, feature_types=["c", "c", "q"], enable_categorical=True, max_cat_to_onehot=1, max_depth=6),
    _xgb(XGBRegressor, codes, feature_types=["c", "q", "q"], enable_categorical=True, max_cat_to_onehot=9),
    _xgb(XGBRegressor, categories, enable_categorical=True, max_cat_to_onehot=2),
    _xgb(XGBClassifier, two),
    _xgb(XGBClassifier, iris),
    _xgb(XGBClassifier, missing, objective="multi:softmax"),
    _xgb(XGBClassifier, two, objective="binary:hinge"),
    _xgb(XGBClassifier, two, booster="dart", rate_drop=0.3, n_estimators=30),
    _xgb(XGBRFClassifier, iris),
    _xgb(XGBRFRegressor, number),
    replace(variant(piped(XGBClassifier(**SMALL)), table, of="XGBClassifier"), name="XGBClassifier in a Pipeline"),
    *(
        replace(
            variant(make_pipeline(KBinsDiscretizer(6, encode="onehot"), model), data, of=type(model).__name__),
            name=f"{type(model).__name__}({what}) behind a sparse matrix",
        )
        for model, data, what in (
            (XGBClassifier(**SMALL), iris, ""),
            (XGBRegressor(**SMALL), number, ""),
            (XGBRegressor(**SMALL, missing=1.0), number, "missing=1"),
            (XGBRegressor(n_estimators=12, booster="gblinear"), number, "booster='gblinear'"),
        )
    ),
)

LEAVES = {"n_estimators": 12, "min_child_samples": 5, "verbose": -1, "n_jobs": 1}


def _lgbm(cls: Any, data: Any, **parameters: Any) -> Any:
    return _named(cls, data, parameters, LEAVES)


LGBM = (
    _lgbm(LGBMRegressor, number),
    _lgbm(LGBMRegressor, one_column, max_depth=1),
    _lgbm(LGBMRegressor, float32, n_estimators=200),
    _lgbm(LGBMRegressor, missing),
    _lgbm(LGBMRegressor, missing, use_missing=False),
    _lgbm(LGBMRegressor, zeros, zero_as_missing=True),
    _lgbm(LGBMRegressor, whole),
    _lgbm(LGBMRegressor, number, boosting_type="dart"),
    _lgbm(LGBMRegressor, number, boosting_type="rf", subsample=0.6, subsample_freq=1),
    _lgbm(LGBMRegressor, counts, boosting_type="rf", subsample=0.6, subsample_freq=1, objective="poisson"),
    _lgbm(LGBMRegressor, counts, reg_sqrt=True),
    _lgbm(LGBMClassifier, iris, boosting_type="rf", subsample=0.6, subsample_freq=1),
    *(
        _lgbm(LGBMRegressor, counts, objective=o)
        for o in ("poisson", "gamma", "tweedie", "regression_l1", "huber", "fair", "quantile", "mape")
    ),
    _lgbm(LGBMRegressor, two, objective="cross_entropy"),
    _named(LGBMRegressor, two, {"objective": "cross_entropy_lambda"}, LEAVES),
    _lgbm(LGBMRegressor, codes, categorical_feature=[0, 1], min_data_per_group=5),
    _lgbm(LGBMRegressor, codes, categorical_feature=[0], max_cat_to_onehot=9, min_data_per_group=5),
    _lgbm(LGBMRegressor, categories, min_data_per_group=5),
    _lgbm(LGBMClassifier, two),
    _lgbm(LGBMClassifier, two, sigmoid=2.0, is_unbalance=True),
    _lgbm(LGBMClassifier, iris_names),
    _lgbm(LGBMClassifier, iris, objective="multiclassova", num_leaves=4),
    _lgbm(LGBMClassifier, missing, class_weight="balanced"),
    replace(variant(piped(LGBMClassifier(**LEAVES)), table, of="LGBMClassifier"), name="LGBMClassifier in a Pipeline"),
)

QUICK = {"iterations": 10, "depth": 3, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def _cat(cls: Any, data: Any, **parameters: Any) -> Any:
    return _named(cls, data, parameters, QUICK)


CATBOOST = (
    _cat(CatBoostRegressor, number),
    _cat(CatBoostRegressor, one_column, depth=1),
    _cat(CatBoostRegressor, float32, iterations=100, depth=6),
    *(_cat(CatBoostRegressor, missing, nan_mode=mode) for mode in ("Min", "Max")),
    _cat(CatBoostRegressor, number, grow_policy="Lossguide", max_leaves=6),
    _cat(CatBoostRegressor, number, grow_policy="Depthwise", boost_from_average=False),
    *(_cat(CatBoostRegressor, counts, loss_function=o) for o in ("MAE", "Quantile:alpha=0.7", "Poisson")),
    _cat(CatBoostRegressor, counts, loss_function="Tweedie:variance_power=1.5"),
    _cat(CatBoostRegressor, two_numbers, loss_function="MultiRMSE"),
    *(_cat(CatBoostRegressor, counts, loss_function=o) for o in ("LogLinQuantile", "Cox", "RMSEWithUncertainty")),
    _cat(CatBoostRegressor, number, loss_function="MultiQuantile:alpha=0.1,0.5,0.9"),
    _cat(CatBoostClassifier, two),
    _cat(CatBoostClassifier, two_names),
    _cat(CatBoostClassifier, two_bools),
    _cat(CatBoostClassifier, iris),
    _cat(CatBoostClassifier, iris_names, loss_function="MultiClassOneVsAll"),
    _cat(CatBoostClassifier, missing, auto_class_weights="Balanced"),
    _cat(CatBoostClassifier, two, loss_function="Focal:focal_alpha=0.5;focal_gamma=2.0"),
    *(_cat(CatBoostClassifier, two_labels, loss_function=o) for o in ("MultiLogloss", "MultiCrossEntropy")),
    *(
        Plain(f"CatBoost({o!r}) on {data.__name__}", "CatBoost", CatBoost({**QUICK, "loss_function": o}), data)
        for o, data in (("RMSE", number), ("Logloss", two), ("MultiClass", iris), ("Poisson", counts))
    ),
    replace(
        variant(piped(CatBoostClassifier(**QUICK)), table, of="CatBoostClassifier"),
        name="CatBoostClassifier in a Pipeline",
    ),
)

RANKERS = tuple(
    Ranked(f"{type(r).__name__}({o!r}) on iris", type(r).__name__, r, iris)
    for r, o in (
        *((LGBMRanker(**LEAVES, objective=o), o) for o in ("lambdarank", "rank_xendcg")),
        *((XGBRanker(**SMALL, objective=o), o) for o in ("rank:ndcg", "rank:pairwise")),
        *((CatBoostRanker(**QUICK, loss_function=o), o) for o in ("YetiRank", "PairLogit", "QueryRMSE")),
        (CatBoostRanker(**QUICK, loss_function="YetiRankPairwise", grow_policy="SymmetricTree"), "YetiRankPairwise"),
    )
)

VARIANTS = (*XGB, *LGBM, *CATBOOST, *RANKERS)
