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
        (["nodes"], ..., "malformed program description"),
        (["nodes"], None, "malformed program description"),
        (["nodes"], {"a": 1}, "malformed program description"),
        (["inputs", 0, "type"], ["float64"], "malformed program description"),
        (["inputs", 0, "type"], ["float64", True], "must be an integer"),
        (["inputs", 0, "type"], ["float64", 2.0], "must be an integer"),
        (["inputs", 0, "type"], [["float64"], 1], "input age has type|malformed"),
        (["inputs", 0, "name"], "town", "two inputs have one name"),
        (["nodes", 0, "op"], "Exec", "op 'Exec' is not known to this version"),
        (["nodes", 0, "op"], ["Neg"], "malformed program description"),
        (["nodes", 0, "inputs"], [99], "not computed yet"),
        (["nodes", 0, "inputs"], ["0"], "must be an integer"),
        (["nodes", 0, "attrs"], [], "malformed program description"),
        (["nodes", 2, "attrs", "value"], {"array": 99}, "refers to item 99 of 5"),
        (["nodes", 2, "attrs", "value"], {"array": -1}, "refers to item -1 of 5"),
        (["nodes", 2, "attrs", "value"], {"array": "0"}, "must be an integer"),
        (["nodes", 2, "attrs", "value"], {"array": None}, "must be an integer"),
        (["outputs", 1, "name"], "predict", "two outputs have one name"),
        (["nodes", 2, "attrs", "value"], {"neither": 1}, "malformed program description"),
        (["nodes", 4, "attrs", "keys"], {"cells": 5}, "malformed program description"),
        (["nodes", 4, "attrs", "keys"], {"cells": [5]}, "not of kind keys"),
        (["nodes", 5, "attrs", "width"], "5", "not of kind int"),
        (["nodes", 5, "attrs", "width"], 10**30, "declared|malformed"),
        (["nodes", 5, "attrs", "dtype"], "object", "OneHot"),
        (["outputs", 0, "values"], [99], "does not exist"),
        (["outputs", 0, "form"], "heap", "malformed"),
        (["outputs", 0, "dtype"], "no such dtype", "malformed program description"),
        (["outputs", 0, "name"], ["predict"], "malformed program description"),
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
