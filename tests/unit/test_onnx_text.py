"""Texts in ONNX: the characters of all scripts, the final sigma, white space, and what the operators cannot do."""

import random
import sys

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

import edgeml
from edgeml import errors
from edgeml.ir.text import DEFAULT_PATTERN, token_pattern
from edgeml.runtimes import onnx as engine
from edgeml.targets import onnx_text_classes as classes

TRAIN = [
    "The quick fox, the lazy dog", "Straße STRASSE ẞ", "ΟΔΟΣ οδός ΑΣ Σ", "İstanbul ıssız I", "e\u0301te\u0301 ÉTÉ",
    "ﬁn Ⅳ ½", "日本語 한국어 हिन्दी", "a\tb\r\nc\u2028d", "x_y 42 don't", "\U0001d400\U00010400 😀", "a  b   c", " ",
]  # fmt: skip
# One letter behind, before and between what a sigma looks at and through.
SIGMAS = [
    "ΑΣ", "Σ", "ΣΑ", "ΑΣΑ", "ΑΣ.", "ΑΣ.Α", "Α.Σ", ".Σ", "Α'Σ'", "ΑΣ'Α", "ΣΣ ΣΣΣ", "1Σ", "αʰΣ", "ͅΣ", "aͅΣ", "AΣ\u0301",
    "A\u0301Σ\u0301b", "AΣ\u00adB", "AΣ \u00adB", "AΣ😀", "ßΣ", "日Σ", "AΣ\0",
]  # fmt: skip


def every_character():
    """Each code point once, in documents of 500, with a capital sigma or a space behind some."""
    points = [chr(c) for c in range(sys.maxunicode + 1) if not 0xD800 <= c < 0xE000]
    rng = random.Random(1)
    rng.shuffle(points)
    some = points[:40_000]
    return [
        "".join(c + rng.choice(["", "", "a", " ", "Σ", "\t "]) for c in some[at : at + 500])
        for at in range(0, len(some), 500)
    ]


def check(vectorizer, documents, tmp_path, train=TRAIN):
    vectorizer.fit([*train, *documents[:20]])
    edgeml.compile(vectorizer, train, output=tmp_path / "m.edgeml", formats=["onnx"]).close()
    with edgeml.load(tmp_path / "m.edgeml", engine="onnx") as model:
        np.testing.assert_array_equal(model.transform(documents), vectorizer.transform(documents).toarray())
        one = vectorizer.transform(documents[:1]).toarray()
        np.testing.assert_array_equal(model.transform(documents[:1]), one)


@pytest.mark.parametrize(
    "vectorizer",
    [
        CountVectorizer(),
        CountVectorizer(analyzer="char", ngram_range=(1, 2)),
        CountVectorizer(analyzer="char_wb", ngram_range=(2, 3), strip_accents="unicode"),
        CountVectorizer(strip_accents="ascii", token_pattern=r"\S+", lowercase=False),
    ],
    ids=str,
)
def test_every_character_of_unicode(vectorizer, tmp_path):
    check(vectorizer, every_character(), tmp_path)


@pytest.mark.parametrize("analyzer", ["word", "char"])
def test_a_final_sigma_is_found(analyzer, tmp_path):
    more = {"token_pattern": r"\S+"} if analyzer == "word" else {}
    check(CountVectorizer(analyzer=analyzer, ngram_range=(1, 2), **more), SIGMAS, tmp_path)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 4), (3, 3), (4, 4), (5, 7)])
def test_short_words_between_spaces_count_whole_and_once(low, high, tmp_path):
    documents = ["a", " a ", "ab  abc\tabcd", "\u3000abcde\x1fa", "", "a b c ab ab", "\n"]
    check(CountVectorizer(analyzer="char_wb", ngram_range=(low, high)), documents, tmp_path)


@pytest.mark.parametrize("ngrams", [(1, 1), (1, 3), (2, 2)])
def test_words_left_out_do_not_stand_between(ngrams, tmp_path):
    """Stop words and what the pattern does not take are gone before n-grams are made."""
    documents = ["the fox the dog", "the the", "dog the", "", "a fox 7 dog", "the", "fox dog"]
    check(CountVectorizer(ngram_range=ngrams, stop_words=["the"]), documents, tmp_path)
    pattern = r"\b[a-z]{3}\b"
    check(CountVectorizer(ngram_range=ngrams, token_pattern=pattern, stop_words=["the"]), documents, tmp_path)


