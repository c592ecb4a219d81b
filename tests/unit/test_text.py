"""Texts: rows that are documents or dicts, what is refused by name, and how little memory many terms take."""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

import edgeml
from edgeml import errors
from edgeml.bundle import open_bundle
from edgeml.converters import Block, Conversion
from edgeml.ir import Builder
from edgeml.runtimes.native import ARRAYS, PROGRAM, read_program
from edgeml.runtimes.native_front import TEXTS, read_front
from edgeml.sample import read_sample
from edgeml.schema import Schema

DOCUMENTS = np.array(
    ["the quick fox", "a lazy dog", "fox and dog", "quick quick dog", "lazy fox", "dog"] * 4, dtype=object
)
LABELS = np.array([0, 1, 0, 1, 0, 1] * 4)


# --- rows -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(DOCUMENTS, LABELS)
    path = tmp_path_factory.mktemp("text") / "m.edgeml"
    edgeml.compile(pipeline, list(DOCUMENTS), output=path).close()
    with edgeml.load(path) as loaded:
        yield pipeline, loaded


CONTAINERS = {
    "list": list, "tuple": tuple, "array": np.asarray, "fixed width": lambda x: x.astype(str), "Series": pd.Series,
    "string Series": lambda x: pd.Series(x, dtype="string"), "polars": lambda x: pl.Series(x.tolist()),
    "arrow": lambda x: pa.array(x.tolist()), "chunks": lambda x: pa.chunked_array([x[:3].tolist(), x[3:].tolist()]),
    "frame": lambda x: pd.DataFrame({"text": x}), "columns": lambda x: {"text": list(x)}, "2-D": lambda x: x[:, None],
    "dicts": lambda x: [{"text": t} for t in x], "lists": lambda x: [[t] for t in x],
}  # fmt: skip


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_documents_come_in_any_container(model, container):
    pipeline, loaded = model
    np.testing.assert_allclose(
        loaded.predict_proba(container(DOCUMENTS)), pipeline.predict_proba(DOCUMENTS), rtol=1e-12
    )


@pytest.mark.parametrize("row", ["fox dog", np.str_("fox dog"), {"text": "fox dog"}, ["fox dog"], ("fox dog",)])
def test_one_document(model, row):
    pipeline, loaded = model
    assert loaded.predict_one(row) == pipeline.predict(["fox dog"])[0]
    np.testing.assert_allclose(loaded.predict_proba_one(row), pipeline.predict_proba(["fox dog"])[0], rtol=1e-12)


@pytest.mark.parametrize(
    "X", ["a text", [], [None], ["a", float("nan")], [1.0], [b"bytes"], pd.DataFrame({"t": ["a"]}), 3]
)
def test_what_is_no_document_is_refused(model, X):
    with pytest.raises(errors.InputError):
        model[1].predict(X)


@pytest.mark.parametrize("row", [None, float("nan"), 5, b"x", [None], {"t": "a"}, []])
def test_what_is_not_one_document_is_refused(model, row):
    with pytest.raises(errors.InputError):
        model[1].predict_one(row)


def test_the_schema_says_that_rows_are_documents(model, tmp_path):
    schema = model[1].schema
    assert (schema.rows, schema.names, schema.columns[0].kind) == ("documents", ("text",), "string")
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    series = read_sample(model[0], pd.Series(DOCUMENTS, name="review"))
    assert series.schema.names == ("review",)
    for change in ({"rows": "pages"}, {"rows": "documents", "form": "matrix"}):
        with pytest.raises(errors.ManifestError):
            Schema.from_json({**schema.to_json(), **change})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.pop("arrays"), "lacks 'arrays'"),
        (lambda m: m["program"]["inputs"][0][2].__setitem__(0, "other"), "no such column"),
        (lambda m: m["program"]["outputs"][0].__setitem__(0, "other"), "not an input"),
        (lambda m: m["program"]["outputs"][0].__setitem__(1, "vector"), "vector|not an input"),
    ],
)
def test_a_malformed_front_is_refused(change, reason, model):
    bundle = open_bundle(model[1].path)
    member = bundle.json(TEXTS)
    change(member)

    class Changed:
        schema = bundle.schema
        member = staticmethod(bundle.member)

        def json(self, name):
            return member

    rest = read_program(bundle, PROGRAM, ARRAYS).program
    read_front(bundle, rest)
    with pytest.raises((errors.ManifestError, errors.ProgramError), match=reason):
        read_front(Changed(), rest)
    bundle.close()


