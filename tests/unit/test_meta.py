"""Ensembles, many classes, several outputs, transformed targets: what variants do not show, and what is refused."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingClassifier,
    BaggingRegressor,
    IsolationForest,
    RandomTreesEmbedding,
)
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, KBinsDiscretizer, PowerTransformer, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

import edgeml
from edgeml.converters import to_program
from edgeml.converters.bagging import _first
from edgeml.converters.members import beside
from edgeml.errors import InputError, UnsupportedEstimatorError, UnsupportedParameterError
from edgeml.ir import Builder, interpreter
from edgeml.passes import optimise
from tests.oracle import assert_same, columns_of, converted, schema_of

RNG = np.random.default_rng(11)
X = RNG.normal(size=(160, 4))
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.4)
LABELS = (X[:, :3] > 0).astype(int)


class Unknown(ClassifierMixin, RegressorMixin, BaseEstimator):
    """An estimator of the user's own, which has no converter."""

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X):
        return self.classes_[(X[:, 0] > 0).astype(int)]

    def predict_proba(self, X):
        return np.full((len(X), len(self.classes_)), 1 / len(self.classes_))


@pytest.mark.parametrize(
    "estimator",
    [
        AdaBoostClassifier(Unknown(), n_estimators=2),
        AdaBoostRegressor(Unknown(), n_estimators=2),
        BaggingClassifier(Unknown(), n_estimators=2),
        BaggingRegressor(Unknown(), n_estimators=2),
        OneVsRestClassifier(Unknown()),
        OneVsOneClassifier(Unknown()),
        OutputCodeClassifier(Unknown()),
        SelfTrainingClassifier(Unknown()),
        TransformedTargetRegressor(Unknown()),
    ],
    ids=lambda e: type(e).__name__,
)
def test_a_member_without_converter_is_named(estimator):
    with pytest.raises(UnsupportedEstimatorError, match="Unknown") as caught:
        converted(estimator.fit(X, _target_of(estimator)), X)
    assert "supported estimator" in str(caught.value)


def _target_of(estimator):
    if isinstance(estimator, SelfTrainingClassifier):
        return np.where(np.arange(len(Y)) % 2, Y, -1)
    return Y > 0 if isinstance(estimator, AdaBoostClassifier) else Y.astype(float)


@pytest.mark.parametrize("estimator", [MultiOutputClassifier(Unknown()), ClassifierChain(Unknown())])
def test_an_output_without_converter_is_named(estimator):
    with pytest.raises(UnsupportedEstimatorError, match=r"estimators_.*Unknown"):
        converted(estimator.fit(X, LABELS), X)


def test_a_search_without_refit_is_refused_with_a_way_out(tmp_path):
    search = GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, refit=False, cv=2).fit(X, Y)
    with pytest.raises(edgeml.errors.CompileError, match="refit=True"):
        edgeml.compile(search, X, output=tmp_path / "m.edgeml")


def test_the_way_back_of_a_transformer_without_converter_is_refused():
    bins = KBinsDiscretizer(3, encode="ordinal", quantile_method="averaged_inverted_cdf")
    target = TransformedTargetRegressor(LinearRegression(), transformer=bins, check_inverse=False)
    with pytest.raises(UnsupportedEstimatorError, match="inverse_transform of KBinsDiscretizer") as caught:
        converted(target.fit(X, X[:, 0] * 2), X)
    assert "PowerTransformer" in str(caught.value)
    assert "inverse_func" in str(caught.value)


def test_a_function_that_cannot_be_traced_is_named():
    def strange(y):
        return np.linalg.norm(y, axis=1, keepdims=True) if y.sum() > 0 else y

    target = TransformedTargetRegressor(LinearRegression(), func=np.abs, inverse_func=strange, check_inverse=False)
    with pytest.raises(UnsupportedParameterError, match=r"inverse_func='strange'"):
        converted(target.fit(X, X[:, 0]), X)


