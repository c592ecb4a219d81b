"""Texts: vectorisers that count terms or hash them, TF-IDF, dicts as columns, and items by their hashes.

In comes the Block of one column of documents (or of a dict's keys), out goes ``transform``: a matrix with few nonzero
cells, which stays sparse inside. How documents become terms is in edgeml/ir/text.py. TfidfTransformer computes on any
matrix of counts, with ordinary ops.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.errors import SampleError, UnsupportedParameterError
from edgeml.ir import Value
from edgeml.ir.ops_text import DEFAULT_PATTERN, PatternError, find_tokens, without_group
from edgeml.schema import ITEMS, Items

_ANALYSIS = (
    "input", "strip_accents", "lowercase", "preprocessor", "tokenizer", "stop_words", "token_pattern", "ngram_range",
    "analyzer", "binary", "dtype",
)  # fmt: skip
_OF_BYTES = ("encoding", "decode_error")  # a model takes strings
_OF_FIT = ("max_df", "min_df", "max_features", "vocabulary")  # they are in vocabulary_
_ITEMS: dict[str, Items] = {"string": "tokens", "pair": "pairs", "dict": "dicts"}
_DTYPES = {"float64": "float64", "float32": "float32", "int64": "int64", "int32": "int64"}
_OF_TERMS = {**_DTYPES, **dict.fromkeys(("bool", "int8", "uint8", "int16", "uint16", "uint32", "uint64"), "int64")}


def _documents(c: Conversion, est: Any, X: Block) -> Value:
    """The one column of documents, refusing those that are missing."""
    step = f"step {c.builder.origin or 'pipeline'}: {type(est).__name__}"
    if X.width != 1 or X.kind(0) != "string":
        found = X.label(0) if X.width == 1 else f"{X.width} columns"
        raise UnsupportedParameterError(
            f"{step} takes one column of documents, and is given {found}",
            "give it one column of strings, in a ColumnTransformer by its name alone: ('words', vectorizer, 'text')",
        )
    x = X.values[0]
    there = ~(c.builder.is_nan(x) | c.builder.is_none(x))
    return c.builder.require(x, there, f"{c.place(est)} was given a missing document, which scikit-learn refuses too")


def _analysis(c: Conversion, est: Any) -> dict[str, Any]:
    """Settings of a vectoriser as attributes of its op. Raises UnsupportedParameterError for what is code."""
    if est.input != "content":
        raise c.refuse(est, "input", est.input, "read the files before the pipeline: input='content'")
    for name in ("preprocessor", "tokenizer", "analyzer", "strip_accents"):
        value = getattr(est, name)
        if callable(value):
            raise c.refuse(
                est,
                name,
                getattr(value, "__name__", value),
                "Python functions cannot be compiled: apply it to the texts before the pipeline, or use "
                "analyzer='word', 'char' or 'char_wb' with a token_pattern",
            )
    words = est.analyzer == "word"
    pattern = without_group(str(est.token_pattern)) if words else DEFAULT_PATTERN
    try:
        find_tokens(pattern)
    except PatternError as error:
        raise c.refuse(
            est,
            "token_pattern",
            pattern,
            f"it has {error}; use sets, classes, alternatives, groups (?:...) and quantifiers, such as "
            r"r'(?u)\b[a-zA-Z]{3,}\b'",
        ) from None
    stop = est.get_stop_words() if words else None
    low, high = est.ngram_range
    return {
        "analyzer": est.analyzer,
        "low": int(low),
        "high": int(high),
        "lowercase": bool(est.lowercase),
        "accents": est.strip_accents or "",
        "pattern": pattern,
        "stop_words": tuple(sorted(word for word in stop or () if isinstance(word, str))),
    }


def _dtype(c: Conversion, est: Any, dtypes: Mapping[str, str] = _DTYPES) -> str:
    name: str = np.dtype(est.dtype).name
    if name not in dtypes:
        raise c.refuse(est, "dtype", name, "use float64, float32, int64 or int32")
    return name


def _in_dtype(x: Value, dtype: str) -> Value:
    """Counts of int64 in the vectoriser's dtype, in which they wrap round as they do in scikit-learn."""
    if dtype == "bool":
        return x.cast("bool")
    if dtype in ("int8", "uint8", "int16", "uint16"):
        bits = float(np.iinfo(dtype).max - np.iinfo(dtype).min + 1)
        exact = x.cast("float64")
        rest = exact - x.builder.floor(exact * (1.0 / bits)) * bits
        if np.dtype(dtype).kind == "i":
            rest = x.builder.where(rest >= bits / 2, rest - bits, rest)
        x = rest.cast("int64")
    return x.held_as(dtype)


