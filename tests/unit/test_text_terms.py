"""Terms as scikit-learn's analysers make them, and sparse values as their dense meaning, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils import murmurhash3_32

from edgeml import errors
from edgeml.ir import Builder, interpreter
from edgeml.ir.front import split_front
from edgeml.ir.ops import OPS
from edgeml.ir.program import Node, ValueType
from edgeml.ir.sparse import Sparse, dense, evaluate
from edgeml.ir.text import DEFAULT_PATTERN, Analyzer, murmur, token_pattern

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
    DEFAULT_PATTERN, r"\b\w+\b", r"(?u)\b\w\w\w+\b", r"\w+", r"\w{1,}", r"\S+", r"[^\s]+", r"[a-z]+", r"\d",
    r"\d{2}\w*", r"\b[a-zA-Z]{3,}\b", r"(?u)\b[\w'-]+\b", r"#\w+", r"\w\w?",
    r"[A-Za-z0-9_]+", r"\w{2,5}", r".", r"\.\w+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_of_the_subset_means_what_it_means_to_python(pattern):
    theirs = CountVectorizer(token_pattern=pattern).build_analyzer()
    ours = Analyzer("word", 1, 1, True, "", pattern)
    for text in random_texts(8, 100):
        assert list(ours(text)) == theirs(text), text


REFUSED_PATTERNS = [
    r"(a+)+b", r"(\w+)", r"\w+\w+", r"a|b", r"\w+?", r"\w*\d", r"(?i)\w+", r"(?=a)", r"\w?\w?\w?a", r"[a-z]+\b",
    r"\w{65}", r"\w{1,9}\w{1,9}", r"[[a]]+", r"", r"[z-a]+", r"\bx\b\b", r"\w{3,2}", "a" * 20, r"(?P<a>x)", r"\1",
    r"[a--b]+", r"^\w+",
]  # fmt: skip


@pytest.mark.parametrize("pattern", REFUSED_PATTERNS)
def test_a_pattern_that_could_go_back_and_forth_is_not_of_the_simple_subset(pattern):
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
    zero = evaluate_one("Equal", s, np.zeros((1, 1)))
    quantised = {"weight": np.arange(14, dtype=np.int8).reshape(7, 2), "scale": np.ones(2), "bias": np.ones(2)}
    return [
        ("Mul", (s, row), {}),
        ("Mul", (s, s), {}),
        ("Div", (s, column), {}),
        ("Div", (s, row * 0), {}),
        ("Add", (s, row), {}),
        ("Add", (s, np.ones((1, 1))), {}),
        ("Equal", (s, np.zeros((1, 1))), {}),
        ("Log", (s,), {}),
        ("Abs", (s,), {}),
        ("Exp", (s,), {}),
        ("Neg", (s,), {}),
        ("Cast", (s,), {"to": "float32"}),
        ("ReduceSum", (s,), {}),
        ("ReduceMax", (s,), {}),
        ("ReduceMin", (s,), {}),
        ("Linear", (s,), {"weight": weight, "bias": weight[0]}),
        ("Linear", (s,), {"weight": np.full((7, 1), np.inf), "bias": np.zeros(1)}),
        ("Select", (s,), {"indices": np.array([6, 0, 3])}),
        ("Select", (s,), {"indices": np.array([1, 1])}),
        ("Concat", (s, column, s), {}),
        ("Concat", (column, s), {}),
        ("CheckFinite", (s,), {"allow_nan": False, "what": "it"}),
        ("CheckRange", (s,), of_row),
        ("Require", (s, column > 0), {"message": "", "kind": "input"}),
        ("DynamicQuantize", (s,), {"bits": 8}),
        ("FakeQuantize", (s,), {"scale": 0.1, "zero_point": 3, "bits": 8}),
        ("QuantizedLinear", (s,), quantised),
        ("Pow", (s, np.full((1, 1), 2.0)), {}),
        ("Floor", (s,), {}),
        ("Softmax", (s,), {}),
        ("TreeEnsemble", (s,), tree),
        ("TreeLeaves", (s,), tree),
        ("Where", (zero, np.zeros((1, 1)), s), {}),
        ("Minimum", (s, column), {}),
        ("ArgMax", (s,), {}),
    ]


def evaluate_one(op, *arguments, **attrs):
    return evaluate(Node(op, (), ValueType("float64", 1), attrs), list(arguments))


@pytest.mark.parametrize(("op", "arguments", "attrs"), cases(), ids=lambda x: x if isinstance(x, str) else None)
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
    assert zero.fill
    assert logs.fill == -np.inf
    found = evaluate_one("Mul", evaluate_one("Where", zero, np.zeros((1, 1)), logs), row)
    assert isinstance(found, Sparse)
    assert found.fill == 0
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
    assert [entry.name for entry in rest.inputs] == list(front.outputs)
    assert not rest.nodes
