import inspect

import numpy as np
import pandas as pd
import pytest
import sklearn.feature_selection as fs
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgeml.converters import CONVERTERS, to_program
from edgeml.errors import InputError, NonFiniteError, UnsupportedEstimatorError
from edgeml.ir import interpreter
from tests.awkward import with_awkward_rows
from tests.oracle import assert_same, columns_of, converted, schema_of


def data(rows=80, features=7):
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, rows)
    X = rng.normal(size=(rows, features))
    X[:, [1, 4, 5]] += y[:, None] * [1.0, -2.0, 0.5]
    X[:, 2] = 7.0
    X[:, 3] *= 1e-3
    return X, y


UNIVARIATE = [
    fs.SelectKBest(k=2),
    fs.SelectKBest(k="all"),
    fs.SelectKBest(fs.mutual_info_classif, k=3),
    fs.SelectPercentile(percentile=40),
    fs.SelectFpr(alpha=0.01),
    fs.SelectFdr(alpha=0.1),
    fs.SelectFwe(fs.f_regression),
    fs.GenericUnivariateSelect(mode="k_best", param=3),
    fs.GenericUnivariateSelect(mode="fdr", param=0.1),
]
MODELS = [
    fs.SelectFromModel(LogisticRegression()),
    fs.SelectFromModel(LinearRegression(), threshold="0.5*mean", max_features=3),
    fs.SelectFromModel(LinearRegression(), threshold=-np.inf, max_features=lambda X: X.shape[1] - 4),
    fs.SequentialFeatureSelector(LinearRegression(), n_features_to_select=2, cv=3),
    fs.VarianceThreshold(),
    fs.VarianceThreshold(threshold=1e-4),
]


@pytest.mark.filterwarnings("ignore:Features .* are constant", "ignore:invalid value encountered in divide")
@pytest.mark.parametrize("est", [*UNIVARIATE, *MODELS], ids=repr)
def test_transform(est):
    X, y = data()
    program = assert_same(est.fit(X, y), X, with_awkward_rows(X))
    assert 0 < sum(program.type_of(v).width for v in program.outputs["transform"].values) <= X.shape[1]


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_the_dtype_stays(dtype):
    X, y = data()
    X = (X * 3).astype(dtype) if dtype != "bool" else X > 0.3
    assert_same(fs.SelectKBest(fs.mutual_info_classif, k=3).fit(X, y), X)


def frame():
    X, y = data()
    rows = pd.DataFrame({"a": X[:, 0], "b": X[:, 1], "n": (X[:, 5] * 9).astype(int), "f": X[:, 4].astype("float32")})
    return rows, y


def test_columns_of_a_frame_become_one_array():
    X, y = frame()
    assert_same(fs.SelectKBest(k=2).fit(X, y), X)
    X["t"] = X["a"] > 0
    assert_same(fs.SelectKBest(k=3).fit(X, y), X)  # with bool among numbers pandas makes an object array


def test_set_output_keeps_columns_and_skips_the_check():
    X, y = frame()
    est = fs.SelectKBest(k=2).set_output(transform="pandas").fit(X, y)
    rows = X.copy()
    rows.loc[3, "b"] = np.inf
    program = converted(est, X)
    got = interpreter.run(program, columns_of(rows, schema_of(X)))["transform"]
    np.testing.assert_array_equal(got, est.transform(rows).to_numpy())


class Strings:
    """Stands for a fitted model that takes strings itself."""

    coef_ = np.array([0.0, 3.0, 2.0])

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        return LinearRegression().__sklearn_tags__()


