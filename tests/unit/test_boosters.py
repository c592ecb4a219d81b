"""XGBoost, LightGBM, CatBoost and imbalanced-learn: what is refused, early stopping, rows at splits, categories."""

from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd
import pytest
from catboost import CatBoostClassifier, CatBoostRegressor
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline as sklearn_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

import edgeml
from edgeml.errors import CompileError, UnknownCategoryError, UnsupportedParameterError
from edgeml.ir import interpreter
from tests.oracle import columns_of, converted, schema_of

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3))
Y = X[:, 0] * 2 - np.abs(X[:, 1])
CLASS = (Y > 0).astype(int)
XGB = {"n_estimators": 4, "max_depth": 2, "n_jobs": 1}
LGBM = {"n_estimators": 4, "min_child_samples": 5, "verbose": -1, "n_jobs": 1}
CAT = {"iterations": 4, "depth": 2, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


def squared(y_true, y_pred):
    return y_pred - y_true, np.ones_like(y_true)


def texts():
    return pd.DataFrame({"a": X[:, 0], "c": np.array(["one two", "three four"])[np.arange(120) % 2]})


def frame():
    return pd.DataFrame({"a": X[:, 0], "c": pd.Categorical(np.array(["u", "v", "w"])[np.arange(120) % 3])})


def run(made, rows, method="predict"):
    return interpreter.run(made, columns_of(rows, schema_of(rows)))[method]


REFUSED = {
    "an XGBoost objective": (lambda: XGBRegressor(**XGB, objective=squared).fit(X, Y), X, "objective=", "by its name"),
    "an unknown XGBoost parameter": (lambda: XGBRegressor(**XGB, novelty=1).fit(X, Y), X, "novelty=1", "report"),
    "a LightGBM objective": (
        lambda: LGBMRegressor(**LGBM, objective=squared).fit(X, Y),
        X,
        "objective=",
        "by its name",
    ),
    "linear trees": (
        lambda: LGBMRegressor(**LGBM, linear_tree=True).fit(X, Y),
        X,
        "linear_tree=True",
        "linear_tree=False",
    ),
    "an unknown LightGBM parameter": (
        lambda: LGBMRegressor(**LGBM, pred_early_stop=True).fit(X, Y),
        X,
        "pred_early_stop=True",
        "report",
    ),
    "CatBoost's categories": (
        lambda: CatBoostRegressor(**CAT, cat_features=["c"]).fit(frame().assign(c=lambda f: f.c.astype(str)), Y),
        frame(),
        "cat_features=",
        "OneHotEncoder",
    ),
    "hard votes of CatBoost": (
        lambda: VotingClassifier([("a", CatBoostClassifier(**CAT))]).fit(X, CLASS + (X[:, 2] > 0)),
        X,
        "voting='hard'",
        "voting='soft'",
    ),
    "texts of CatBoost": (
        lambda: CatBoostRegressor(**CAT, text_features=["c"]).fit(texts(), Y),
        texts(),
        "text_features=",
        "report",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore")
def test_what_cannot_be_honoured_is_refused_by_name(case):
    make, rows, cause, remedy = REFUSED[case]
    model = make()
    with pytest.raises(UnsupportedParameterError) as caught:
        converted(model, rows)
    assert type(model).__name__ in caught.value.cause
    assert cause in caught.value.cause
    assert remedy in caught.value.remedy


def test_a_loss_that_is_none_of_catboosts_own_is_refused(monkeypatch):
    model = CatBoostClassifier(**CAT).fit(X, CLASS)  # of a user's loss CatBoost first makes machine code, for seconds
    monkeypatch.setattr(model, "get_all_params", lambda: {"loss_function": "PythonUserDefinedPerObject"})
    with pytest.raises(UnsupportedParameterError, match=r"loss_function='PythonUserDefinedPerObject'"):
        converted(model, X)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.9, 1.0])
def test_another_threshold_of_catboost_decides(threshold):
    labels = np.stack([CLASS, 1 - CLASS, CLASS ^ (X[:, 2] > 0)], axis=1)
    for model, y in (
        (CatBoostClassifier(**CAT), CLASS),
        (CatBoostClassifier(**CAT, loss_function="MultiLogloss"), labels),
    ):
        model.fit(X, y).set_probability_threshold(threshold)
        assert np.array_equal(run(converted(model, X), X), model.predict(X))


@pytest.mark.parametrize("alone", [True, False])
def test_a_model_of_catboost_that_was_saved_and_loaded(alone, tmp_path):
    scaler = StandardScaler().fit(X)
    CatBoostRegressor(**CAT).fit(X if alone else scaler.transform(X), Y).save_model(str(tmp_path / "m.cbm"))
    model = CatBoostRegressor().load_model(str(tmp_path / "m.cbm"))
    assert model.n_features_in_ == 0
    if not alone:
        pipeline = sklearn_pipeline(StandardScaler(), CatBoostRegressor(**CAT)).fit(X, Y)
        pipeline.steps = [("scaler", scaler), ("model", model)]
        model = pipeline
    edgeml.compile(model, X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml", engine="native") as compiled:
        assert np.allclose(compiled.predict(X), model.predict(X), rtol=1e-9)
    with pytest.raises(CompileError):
        edgeml.compile(model, X[:, :2], output=tmp_path / "n.edgeml", formats=["native"])


# --- early stopping -------------------------------------------------------------------------------------------------
def test_predict_uses_the_rounds_up_to_the_best():
    noise = RNG.normal(size=120)
    xgb = XGBRegressor(n_estimators=40, early_stopping_rounds=2, n_jobs=1).fit(
        X, noise, eval_set=[(X[::-1], Y)], verbose=0
    )
    assert xgb.best_iteration + 1 < xgb.get_booster().num_boosted_rounds()
    lgbm = LGBMRegressor(n_estimators=40, verbose=-1, n_jobs=1)
    lgbm.fit(X, noise, eval_X=X[::-1], eval_y=Y, callbacks=[lightgbm.early_stopping(2, verbose=False)])
    assert 0 < lgbm.best_iteration_ < 40
    for model in (xgb, lgbm):
        assert np.allclose(run(converted(model, X), X), model.predict(X), rtol=1e-6)


# --- rows at the splits ---------------------------------------------------------------------------------------------
def at_splits(splits, dtype):
    edges = np.asarray(splits, dtype=dtype)
    near = np.concatenate([edges, np.nextafter(edges, dtype(np.inf)), np.nextafter(edges, dtype(-np.inf))])
    return np.repeat(np.concatenate([near, [0.0, -0.0, np.nan, np.inf, -np.inf]])[:, None], 3, axis=1).astype(
        np.float64
    )


def test_rows_on_and_beside_the_splits_reach_the_same_leaves():
    xgb = XGBRegressor(n_estimators=10, max_depth=4, n_jobs=1).fit(X, Y)
    splits = [float(s) for s in xgb.get_booster().trees_to_dataframe()["Split"].dropna()]
    rows = at_splits(splits, np.float32)
    assert np.array_equal(run(converted(xgb, X), rows).astype(np.float32), xgb.predict(rows))
    lgbm = LGBMRegressor(n_estimators=10, min_child_samples=3, verbose=-1, n_jobs=1).fit(X, Y)
    rows = at_splits(lgbm.booster_.trees_to_dataframe()["threshold"].dropna().astype(float), np.float64)
    assert np.array_equal(run(converted(lgbm, X), rows), lgbm.predict(rows))
    cat = CatBoostRegressor(iterations=10, depth=4, verbose=0, allow_writing_files=False).fit(X, Y)
    rows = at_splits(np.concatenate(list(cat.get_borders().values())), np.float32)
    assert np.allclose(run(converted(cat, X), rows), cat.predict(rows), rtol=1e-12)


# --- categories -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("most", [5, 200, 255, 256, 1000])
def test_categories_of_any_number(most):
    codes = RNG.integers(0, most, 2000).astype(float)
    data = np.stack([codes, RNG.normal(size=2000)], axis=1)
    target = codes % 3 * 2.0 + (codes % 7 > 3)
    rows = np.stack(
        [[0.0, most - 1.0, most, 3e9, -1.0, -0.5, 2.7, np.nan, 300.0, 255.0, 254.0] + [1.0] * 3, np.zeros(14)], axis=1
    )
    lgbm = LGBMRegressor(n_estimators=5, min_data_per_group=2, cat_smooth=1, verbose=-1, n_jobs=1)
    lgbm.fit(data, target, categorical_feature=[0])
    made = converted(lgbm, data)
    for given in (rows[rows[:, 0] != 3e9], data):
        assert np.array_equal(run(made, given), lgbm.predict(given))
    xgb = XGBRegressor(n_estimators=5, feature_types=["c", "q"], enable_categorical=True, max_cat_to_onehot=1, n_jobs=1)
    xgb.fit(data, target)
    made = converted(xgb, data)
    for given in (rows, data):
        assert np.array_equal(run(made, given).astype(np.float32), xgb.predict(given))


def test_an_unknown_category_is_refused_where_the_library_refuses_it():
    rows = frame()
    xgb = XGBRegressor(**XGB, enable_categorical=True).fit(rows, Y)
    made = converted(xgb, rows)
    other = pd.DataFrame({"a": [0.0], "c": pd.Categorical(["z"])})
    with pytest.raises(Exception, match="not in the training set"):
        xgb.predict(other)
    with pytest.raises(UnknownCategoryError, match="column 'c'"):
        run(made, other)
    lgbm = LGBMRegressor(**LGBM).fit(rows, Y)  # holds it for missing
    assert np.array_equal(run(converted(lgbm, rows), other), lgbm.predict(other))


# --- labels, pipelines ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("labels", [np.array(["no", "yes"]), np.array([False, True]), np.array([3, 7])])
def test_labels_are_those_of_fit(labels):
    for model in (LGBMClassifier(**LGBM), CatBoostClassifier(**CAT)):
        fitted = model.fit(X, labels[CLASS])
        got = np.ravel(run(converted(fitted, X), X))
        assert np.array_equal(got.astype(str), np.ravel(fitted.predict(X)).astype(str))


def test_samplers_are_left_out():
    pipe = make_pipeline(RandomOverSampler(), StandardScaler(), RandomOverSampler(), LogisticRegression()).fit(X, CLASS)
    made = converted(pipe, X)
    assert not any("sampler" in node.origin for node in made.nodes)
    assert np.allclose(run(made, X, "predict_proba"), pipe.predict_proba(X), rtol=1e-12)


def test_no_library_is_imported():
    import subprocess
    import sys

    names = "('xgboost', 'lightgbm', 'catboost', 'imblearn')"
    code = f"import sys, edgeml.converters; print([m for m in {names} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
