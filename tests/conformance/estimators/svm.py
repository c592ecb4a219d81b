"""Support vector machines: every kernel of every class, votes and scores of many classes, Platt's probabilities."""

from __future__ import annotations

import numpy as np
from sklearn.svm import SVC, SVR, LinearSVC, LinearSVR, NuSVC, NuSVR, OneClassSVM

from tests.conformance.estimators.data import (
    float32,
    iris,
    iris_names,
    number,
    one_column,
    scaled,
    two_classes,
    two_names,
)
from tests.conformance.estimators.table import variant

KERNELS = ("linear", "poly", "rbf", "sigmoid")
ITERATED = "CouplePairs"
# Float32 keeps too few digits of a sum that cancels.
DIGITS = "relative error"


def two_truths():
    """Two classes called True and False."""
    X, y = two_classes()
    return X, y == 2


def many_classes():
    """Forty classes: 780 pairs."""
    rng = np.random.default_rng(5)
    y = np.arange(320) % 40
    return rng.normal(size=(40, 6))[y] + 0.2 * rng.normal(size=(320, 6)), y


def similarities():
    """Products of rows with each other, as a kernel that is computed before."""
    X, y = iris()
    X = X[:90]
    return X @ X.T, y[:90]


def similar_numbers():
    """Products of rows with each other, and a numeric target."""
    X, y = number()
    X = X[:90]
    return X @ X.T, y[:90]


def standard():
    """Columns of mean 0 and deviation 1, and three classes."""
    X, y = iris()
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def standard_number():
    """Columns of mean 0 and deviation 1, and a numeric target of deviation 1."""
    X, y = number()
    return (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()


def standard_names():
    """Columns of mean 0 and deviation 1, and two classes called by names."""
    X, y = two_names()
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def _of(kernel):
    return {"gamma": 0.02} if kernel == "sigmoid" else {}


def _one_class(kernel):
    """Standard columns of both signs have no linear kernel by which inliers stand out."""
    data = iris if kernel in ("linear", "poly") else standard
    return variant(
        OneClassSVM(kernel=kernel, nu=0.2, **_of(kernel)), data, tflite=DIGITS if kernel == "sigmoid" else ""
    )


VARIANTS = (
    *(variant(SVC(kernel=kernel, **_of(kernel)), standard) for kernel in KERNELS),
    *(variant(NuSVC(kernel=kernel, nu=0.2, **_of(kernel)), standard) for kernel in KERNELS),
    *(variant(SVR(kernel=kernel, C=0.1, **_of(kernel)), standard_number) for kernel in KERNELS),
    *(variant(NuSVR(kernel=kernel, C=0.1, **_of(kernel)), standard_number) for kernel in KERNELS),
    *(_one_class(kernel) for kernel in KERNELS),
    variant(SVC(kernel="precomputed"), similarities),
    variant(NuSVC(kernel="precomputed", nu=0.2), similarities),
    variant(SVR(kernel="precomputed"), similar_numbers),
    variant(NuSVR(kernel="precomputed"), similar_numbers),
    variant(OneClassSVM(kernel="precomputed", nu=0.2), similarities),
    variant(SVC(gamma="auto"), two_truths),
    variant(SVC(gamma=0.3, C=10.0), iris_names),
    variant(SVC(kernel="poly", degree=2, coef0=1.0), standard_names),
    variant(SVC(kernel="poly", degree=0), two_classes),
    variant(SVC(kernel="sigmoid", gamma=0.02, coef0=-0.2), standard_names),
    variant(SVC(class_weight="balanced", max_iter=20), iris_names),
    variant(SVC(decision_function_shape="ovo"), iris),
    variant(SVC(break_ties=True), iris_names),
    variant(SVC(break_ties=True, kernel="linear"), many_classes),
    variant(SVC(kernel="linear"), many_classes),
    variant(SVC(decision_function_shape="ovo", kernel="linear"), many_classes),
    variant(SVC(), scaled),
    variant(SVC(), float32),
    variant(SVC(), iris),
    variant(NuSVC(decision_function_shape="ovo", nu=0.2), iris_names),
    variant(NuSVC(break_ties=True, nu=0.2), iris),
    variant(NuSVC(class_weight="balanced", nu=0.2), two_names),
    variant(SVC(probability=True, random_state=0), iris, tflite=ITERATED),
    variant(SVC(probability=True, random_state=0, kernel="linear"), two_names, tflite=ITERATED),
    variant(SVC(probability=True, random_state=0, decision_function_shape="ovo"), iris, tflite=ITERATED),
    variant(NuSVC(probability=True, random_state=0, nu=0.2), iris_names, tflite=ITERATED),
    variant(SVR(gamma="auto", epsilon=0.5, C=2.0), one_column),
    variant(SVR(kernel="poly", degree=2, gamma=0.1, coef0=2.0, C=0.1), standard_number),
    variant(NuSVR(nu=0.3, C=5.0), one_column),
    variant(OneClassSVM(gamma=2.0, nu=0.3), one_column, tflite=DIGITS),
    variant(OneClassSVM(nu=0.2), iris),
    variant(LinearSVC(random_state=0), iris_names),
    variant(LinearSVC(random_state=0, multi_class="crammer_singer", fit_intercept=False), iris),
    variant(LinearSVC(random_state=0, penalty="l1", dual=False), two_truths),
    variant(LinearSVC(random_state=0), float32),
    variant(LinearSVR(random_state=0), number),
    variant(LinearSVR(random_state=0, fit_intercept=False, loss="squared_epsilon_insensitive"), one_column),
)