def _counts(c: Conversion, est: Any, X: Block) -> Block:
    """The counts of a CountVectorizer."""
    settings, dtype = _analysis(c, est), _dtype(c, est, _OF_TERMS)
    est._check_vocabulary()
    vocabulary = tuple(sorted(est.vocabulary_, key=est.vocabulary_.__getitem__))
    if not all(isinstance(term, str) for term in vocabulary):
        raise c.refuse(est, "vocabulary", "terms that are no strings", "use strings as terms")
    x = c.builder.op(
        "Terms",
        _documents(c, est, X),
        **settings,
        vocabulary=tuple(map(str.__str__, vocabulary)),
        binary=bool(est.binary),
        dtype=_OF_TERMS[dtype],
    )
    return Block(_in_dtype(x, dtype), form="sparse")


@converter(
    "sklearn.CountVectorizer",
    honours=(*_ANALYSIS, *_OF_FIT),
    ignores=_OF_BYTES,
    note="ONNX through com.microsoft.Tokenizer, for simple token_patterns; callables and back-references are refused",
)
def count_vectorizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """How often each term of the vocabulary occurs."""
    return {"transform": _counts(c, est, X)}


@converter(
    "sklearn.TfidfVectorizer",
    honours=(*_ANALYSIS, *_OF_FIT, "norm", "use_idf", "smooth_idf", "sublinear_tf"),
    ignores=_OF_BYTES,
    note="ONNX through com.microsoft.Tokenizer, for simple token_patterns; callables and back-references are refused",
)
def tfidf_vectorizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Counts, weighted as its TfidfTransformer does."""
    return {"transform": _weighted(c, est._tfidf, _counts(c, est, X))}


@converter(
    "sklearn.HashingVectorizer",
    honours=(*_ANALYSIS, "n_features", "norm", "alternate_sign"),
    ignores=_OF_BYTES,
    note="native engine; callables and back-references are refused",
)
def hashing_vectorizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Terms added up by their hash, then the norm."""
    settings, dtype = _analysis(c, est), _dtype(c, est, _OF_TERMS)
    x = c.builder.op(
        "HashedTerms",
        _documents(c, est, X),
        **settings,
        columns=int(est.n_features),
        signed=bool(est.alternate_sign),
        binary=bool(est.binary) or dtype == "bool",  # whose sums are whether there is any
        dtype=_OF_TERMS[dtype],
    )
    x = _in_dtype(x, dtype)
    return {"transform": Block(x if est.norm is None else _normalised(c, est, x), form="sparse")}


@converter("sklearn.TfidfTransformer", honours=("norm", "use_idf", "sublinear_tf"), ignores=("smooth_idf",))
def tfidf_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Counts of any source, weighted."""
    return {"transform": _weighted(c, est, X)}


def _weighted(c: Conversion, est: Any, X: Block) -> Block:
    """1 + log of the counts where sublinear, times idf, divided by the norm of the row; zeros stay zeros."""
    x = X.matrix(c, est)
    if est.sublinear_tf:
        x = c.builder.where(x == 0.0, 0.0, c.builder.log(x) + 1.0)
    if hasattr(est, "idf_"):  # what use_idf was in fit
        x = (x * np.asarray(est.idf_)).cast(x.dtype)
    return Block(x if est.norm is None else _normalised(c, est, x), names=X.names, form="sparse")


def _normalised(c: Conversion, est: Any, x: Value) -> Value:
    """Rows divided by their norm where it is not 0; a float32 row's is added up in float64."""
    builder = c.builder
    x = builder.check_finite(x if x.dtype == "float32" else x.cast("float64"), c.place(est))
    if est.norm == "l2":
        size = builder.sqrt(builder.sum((x * x).cast("float64")))
    else:
        size = builder.sum(builder.abs(x).cast("float64"))
    return (x.cast("float64") / builder.where(size == 0.0, 1.0, size)).cast(x.dtype)


