"""Scaling folded into linear layers: when, how exactly, and when not."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeml.ir import Builder, interpreter
from edgeml.passes import EXACT, optimise, run_passes
from edgeml.passes.scaling import FOLD_SCALING
from tests.pass_tools import AWKWARD, NOT_FINITE, ops, outcome, unchanged

MEAN, SCALE = np.array([10.0, -3.0, 0.5]), np.array([4.0, 2.0, 1.5])
WEIGHT, BIAS = np.array([[0.5, -1.0], [2.0, 0.25], [-0.75, 0.1]]), np.array([0.3, -0.7])


def scaled_layer(mean=MEAN, scale=SCALE, weight=WEIGHT, bias=BIAS, dtype="float64", check=True):
    b = Builder()
    x = b.input("X", dtype, 3)
    with b.step("scale"):
        y = x.cast("float64") if dtype == "int64" else x
        y = (y - np.asarray(mean, y.dtype)) / np.asarray(scale, y.dtype)
    with b.step("model"):
        y = b.check_finite(y, "model") if check else y
        y = b.linear(y, weight, bias)
    b.output("decision_function", [y], "matrix", np.dtype(y.dtype).str)
    return b.finish()


def folded(program):
    """The program after the standard passes, each compared on ordinary rows."""
    rows = np.random.default_rng(0).normal(size=(50, 3)) * 20
    return optimise(program, {"X": rows.astype(program.inputs[0].type.dtype)})


def test_standard_scaling_folds_into_the_layer():
    program = folded(scaled_layer())
    assert ops(program) == ["CheckFinite", "Linear"]
    assert program.nodes[0].attrs["what"] == "model"
    assert program.nodes[1].origin == "model"
    at_mean = interpreter.run(program, {"X": MEAN[None, :]})["decision_function"]
    np.testing.assert_allclose(at_mean[0], BIAS, rtol=1e-15)


@pytest.mark.parametrize("form", ["minmax", "maxabs", "robust", "reversed"])
def test_every_scaler_folds(form):
    b = Builder()
    x = b.input("X", "float64", 3)
    y = {
        "minmax": lambda: x * (1 / SCALE) + MEAN / 10,
        "maxabs": lambda: x / SCALE,
        "robust": lambda: (x - MEAN) / SCALE,
        "reversed": lambda: (MEAN / 10) + (1 / SCALE) * x,
    }[form]()
    b.output("decision_function", [b.linear(y, WEIGHT, BIAS)], "matrix", "<f8")
    assert ops(folded(b.finish())) == ["Linear"]


def test_scaling_folds_through_a_concat():
    b = Builder()
    x, code = b.input("X", "float64", 2), b.input("c", "int64")
    y = b.concat([(x - MEAN[:2]) / SCALE[:2], b.one_hot(code, 1)])
    b.output("predict", [b.linear(b.check_finite(y, "model"), WEIGHT[:, :1], BIAS[:1])], "vector", "<f8")
    rows = {"X": np.random.default_rng(0).normal(size=(9, 2)), "c": np.arange(9) % 2}
    program = optimise(b.finish(), rows)
    assert ops(program) == ["OneHot", "Concat", "CheckFinite", "Linear"]


def test_a_scale_that_may_overflow_stays():
    program = folded(scaled_layer(scale=[0.5, 2.0, 1.5]))
    assert ops(program) == ["Constant", "Sub", "Constant", "Div", "CheckFinite", "Linear"]


def test_scaling_that_cannot_fold_whole_stays_whole():
    b = Builder()
    x = b.input("X", "float64", 3)
    y = x * np.array([0.5, 2.0, 0.5]) + MEAN / 10
    b.output("decision_function", [b.linear(y, WEIGHT, BIAS)], "matrix", "<f8")
    assert ops(folded(b.finish())) == ["Constant", "Mul", "Constant", "Add", "Linear"]


def test_integer_columns_cannot_overflow():
    assert ops(folded(scaled_layer(scale=[0.5, 2.0, 1e-3], dtype="int64"))) == ["Cast", "Linear"]


EDGES = np.array([1.7976931348623157e308, 8.98846567431158e307, 8.988465674311579e307, 3e307, 1.2e308])


@pytest.mark.parametrize("scale", [[4.0, 2.0, 1.5], [1.0, 1.0, 1.0], [-2.0, -1.0, 1e30]])
def test_the_fold_refuses_the_same_rows(scale):
    before, after = scaled_layer(scale=scale), folded(scaled_layer(scale=scale))
    assert ops(after) != ops(before)
    edges = [*EDGES, *(0.3 * EDGES), *np.nextafter(EDGES, 0), *NOT_FINITE, *AWKWARD]
    for j in range(3):
        for value in [*edges, *(-e for e in edges)]:
            row = MEAN.copy()
            row[j] = value
            columns = {"X": row[None, :]}
            assert (outcome(before, columns) == "refused") == (outcome(after, columns) == "refused"), (
                j,
                value,
            )


@pytest.mark.parametrize(
    "layer",
    [
        {"bias": [0.3, 0.0]},  # a tie at the mean must stay a tie
        {"mean": [1e6, 0.0, 0.0]},  # cancels twenty bits
        {"mean": [500.0, 0.0, 0.0], "scale": [0.1, 1.0, 1.0]},
        {"bias": [1e-6, 1e-6], "mean": [1000.0, 1000.0, 1000.0]},
        {"scale": [0.0, 1.0, 1.0]},
        {"scale": [np.inf, 1.0, 1.0]},
        {"scale": [np.nan, 1.0, 1.0]},
        {"scale": [1e200, 1.0, 1.0], "mean": [0.0, 0.0, 0.0]},
        {"mean": [np.nan, 0.0, 0.0]},
        {"mean": [np.inf, 0.0, 0.0]},
        {"dtype": "float32"},
    ],
)
def test_what_the_fold_refuses(layer):
    program, _ = run_passes(scaled_layer(**layer), EXACT)
    assert unchanged(program, FOLD_SCALING)


def test_a_large_shift_of_a_column_without_weight_is_no_hindrance():
    weight = WEIGHT.copy()
    weight[0] = 0.0  # a constant column: its coefficient is zero
    assert ops(folded(scaled_layer(mean=[2013.0, 0.0, 0.0], scale=[1.0, 1.0, 1.0], weight=weight))) == [
        "CheckFinite",
        "Linear",
    ]


@pytest.mark.parametrize("joined", [False, True])
def test_scaling_that_others_read_stays(joined):
    """Folding would not save it, and the layer would read other values beside it."""
    b = Builder()
    x, other = b.input("X", "float64", 2), b.input("o", "float64")
    y = (x - MEAN[:2]) / SCALE[:2]
    whole = b.concat([y, other])
    b.output("decision_function", [b.linear(whole, WEIGHT, BIAS)], "matrix", "<f8")
    b.output("transform", [whole if joined else y], "matrix", "<f8")
    program, _ = run_passes(b.finish(), EXACT)
    assert unchanged(program, FOLD_SCALING)


def test_the_fold_is_logged_when_it_is_refused(caplog):
    with caplog.at_level("DEBUG", logger="edgeml.passes.scaling"):
        folded(scaled_layer(bias=[0.0, 1.0]))
    assert "scaling in front of model is kept: the shifts would add more error" in caplog.text


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_the_fold_stays_far_below_the_bound(data):
    numbers = st.floats(-100, 100).filter(lambda v: v == 0 or abs(v) > 1e-3)
    draw = lambda n: np.array(data.draw(st.lists(numbers, min_size=n, max_size=n)))  # noqa: E731
    scale = np.abs(draw(3)) + 1.0
    layer = {"mean": draw(3), "scale": scale, "weight": draw(6).reshape(3, 2), "bias": draw(2)}
    before, after = scaled_layer(**layer), optimise(scaled_layer(**layer))
    rows = {"X": layer["mean"] + scale * np.random.default_rng(1).normal(size=(40, 3))}
    want, got = (interpreter.run(p, rows)["decision_function"] for p in (before, after))
    # Relative to the size of the terms: where they cancel, no order of summation is relatively exact.
    size = np.abs(rows["X"] - layer["mean"]) / scale @ np.abs(layer["weight"]) + np.abs(layer["bias"])
    assert (np.abs(got - want) <= 2e-12 * size).all()


def test_optimise_is_stable():
    once = folded(scaled_layer())
    assert optimise(once) is once
