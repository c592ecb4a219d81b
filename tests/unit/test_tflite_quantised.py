"""Quantised programs in TFLite: int8 layers, hybrid layers, narrow weights and leaves, against the interpreter."""

import numpy as np
import pandas as pd
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from edgeml.ir import Builder, interpreter
from edgeml.targets.tflite import lower
from edgeml.targets.tflite_pack import ALIGNMENT
from tests.kernel_tools import random_trees
from tests.oracle import columns_of
from tests.quantised_programs import FORMS, grid_of, leaves_quantised, linear_quantised, narrow
from tests.tflite_oracle import (
    ABOUT,
    converted,
    graph_answers,
    halves,
    interpreter_of,
    metadata,
    operators,
    program_answers,
    read,
    schema,
    worst_error,
)

XNNPACK = pytest.mark.parametrize("xnnpack", [False, True], ids=["plain", "xnnpack"])


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    est = make_pipeline(StandardScaler(), MLPClassifier((64, 32), max_iter=30, random_state=0))
    with pytest.warns(match="converge"):
        est.fit(X[:1200], y[:1200])
    program, _, expected = converted(est, X)
    return X, program, expected


# --- networks ---------------------------------------------------------------------------------------------------
@XNNPACK
@pytest.mark.parametrize("form", ["int8", "int16", "float16"])
def test_narrow_weights_are_computed_in_float(digits, form, xnnpack):
    X, program, _ = digits
    program = linear_quantised(program, {"X": X[:1200]}, form)
    want, got = interpreter.run(program, {"X": X}), program_answers(program, {"X": X}, xnnpack=xnnpack)
    np.testing.assert_array_equal(got["predict"], want["predict"])
    assert worst_error(want["predict_proba"], got["predict_proba"], "predict_proba") < 1e-5


@XNNPACK
@pytest.mark.parametrize("per_channel", [True, False])
def test_static_network_is_the_program_up_to_a_step(digits, per_channel, xnnpack):
    """A layer in int8 rounds its bias and its result once more: some hidden cells are one step off."""
    X, program, expected = digits
    program = linear_quantised(program, {"X": X[:1200]}, "static", per_channel)
    want, got = interpreter.run(program, {"X": X}), program_answers(program, {"X": X}, xnnpack=xnnpack)
    assert (got["predict"] == want["predict"]).mean() > 0.998
    assert (got["predict"] == expected["predict"]).mean() > 0.98  # of 30 iterations without equalisation
    error = np.abs(got["predict_proba"] - want["predict_proba"])
    assert error.max() < 0.06
    assert error.mean() < 2e-4
    ops = [name for name, _ in operators(lower(program, ABOUT)["model.tflite"])]
    assert ops.count("QUANTIZE") == 1  # the hidden layers hand codes on
    assert ops.count("DEQUANTIZE") == 2  # the codes of the last layer, and its weights
    assert "RELU" not in ops


@pytest.mark.parametrize(
    ("xnnpack", "whole_bias", "most"),
    [(False, False, 0.005), (False, True, 0.003), (True, False, 0.005), (True, True, 0.0)],
)
def test_int8_layer_counts_differing_cells(xnnpack, whole_bias, most):
    """One layer with a grid behind it: never more than a step off, and where the exact result is close to a half.

    Measured of 16,000 cells: 0.3 %. Where the bias is a whole number of units of the int32 sums, none by XNNPACK, and
    0.2 % by the kernels without it, which round twice.
    """
    rng = np.random.default_rng(0)
    codes, scale = narrow(rng.normal(size=(64, 32)) * np.geomspace(0.1, 3, 32), "int8")
    bias, x = rng.normal(size=32), rng.normal(size=(500, 64))
    inner, outer = grid_of(-4, 4), grid_of(0, 40)
    if whole_bias:
        bias = np.rint(bias / (inner["scale"] * scale)) * (inner["scale"] * scale)
    b = Builder()
    value = b.op("FakeQuantize", b.input("x", "float64", 64), **inner)
    value = b.maximum(b.op("QuantizedLinear", value, weight=codes, scale=scale, bias=bias), 0.0)
    b.output("out", [b.op("FakeQuantize", value, **outer)], "matrix", "<f8")
    program = b.finish()
    want, got = (
        np.rint(r["out"] / outer["scale"])
        for r in (interpreter.run(program, {"x": x}), graph_answers(program, {"x": x}, xnnpack))
    )
    assert np.abs(got - want).max() <= 1
    assert (got != want).mean() <= most


