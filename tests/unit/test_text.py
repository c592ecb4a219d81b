"""Texts: terms as scikit-learn's analysers make them, sparse values as their dense meaning, rows that are documents or
dicts, and what is refused by name.
"""

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
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.image import PatchExtractor
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import murmurhash3_32

import edgeml
from edgeml import errors
from edgeml.ir import Builder, interpreter
from edgeml.ir.front import split_front
from edgeml.ir.ops import OPS
from edgeml.ir.program import Node, ValueType
from edgeml.ir.sparse import Sparse, dense, evaluate
from edgeml.ir.text import DEFAULT_PATTERN, Analyzer, murmur, token_pattern
from edgeml.sample import read_sample
from edgeml.schema import Schema

DOCUMENTS = np.array(
    ["the quick fox", "a lazy dog", "fox and dog", "quick quick dog", "lazy fox", "dog"] * 4, dtype=object
)
LABELS = np.array([0, 1, 0, 1, 0, 1] * 4)
# Letters of all kinds: combining marks, sharp s, dotless i, final sigma, ligatures, digits, spaces, surrogate pairs.
ALPHABET = "abz AZ 09_-'.\t\n\r\0\u00a0\u2003\u3000\u0301\u0327éÉßẞıİΣσςﬁⅣ½²日本한ि\U00010400\U0001d400\U0001f600"


def random_texts(seed: int, count: int) -> list[str]:
    rng = np.random.default_rng(seed)
    letters = list(ALPHABET)
    texts = ["".join(rng.choice(letters, rng.integers(0, 40))) for _ in range(count)]
    return [*texts, "", " ", "a", "ab", "\0", "word " * 50]


