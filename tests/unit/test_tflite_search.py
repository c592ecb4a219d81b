"""TFLite lowerings of searches: ties, zeros, NaN and infinity are ordered as the meaning of the ops says."""

import numpy as np
import pytest

from edgeml.converters.nearest import nearest_point
from edgeml.converters.registry import Conversion
from edgeml.ir import Builder, interpreter
from edgeml.targets.tflite_graph import Model
from edgeml.targets.tflite_lowering import Lowering
from tests.tflite_oracle import graph_answers, operators, read

NAN, INF = np.nan, np.inf
POOLS = {
    "ties": np.array([1.0, 2.0, 3.0]),
    "odd": np.array([0.0, -0.0, 1.0, -1.0, NAN, np.copysign(NAN, -1), INF, -INF, 3.4e38, -3.4e38, 1e-42]),
    "many": np.arange(300.0) / 7,
    "alike": np.array([5.0]),
}


def program_of(op, width, k):
    b = Builder()
    b.output("out", [b.op(op, b.input("x", "float64", width), k=k)], "matrix", "<i8")
    return b.finish()


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("op", ["TopK", "HeapK"])
def test_which_of_equals(op, pool, xnnpack):
    for k, width in ((1, 1), (1, 9), (2, 2), (2, 12), (3, 30), (5, 40), (8, 20), (9, 9)):
        x = np.random.default_rng(k).choice(POOLS[pool], (60, width)).astype(np.float32).astype(np.float64)
        program = program_of(op, width, k)
        want = interpreter.run(program, {"x": x})["out"]
        for rows in (60, 1):  # the loop's tensors take another shape
            got = graph_answers(program, {"x": x[:rows]}, xnnpack)["out"]
            np.testing.assert_array_equal(got, want[:rows], err_msg=f"{k} of {width}")


def test_a_heap_is_one_loop_however_many_cells():
    sizes = []
    for width in (20, 400):
        model = Model("test")
        Lowering(model, program_of("HeapK", width, 5), "serve")
        data = model.to_bytes()
        assert ("WHILE", 1) in operators(data)
        assert len(read(data).subgraphs) == 3
        assert len(read(data).signatureDefs) == 1
        sizes.append(len(data))
    assert sizes[1] - sizes[0] < 100


@pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])
def test_the_nearest_point_of_rows_near_and_far(xnnpack):
    """Far away the squared differences are one number in float32; scikit-learn's distances still differ."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(9, 4)) + np.array([0.0, 50.0, -300.0, 0.5])
    points[7] = points[3]  # of equal points the first
    c = Conversion(Builder())
    found = nearest_point(c, c.builder.input("x", "float64", 4), points)
    c.builder.output("out", [found], "matrix", "<i8")
    program = c.builder.finish()
    for distance in (0.0, 1.0, 100.0, 1e5):
        x = points[rng.integers(0, 9, 200)] + rng.normal(size=(200, 4)) * distance
        x = x.astype(np.float32).astype(np.float64)
        scores = ((points**2).sum(axis=1) - 2 * x @ points.T).copy()
        best = np.sort(scores, axis=1)
        clear = (best[:, 1] == best[:, 0]) | (best[:, 1] - best[:, 0] > 1e-4 * (1 + distance))
        want = interpreter.run(program, {"x": x})["out"]
        got = graph_answers(program, {"x": x}, xnnpack)
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(got["out"][clear], want[clear])
        assert not got["refused"].any()
    far = graph_answers(program, {"x": points + 1e9}, xnnpack)
    assert far["refused"].all()  # scikit-learn's own distances are rounding there
