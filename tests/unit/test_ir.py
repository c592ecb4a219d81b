"""The program form: what is legal, how it is built, printed, stored and run, and its elementary functions."""

import dataclasses

import numpy as np
import pytest

from edgeml.errors import InputError, NonFiniteError, ProgramError, UnknownCategoryError
from edgeml.ir import Builder, Input, Node, Output, Program, ValueType, interpreter
from edgeml.ir.ops import OPS, SELDOM
from edgeml.ir.printer import to_text
from edgeml.ir.program import attr_key
from edgeml.ir.spec import check
from tests.programs import everyday, small_forest

F64 = ValueType("float64", 1)
NAN = float("nan")
X = Input("x", F64)


def program(*nodes, inputs=(X,), output=None):
    """A program of given nodes whose last value is the output."""
    last = len(inputs) + len(nodes) - 1
    output = output or Output("predict", (last,), "vector", "<f8")
    return Program(tuple(inputs), tuple(nodes), {output.name: output})


# --- spec
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (program(Node("Frobnicate", (0,), F64)), "%1 Frobnicate .*no such op"),
        (program(Node("Neg", (0, 0), F64)), "2 inputs, the op takes 1"),
        (program(Node("Concat", (), F64)), "0 inputs, the op takes None"),
        (program(Node("Neg", (1,), F64)), "reads a value that is not computed yet"),
        (program(Node("Neg", (-1,), F64)), "reads a value that is not computed yet"),
        (program(Node("Neg", (0,), F64, {"extra": 1})), r"attributes \['extra'\], the op takes \[\]"),
        (program(Node("Cast", (0,), F64)), r"attributes \[\], the op takes \['to'\]"),
        (program(Node("Cast", (0,), F64, {"to": 3})), "attribute to is not of kind str"),
        (program(Node("OneHot", (0,), F64, {"width": True, "dtype": "float64"})), "width is not of kind int"),
        (program(Node("Select", (0,), F64, {"indices": [0]})), "indices is not of kind array"),
        (
            program(Node("Constant", (), ValueType("string", 1), {"value": (1.0,)})),
            "value is not of kind keys",
        ),
        (
            program(Node("Constant", (), F64, {"value": np.array(["a"], dtype=object)})),
            "value is not of kind keys",
        ),
        (
            program(Node("CheckFinite", (0,), F64, {"allow_nan": 1, "what": "m"})),
            "allow_nan is not of kind bool",
        ),
        (
            program(Node("Neg", (0,), ValueType("float64", 2))),
            r"declared float64\[2\], computes float64\[1\]",
        ),
        (program(Node("Cast", (0,), F64, {"to": "string"})), "cannot cast to string"),
        (program(Node("And", (0, 0), ValueType("bool", 1))), "got float64.*need one of bool"),
        (program(inputs=(Input("x", F64), Input("x", F64))), "two inputs have one name"),
        (program(inputs=(Input("x", ValueType("float16", 1)),)), r"input x has type float16\[1\]"),
        (program(inputs=(Input("x", ValueType("float64", 0)),)), r"input x has type float64\[0\]"),
        (program(output=Output("predict", (5,), "vector", "<f8")), "names a value that does not exist"),
        (program(output=Output("predict", (-1,), "vector", "<f8")), "names a value that does not exist"),
        (program(output=Output("predict", (), "vector", "<f8")), "output predict is malformed"),
        (program(output=Output("predict", (0,), "tensor", "<f8")), "output predict is malformed"),
        (program(output=Output("predict", (0, 0), "vector", "<f8")), "a vector but not one column"),
        (
            Program((Input("x", F64),), (), {"other": Output("predict", (0,), "vector", "<f8")}),
            "other is malformed",
        ),
    ],
)
def test_spec_refuses(bad, message):
    with pytest.raises(ProgramError, match=message):
        check(bad)


def test_spec_names_the_step():
    b = Builder()
    x = b.input("x", "string")
    with b.step("prep"), b.step("scale"), pytest.raises(ProgramError, match="prep/scale: Sqrt: got string"):
        b.op("Sqrt", x)