def test_strings_are_selected_as_strings():
    X = pd.DataFrame({"a": [1.5, -0.0, 1e6], "s": ["x", "", "é"], "i": [1, 2, 3]})
    est = fs.SelectFromModel(Strings(), prefit=True, threshold=1.0).fit(X)
    program = converted(est, X)
    got = interpreter.run(program, columns_of(X, schema_of(X)))["transform"]
    assert got.tolist() == est.transform(X).tolist() == [["x", 1], ["", 2], ["é", 3]]
    infinite = X.assign(a=[np.inf, 0.0, 1.0])  # an object array is searched for NaN only
    assert est.transform(infinite).tolist() == got.tolist()
    assert interpreter.run(program, columns_of(infinite, schema_of(X)))["transform"].tolist() == got.tolist()
    for column in ("a", "s"):
        rows = X.astype({"a": object}) if column == "a" else X.astype(object)
        rows.loc[1, column] = np.nan
        with pytest.raises(ValueError, match="contains NaN"):
            est.transform(rows)
        with pytest.raises(InputError, match=r"row 1: .*SelectFromModel.* was given NaN"):
            interpreter.run(program, columns_of(rows, schema_of(X)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_the_check_covers_columns_that_are_dropped(bad):
    X, y = data()
    est = fs.SelectKBest(k=1).fit(np.delete(X, 2, axis=1), y)
    X = np.delete(X, 2, axis=1)
    rows = X.copy()
    dropped = int(np.flatnonzero(~est.get_support())[0])
    rows[5, dropped] = bad
    with pytest.raises(ValueError, match="contains"):
        est.transform(rows)
    with pytest.raises(NonFiniteError, match=f"SelectKBest.*row 5, its column {dropped}"):
        interpreter.run(converted(est, X), {"X": rows})


@pytest.mark.parametrize(
    "est", [fs.VarianceThreshold(0.1), fs.SelectFromModel(HistGradientBoostingClassifier())], ids=repr
)
def test_selectors_that_allow_nan_allow_infinity_too(est):
    X, y = data()
    if isinstance(est, fs.SelectFromModel):
        est.importance_getter = lambda model: np.arange(7.0)
    rows = X.copy()
    rows[0], rows[1] = np.nan, np.inf
    assert_same(est.fit(X, y), X, rows)


@pytest.mark.parametrize(
    "est", [fs.RFE(LogisticRegression(), n_features_to_select=3, step=0.4), fs.RFECV(Ridge(), cv=3)], ids=repr
)
def test_recursive_elimination_predicts_with_the_kept_columns(est):
    X, y = data()
    assert_same(est.fit(X, y), X, with_awkward_rows(X, largest=1e3))


def test_recursive_elimination_in_the_middle_adds_only_the_selection():
    X, y = data()
    pipeline = make_pipeline(fs.RFE(LinearRegression(), n_features_to_select=2), StandardScaler()).fit(X, y)
    program = assert_same(pipeline, X)
    assert not [node for node in program.nodes if "estimator_" in node.origin]
    whole = converted(make_pipeline(StandardScaler(), fs.RFE(LinearRegression())).fit(X, y), X)
    assert [n.origin for n in whole.nodes if n.op == "Linear"] == ["rfe/estimator_"]


def test_recursive_elimination_around_an_estimator_that_cannot_be_converted(monkeypatch):
    X, y = data()
    monkeypatch.delitem(CONVERTERS, "sklearn.LinearRegression")

    def refuse(c, est, X):
        raise UnsupportedEstimatorError(f"no converter for {type(est).__name__}")

    monkeypatch.setattr("edgeml.converters.registry.fallback", refuse)
    est = fs.RFE(LinearRegression(), n_features_to_select=2).fit(X, y)
    program = to_program(est, schema_of(X), {"transform": ("matrix", "<f8")})
    np.testing.assert_array_equal(interpreter.run(program, {"X": X})["transform"], est.transform(X))
    with pytest.raises(UnsupportedEstimatorError, match="LinearRegression"):
        to_program(est, schema_of(X), {"predict": ("vector", "<f8")})


@pytest.mark.parametrize(
    "name",
    sorted(set(fs.__all__) & {n for n in dir(fs) if inspect.isclass(getattr(fs, n))} - {"SelectorMixin"}),
)
def test_every_parameter_is_known(name):
    entry = CONVERTERS[f"sklearn.{name}"]
    assert set(inspect.signature(getattr(fs, name).__init__).parameters) - {"self"} <= entry.honours | entry.ignores