@pytest.mark.parametrize(
    "pattern", [r"(?u)\b\w+\b", r"\d+", r"[^\s,]+", r"\b[a-zé]{2,5}\b", r"\w{2}", r".", r"[#']?[a-z]", r"\b\d{2}\w*\b"]
)
def test_patterns_find_the_tokens_of_python(pattern, tmp_path):
    documents = ["aé aéz abcdefg", "12 1x 12x ١٢", "a,b 'c' d'", "x_y\n_", "ÀÉ é\u0301", "😀a😀", ""]
    check(CountVectorizer(token_pattern=pattern, ngram_range=(1, 2)), documents, tmp_path)


@pytest.mark.parametrize("pattern", [r"(?u)\b[\w'-]+\b", r"\b\w+", r"\w*"])
def test_other_patterns_are_for_the_native_engine(pattern, tmp_path):
    vectorizer = CountVectorizer(token_pattern=pattern).fit(TRAIN)
    with pytest.raises(errors.FormatError, match=r"beyond ASCII(.|\n)*leave out the format onnx"):
        edgeml.compile(vectorizer, TRAIN, output=tmp_path / "m.edgeml", formats=["onnx"])
    with edgeml.compile(vectorizer, TRAIN, output=tmp_path / "m.edgeml") as bundle:
        assert "beyond ASCII" in bundle.manifest["missing"]["onnx"]


def test_many_terms_stay_out_of_auto(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeml.targets.base._MOST_TERMS", 3)
    vectorizer = CountVectorizer().fit(TRAIN)
    with edgeml.compile(vectorizer, TRAIN, output=tmp_path / "m.edgeml") as bundle:
        assert "its rows are dense" in bundle.manifest["missing"]["onnx"]
    edgeml.compile(vectorizer, TRAIN, output=tmp_path / "m.edgeml", formats=["onnx"]).close()


def test_long_documents_come_in_calls_of_few(tmp_path, monkeypatch):
    vectorizer = CountVectorizer().fit(TRAIN)
    edgeml.compile(vectorizer, TRAIN, output=tmp_path / "m.edgeml", formats=["onnx"]).close()
    monkeypatch.setattr(engine, "TEXT_CELLS", 200)
    documents = ["fox " * (at % 7 * 20) for at in range(30)]
    with edgeml.load(tmp_path / "m.edgeml", engine="onnx") as model:
        calls = []
        run = model._engine._session.run

        class Session:
            def run(self, names, feeds):
                calls.append([len(text) for text in next(iter(feeds.values()))[:, 0]])
                return run(names, feeds)

        model._engine._session = Session()
        got = model.transform(documents)
    np.testing.assert_array_equal(got, vectorizer.transform(documents).toarray())
    assert sum(map(len, calls)) == 30
    assert all(len(call) == 1 or len(call) * max(call) <= 200 for call in calls)
    assert len(calls) < 30


def test_half_a_surrogate_is_refused(tmp_path):
    vectorizer = CountVectorizer().fit(TRAIN)
    edgeml.compile(vectorizer, TRAIN, output=tmp_path / "m.edgeml", formats=["onnx"]).close()
    with edgeml.load(tmp_path / "m.edgeml", engine="onnx") as model, pytest.raises(errors.InputError):
        model.transform(["a \ud800 b"])


def test_classes_are_those_of_python():
    pattern = token_pattern(DEFAULT_PATTERN)
    assert pattern is not None
    found = classes.tokens(DEFAULT_PATTERN)
    assert found is not None
    assert (found.keep, found.find[-4:]) == ("", "{2,}")
    assert classes.one_of(frozenset("abcz")) == r"[\x{61}-\x{63}\x{7A}-\x{7A}]"
    lets, through = classes.cased()
    assert {"A", "ß", "\U00010400"} <= lets
    assert {".", "'", "\u0301", "\u00ad", "ʰ"} <= through
    assert not {"1", "日", " "} & (lets | through)
