"""Estimators at sizes no variant has: 5,000 columns, 300 classes or clusters, one column, one row, one class.

Each entry of the tables is compiled to the native engine and to ONNX from a few rows, and asked about rows that it has
not seen; answers must be scikit-learn's as ``edgeml.compare`` measures them.
"""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import NMF, PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.feature_selection import SelectKBest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier, SGDClassifier
from sklearn.mixture import GaussianMixture
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import BernoulliNB, ComplementNB, GaussianNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

import edgeml
from edgeml.compare import bound, compare, side_by_side
from edgeml.parity.truth import call, methods_of

ENGINES = ("native", "onnx")
COLUMNS, CLASSES = 5000, 300


def columns():
    """5,000 columns, three classes."""
    rng, y = np.random.default_rng(0), np.arange(70) % 3
    return rng.normal(size=(70, COLUMNS)) + (y[:, None] == np.arange(COLUMNS) % 3), y


def counted_columns():
    """5,000 columns of counts."""
    X, y = columns()
    return np.rint(np.abs(3 * X)), y


def numbers():
    """5,000 columns and a numeric target."""
    X, _ = columns()
    return X, X[:, 0] * 2 + X[:, 1] + 20


def classes():
    """300 classes."""
    rng, y = np.random.default_rng(1), np.arange(3 * CLASSES) % CLASSES
    return 5 * rng.normal(size=(CLASSES, 12))[y] + rng.normal(size=(len(y), 12)), y


def names():
    """300 classes called by names."""
    X, y = classes()
    return X, np.char.add("class ", y.astype(str))


def counted_classes():
    """300 classes of counts."""
    X, y = classes()
    return np.rint(np.abs(X)), y


def groups():
    """The rows of 300 groups."""
    return classes()[0], None


def categories():
    """A column of 300 strings beside one of three."""
    number = np.arange(600)
    return np.stack([np.char.add("c", (number % 300).astype(str)), np.char.add("d", (number % 3).astype(str))], 1), None


def one_column():
    """One column, two classes that overlap."""
    rng, y = np.random.default_rng(2), np.arange(40) % 2
    return (y + rng.normal(size=40))[:, None], y


def one_number():
    """One column and a numeric target."""
    X, y = one_column()
    return X, 3 * X[:, 0] + y


def one_row():
    """Fitted on a single row."""
    return np.array([[1.0, 2.0, 3.0]]), np.array([1.5])


def one_class():
    """Rows of a single class."""
    X, _ = one_column()
    return np.concatenate([X, X * X], axis=1), np.full(len(X), "only")


def minus_one():
    """A single class, -1."""
    X, y = one_class()
    return X, np.full(len(y), -1)


