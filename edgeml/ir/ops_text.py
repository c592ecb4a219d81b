"""Ops that take texts apart: the terms of documents, counted by vocabulary or by hash.

Every function is the op's meaning on an object array of strings, (rows, 1). Its result has few nonzero cells: the
interpreter asks ``sparse.SOURCES`` for it in rows, and ``front`` keeps it so on its way to what reads it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from edgeml.errors import InputError, ProgramError
from edgeml.ir.ops_tensor import NUMBERS
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.sparse import SOURCES, Sparse
from edgeml.ir.table import Array, Infer, op
from edgeml.ir.text import (
    ACCENTS,
    ANALYZERS,
    DEFAULT_PATTERN,
    Analyzer,
    find_tokens,
    hashed,
    token_pattern,
    without_group,
)
from edgeml.ir.text_patterns import PatternError

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]
ANALYSIS = {
    "analyzer": "str",  # "word", "char" or "char_wb"
    "low": "int",  # n of the shortest and of the longest n-grams
    "high": "int",
    "lowercase": "bool",
    "accents": "str",  # "", "ascii" or "unicode": how they are stripped
    "pattern": "str",  # of tokens; see text.find_tokens
    "stop_words": "keys",
}
_MOST_NGRAM = 100
_KEPT = 8  # vocabularies kept as dicts; a program has one or two


def _check_analysis(types: Types, attrs: Attrs) -> None:
    if types[0] != ValueType("string", 1):
        raise ProgramError(f"terms are those of one column of strings, got {types[0]}")
    if attrs["analyzer"] not in ANALYZERS or attrs["accents"] not in ACCENTS:
        raise ProgramError(f"no way to take texts apart: {attrs['analyzer']!r:.40}, {attrs['accents']!r:.40}")
    if not 1 <= attrs["low"] <= attrs["high"] <= _MOST_NGRAM:
        raise ProgramError(f"n-grams of {attrs['low']} to {attrs['high']}")
    try:
        find_tokens(attrs["pattern"])
    except PatternError as error:
        shown = f"{attrs['pattern']!r:.80}"
        raise ProgramError(f"a pattern of tokens that is not one of ours: {shown} has {error}") from None
    if not isinstance(attrs["stop_words"], tuple) or not all(isinstance(w, str) for w in attrs["stop_words"]):
        raise ProgramError("stop words are strings")


def _infer_terms(types: Types, attrs: Attrs) -> ValueType:
    _check_analysis(types, attrs)
    check_vocabulary(attrs["vocabulary"])
    return counts(attrs["dtype"], len(attrs["vocabulary"]))


def check_vocabulary(vocabulary: Attr) -> None:
    """Raise ProgramError unless it is a tuple of strings."""
    if not isinstance(vocabulary, tuple) or not all(isinstance(term, str) for term in vocabulary):
        raise ProgramError("a vocabulary is a tuple of strings")


def _infer_hashed(types: Types, attrs: Attrs) -> ValueType:
    _check_analysis(types, attrs)
    return counts(attrs["dtype"], attrs["columns"])


def counts(dtype: str, width: int) -> ValueType:
    """The type of so many columns of counts. Raises ProgramError for what is none."""
    if dtype not in NUMBERS or not 1 <= width < 2**31:
        raise ProgramError(f"counts of {dtype} in {width} columns")
    return ValueType(dtype, width)  # type: ignore[arg-type]  # one of NUMBERS


def source(
    name: str, infer: Infer, attrs: Mapping[str, str], arity: int | None = 1
) -> Callable[[Callable[..., Sparse]], Any]:
    """Enter the decorated function in the op table, dense, and as it is among the sparse sources."""

    def enter(function: Callable[..., Sparse]) -> Callable[..., Sparse]:
        def evaluate(*xs: Array, **given: Any) -> Array:
            return function(*xs, **given).dense()

        evaluate.__doc__, evaluate.__module__ = function.__doc__, function.__module__
        op(name, arity, infer, attrs)(evaluate)
        SOURCES[name] = function
        return function

    return enter


@lru_cache(maxsize=64)
def _analyzer(*settings: Any) -> Analyzer:
    return Analyzer(*settings)


def _analyse(analysis: Mapping[str, Any]) -> Callable[[str], Sequence[str]]:
    return _analyzer(*(analysis[name] for name in ANALYSIS))


_PLACES: dict[int, tuple[tuple[str, ...], dict[str, int]]] = {}


def places(vocabulary: tuple[str, ...]) -> dict[str, int]:
    """Column of each term; found by the tuple itself, since hashing 100,000 strings takes longer than a document."""
    found = _PLACES.get(id(vocabulary))
    if found is None or found[0] is not vocabulary:
        if len(_PLACES) >= _KEPT:
            _PLACES.clear()
        found = _PLACES[id(vocabulary)] = vocabulary, {term: at for at, term in enumerate(vocabulary)}
    return found[1]


def rows_of(rows: Sequence[Mapping[int, float]], width: int, dtype: str) -> Sparse:
    """Columns and numbers of each row."""
    ends = np.cumsum([0, *map(len, rows)])
    columns = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(ends[-1]))
    numbers = np.fromiter(chain.from_iterable(row.values() for row in rows), dtype=dtype, count=int(ends[-1]))
    result = Sparse(numbers, columns, ends, width)
    order = np.lexsort((columns, result.rows))
    return Sparse(numbers[order], columns[order], ends, width)


@source("Terms", _infer_terms, {**ANALYSIS, "vocabulary": "keys", "binary": "bool", "dtype": "str"})
def terms(x: Array, vocabulary: tuple[str, ...], binary: bool, dtype: str, **analysis: Any) -> Sparse:
    """How often each term of the vocabulary occurs in a document; with ``binary`` 1 where it does."""
    analyse, place = _analyse(analysis), places(vocabulary).get
    counted = (Counter(map(place, analyse(document))) for document in x[:, 0])
    rows = []
    for row in counted:
        row.pop(None, None)  # terms outside the vocabulary
        rows.append(dict.fromkeys(row, 1) if binary else row)
    return rows_of(rows, len(vocabulary), dtype)  # type: ignore[arg-type]  # None is gone


@source(
    "HashedTerms",
    _infer_hashed,
    {**ANALYSIS, "columns": "int", "signed": "bool", "binary": "bool", "dtype": "str"},
)
def hashed_terms(x: Array, columns: int, signed: bool, binary: bool, dtype: str, **analysis: Any) -> Sparse:
    """The terms of a document added up in the columns of their hashes, each 1, or -1 by its hash where ``signed``.

    With ``binary`` a column that has a term is 1, even where its terms cancel out.
    """
    analyse = _analyse(analysis)
    rows = []
    for at, document in enumerate(x[:, 0]):
        row: dict[int, int] = {}
        try:
            for term, count in Counter(analyse(document)).items():
                column, sign = hashed(term, columns)
                row[column] = row.get(column, 0) + (count * sign if signed else count)
        except UnicodeEncodeError:
            raise InputError(
                f"row {at}: the document has half of a surrogate pair, which scikit-learn refuses too",
                "decode the text anew, with errors='replace'",
            ) from None
        rows.append(dict.fromkeys(row, 1) if binary else row)
    return rows_of(rows, columns, dtype)


__all__ = [
    "ACCENTS", "ANALYSIS", "ANALYZERS", "DEFAULT_PATTERN", "PatternError", "check_vocabulary", "counts", "find_tokens",
    "places", "rows_of", "source", "token_pattern", "without_group",
]  # fmt: skip
