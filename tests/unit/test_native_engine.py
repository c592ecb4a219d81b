"""The native engine from raw columns to answers: equal to the interpreter, row by row too, with and without
kernels.
"""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgeml.bundle.read import open_bundle
from edgeml.errors import (
    ColumnTypeError,
    ExtraColumnError,
    ManifestError,
    MissingColumnError,
    NonFiniteError,
    ShapeError,
    UnknownCategoryError,
)
from edgeml.ir import Builder, interpreter
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.native import NativeEngine
from edgeml.schema import MATRIX, Column, Schema
from tests import small_bundle
from tests.kernel_tools import cells, same_bits
from tests.native_tools import engine_of, mixed, words


@pytest.fixture(params=["kernels", "numpy"])
def path(request, monkeypatch):
    """Both ways an engine can run."""
    if request.param == "numpy":
        monkeypatch.setenv("EDGEML_KERNELS", "numpy")
    return request.param


# --- every op on strings ------------------------------------------------------------------------------------
def two_texts(build):
    """A program of two string columns and a bool one whose outputs ``build`` gives, and rows for it."""
    b = Builder()
    s, t, flag = b.input("s", "string"), b.input("t", "string"), b.input("flag", "bool")
    for name, (value, form, dtype) in build(b, s, t, flag).items():
        b.output(name, value if isinstance(value, list) else [value], form, dtype)
    rows = 700
    columns = {"s": words(rows, 1), "t": words(rows, 2), "flag": cells("bool", 1, rows)[:, 0]}
    schema = Schema(
        "columns", (Column("s", "string", null="none"), Column("t", "string", null="none"), Column("flag", "bool"))
    )
    return b.finish(), schema, columns, rows


TEXT_CASES = {
    "Equal": lambda b, s, t, f: {
        "transform": ([s == t, s == "a", s == b.constant(("zz",)), b.constant((float("nan"),)) == s], "matrix", "bool"),
    },
    "Equal none": lambda b, s, t, f: {"transform": ([s == b.constant((None,))], "matrix", "bool")},
    "IsNaN, IsNone": lambda b, s, t, f: {"transform": ([b.is_nan(s), b.is_none(s)], "matrix", "bool")},
    "Lookup": lambda b, s, t, f: {
        "transform": (b.lookup(s, ("b", None, "\U0001f600", "b", "", float("nan"))), "matrix", "<i8"),
        "predict": (b.lookup(t, ("unseen",)), "vector", "<i4"),
    },
    "Lookup nothing": lambda b, s, t, f: {"transform": (b.lookup(s, ()), "matrix", "<i8")},
    "Where, Constant, Concat, Select": lambda b, s, t, f: {
        "transform": (
            b.concat([b.where(f, s, "filled"), b.where(f, b.constant((None,)), t), s]).select([2, 0, 1]),
            "matrix", "|O",
        ),
    },
    "Take": lambda b, s, t, f: {
        "predict": (b.take(f.cast("int64"), ("no", "a much longer yes")), "vector", "<U17"),
        "transform": (b.take(f.cast("int64"), (None, float("nan"))), "matrix", "|O"),
    },
    "Recode": lambda b, s, t, f: {
        "transform": (
            [
                b.op(
                    "Recode", s, keys=("b", None, "b", "", float("nan"), "zz"),
                    values=np.array([0.5, 1, 2, 9, 3, -0.0, np.nan]),
                ),
                b.op("Recode", t, keys=(), values=np.array([7])),
            ],
            "matrix", "<f8",
        ),
    },
    "passthrough": lambda b, s, t, f: {"transform": ([s, f, t, b.lookup(s, ("a",)) + 0.5], "matrix", "|O")},
    "Require": lambda b, s, t, f: {"transform": (b.require(s, b.op("Or", f, ~f), "always"), "matrix", "|O")},
}  # fmt: skip


def same_cells(found, expected):
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    for a, b in zip(found.ravel().tolist(), expected.ravel().tolist(), strict=True):
        assert type(a) is type(b)
        assert a == b or (a != a and b != b)


@pytest.mark.parametrize("case", TEXT_CASES)
def test_strings(path, case):
    program, schema, columns, rows = two_texts(TEXT_CASES[case])
    engine = engine_of(program, schema)
    methods = tuple(program.outputs)
    expected = interpreter.run(program, columns, methods)
    found = engine.run(columns, rows, methods)
    for method in methods:
        same_cells(found[method], expected[method])
        one = engine.one(method)
        for row in range(0, rows, 11):
            cell = one({name: column[row] for name, column in columns.items()})
            same_cells(np.atleast_1d(cell), np.atleast_1d(expected[method][row]))


def test_all_string_ops_are_covered():
    from edgeml.ir.coded import _RULES

    named = {op for case in TEXT_CASES for op in case.replace(",", "").split()}
    assert set(_RULES) <= named