@XNNPACK
def test_a_fused_relu_cuts_at_zero_of_its_grid(xnnpack):
    """Behind the layer a grid that reaches below zero, which does not cut by itself."""
    codes, scale = narrow(np.random.default_rng(0).normal(size=(8, 8)), "int8")
    outer = grid_of(-10, 10)
    b = Builder()
    value = b.op("FakeQuantize", b.input("x", "float64", 8), **grid_of(-4, 4))
    value = b.maximum(b.op("QuantizedLinear", value, weight=codes, scale=scale, bias=np.zeros(8)), 0.0)
    b.output("out", [b.op("FakeQuantize", value, **outer)], "matrix", "<f8")
    program, x = b.finish(), np.random.default_rng(1).normal(size=(50, 8))
    want, got = interpreter.run(program, {"x": x})["out"], graph_answers(program, {"x": x}, xnnpack)["out"]
    assert (want == 0).any()
    np.testing.assert_array_equal(got[want == 0], 0)
    assert np.abs(got - want).max() < 1.01 * outer["scale"]


def test_grids_that_int8_layers_cannot_follow_are_computed_in_float():
    """A bias that int32 codes cannot hold, and outputs on a grid much finer than the products: XNNPACK refuses."""
    for bias, step in ((1e9, 3.0), (0.0, 1e-7)):
        b = Builder()
        x = b.op("FakeQuantize", b.input("x", "float64", 2), scale=0.5, zero_point=0, bits=8)
        y = b.op("QuantizedLinear", x, weight=np.ones((2, 1), np.int8), scale=np.ones(1), bias=np.array([bias]))
        step = float(np.float32(step))
        b.output("out", [b.op("FakeQuantize", y, scale=step, zero_point=0, bits=8)], "matrix", "<f8")
        program, x = b.finish(), np.array([[1.0, 2.0], [0.0, 0.0]])
        for xnnpack in (False, True):
            got = graph_answers(program, {"x": x}, xnnpack)["out"]
            np.testing.assert_allclose(got, interpreter.run(program, {"x": x})["out"], rtol=1e-6)


@pytest.mark.parametrize("per_channel", [True, False])
def test_dynamic_network(digits, per_channel):
    X, program, _ = digits
    program = linear_quantised(program, {"X": X[:1200]}, "dynamic", per_channel)
    want, got = interpreter.run(program, {"X": X}), program_answers(program, {"X": X})
    error = np.abs(got["predict_proba"] - want["predict_proba"])
    # A number at half a step may be rounded to the other side, and changes a row.
    assert np.quantile(error.max(axis=1), 0.9) < 1e-5
    assert error.max() < 0.05
    # XNNPACK rounds to other grids, of 255 steps a row where these have 254.
    other = program_answers(program, {"X": X}, xnnpack=True)
    assert (other["predict"] == want["predict"]).mean() > 0.995
    assert np.abs(other["predict_proba"] - want["predict_proba"]).max() < 0.25
    versions = {
        number for name, number in operators(lower(program, ABOUT)["model.tflite"]) if name == "FULLY_CONNECTED"
    }
    assert versions == {12 if per_channel else 3}


def test_what_reads_the_float_value_gets_it(digits):
    """The result of an int8 layer before it is rounded, beside the layer behind it."""
    b = Builder()
    codes, scale = narrow(np.random.default_rng(0).normal(size=(4, 4)), "int8")
    x = b.op("FakeQuantize", b.input("x", "float64", 4), **grid_of(-3, 3))
    y = b.op("QuantizedLinear", x, weight=codes, scale=scale, bias=np.zeros(4))
    b.output("rounded", [b.op("FakeQuantize", y, **grid_of(-9, 9))], "matrix", "<f8")
    b.output("exact", [y], "matrix", "<f8")
    program, x = b.finish(), np.random.default_rng(1).normal(size=(50, 4))
    want, got = interpreter.run(program, {"x": x}), graph_answers(program, {"x": x})
    np.testing.assert_allclose(got["exact"], want["exact"], rtol=1e-5, atol=1e-6)
    assert np.abs(got["rounded"] - want["rounded"]).max() < 1.01 * grid_of(-9, 9)["scale"]


