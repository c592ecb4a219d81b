"""Many classes by binary classifiers: one against the rest, one against one, output codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier, OutputCodeClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from tests.conformance.estimators.bagging import bools, one_class
from tests.conformance.estimators.data import apart32, iris, iris_names, missing, two_classes, two_names
from tests.conformance.estimators.multioutput import multi_label
from tests.conformance.estimators.table import variant


def label_of_all() -> Any:
    """Labels of which one has every row and one has none: constant predictors."""
    X, y = multi_label()
    return X, np.concatenate([np.ones((len(y), 1), int), y, np.zeros((len(y), 1), int)], axis=1)


def many_classes() -> Any:
    """40 classes in ten columns."""
    rng = np.random.default_rng(4)
    y = np.arange(240) % 40
    return rng.normal(size=(40, 10))[y] * 3 + rng.normal(size=(240, 10)), y


# Codes are all equally far from scores of 1e16 and more, and in float32 from much smaller ones.
_FAR = "rows have another answer"
_TREE = DecisionTreeClassifier(max_depth=3, random_state=0)
_SCALED = make_pipeline(StandardScaler(), LogisticRegression())

VARIANTS = (
    variant(OneVsRestClassifier(LogisticRegression()), iris),
    variant(OneVsRestClassifier(LogisticRegression()), iris_names),
    variant(OneVsRestClassifier(LogisticRegression()), two_names),
    variant(OneVsRestClassifier(LogisticRegression()), bools),
    variant(OneVsRestClassifier(LogisticRegression()), multi_label),
    variant(OneVsRestClassifier(LogisticRegression()), label_of_all),
    variant(OneVsRestClassifier(LogisticRegression()), many_classes),
    variant(OneVsRestClassifier(LogisticRegression()), apart32),
    variant(OneVsRestClassifier(_SCALED), iris_names),
    variant(OneVsRestClassifier(RidgeClassifier()), iris),
    variant(OneVsRestClassifier(LinearSVC()), multi_label),
    variant(OneVsRestClassifier(_TREE), iris_names),
    variant(OneVsRestClassifier(_TREE), missing),
    variant(OneVsRestClassifier(_TREE), multi_label),
    variant(OneVsRestClassifier(_TREE), label_of_all),
    variant(OneVsRestClassifier(LinearRegression()), iris),
    variant(OneVsRestClassifier(LinearRegression()), multi_label),
    variant(OneVsRestClassifier(LogisticRegression()), one_class, tflite="returns strings"),
    variant(OneVsOneClassifier(LogisticRegression()), iris),
    variant(OneVsOneClassifier(LinearSVC()), iris_names),
    variant(OneVsOneClassifier(LogisticRegression()), two_names),
    variant(OneVsOneClassifier(_TREE), two_classes),
    variant(OneVsOneClassifier(_TREE), iris_names),
    variant(OneVsOneClassifier(_SCALED), many_classes),
    variant(OneVsOneClassifier(SGDClassifier(random_state=0)), bools),
    variant(OutputCodeClassifier(LogisticRegression(), random_state=0), iris, tflite=_FAR),
    variant(OutputCodeClassifier(GaussianNB(), random_state=0), iris),
    variant(OneVsRestClassifier(GaussianNB()), two_names),
    variant(OutputCodeClassifier(LogisticRegression(), code_size=4, random_state=0), iris_names, tflite=_FAR),
    variant(OutputCodeClassifier(LinearSVC(), code_size=2.5, random_state=1), many_classes, tflite=_FAR),
    variant(OutputCodeClassifier(_TREE, code_size=4, random_state=0), iris_names),
)
