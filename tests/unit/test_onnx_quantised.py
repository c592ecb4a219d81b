"""Quantised programs in ONNX: each form against the interpreter, and that onnxruntime runs it on integers."""

import itertools

import numpy as np
import onnx
import pytest

from edgeml.ir import Builder, interpreter
from edgeml.targets.onnx import lower
from edgeml.targets.onnx_quantised import saturates
from tests.onnx_oracle import ABOUT, INF, NAN, operators, optimised_operators, session

FORMS = ("static", "dynamic", "weights")


def narrow(rng, k, m, limit=127, dtype=np.int8):
    """Random weights, their scales, and a bias."""
    weight = rng.normal(size=(k, m)) / np.sqrt(k)
    scale = (np.abs(weight).max(axis=0) / limit).astype(np.float32)
    return {"weight": np.rint(weight / scale).astype(dtype), "scale": scale.astype(float), "bias": rng.normal(size=m)}


def quantised(b, x, form, scale=0.03125, zero_point=0, bits=8):
    if form == "static":
        return b.op("FakeQuantize", x, scale=float(np.float32(scale)), zero_point=zero_point, bits=bits)
    return b.op("DynamicQuantize", x, bits=bits) if form == "dynamic" else x


def net(form, dims=(20, 32, 16, 3), *, limit=127, bits=8, checked=True, activation="relu", dtype=np.int8):
    """A multi-layer perceptron as the quantiser writes it."""
    rng, b = np.random.default_rng(3), Builder()
    x = b.input("X", "float64", dims[0])
    value = b.check_finite(x, "net") if checked else x
    scale, zero = (4.0 / (1 << (bits - 1))), 0
    for layer, (k, m) in enumerate(itertools.pairwise(dims)):
        value = quantised(b, value, form, scale, zero, bits)
        value = b.op("QuantizedLinear", value, **narrow(rng, k, m, limit, dtype))
        if layer < len(dims) - 2:
            value = b.maximum(value, 0.0) if activation == "relu" else b.op(activation, value)
            scale, zero = 6.0 / ((1 << bits) - 1), -(1 << (bits - 1)) if activation == "relu" else 0
    b.output("transform", [value], "matrix", "<f8")
    return b.finish()


def both(program, rows, **options):
    data = lower(program, ABOUT)["model.onnx"]
    got = session(data, **options).run(["transform"], {"X": rows})[0]
    return got, interpreter.run(program, {"X": rows})["transform"]


def linear(form, weights, columns=4, dtype="float64", prepare=lambda b, x: x, **options):
    b = Builder()
    value = prepare(b, b.input("X", dtype, columns))
    value = b.op("QuantizedLinear", quantised(b, value, form, **options), **weights)
    b.output("transform", [value], "matrix", np.dtype(dtype).str)
    return b.finish()


ROWS = np.random.default_rng(0).normal(size=(200, 20))


# --- what onnxruntime makes of it ---------------------------------------------------------------------------
@pytest.mark.parametrize("limit", [127, 60])
@pytest.mark.parametrize("dims", [(20, 32, 16, 3), (5, 3, 1), (2, 1)])
def test_static_int8_is_fused(dims, limit, tmp_path):
    """One QuantizeLinear at the entry, and nothing but integer kernels behind it: no Relu, no float product."""
    data = lower(net("static", dims, limit=limit, checked=False), ABOUT)["model.onnx"]
    ran = [op for op in optimised_operators(data, tmp_path) if op not in ("IsNaN", "ReduceMax", "Where")]
    assert ran == ["Cast", "QuantizeLinear", *["QGemm"] * (len(dims) - 1), "Cast"]


def test_a_chain_is_cast_at_its_ends_only():
    for form in ("static", "dynamic"):
        proto = onnx.load_from_string(lower(net(form), ABOUT)["model.onnx"])
        casts = [n.attribute[0].i for n in proto.graph.node if n.op_type == "Cast"]
        assert casts.count(onnx.TensorProto.DOUBLE) == 1


def test_dynamic_int8_multiplies_integers(tmp_path):
    ran = optimised_operators(lower(net("dynamic"), ABOUT)["model.onnx"], tmp_path)
    assert ran.count("MatMulInteger") == 3
    assert not {"Gemm", "MatMul", "FusedGemm"} & set(ran)


def test_wide_operands_stay_wide(tmp_path):
    """onnxruntime 1.32 rounds float32 weights between two grids, and the operand, to 8 bits of its own accord."""
    program = net("static", (64, 512, 512, 10), bits=16)
    ran = optimised_operators(lower(program, ABOUT)["model.onnx"], tmp_path)
    assert ran.count("MatMul") == 3
    assert not {"MatMulNBits", "QGemm"} & set(ran)
    got, want = both(program, np.random.default_rng(1).normal(size=(100, 64)))
    np.testing.assert_allclose(got, want, atol=1e-3)


