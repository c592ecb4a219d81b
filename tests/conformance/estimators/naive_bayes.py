"""Naive Bayes in all five kinds."""

from __future__ import annotations

import numpy as np
from sklearn.naive_bayes import BernoulliNB, CategoricalNB, ComplementNB, GaussianNB, MultinomialNB

from tests.conformance.estimators.data import (
    float32,
    iris,
    iris_names,
    one_column,
    positive,
    scaled,
    two_classes,
    two_names,
)
from tests.conformance.estimators.table import variant


def one_class():
    """A single class."""
    X, y = positive()
    return X, np.zeros_like(y)


def whole_numbers():
    """Counts, and bool classes."""
    X, y = positive()
    return X, y > 0


def bits():
    """Zeros and ones as numbers, three classes."""
    X, y = positive()
    return (X > 0).astype(np.float64), y


def truths():
    """Columns of bool, three classes."""
    X, y = positive()
    return X > 0, y


def codes():
    """Codes of up to eight categories as float64, and classes by name."""
    X, y = positive()
    return np.minimum(X, 7).astype(np.float64), np.array(["low", "mid", "top"])[y]


def one_code():
    """One column of codes."""
    X, y = codes()
    return X[:, :1], y


def one_number():
    """A single column, two classes."""
    X, y = one_column()
    return X, (y > y.mean()).astype(int)


def float32_counts():
    """Counts in float32."""
    X, y = positive()
    return X.astype(np.float32), y


VARIANTS = (
    variant(GaussianNB(), iris),
    variant(GaussianNB(), iris_names),
    variant(GaussianNB(), two_names),
    variant(GaussianNB(), float32),
    variant(GaussianNB(), one_number),
    variant(GaussianNB(), one_class),
    variant(GaussianNB(), whole_numbers),
    variant(GaussianNB(priors=[0.1, 0.2, 0.7]), iris),
    variant(GaussianNB(var_smoothing=0.1), scaled, tflite="tflite engine, awkward rows"),  # of one row in 1e6
    variant(MultinomialNB(), positive),
    variant(MultinomialNB(), whole_numbers),
    variant(MultinomialNB(), one_class),
    variant(MultinomialNB(), float32_counts),
    variant(MultinomialNB(alpha=0.2), codes),
    variant(MultinomialNB(alpha=[0.1, 0.2, 0.3, 0.4, 0.5]), positive),
    variant(MultinomialNB(fit_prior=False), positive),
    variant(MultinomialNB(class_prior=[0.2, 0.3, 0.5]), positive),
    variant(ComplementNB(), positive),
    variant(ComplementNB(norm=True), positive),
    variant(ComplementNB(alpha=0.1), codes, tflite="tflite engine, awkward rows: predict"),
    variant(ComplementNB(), one_class),
    variant(ComplementNB(), whole_numbers),
    variant(BernoulliNB(), positive),
    variant(BernoulliNB(binarize=1.5), positive),
    variant(BernoulliNB(binarize=5.0), two_classes),
    variant(BernoulliNB(binarize=None), bits),
    variant(BernoulliNB(), truths),
    variant(BernoulliNB(binarize=0.5), float32_counts),
    variant(BernoulliNB(binarize=np.float64(0.1)), float32),
    variant(BernoulliNB(fit_prior=False, alpha=0.3), whole_numbers),
    variant(BernoulliNB(class_prior=[0.2, 0.3, 0.5]), codes),
    variant(BernoulliNB(), one_class),
    variant(CategoricalNB(), codes),
    variant(CategoricalNB(), one_code),
    variant(CategoricalNB(), whole_numbers),
    variant(CategoricalNB(), truths),
    variant(CategoricalNB(min_categories=20), codes),
    variant(CategoricalNB(min_categories=[20, 9, 20, 9, 20], alpha=0.2), codes),
    variant(CategoricalNB(alpha=0, force_alpha=True), bits),
    variant(CategoricalNB(fit_prior=False), codes),
    variant(CategoricalNB(class_prior=[0.2, 0.3, 0.5]), codes),
)
