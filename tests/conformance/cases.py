"""The one table of cases: (pipeline, data) pairs that the conformance tests and the benchmarks share.

A case is a name and a function that returns a fitted pipeline and raw rows to ask it about. Data come from packages
(scikit-learn's own sets, palmerpenguins) or are drawn with a fixed seed; mixed frames carry strings, missing cells,
integers and booleans as they come out of a pandas join.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn import (
    calibration,
    cluster,
    compose,
    datasets,
    decomposition,
    ensemble,
    feature_selection,
    impute,
    linear_model,
    neural_network,
    pipeline,
    preprocessing,
    tree,
)

make_pipeline, make_column_transformer = pipeline.make_pipeline, compose.make_column_transformer
Selector = compose.make_column_selector


@dataclass(frozen=True)
class Case:
    """``fit()`` returns (fitted pipeline, rows); ``skip`` maps an engine to the reason it cannot run the case."""

    name: str
    fit: Callable[[], tuple[Any, Any]]
    skip: tuple[tuple[str, str], ...] = ()


# --- data ----------------------------------------------------------------------------------------------------------
@cache
def mixed(rows: int = 600, seed: int = 7) -> tuple[pd.DataFrame, pd.Series, pd.Series, pd.Series]:
    """A frame with every kind of column, and a binary, a three-class and a numeric target."""
    rng = np.random.default_rng(seed)
    colour = rng.choice(["red", "green", "blue", "", "\U0001f600"], rows, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    frame = pd.DataFrame(
        {
            "age": rng.integers(18, 90, rows),
            "income": rng.lognormal(10, 1, rows),
            "ratio": rng.normal(size=rows),
            "colour": pd.Series(colour, dtype="str"),
            "city": pd.Series(rng.choice([f"c{i}" for i in range(12)], rows), dtype=object),
            "member": rng.random(rows) < 0.4,
            "rooms": rng.integers(1, 6, rows),
            "unused": pd.date_range("2020-01-01", periods=rows, freq="h"),
        }
    )
    score = (frame["ratio"] + (frame["colour"] == "red") - frame["member"] + rng.normal(size=rows)).to_numpy()
    frame.loc[rng.random(rows) < 0.1, "income"] = np.nan
    frame.loc[rng.random(rows) < 0.1, "ratio"] = np.nan
    frame.loc[rng.random(rows) < 0.1, "colour"] = np.nan
    frame.loc[rng.random(rows) < 0.1, "city"] = None
    binary = pd.Series(np.where(score > 0, "yes", "no"))
    three = pd.Series(np.digitize(score, [-0.7, 0.7]))
    return frame, binary, three, pd.Series(score * 1e3)


NUMBERS = ["age", "income", "ratio", "rooms"]
STRINGS = ["colour", "city"]


def everyday(scale: Any = None) -> Any:
    """The preprocessing everyone writes: impute and scale the numbers, impute and one-hot the strings."""
    return make_column_transformer(
        (
            make_pipeline(impute.SimpleImputer(strategy="median"), scale or preprocessing.StandardScaler()),
            NUMBERS,
        ),
        (
            make_pipeline(
                impute.SimpleImputer(strategy="most_frequent"),
                preprocessing.OneHotEncoder(handle_unknown="ignore"),
            ),
            ["colour"],
        ),
        ("passthrough", ["member"]),
    )


def ordinal() -> Any:
    """Strings as codes, numbers as they are: what native categories and trees are fed with."""
    return make_column_transformer(
        (preprocessing.OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan), STRINGS),
        ("passthrough", [*NUMBERS, "member"]),
    )


def _fit(estimator: Any, X: Any, y: Any) -> tuple[Any, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short fits do not converge; the answers are compared, not the quality
        return estimator.fit(X, y), X


def on_mixed(
    make: Callable[[], Any], target: str = "binary", prep: Callable[[], Any] = everyday
) -> Callable[[], tuple[Any, Any]]:
    def fit() -> tuple[Any, Any]:
        frame, binary, three, number = mixed()
        y = {"binary": binary, "three": three, "number": number}[target]
        return _fit(make_pipeline(prep(), make()), frame, y)

    return fit


def on_array(
    make: Callable[[], Any], load: Callable[[], Any], dtype: Any = np.float64
) -> Callable[[], tuple[Any, Any]]:
    def fit() -> tuple[Any, Any]:
        X, y = load()
        return _fit(make(), X.astype(dtype), y)

    return fit


def iris() -> Any:
    return datasets.load_iris(return_X_y=True)


def diabetes() -> Any:
    return datasets.load_diabetes(return_X_y=True)


@cache
def digits() -> Any:
    X, y = datasets.load_digits(return_X_y=True)
    return X[:700], y[:700]


def magnitudes() -> Any:
    """The classic failure: integer features of very different magnitudes before a scaler and a forest."""
    rng = np.random.default_rng(3)
    X = np.stack([rng.integers(0, 10**k, 1500) for k in (1, 2, 4, 6, 8, 9)], axis=1)
    y = X[:, 0] * 3 + np.log1p(X[:, 3]) + X[:, 5] / 1e8 + rng.normal(size=1500)
    return X, y


LR = linear_model.LogisticRegression


def _calibrated(method: str, ensemble_: bool = True) -> Callable[[], Any]:
    return lambda: calibration.CalibratedClassifierCV(
        ensemble.RandomForestClassifier(12, max_depth=4, random_state=0),
        method=method,
        cv=3,
        ensemble=ensemble_,
    )


def _members() -> list[tuple[str, Any]]:
    return [
        ("lr", LR(max_iter=200)),
        ("rf", ensemble.RandomForestClassifier(15, max_depth=5, random_state=0)),
        ("tree", tree.DecisionTreeClassifier(max_depth=4, random_state=0)),
    ]


def _regressors() -> list[tuple[str, Any]]:
    return [
        ("ridge", linear_model.Ridge()),
        ("rf", ensemble.RandomForestRegressor(10, max_depth=5, random_state=0)),
    ]


CASES: tuple[Case, ...] = (
    Case("logistic binary", on_mixed(lambda: LR(max_iter=300))),
    Case("logistic three classes", on_mixed(lambda: LR(max_iter=300), "three")),
    Case("logistic robust scaler", on_mixed(LR, prep=lambda: everyday(preprocessing.RobustScaler()))),
    Case("logistic min-max clip", on_mixed(LR, prep=lambda: everyday(preprocessing.MinMaxScaler(clip=True)))),
    Case("logistic normalizer", on_mixed(LR, prep=lambda: everyday(preprocessing.Normalizer()))),
    Case("sgd modified huber", on_mixed(lambda: linear_model.SGDClassifier(loss="modified_huber", random_state=0), "three")),
    Case("ridge classifier", on_mixed(linear_model.RidgeClassifier, "three")),
    Case("ridge regression", on_mixed(linear_model.Ridge, "number")),
    Case("elastic net", on_mixed(lambda: linear_model.ElasticNet(alpha=0.1), "number")),
    Case("tree binary", on_mixed(lambda: tree.DecisionTreeClassifier(max_depth=6, random_state=0))),
    Case("forest binary", on_mixed(lambda: ensemble.RandomForestClassifier(40, max_depth=8, random_state=0))),
    Case("forest three classes grown out", on_mixed(lambda: ensemble.RandomForestClassifier(20, random_state=0), "three")),
    Case("extra trees on codes", on_mixed(lambda: ensemble.ExtraTreesClassifier(30, random_state=0), "three", ordinal)),
    Case("forest regression", on_mixed(lambda: ensemble.RandomForestRegressor(30, max_depth=9, random_state=0), "number")),
    Case("boosting binary", on_mixed(lambda: ensemble.GradientBoostingClassifier(n_estimators=40, random_state=0))),
    Case("boosting three classes", on_mixed(lambda: ensemble.GradientBoostingClassifier(n_estimators=20, random_state=0), "three")),
    Case("boosting regression huber", on_mixed(lambda: ensemble.GradientBoostingRegressor(loss="huber", n_estimators=30, random_state=0), "number")),
    Case("hist boosting binary", on_mixed(lambda: ensemble.HistGradientBoostingClassifier(max_iter=40))),
    Case("hist boosting missing values", on_mixed(lambda: ensemble.HistGradientBoostingClassifier(max_iter=30), "three", ordinal)),
    Case("hist boosting native categories", on_mixed(lambda: ensemble.HistGradientBoostingClassifier(max_iter=30, categorical_features=[0, 1]), "binary", ordinal)),
    Case("hist boosting poisson", on_array(lambda: ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=30), diabetes)),
    Case("mlp binary", on_mixed(lambda: neural_network.MLPClassifier((16, 8), max_iter=60, random_state=0))),
    Case("mlp three classes tanh", on_mixed(lambda: neural_network.MLPClassifier((12,), activation="tanh", max_iter=60, random_state=0), "three")),
    Case("mlp regression logistic", on_array(lambda: make_pipeline(preprocessing.StandardScaler(), neural_network.MLPRegressor(hidden_layer_sizes=(16,), activation="logistic", max_iter=100, random_state=0)), diabetes)),
    Case("k-means", on_array(lambda: make_pipeline(preprocessing.StandardScaler(), cluster.KMeans(5, n_init=2, random_state=0)), iris)),
    Case("pca logistic", on_array(lambda: make_pipeline(preprocessing.StandardScaler(), decomposition.PCA(8, whiten=True), LR(max_iter=300)), digits)),
    Case("select k best", on_array(lambda: make_pipeline(feature_selection.SelectKBest(k=10), ensemble.RandomForestClassifier(20, random_state=0)), digits)),
    Case("scaler and forest on integers", on_array(lambda: make_pipeline(preprocessing.StandardScaler(), ensemble.RandomForestRegressor(40, random_state=0)), magnitudes, np.int64)),
    Case("float32 forest", on_array(lambda: ensemble.RandomForestClassifier(20, random_state=0), iris, np.float32)),
    Case("float32 scaler logistic", on_array(lambda: make_pipeline(preprocessing.StandardScaler(), LR()), iris, np.float32)),
    Case("voting soft", on_mixed(lambda: ensemble.VotingClassifier(_members(), voting="soft", weights=[2, 1, 1]))),
    Case("voting hard", on_mixed(lambda: ensemble.VotingClassifier(_members()), "three")),
    Case("voting regression", on_mixed(lambda: ensemble.VotingRegressor(_regressors()), "number")),
    Case("stacking classification", on_mixed(lambda: ensemble.StackingClassifier(_members(), cv=3, passthrough=True))),
    Case("stacking three classes", on_mixed(lambda: ensemble.StackingClassifier(_members(), cv=3), "three")),
    Case("stacking regression", on_mixed(lambda: ensemble.StackingRegressor(_regressors(), cv=3), "number")),
    Case("calibrated sigmoid", on_mixed(_calibrated("sigmoid"))),
    Case("calibrated isotonic", on_mixed(_calibrated("isotonic"), "three")),
    Case("calibrated without ensemble", on_mixed(_calibrated("isotonic", False))),
    Case("transformer only", lambda: _fit(everyday(), mixed()[0], None)),
    Case("imputed strings", lambda: _fit(make_column_transformer((impute.SimpleImputer(strategy="most_frequent"), ["colour"]), remainder="drop"), mixed()[0], None), (("tflite", "transform returns strings or objects, and TFLite has only numbers"),)),
    Case("feature union", on_array(lambda: make_pipeline(pipeline.make_union(decomposition.PCA(2), preprocessing.MaxAbsScaler()), LR(max_iter=300)), iris)),
    Case("indicator", on_mixed(LR, prep=lambda: make_column_transformer((impute.SimpleImputer(add_indicator=True), Selector(dtype_include="number"))))),
)  # fmt: skip
