"""Numbers and shapes at the ends of what float32, int32 and the runtimes of TFLite hold."""

import numpy as np
import pytest

from edgeml.ir import Builder, interpreter
from tests.tflite_oracle import graph_answers


@pytest.mark.parametrize("form", ["static", "dynamic", "int8", "int16"])
def test_steps_below_the_normal_numbers_of_float32(form):
    """XNNPACK took the process down with such scales."""
    for grid, scale, behind in ((1e-40, 0.01, 1e-40), (0.02, 1e-42, 1e-42), (1e-25, 1e-25, 1e-38)):
        b = Builder()
        x = b.input("x", "float64", 4)
        if form == "static":
            x = b.op("FakeQuantize", x, scale=float(np.float32(grid)), zero_point=0, bits=8)
        elif form == "dynamic":
            x = b.op("DynamicQuantize", x, bits=8)
        weight = np.random.default_rng(0).integers(-127, 128, (4, 3)).astype("int16" if form == "int16" else "int8")
        scales = np.full(3, np.float32(scale)).astype(np.float64)
        y = b.op("QuantizedLinear", x, weight=weight, scale=scales, bias=np.zeros(3))
        step = float(np.float32(behind))
        b.output("out", [b.op("FakeQuantize", y, scale=step, zero_point=0, bits=8)], "matrix", "<f8")
        program, x = b.finish(), np.random.default_rng(1).normal(size=(20, 4)) * grid * 40
        want = interpreter.run(program, {"x": x})["out"]
        for xnnpack in (False, True):
            got = graph_answers(program, {"x": x}, xnnpack)["out"]
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-37)


@pytest.mark.parametrize("step", [3e37, 3e38])
def test_a_grid_up_to_the_largest_number_of_float32(step):
    b = Builder()
    x = b.input("x", "float64", 3)
    b.output("out", [b.op("FakeQuantize", x, scale=float(np.float32(step)), zero_point=3, bits=8)], "matrix", "<f8")
    program, x = b.finish(), np.array([[1e38, -3e38, 1.0]])
    want = interpreter.run(program, {"x": x})["out"]
    for xnnpack in (False, True):
        np.testing.assert_allclose(graph_answers(program, {"x": x}, xnnpack)["out"], want, rtol=1e-6)


def test_rows_so_long_that_their_sums_leave_int32():
    width = 2**17
    b = Builder()
    x = b.op("DynamicQuantize", b.input("x", "float64", width), bits=8)
    weight = np.full((width, 1), 127, np.int8)
    b.output("out", [b.op("QuantizedLinear", x, weight=weight, scale=np.ones(1), bias=np.zeros(1))], "matrix", "<f8")
    program, x = b.finish(), np.ones((2, width))
    for xnnpack in (False, True):
        got = graph_answers(program, {"x": x}, xnnpack)["out"]
        np.testing.assert_allclose(got, np.full((2, 1), 127.0 * width), rtol=1e-4)
