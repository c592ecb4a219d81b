"""What the tests of the native engine share: a program over columns of every kind, rows for it, and its engine."""

from __future__ import annotations

import numpy as np

from edgeml.ir import Builder
from edgeml.ir.coded import code_strings
from edgeml.runtimes.native import NativeEngine
from edgeml.schema import Column, Schema
from tests.kernel_tools import cells

WORDS = ["a", "b", "", "ab", "é", "\U0001f600", "A", "none", "nan", "zz", "unheard of", None, np.nan]
KINDS = ("float64", "float32", "int64", "bool", "string")


def engine_of(program, schema, threads=1):
    """The native engine of a program that may have strings."""
    return NativeEngine(code_strings(program), schema, threads)


def words(rows, seed):
    """A column of strings, None and NaN."""
    rng = np.random.default_rng(seed)
    column = np.empty(rows, dtype=object)
    column[:] = [WORDS[i] for i in rng.integers(0, len(WORDS), rows)]
    # NaN comes as many objects, and so do equal strings.
    for at in range(0, rows, 5):
        if isinstance(column[at], float):
            column[at] = float("nan")
        elif isinstance(column[at], str):
            column[at] = "".join(list(column[at]))
    return column


def mixed():
    """A program over a column of each kind, with labels of each type as its outputs."""
    b = Builder()
    v = {kind: b.input(kind, kind) for kind in KINDS}
    score = v["float64"] + v["float32"].cast("float64") + v["int64"].cast("float64")
    score = (
        score
        + b.where(v["bool"], b.constant(1.0), -1.0)
        + b.take(b.lookup(v["string"], ("a", None)) + 1, [0.5, 2.0, -2.0])
    )
    known = b.where(b.is_nan(score), 0.0, score)
    index = (known > 0).cast("int64")
    b.output("predict", [b.take(index, ("no", "yes"))], "vector", "<U3")
    b.output("predict_proba", [b.softmax(b.concat([score, -score]))], "matrix", "<f8")
    b.output("decision_function", [score], "vector", "<f8")
    b.output("score_samples", [score], "vector", "<f4")
    b.output("predict_log_proba", [score, index], "matrix", "<f4")
    b.output("transform", [b.concat([index, index])], "matrix", "<i4")
    schema = Schema("columns", (*(Column(kind, kind, null="none") for kind in KINDS), Column("unread", "any", False)))
    rows = 600
    columns = {kind: cells(kind, 1, rows, seed=4)[:, 0] for kind in KINDS[:4]} | {"string": words(rows, 3)}
    return b.finish(), schema, columns, rows
