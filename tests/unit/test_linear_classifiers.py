import inspect
from functools import partial

import numpy as np
import pytest
import sklearn.linear_model as lm
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.svm import LinearSVC

from edgeml.converters import CONVERTERS
from edgeml.ir import interpreter
from tests.awkward import with_awkward_rows
from tests.oracle import assert_same, columns_of, converted, schema_of

pytestmark = [
    # scikit-learn 1.8 deprecates the class, not its results.
    pytest.mark.filterwarnings("ignore:Class PassiveAggressiveClassifier is deprecated"),
]

LABELS = {
    "int": [3, -1, 7],
    "str": ["no", "yes", "may be"],
    "object": np.array(["no", "yes", "μ"], dtype=object),
    "float": [0.0, 2.0, -2.0],
    "bool": [False, True],
}
SGD_LOSSES = (
    "hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber",
    "epsilon_insensitive", "squared_epsilon_insensitive",
)  # fmt: skip
SGD = {"alpha": 0.05, "tol": None, "max_iter": 20, "random_state": 0, "average": 5}
ESTIMATORS = {
    "LogisticRegression": lambda: lm.LogisticRegression(C=0.7),
    "LogisticRegression_no_intercept": lambda: lm.LogisticRegression(fit_intercept=False, class_weight="balanced"),
    "LogisticRegression_l1": lambda: lm.LogisticRegression(
        solver="saga", l1_ratio=1.0, C=0.2, max_iter=2000, random_state=0
    ),
    "LogisticRegressionCV": lambda: lm.LogisticRegressionCV(
        Cs=3, cv=3, l1_ratios=(0.0,), scoring="accuracy", use_legacy_attributes=False
    ),
    "LogisticRegressionCV_mean": lambda: lm.LogisticRegressionCV(
        Cs=3, cv=3, l1_ratios=(0.0,), scoring="accuracy", use_legacy_attributes=False, refit=False
    ),
    "RidgeClassifier": lambda: lm.RidgeClassifier(alpha=2.0, class_weight="balanced"),
    "RidgeClassifierCV": lambda: lm.RidgeClassifierCV(alphas=(0.1, 1.0)),
    "Perceptron": lambda: lm.Perceptron(penalty="l2", random_state=0),
    "PassiveAggressiveClassifier": lambda: lm.PassiveAggressiveClassifier(C=0.1, random_state=0),
    "LinearSVC": lambda: LinearSVC(C=0.3, max_iter=20000),
    "LinearSVC_crammer_singer": lambda: LinearSVC(multi_class="crammer_singer", C=0.3, max_iter=20000),
    **{f"SGDClassifier_{loss}": partial(lm.SGDClassifier, loss, **SGD) for loss in SGD_LOSSES},
}


FLOAT32 = (
    "LogisticRegression", "LogisticRegressionCV", "RidgeClassifier", "LinearSVC", "SGDClassifier_log_loss",
    "SGDClassifier_modified_huber",
)  # fmt: skip


def data(classes, rows=90, features=4, dtype="float64"):
    rng = np.random.default_rng(classes)
    y = np.arange(rows) % classes
    X = rng.normal(size=(rows, features)) + rng.normal(size=(classes, features))[y]
    return X.astype(dtype), y


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_scores_probabilities_and_classes(name, classes):
    X, y = data(classes)
    assert_same(ESTIMATORS[name]().fit(X, np.array(LABELS["str"])[y]), X, with_awkward_rows(X))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", [k for k in LABELS if k != "bool"])
def test_labels_keep_their_type(kind, classes):
    X, y = data(classes)
    labels = np.asarray(LABELS[kind])[y]
    assert_same(lm.LogisticRegression().fit(X, labels), X)
    assert_same(lm.RidgeClassifier().fit(X, labels), X)


@pytest.mark.parametrize("dtype", ["bool", "int32", "uint8"])
def test_labels_of_other_dtypes(dtype):
    X, y = data(2)
    assert_same(lm.LogisticRegression().fit(X, y.astype(dtype)), X)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("est", [lm.LogisticRegression(), lm.SGDClassifier(loss="log_loss", random_state=0)], ids=repr)
def test_one_feature(est, classes):
    X, y = data(classes, features=1)
    assert_same(est.fit(X, y), X, with_awkward_rows(X))