def test_options_of_the_inverse_function_are_honoured():
    shift = FunctionTransformer(np.add, np.subtract, kw_args={"x2": 2.0}, inv_kw_args={"x2": 2.0})
    plain = FunctionTransformer(_scaled, _unscaled, kw_args={"by": 3.0}, inv_kw_args={"by": 3.0})
    for transformer in (shift, plain):
        target = TransformedTargetRegressor(LinearRegression(), transformer=transformer, check_inverse=False)
        try:
            target.fit(X, X[:, 0])
        except TypeError:
            continue  # NumPy's ufuncs take no second operand by name
        assert_same(target, X)


def _scaled(y, by):
    return y * by


def _unscaled(y, by):
    return y / by


@pytest.mark.parametrize("power", [0.0, 2.0, 0.5, -1.0, 3.0])
@pytest.mark.parametrize("method", ["yeo-johnson", "box-cox"])
def test_every_branch_of_the_inverse_power(method, power):
    y = np.abs(X[:, 0]) + 0.5 if method == "box-cox" else X[:, 0] / 3
    target = TransformedTargetRegressor(LinearRegression(), transformer=PowerTransformer(method, standardize=False))
    target.fit(X, y)
    target.transformer_.lambdas_ = np.array([power])
    with np.errstate(all="ignore"):
        assert_same(target, X)


def test_rows_on_the_offset_of_an_isolation_forest_are_inliers(tmp_path):
    """With contamination the offset is a training row's own score: a unit in the last place decides."""
    whole = np.round(X, 1)
    forest = IsolationForest(n_estimators=20, contamination=0.1, random_state=0).fit(whole)
    scores = forest.score_samples(whole)
    forest.offset_ = np.sort(scores)[20]
    assert (forest.decision_function(whole) == 0).any()
    edgeml.compile(forest, whole, output=tmp_path / "m.edgeml", formats=["native", "onnx"]).close()
    for engine in ("native", "onnx"):
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as model:
            np.testing.assert_array_equal(model.predict(whole), forest.predict(whole))
            far = np.array([[np.inf, np.nan, -np.inf, 3e38]])
            assert model.predict(far) == forest.predict(far)


@pytest.mark.parametrize("cut", [0.0, 5e-324, 1.0, 7.25, 1e300])
def test_first_is_the_smallest_float_that_holds(cut):
    assert _first(lambda x: x >= cut) == cut


def test_nothing_holds_anywhere():
    assert _first(lambda x: x < 0) == np.inf


def test_a_leaf_no_training_row_reached_is_refused():
    embedding = RandomTreesEmbedding(3, random_state=0).fit(X)
    known = embedding.one_hot_encoder_.categories_
    embedding.one_hot_encoder_.categories_ = [known[0][1:], *known[1:]]
    program = to_program(embedding, schema_of(X), {"transform": ("matrix", "<f8")})
    with pytest.raises(InputError, match="no training row"):
        interpreter.run(program, columns_of(X, schema_of(X)))


def test_what_trees_do_not_see_may_be_infinite_in_bagging():
    model = BaggingClassifier(DecisionTreeClassifier(max_depth=2), 3, max_features=1, random_state=0).fit(X, Y)
    seen = set(np.concatenate(model.estimators_features_).tolist())
    rows = X[:5].copy()
    rows[:, [i for i in range(4) if i not in seen]] = np.inf
    assert_same(model, X, rows)
    program = converted(model, X)
    rows[0, min(seen)] = np.inf
    with pytest.raises(InputError, match=r"estimators_ \(DecisionTreeClassifier\)"):
        interpreter.run(program, columns_of(rows, schema_of(X)))


def test_ada_boost_checks_rows_before_its_trees_do():
    program = converted(AdaBoostClassifier(n_estimators=2).fit(X, Y), X)
    rows = X.copy()
    rows[0, 0] = np.nan
    with pytest.raises(InputError, match="AdaBoostClassifier"):
        interpreter.run(program, columns_of(rows, schema_of(X)))


