"""Naive Bayes: the joint log-likelihood of each class, a sum over the columns, and its shares.

In comes a fitted GaussianNB, MultinomialNB, ComplementNB, BernoulliNB or CategoricalNB; out go ``predict``,
``predict_proba`` and ``predict_log_proba``. Smoothing and priors are in the fitted arrays: new rows need neither.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.likelihood import classified, row
from edgeml.converters.products import affine, numeric
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

_SMOOTHING = ("alpha", "force_alpha", "fit_prior", "class_prior")


@converter("sklearn.GaussianNB", ignores=("priors", "var_smoothing"))
def gaussian(c: Conversion, est: Any, X: Block) -> Outputs:
    """log(prior) - 0.5 sum(log(2 pi var)) - 0.5 sum((x - mean)^2 / var), class by class."""
    x = numeric(c, est, X)
    distances = []
    for mean, var in zip(est.theta_, est.var_, strict=True):
        off = x - mean
        distances.append(c.builder.sum((off * off) / var))
    normaliser = -0.5 * np.sum(np.log(2.0 * np.pi * est.var_), axis=1)
    log_density = normaliser - 0.5 * c.builder.concat(distances)
    return classified(c, est, np.log(est.class_prior_) + log_density)


@converter("sklearn.MultinomialNB", ignores=_SMOOTHING)
def multinomial(c: Conversion, est: Any, X: Block) -> Outputs:
    """Counts times the features' log probabilities, plus the log prior."""
    return classified(c, est, affine(numeric(c, est, X), est.feature_log_prob_.T, est.class_log_prior_))


@converter("sklearn.ComplementNB", honours=("norm",), ignores=_SMOOTHING)
def complement(c: Conversion, est: Any, X: Block) -> Outputs:
    """Counts times the weights of the complements; the prior counts only where there is one class."""
    prior = est.class_log_prior_ if len(est.classes_) == 1 else 0.0
    return classified(c, est, affine(numeric(c, est, X), est.feature_log_prob_.T, prior))


@converter("sklearn.BernoulliNB", honours=("binarize",), ignores=_SMOOTHING)
def bernoulli(c: Conversion, est: Any, X: Block) -> Outputs:
    """Log odds of the cells above ``binarize`` (of the cells themselves where it is None), plus what absence gives."""
    x = numeric(c, est, X)
    if est.binarize is not None:
        # A Python number meets float32 cells in float32, one of NumPy's own types in that type.
        threshold = row(est.binarize) if isinstance(est.binarize, np.generic) else est.binarize
        x = (x.cast("int64") if x.dtype == "bool" else x) > threshold
    with np.errstate(divide="ignore"):  # a feature that a class always has: absence then counts minus infinity
        absent = np.log(1 - np.exp(est.feature_log_prob_))
    return classified(c, est, affine(x, (est.feature_log_prob_ - absent).T, est.class_log_prior_ + absent.sum(axis=1)))


@converter("sklearn.CategoricalNB", honours=("min_categories",), ignores=_SMOOTHING)
def categorical(c: Conversion, est: Any, X: Block) -> Outputs:
    """The log probability of each column's category, added column by column, plus the log prior.

    All columns are one-hot encoded at once, so that the program does not grow with their number. Cells are cut to
    whole numbers; a category below 0, or that the column does not have, is refused as scikit-learn refuses it.
    """
    builder = c.builder
    codes = numeric(c, est, X).cast("int64")
    counts = np.array([table.shape[1] for table in est.feature_log_prob_], dtype=np.int64)
    known = (codes >= 0) & (codes < counts)
    message = f"{c.place(est)} was given a category that it has not seen in training, which scikit-learn refuses too"
    codes = builder.require(codes, known, message, "category")
    category = np.concatenate([np.arange(count, dtype=np.int64) for count in counts])
    hot = (codes.select(np.repeat(np.arange(len(counts)), counts)) == category).cast("float64")
    weight = np.concatenate([table.T for table in est.feature_log_prob_])
    # Without smoothing a category may be impossible in a class; 0 times minus infinity would be NaN.
    impossible = np.isneginf(weight)
    joint = builder.linear(hot, np.where(impossible, 0.0, weight))
    if impossible.any():
        joint = builder.where(_any(hot, impossible), -np.inf, joint)
    return classified(c, est, joint + est.class_log_prior_)


def _any(hot: Value, marked: Any) -> Value:
    """Whether a row has a 1 where a column of ``marked`` is true, bool (rows, columns of ``marked``)."""
    return hot.builder.linear(hot, marked.astype(np.float64)) > 0.0
