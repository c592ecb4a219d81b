"""One raw row three ways (the compiled reader, Python's way, a batch of one): the same answer or the same error for
every kind of cell, and the next row is right whatever came before.
"""

from __future__ import annotations

import gc
import sys
from itertools import permutations

import numpy as np
import pytest

from edgeml.errors import ColumnTypeError, InputError, MissingColumnError
from edgeml.ir import Builder
from edgeml.runtimes import native_call
from edgeml.runtimes.kernels.constants import address
from edgeml.runtimes.kernels.encode import Plan
from edgeml.runtimes.kernels.entry import Call
from edgeml.schema import MATRIX, Column, Schema
from tests import row_tools
from tests.native_tools import KINDS, engine_of, mixed
from tests.row_tools import GOOD, Key, Text, Ways, names, of_column, outcome


# --- every cell ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("null", ["nan", "none", "both"])
@pytest.mark.parametrize("kind", [*KINDS, "texts given back"])
def test_every_cell_means_the_same_three_ways(kind, null, monkeypatch):
    distinct = kind not in KINDS
    kind = "string" if distinct else kind
    ways = Ways(of_column(kind, distinct), Schema("columns", (Column("x", kind, null=null),)), "predict", monkeypatch)
    good = {"x": GOOD[kind]}
    expected = outcome(ways.batch, good)
    for cell in row_tools.CELLS:
        want = outcome(ways.batch, {"x": cell})
        for one in (ways.compiled, ways.python):
            for row in ({"x": cell}, [cell], (cell,)):
                if row != {"x": cell} and isinstance(cell, (list, tuple, dict, np.ndarray)):
                    continue  # a list of lists is no row
                assert outcome(one, row) == want, names(cell)
                assert outcome(one, good) == expected, names(cell)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_every_cell_of_a_matrix(kind, monkeypatch):
    b = Builder()
    X = b.input(MATRIX, kind, 3)
    b.output("transform", [X.select([2, 0])], "matrix", np.dtype(kind).str)
    ways = Ways(b.finish(), Schema("matrix", tuple(Column(f"x{i}", kind) for i in range(3))), "transform", monkeypatch)
    good = [GOOD[kind]] * 3
    expected = outcome(ways.batch, good)
    for cell in row_tools.CELLS:
        rows = [[GOOD[kind], 0, cell], (GOOD[kind], 0, cell), {"x1": 0, "x2": cell, "x0": GOOD[kind]}]
        want = outcome(ways.batch, rows[0])
        for one in (ways.compiled, ways.python):
            for row in rows:
                assert outcome(one, row) == want, names(cell)
                assert outcome(one, good) == expected, names(cell)
    for row in (np.array(good, dtype=kind), np.array(good[:2], dtype=kind), np.array(good, dtype=object)):
        assert outcome(ways.compiled, row) == outcome(ways.python, row) == outcome(ways.batch, row)
    ways.asked = 0
    ways.compiled(good), ways.compiled(tuple(good)), ways.compiled(dict(zip(("x0", "x1", "x2"), good, strict=True)))
    assert ways.asked == 0


METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")


@pytest.mark.parametrize("method", METHODS)
def test_every_form_of_answer(method, monkeypatch):
    program, schema, columns, rows = mixed()
    ways = Ways(program, schema, method, monkeypatch)
    for at in range(0, rows, 7):
        row = {name: column[at] for name, column in columns.items()}
        assert outcome(ways.compiled, row) == outcome(ways.python, row) == outcome(ways.batch, row)
    assert ways.asked == 0
    first, second = ways.compiled(GOOD), ways.compiled(GOOD | {"float64": 99.0})
    assert outcome(lambda _: first, None) == outcome(ways.batch, GOOD)  # the next row did not write over it
    if isinstance(second, np.ndarray):
        assert second.base is None
        assert second.flags.writeable


# --- what is taken without a batch --------------------------------------------------------------------------
COMMON = [
    {}, {"float64": 2}, {"float64": None}, {"float64": True}, {"float64": np.float64(2)}, {"float64": np.float32(0.1)},
    {"float64": np.int64(2)}, {"float64": np.int8(2)}, {"float64": np.bool_(True)}, {"float32": None},
    {"float32": np.float32(0.1)}, {"int64": 3.0}, {"int64": np.float64(3)}, {"int64": np.int64(3)},
    {"int64": np.int32(3)}, {"int64": False}, {"int64": 2**63 - 1}, {"bool": False}, {"bool": np.bool_(True)},
    {"bool": 1}, {"string": None}, {"string": float("nan")}, {"string": np.float64("nan")}, {"string": "unheard of"},
    {"string": np.str_("a")}, {"string": "".join(["a"])}, {"unread": object()},
]  # fmt: skip


