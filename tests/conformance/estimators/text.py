"""Texts: vectorisers in all their settings, TF-IDF over counts, dicts, and what stands behind them in a pipeline."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction import DictVectorizer, FeatureHasher
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest, chi2
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, Normalizer, StandardScaler
from sklearn.svm import LinearSVC

from tests.conformance.estimators.data import float32, positive, two_classes
from tests.conformance.estimators.table import variant

_WORDS = (  # noqa: SIM905  # a sentence reads better than forty quoted words
    "The quick brown fox jumps over a lazy dog and was not seen again Café café naïve NAÏVE Straße STRASSE ΟΔΟΣ οδός "
    "İstanbul ılık don't e-mail x2 2020 42 日本語 テキスト Ünïcode ﬁne Ⅳ 𝐀𝐁 e\u0301te\u0301 résumé well-known it's"
).split()


@cache
def _documents() -> Any:
    rng = np.random.default_rng(4)
    y = rng.integers(0, 3, 96)
    texts = np.empty(len(y), dtype=object)
    for at, label in enumerate(y):
        words = rng.choice(_WORDS, rng.integers(0, 12), p=_chances(label))
        texts[at] = rng.choice([" ", "  ", ", ", "\n", "_", "\t"]).join(words.tolist())
    texts[:3] = "the fox and the dog", "", "was not"
    return texts, y


def _chances(label: int) -> Any:
    size = 1.0 + 3.0 * (np.arange(len(_WORDS)) % 3 == label)
    return size / size.sum()


def documents() -> Any:
    """Documents of many scripts, and three classes."""
    return _documents()


def document_names() -> Any:
    """A Series of documents, and classes called by names."""
    texts, y = _documents()
    return pd.Series(texts, name="review"), np.array(["bad", "good", "odd"])[y]


def document_numbers() -> Any:
    """Documents and a numeric target."""
    texts, y = _documents()
    return texts, np.array([len(t) for t in texts]) / 7 + y


def frame() -> Any:
    """A frame with a column of documents, two of numbers and one of categories."""
    texts, y = _documents()
    rng = np.random.default_rng(5)
    columns = {"a": rng.normal(size=len(y)) + y, "text": texts, "b": rng.normal(size=len(y)) * 100}
    return pd.DataFrame(columns), y


def dicts() -> Any:
    """Dicts of numbers and strings with absent keys, and two classes."""
    rng = np.random.default_rng(6)
    rows = np.empty(60, dtype=object)
    for at in range(60):
        row = {"city": str(rng.choice(["Oslo", "Łódź", "=x"])), "size": float(rng.normal()), "n": int(rng.integers(3))}
        rows[at] = {k: v for k, v in row.items() if rng.random() < 0.8}
    rows[0] = {"city": "Oslo", "size": 1.5, "n": 2}
    return rows, np.arange(60) % 2


def lists() -> Any:
    """Lists of strings, empty ones among them, and two classes."""
    rng = np.random.default_rng(7)
    rows = np.empty(40, dtype=object)
    for at in range(40):
        rows[at] = rng.choice(_WORDS, rng.integers(0, 6)).tolist()
    return rows, np.arange(40) % 2


def pairs() -> Any:
    """Lists of pairs of a name and a number or a string, names repeated, and two classes."""
    rng = np.random.default_rng(8)
    rows = np.empty(40, dtype=object)
    for at in range(40):
        values = [float(rng.normal()), int(rng.integers(-2, 3)), "x", "Ü"]
        rows[at] = [(str(rng.choice(_WORDS)), values[rng.integers(4)]) for _ in range(rng.integers(0, 6))]
    return rows, np.arange(40) % 2


def dicts_of_lists() -> Any:
    """Dicts with lists of strings, and a key that holds both strings and numbers."""
    rows, y = dicts()
    rows = rows.copy()
    for at in range(len(rows)):
        rows[at] = {**rows[at], "tags": ["a", "b", "a"][: at % 4], "mixed": "x" if at % 3 else 2.5}
    return rows, y


_NO = {"tflite": "TFLite has no strings"}
_NO_HASH = {"onnx": "bytes of a string"}  # which onnxruntime does not give
_NO_ITEMS = {"onnx": "no lists or dicts"}


def _texts(estimator: Any, data: Any = documents, **more: Any) -> Any:
    return variant(estimator, data, **{**_NO, **more})


def _with(vectorizer: Any, last: Any, data: Any = documents, **more: Any) -> Any:
    return _texts(make_pipeline(vectorizer, last), data, of=type(last).__name__, **more)


_columns = ColumnTransformer([("words", TfidfVectorizer(), "text"), ("numbers", StandardScaler(), ["a", "b"])])
_union = FeatureUnion(
    [("word", TfidfVectorizer(ngram_range=(1, 2))), ("char", CountVectorizer(analyzer="char_wb", ngram_range=(2, 3)))],
    transformer_weights={"word": 2.0},
)

VARIANTS = (
    _texts(CountVectorizer()),
    _texts(CountVectorizer(), document_names),
    _texts(CountVectorizer(lowercase=False)),
    _texts(CountVectorizer(strip_accents="ascii")),
    _texts(CountVectorizer(strip_accents="unicode")),
    _texts(CountVectorizer(strip_accents="unicode", lowercase=False)),
    _texts(CountVectorizer(stop_words="english")),
    _texts(CountVectorizer(stop_words=["fox", "οδός"], ngram_range=(1, 2))),
    _texts(CountVectorizer(ngram_range=(1, 3))),
    _texts(CountVectorizer(ngram_range=(2, 2))),
    _texts(CountVectorizer(analyzer="char")),
    _texts(CountVectorizer(analyzer="char", ngram_range=(1, 3))),
    _texts(CountVectorizer(analyzer="char", ngram_range=(3, 4), lowercase=False, strip_accents="ascii")),
    _texts(CountVectorizer(analyzer="char_wb")),
    _texts(CountVectorizer(analyzer="char_wb", ngram_range=(3, 5))),
    _texts(CountVectorizer(analyzer="char_wb", ngram_range=(1, 4), strip_accents="unicode")),
    _texts(CountVectorizer(token_pattern=r"(?u)\b\w+\b")),
    _texts(CountVectorizer(token_pattern=r"\b[a-zA-Z]{3,}\b")),
    _texts(CountVectorizer(token_pattern=r"[^\s]+")),
    _texts(CountVectorizer(token_pattern=r"(?u)\b[\w'-]+\b"), onnx="for letters beyond ASCII"),
    _texts(CountVectorizer(token_pattern=r"\d+")),
    _texts(CountVectorizer(token_pattern=r"\w+|[^\w\s]+"), onnx="one variable count"),
    _texts(CountVectorizer(token_pattern=r"(\w\w+)")),
    _texts(TfidfVectorizer(token_pattern=r"[a-zA-Z]+(?:'[a-z]+)?"), onnx="one variable count"),
    _texts(CountVectorizer(dtype=np.uint8)),
    _texts(CountVectorizer(dtype=np.bool_)),
    _texts(CountVectorizer(binary=True)),
    _texts(CountVectorizer(dtype=np.float32)),
    _texts(CountVectorizer(dtype=np.int32)),
    _texts(CountVectorizer(max_df=0.5, min_df=2, max_features=9)),
    _texts(CountVectorizer(vocabulary=["dog", "fox", "never", "οδος"])),
    _texts(TfidfVectorizer()),
    _texts(TfidfVectorizer(norm="l1")),
    _texts(TfidfVectorizer(norm=None)),
    _texts(TfidfVectorizer(use_idf=False)),
    _texts(TfidfVectorizer(smooth_idf=False)),
    _texts(TfidfVectorizer(sublinear_tf=True)),
    _texts(TfidfVectorizer(sublinear_tf=True, norm="l1", binary=True)),
    _texts(TfidfVectorizer(dtype=np.float32)),
    _texts(TfidfVectorizer(dtype=np.float32, sublinear_tf=True, norm="l1")),
    _texts(TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)),
    _texts(HashingVectorizer(n_features=64), **_NO_HASH),
    _texts(HashingVectorizer(n_features=13, norm="l1", alternate_sign=False), **_NO_HASH),
    _texts(HashingVectorizer(n_features=5, norm=None, binary=True), **_NO_HASH),
    _texts(HashingVectorizer(n_features=7, norm=None, dtype=np.float32), **_NO_HASH),
    _texts(HashingVectorizer(n_features=100, analyzer="char_wb", ngram_range=(2, 3)), **_NO_HASH),
    variant(TfidfTransformer(), positive),
    variant(TfidfTransformer(), float32),
    variant(TfidfTransformer(norm="l1"), positive),
    variant(TfidfTransformer(norm=None, use_idf=False, sublinear_tf=True), positive),
    variant(TfidfTransformer(smooth_idf=False, sublinear_tf=True), positive),
    variant(make_pipeline(TfidfTransformer(), LogisticRegression()), two_classes, of="TfidfTransformer"),
    _with(TfidfVectorizer(), LogisticRegression()),
    _with(TfidfVectorizer(norm=None), LogisticRegression(), document_names),
    _with(CountVectorizer(), SGDClassifier(random_state=0)),
    _with(CountVectorizer(), LinearSVC()),
    _with(CountVectorizer(), MultinomialNB()),
    _with(CountVectorizer(ngram_range=(1, 2)), ComplementNB()),
    _with(CountVectorizer(binary=True), BernoulliNB()),
    _with(TfidfVectorizer(), TruncatedSVD(3, random_state=0)),
    _with(TfidfVectorizer(), Ridge(), document_numbers),
    _with(TfidfVectorizer(dtype=np.float32), LogisticRegression()),
    _with(TfidfVectorizer(), MLPClassifier((5,), max_iter=20, random_state=0)),
    _with(TfidfVectorizer(), RandomForestClassifier(5, random_state=0)),
    _with(TfidfVectorizer(), KMeans(3, n_init=1, random_state=0)),
    _with(HashingVectorizer(n_features=2**20), LogisticRegression(), **_NO_HASH),
    _texts(make_pipeline(CountVectorizer(), TfidfTransformer(), LogisticRegression()), of="TfidfTransformer"),
    _texts(make_pipeline(CountVectorizer(), MaxAbsScaler(), LogisticRegression()), of="MaxAbsScaler"),
    _texts(make_pipeline(CountVectorizer(), Normalizer("max"), LogisticRegression()), of="Normalizer"),
    _texts(make_pipeline(CountVectorizer(), StandardScaler(with_mean=False), LinearSVC()), of="StandardScaler"),
    _texts(make_pipeline(TfidfVectorizer(), SelectKBest(chi2, k=7), LogisticRegression()), of="SelectKBest"),
    _texts(make_pipeline(_union, LogisticRegression()), of="FeatureUnion"),
    _texts(make_pipeline(_columns, LogisticRegression()), frame, of="ColumnTransformer"),
    _texts(make_pipeline(_columns, RandomForestClassifier(5, random_state=0)), frame, of="ColumnTransformer"),
    _texts(
        GridSearchCV(make_pipeline(TfidfVectorizer(), LogisticRegression()), {"logisticregression__C": [1, 5]}, cv=2),
        of="GridSearchCV",
    ),
    variant(DictVectorizer(), dicts),
    variant(DictVectorizer(sparse=False, separator=": "), dicts),
    variant(DictVectorizer(sort=False, dtype=np.float32), dicts),
    variant(make_pipeline(DictVectorizer(), LogisticRegression()), dicts, of="DictVectorizer"),
    _texts(FeatureHasher(n_features=32), dicts, **_NO_ITEMS),
    _texts(FeatureHasher(n_features=6, alternate_sign=False, dtype=np.float32), dicts, **_NO_ITEMS),
    _texts(
        make_pipeline(FeatureHasher(n_features=2**18), LogisticRegression()), dicts, of="FeatureHasher", **_NO_ITEMS
    ),
    _texts(DictVectorizer(), dicts_of_lists, **_NO_ITEMS),
    _texts(DictVectorizer(sparse=False, separator=": ", dtype=np.float32), dicts_of_lists, **_NO_ITEMS),
    _texts(FeatureHasher(n_features=32, input_type="string"), lists, **_NO_ITEMS),
    _texts(FeatureHasher(n_features=7, input_type="string", alternate_sign=False, dtype=np.int64), lists, **_NO_ITEMS),
    _texts(FeatureHasher(n_features=16, input_type="pair"), pairs, **_NO_ITEMS),
    _texts(FeatureHasher(n_features=5, input_type="pair", dtype=np.float32), pairs, **_NO_ITEMS),
    _texts(
        make_pipeline(FeatureHasher(input_type="string"), LogisticRegression()), lists, of="FeatureHasher", **_NO_ITEMS
    ),
)
