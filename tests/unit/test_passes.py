"""Passes: what each one rewrites, what it must leave alone, and that answers and refusals stay."""

import numpy as np
import pytest

from edgeml.errors import PassError
from edgeml.ir import Builder, Input, ValueType, interpreter
from edgeml.ir.program import Node, Program
from edgeml.passes import EXACT, INEXACT, STANDARD, Pass, optimise, run_passes
from edgeml.passes.casts import SHORTEN_CASTS
from edgeml.passes.checks import DROP_CHECKS
from edgeml.passes.columns import SIMPLIFY_COLUMNS
from edgeml.passes.common import SHARE_COMMON
from edgeml.passes.constants import FOLD_CONSTANTS
from edgeml.passes.dead import DROP_DEAD
from tests.pass_tools import AWKWARD, apply, ops, unchanged


# --- infrastructure -----------------------------------------------------------------------------------------
def tiny():
    b = Builder()
    x = b.input("x", "float64", 2)
    b.output("predict", [b.sum(x + 1.0)], "vector", "<f8")
    return b.finish()


def test_a_failing_pass_is_named_with_those_before_it():
    def broken(program):
        return Program(program.inputs, (Node("Neg", (7,), ValueType("float64", 1)),), program.outputs), True

    passes = [*EXACT[:2], Pass("broken", "", "", broken)]
    with pytest.raises(PassError, match=r"pass broken failed: .*not computed yet.*drop-dead, fold-constants"):
        run_passes(tiny(), passes)


def test_a_pass_that_raises_is_a_pass_error():
    def raising(program):
        raise IndexError("seven")

    with pytest.raises(PassError, match=r"pass raising failed: IndexError: seven \(passes before it: none\)"):
        run_passes(tiny(), [Pass("raising", "", "", raising)])


def _doubled(program):
    b = Builder()
    x = b.input("x", "float64", 2)
    b.output("predict", [b.sum(x + 2.0)], "vector", "<f8")
    return b.finish(), True


def _renamed(program):
    return Program((Input("y", program.inputs[0].type),), program.nodes, program.outputs), True


def _without_outputs(program):
    return Program(program.inputs, program.nodes, {}), True


def _lying(program):
    return Program(program.inputs, program.nodes, program.outputs), False


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (_doubled, "output predict differs"),
        (_renamed, "input y is new"),
        (_without_outputs, "outputs"),
        (_lying, "reports no change"),
    ],
)
def test_a_pass_that_changes_what_it_must_not(run, message):
    with pytest.raises(PassError, match=message):
        run_passes(tiny(), [Pass("wrong", "", "", run)], {"x": np.ones((3, 2))})


def test_a_pass_that_refuses_other_rows_is_found():
    b = Builder()
    x = b.input("x", "float64", 2)
    b.output("predict", [b.sum(b.check_finite(x, "model") + 1.0)], "vector", "<f8")
    forget = Pass("forget", "", "", lambda program: (tiny(), True))
    run_passes(b.finish(), [forget], {"x": np.ones((3, 2))})
    with pytest.raises(PassError, match="NonFiniteError, after it answers"):
        run_passes(b.finish(), [forget], {"x": np.full((3, 2), np.nan)})


def test_optimise_stops_passes_that_never_settle(monkeypatch):
    import edgeml.passes as passes

    flip = Pass("flip", "", "", lambda p: (Program(p.inputs, p.nodes, p.outputs), True))
    monkeypatch.setattr(passes, "EXACT", (flip,))
    with pytest.raises(PassError, match="passes flip still change"):
        optimise(tiny())


def test_every_pass_says_what_it_requires_and_ensures():
    assert all(each.name and each.requires and each.ensures for each in STANDARD)
    assert [each.name for each in STANDARD if not each.exact] == ["fold-scaling"]


def test_standard_list():
    assert (*EXACT, *INEXACT) == STANDARD


# --- one test or more a pass --------------------------------------------------------------------------------
def test_constants_fold_and_keep_dtype_and_origin():
    b = Builder()
    x = b.input("x", "float32")
    with b.step("scale"):
        scale = b.sqrt(b.constant([4.0], "float32")) + b.constant([0.1], "float32")
    b.output("predict", [x * scale], "vector", "<f4")
    program = apply(b.finish(), FOLD_CONSTANTS, DROP_DEAD, rows={"x": np.float32(AWKWARD[:6])})
    assert ops(program) == ["Constant", "Mul"]
    assert program.nodes[0].attrs["value"].dtype == np.float32
    assert program.nodes[0].attrs["value"] == np.float32(2) + np.float32(0.1)
    assert program.nodes[0].origin == "scale"


def test_string_constants_fold():
    b = Builder()
    x = b.input("x", "string")
    table = b.op("Concat", b.constant(("a", None)), b.constant((float("nan"),)))
    b.output("transform", [x, table], "matrix", "|O")
    program = apply(b.finish(), FOLD_CONSTANTS, DROP_DEAD, rows={"x": np.array(["q", None], dtype=object)})
    assert ops(program) == ["Constant"]
    cells = program.nodes[0].attrs["value"]
    assert cells[:2] == ("a", None)
    assert cells[2] != cells[2]