@pytest.mark.parametrize("loss", ["log_loss", "modified_huber"])
def test_rows_to_which_no_class_gives_a_share_get_equal_probabilities(loss):
    X, y = data(3)
    est = lm.SGDClassifier(loss=loss, random_state=0).fit(X, y)
    est.coef_[:] = -np.abs(est.coef_) - 1.0
    rows = np.vstack([np.full((1, 4), 1e6), X])
    # exp(-score) overflows inside scipy's expit without a warning: a share of exactly 0
    assert est.predict_proba(rows)[0].tolist() == [1 / 3] * 3
    assert_same(est, X, rows)


def test_modified_huber_of_two_classes_is_computed_in_float64():
    X = np.random.default_rng(0).normal(size=(50, 1)).astype("float32")
    est = lm.SGDClassifier(loss="modified_huber", random_state=0).fit(X, X[:, 0] > 0)
    # The scores are exact: only the probabilities are left to differ.
    est.coef_, est.intercept_ = np.ones((1, 1), "float32"), np.zeros(1, "float32")
    assert est.decision_function(X).dtype == np.float32
    assert est.predict_proba(X).dtype == np.float64
    assert_same(est, X)


@pytest.mark.parametrize("labels", [2, 3])
@pytest.mark.parametrize("est", [lm.RidgeClassifier(), lm.RidgeClassifierCV()], ids=repr)
def test_ridge_multi_label(est, labels):
    X, _ = data(3)
    Y = (X @ np.random.default_rng(0).normal(size=(4, labels)) > 0).astype(int)
    assert_same(est.fit(X, Y), X, with_awkward_rows(X))


@pytest.mark.parametrize("classes", [2, 3])
def test_sparsified_coefficients(classes):
    X, y = data(classes)
    l1 = {"l1_ratio": 1.0, "C": 0.05, "solver": "saga", "max_iter": 5000, "random_state": 0}
    for est in (
        lm.LogisticRegression(**l1),
        lm.SGDClassifier(loss="modified_huber", penalty="l1", alpha=0.05, random_state=0),
        LinearSVC(penalty="l1", dual=False, C=0.05),
    ):
        est.fit(X, y).sparsify()
        assert hasattr(est.coef_, "toarray")
        assert_same(est, X)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    ("fit_dtype", "dtype"), [("float32", "float32"), ("float32", "float64"), ("float64", "float32")]
)
@pytest.mark.parametrize("name", FLOAT32)
def test_dtypes_follow_scikit_learn(name, fit_dtype, dtype, classes):
    X, y = data(classes)
    est = ESTIMATORS[name]().fit(X.astype(fit_dtype), y)
    # A float32 product differs in its last bits with the order of its additions.
    single = est.decision_function(X[:2].astype(dtype)).dtype == np.float32
    assert_same(est, X.astype(dtype), **({"rtol": 2e-5, "atol": 2e-6} if single else {}))


def test_integer_and_frame_inputs():
    import pandas as pd

    X, y = data(3)
    frame = pd.DataFrame(
        {"a": X[:, 0], "b": (X[:, 1] * 10).astype(int), "c": X[:, 2] > 0, "d": X[:, 3].astype("float32")}
    )
    assert_same(lm.LogisticRegression(max_iter=1000).fit(frame, y), frame)
    assert_same(lm.LogisticRegression(max_iter=1000).fit(frame[["b"]], y), frame[["b"]])
    assert_same(lm.LogisticRegression(max_iter=1000).fit(frame[["c"]], y), frame[["c"]])


@pytest.mark.parametrize("name", sorted({name.partition("_")[0] for name in ESTIMATORS}))
def test_every_parameter_is_known(name):
    cls = LinearSVC if name == "LinearSVC" else getattr(lm, name)
    entry = CONVERTERS[f"sklearn.{name}"]
    assert set(inspect.signature(cls.__init__).parameters) - {"self"} <= entry.honours | entry.ignores


@pytest.mark.parametrize("model", [lm.LogisticRegression(), LinearDiscriminantAnalysis()])
def test_float32_probabilities_near_one_have_the_bits_of_scipy(model):
    """SciPy rounds 1 + exp(-x) to float32: the logit of such a probability hangs on its last bit."""
    rows = np.linspace(-20, 20, 4001, dtype=np.float32)[:, None]
    model.fit(rows, rows[:, 0] > 0)
    model.coef_, model.intercept_ = np.ones((1, 1), np.float32), np.zeros(1, np.float32)  # the score is the row
    answers = interpreter.run(converted(model, rows), columns_of(rows, schema_of(rows)))
    expected = model.predict_proba(rows)
    assert answers["predict_proba"].dtype == expected.dtype == np.float32
    assert (answers["predict_proba"] != expected).any(axis=1).mean() < 0.01
