"""Programs as JSON and arrays: round trips, and every malformation refused."""

import json

import numpy as np
import pytest

from edgeml.errors import ProgramError
from edgeml.ir import Builder, Node, Program, serial
from edgeml.ir.program import same_attrs
from edgeml.ir.spec import check
from tests.programs import everyday, small_forest


@pytest.mark.parametrize("make", [everyday, small_forest])
def test_serial_round_trip(make):
    original = make()
    description, arrays = serial.dump(original)
    again = serial.load(json.loads(json.dumps(description)), arrays)
    assert again.inputs == original.inputs
    assert again.outputs == original.outputs
    for a, b in zip(again.nodes, original.nodes, strict=True):
        assert (a.op, a.inputs, a.type, a.origin) == (b.op, b.inputs, b.type, b.origin)
        assert same_attrs(a.attrs, b.attrs)


def test_serial_stores_equal_arrays_once():
    b = Builder()
    x = b.input("x", "float64")
    b.output("transform", [x + 0.5, x * 0.5, x + -0.0, x + 0.0], "matrix", "<f8")
    assert len(serial.dump(b.finish())[1]) == 3  # -0.0 and 0.0 stay apart


def test_serial_writes_nothing_twice():
    """Types of results and attributes that are not there are known from the op table; origins stand in one list."""
    description, _ = serial.dump(everyday())
    text = json.dumps(description)
    assert text.count("prep/cat") == 1
    assert "{}" not in text
    assert text.count("float64") == 2  # the type of a column, and an attribute


def edit(path, value):
    """A description of ``everyday`` with one entry replaced, or removed where value is ``...``."""
    description, arrays = serial.dump(everyday())
    description = json.loads(json.dumps(description))
    *way, last = path
    place = description
    for key in way:
        place = place[key]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return description, arrays


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["steps"], ..., "malformed program description"),
        (["steps"], None, "malformed program description"),
        (["steps"], {"a": 1}, "must be an integer"),
        (["steps", 0], [], "malformed program description"),
        (["steps", 0], [0, "Neg"], "op 'N' is not known"),
        (["steps", 0], [0, []], "malformed program description"),
        (["steps", 0], [0, None], "malformed program description"),
        (["steps", 0, 0], 4, "refers to item 4 of 4"),
        (["steps", 0, 0], -1, "refers to item -1 of 4"),
        (["steps", 0, 0], "prep/num", "must be an integer"),
        (["origins"], ..., "malformed program description"),
        (["origins"], 5, "malformed program description"),
        (["inputs", 0], ["float64", 1], "malformed program description"),
        (["inputs", 0], ["float64", True, ["age"]], "must be an integer"),
        (["inputs", 0], ["float64", 2.0, ["age"]], "must be an integer"),
        (["inputs", 0], ["float64", 0, ["age"]], "input age has type"),
        (["inputs", 0], [["float64"], 1, ["age"]], "input age has type"),
        (["inputs", 0], ["float64", 1, 5], "malformed program description"),
        (["inputs", 0, 2, 0], "town", "two inputs have one name"),
        (["steps", 0, 1, 0], "Exec", "op 'Exec' is not known to this version"),
        (["steps", 0, 1, 0], ["Neg"], "malformed program description"),
        (["steps", 0, 1, 1], 99, "not computed yet"),
        (["steps", 0, 1, 1], 2, "not computed yet"),
        (["steps", 0, 1, 1], -1, "not computed yet"),
        (["steps", 0, 1, 1], "0", "must be an integer"),
        (["steps", 0, 1, 2], [], "must be an integer"),
        (["steps", 0, 1, 2], ..., "attributes"),
        (["steps", 0, 1, 2, "more"], 1, "attributes"),
        (["steps", 0, 3, 1, "value"], 99, "refers to item 99 of 5"),
        (["steps", 0, 3, 1, "value"], -1, "refers to item -1 of 5"),
        (["steps", 0, 3, 1, "value"], "0", "must be an integer"),
        (["steps", 0, 3, 1, "value"], None, "must be an integer"),
        (["steps", 0, 3, 1, "value"], {"array": 0}, "must be an integer"),
        (["steps", 0, 3, 1, "value"], 1, "Constant"),
        (["outputs", 1, 0], "predict", "two outputs have one name"),
        (["steps", 1, 1, 2, "keys"], 5, "refers to item 5 of 5"),
        (["steps", 1, 1, 2, "keys"], [5], "not of kind keys"),
        (["steps", 1, 1, 2, "keys"], [["Bern"]], "not of kind keys"),
        (["steps", 1, 2, 2, "width"], "5", "not of kind int"),
        (["steps", 1, 2, 2, "width"], True, "not of kind int"),
        (["steps", 1, 2, 2, "width"], 4, "Linear"),
        (["steps", 1, 2, 2, "width"], -5, "OneHot"),
        (["steps", 1, 2, 2, "dtype"], "object", "OneHot"),
        (["steps", 2, 2, 2, "weight"], 2, "Linear|malformed"),
        (["outputs", 0, 3], 99, "does not exist"),
        (["outputs", 0, 3], ..., "malformed"),
        (["outputs", 0, 1], "heap", "malformed"),
        (["outputs", 0, 2], "no such dtype", "malformed program description"),
        (["outputs", 0, 0], ["predict"], "malformed program description"),
    ],
)
def test_serial_refuses_what_is_malformed(path, value, message):
    with pytest.raises(ProgramError, match=message):
        serial.load(*edit(path, value))


@pytest.mark.parametrize("description", [None, 3, [], "nodes", {}])
def test_serial_refuses_what_is_no_description(description):
    with pytest.raises(ProgramError, match="malformed program description"):
        serial.load(description, [])


def test_serial_refuses_odd_arrays():
    description, arrays = serial.dump(everyday())
    with pytest.raises(ProgramError):
        serial.load(description, [a.astype(object) for a in arrays])
    with pytest.raises(ProgramError):
        serial.load(description, [a.astype(np.complex128) for a in arrays])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("roots", np.array([9, 3], np.int32)),
        ("left", np.array([0, 0, 1, 2], np.int32)),  # a child in front of its parent: the walk would not end
        ("left", np.array([1, 0, 1, 7], np.int32)),
        ("feature", np.array([2, -1, -1, -1], np.int32)),
        ("threshold", np.array([0.5, 0, 0])),
        ("category_set", np.array([0, -1, -1, -1], np.int32)),
        ("target", np.array([0, 1], np.int32)),
        ("missing_left", np.array([1, 0, 0, 0], np.int64)),
    ],
)
def test_spec_refuses_malformed_trees(name, value):
    forest = small_forest()
    node = forest.nodes[0]
    broken = Node(node.op, node.inputs, node.type, {**node.attrs, name: value})
    with pytest.raises(ProgramError, match="TreeEnsemble"):
        check(Program(forest.inputs, (broken,), forest.outputs))