def test_bagging_of_a_frame_hands_its_members_an_array():
    frame = pd.DataFrame(X, columns=list("abcd"))
    assert_same(BaggingClassifier(LogisticRegression(), 3, max_features=2, random_state=0).fit(frame, Y), frame)
    assert_same(AdaBoostClassifier(n_estimators=3).fit(frame, Y), frame)
    assert_same(OneVsOneClassifier(RidgeClassifier()).fit(frame, Y), frame)


def test_products_of_one_matrix_become_one_product():
    """300 classes against the rest: one Linear, not 300."""
    classes = np.arange(600) % 300
    rows = RNG.normal(size=(300, 6))[classes] * 5 + RNG.normal(size=(600, 6))
    model = OneVsRestClassifier(RidgeClassifier()).fit(rows, classes)
    program = optimise(assert_same(model, rows))
    assert [node.op for node in program.nodes].count("Linear") <= 1
    assert len(program.nodes) < 12


def test_beside_sees_through_what_members_do_to_a_column():
    c = Builder()
    x = c.input("X", "float64", 3)
    parts = []
    for weight in np.eye(3):
        p = c.sigmoid(c.linear(x, weight[:, None]))
        parts.append(c.concat([1.0 - p, p]).select([1]))
    c.output("a", [beside(parts)], "matrix", "<f8")
    c.output("b", [beside([parts[0], c.constant(2.0), x.select([1])])], "matrix", "<f8")
    program = optimise(c.finish())
    found = interpreter.run(program, {"X": X[:, :3]})
    alone = Builder()
    z = alone.input("X", "float64", 3)
    alone.output("a", [alone.sigmoid(z)], "matrix", "<f8")
    np.testing.assert_array_equal(found["a"], interpreter.run(alone.finish(), {"X": X[:, :3]})["a"])
    np.testing.assert_array_equal(found["b"], np.stack([found["a"][:, 0], np.full(len(X), 2.0), X[:, 1]], axis=1))


def test_members_that_never_saw_a_class_have_no_share_of_it():
    y = np.where(np.arange(160) < 3, 9, Y)
    # A pipeline takes no sample weights, so its members are fitted on the rows of their bags alone.
    member = make_pipeline(StandardScaler(), LogisticRegression())
    model = BaggingClassifier(member, 4, max_samples=0.1, random_state=0).fit(X, y)
    assert any(len(member.classes_) < 4 for member in model.estimators_)
    methods = ("predict_proba", "predict_log_proba")  # scikit-learn's own decision_function fails
    program = to_program(model, schema_of(X), dict.fromkeys(methods, ("matrix", "<f8")))
    found = interpreter.run(program, columns_of(X, schema_of(X)))
    for method in methods:
        np.testing.assert_allclose(found[method], getattr(model, method)(X), rtol=1e-9, atol=1e-300)


def test_trees_that_know_few_classes_count_for_those():
    """A tree fitted on the rows of its bag alone, as before scikit-learn passed sample weights to it."""
    model = BaggingClassifier(DecisionTreeClassifier(max_depth=2), 3, random_state=0).fit(X, Y)
    some = Y > 0
    model.estimators_[1] = DecisionTreeClassifier(max_depth=2).fit(X[some], Y[some])
    methods = {"predict_proba": ("matrix", "<f8"), "predict": ("vector", "<i8")}
    found = interpreter.run(to_program(model, schema_of(X), methods), columns_of(X, schema_of(X)))
    np.testing.assert_array_equal(found["predict_proba"], model.predict_proba(X))
    np.testing.assert_array_equal(found["predict"], model.predict(X))


def test_weighted_median_with_equal_predictions():
    y = np.round(X[:, 0])
    model = AdaBoostRegressor(DecisionTreeRegressor(max_depth=1), n_estimators=9, random_state=0).fit(X, y)
    assert_same(model, X)


def test_a_scaler_of_two_targets_in_a_pipeline_with_the_regressor():
    model = TransformedTargetRegressor(LinearRegression(), transformer=StandardScaler())
    assert_same(model.fit(pd.DataFrame(X, columns=list("abcd")), X[:, :2] * 3), pd.DataFrame(X, columns=list("abcd")))