TABLE = {
    "weight": np.ones((2, 1)), "bias": np.ones(1), "table": np.ones((0, 1)),
    "starts": np.zeros(1, dtype=np.int64), "after": np.empty(0, dtype=np.int64),
}  # fmt: skip
RANGE = {
    "low": np.zeros(2), "high": np.ones(2), "allow_nan": np.ones(2, dtype=bool), "columns": np.arange(2), "what": "x",
}  # fmt: skip


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        ("Linear", {"weight": np.ones((3, 1)), "bias": np.ones(1)}, "does not fit"),
        ("Linear", {"weight": np.ones((2, 1), np.float32), "bias": np.ones(1)}, "must be float64"),
        ("Select", {"indices": np.array([2])}, "outside"),
        ("Select", {"indices": np.array([0], dtype=np.int32)}, "int64"),
        ("Lookup", {"keys": np.array([1.0])}, "reads one column"),
        ("Interp", {"xs": np.array([0.0, 1.0]), "ys": np.array([0.0, 1.0])}, "Interp of"),
        ("Recode", {"keys": np.array([1.0]), "values": np.array([0.0, 1.0])}, "reads one column"),
        ("TableLinear", TABLE | {"weight": np.ones((3, 1))}, "does not fit"),
        ("TableLinear", TABLE | {"table": np.ones((2, 2))}, "table must be float64 for 1 outputs"),
        ("TableLinear", TABLE | {"starts": np.array([0, 2])}, "as many places"),
        ("TableLinear", TABLE | {"starts": np.array([1])}, "starts must grow"),
        ("TableLinear", TABLE | {"after": np.array([1])}, "after must grow"),
        ("CheckRange", RANGE | {"high": np.ones(1)}, "CheckRange of"),
        ("CheckRange", RANGE | {"allow_nan": np.ones(2)}, "CheckRange of"),
    ],
)
def test_ops_refuse_what_does_not_fit(op, attrs, message):
    b = Builder()
    x = b.input("X", "float64", 2)
    with pytest.raises(ProgramError, match=message):
        b.op(op, x, **attrs)


def test_every_op_has_a_meaning_and_says_it():
    assert all(op.doc and callable(op.evaluate) and op.name == name for name, op in OPS.items())
    assert {name for name, op in OPS.items() if op.effect} == {"CheckFinite", "CheckRange", "Require"}


def test_files_of_seldom_ops_declare_what_stands_with_them():
    declared: dict[str, list[str]] = {}
    for name, op in OPS.items():
        declared.setdefault(op.evaluate.__module__.removeprefix("edgeml.ir.ops_"), []).append(name)
    assert {file: declared[file] for file in SELDOM} == {file: ops.split() for file, ops in SELDOM.items()}
    assert sorted(declared) == sorted([*SELDOM, "tensor", "ml", "raw"])


# --- builder
def built(make, dtype="float64", width=2):
    b = Builder()
    return make(b, b.input("X", dtype, width))


@pytest.mark.parametrize(
    ("make", "dtype", "expected"),
    [
        (lambda b, x: x + 1, "float64", "float64"),
        (lambda b, x: x + 1.5, "float32", "float32"),  # a Python number takes the value's dtype
        (lambda b, x: x + np.array([1.5, 2.5]), "float32", "float64"),  # an array promotes as an array
        (lambda b, x: np.array([1.5, 2.5], dtype=np.float32) * x, "float32", "float32"),
        (lambda b, x: x + np.float64(1.5), "float32", "float32"),  # NumPy's scalars count as Python's do
        (lambda b, x: x + np.float32(1.5), "float64", "float64"),
        (lambda b, x: x * 2, "int64", "int64"),
        (lambda b, x: x * 2.0, "int64", "float64"),
        (lambda b, x: x / np.array([2.0, 4.0]), "int64", "float64"),
        (lambda b, x: 1 - x, "int64", "int64"),
        (lambda b, x: x > 0, "float32", "bool"),
        (lambda b, x: (x > 0) | ~(x < 1), "int64", "bool"),
        (lambda b, x: (x > 0) + np.array([1, 2]), "float64", "int64"),
        (lambda b, x: b.where(x > 0, x, 0), "float32", "float32"),
        (lambda b, x: b.clip(x, 0, 1), "float32", "float32"),
        (lambda b, x: x.cast("float64").cast("float64"), "float32", "float64"),
    ],
)
def test_builder_promotes_as_numpy_does(make, dtype, expected):
    assert built(make, dtype).dtype == expected


def test_promotion_gives_numpys_values():
    rows = np.array([[0.1, 16777217.0]], dtype=np.float32)
    shift = np.array([0.1, 0.1])
    b = Builder()
    x = b.input("X", "float32", 2)
    b.output("transform", [x - shift], "matrix", "<f8")
    got = interpreter.run(b.finish(), {"X": rows})["transform"]
    assert (got == rows - shift).all()
    assert got.dtype == (rows - shift).dtype


def test_builder_values_reflect_and_select():
    assert built(lambda b, x: np.array([1.0, 2.0]) - x).type == ValueType("float64", 2)
    assert built(lambda b, x: x.select(slice(None))).id == 0
    assert built(lambda b, x: x.select([True, False])).width == 1
    assert built(lambda b, x: x.select(-1)).width == 1
    assert repr(built(lambda b, x: x)) == "Value(%0: float64[2])"


