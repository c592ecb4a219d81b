"""ONNX lowering of ``Terms``: documents are taken apart by the operators that onnxruntime itself brings.

The one operator beyond the standard is com.microsoft's Tokenizer, which every onnxruntime of its makers has: ONNX has
none that sees the characters of a string. It splits UTF-8 and knows no locale; what a letter is, and its lower case,
stands in the graph as tables and ranges made from Python's own (onnx_text_classes.py). StringNormalizer, which asks
the host's locale, takes no part.

A document becomes its characters, (rows, most characters) with "" behind the last; a table changes them; pairs of
neighbours are joined until one string is left, which is taken apart into words or characters again. n-grams are
neighbours joined, looked up by one LabelEncoder, and counted by ScatterElements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnx_ir as ir

from edgeml.errors import FormatError
from edgeml.ir.program import Node
from edgeml.ir.text import token_pattern
from edgeml.targets.onnx_graph import ML, Tensor, Writer, cell_text, lowers
from edgeml.targets.onnx_text_classes import (
    FINAL,
    SIGMA,
    Tokens,
    cased,
    changed,
    members,
    one_of,
    tells_sigmas_apart,
    tokens,
)

MICROSOFT = "com.microsoft"
_END = np.iinfo(np.int64).max
_ONE = np.array([1], np.int64)
_NOTHING = "\ufdd0"  # a noncharacter, which stands for "no term" and for "not in the table"
_SPACE = r"\s"
_SEQUENCES_ONLY = (
    "expressions, which prefer the longest alternative and see no letters around, stand here for sequences of "
    "characters and sets with one variable count at most"
)


@lowers("Terms")
def terms(w: Writer, node: Node, x: Tensor) -> ir.Value:
    attrs = node.attrs
    w.opsets[MICROSOFT] = 1
    found = tokens(attrs["pattern"]) if attrs["analyzer"] == "word" else None
    if attrs["analyzer"] == "word" and found is None:
        simple = token_pattern(attrs["pattern"]) is not None
        raise FormatError(
            f"step {node.origin or 'pipeline'} takes texts apart by {attrs['pattern']!r}, and onnxruntime's regular "
            + (r"expressions have no \b for letters beyond ASCII" if simple else _SEQUENCES_ONLY),
            r"use a token_pattern without \b, or of classes of \w between two of them, or leave out the format onnx",
        )
    texts = _changed(w, w.op("Reshape", w.all_rows(x), np.array([-1])), attrs, found.classes if found else ())
    if found is not None:
        grams = _words(w, texts, attrs, found)
    elif attrs["analyzer"] == "char":
        # With a column more, so that there is one.
        parts = _single_spaces(w, _with_empty(w, _characters(w, texts)))
        grams = _ngrams(w, _characters(w, _joined(w, parts)), attrs, "")
    else:
        grams = _of_padded_words(w, texts, attrs)
    counts = _counted(w, grams, attrs["vocabulary"])
    if attrs["binary"]:
        counts = w.op("Greater", counts, 0)
    return counts if attrs["dtype"] == "int64" and not attrs["binary"] else w.cast(counts, attrs["dtype"])


# --- strings --------------------------------------------------------------------------------------------------------
def _tokenizer(w: Writer, texts: ir.Value, **settings: Any) -> ir.Value:
    """Parts of texts (n,) as (n, most parts), "" behind the last. Of no texts at all the result is of no shape."""
    parts = w.op("Tokenizer", texts, domain=MICROSOFT, mark=0, pad_value="", mincharnum=1, **settings)
    parts.type, parts.shape = ir.TensorType(ir.DataType.STRING), ir.Shape([None, None])
    return parts


def _characters(w: Writer, texts: ir.Value) -> ir.Value:
    return _tokenizer(w, texts, separators=[""])


def _text(w: Writer, cells: Any) -> ir.Value:
    return w.constant(np.array(cells, dtype=object))


def _looked_up(w: Writer, x: ir.Value, table: Mapping[str, str], others: str = _NOTHING) -> ir.Value:
    """Strings that the table has, as it has them; all others are ``others``, or without it as they are."""
    keys, values = (
        ir.StringTensor([cell_text(t) for t in texts], shape=ir.Shape([len(table)]))
        for texts in (table, table.values())
    )
    default = ir.StringTensor([others.encode()], shape=ir.Shape([1]))
    found = w.op("LabelEncoder", x, domain=ML, keys_tensor=keys, values_tensor=values, default_tensor=default)
    return found if others != _NOTHING else w.op("Where", w.op("Equal", found, _text(w, _NOTHING)), x, found)


def _matches(w: Writer, x: ir.Value, expression: str) -> ir.Value:
    return w.op("RegexFullMatch", x, pattern=expression)


def _is_empty(w: Writer, x: ir.Value) -> ir.Value:
    return w.op("Equal", x, _text(w, ""))


def _part(w: Writer, x: ir.Value, start: int, end: int, step: int = 1) -> ir.Value:
    """Some columns."""
    return w.op("Slice", x, np.array([start]), np.array([end]), _ONE, np.array([step]))


def _rows_of(w: Writer, x: ir.Value) -> ir.Value:
    return w.op("Shape", x, start=0, end=1)


def _column(w: Writer, x: ir.Value, cell: ir.Value, width: ir.Value | None = None) -> ir.Value:
    """A column of one cell beside x; ``width`` says how many, of one by itself."""
    return w.op("Expand", cell, w.op("Concat", _rows_of(w, x), width or w.constant(_ONE), axis=0))


def _with_empty(w: Writer, x: ir.Value) -> ir.Value:
    """One more column of "", so that there is one."""
    return w.op("Concat", x, _column(w, x, _text(w, [[""]])), axis=1)


def _joined(w: Writer, parts: ir.Value) -> ir.Value:
    """The parts of each row as one string, (rows,): neighbours are joined until one column is left."""
    first = _with_empty(w, parts)
    with _body(w) as nodes:
        count, going = _scalar(w, ir.DataType.INT64), _scalar(w, ir.DataType.BOOL)
        x = w.new()
        x.type, x.shape = ir.TensorType(ir.DataType.STRING), ir.Shape([None, None])
        odd = w.op("Mod", w.op("Shape", x, start=1, end=2), 2)
        even = w.op("Concat", x, _column(w, x, _text(w, [[""]]), odd), axis=1)
        halves = w.op("StringConcat", _part(w, even, 0, _END, 2), _part(w, even, 1, _END, 2))
        more = w.op("Greater", w.op("Reshape", w.op("Shape", halves, start=1, end=2), np.empty(0, np.int64)), 1)
        more.type, more.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([])
        halves.type, halves.shape = ir.TensorType(ir.DataType.STRING), ir.Shape([None, None])
    graph = ir.Graph([count, going, x], [more, halves], nodes=nodes, name=w.unique("join"))
    result = w.new()
    result.type, result.shape = ir.TensorType(ir.DataType.STRING), ir.Shape([None, None])
    inputs = [w.constant(np.int64(64)), w.constant(np.bool_(True)), first]
    w.nodes.append(ir.node("Loop", inputs, {"body": graph}, outputs=[result], version=w.opsets[""]))
    return w.op("Reshape", result, np.array([-1]))


@contextmanager
def _body(w: Writer) -> Iterator[list[ir.Node]]:
    """Nodes written inside go to the list given, of a graph inside the graph."""
    outer, w.nodes = w.nodes, []
    try:
        yield w.nodes
    finally:
        w.nodes = outer


def _scalar(w: Writer, dtype: ir.DataType) -> ir.Value:
    value = w.new()
    value.type, value.shape = ir.TensorType(dtype), ir.Shape([])
    return value


# --- characters -----------------------------------------------------------------------------------------------------
def _changed(w: Writer, texts: ir.Value, attrs: Mapping[str, Any], classes: Sequence[frozenset[str]]) -> ir.Value:
    """Texts in lower case and without accents, character by character; each may become none or several."""
    table = changed(attrs["lowercase"], attrs["accents"])
    if not table:
        return texts
    characters = _with_empty(w, _characters(w, texts))  # a column more, since Scan takes no rows without any
    if attrs["accents"] == "ascii":  # few characters become any: those that become nothing are not listed
        return _joined(w, _looked_up(w, characters, table, others=""))
    result = _looked_up(w, characters, table)
    if attrs["lowercase"] and tells_sigmas_apart((*attrs["vocabulary"], *attrs["stop_words"]), classes):
        final = w.op("And", w.op("Equal", characters, _text(w, SIGMA)), _is_final(w, characters))
        result = w.op("Where", final, _text(w, FINAL), result)
    return _joined(w, result)


def _is_final(w: Writer, characters: ir.Value) -> ir.Value:
    """Where a sigma would be a final one: a cased character comes before it and none behind, those apart that are
    looked through (Unicode's Final_Sigma, as Python has it).
    """
    lets, through = cased()
    letter, looked_through = (_matches(w, characters, one_of(c)) for c in (lets, through))
    before, after = (_carried(w, letter, looked_through, backwards) for backwards in (False, True))
    return w.op("And", before, w.op("Not", after))


def _carried(w: Writer, letter: ir.Value, looked_through: ir.Value, backwards: bool) -> ir.Value:
    """Whether the nearest character before each one (after it, if ``backwards``), those looked through apart, is a
    letter.
    """
    with _body(w) as nodes:
        state, is_letter, skipped = (w.new() for _ in range(3))
        for value in (state, is_letter, skipped):
            value.type, value.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([None])
        here = w.op("Identity", state)
        # Where, of which onnxruntime has none for bool.
        following = w.op("Or", w.op("And", skipped, state), w.op("And", w.op("Not", skipped), is_letter))
        for value in (following, here):
            value.type, value.shape = ir.TensorType(ir.DataType.BOOL), ir.Shape([None])
    graph = ir.Graph([state, is_letter, skipped], [following, here], nodes=nodes, name=w.unique("sigma"))
    none = w.op("Expand", w.constant(np.array([False])), _rows_of(w, letter))
    results = [w.new(), w.new()]
    attributes: dict[str, Any] = {
        "body": graph,
        "num_scan_inputs": 2,
        "scan_input_axes": [1, 1],
        "scan_output_axes": [1],
        "scan_input_directions": [int(backwards)] * 2,
        "scan_output_directions": [int(backwards)],
    }
    w.nodes.append(ir.node("Scan", [none, letter, looked_through], attributes, outputs=results, version=w.opsets[""]))
    return results[1]


def _single_spaces(w: Writer, characters: ir.Value) -> ir.Value:
    """Two white characters or more in a row as one space; one by itself as it is."""
    white = _matches(w, characters, one_of(members(_SPACE)))
    before, after = _beside(w, white, beyond=False)
    single = w.op("Where", w.op("And", white, after), _text(w, " "), characters)
    return w.op("Where", w.op("And", white, before), _text(w, ""), single)


def _padded_words(w: Writer, characters: ir.Value) -> ir.Value:
    """A space on either side of each word, and behind it what no n-gram of a term has in it; white ones fall away."""
    white = w.op("Or", _matches(w, characters, one_of(members(_SPACE))), _is_empty(w, characters))
    before, after = _beside(w, white, beyond=True)
    opened = w.op("StringConcat", w.op("Where", before, _text(w, " "), _text(w, "")), characters)
    closed = w.op("StringConcat", opened, w.op("Where", after, _text(w, f" {_NOTHING}"), _text(w, "")))
    return w.op("Where", white, _text(w, ""), closed)


def _beside(w: Writer, flags: ir.Value, *, beyond: bool) -> tuple[ir.Value, ir.Value]:
    """The flags of the characters before and after each one; ``beyond`` is that of what lies outside."""
    outside = _column(w, flags, w.constant(np.array([[beyond]])))
    width = w.op("Shape", flags, start=1, end=2)
    before = w.op("Slice", w.op("Concat", outside, flags, axis=1), np.array([0]), width, _ONE)
    return before, w.op("Concat", _part(w, flags, 1, _END), outside, axis=1)


# --- n-grams --------------------------------------------------------------------------------------------------------
def _words(w: Writer, texts: ir.Value, attrs: Mapping[str, Any], pattern: Tokens) -> ir.Value:
    words = _with_empty(w, _tokenizer(w, texts, tokenexp=pattern.find))
    removed: list[ir.Value] = []
    if pattern.keep:
        removed.append(w.op("Not", _matches(w, words, pattern.keep)))
    if attrs["stop_words"]:
        keys = ir.StringTensor([cell_text(t) for t in attrs["stop_words"]], shape=ir.Shape([len(attrs["stop_words"])]))
        ones = [1] * len(attrs["stop_words"])
        stop = w.op("LabelEncoder", words, domain=ML, keys_tensor=keys, values_int64s=ones, default_int64=0)
        removed.append(w.op("Greater", stop, 0))
    if removed:
        words = w.op("Where", removed[0] if len(removed) == 1 else w.op("Or", *removed), _text(w, ""), words)
        if attrs["high"] > 1:
            words = _closed_up(w, words)
    return _ngrams(w, words, attrs, " ")


def _closed_up(w: Writer, words: ir.Value) -> ir.Value:
    """The words of each row in their order, those that are "" behind them."""
    width = w.op("Shape", words, start=1, end=2)
    scalar = w.op("Reshape", width, np.empty(0, np.int64))
    place = w.op("Range", np.int64(0), scalar, np.int64(1))
    key = w.op("Add", place, w.op("Mul", w.cast(_is_empty(w, words), "int64"), width))
    results = [w.new(), w.new()]
    w.nodes.append(
        ir.node("TopK", [key, width], {"axis": 1, "largest": 0, "sorted": 1}, outputs=results, version=w.opsets[""])
    )
    return w.op("GatherElements", words, results[1], axis=1)


def _ngrams(w: Writer, items: ir.Value, attrs: Mapping[str, Any], between: str) -> ir.Value:
    """Neighbours joined, of every length asked for side by side; where they are too few, no term."""
    grams = []
    for n in range(attrs["low"], attrs["high"] + 1):
        parts = [_part(w, items, k, k - n + 1 if k < n - 1 else _END) for k in range(n)]
        text = parts[0]
        for part in parts[1:]:
            text = w.op("StringConcat", w.op("StringConcat", text, _text(w, between)) if between else text, part)
        grams.append(w.op("Where", _is_empty(w, parts[-1]), _text(w, _NOTHING), text))
    return grams[0] if len(grams) == 1 else w.op("Concat", *grams, axis=1)


def _of_padded_words(w: Writer, texts: ir.Value, attrs: Mapping[str, Any]) -> ir.Value:
    """n-grams of the characters of each word with a space on either side; of a shorter word the whole of it."""
    grams = _ngrams(w, _characters(w, _joined(w, _padded_words(w, _with_empty(w, _characters(w, texts))))), attrs, "")
    if attrs["low"] <= 3:  # a word of one letter has three characters
        return grams
    words = _with_empty(w, _tokenizer(w, texts, tokenexp=one_of(members(r"\S")) + "+"))
    short = _matches(w, words, f"(?s).{{1,{attrs['low'] - 3}}}")
    padded = w.op("StringConcat", w.op("StringConcat", _text(w, " "), words), _text(w, " "))
    return w.op("Concat", grams, w.op("Where", short, padded, _text(w, _NOTHING)), axis=1)


# --- counts ---------------------------------------------------------------------------------------------------------
def _counted(w: Writer, grams: ir.Value, vocabulary: Sequence[str]) -> ir.Value:
    """How often each term of the vocabulary is among the n-grams of a row, int64 (rows, terms)."""
    width = len(vocabulary)
    odd = next((t for t in vocabulary if _NOTHING in t), None)
    if odd is not None:
        raise FormatError(f"the pipeline knows the term {odd!r}, with a character reserved here", "use engine='native'")
    texts = ir.StringTensor([cell_text(t) for t in vocabulary], shape=ir.Shape([width]))
    places = list(range(width))
    found = w.op("LabelEncoder", grams, domain=ML, keys_tensor=texts, values_int64s=places, default_int64=width)
    nothing = _column(w, grams, w.constant(np.array([[0]])), w.constant(np.array([width + 1])))
    ones = w.op("Expand", w.constant(np.array([[1]])), w.op("Shape", found))
    return _part(w, w.op("ScatterElements", nothing, found, ones, axis=1, reduction="add"), 0, width)
