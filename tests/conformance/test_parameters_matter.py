"""Nothing is dropped in silence: a converter that forgets one parameter is caught by the parity check.

Each case takes a variant with one parameter off its default, and a converter that is shown the estimator with the
default instead, as a converter that did not know the parameter would see it. Compiling must then fail, with no file.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import warnings

import numpy as np
import pytest
from sklearn import feature_extraction as extraction
from sklearn import kernel_approximation, linear_model, naive_bayes, neighbors, svm
from sklearn import preprocessing as prep
from sklearn.impute import KNNImputer

import edgeml
from edgeml.converters import CONVERTERS
from edgeml.errors import FormatError, ParityError
from tests.conformance.estimators.data import iris, missing, number, positive
from tests.conformance.estimators.text import documents

CASES = [
    (prep.StandardScaler(with_mean=False), "with_mean", iris),
    (prep.MinMaxScaler(clip=True), "clip", iris),
    (prep.Normalizer(norm="l1"), "norm", iris),
    (prep.Binarizer(threshold=1.5), "threshold", iris),
    (prep.KBinsDiscretizer(encode="ordinal"), "encode", iris),
    (prep.QuantileTransformer(n_quantiles=20, output_distribution="normal"), "output_distribution", iris),
    (prep.SplineTransformer(include_bias=False), "include_bias", iris),
    (kernel_approximation.AdditiveChi2Sampler(sample_steps=3), "sample_steps", positive),
    (KNNImputer(weights="distance"), "weights", missing),
    (neighbors.KNeighborsRegressor(weights="distance"), "weights", number),
    (neighbors.KNeighborsRegressor(n_neighbors=3), "n_neighbors", number),
    (neighbors.NearestCentroid(metric="manhattan"), "metric", iris),
    (svm.SVR(kernel="poly", degree=2), "degree", number),
    (svm.SVC(decision_function_shape="ovo"), "decision_function_shape", iris),
    (naive_bayes.BernoulliNB(binarize=2.0), "binarize", iris),
    (extraction.text.TfidfTransformer(sublinear_tf=True), "sublinear_tf", positive),
    (extraction.text.TfidfTransformer(norm="l1"), "norm", positive),
    (extraction.text.CountVectorizer(lowercase=False), "lowercase", documents),
    (extraction.text.CountVectorizer(strip_accents="unicode"), "strip_accents", documents),
    (extraction.text.CountVectorizer(ngram_range=(1, 2)), "ngram_range", documents),
    (extraction.text.CountVectorizer(analyzer="char_wb"), "analyzer", documents),
    (extraction.text.CountVectorizer(stop_words=["fox"], vocabulary=["fox", "dog"]), "stop_words", documents),
    (extraction.text.CountVectorizer(token_pattern=r"\b\w+\b"), "token_pattern", documents),
    (extraction.text.CountVectorizer(binary=True), "binary", documents),
    (extraction.text.HashingVectorizer(n_features=9, alternate_sign=False), "alternate_sign", documents),
    (extraction.text.HashingVectorizer(n_features=9, norm="l1"), "norm", documents),
]


def dropping(entry, parameter):
    """The converter, as if it did not know the parameter."""

    def convert(c, est, X):
        forgetful = copy.copy(est)
        setattr(forgetful, parameter, inspect.signature(type(est)).parameters[parameter].default)
        return entry.convert(c, forgetful, X)

    return dataclasses.replace(entry, convert=convert)


@pytest.mark.parametrize(
    ("estimator", "parameter", "data"), [c for c in CASES if c[1]], ids=lambda x: getattr(x, "__name__", repr(x))
)
def test_a_forgotten_parameter_is_caught(estimator, parameter, data, tmp_path, monkeypatch):
    X, y = data()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = estimator.fit(X, y)
    path = tmp_path / "m.edgeml"
    edgeml.compile(model, X, output=path, formats=["native"]).close()
    path.unlink()
    key = f"sklearn.{type(estimator).__name__}"
    monkeypatch.setitem(CONVERTERS, key, dropping(CONVERTERS[key], parameter))
    with pytest.raises((ParityError, FormatError, ValueError)) as caught:
        edgeml.compile(model, X, output=path, formats=["native"])
    assert isinstance(caught.value, ParityError), caught.value
    assert not path.exists()


def test_an_unknown_parameter_is_refused(tmp_path):
    """A parameter that a newer scikit-learn brings is refused where it is not at its default."""

    class Ridge(linear_model.Ridge):
        def __init__(self, alpha=1.0, *, temper=0):
            super().__init__(alpha)
            self.temper = temper

    Ridge.__module__ = "sklearn.linear_model"
    Ridge.__qualname__ = "Ridge"
    X = np.random.default_rng(0).normal(size=(30, 2))
    edgeml.compile(Ridge().fit(X, X[:, 0]), X, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with pytest.raises(edgeml.errors.UnsupportedParameterError, match=r"Ridge\(temper=1\) cannot be compiled"):
        edgeml.compile(Ridge(temper=1).fit(X, X[:, 0]), X, output=tmp_path / "n.edgeml")
