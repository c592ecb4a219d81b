"""Loops inside programs: what the table refuses, round trips through files, and what is made of them around the ops."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgeml.errors import ProgramError
from edgeml.ir import Builder, Program, interpreter, serial
from edgeml.ir.printer import to_text
from edgeml.ir.program import Node, Output, attr_key
from edgeml.ir.spec import check
from edgeml.parity.check import LOOP_BOUND, bounds
from edgeml.parity.rounding import iterates, rounds_to_float32
from edgeml.passes import optimise, simplify
from tests.loops import LOOPS, newton, single


def program_of(dtypes, widths, build):
    b = Builder()
    values = [b.input(f"x{i}", d, w) for i, (d, w) in enumerate(zip(dtypes, widths, strict=True))]
    result = build(b, *values)
    b.output("y", [result], "matrix", result.dtype)
    return b.finish()


@pytest.mark.parametrize("case", LOOPS, ids=lambda case: case[2].__name__)
def test_a_file_gives_the_loop_back(case):
    program = program_of(*case)
    description, arrays = serial.dump(program)
    again = serial.load(json.loads(json.dumps(description)), arrays)
    assert attr_key(again) == attr_key(program)


def test_rows_end_by_themselves():
    program = program_of(["float64"], [2], newton)
    x = np.array([[2.0, 3.0], [1e8, 1.0], [4.0, 4.0]])
    together = interpreter.run(program, {"x0": x})["y"]
    np.testing.assert_allclose(together[:, :2], np.sqrt(x), rtol=1e-15)
    assert len(set(together[:, 2])) > 1
    for row in range(3):
        np.testing.assert_array_equal(interpreter.run(program, {"x0": x[row : row + 1]})["y"][0], together[row])


def test_equal_loops_are_one_and_others_are_two():
    b = Builder()
    x = b.input("x", "float64", 1)
    twice = [b.loop(x, [], 5, lambda s, by=by: (s * by, s > 1.0)) for by in (0.5, 0.5, 0.25)]
    b.output("y", twice, "matrix", "float64")
    assert [node.op for node in optimise(b.finish()).nodes] == ["Loop", "Loop"]


def test_a_loop_of_constants_is_folded():
    program = program_of(["float64"], [1], lambda b, x: x + b.loop(b.constant([8.0]), [], 9, lambda s: (s / 2, s > 1)))
    assert [node.op for node in simplify(program).nodes] == ["Constant", "Add"]


def test_the_bound_behind_a_loop():
    program = program_of(["float64"], [2], newton)
    assert iterates(program, "y")
    assert bounds(program, {"y": np.zeros((1, 3))}, {}) == {"y": LOOP_BOUND}
    b = Builder()
    x = b.input("x", "float64", 2)
    b.output("y", [newton(b, x)], "matrix", "float64")
    b.output("z", [x + 1.0], "matrix", "float64")
    assert bounds(b.finish(), {"y": np.zeros((1, 3)), "z": np.zeros((1, 2))}, {}) == {"y": LOOP_BOUND, "z": 1e-9}


def test_float32_sums_in_a_body_count():
    assert rounds_to_float32(program_of(["float32"], [2], single), "y")

    def wide(b, x):
        low = b.loop(
            x, [], 3, lambda s: (s.builder.linear(s.cast("float32"), np.eye(2)).cast("float64"), s.builder.max(s) > 0)
        )
        return low

    assert rounds_to_float32(program_of(["float64"], [2], wide), "y")


def test_the_printer_shows_the_body():
    text = to_text(program_of(["float64"], [2], newton))
    assert "Loop(%1, %0, body=program of" in text
    assert "\n    state = matrix of" in text


def body_of(state="float64", more="bool", *, width=1, effect=False, text=False):
    b = Builder()
    x = b.input("x", "float64", 1)
    after = b.check_finite(x, "step") if effect else x * 0.5
    if text:
        b.lookup(b.constant(("a",)), ("a", "b"))
    b.output("state", [after.cast(state)], "matrix", state)
    b.output("more", [b.concat([x > 0.0] * width) if more == "bool" else x], "vector", more)
    return b


@pytest.mark.parametrize(
    ("body", "most", "message"),
    [
        (lambda: body_of(), 0, "at most 0 rounds"),
        (lambda: body_of(), 10**9, "at most 1000000000 rounds"),
        (lambda: body_of(state="float32"), 3, "state and more"),
        (lambda: body_of(more="float64"), 3, "state and more"),
        (lambda: body_of(effect=True), 3, "refuses no rows"),
        (lambda: body_of(text=True), 3, "works on numbers"),
    ],
)
def test_bodies_that_are_refused(body, most, message):
    b = Builder()
    x = b.input("x", "float64", 1)
    with pytest.raises(ProgramError, match=message):
        b.op("Loop", x, body=body().finish(), most=most)


def test_what_is_given_is_what_the_body_takes():
    b = Builder()
    x, y = b.input("x", "float64", 1), b.input("y", "float64", 2)
    for inputs in ((y,), (x, y), (x, x)):
        with pytest.raises(ProgramError, match="not of the types"):
            b.op("Loop", *inputs, body=body_of().finish(), most=3)
    with pytest.raises(ProgramError, match="no square matrix"):
        b.solve(y, y)


def test_a_body_reads_what_it_is_given_only():
    b = Builder()
    x = b.input("x", "float64", 1)
    with pytest.raises(ProgramError, match="a value of another program"):
        b.loop(x, [], 3, lambda s: (s + x, s > 0.0))


def test_outputs_of_a_body_are_those_of_a_loop():
    program = program_of(["float64"], [2], newton)
    (loop,) = [node for node in program.nodes if node.op == "Loop"]
    body = loop.attrs["body"]
    for outputs in (
        {"state": body.outputs["state"]},
        {**body.outputs, "state": Output("state", body.outputs["state"].values, "matrix", "int8")},
        {**body.outputs, "else": Output("else", body.outputs["more"].values, "vector", "bool")},
    ):
        wrong = Program(body.inputs, body.nodes, outputs)
        node = Node("Loop", loop.inputs, loop.type, {"body": wrong, "most": 3})
        with pytest.raises(ProgramError, match="state and more"):
            check(Program(program.inputs, (*program.nodes[:-1], node), program.outputs))


def test_a_file_of_bodies_without_end_is_refused():
    program = program_of(["float64"], [1], lambda b, x: b.loop(x, [], 3, lambda s: (s * 0.5, s > 0.0)))
    description, arrays = serial.dump(program)
    loop = description["steps"][0][1]
    for _ in range(serial.MOST_DEPTH):
        inner = json.loads(json.dumps(loop))
        loop[-1]["body"]["steps"][0][1:1] = [inner]
        loop = loop[-1]["body"]["steps"][0][1]
    with pytest.raises(ProgramError, match="deep"):
        serial.load(description, arrays)
    for wrong in (None, 3, {}, [], {"inputs": []}):
        description, arrays = serial.dump(program)
        description["steps"][0][1][-1]["body"] = wrong
        with pytest.raises(ProgramError):
            serial.load(description, arrays)