def test_a_program_in_float32():
    rng = np.random.default_rng(1)
    weights = {k: v if k == "weight" else v.astype(np.float32) for k, v in narrow(rng, 20, 6).items()}
    for form, bits, most in (("weights", 8, 1e-5), ("static", 16, 1e-4), ("static", 8, 0.03), ("dynamic", 8, 1e-5)):
        program = linear(form, weights, 20, "float32", scale=8.0 / (1 << bits), bits=bits)
        got, want = both(program, ROWS.astype(np.float32))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, atol=most)


# --- the same answers ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("limit", [127, 60])
@pytest.mark.parametrize("activation", ["relu", "Tanh", "Sigmoid"])
@pytest.mark.parametrize("form", FORMS)
def test_nets_agree(form, activation, limit):
    program = net(form, limit=limit, activation=activation)
    for options in ({}, {"threads": 2}, {"optimise": False}):
        got, want = both(program, ROWS, **options)
        difference = np.abs(got - want)
        if form == "weights":
            assert difference.max() < 1e-12
        else:
            # A step of a hidden grid moves an answer by some hundredths; most rows move by none.
            assert difference.max() < 0.05
            assert np.median(difference) < 2e-3
    plain = both(net("weights", limit=limit, activation=activation), ROWS)[0]
    assert form == "weights" or np.abs(got - plain).max() > 1e-3  # and it did round


def test_static_answers_where_no_float32_rounds_the_other_way():
    """Operands a quarter of a step off the grid: the same codes everywhere, so answers differ by the bias's step."""
    rng = np.random.default_rng(2)
    weights = narrow(rng, 20, 7)
    rows = (rng.integers(-200, 200, (300, 20)) + 0.25) * 0.03125
    rows[0], rows[1] = 1e300, -INF
    got, want = both(linear("static", weights, 20, zero_point=5), rows)
    assert (np.abs(got - want) <= 0.5 * 0.03125 * weights["scale"] + 1e-5).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.float16])
def test_narrow_weights_are_narrow_in_the_file(dtype):
    rng = np.random.default_rng(2)
    weights = narrow(rng, 60, 50, limit=100, dtype=dtype)
    program = linear("weights", weights, 60)
    size = len(lower(program, ABOUT)["model.onnx"])
    assert weights["weight"].nbytes < size < weights["weight"].nbytes + 2000
    got, want = both(program, rng.normal(size=(50, 60)))
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


def test_column_equalisation():
    rng = np.random.default_rng(4)
    factor = 2.0 ** rng.integers(-9, 9, 20)
    for form in ("static", "dynamic"):
        program = linear(form, narrow(rng, 20, 6), 20, prepare=lambda b, x: x * factor)
        got, want = both(program, ROWS / factor)
        np.testing.assert_allclose(got, want, atol=2e-2)


def test_a_grid_that_is_read_by_others_too():
    rng, b = np.random.default_rng(5), Builder()
    x = b.input("X", "float64", 20)
    rounded = quantised(b, b.check_finite(x, "net"), "static")
    hidden = b.maximum(b.op("QuantizedLinear", rounded, **narrow(rng, 20, 20)), 0.0)
    again = quantised(b, hidden, "static", 0.015625, -128)
    values = [rounded, hidden, again, rounded * 2.0, b.op("QuantizedLinear", again + hidden, **narrow(rng, 20, 2))]
    b.output("transform", values, "matrix", "<f8")
    got, want = both(b.finish(), ROWS)
    np.testing.assert_allclose(got, want, atol=0.04)
    np.testing.assert_array_equal(got[:, :20], want[:, :20])


def test_grids_of_any_zero_point_behind_each_other():
    rng, b = np.random.default_rng(8), Builder()
    x = b.check_finite(b.input("X", "float64", 20), "net")
    hidden = b.op("QuantizedLinear", quantised(b, x, "static"), **narrow(rng, 20, 20))
    rectified = quantised(b, b.maximum(hidden, 0.0), "static", 0.03125, zero_point=-100)
    by_row = quantised(b, rectified, "dynamic")
    b.output("transform", [rectified, quantised(b, by_row, "static", 0.5)], "matrix", "<f8")
    got, want = both(b.finish(), ROWS)
    assert got[:, :20].min() == 0
    np.testing.assert_allclose(got, want, atol=0.5)
    assert (got != want).mean() < 0.01