# --- terms ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
@pytest.mark.parametrize("ngrams", [(1, 1), (1, 3), (2, 2), (3, 9)])
@pytest.mark.parametrize("accents", [None, "ascii", "unicode"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_terms_are_those_of_scikit_learn(analyzer, ngrams, accents, lowercase):
    theirs = CountVectorizer(
        analyzer=analyzer, ngram_range=ngrams, strip_accents=accents, lowercase=lowercase
    ).build_analyzer()
    ours = Analyzer(analyzer, *ngrams, lowercase, accents or "", DEFAULT_PATTERN)
    for text in random_texts(7, 150):
        assert list(ours(text)) == theirs(text), text


PATTERNS = [
    DEFAULT_PATTERN, r"\b\w+\b", r"(?u)\b\w\w\w+\b", r"\w+", r"\w{1,}", r"\S+", r"[^\s]+", r"[a-z]+", r"\d", r"\d{2}\w*",
    r"\b[a-zA-Z]{3,}\b", r"(?u)\b[\w'-]+\b", r"#\w+", r"\w\w?", r"[A-Za-z0-9_]+", r"\w{2,5}", r".", r"\.\w+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_of_the_subset_means_what_it_means_to_python(pattern):
    theirs = CountVectorizer(token_pattern=pattern).build_analyzer()
    ours = Analyzer("word", 1, 1, True, "", pattern)
    for text in random_texts(8, 100):
        assert list(ours(text)) == theirs(text), text


@pytest.mark.parametrize(
    "pattern",
    [
        r"(a+)+b", r"(\w+)", r"\w+\w+", r"a|b", r"\w+?", r"\w*\d", r"(?i)\w+", r"(?=a)", r"\w?\w?\w?a", r"[a-z]+\b", r"\w{65}",
        r"\w{1,9}\w{1,9}", r"[[a]]+", r"", r"[z-a]+", r"\bx\b\b", r"\w{3,2}", "a" * 20, r"(?P<a>x)", r"\1", r"[a--b]+", r"^\w+",
    ],
)  # fmt: skip
def test_a_pattern_that_could_go_back_and_forth_is_none(pattern):
    assert token_pattern(pattern) is None


def test_a_bundle_brings_no_pattern_of_its_own():
    builder = Builder()
    x = builder.input("text", "string")
    settings = {"analyzer": "word", "low": 1, "high": 1, "lowercase": True, "accents": "", "stop_words": ()}
    with pytest.raises(errors.ProgramError, match="not one of ours"):
        builder.op("Terms", x, **settings, pattern=r"(\w+)+$", vocabulary=("a",), binary=False, dtype="int64")


def test_hashes_are_those_of_scikit_learn():
    for text in [*random_texts(9, 300), "x" * 5, "foo=bar"]:
        assert murmur(text) == murmurhash3_32(text.encode(), seed=0), text


# --- sparse values ----------------------------------------------------------------------------------------------------
def sparse_of(x):
    rows, columns = np.nonzero(x)
    return Sparse(x[rows, columns], columns, np.concatenate([[0], np.cumsum((x != 0).sum(axis=1))]), x.shape[1])


def cases():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.4)
    x[2] = 0.0
    row, column, weight = rng.normal(size=(1, 7)), rng.random((5, 1)) + 1, rng.normal(size=(7, 20))
    s = sparse_of(x)
    tree = {
        "roots": np.array([0], dtype=np.int32), "feature": np.array([5, -1, -1], dtype=np.int32),
        "threshold": np.array([0.1, 0, 0]), "left": np.array([1, 0, 1], dtype=np.int32),
        "right": np.array([2, 0, 0], dtype=np.int32), "missing_left": np.zeros(3, dtype=np.uint8),
        "category_set": np.full(3, -1, dtype=np.int32), "categories": np.zeros((0, 8), dtype=np.uint32),
        "leaf_values": np.array([[1.0], [2.0]]), "target": np.zeros(0, dtype=np.int32), "base": np.zeros(1),
    }  # fmt: skip
    ends = {"low": np.full(7, -9.0), "high": np.full(7, 9.0), "allow_nan": np.zeros(7, dtype=bool)}
    of_row = {"columns": np.arange(7), "what": "it", **ends}
    return [
        ("Mul", (s, row), {}), ("Mul", (s, s), {}), ("Div", (s, column), {}), ("Div", (s, row * 0), {}), ("Add", (s, row), {}),
        ("Add", (s, np.ones((1, 1))), {}), ("Equal", (s, np.zeros((1, 1))), {}), ("Log", (s,), {}), ("Abs", (s,), {}),
        ("Exp", (s,), {}), ("Neg", (s,), {}), ("Cast", (s,), {"to": "float32"}), ("ReduceSum", (s,), {}),
        ("ReduceMax", (s,), {}), ("ReduceMin", (s,), {}), ("Linear", (s,), {"weight": weight, "bias": weight[0]}),
        ("Linear", (s,), {"weight": np.full((7, 1), np.inf), "bias": np.zeros(1)}),
        ("Select", (s,), {"indices": np.array([6, 0, 3])}), ("Select", (s,), {"indices": np.array([1, 1])}),
        ("Concat", (s, column, s), {}), ("Concat", (column, s), {}), ("CheckFinite", (s,), {"allow_nan": False, "what": "it"}),
        ("CheckRange", (s,), of_row), ("Require", (s, column > 0), {"message": "", "kind": "input"}), ("Softmax", (s,), {}),
        ("TreeEnsemble", (s,), tree), ("TreeLeaves", (s,), tree), ("Where", (evaluate_one("Equal", s, np.zeros((1, 1))), np.zeros((1, 1)), s), {}),
        ("Minimum", (s, column), {}), ("ArgMax", (s,), {}),
    ]  # fmt: skip


def evaluate_one(op, *arguments, **attrs):
    return evaluate(Node(op, (), ValueType("float64", 1), attrs), list(arguments))


@pytest.mark.parametrize("op, arguments, attrs", cases(), ids=lambda x: x if isinstance(x, str) else None)
def test_a_sparse_value_is_its_dense_meaning_to_the_bit(op, arguments, attrs):
    with np.errstate(all="ignore"):
        found = dense(evaluate_one(op, *arguments, **attrs))
        wanted = OPS[op].evaluate(*map(dense, arguments), **attrs)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, np.broadcast_to(wanted, found.shape))


def test_what_stays_sparse():
    s = sparse_of(np.eye(4))
    row = np.arange(4.0)[None, :]
    zero = evaluate_one("Equal", s, np.zeros((1, 1)))
    logs = evaluate_one("Add", evaluate_one("Log", s), np.ones((1, 1)))
    assert zero.fill and logs.fill == -np.inf
    found = evaluate_one("Mul", evaluate_one("Where", zero, np.zeros((1, 1)), logs), row)
    assert isinstance(found, Sparse) and found.fill == 0
    assert not isinstance(evaluate_one("Add", s, row), Sparse)


def test_a_refused_cell_is_named_by_its_row_of_the_batch():
    builder = Builder()
    x = builder.input("text", "string")
    ok = ~builder.is_none(x)
    settings = {"analyzer": "word", "low": 1, "high": 1, "lowercase": True, "accents": "", "stop_words": ()}
    words = tuple(f"w{i}" for i in range(2**21))
    out = builder.op(
        "Terms", builder.require(x, ok, "is missing"), **settings,
        pattern=DEFAULT_PATTERN, vocabulary=words, binary=False, dtype="float64",
    )  # fmt: skip
    builder.output("y", [builder.sum(out)], "vector", "float64")
    program = builder.finish()
    good = interpreter.run(program, {"text": np.array(["w1 w2 w2", "w3", "no"], dtype=object)})
    assert good["y"].tolist() == [3, 1, 0]
    with pytest.raises(errors.InputError, match="row 4: is missing"):
        interpreter.run(program, {"text": np.array(["w1", "w2", "w3", "w4", None], dtype=object)})
    front, rest = split_front(program)
    assert [entry.name for entry in front.inputs] == ["text"]
    assert [entry.name for entry in rest.inputs] == list(front.outputs) and not rest.nodes


# --- rows -----------------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(DOCUMENTS, LABELS)
    path = tmp_path_factory.mktemp("text") / "m.edgeml"
    edgeml.compile(pipeline, list(DOCUMENTS), output=path).close()
    with edgeml.load(path) as loaded:
        yield pipeline, loaded


CONTAINERS = {
    "list": list, "tuple": tuple, "array": np.asarray, "fixed width": lambda x: np.asarray(x).astype(str), "Series": pd.Series,
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
    assert feature["categories"] == [] and not feature["complete"]


def test_dicts_may_lack_keys_and_have_others(tmp_path):
    rows = [{"city": "Oslo", "n": 1}, {"city": "Rome"}, {"n": 3.5}, {}] * 5
    pipeline = make_pipeline(DictVectorizer(), LogisticRegression()).fit(rows, np.arange(20) % 2)
    edgeml.compile(pipeline, rows, output=tmp_path / "m.edgeml", formats=["native", "onnx"]).close()
    asked = [{}, {"n": 2, "more": "x"}, {"city": "Paris"}, {"city": None}, {"n": True, "city": "Rome"}]
    for engine in ("native", "onnx"):
        with edgeml.load(tmp_path / "m.edgeml", engine=engine) as loaded:
            np.testing.assert_allclose(loaded.predict_proba(asked), pipeline.predict_proba(asked), rtol=1e-12)
            assert [loaded.predict_one(row) for row in asked] == pipeline.predict(asked).tolist()


def test_a_key_without_a_hash_is_refused(tmp_path):
    rows = [{"city": "Oslo", "n": 1}, {"city": "Rome"}] * 5
    pipeline = make_pipeline(FeatureHasher(16), LogisticRegression()).fit(rows, np.arange(10) % 2)
    edgeml.compile(pipeline, rows, output=tmp_path / "m.edgeml", formats=["native"]).close()
    with edgeml.load(tmp_path / "m.edgeml") as loaded:
        np.testing.assert_allclose(loaded.predict_proba([{}]), pipeline.predict_proba([{}]), rtol=1e-12)
        for row in ({"more": 1}, {"city": None}, {"n": None}, {"city": float("nan")}):
            with pytest.raises(errors.InputError):
                loaded.predict([row])


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
    "token_pattern": (CountVectorizer(token_pattern=r"(\w)\w+"), r"token_pattern(.|\n)*classes"),
    "dtype": (CountVectorizer(dtype=np.uint8), r"dtype='uint8'(.|\n)*float64"),
}


@pytest.mark.parametrize("estimator, message", REFUSED.values(), ids=REFUSED)
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


@pytest.mark.parametrize("kind", ["string", "pair"])
def test_tokens_are_refused_by_the_hasher(kind, tmp_path):
    from edgeml.converters.registry import Conversion

    with pytest.raises(errors.UnsupportedParameterError, match=rf"input_type='{kind}'(.|\n)*Counter"):
        builder = Builder()
        block = edgeml.converters.Block(builder.input("a", "float64"), names=["a"])
        Conversion(builder).convert(FeatureHasher(input_type=kind), block, "")


def test_patches_are_refused(tmp_path):
    with pytest.raises(errors.UnsupportedEstimatorError, match=r"several rows(.|\n)*before the pipeline"):
        from edgeml.converters.registry import Conversion

        builder = Builder()
        block = edgeml.converters.Block(builder.input("a", "float64"), names=["a"])
        Conversion(builder).convert(PatchExtractor().fit(np.zeros((1, 4, 4))), block, "")


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_other_formats_say_why_they_cannot(format, model, tmp_path):
    reason = {"onnx": "locale", "tflite": "no strings"}[format]
    assert reason in model[1].manifest["missing"][format]
    with pytest.raises(errors.FormatError, match=rf"tfidfvectorizer takes texts apart(.|\n)*{reason}(.|\n)*native"):
        edgeml.compile(model[0], DOCUMENTS, output=tmp_path / "m.edgeml", formats=[format])


def test_a_frame_for_documents_is_refused(model, tmp_path):
    with pytest.raises(errors.SampleError, match=r"takes documents(.|\n)*Series"):
        edgeml.compile(model[0], pd.DataFrame({"a": DOCUMENTS, "b": 1}), output=tmp_path / "m.edgeml")


def test_a_key_of_two_kinds_is_refused(tmp_path):
    rows = [{"a": 1}, {"a": "x"}] * 3
    with pytest.raises(errors.SampleError, match=r"'a'(.|\n)*strings and numbers"):
        edgeml.compile(DictVectorizer().fit(rows), rows, output=tmp_path / "m.edgeml")
    with pytest.raises(errors.SampleError, match=r"'a'(.|\n)*every key"):
        edgeml.compile(DictVectorizer().fit([{"a": 1, "b": 2}]), [{"b": 1}] * 3, output=tmp_path / "m.edgeml")


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
