"""Documents that are bytes, decoded as the vectoriser says, and lists under a key that held single strings."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import edgeml
from edgeml import errors
from edgeml.schema import Schema

TEXTS = ["déjà vu", "the Über fox", "naïve fox", "vu déjà the"] * 5
LABELS = [0, 1, 1, 0] * 5


@pytest.mark.parametrize(
    "vectorizer",
    [
        TfidfVectorizer(), CountVectorizer(encoding="latin-1"), HashingVectorizer(n_features=16, encoding="utf-16"),
        CountVectorizer(decode_error="ignore"), CountVectorizer(decode_error="replace", encoding="ascii"),
    ],
    ids=str,
)  # fmt: skip
def test_bytes_are_decoded_as_the_vectoriser_says(vectorizer, tmp_path):
    documents = [text.encode(vectorizer.encoding if vectorizer.encoding != "ascii" else "utf-8") for text in TEXTS]
    pipeline = make_pipeline(vectorizer, LogisticRegression()).fit(documents, LABELS)
    want = pipeline.predict_proba(documents)
    edgeml.compile(pipeline, documents, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        for X in (documents, np.array(documents, dtype=object), pd.Series(documents), tuple(documents)):
            np.testing.assert_allclose(model.predict_proba(X), want, rtol=1e-12)
        mixed = [*documents[:2], *TEXTS[2:]]
        np.testing.assert_allclose(model.predict_proba(mixed), pipeline.predict_proba(mixed), rtol=1e-12)
        np.testing.assert_allclose(model.predict_proba_one(documents[0]), want[0], rtol=1e-12)
        np.testing.assert_allclose(model.predict_proba_one(TEXTS[0]), pipeline.predict_proba(TEXTS[:1])[0], rtol=1e-12)
        assert model.schema.encoding == (vectorizer.encoding, vectorizer.decode_error)
        assert Schema.from_json(json.loads(json.dumps(model.schema.to_json()))) == model.schema


def test_bytes_that_are_no_text_are_refused(tmp_path):
    documents = [text.encode() for text in TEXTS]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(documents, LABELS)
    with pytest.raises(errors.SampleError, match="row 1: the document is no utf-8"):
        edgeml.compile(pipeline, [b"a", b"\xff"], output=tmp_path / "m.edgeml")
    edgeml.compile(pipeline, documents, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        for ask in (lambda: model.predict([b"a", b"\xff"]), lambda: model.predict_one(b"\xff")):
            with pytest.raises(errors.ColumnTypeError, match=r"the document is no utf-8(.|\n)*replace"):
                ask()
        with pytest.raises(errors.InputError):
            model.predict([b"a", None])
        for encoding in (
            ["zip", "strict"],
            ["idna", "strict"],
            ["utf-8", "x"],
            "utf-8",
            ["a\0", "strict"],
            [1, "strict"],
        ):
            with pytest.raises(errors.ManifestError, match="encoding"):
                Schema.from_json({**model.schema.to_json(), "encoding": encoding})


def test_a_list_under_a_key_of_single_strings(tmp_path):
    rows = [{"t": "a", "n": 1}, {"t": "b", "n": 2}] * 4
    vectorizer = DictVectorizer(sparse=False).fit(rows)
    edgeml.compile(vectorizer, rows, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        for row in ({"t": ["a"]}, {"t": ("b",)}, {"t": {"a"}}, {"t": []}, {"n": ["a", "b"]}):
            np.testing.assert_array_equal(model.transform([row]), vectorizer.transform([row]))
        with pytest.raises(errors.ColumnTypeError, match=r"'t', row 1: a list of 2 strings(.|\n)*sample"):
            model.transform([{"t": "a"}, {"t": ["a", "b"]}])
    edgeml.compile(vectorizer, [*rows, {"t": ["a"]}], output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as model:
        np.testing.assert_array_equal(model.transform([{"t": ["a", "b"]}]), vectorizer.transform([{"t": ["a", "b"]}]))