@pytest.mark.parametrize("name", ["Add", "Sub", "Mul", "Div", "Minimum", "Maximum"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("form", ["static", "dynamic"])
def test_steps_between_two_linear_maps(form, first, name):
    rng, b = np.random.default_rng(8), Builder()
    hidden = b.op("QuantizedLinear", quantised(b, b.input("X", "float64", 20), form), **narrow(rng, 20, 6))
    row = b.constant(rng.normal(size=6) + 3.0)
    between = b.op(name, hidden, row) if first else b.op(name, row, hidden)
    value = b.op("QuantizedLinear", quantised(b, between, form, 0.125), **narrow(rng, 6, 3))
    b.output("transform", [value], "matrix", "<f8")
    got, want = both(b.finish(), ROWS)
    close = np.isclose(got, want, atol=0.01).all(axis=1)
    assert close.mean() > 0.95  # the others are a step away
    np.testing.assert_allclose(got, want, atol=0.3)


# --- rows apart ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_does_not_depend_on_other_rows(form):
    data = lower(net(form), ABOUT)["model.onnx"]
    rows = ROWS.copy()
    rows[::3] *= 1e6
    s = session(data)
    together = s.run(None, {"X": rows})[0]
    alone = np.concatenate([s.run(None, {"X": rows[i : i + 1]})[0] for i in range(len(rows))])
    if form == "weights":
        np.testing.assert_allclose(alone, together, rtol=1e-12)  # a product's blocks follow the batch
    else:
        np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("positive", [False, True])
def test_rows_with_a_scale_of_their_own(positive):
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(8, 20)) * 10.0 ** np.arange(-20, 20, 5)[:, None]
    rows[3] = 0.0
    weights = narrow(rng, 20, 6) | {"bias": np.zeros(6)}
    program = linear("dynamic", weights, 20, prepare=lambda b, x: b.abs(x) if positive else x)
    got, want = both(program, rows)
    size = np.abs(rows).max(axis=1, keepdims=True)
    assert (np.abs(got - want) <= 1e-6 * size).all()
    assert not got[3].any()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("form", ["static", "dynamic"])
def test_rows_with_nan(form, bits):
    """NaN may come where no check stands in front; it makes its own row NaN, through all layers."""
    rows = ROWS.copy()
    rows[4, 0] = rows[9, 19] = NAN
    for optimise in (True, False):
        got, want = both(net(form, checked=False, bits=bits), rows, optimise=optimise)
        assert np.flatnonzero(np.isnan(got).all(axis=1)).tolist() == [4, 9]
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, atol=0.05)


def test_nan_cells_on_a_grid_stay_cells():
    rng, b = np.random.default_rng(5), Builder()
    first = quantised(b, b.input("X", "float64", 20), "static")
    second = quantised(b, first * 2.0, "static", 0.25)
    third = quantised(b, first, "static", 0.5)
    b.output(
        "transform", [first, second, third, b.op("QuantizedLinear", second, **narrow(rng, 20, 2))], "matrix", "<f8"
    )
    rows = ROWS.copy()
    rows[4, 3] = NAN
    got, want = both(b.finish(), rows)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, atol=0.02)


def test_numbers_beyond_float32_are_no_silent_damage():
    rows = ROWS.copy()
    rows[2, 5], rows[3, 5], rows[6] = 1e300, -1e31, 1e29
    got, want = both(net("dynamic"), rows)
    assert np.flatnonzero(np.isnan(got).any(axis=1)).tolist() == [2, 3]
    np.testing.assert_allclose(got[6], want[6], rtol=0.05)
    got, want = both(net("static"), rows)
    np.testing.assert_allclose(got, want, atol=0.05)


def test_hidden_numbers_beyond_float32_are_marked_too():
    rng, b = np.random.default_rng(9), Builder()
    value = b.input("X", "float64", 20)
    for _ in range(3):
        weights = narrow(rng, 20, 20)
        weights["scale"] = (weights["scale"] * 1e10).astype(np.float32).astype(float)
        value = b.op("QuantizedLinear", quantised(b, value, "dynamic"), **weights)
    b.output("transform", [value], "matrix", "<f8")
    rows = ROWS[:4] * 10.0 ** np.array([[0], [5], [15], [25]])
    got, want = both(b.finish(), rows)
    np.testing.assert_allclose(got[:2], want[:2], rtol=0.05, atol=1e28)
    assert np.isnan(got[3]).all()
    assert np.isnan(got[2]).all() or np.allclose(got[2], want[2], rtol=0.05)