def test_a_model_of_texts_records(model, tmp_path):
    loaded = model[1]
    loaded.record_to(tmp_path / "spool")
    try:
        loaded.predict(list(DOCUMENTS))
        loaded.predict_one("fox")
        with pytest.raises(errors.InputError):
            loaded.predict([None])
    finally:
        loaded.stop_recording()


def test_the_profile_holds_no_document(tmp_path):
    pipeline = make_pipeline(CountVectorizer(), LogisticRegression()).fit(DOCUMENTS, LABELS)
    with edgeml.compile(pipeline, np.repeat(DOCUMENTS, 20), output=tmp_path / "m.edgeml") as bundle:
        feature = bundle.json("profile.json")["features"][0]
    assert feature["categories"] == []
    assert not feature["complete"]


def test_dicts_may_lack_keys_and_have_others(tmp_path):
    rows = [{"city": "Oslo", "n": 1}, {"city": "Rome"}, {"n": 3.5}, {}] * 5
    pipeline = make_pipeline(DictVectorizer(), LogisticRegression()).fit(rows, np.arange(20) % 2)
    edgeml.compile(pipeline, rows, output=tmp_path / "m.edgeml", formats=["native", "onnx"]).close()
    asked = [{}, {"n": 2, "more": "x"}, {"city": "Paris"}, {"city": None}, {"n": True, "city": "Rome"}]
    asked += [{"n": "2"}, {"n": ["a", "b"]}, {"city": 5}, {"city": ["Oslo"]}, {"city": []}]  # of the other kind
    for engine in ("native", "onnx"):
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as loaded:
            np.testing.assert_allclose(loaded.predict_proba(asked), pipeline.predict_proba(asked), rtol=1e-12)
            assert [loaded.predict_one(row) for row in asked] == pipeline.predict(asked).tolist()


# --- refusals -------------------------------------------------------------------------------------------------------
def _lower(text):
    return text.lower()


def _words(text):
    return text.split()


REFUSED = {
    "preprocessor": (CountVectorizer(preprocessor=_lower), r"preprocessor='_lower'(.|\n)*before the pipeline"),
    "tokenizer": (TfidfVectorizer(tokenizer=str.split, token_pattern=None), r"tokenizer='split'(.|\n)*token_pattern"),
    "analyzer": (HashingVectorizer(analyzer=_words), r"analyzer='_words'(.|\n)*char_wb"),
    "strip_accents": (CountVectorizer(strip_accents=_lower), "strip_accents"),
    "token_pattern": (CountVectorizer(token_pattern=r"\w\w++"), r"token_pattern(.|\n)*possessive(.|\n)*classes"),
}