@pytest.mark.parametrize(("form", "most"), [("static", 12_800), ("dynamic", 13_000), ("int8", 13_100)])
def test_digits_network_in_13_kb(digits, form, most):
    X, program, _ = digits
    data = lower(linear_quantised(program, {"X": X[:1200]}, form), ABOUT)["model.tflite"]
    assert len(data) <= most


# --- the split ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
def test_one_hot_codes_stay_codes_behind_an_equalisation(form):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300) * 50, "b": rng.choice(list("uvwxyz"), 300).astype(object)})
    est = make_pipeline(
        make_column_transformer((StandardScaler(), ["a"]), (OneHotEncoder(handle_unknown="ignore"), ["b"])),
        LogisticRegression(),
    ).fit(frame, (frame["a"] > 0) ^ (frame["b"] == "u"))
    program, kinds, _ = converted(est, frame)
    columns = columns_of(frame, kinds)
    program = _equalised(linear_quantised(program, columns, form))
    parts = halves(program)
    assert [(e.name, e.type.width) for e in parts.core.inputs] == [("features", 1), ("codes", 1)]
    assert "Mul" in {n.op for n in parts.core.nodes}
    assert not {n.op for n in parts.front.nodes} & {"QuantizedLinear", "FakeQuantize", "DynamicQuantize"}
    want, got = interpreter.run(program, columns), program_answers(program, columns)
    assert np.abs(got["predict_proba"] - want["predict_proba"]).max() < (0.02 if form in FORMS[:2] else 1e-5)


def _equalised(program):
    """A constant row multiplied in front of every quantised layer."""
    from edgeml.passes.rewrite import rewrite

    def rule(node, graph):
        first = graph.node(node.inputs[0]) if node.inputs else None
        grid = node.op in ("FakeQuantize", "DynamicQuantize")
        bare = node.op == "QuantizedLinear" and (first is None or first.op not in ("FakeQuantize", "DynamicQuantize"))
        if not grid and not bare:
            return None
        x = node.inputs[0]
        row = graph.emit("Constant", (), {"value": np.linspace(0.5, 1, graph.type_of(x).width)}, "")
        return graph.emit(node.op, (graph.emit("Mul", (x, row), {}, ""),), node.attrs, "")

    return rewrite(program, rule)[0]


@XNNPACK
def test_equalisation_of_plain_numbers_stays_in_front(digits, xnnpack):
    X, program, _ = digits
    program = _equalised(linear_quantised(program, {"X": X[:1200]}, "int8"))
    want, got = interpreter.run(program, {"X": X}), program_answers(program, {"X": X}, xnnpack=xnnpack)
    assert worst_error(want["predict_proba"], got["predict_proba"], "predict_proba") < 1e-5
    front = [n.op for n in halves(program).front.nodes]
    assert front.count("Mul") == 1


def test_large_means_leave_the_core_of_narrow_weights():
    rng = np.random.default_rng(0)
    X = np.column_stack([2010 + rng.integers(0, 12, 500), 1e6 + 50 * rng.normal(size=500), rng.normal(size=500)])
    b = Builder()
    weight, scale = narrow(np.array([[3e4], [40.0], [1.0]]), "int16")
    x = b.input("X", "float64", 3)
    y = b.op("QuantizedLinear", x, weight=weight, scale=scale, bias=np.array([-1e8]))
    b.output("predict", [y], "vector", "<f8")
    program = b.finish()
    want = interpreter.run(program, {"X": X})["predict"]
    assert worst_error(want, program_answers(program, {"X": X})["predict"]) > 1e-5
    assert worst_error(want, program_answers(program, {"X": X}, sample={"X": X})["predict"]) < 1e-6