TABLE = (
    *((estimator, columns) for estimator in (
        LogisticRegression(max_iter=20),
        SGDClassifier(loss="log_loss", random_state=0, max_iter=20),
        RidgeClassifier(),
        LinearSVC(random_state=0),
        SVC(),
        GaussianNB(),
        RandomForestClassifier(5, random_state=0),
        MLPClassifier((8,), max_iter=3, random_state=0),
        KNeighborsClassifier(3),
        # By itself it has score_samples, for which scikit-learn inverts a matrix of 5,000 columns at every call.
        make_pipeline(PCA(8, random_state=0), LogisticRegression()),
        GaussianMixture(2, covariance_type="diag", random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression(max_iter=20)),
        make_pipeline(SelectKBest(k=40), LogisticRegression()),
    )),
    (MultinomialNB(), counted_columns),
    (NMF(2, max_iter=10, random_state=0), counted_columns),
    (TfidfTransformer(), counted_columns),
    *((estimator, numbers) for estimator in (
        Ridge(), KernelRidge(kernel="rbf", gamma=1e-4), GaussianProcessRegressor(alpha=0.1), PLSRegression(2),
    )),
    *((estimator, classes) for estimator in (
        SGDClassifier(random_state=0, max_iter=10),
        RidgeClassifier(),
        LinearSVC(random_state=0, max_iter=30),
        LinearDiscriminantAnalysis(),
        ExtraTreesClassifier(3, max_depth=8, random_state=0),
        OneVsRestClassifier(LogisticRegression(max_iter=10)),
    )),
    *((estimator, names) for estimator in (
        LogisticRegression(max_iter=10),
        GaussianNB(),
        KNeighborsClassifier(3),
        MLPClassifier((16,), max_iter=3, random_state=0),
        DecisionTreeClassifier(max_depth=9, random_state=0),
        RandomForestClassifier(3, max_depth=8, random_state=0),
        AdaBoostClassifier(n_estimators=2, random_state=0),
    )),
    (ComplementNB(), counted_classes),
    (KMeans(CLASSES, n_init=1, max_iter=5, random_state=0), groups),
    (GaussianMixture(CLASSES, covariance_type="diag", reg_covar=0.1, max_iter=2, random_state=0), groups),
    (OneHotEncoder(), categories),
    *((estimator, one_column) for estimator in (
        LogisticRegression(),
        GaussianNB(),
        HistGradientBoostingClassifier(max_iter=3, min_samples_leaf=5),
        make_pipeline(MinMaxScaler(), LinearDiscriminantAnalysis()),
        IsolationForest(n_estimators=5, random_state=0),
    )),
    *((estimator, one_number) for estimator in (
        LinearRegression(), IsotonicRegression(out_of_bounds="clip"), GradientBoostingRegressor(n_estimators=5),
    )),
    *((estimator, one_row) for estimator in (LinearRegression(), Ridge(), KernelRidge(), GaussianProcessRegressor())),
    *((estimator, data) for data in (one_class, minus_one) for estimator in (
        DecisionTreeClassifier(),
        RandomForestClassifier(3, random_state=0),
        KNeighborsClassifier(),
        GaussianNB(),
        BernoulliNB(),
        DummyClassifier(),
        BaggingClassifier(n_estimators=2, random_state=0),
        AdaBoostClassifier(n_estimators=2, random_state=0),
        MLPClassifier((2,), max_iter=2, random_state=0),
    )),
)  # fmt: skip


def _name(entry) -> str:
    estimator, data = entry
    shown = re.sub(r"\s+", " ", repr(estimator))
    return f"{shown} on {data.__name__}"


@pytest.mark.parametrize("entry", TABLE, ids=_name)
def test_same_answers_at_every_size(entry, tmp_path):
    estimator, data = entry
    X, y = data()
    model = clone(estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # short fits do not converge, and 300 classes of three rows are few
        model.fit(X, y)
    path = tmp_path / "m.edgeml"
    with edgeml.compile(model, X[:16], output=path, formats=list(ENGINES)) as bundle:
        left_out = bundle.json("report.json")["methods_left_out"]
    methods = [m for m in methods_of(model) if m not in left_out]
    assert methods
    for rows in (_fresh(X, 12), _fresh(X, 1)):
        for engine in ENGINES:
            with edgeml.load(path, engine=engine) as compiled:
                for method in methods:
                    expected = _dense(_quiet(model, method, rows))
                    actual = _dense(getattr(compiled, method)(rows))
                    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), (engine, method)
                    difference = compare(expected, actual, method)
                    assert difference.flips == 0, (engine, method)
                    assert difference.max_rel <= bound(expected.dtype), (engine, method, difference)


def _fresh(X, count):
    """Rows that were not in the sample; of strings and counts, those behind it."""
    if X.dtype.kind == "U":
        return X[-count:]
    rng = np.random.default_rng(7)
    rows = X[rng.integers(0, len(X), count)]
    return (
        rows + rng.poisson(0.1, rows.shape) if np.array_equal(X, np.rint(X)) else rows * rng.normal(1, 0.05, rows.shape)
    )


def _quiet(model, method, rows):
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return call(model, method, rows)


def _dense(answer):
    return side_by_side(answer.toarray() if hasattr(answer, "toarray") else answer)