def test_common_cells_need_no_batch(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    for change in COMMON:
        row = GOOD | change
        assert outcome(ways.compiled, row) == outcome(ways.batch, row)
        assert outcome(ways.compiled, list((GOOD | {"unread": 0} | change).values())) == outcome(ways.batch, row)
    assert ways.asked == 0


def test_the_switch(monkeypatch):
    program, schema, _, _ = mixed()
    engine = engine_of(program, schema)
    assert type(engine.one("predict")) is type(len)
    monkeypatch.setenv("EDGEML_FAST", "-one")
    assert engine.one("predict").__qualname__.startswith("generic_one")


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("sys.implementation.name", "pypy"),
        ("edgeml.runtimes.native_call.VALUE_OFFSET", 24),
        ("edgeml.runtimes.native_call.TYPE_OFFSET", 0),
        ("edgeml.runtimes.native_call.SIGNATURES", {"PyLong_AsNothing": ()}),
        ("sysconfig.get_config_var", lambda name: 1),
    ],
)
def test_another_python_takes_its_own_way(monkeypatch, target, value):
    native_call._addresses.cache_clear()
    monkeypatch.setattr(target, value)
    program, schema, _, _ = mixed()
    try:
        one = engine_of(program, schema).one("decision_function")
    finally:
        native_call._addresses.cache_clear()
    assert one.__qualname__.startswith("row_function")