# --- columns, types, results --------------------------------------------------------------------------------
def test_every_form_and_dtype(path):
    program, schema, columns, rows = mixed()
    methods = tuple(program.outputs)
    with np.errstate(all="ignore"):
        expected = interpreter.run(program, columns, methods)
    engine = engine_of(program, schema)
    found = engine.run(columns, rows, methods)
    for method in methods:
        same_cells(found[method], expected[method])
        if expected[method].dtype.kind == "f":
            same_bits(np.ascontiguousarray(found[method]), np.ascontiguousarray(expected[method]))
        one = engine.one(method)
        for row in range(0, rows, 7):
            raw = row_of(columns, row)
            for cell in (one(raw), one(raw | {"unread": object()}), one([*raw.values(), 0]), one((*raw.values(), 0))):
                same_cells(np.asarray(cell), np.asarray(expected[method][row]))
                assert type(cell) is type(expected[method][row])


def row_of(columns, at=0):
    return {name: column[at] for name, column in columns.items()}


GOOD = {"float64": 1.5, "float32": 0.5, "int64": 3, "bool": True, "string": "a"}


@pytest.mark.parametrize(
    ("change", "plain"),
    [
        ({"float64": 2}, {"float64": 2.0}),
        ({"float64": np.float32(0.1)}, {"float64": float(np.float32(0.1))}),
        ({"float64": True}, {"float64": 1.0}),
        ({"float64": None}, {"float64": float("nan")}),
        ({"float32": None}, {"float32": float("nan")}),
        ({"float32": np.float16(0.1)}, {"float32": float(np.float16(0.1))}),
        ({"int64": np.int8(3)}, {"int64": 3}),
        ({"int64": 3.0}, {"int64": 3}),
        ({"int64": True}, {"int64": 1}),
        ({"bool": np.True_}, {"bool": True}),
        ({"bool": 1}, {"bool": True}),
        ({"string": np.str_("a")}, {"string": "a"}),
        ({"string": np.float64("nan")}, {"string": float("nan")}),
    ],
)
def test_cells_of_other_types_mean_the_same(path, change, plain):
    program, schema, _, _ = mixed()
    one = engine_of(program, schema).one("decision_function")
    same_cells(np.asarray(one(GOOD | change)), np.asarray(one(GOOD | plain)))


@pytest.mark.parametrize(
    ("row", "error", "names"),
    [
        ({k: v for k, v in GOOD.items() if k != "int64"}, MissingColumnError, "int64"),
        (GOOD | {"more": 1}, ExtraColumnError, "more"),
        ({k: v for k, v in GOOD.items() if k != "bool"} | {"more": 1}, MissingColumnError, "bool"),
        (GOOD | {"float64": "1.5"}, ColumnTypeError, "float64"),
        (GOOD | {"float64": 1j}, ColumnTypeError, "float64"),
        (GOOD | {"float64": [1.0]}, ColumnTypeError, "float64"),
        (GOOD | {"float64": 10**400}, ColumnTypeError, "float64"),
        (GOOD | {"float32": 0.1}, ColumnTypeError, "float32"),
        (GOOD | {"int64": 3.5}, ColumnTypeError, "int64"),
        (GOOD | {"int64": None}, ColumnTypeError, "int64"),
        (GOOD | {"int64": 2**63}, ColumnTypeError, "int64"),
        (GOOD | {"int64": "3"}, ColumnTypeError, "int64"),
        (GOOD | {"bool": 2}, ColumnTypeError, "bool"),
        (GOOD | {"bool": "yes"}, ColumnTypeError, "bool"),
        (GOOD | {"string": 3}, ColumnTypeError, "string"),
        (GOOD | {"string": b"a"}, ColumnTypeError, "string"),
        (GOOD | {"string": ["a"]}, ColumnTypeError, "string"),
        (list(GOOD.values()), ShapeError, "columns"),
        ([*GOOD.values(), 0, 0], ShapeError, "columns"),
        ("a row", ShapeError, "row"),
        (7, ShapeError, "row"),
    ],
)
def test_bad_rows_name_the_column_and_leave_nothing_behind(path, row, error, names):
    program, schema, _, _ = mixed()
    one = engine_of(program, schema).one("decision_function")
    before = one(GOOD)
    with pytest.raises(error, match=names):
        one(row)
    assert one(GOOD) == before


def test_refused_rows_name_the_row_and_leave_nothing_behind(path):
    b = Builder()
    x, s = b.input("x", "float64"), b.input("s", "string")
    x = b.check_finite(x, "scale")
    index = b.lookup(s, ("a", "b"))
    index = b.require(index, index >= 0, "found an unknown category", "category")
    b.output("predict", [x + b.take(index, [10.0, 20.0])], "vector", "<f8")
    schema = Schema("columns", (Column("x", "float64"), Column("s", "string", null="none")))
    engine = engine_of(b.finish(), schema)
    one = engine.one("predict")
    for _ in range(3):
        with pytest.raises(NonFiniteError, match=r"scale was given inf \(row 0, its column 0\)"):
            one({"x": np.inf, "s": "a"})
        with pytest.raises(UnknownCategoryError, match="row 0: found an unknown category"):
            one({"x": 1.0, "s": "c"})
        assert one({"x": 1.0, "s": "b"}) == 21.0
        with pytest.raises(UnknownCategoryError, match="row 2"):
            engine.run({"x": np.ones(4), "s": np.array(["a", "b", "c", "a"], dtype=object)}, 4, ("predict",))
        found = engine.run({"x": np.ones(2), "s": np.array(["b", "a"], dtype=object)}, 2, ("predict",))
        assert found["predict"].tolist() == [21.0, 11.0]