def test_a_check_that_a_constant_fails_stays():
    b = Builder()
    x = b.input("x", "float64")
    bad = b.check_finite(b.constant([np.inf]), "model")
    b.output("predict", [x + bad], "vector", "<f8")
    assert unchanged(b.finish(), FOLD_CONSTANTS)


def test_a_requirement_that_always_holds_goes():
    b = Builder()
    x = b.input("x", "float64")
    b.output("predict", [b.require(x, b.constant(True, "bool"), "never")], "vector", "<f8")
    program = apply(b.finish(), FOLD_CONSTANTS, DROP_DEAD)
    assert ops(program) == []


def test_a_requirement_that_never_holds_stays():
    b = Builder()
    x = b.input("x", "float64")
    b.output("predict", [b.require(x, b.constant(False, "bool"), "always")], "vector", "<f8")
    assert unchanged(b.finish(), FOLD_CONSTANTS)


def test_dead_columns_are_dropped_but_checks_are_not():
    b = Builder()
    x, y, z = (b.input(name, "float64") for name in "xyz")
    b.check_finite(y, "model")
    _ = z * 2.0
    b.output("predict", [x], "vector", "<f8")
    program = apply(b.finish(), DROP_DEAD)
    assert [entry.name for entry in program.inputs] == ["x", "y"]
    assert ops(program) == ["CheckFinite"]


def test_an_answer_of_no_column_keeps_one():
    b = Builder()
    b.input("x", "string")
    b.input("y", "float64")
    b.output("predict", [b.constant([3.0])], "vector", "<f8")
    program = optimise(b.finish())
    assert [entry.name for entry in program.inputs] == ["x"]
    assert interpreter.run(program, {"x": np.array(["a", "b"], dtype=object)})["predict"].tolist() == [
        3.0,
        3.0,
    ]


def test_common_sub_expressions_are_shared_bit_for_bit():
    b = Builder()
    x = b.input("x", "float64")
    b.output("transform", [x + 0.0, x + 0.0, x + -0.0, x + np.nan, x + np.nan], "matrix", "<f8")
    program = apply(b.finish(), SHARE_COMMON, rows={"x": np.array(AWKWARD)})
    assert ops(program) == ["Constant", "Add"] * 3
    values = program.outputs["transform"].values
    assert values[0] == values[1] != values[2]
    assert values[3] == values[4]


def test_numbers_of_other_types_are_not_shared():
    b = Builder()
    index = b.input("i", "int64")
    b.output("transform", [b.one_hot(index, 2, "float64"), b.one_hot(index, 2, "float32")], "matrix", "<f8")
    assert unchanged(b.finish(), SHARE_COMMON)


@pytest.mark.parametrize(
    ("start", "casts", "left"),
    [
        ("float32", ["float64", "float32"], []),
        ("float32", ["float64", "bool"], ["bool"]),
        ("bool", ["int64", "float64"], ["float64"]),
        ("bool", ["float32", "bool"], []),
        ("float64", ["float32", "float64"], ["float32", "float64"]),
        ("int64", ["float64", "int64"], ["float64", "int64"]),
        ("float32", ["float64", "int64"], ["float64", "int64"]),
    ],
)
def test_casts_are_shortened_when_exact(start, casts, left):
    b = Builder()
    value = b.input("x", start)
    for to in casts:
        value = b.op("Cast", value, to=to)
    b.output("transform", [value], "matrix", np.dtype(casts[-1]).str)
    rows = {"x": np.array([0, 1, 2**53 + 1, 3] if start == "int64" else [0, 1, 0.1, 2.5]).astype(start)}
    program, _ = run_passes(b.finish(), [SHORTEN_CASTS, DROP_DEAD], rows)
    assert [node.attrs["to"] for node in program.nodes] == left


def test_select_of_select_and_identity():
    b = Builder()
    x = b.input("X", "float64", 4)
    inner = b.op("Select", x, indices=np.array([3, 1, 2, 0]))
    back = b.op("Select", inner, indices=np.array([3, 1, 2, 0]))
    b.output("transform", [back], "matrix", "<f8")
    program = apply(b.finish(), SIMPLIFY_COLUMNS, DROP_DEAD, rows={"X": np.arange(8.0).reshape(2, 4)})
    assert ops(program) == []
    assert program.outputs["transform"].values == (0,)


def test_select_of_concat_reads_the_columns_themselves():
    b = Builder()
    columns = [b.input(name, "float64") for name in "abcd"]
    joined = b.concat(columns)
    b.output("transform", [joined.select([2, 0])], "matrix", "<f8")
    b.output("predict", [joined.select([3])], "vector", "<f8")
    rows = {name: np.arange(3.0) + i for i, name in enumerate("abcd")}
    program = apply(b.finish(), SIMPLIFY_COLUMNS, DROP_DEAD, rows=rows)
    assert ops(program) == ["Concat"]
    assert [entry.name for entry in program.inputs] == ["a", "c", "d"]
    assert program.outputs["predict"].values == (2,)


