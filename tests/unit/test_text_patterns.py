"""Token patterns beyond the simple subset: found as ``re`` finds them, in a bounded number of steps, or refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer

import edgeml
from edgeml import errors
from edgeml.ir.text import without_group
from edgeml.ir.text_patterns import MOST_STATES, Finder, PatternError

PATTERNS = [
    r"(?u)\b\w+\b", r"\w+|[^\w\s]+", r"(\w\w+)", r"(?i)[a-z]+", r"[A-Za-z0-9]+(?=\s+)", r"[a-zA-Z]+(?:'[a-z]+)?",
    r"\b[a-zA-Z]{3,}\b", r"#\w+|@\w+|\w+", r"\d+(?:\.\d+)?", r"\S+", r"\w+(?:-\w+)*", r"(?:[a-z]+)+b", r"^\w+|\w+$",
    r"(?<!a)\w+?(?!b)", r"\b(\w)\w*|-", r"a{2,4}?b|a{1,3}", r"(?s).a", r"(?<=a)b+", r"\w+(?=\s|$)", r"(?m)^.+$",
    r"(?:ab|a|b)(?:c|bcd)", r"\B\w", r"(?a)\w+", r"[^\W\d_]+", r"#(\w+)|a", r"(?x) a + b  # spaced", r"\w{65}|a",
]  # fmt: skip


def random_texts(seed, count=300):
    rng = np.random.default_rng(seed)
    return ["".join(rng.choice(list("aaabbcdA01.-'\n #@éſK"), rng.integers(0, 30))) for _ in range(count)]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_automaton_finds_what_re_finds(pattern):
    finder = Finder(pattern)
    for text in random_texts(1):
        assert finder.found(text) == re.findall(pattern, text) == finder.findall(text), text


PARTS = [
    "a", "b", "[ab]", r"\w", r"\s", ".", "[^a]", r"\b", "(?=a)", "(?!b)", "(?<=a)", "(?<!b)", "(?:ab|a)", "(?:a|ab|b)",
    "(?:a+b)", "^", "$",
]  # fmt: skip
TIMES = ["", "", "", "+", "*", "?", "{1,2}", "{2,}", "+?", "*?", "??"]


def random_pattern(rng, depth=0):
    parts = []
    for _ in range(rng.integers(1, 5)):
        part = f"(?:{random_pattern(rng, depth + 1)})" if depth < 2 and rng.random() < 0.2 else str(rng.choice(PARTS))
        zero_width = part in ("^", "$", r"\b") or part.startswith(("(?=", "(?!", "(?<"))
        parts.append(part + ("" if zero_width else str(rng.choice(TIMES))))
    others = f"|{random_pattern(rng, depth + 1)}" if rng.random() < 0.2 else ""
    return "".join(parts) + others


def test_random_patterns_find_what_re_finds():
    rng, taken = np.random.default_rng(5), 0
    while taken < 300:
        pattern = random_pattern(rng)
        pattern = f"a?({pattern})b?" if rng.random() < 0.3 else pattern
        try:
            finder = Finder(pattern)
        except PatternError:
            continue
        taken += 1
        for _ in range(10):
            text = "".join(rng.choice(list("aaabbc \n"), rng.integers(0, 14)))
            assert finder.found(text) == re.findall(pattern, text), (pattern, text)


class Counted(str):
    """A text that counts how often a character is looked at."""

    looks = 0

    def __getitem__(self, at):
        self.looks += isinstance(at, int)
        return super().__getitem__(at)


@pytest.mark.parametrize(
    "pattern",
    [
        r"[A-Za-z0-9]+(?=\s+)", r"(?:[a-z]+)+b", r"(?:a|aa|aaa)+b", r"\w+\w+\w+b", r"a*a*a*a*a*a*b", r"\w+(?:-\w+)*",
        r"(?:(?:a{1,3}){1,3}){1,3}b", r"a+b|a+c|a+d", r"[a-z]{1,64}(?=[a-z]{5}b)", r"(?:a{1,2}){20}b",
    ],
)  # fmt: skip
@pytest.mark.parametrize("unit", ["a", "a-", "ab", " "])
def test_hostile_documents_take_steps_linear_in_their_length(pattern, unit):
    """Where ``re`` itself would take hours of 20 kB of one character, or 20,000 squared steps."""
    finder = Finder(pattern)
    text = Counted((unit * 20_000)[:20_000])
    finder.found(text)
    assert text.looks <= (2 * finder.states + 256) * len(text)
    if unit == "a":  # re runs it where it looks at few characters
        assert finder.reach(text) <= 64 if "{1,64}" in pattern else finder.reach(text) * len(text) > 1e7


def test_re_runs_what_it_cannot_go_back_into():
    for pattern in (r"\w+|[^\w\s]+", r"(\w\w+)", r"#\w+|@\w+|\w+", r"\d+(?:\.\d+)?", r"[a-zA-Z]+(?:'[a-z]+)?"):
        assert Finder(pattern).reach("a" * 100_000) <= 4
    assert Finder(r"\b[a-z]+\b").reach("a word or two") == 5
    assert Finder(r"(?:a+b)+").reach("a") == np.inf


REFUSED = {
    r"(\w)\1": "back-reference", r"(a)?(?(1)b|c)": "back-reference", r"(\w)+": "capturing group in a repeat",
    r"(a)(b)": "more than one capturing group", r"(?:a?)+b": "may be empty", r"\w*|a": "matches ''", r"": "matches ''",
    r"(?>a+)b": "atomic group", r"a++b": "possessive repeat", r"a(?=\w+b)": "any width", r"(?=(?=a)a)a": "in another",
    r"(?=a{1,9}a{1,9}a{1,9}b)a": "too long", r"(?:\w{64}){64}": "states", r"\w{99999}": "states",
    r"[[a]]+|b": "Possible", r"a(?i:b)": "flags of a part", r"(a": "does not take", "a|" * 200: "characters",
    r"(?=(a))a": "capturing group in a look-around", r"(?<=a+)b": "does not take",
}  # fmt: skip


@pytest.mark.parametrize(("pattern", "reason"), REFUSED.items(), ids=REFUSED)
def test_the_rest_is_refused_with_its_reason(pattern, reason):
    with pytest.raises(PatternError, match=reason):
        Finder(pattern)
    assert MOST_STATES == 256


def test_one_group_around_all_is_simple():
    assert without_group(r"(\w\w+)") == r"\w\w+"
    assert without_group(r"(?u)\b(\w+)\b") == r"(?u)\b\w+\b"
    for pattern in (r"(\w)x", r"(?:\w+)", r"(a|b)", r"(a\)\b"):
        assert without_group(pattern) == pattern


DOCUMENTS = [
    "Don't panic: 3.14 is #pi, @you!",
    "well-known e-mail a1 b22 c333 x",
    "ABC abc Abc 42",
    "'tis -- ok?",
    "ſ K",
]


@pytest.mark.parametrize("pattern", PATTERNS[:11])
def test_patterns_of_users_compile(pattern, tmp_path):
    for at, kind in enumerate((CountVectorizer, TfidfVectorizer, HashingVectorizer)):
        vectorizer = kind(token_pattern=pattern, **({"n_features": 32} if kind is HashingVectorizer else {}))
        vectorizer.fit(DOCUMENTS)
        path = tmp_path / f"{at}.edgeml"
        edgeml.compile(vectorizer, DOCUMENTS, output=path, formats=["native"]).close()
        asked = [*random_texts(2, 20), *DOCUMENTS, "panic " * 500, "a" * 500]
        with edgeml.load(path) as model:
            np.testing.assert_allclose(model.transform(asked), vectorizer.transform(asked).toarray(), rtol=1e-12)


def test_onnx_says_what_it_cannot_take(tmp_path):
    vectorizer = CountVectorizer(token_pattern=r"\w+|[^\w\s]+").fit(DOCUMENTS)
    with pytest.raises(errors.FormatError, match="one variable count"):
        edgeml.compile(vectorizer, DOCUMENTS, output=tmp_path / "m.edgeml", formats=["onnx"])
