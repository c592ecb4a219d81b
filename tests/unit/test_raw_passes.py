"""Checks and linear maps over raw columns, on programs made by hand, and the switch that turns them off."""

import numpy as np
import pytest

from edgeml.errors import InputError
from edgeml.ir import Builder, interpreter
from edgeml.passes import run_passes
from edgeml.passes.infrastructure import same_bits
from edgeml.passes.raw import RAW, raw
from edgeml.passes.raw_checks import RAW_CHECKS
from edgeml.passes.raw_linear import RAW_LINEAR
from edgeml.quantize import program_for
from tests.pass_tools import ops
from tests.raw_tools import CELLS, beside, words


# --- checks -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("allow_nan", [False, True])
@pytest.mark.parametrize("imputed", [False, True])
def test_a_check_of_scaled_columns_becomes_a_range(allow_nan, imputed):
    b = Builder()
    x, s = b.input("x", "float64", 2), b.input("s", "string")
    filled = b.where(b.is_nan(x), 2.0, x) if imputed else x
    scaled = ((filled - np.array([1.0, 1e5])) / np.array([1e-3, 1e3])).cast("float32")
    joined = b.concat([b.one_hot(b.lookup(s, ("a", "b")), 2, "float32"), scaled])
    b.output("y", [b.check_finite(joined, "model", allow_nan=allow_nan)], "matrix", "<f4")
    before = b.finish()
    after, _ = run_passes(before, [RAW_CHECKS])
    limits = next(node for node in after.nodes if node.op == "CheckRange").attrs
    assert limits["columns"].tolist() == [2, 3]
    assert "CheckFinite" not in ops(after)
    for cell in beside(np.concatenate([CELLS, limits["low"], limits["high"]])):
        for row in ([cell, 0.0], [0.0, cell]):
            rows = {"x": np.array([row]), "s": np.array(["a"], dtype=object)}
            assert str(_outcome(before, rows)) == str(_outcome(after, rows))


def _outcome(program, rows):
    try:
        return interpreter.run(program, rows)["y"].tobytes()
    except InputError as error:
        return error


def test_checks_that_would_not_gain_stay():
    for build in (
        lambda b, x: x,
        lambda b, x: x.cast("float32"),
        lambda b, x: b.exp(x),
        lambda b, x: b.concat([-x, x - 1.0]),
    ):
        b = Builder()
        b.output("y", [b.check_finite(build(b, b.input("x", "float64")), "model")], "matrix", "<f8")
        program = b.finish()
        assert run_passes(program, [RAW_CHECKS])[0] is program


# --- linear maps --------------------------------------------------------------------------------------------
def linear(build, outputs=3, weight=None):
    b = Builder()
    x, s, t = b.input("x", "float64", 2), b.input("s", "string"), b.input("t", "string")
    joined = build(b, x, b.one_hot(b.lookup(s, words(4)), 4), b.one_hot(b.lookup(t, words(3)), 3))
    rng = np.random.default_rng(0)
    w = rng.normal(size=(joined.width, outputs)) * 10.0 ** rng.integers(-8, 8, (joined.width, outputs))
    w[rng.random(w.shape) < 0.2] = -0.0
    b.output("y", [b.linear(joined, w if weight is None else weight(w), rng.normal(size=outputs))], "matrix", "<f8")
    return b.finish()


def linear_rows():
    rng = np.random.default_rng(1)
    text = np.array([*words(5), None, float("nan")], dtype=object)
    return {
        "x": rng.choice(CELLS, (300, 2)),
        "s": text[rng.integers(0, len(text), 300)],
        "t": text[rng.integers(0, len(text), 300)],
    }


@pytest.mark.parametrize("outputs", [1, 3, 17])
@pytest.mark.parametrize(
    "build",
    [
        lambda b, x, s, t: b.concat([x, s, t]),
        lambda b, x, s, t: b.concat([s, x, t]),
        lambda b, x, s, t: b.concat([s, t]),
        lambda b, x, s, t: b.concat([x.select([1]), t, x.select([0]), s, x]),
        lambda b, x, s, t: b.concat([s * np.array([0.5, -2.0, 1e-9, 3.0]), x, t / 3.0]),
        lambda b, x, s, t: b.concat([s.select([3, 1]), x, s.select([0, 2]), s, s]),
        lambda b, x, s, t: b.concat([x, s, t]) * np.linspace(-1, 1, 9),
        lambda b, x, s, t: b.concat([s, x, t]).cast("float32").cast("float64"),
    ],
)
def test_tables_take_the_place_of_one_hot_columns(build, outputs):
    before = linear(build, outputs)
    after = raw(before)
    assert "TableLinear" in ops(after)
    assert "OneHot" not in ops(after)
    rows = linear_rows()
    assert same_bits(interpreter.run(before, rows)["y"], interpreter.run(after, rows)["y"])


def test_columns_that_are_never_zero_part_the_tables():
    before = linear(lambda b, x, s, t: b.concat([s, s.select([0]) - 0.5, s, x, s.select([1]) + np.inf, t, t]))
    after = raw(before)
    assert after.nodes[-1].attrs["starts"].tolist() == [0, 5, 10, 14, 18]
    assert after.nodes[-1].attrs["after"].tolist() == [0, 1, 4, 4]
    rows = linear_rows()
    assert same_bits(interpreter.run(before, rows)["y"], interpreter.run(after, rows)["y"])


@pytest.mark.parametrize("number", [np.inf, -np.inf, np.nan])
def test_weights_that_are_not_finite_keep_their_columns(number):
    def spoil(w):
        w[4] = number
        return w

    before = linear(lambda b, x, s, t: b.concat([x, s, t]), weight=spoil)
    after = raw(before)
    assert "OneHot" in ops(after)
    rows = linear_rows()
    assert same_bits(interpreter.run(before, rows)["y"], interpreter.run(after, rows)["y"])


def test_centred_columns_are_multiplied():
    before = linear(lambda b, x, s, t: b.concat([x, s, t]) - 0.25)
    assert run_passes(before, [RAW_LINEAR])[0] is before


# --- the whole ----------------------------------------------------------------------------------------------
def test_the_native_program_alone_is_raw_and_can_be_switched_off(monkeypatch):
    before = linear(lambda b, x, s, t: b.concat([x, s, t]))
    assert program_for("onnx", before, "none") is before
    assert program_for("tflite", before, "none") is before
    assert "TableLinear" in ops(program_for("native", before, "none"))
    monkeypatch.setenv("EDGEML_FAST", "-raw")
    assert program_for("native", before, "none") is before


def test_every_pass_says_what_it_requires_and_ensures():
    assert all(each.requires and each.ensures and each.exact for each in RAW)
