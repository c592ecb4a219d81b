"""Vectorisers of dtypes a program has not: counts wrap round in narrow ones, and say in bool if there is any."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction import FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import edgeml
from edgeml import errors

DOCUMENTS = ["a1 " * 300 + "b2", "b2 b2 c3", "c3 a1", "d4 " * 200, "", "b2 d4"]
LABELS = [0, 1, 0, 1, 1, 0]
DTYPES = ["uint8", "bool", "int32", "float32", "int8", "int16", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "kind",
    [
        CountVectorizer(), CountVectorizer(binary=True), TfidfVectorizer(), TfidfVectorizer(norm=None, use_idf=False),
        HashingVectorizer(n_features=4, alternate_sign=False),
        HashingVectorizer(n_features=4, alternate_sign=False, norm=None), HashingVectorizer(n_features=2, norm=None),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Only.*should be used:UserWarning")  # TfidfVectorizer's, of every integer dtype
def test_counts_are_in_the_dtype_of_scikit_learn(kind, dtype, tmp_path):
    signed = getattr(kind, "alternate_sign", False)
    if signed and dtype.startswith("u"):
        pytest.skip("scikit-learn refuses negative numbers of an unsigned dtype")
    vectorizer = type(kind)(**{**kind.get_params(), "dtype": np.dtype(dtype).type}).fit(DOCUMENTS)
    formats = ["native"] if isinstance(kind, HashingVectorizer) else ["native", "onnx"]
    edgeml.compile(vectorizer, DOCUMENTS, output=tmp_path / "m.edgeml", formats=formats).close()
    want = vectorizer.transform(DOCUMENTS).toarray()
    for engine in formats:
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as model:
            found = model.transform(DOCUMENTS)
        assert np.asarray(found).dtype == want.dtype
        np.testing.assert_allclose(found, want, rtol=1e-6 if want.dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("dtype", DTYPES[:4])
def test_a_classifier_behind_them(dtype, tmp_path):
    pipeline = make_pipeline(CountVectorizer(dtype=np.dtype(dtype).type), LogisticRegression()).fit(DOCUMENTS, LABELS)
    edgeml.compile(pipeline, DOCUMENTS, output=tmp_path / "m.edgeml", formats=["native", "onnx"]).close()
    for engine in ("native", "onnx"):
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as model:
            found = model.predict_proba(DOCUMENTS)
        np.testing.assert_allclose(found, pipeline.predict_proba(DOCUMENTS), rtol=1e-6 if dtype == "float32" else 1e-9)


def test_a_hasher_of_narrow_numbers_is_refused(tmp_path):
    rows = [{"a": 1}, {"b": 2}]
    with pytest.raises(errors.UnsupportedParameterError, match=r"dtype='int8'(.|\n)*float64"):
        edgeml.compile(FeatureHasher(4, dtype=np.int8), rows, output=tmp_path / "m.edgeml")