def test_builder_refuses():
    b = Builder()
    x = b.input("x", "float64")
    y = x + 1
    with pytest.raises(ProgramError, match="input late declared after the first operation"):
        b.input("late", "float64")
    with pytest.raises(ProgramError, match="Neg takes 1 inputs"):
        b.op("Neg", x, y)
    with pytest.raises(ProgramError, match="widths must be equal or 1"):
        b.concat([x, x]) + b.concat([x, x, x])
    with pytest.raises(ProgramError, match="one dtype"):
        b.op("Add", x, b.constant([1]))


def test_strings_compare_with_strings():
    b = Builder()
    x = b.input("x", "string")
    b.output("predict", [x == "a"], "vector", "|b1")
    cells = np.array(["a", "b", None, NAN, ""], dtype=object)
    assert interpreter.run(b.finish(), {"x": cells})["predict"].tolist() == [True, False, False, False, False]


# --- printer
GOLDEN_TEXT = """\
%0   float64[1]  input 'age'
%1   string[1]   input 'town'
%2   float64[1]  CheckFinite(%0, allow_nan=True, what='prep/num')            prep/num
%3   bool[1]     IsNaN(%2)                                                   prep/num
%4   float64[1]  Constant(value=[31.5])                                      prep/num
%5   float64[1]  Where(%3, %4, %2)                                           prep/num
%6   int64[1]    Lookup(%1, keys=['Bern', 'Genf', 'Chur', None, … 5])        prep/cat
%7   float64[5]  OneHot(%6, width=5, dtype='float64')                        prep/cat
%8   float64[6]  Concat(%5, %7)                                              model
%9   float64[1]  Linear(%8, weight=float64[6, 1], bias=[0.25])               model
%10  float64[1]  Sigmoid(%9)                                                 model
%11  float64[1]  Constant(value=[0.5])                                       model
%12  bool[1]     Greater(%10, %11)                                           model
%13  int64[1]    Cast(%12, to='int64')                                       model
%14  string[1]   Take(%13, table=['no', 'yes'])
%15  float64[1]  Constant(value=[1.])
%16  float64[1]  Sub(%15, %10)
predict = vector of %14 as <U3
predict_proba = matrix of %16, %10 as <f8"""