# --- dicts ----------------------------------------------------------------------------------------------------------
@converter("sklearn.DictVectorizer", honours=("dtype", "separator", "sparse"), ignores=("sort",))
def dict_vectorizer(c: Conversion, est: Any, X: Block) -> Outputs:
    """A number under its key, and 1 under ``key=value`` for a string; what was not seen in fit is left out."""
    dtype = _dtype(c, est)
    features: list[str] = list(est.feature_names_)
    if X.width == 1 and X.kind(0) == ITEMS["dicts"]:
        x = c.builder.op(
            "CountedItems",
            X.values[0].held_as("object"),
            vocabulary=tuple(map(str.__str__, features)),
            separator=est.separator,
            dtype=_DTYPES[dtype],
        )
        return {"transform": Block(x.held_as(dtype), names=features, form="sparse" if est.sparse else "array")}
    if dtype not in ("float64", "float32"):
        raise c.refuse(est, "dtype", dtype, "use float64 or float32")
    place = {feature: at for at, feature in enumerate(features)}
    parts: list[Value] = []
    order: list[int] = []
    for index, name in enumerate(X.names or ()):
        x, prefix = X.column(index), f"{name}{est.separator}"
        values = [f[len(prefix) :] for f in features if f.startswith(prefix)] if x.dtype == "string" else []
        if x.dtype == "string" and name in place:
            raise c.refuse(est, "feature_names_", name, "use a key for strings or for numbers, not for both")
        if values:
            parts.append(c.builder.one_hot(c.builder.lookup(x, tuple(values)), len(values), dtype))
            order += [place[prefix + value] for value in values]
        elif x.dtype != "string" and name in place:
            parts.append(x.cast(dtype))
            order.append(place[name])
    missing = sorted(set(range(len(features))) - set(order))
    if missing or len(set(order)) != len(order):
        raise SampleError(
            f"step {c.builder.origin or 'pipeline'}: DictVectorizer was fitted with the feature "
            f"{features[missing[0] if missing else order[0]]!r}, and the sample does not show which key it is of",
            "pass a sample in which every key of the training data occurs, with values of its type",
        )
    x = c.builder.concat(parts).select(np.argsort(order))
    return {"transform": Block(x, names=features, form="sparse" if est.sparse else "array")}


@converter(
    "sklearn.FeatureHasher",
    honours=("n_features", "input_type", "dtype", "alternate_sign"),
    note="native engine",
)
def feature_hasher(c: Conversion, est: Any, X: Block) -> Outputs:
    """Values added up by the hash of their name; of a string by that of ``name=value``."""
    items: Items = _ITEMS[est.input_type]
    if X.width != 1 or X.kind(0) != ITEMS[items]:
        found = f"{X.label(0)}, one of {X.kind(0)}s" if X.width == 1 else f"{X.width} columns"
        raise UnsupportedParameterError(
            f"step {c.builder.origin or 'pipeline'}: FeatureHasher(input_type={est.input_type!r}) takes one column of "
            f"{ITEMS[items]}, and is given {found}",
            "give it such a column, in a ColumnTransformer by its name alone: ('tags', hasher, 'tags')",
        )
    dtype = _dtype(c, est)
    x = c.builder.op(
        "HashedItems",
        X.values[0].held_as("object"),
        columns=int(est.n_features),
        signed=bool(est.alternate_sign),
        dtype=_DTYPES[dtype],
    )
    return {"transform": Block(x.held_as(dtype), form="sparse")}