# --- a pipeline fitted on an array --------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "bool", "string"])
def test_a_matrix(path, dtype):
    b = Builder()
    X = b.input(MATRIX, dtype, 3)
    b.output("transform", [X.select([2, 0])], "matrix", "|O" if dtype == "string" else np.dtype(dtype).str)
    schema = Schema("matrix", tuple(Column(f"x{i}", dtype) for i in range(3)))
    x = np.stack([words(50, i) for i in range(3)], axis=1) if dtype == "string" else cells(dtype, 3, 50)
    program = b.finish()
    engine = engine_of(program, schema)
    expected = interpreter.run(program, {MATRIX: x})["transform"]
    same_cells(engine.run({MATRIX: x}, 50, ("transform",))["transform"], expected)
    one = engine.one("transform")
    for row in (0, 7, 49):
        for raw in (x[row], list(x[row]), tuple(x[row].tolist())):
            same_cells(one(raw), expected[row])
    for wrong in (x[0, :2], list(x[0]) * 2):
        with pytest.raises(ShapeError):
            one(wrong)
    with pytest.raises(ColumnTypeError):
        one([1j, 1, 2])
    for wrong in (7, None, "abc", np.array(1.0)):
        with pytest.raises(ShapeError):
            one(wrong)


# --- many threads -------------------------------------------------------------------------------------------
def test_threads_may_share_an_engine(path):
    program, schema, columns, rows = mixed()
    engine = engine_of(program, schema, threads=2)
    wide = {name: np.tile(column, 4) for name, column in columns.items()}
    expected = engine_of(program, schema).run(wide, 4 * rows, ("predict_proba",))["predict_proba"]
    one, wrong = engine.one("predict_proba"), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for at in rng.integers(0, rows, 60):
            same = np.array_equal(one(row_of(columns, at)), expected[at], equal_nan=True)
            if at % 20 == 0:
                found = engine.run(wide, 4 * rows, ("predict_proba",))["predict_proba"]
                same = same and np.array_equal(found, expected, equal_nan=True)
            if not same:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_cells_that_are_code_are_read_as_a_batch():
    program, schema, _, _ = mixed()
    one = engine_of(program, schema).one("decision_function")

    class Nosy(float):
        def __float__(self):
            raise AssertionError("never reached: a subclass of float is read as a batch of one")

    class Index:
        def __index__(self):
            raise AssertionError("never reached: what is no number is read as a batch of one, which refuses it")

    with pytest.raises(ColumnTypeError, match="int64"):
        one(GOOD | {"int64": Index()})
    with pytest.raises(AssertionError):
        one(GOOD | {"float64": Nosy(1.5)})


# --- from a bundle ------------------------------------------------------------------------------------------
def test_a_bundle(path, tmp_path):
    file = small_bundle.write(tmp_path / "small.edgeml", formats=("native",))
    with open_bundle(file) as bundle:
        engine = NativeEngine.open(bundle, 1)
        columns = {name: column[~small_bundle.REFUSED] for name, column in small_bundle.COLUMNS.items()}
        expected = interpreter.run(small_bundle.program(), columns)
        for method, want in expected.items():
            same_cells(engine.run(columns, len(want), (method,))[method], want)
    with pytest.raises(NonFiniteError):
        engine.one("predict")({"x": np.inf, "c": "AA"})
    assert engine.one("predict")({"x": 0.5, "c": "AA"}) == expected["predict"][0]


def test_a_manifest_of_other_methods_is_refused(tmp_path):
    def change(manifest, members):
        manifest["methods"]["predict"]["dtype"] = "<U9"

    file = small_bundle.write(tmp_path / "small.edgeml", formats=("native",), change=change)
    with open_bundle(file) as bundle, pytest.raises(ManifestError, match="method predict"):
        NativeEngine.open(bundle, 1)


def test_read_rows_feeds_the_engine():
    program, schema, columns, _ = mixed()
    read, rows = read_rows({name: list(column[:9]) for name, column in columns.items()} | {"unread": [0] * 9}, schema)
    with np.errstate(all="ignore"):
        found = engine_of(program, schema).run(read, rows, ("decision_function",))["decision_function"]
        same_bits(found, interpreter.run(program, {n: c[:9] for n, c in columns.items()})["decision_function"])