def test_a_step_that_overflows_float32_is_marked_too():
    rng, b = np.random.default_rng(9), Builder()
    hidden = b.op("QuantizedLinear", quantised(b, b.input("X", "float64", 20), "dynamic"), **narrow(rng, 20, 4))
    value = b.op("QuantizedLinear", quantised(b, hidden * np.full(4, 1e25), "dynamic"), **narrow(rng, 4, 3))
    b.output("transform", [value], "matrix", "<f8")
    got, want = both(b.finish(), ROWS[:3] * np.array([[1e-3], [1e-2], [1e20]]))
    np.testing.assert_allclose(got[:2], want[:2], rtol=0.1)
    assert np.isnan(got[2]).all()


@pytest.mark.parametrize("form", ["static", "dynamic"])
def test_division_by_zero_between(form):
    rng, b = np.random.default_rng(9), Builder()
    hidden = b.op("QuantizedLinear", quantised(b, b.input("X", "float64", 20), form), **narrow(rng, 20, 3))
    value = b.op("QuantizedLinear", quantised(b, hidden / np.array([1.0, 0.0, 2.0]), form), **narrow(rng, 3, 2))
    b.output("transform", [value], "matrix", "<f8")
    got, want = both(b.finish(), ROWS)
    np.testing.assert_allclose(got, want, atol=0.1)


# --- processors without VNNI --------------------------------------------------------------------------------
def test_weights_that_would_saturate():
    assert saturates(np.array([[64], [65]]))
    assert not saturates(np.array([[64], [64], [64], [64], [127]]))
    assert not saturates(np.array([[64], [-128]]))
    assert saturates(np.array([[-1], [-128]]))
    assert not saturates(np.array([[127], [127]]), largest=127)
    assert saturates(np.array([[0, 0], [0, 0], [1, 100], [1, 100]]))


@pytest.mark.parametrize(("code", "kind"), [(127, onnx.TensorProto.UINT8), (64, onnx.TensorProto.INT8)])
def test_such_weights_are_unsigned(code, kind):
    weights = {"weight": np.full((64, 3), code, np.int8), "scale": np.full(3, 0.01171875), "bias": np.zeros(3)}
    program = linear("static", weights, 64, scale=1 / 256, zero_point=-128)
    proto = onnx.load_from_string(lower(program, ABOUT)["model.onnx"])
    assert {tuple(i.dims): i.data_type for i in proto.graph.initializer}[64, 3] == kind
    got, _ = both(program, np.full((5, 64), 255 / 256))
    np.testing.assert_allclose(got, 64 * code * 0.01171875 * 255 / 256, rtol=1e-6)


@pytest.mark.parametrize("form", ["static", "dynamic"])
def test_codes_of_either_sign_reach_255(form):
    """Such as 1 to 255, around 128: weights that are safe for 127 are not for them."""
    weights = {"weight": np.full((64, 3), 100, np.int8), "scale": np.full(3, 0.01171875), "bias": np.zeros(3)}
    proto = onnx.load_from_string(lower(linear(form, weights, 64), ABOUT)["model.onnx"])
    assert {tuple(i.dims): i.data_type for i in proto.graph.initializer}[64, 3] == onnx.TensorProto.UINT8


def test_rectified_rows_need_no_unsigned_weights():
    """Their codes end at 127."""
    weights = {"weight": np.full((64, 3), 127, np.int8), "scale": np.full(3, 0.01171875), "bias": np.ones(3)}
    data = lower(linear("dynamic", weights, 64, prepare=lambda b, x: b.maximum(x, 0.0)), ABOUT)["model.onnx"]
    proto = onnx.load_from_string(data)
    assert {tuple(i.dims): i.data_type for i in proto.graph.initializer}[64, 3] == onnx.TensorProto.INT8
    assert "Round" not in operators(data)


def test_a_bias_too_large_for_32_bits():
    rng = np.random.default_rng(7)
    weights = narrow(rng, 20, 3) | {"bias": np.array([1e9, -2.0, 3.0])}
    got, want = both(linear("static", weights, 20), ROWS)
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_bias_that_leaves_no_room_for_the_sums(sign):
    """It fits 32 bits by itself; with the products, onnxruntime's sums turned into numbers of the other sign."""
    b = Builder()
    x = b.op("FakeQuantize", b.input("X", "float64", 4), scale=0.25, zero_point=0, bits=8)
    bias = np.full(2, sign * (2.0**31 - 200) / 16)
    weight = np.full((4, 2), sign * 127, np.int8)
    y = b.op("QuantizedLinear", x, weight=weight, scale=np.full(2, 0.25), bias=bias)
    b.output("transform", [y], "matrix", "<f8")
    got, want = both(b.finish(), np.full((2, 4), 20.0))
    np.testing.assert_allclose(got, want, rtol=1e-6)