# --- distances ----------------------------------------------------------------------------------------------------
@XNNPACK
@pytest.mark.parametrize("dtype", ["int8", "int16", "float16"])
def test_distances_to_narrow_centres(dtype, xnnpack):
    X = np.random.default_rng(0).normal(size=(200, 5)) * 0.01 + np.arange(200)[:, None] % 4 * 3
    est = KMeans(4, n_init=1, random_state=0).fit(X)
    codes, scale = narrow(-2 * est.cluster_centers_.T, dtype)
    centres = -0.5 * (codes * scale).T
    b = Builder()
    x = b.input("X", "float64", 5)
    square = b.op("ReduceSum", x * x)
    product = b.op("QuantizedLinear", x, weight=codes, scale=scale, bias=np.zeros(4))
    distance = (product + square) + b.constant((centres**2).sum(axis=1))
    b.output("transform", [b.sqrt(b.maximum(distance, 0.0))], "matrix", "<f8")
    program, rows = b.finish(), np.concatenate([centres + 1e-3, X])
    want, got = interpreter.run(program, {"X": rows}), program_answers(program, {"X": rows}, xnnpack=xnnpack)
    np.testing.assert_allclose(got["transform"], want["transform"], rtol=1e-5, atol=2e-6)
    assert "FULLY_CONNECTED" not in {n for n, _ in operators(lower(program, ABOUT)["model.tflite"])}


@pytest.mark.parametrize("form", ["int8", "float16"])
def test_principal_components_with_narrow_weights(form):
    X = np.random.default_rng(0).normal(size=(300, 6)) * [1, 5, 2, 9, 1, 1]
    program, _, _ = converted(make_pipeline(StandardScaler(), PCA(3)).fit(X), X)
    program = linear_quantised(program, {"X": X}, form)
    want, got = interpreter.run(program, {"X": X}), program_answers(program, {"X": X})
    assert worst_error(want["transform"], got["transform"]) < 1e-5


# --- trees ----------------------------------------------------------------------------------------------------------
def whole_trees(count, outputs, shared, low, high):
    """Trees whose leaf values are whole numbers in a range, as a program of float64 columns."""
    attrs = random_trees(count, 4, outputs=outputs, shared=shared, seed=count)
    rng = np.random.default_rng(count)
    attrs["leaf_values"] = rng.integers(low, high + 1, attrs["leaf_values"].shape).astype(np.float64)
    attrs["base"] = np.zeros_like(attrs["base"])
    b = Builder()
    b.output("sums", [b.op("TreeEnsemble", b.input("x", "float64", 4), **attrs)], "matrix", "<f8")
    pool = np.concatenate([attrs["threshold"], np.nextafter(attrs["threshold"], 9), [np.nan, np.inf, -np.inf]])
    return b.finish(), rng.choice(pool, (300, 4))


