"""Linear classifiers: losses, penalties and solvers, and labels of every kind."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import (
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    Perceptron,
    RidgeClassifier,
    RidgeClassifierCV,
    SGDClassifier,
)
from sklearn.svm import LinearSVC

from tests.conformance.estimators.data import apart32, float32, iris, iris_names, two_apart32, two_classes, two_names
from tests.conformance.estimators.naive_bayes import one_number, whole_numbers
from tests.conformance.estimators.table import deprecated, variant


def true_or_false():
    """Two classes, False and True."""
    X, y = two_classes()
    return X, y == 2


def odd_numbers():
    """Three classes called -5, 0 and 1000."""
    X, y = iris()
    return X, np.array([-5, 0, 1000])[y]


def float32_two():
    """Two classes and rows in float32."""
    X, y = two_classes()
    return X.astype(np.float32), y


def many_labels():
    """Three yes-or-no labels a row."""
    X, y = iris()
    return X, np.stack([y == 0, y > 0, X[:, 0] > 6], axis=1).astype(int)


def two_objects():
    """Two classes called by strings in an object array."""
    X, y = two_names()
    return X, y.astype(object)


def wide_classes():
    """More columns than rows, three classes."""
    X = np.random.default_rng(6).normal(size=(60, 90))
    return X, X[:, :3].argmax(axis=1)


class Sparsified(SGDClassifier):
    """Keeps its coefficients in a SciPy matrix after fit."""

    def fit(self, X, y):
        return super().fit(X, y).sparsify()


# The registry goes by the name of the class and its package.
Sparsified.__module__, Sparsified.__qualname__ = SGDClassifier.__module__, "SGDClassifier"


def _sgd(**parameters):
    return SGDClassifier(random_state=0, **parameters)


# Scores in the hundreds: their exponentials keep less than five digits in float32.
_LARGE_SCORES = "tflite engine, sample: predict_proba"

VARIANTS = (
    variant(LogisticRegression(), two_names),
    variant(LogisticRegression(C=0.5), iris_names),
    *(variant(LogisticRegression(), data) for data in (
        true_or_false, odd_numbers, float32, two_objects, whole_numbers, one_number, wide_classes,
    )),
    variant(LogisticRegression(), two_apart32),
    variant(LogisticRegression(fit_intercept=False), iris),
    variant(LogisticRegression(fit_intercept=False), two_classes),
    variant(LogisticRegression(class_weight="balanced"), iris),
    variant(LogisticRegression(class_weight={1: 5.0, 2: 1.0}), two_classes),
    *(variant(LogisticRegression(solver=s), iris) for s in ("lbfgs", "newton-cg", "newton-cholesky", "sag", "saga")),
    variant(LogisticRegression(solver="liblinear"), two_names),
    variant(LogisticRegression(solver="liblinear", dual=True, intercept_scaling=3.0), two_classes),
    variant(LogisticRegression(solver="saga", l1_ratio=1.0), iris),
    variant(LogisticRegression(solver="saga", l1_ratio=0.5, C=0.2), two_classes),
    variant(LogisticRegressionCV(Cs=3, cv=3, l1_ratios=(0,), use_legacy_attributes=False), iris_names),
    variant(LogisticRegressionCV(Cs=3, cv=3, l1_ratios=(0,), use_legacy_attributes=False, refit=False), two_classes, since="1.9"),
    variant(
        LogisticRegressionCV(
            Cs=2, cv=3, solver="saga", l1_ratios=(0.2, 0.8), use_legacy_attributes=False, scoring="neg_log_loss"
        ),
        iris,
    ),
    *(variant(_sgd(loss=loss), iris_names) for loss in (
        "hinge", "modified_huber", "squared_hinge", "perceptron", "squared_error", "huber",
        "epsilon_insensitive", "squared_epsilon_insensitive",
    )),
    variant(_sgd(loss="log_loss"), iris_names, tflite=_LARGE_SCORES),
    *(variant(_sgd(loss=loss), two_classes) for loss in ("hinge", "log_loss", "modified_huber")),
    variant(_sgd(loss="log_loss"), apart32),
    variant(_sgd(loss="modified_huber"), apart32),
    *(variant(_sgd(loss=loss), float32_two) for loss in ("log_loss", "modified_huber")),
    *(variant(_sgd(penalty=penalty, l1_ratio=0.4), iris) for penalty in ("l1", "elasticnet", None)),
    variant(_sgd(loss="log_loss", fit_intercept=False, average=True), two_names),
    variant(_sgd(loss="log_loss", class_weight="balanced", early_stopping=True), true_or_false, tflite=_LARGE_SCORES),
    variant(Sparsified(random_state=0, loss="modified_huber", penalty="l1"), iris, what="sparsified"),
    variant(Perceptron(random_state=0), iris_names),
    variant(Perceptron(random_state=0, penalty="l2", fit_intercept=False), two_classes),
    variant(deprecated(PassiveAggressiveClassifier, random_state=0), iris_names),
    variant(deprecated(PassiveAggressiveClassifier, random_state=0, loss="squared_hinge", average=3), two_classes),
    variant(LinearSVC(random_state=0), iris_names),
    variant(LinearSVC(random_state=0), two_objects),
    variant(LinearSVC(random_state=0, multi_class="crammer_singer"), iris),
    variant(LinearSVC(random_state=0, multi_class="crammer_singer"), two_classes),
    variant(LinearSVC(random_state=0, penalty="l1", dual=False), iris),
    variant(LinearSVC(random_state=0, loss="hinge", fit_intercept=False, class_weight="balanced"), true_or_false),
    variant(RidgeClassifier(), iris_names),
    variant(RidgeClassifier(), two_classes),
    variant(RidgeClassifier(), many_labels),
    variant(RidgeClassifier(alpha=10.0, fit_intercept=False), float32),
    variant(RidgeClassifier(positive=True), iris),
    variant(RidgeClassifier(class_weight="balanced"), true_or_false),
    variant(RidgeClassifierCV(), iris_names),
    variant(RidgeClassifierCV(alphas=[0.1, 10.0], cv=3), two_classes),
    variant(RidgeClassifierCV(), many_labels),
)  # fmt: skip