def squeezed(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_printer_is_readable():
    text = to_text(everyday())
    assert squeezed(text) == squeezed(GOLDEN_TEXT)
    origins = {line.rindex("prep/") for line in text.splitlines() if line.endswith(("prep/num", "prep/cat"))}
    assert len(origins) == 1, "the steps stand in one column"


def test_printer_gives_a_value_one_line():
    b = Builder()
    index = b.input("i", "int64")
    b.output("predict", [b.take(index, np.array([[0.5], [1.0]]))], "vector", "<f8")
    assert len(to_text(b.finish()).splitlines()) == 3


def test_printer_sums_trees_up():
    text = to_text(small_forest())
    assert "TreeEnsemble(%0, 2 trees, 4 nodes, leaves 3x1)" in text


# --- interpreter
def test_trees_route_at_below_and_without_the_threshold():
    rows = np.array([[0, 0.5], [0, np.nextafter(0.5, 1)], [0, NAN], [0, -np.inf], [0, np.inf]])
    got = interpreter.run(small_forest(), {"X": rows})["predict"]
    assert got.tolist() == [11.5, 12.5, 11.5, 11.5, 12.5]


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_answers_of_no_column_have_a_row_each(rows):
    b = Builder()
    b.input("x", "float64")
    b.output("predict", [b.constant([2.0])], "vector", "<f8")
    assert interpreter.run(b.finish(), {"x": np.zeros(rows)})["predict"].tolist() == [2.0] * rows


@pytest.mark.parametrize("rows", [0, 1])
def test_few_rows(rows):
    columns = {"age": np.full(rows, NAN), "town": np.array(["Bern"] * rows, dtype=object)}
    got = interpreter.run(everyday(), columns)
    assert got["predict"].shape == (rows,)
    assert got["predict"].dtype == "<U3"
    assert got["predict_proba"].shape == (rows, 2)


def test_inputs_may_be_columns_or_matrices_and_are_not_written_to():
    b = Builder()
    x = b.input("x", "float64")
    b.output("transform", [b.sum(b.concat([x, x])) + x], "matrix", "<f8")
    column = np.array([1.0, 2.0])
    column.flags.writeable = False
    assert interpreter.run(b.finish(), {"x": column})["transform"].tolist() == [[3.0], [6.0]]
    assert interpreter.run(b.finish(), {"x": column[:, None]})["transform"].tolist() == [[3.0], [6.0]]


def test_only_the_outputs_asked_for_are_computed():
    b = Builder()
    x, y = b.input("x", "float64"), b.input("y", "float64")
    b.output("predict", [x], "vector", "<f8")
    b.output("transform", [y], "matrix", "<f8")
    assert interpreter.run(b.finish(), {"x": np.ones(2)}, ["predict"])["predict"].tolist() == [1.0, 1.0]


def test_checks_refuse_even_for_an_output_that_does_not_read_them():
    b = Builder()
    x, y = b.input("x", "float64"), b.input("y", "float64")
    b.check_finite(y, "step model")
    b.output("predict", [x], "vector", "<f8")
    rows = {"x": np.ones(2), "y": np.array([1.0, np.inf])}
    with pytest.raises(NonFiniteError, match=r"step model was given inf \(row 1, its column 0\)"):
        interpreter.run(b.finish(), rows, ["predict"])


@pytest.mark.parametrize(("kind", "error"), [("category", UnknownCategoryError), ("input", InputError)])
def test_require_refuses_by_kind(kind, error):
    b = Builder()
    x = b.input("x", "int64")
    b.output("predict", [b.require(x, x >= 0, "too small", kind)], "vector", "<i8")
    with pytest.raises(error, match="row 2: too small") as caught:
        interpreter.run(b.finish(), {"x": np.array([0, 1, -1])})
    assert type(caught.value) is error


def lookup(keys, cells, dtype):
    b = Builder()
    x = b.input("x", dtype)
    b.output("predict", [b.lookup(x, keys)], "vector", "<i8")
    return interpreter.run(b.finish(), {"x": np.array(cells, dtype=object if dtype == "string" else dtype)})["predict"]


def test_lookup_finds_nan_none_and_the_first_of_equals():
    assert lookup(("b", None, NAN, "b"), ["b", None, NAN, "", "c"], "string").tolist() == [0, 1, 2, -1, -1]
    assert lookup([3.0, NAN, -0.0, 3.0], [3, NAN, 0, 2, np.inf], "float64").tolist() == [0, 1, 2, -1, -1]
    assert lookup(np.array([], float), [1.0, NAN], "float64").tolist() == [-1, -1]
    assert lookup((), ["a"], "string").tolist() == [-1]
    big = 2**63 - 1
    assert lookup([big - 1, big], [big, big - 1, big - 2], "int64").tolist() == [1, 0, -1]


def test_sums_run_from_the_first_column_to_the_last():
    row = np.array([[1e16, 1.0, 1.0, -1e16]])
    b = Builder()
    x = b.input("X", "float64", 4)
    b.output("predict", [b.sum(x)], "vector", "<f8")
    b.output("decision_function", [b.linear(x, np.ones((4, 1)))], "vector", "<f8")
    got = interpreter.run(b.finish(), {"X": row})
    assert got["predict"][0] == got["decision_function"][0] == ((1e16 + 1.0) + 1.0) - 1e16


def test_interp_is_numpys():
    xs, ys = np.array([0.0, 0.1, 0.7, 1.0]), np.array([0.0, 0.3, 0.31, 1.0])
    points = np.concatenate([np.linspace(-0.5, 1.5, 101), xs, np.nextafter(xs, 2), [NAN, np.inf, -np.inf]])
    b = Builder()
    x = b.input("x", "float64")
    b.output("predict", [b.op("Interp", x, xs=xs, ys=ys)], "vector", "<f8")
    np.testing.assert_array_equal(interpreter.run(b.finish(), {"x": points})["predict"], np.interp(points, xs, ys))


def test_attribute_keys_tell_bits_apart():
    assert attr_key(0.0) != attr_key(-0.0)
    assert attr_key(NAN) == attr_key(float("nan"))
    assert attr_key(True) != attr_key(1)
    assert attr_key(np.array([1.0])) != attr_key(np.array([1.0], np.float32))
    assert attr_key(np.zeros((2, 1))) != attr_key(np.zeros((1, 2)))
    assert attr_key(("a", None, NAN)) == attr_key(("a", None, NAN))


def test_large_trees_are_checked_once_and_changed_ones_again():
    """A pass that makes new arrays is checked; the memory of what was legal holds no array in memory."""
    import gc
    import weakref

    from edgeml.ir import spec
    from tests.kernel_tools import random_trees

    attrs = random_trees(400, 4, seed=1)
    assert len(attrs["feature"]) > spec._WORTH
    builder = Builder()
    x = builder.input("x", "float64", 4)
    builder.output("y", [builder.op("TreeEnsemble", x, **attrs)], "matrix", "float64")
    program = builder.finish()
    proofs = len(spec._FOUND)
    assert spec.check(program) is program
    assert len(spec._FOUND) == proofs
    broken = attrs["feature"].copy()
    broken[0] = 4
    node = program.nodes[0]
    for changed in ({"feature": broken}, {"base": np.zeros(2)}):
        worse = dataclasses.replace(program, nodes=(dataclasses.replace(node, attrs={**node.attrs, **changed}),))
        with pytest.raises(ProgramError):
            spec.check(worse)
    seen = weakref.ref(node.attrs["threshold"])
    del attrs, builder, program, node, worse, broken, changed, x
    gc.collect()
    assert seen() is None