@XNNPACK
@pytest.mark.parametrize(("low", "high"), [(-128, 127), (0, 255), (-32768, 32767), (5, 9), (-(2**23), 2**23)])
@pytest.mark.parametrize(("outputs", "shared"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize("count", [1, 70])
def test_whole_leaves_are_added_exactly(count, outputs, shared, low, high, xnnpack):
    program, x = whole_trees(count, outputs, shared, low, high)
    want, got = interpreter.run(program, {"x": x})["sums"], program_answers(program, {"x": x}, xnnpack=xnnpack)["sums"]
    np.testing.assert_array_equal(got, want.astype(np.float32))  # a sum may need more than float32's 24 bits


def test_sums_beyond_int32_are_added_in_float():
    program, x = whole_trees(70, 1, False, -(2**30), 2**30)
    want, got = interpreter.run(program, {"x": x})["sums"], program_answers(program, {"x": x})["sums"]
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e3)


@pytest.fixture(scope="module")
def forests():
    X, y = load_digits(return_X_y=True)
    forest = RandomForestClassifier(100, max_depth=8, random_state=0).fit(X[:1200], y[:1200])
    boosting = HistGradientBoostingClassifier(max_iter=30, random_state=0).fit(X[:1200], y[:1200] % 2)
    regressor = RandomForestRegressor(20, max_depth=6, random_state=0).fit(X[:1200], y[:1200] * 1e3)
    return X, {name: converted(est, X)[0] for name, est in zip(KINDS, (forest, boosting, regressor), strict=True)}


KINDS = ("forest", "boosting", "regressor")


NARROW_LEAVES = [(n, d) for n in KINDS for d in ("int8", "int16", "float16")] + [("forest", "uint8")]


@pytest.mark.parametrize(("name", "dtype"), NARROW_LEAVES)
def test_narrow_leaves_mean_the_program(forests, name, dtype):
    X, programs = forests
    program = leaves_quantised(programs[name], dtype)
    want, got = interpreter.run(program, {"X": X}), program_answers(program, {"X": X})
    for method, expected in want.items():
        assert worst_error(expected, got[method], method) < 1e-5
    plain, narrow = (len(lower(p, ABOUT)["model.tflite"]) for p in (programs[name], program))
    assert narrow < plain


def test_digits_forest_is_small_with_equal_labels(forests):
    X, programs = forests
    program = leaves_quantised(programs["forest"], "uint8")
    data = lower(program, ABOUT)["model.tflite"]
    assert len(data) < 90_000
    want, got = interpreter.run(programs["forest"], {"X": X}), program_answers(program, {"X": X})
    np.testing.assert_array_equal(got["predict"], want["predict"])
    assert np.abs(got["predict_proba"] - want["predict_proba"]).max() < 4e-4


def test_a_leaf_of_one_byte_costs_nothing_beside_its_node(forests):
    """Three bytes a node and no table of values: the value is the leaf's number."""
    program = leaves_quantised(forests[1]["boosting"], "int8")
    model = read(lower(program, ABOUT)["model.tflite"])
    nodes = next(len(n.attrs["feature"]) for n in program.nodes if n.op == "TreeEnsemble")
    sizes = sorted((len(b.data) for b in model.buffers if b.data is not None), reverse=True)
    assert 3 * (nodes - 30) == sizes[0]
    assert sizes[1] < nodes


# --- the file -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("form", FORMS)
def test_files_are_aligned_and_deterministic_with_any_number_of_rows(digits, form):
    X, program, _ = digits
    program = linear_quantised(program, {"X": X[:1200]}, form)
    data = lower(program, ABOUT)["model.tflite"]
    assert lower(program, ABOUT)["model.tflite"] == data
    model = schema.Model.GetRootAs(data, 0)
    for number in range(model.BuffersLength()):
        table = model.Buffers(number)._tab
        assert not table.Offset(4) or table.Vector(table.Offset(4)) % ALIGNMENT == 0
    handed = interpreter.run(halves(program).front, {"X": X})
    runner = interpreter_of(data).get_signature_runner("serve")
    many = runner(**handed)["predict_proba"]
    for rows in (1, 7):
        few = runner(**{name: x[:rows] for name, x in handed.items()})["predict_proba"]
        np.testing.assert_allclose(few, many[:rows], atol=1e-6)


def test_what_two_signatures_compute_alike_is_stored_once(digits):
    """The second graph costs its preprocessing and its checks, not its layers."""
    model = schema.Model.GetRootAs(lower(digits[1], ABOUT)["model.tflite"], 0)
    places = [[g.Operators(i)._tab.Pos for i in range(g.OperatorsLength())] for g in map(model.Subgraphs, (0, 1))]
    assert len(set(places[0]) - set(places[1])) <= 1  # but for the first, which reads an input


def test_a_quantised_model_has_one_signature(digits):
    X, program, _ = digits
    for how in ("int8", "static"):
        data = lower(linear_quantised(program, {"X": X[:1200]}, how), ABOUT)["model.tflite"]
        assert len(read(data).subgraphs) == 1
        assert "is quantised" in metadata(data)["raw"]["reason"]


def test_weights_are_stored_once_however_often_they_are_read(digits):
    X, program, _ = digits
    model = read(lower(linear_quantised(program, {"X": X[:1200]}, "static"), ABOUT)["model.tflite"])
    sizes = [len(b.data) for b in model.buffers if b.data is not None]
    assert [sizes.count(n) for n in (64 * 64, 64 * 32, 32 * 10)] == [1, 1, 1]