def test_a_select_that_would_become_more_pieces_stays():
    b = Builder()
    left, right = b.input("l", "float64", 3), b.input("r", "float64", 3)
    b.output("transform", [b.concat([left, right]).select([0, 3, 1, 4])], "matrix", "<f8")
    assert unchanged(b.finish(), SIMPLIFY_COLUMNS)


def test_concats_flatten_and_neighbouring_selects_merge():
    b = Builder()
    x = b.input("X", "float64", 3)
    inner = b.op("Concat", x.select([0]), x.select([1]))
    outer = b.op("Concat", b.op("Concat", inner), x.select([2]))
    b.output("transform", [outer], "matrix", "<f8")
    program = optimise(b.finish(), {"X": np.arange(6.0).reshape(2, 3)})
    assert ops(program) == []


def test_a_value_twice_stays_a_concat():
    b = Builder()
    x = b.input("X", "float64", 2)
    b.output("transform", [b.concat([x, x])], "matrix", "<f8")
    assert unchanged(b.finish(), SIMPLIFY_COLUMNS)


def checks_left(build, dtype="float64", width=2):
    b = Builder()
    x = b.input("X", dtype, width)
    b.output("transform", [build(b, x)], "matrix", "<f8")
    program, _ = run_passes(b.finish(), [DROP_CHECKS])
    return ops(program).count("CheckFinite")


@pytest.mark.parametrize(
    ("build", "left"),
    [
        (lambda b, x: b.check_finite(b.check_finite(x, "a"), "b"), 1),
        (lambda b, x: b.concat([b.check_finite(x, "a"), b.check_finite(x, "b")]), 1),
        (lambda b, x: b.check_finite(b.check_finite(x, "a"), "b", allow_nan=True), 1),
        (lambda b, x: b.check_finite(b.check_finite(x, "a", allow_nan=True), "b"), 2),
        (lambda b, x: b.check_finite(b.concat([b.check_finite(x, "a").select([1]), x.select([0])]), "b"), 1),
        (lambda b, x: b.check_finite(b.concat([b.check_finite(x.select([1]), "a"), x.select([0])]), "b"), 2),
        (lambda b, x: b.check_finite(b.check_finite(x, "a").select([1]), "b"), 1),
        (lambda b, x: b.check_finite((x > 0.5).cast("float64"), "a"), 0),
        (lambda b, x: b.check_finite(b.sigmoid(x), "a"), 1),
        (lambda b, x: b.check_finite(b.sigmoid(x), "a", allow_nan=True), 0),
        (lambda b, x: b.check_finite(b.clip(x, -5.0, 5.0), "a", allow_nan=True), 0),
        # Finite numbers may overflow when added, divided by less than 1, or raised.
        (lambda b, x: b.check_finite(b.check_finite(x, "a") + 1.0, "b"), 2),
        (lambda b, x: b.check_finite(b.check_finite(x, "a") / 0.5, "b"), 2),
        (lambda b, x: b.check_finite(b.exp(b.check_finite(x, "a")), "b"), 2),
        (lambda b, x: b.check_finite(b.check_finite(x, "a") / 0.0, "b"), 2),
        # An imputer: NaN replaced, infinity refused before.
        (
            lambda b, x: b.check_finite(
                b.where(b.is_nan(b.check_finite(x, "a", allow_nan=True)), b.constant([7.0]), x), "b"
            ),
            2,
        ),
    ],
)
def test_redundant_checks(build, left):
    assert checks_left(build) == left


def test_an_imputed_column_needs_no_second_check():
    def imputed(b, x):
        x = b.check_finite(x, "imputer", allow_nan=True)
        return b.check_finite(b.where(b.is_nan(x), b.constant([7.0, 8.0]), x), "model")

    assert checks_left(imputed) == 1


def test_integers_are_finite_until_they_are_not():
    assert checks_left(lambda b, x: b.check_finite(x.cast("float64") / 1e-200, "a"), "int64") == 0
    assert checks_left(lambda b, x: b.check_finite(x.cast("float64") / 1e-300, "a"), "int64") == 1
    assert checks_left(lambda b, x: b.check_finite(x.cast("float32").cast("float64"), "a"), "int64") == 0


def test_float32_overflows_where_float64_does_not():
    def scaled(b, x):
        return b.check_finite(b.check_finite(x, "a") / b.constant([2.0], "float32"), "b").cast("float64")

    assert checks_left(scaled, "float32") == 2 - 1
    assert checks_left(lambda b, x: b.check_finite(x.cast("float32"), "a").cast("float64"), "float64") == 1
    narrow = lambda b, x: b.check_finite(b.check_finite(x, "a").cast("float32"), "b").cast("float64")  # noqa: E731
    assert checks_left(narrow, "float64") == 2