# --- rows of other kinds ------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", row_tools.ROWS, ids=range(len(row_tools.ROWS)))
def test_every_row_means_the_same_three_ways(row, monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    before = ways.batch(GOOD)
    want = outcome(ways.batch, row)
    for one in (ways.compiled, ways.python):
        assert outcome(one, row) == want
        assert one(GOOD) == before


def test_arguments_are_those_of_a_function(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    assert ways.compiled(row=GOOD) == ways.compiled(GOOD)
    for call in (lambda: ways.compiled(), lambda: ways.compiled(GOOD, GOOD), lambda: ways.compiled(raw=GOOD)):
        with pytest.raises(TypeError, match="one"):
            call()
    assert ways.compiled.__name__ == "decision_function_one"
    assert ways.compiled(GOOD) == ways.batch(GOOD)


HUGE = "x" * 10_000_000
BAD = (row_tools.HOSTILE, HUGE, HUGE.encode(), [["nested"]], 10**400)


@pytest.mark.parametrize("cell", BAD, ids=range(len(BAD)))
def test_a_bad_cell_names_its_column_in_a_short_message(cell, monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    before = ways.compiled(GOOD)
    for name in KINDS:
        if name == "string" and isinstance(cell, str):
            continue
        for one in ways.all:
            with pytest.raises(ColumnTypeError, match=name) as caught:
                one(GOOD | {name: cell})
            assert len(str(caught.value)) < 500
            assert one(GOOD) == before


# --- a row whose keys are code ------------------------------------------------------------------------------
def test_a_key_that_calls_the_model(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    other = GOOD | {"float64": 1000.0, "int64": 7}
    inner = []
    row = {k: v for k, v in GOOD.items() if k != "bool"} | {
        Key("bool", lambda: inner.append(ways.compiled(other))): True
    }
    assert ways.compiled(row) == ways.batch(GOOD)
    assert set(inner) == {ways.batch(other)}


def test_a_key_that_raises(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)

    def interrupt():
        raise KeyboardInterrupt

    row = {k: v for k, v in GOOD.items() if k != "bool"} | {Key("bool", interrupt): True}
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            ways.compiled(row)
        assert ways.compiled(GOOD) == ways.batch(GOOD)
    assert ways.asked == 0  # nothing stayed busy


def test_a_key_that_takes_the_cells_away(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    for _ in range(50):
        row = {"float64": float(str(1.5)), "float32": 0.5, "int64": 3, "string": "a"}
        row[Key("bool", row.clear)] = True
        with pytest.raises((InputError, RuntimeError)):
            ways.compiled(row)
    assert ways.compiled(GOOD) == ways.batch(GOOD)


def test_keys_in_any_order_and_of_any_age(monkeypatch):
    """The reader finds the keys of the last dicts again by identity; that must not take one key for another."""
    program, schema, columns, rows = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    rng = np.random.default_rng(0)
    for at in range(3 * rows):
        row = {name: column[at % rows] for name, column in columns.items()} | {"unread": at}
        if at % 5 == 1:
            del row["unread"]
        order = list(row)
        if at % 50 > 30:
            rng.shuffle(order)
        if at % 7 == 0:  # fresh strings, at the addresses of those just freed
            row = {"".join(list(name)): row[name] for name in order}
        elif at % 11 == 0:
            row = {(Text(name) if name == "bool" else name): row[name] for name in order}
        else:
            row = {name: row[name] for name in order}
        assert outcome(ways.compiled, row) == outcome(ways.batch, row)
        if at % 13 == 0:  # as many keys, one of them unknown
            wrong = {("other" if name == "bool" else name): cell for name, cell in row.items()}
            assert outcome(ways.compiled, wrong) == outcome(ways.batch, wrong)


def test_another_order_of_the_same_keys(monkeypatch):
    """Columns of one kind, so that a cell taken for another's would be a wrong answer and not a row for the batch."""
    b = Builder()
    x = [b.input(f"x{i}", "float64") for i in range(3)]
    b.output("predict", [x[0] + 10.0 * x[1] + 100.0 * x[2]], "vector", "<f8")
    schema = Schema("columns", (*(Column(f"x{i}", "float64") for i in range(3)), Column("unread", "any", False)))
    ways = Ways(b.finish(), schema, "predict", monkeypatch)
    cells = {"x0": 1.0, "x1": 2.0, "x2": 3.0, "unread": 4.0}
    for order in [*permutations(cells), *permutations(("x0", "x1", "x2"))] * 2:
        for _ in range(3):
            assert ways.compiled({name: cells[name] for name in order}) == 321.0
            assert ways.compiled({"".join(list(name)): cells[name] for name in reversed(order)}) == 321.0
    assert ways.asked == 0


def test_keys_that_were_learnt_stay_alive(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "decision_function", monkeypatch)
    fresh = ["".join(list(name)) for name in GOOD]
    row = dict(zip(fresh, GOOD.values(), strict=True))
    before = [sys.getrefcount(key) for key in fresh]
    assert ways.compiled(row) == ways.batch(GOOD)
    assert [sys.getrefcount(key) for key in fresh] == [count + 1 for count in before]


def test_references_stay_as_they_were(monkeypatch):
    program, schema, _, _ = mixed()
    ways = Ways(program, schema, "predict_proba", monkeypatch)
    cells = {"float64": 1234.5, "float32": 0.25, "int64": 10**12, "bool": True, "string": "unheard of before"}
    watched = [
        cells,
        *cells,
        *(v for v in cells.values() if v is not True),
        ways.compiled,
        *ways.compiled.__self__,
        ways.compiled.__self__[1].finish,
    ]
    ways.compiled(cells)
    # What other tests left, such as their own uses of these column names, must go before, and nothing meanwhile.
    gc.collect()
    gc.disable()
    try:
        before = [sys.getrefcount(x) for x in watched]
        for _ in range(1000):
            ways.compiled(cells)
            with pytest.raises(MissingColumnError):
                ways.compiled({"float64": cells["float64"]})
        # A leak would show a thousand times; the columns' names, such as int64, are words that others hold and drop.
        after = [sys.getrefcount(x) for x in watched]
        assert max(abs(now - then) for now, then in zip(after, before, strict=True)) < 100
    finally:
        gc.enable()


def two_and_one_unread(monkeypatch):
    """y = 2 a + b, and a column that is not read."""
    b = Builder()
    x, y = b.input("a", "float64"), b.input("b", "float64")
    b.output("predict", [2.0 * x + y], "vector", "<f8")
    schema = Schema("columns", (Column("a", "float64"), Column("b", "float64"), Column("c", "any", False)))
    return Ways(b.finish(), schema, "predict", monkeypatch)


def test_an_empty_row_is_none_of_those_before(monkeypatch):
    """Learning was called off by keys that are no exact str: nothing is known then, and {} has as many keys as that."""
    one = two_and_one_unread(monkeypatch).compiled
    for _ in range(2):
        assert one({"a": 111.0, "b": 7.5}) == 229.5
    assert one({Text("a"): 1.0, Text("b"): 2.0}) == 4.0
    with pytest.raises(InputError):
        one({})


@pytest.mark.parametrize("left", [{"zzz": 1.0, "b": 2.0}, {"b": 2.0, "c": 5.0}])
def test_a_row_that_changes_while_it_is_read_is_not_learnt(monkeypatch, left):
    one = two_and_one_unread(monkeypatch).compiled
    row = {"a": 1.0}

    def change():
        row.clear()
        row.update(left)

    row[Key("b", change)] = 2.0
    outcome(one, row)  # what this row is may be seen either way
    one({"a": 111.0, "b": 7.5})
    one({"a": 111.0, "b": 7.5})
    with pytest.raises(InputError):
        one({"b": 2.0, "c": 5.0})
    assert one({"a": 1.0, "b": 2.0}) == 4.0


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_function_of_a_matrix_row_keeps_the_code_it_runs(kind, monkeypatch):
    """Of whole numbers nothing else holds the plan, and memory that is freed would be run as code all the same."""
    b = Builder()
    X = b.input(MATRIX, kind, 2)
    b.output("predict", [X.select(0)], "vector", np.dtype(kind).str)
    schema = Schema("matrix", tuple(Column(f"x{i}", kind) for i in range(2)))
    kept = Ways(b.finish(), schema, "predict", monkeypatch).compiled.__self__[1]
    reachable, found = [kept.slow, kept.space], []
    while reachable:
        thing = reachable.pop()
        if not any(thing is one for one in found) and not isinstance(thing, type):
            found.append(thing)
            reachable += gc.get_referents(thing) if len(found) < 2000 else []
    codes = [address(thing.code) for thing in found if isinstance(thing, Plan)]
    assert kept.space.call[Call.CODE] in codes
