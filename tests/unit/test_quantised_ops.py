"""The quantised level of the op table: what the three ops mean, what they refuse, what is known of their results."""

from __future__ import annotations

import numpy as np
import pytest

from edgeml.errors import ProgramError
from edgeml.ir import Builder, interpreter
from edgeml.ir.ops import OPS
from edgeml.ir.ops_quantised import largest_code
from edgeml.passes.facts import Known
from edgeml.passes.rewrite import Graph
from tests.kernel_tools import cells, same_bits

FLOATS = ("float64", "float32")


def fake(x, scale, zero_point=0, bits=8):
    with np.errstate(all="ignore"):
        return OPS["FakeQuantize"].evaluate(np.asarray(x), scale=scale, zero_point=zero_point, bits=bits)


def dynamic(x, bits=8):
    with np.errstate(all="ignore"):
        return OPS["DynamicQuantize"].evaluate(np.asarray(x), bits=bits)


# --- meaning ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("zero", "bits"), [(0, 8), (-128, 8), (127, 8), (5, 8), (0, 16), (-32768, 16), (32767, 16)])
def test_a_static_grid_is_that_of_integer_codes(dtype, zero, bits):
    """As a device computes it: round, add the zero point, saturate, and back."""
    top, scale = largest_code(bits), 0.25
    x = cells(dtype, 6, seed=bits)
    with np.errstate(all="ignore"):
        codes = np.clip(np.rint(x / x.dtype.type(scale)) + zero, -top - 1, top)
        expected = (codes - zero) * x.dtype.type(scale) + 0.0
    same_bits(fake(x, scale, zero, bits), expected.astype(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_ties_go_to_the_even_code(dtype):
    x = np.array([[0.25, 0.75, 1.25, -0.25, -0.75, -1.25, 63.75, 1e9, -1e9]], dtype=dtype)
    np.testing.assert_array_equal(fake(x, 0.5), np.array([[0, 1, 1, 0, -1, -1, 63.5, 63.5, -64]]))
    assert not np.signbit(fake(np.array([[-0.0, -0.1]], dtype=dtype), 0.5)).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("bits", [8, 16])
def test_a_grid_of_its_own_for_every_row(dtype, bits):
    x = np.random.default_rng(0).normal(size=(200, 7)).astype(dtype) * np.logspace(-6, 6, 200)[:, None].astype(dtype)
    found, top = dynamic(x, bits), largest_code(bits)
    step = np.abs(x).max(axis=1, keepdims=True) / x.dtype.type(top)
    assert found.dtype == x.dtype
    assert (np.abs(found - x) <= step * 0.501).all()
    codes = found / step
    np.testing.assert_allclose(codes, np.rint(codes), rtol=1e-6, atol=1e-3)
    assert (np.rint(np.abs(codes)).max(axis=1) == top).all()


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_without_a_step(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([[0.0, -0.0], [tiny, -tiny], [60 * tiny, 0], [np.nan, 1], [np.inf, 1], [1, -np.inf]], dtype=dtype)
    found = dynamic(x)
    assert (found[:3] == 0).all()
    assert not np.signbit(found[:3]).any()
    assert np.isnan(found[3:]).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weights", ["int8", "int16", "float16"])
def test_a_linear_map_with_narrow_weights(dtype, weights):
    rng = np.random.default_rng(1)
    weight = (rng.normal(size=(5, 3)) * 50).astype(weights)
    scale, bias = np.array([0.5, 0.01, 2.0], np.float32).astype(dtype), np.array([1.0, -2, 3], dtype)
    x = rng.normal(size=(40, 5)).astype(dtype)
    found = OPS["QuantizedLinear"].evaluate(x, weight=weight, scale=scale, bias=bias)
    assert found.dtype == x.dtype
    exact = x.astype(float) @ (weight.astype(float) * scale.astype(float)) + bias
    np.testing.assert_allclose(found, exact, rtol=1e-9 if dtype == "float64" else 1e-4, atol=1e-4)


# --- what is refused ----------------------------------------------------------------------------------------
GOOD = {
    "FakeQuantize": {"scale": 0.5, "zero_point": 0, "bits": 8},
    "DynamicQuantize": {"bits": 8},
    "QuantizedLinear": {
        "weight": np.ones((3, 2), np.int8), "scale": np.array([0.5, 0.25]), "bias": np.array([1.0, 2.0])
    },
}  # fmt: skip
BAD = [
    ("FakeQuantize", {"bits": 7}, "bits must be one of"),
    ("FakeQuantize", {"bits": 32}, "bits must be one of"),
    ("FakeQuantize", {"scale": 0.0}, "a scale is a positive number of float32"),
    ("FakeQuantize", {"scale": -0.5}, "a scale is a positive number of float32"),
    ("FakeQuantize", {"scale": np.nan}, "a scale is a positive number of float32"),
    ("FakeQuantize", {"scale": np.inf}, "a scale is a positive number of float32"),
    ("FakeQuantize", {"scale": 0.1}, "a scale is a positive number of float32"),
    ("FakeQuantize", {"scale": 1e300}, "a scale is a positive number of float32"),
    ("FakeQuantize", {"zero_point": 128}, "no code of 8 bits"),
    ("FakeQuantize", {"zero_point": -129}, "no code of 8 bits"),
    ("FakeQuantize", {"zero_point": 32768, "bits": 16}, "no code of 16 bits"),
    ("DynamicQuantize", {"bits": 4}, "bits must be one of"),
    ("QuantizedLinear", {"weight": np.ones((3, 2))}, "weights are one of int8, int16, float16"),
    ("QuantizedLinear", {"weight": np.ones((3, 2), np.uint8)}, "weights are one of int8, int16, float16"),
    ("QuantizedLinear", {"weight": np.ones((2, 2), np.int8)}, "does not fit"),
    ("QuantizedLinear", {"weight": np.ones(3, np.int8)}, "does not fit"),
    ("QuantizedLinear", {"scale": np.array([0.5])}, "does not fit"),
    ("QuantizedLinear", {"bias": np.zeros(3)}, "does not fit"),
    ("QuantizedLinear", {"scale": np.array([0.5, 0.25], np.float32)}, "must be float64"),
    ("QuantizedLinear", {"bias": np.zeros(2, np.float32)}, "must be float64"),
    ("QuantizedLinear", {"scale": np.array([0.5, 0.0])}, "scales are positive numbers of float32"),
    ("QuantizedLinear", {"scale": np.array([0.5, np.nan])}, "scales are positive numbers of float32"),
    ("QuantizedLinear", {"scale": np.array([0.5, np.inf])}, "scales are positive numbers of float32"),
    ("QuantizedLinear", {"scale": np.array([0.5, 0.1])}, "scales are positive numbers of float32"),
]


@pytest.mark.parametrize("op", GOOD)
def test_what_is_legal(op):
    b = Builder()
    value = b.op(op, b.input("x", "float64", 3), **GOOD[op])
    assert (value.dtype, value.width) == ("float64", 2 if op == "QuantizedLinear" else 3)
    b = Builder()
    x = b.input("x", "int64", 3)
    with pytest.raises(ProgramError, match="need one of float64, float32"):
        b.op(op, x, **GOOD[op])


@pytest.mark.parametrize(("op", "spoil", "message"), BAD)
def test_what_is_refused(op, spoil, message):
    b = Builder()
    x = b.input("x", "float64", 3)
    with pytest.raises(ProgramError, match=message), np.errstate(over="ignore"):
        b.op(op, x, **{**GOOD[op], **spoil})


# --- what is known before a row is seen ---------------------------------------------------------------------
def quantised(b, x, rng, kind):
    if kind == "FakeQuantize":
        bits = int(rng.choice([8, 16]))
        top = largest_code(bits)
        scale = float(np.float32(10.0 ** rng.uniform(-9, 9) if rng.random() < 0.8 else 10.0 ** rng.uniform(-44, 38)))
        return b.op(kind, x, scale=scale, zero_point=int(rng.integers(-top - 1, top + 1)), bits=bits)
    if kind == "DynamicQuantize":
        return b.op(kind, x, bits=int(rng.choice([8, 16])))
    weights = str(rng.choice(["int8", "int16", "float16"]))
    weight = (rng.normal(size=(x.width, 2)) * 10.0 ** rng.integers(0, 5)).clip(-127, 127).astype(weights)
    scale = (10.0 ** rng.uniform(-37, 9, 2)).astype(np.float32).astype(x.dtype)
    return b.op(kind, x, weight=weight, scale=scale, bias=rng.normal(size=2).astype(x.dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("bounded", ["raw", "checked", "clipped"])
@pytest.mark.parametrize("seed", range(8))
def test_every_result_is_within_what_is_known(dtype, kind, bounded, seed):
    rng = np.random.default_rng(seed)
    b = Builder()
    x = b.input("x", dtype, 3)
    if bounded == "checked":
        x = b.check_finite(x, "step", allow_nan=seed % 2 == 0)
    elif bounded == "clipped":
        x = b.clip(b.where(b.is_nan(x), 0.0, x), -(10.0 ** rng.uniform(-3, 6)), 10.0 ** rng.uniform(-3, 6))
    result = quantised(b, x, rng, kind)
    b.output("y", [result], "matrix", dtype)
    program = b.finish()
    graph = Graph(program.inputs)
    for node in program.nodes:
        graph.append(node)
    known = Known(graph).of(result.id)
    rows = cells(dtype, 3, 2000, seed)
    if bounded == "checked":
        rows = np.where(np.isinf(rows), np.finfo(dtype).max, rows)
        rows = rows if seed % 2 == 0 else np.where(np.isnan(rows), -np.finfo(dtype).max, rows)
    found = interpreter.run(program, {"x": rows})["y"].astype(float)
    nan = np.isnan(found)
    assert (known.nan | ~nan).all()
    assert ((found >= known.low) | nan).all()
    assert ((found <= known.high) | nan).all()
    if bounded == "clipped":  # what a quantised program is made of: the bounds must be of use
        assert not known.nan.any()
        step = program.nodes[-1].attrs["scale"] if kind == "FakeQuantize" else 0.0
        assert (np.maximum(-known.low, known.high) <= 50 * np.abs(found).max(axis=0) + 2 * step + 1e-44).all()