@pytest.mark.parametrize(("estimator", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_compiled_is_refused_by_name(estimator, message, tmp_path):
    pipeline = make_pipeline(estimator, LogisticRegression()).fit(DOCUMENTS, LABELS)
    with pytest.raises(errors.UnsupportedParameterError, match=message):
        edgeml.compile(pipeline, DOCUMENTS, output=tmp_path / "m.edgeml")


def test_files_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("some words")
    estimator = CountVectorizer(input="filename").fit([str(path)])
    with pytest.raises(errors.UnsupportedParameterError, match=r"input='filename'(.|\n)*read the files"):
        edgeml.compile(estimator, [str(path)] * 3, output=tmp_path / "m.edgeml")


def converted(estimator):
    builder = Builder()
    return Conversion(builder).convert(estimator, Block(builder.input("a", "float64"), names=["a"]), "")


def test_patches_are_refused():
    with pytest.raises(errors.UnsupportedEstimatorError, match=r"several rows of each row(.|\n)*before the pipeline"):
        converted(PatchExtractor().fit(np.zeros((1, 4, 4))))


def test_other_formats_say_why_they_cannot(model, tmp_path):
    assert "no strings" in model[1].manifest["missing"]["tflite"]
    assert "onnx" not in model[1].manifest["missing"]
    hashing = make_pipeline(HashingVectorizer(n_features=8), LogisticRegression()).fit(DOCUMENTS, LABELS)
    for pipeline, format, reason in ((model[0], "tflite", "no strings"), (hashing, "onnx", "bytes of a string")):
        with pytest.raises(errors.FormatError, match=rf"vectorizer takes texts apart(.|\n)*{reason}(.|\n)*native"):
            edgeml.compile(pipeline, DOCUMENTS, output=tmp_path / "m.edgeml", formats=[format])


def test_a_frame_for_documents_is_refused(model, tmp_path):
    with pytest.raises(errors.SampleError, match=r"takes documents(.|\n)*Series"):
        edgeml.compile(model[0], pd.DataFrame({"a": DOCUMENTS, "b": 1}), output=tmp_path / "m.edgeml")


# --- size -----------------------------------------------------------------------------------------------------------
_MEASURE = """
import resource, sys
import numpy as np
import edgeml
rng = np.random.default_rng(1)
texts = [" ".join(f"w{i}" for i in rng.integers(0, 100_000, 50)) for _ in range(1000)]
with edgeml.load(sys.argv[1], engine="native") as model:
    model.predict(texts[:2])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answers = model.predict_proba(texts)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    np.save(sys.argv[2], answers)
assert not {"sklearn", "scipy", "onnx"} & set(sys.modules)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_a_hundred_thousand_terms_never_become_dense_rows(tmp_path):
    """1,000 documents of 100,000 terms are 800 MB as dense rows; predicting them takes less than a tenth more."""
    assert resource.RUSAGE_SELF == 0
    rng = np.random.default_rng(0)
    texts = [" ".join(f"w{i}" for i in range(at, at + 500)) for at in range(0, 100_000, 500)]
    labels = rng.integers(0, 3, len(texts))
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression(tol=0.1, max_iter=500)).fit(texts, labels)
    assert len(pipeline[0].vocabulary_) == 100_000
    edgeml.compile(pipeline, texts[:40], output=tmp_path / "m.edgeml", formats=["native"]).close()
    found = subprocess.run(
        [sys.executable, "-c", _MEASURE, str(tmp_path / "m.edgeml"), str(tmp_path / "y.npy")],
        check=True,
        capture_output=True,
        text=True,
    )
    assert int(found.stdout) * 1024 < 80e6
    again = np.random.default_rng(1)
    asked = [" ".join(f"w{i}" for i in again.integers(0, 100_000, 50)) for _ in range(1000)]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), pipeline.predict_proba(asked), rtol=1e-9)


def test_trees_over_many_terms_read_few_columns(tmp_path):
    texts = [f"{t} u{i}" for i, t in enumerate(DOCUMENTS)]
    pipeline = make_pipeline(HashingVectorizer(n_features=2**18), RandomForestClassifier(3, random_state=0))
    pipeline.fit(texts, LABELS)
    edgeml.compile(pipeline, texts, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as loaded:
        np.testing.assert_array_equal(loaded.predict_proba(texts), pipeline.predict_proba(texts))


def test_texts_beside_numbers(tmp_path):
    frame = pd.DataFrame({"a": np.arange(24.0), "text": DOCUMENTS})
    columns = ColumnTransformer([("words", TfidfVectorizer(), "text")], remainder="passthrough")
    pipeline = make_pipeline(columns, LogisticRegression()).fit(frame, LABELS)
    edgeml.compile(pipeline, frame, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as loaded:
        assert loaded.schema.rows == "table"
        np.testing.assert_allclose(loaded.predict_proba(frame), pipeline.predict_proba(frame), rtol=1e-12)
        one = loaded.predict_one({"a": 3.0, "text": "fox"})
        assert one == pipeline.predict(pd.DataFrame({"a": [3.0], "text": ["fox"]}))[0]
        with pytest.raises(errors.InputError, match="missing document"):
            loaded.predict_one({"a": 3.0, "text": None})
        with pytest.raises(errors.NonFiniteError):
            loaded.predict_one({"a": float("nan"), "text": "fox"})
