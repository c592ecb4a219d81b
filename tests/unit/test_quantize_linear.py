"""How the quantiser rounds a linear map: grids, multipliers of columns, codes, and numbers of every size."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from edgeml.ir import interpreter
from edgeml.ir.program import Output
from edgeml.ir.spec import check
from edgeml.quantize.forms import LADDERS
from edgeml.quantize.linear import whole_codes
from edgeml.quantize.search import Search
from edgeml.quantize.truth import Truth
from tests.quantize_tools import ANYTHING, nodes, problem


@pytest.mark.parametrize(
    ("mode", "dtype", "rounding"),
    [
        ("int8", "int8", "FakeQuantize"),
        ("dynamic", "int8", "DynamicQuantize"),
        ("int16", "int8", "FakeQuantize"),
        ("float16", "float16", None),
    ],
)
def test_form_of_a_network(mlp, mode, dtype, rounding):
    program = mlp.smallest(mode, ANYTHING).program
    check(program)
    layers = nodes(program, "QuantizedLinear")
    assert [layer.attrs["weight"].dtype.name for layer in layers] == [dtype] * 3
    assert not nodes(program, "Linear")
    assert len(nodes(program, "FakeQuantize", "DynamicQuantize")) == (3 if rounding else 0)
    assert {n.op for n in nodes(program, "FakeQuantize", "DynamicQuantize")} == ({rounding} if rounding else set())
    # Softmax and the scaler stay.
    assert nodes(program, "Softmax")
    assert nodes(program, "Div")


def test_weights_are_symmetric_with_a_scale_an_output(mlp):
    for layer in nodes(mlp.smallest("int8", ANYTHING).program, "QuantizedLinear"):
        codes = np.abs(layer.attrs["weight"].astype(int))
        assert codes.max() == 127
        assert (codes.max(axis=0) >= 126).all()
        assert len(np.unique(layer.attrs["scale"])) > 1


def test_one_scale_where_a_runtime_knows_no_other(mlp):
    program = mlp.smallest("dynamic", ANYTHING, per_channel_dynamic=False).program
    first = nodes(program, "QuantizedLinear")[0]
    assert len(np.unique(first.attrs["scale"])) == 1


def test_ranges_are_those_of_all_calibration_rows(mlp):
    """No calibration row is clipped: the grid ends where the largest cell is."""
    program = mlp.smallest("int8", ANYTHING).program
    for node in program.nodes:
        if node.op != "FakeQuantize":
            continue
        before = program.with_outputs([Output("x", (node.inputs[0],), "matrix", "float64")])
        x = interpreter.run(before, mlp.calibration.columns, ["x"])["x"]
        low, high = ((c - node.attrs["zero_point"]) * node.attrs["scale"] for c in (-128, 127))
        assert x.min() >= low - node.attrs["scale"]
        assert x.max() <= high + node.attrs["scale"]


def test_equalisation_helps_columns_of_other_sizes():
    """One column with a weight 1,000 times the others': without a multiplier the others' weights would be 0."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 6))
    y = X @ np.array([1000.0, 1, 1, -1, 1, -1])
    found = problem(LinearRegression().fit(X, y), X, y).smallest("int8", int8_activations=False)
    layer = nodes(found.program, "QuantizedLinear")[0]
    assert (np.abs(layer.attrs["weight"].astype(int)) > 20).all()
    assert nodes(found.program, "Mul")


def test_a_column_that_calibration_never_saw_sets_no_scale():
    """A weight of 1e-18 on a column of zeros, as PCA leaves them, once made multipliers of 1e27."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1000, 4))
    X[:, 2:] = 0.0
    model = LinearRegression().fit(X, X[:, 0])
    model.coef_ = np.array([1.0, 1e-3, 1e-18, 1e6])
    found = problem(model, X, X[:, 0])
    program = found.smallest("int8", int8_activations=False).program
    row = np.array([[1.0, 1.0, 1e9, 0.0], [0.0, 0.0, 0.0, 1.0]])
    expected, got = (interpreter.run(p, {"X": row})["predict"] for p in (found.program, program))
    np.testing.assert_allclose(got, expected, rtol=0.01)
    for node in nodes(program, "Mul"):
        assert np.abs(program.nodes[node.inputs[1] - len(program.inputs)].attrs["value"]).max() < 1e9


def test_one_odd_row_decides_neither_bias_nor_multipliers():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(2000, 4))
    model = LinearRegression().fit(X, X @ [1.0, 0.37, -0.61, 0.253])
    for odd in ([1e6, 0, 0, 0], [3e3, 2e3, -4e3, 5e3]):
        X[0] = odd
        found = problem(model, X)
        program = found.smallest("int8", ANYTHING, int8_activations=False).program
        expected, got = (interpreter.run(p, found.held.columns)["predict"] for p in (found.program, program))
        assert np.abs(got - expected).max() < 0.01
        assert abs((got - expected).mean()) < 1e-3


@pytest.mark.parametrize("sign", [1, -1])
def test_a_grid_holds_zero(sign):
    """A zero point is a code, also where no row is near zero."""
    X = sign * (5 + np.random.default_rng(0).random((500, 3)))
    found = problem(LinearRegression().fit(X, X @ [1.0, 2.0, 3.0]), X)
    for mode, codes in (("int8", (-128, 127)), ("int16", (-32768, 32767))):
        program = found.smallest(mode, ANYTHING).program
        (grid,) = nodes(program, "FakeQuantize")
        low, high = ((code - grid.attrs["zero_point"]) * grid.attrs["scale"] for code in codes)
        assert low <= 0 <= high
        expected, got = (interpreter.run(p, found.calibration.columns)["predict"] for p in (found.program, program))
        assert np.corrcoef(expected, got)[0, 1] > 0.99


def test_columns_beside_flags_are_equalised_to_them():
    """One-hot columns keep their codes; a number beside them of another size gets the multiplier that suits both."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=2000) * 1e-4, "kind": rng.choice(["a", "b", "c"], 2000)})
    y = 1e4 * frame["x"] + frame["kind"].map({"a": 0.0, "b": 0.3, "c": 1.0})
    columns = make_column_transformer(("passthrough", ["x"]), (OneHotEncoder(), ["kind"]))
    found = problem(make_pipeline(columns, LinearRegression()).fit(frame, y), frame, y)
    for device in ({}, {"int8_activations": False}):
        program = found.smallest("int8", ANYTHING, **device).program
        (layer,) = nodes(program, "QuantizedLinear")
        weights = np.abs(layer.attrs["weight"][:, 0].astype(float))
        assert weights[0] > 60
        assert weights[1:].max() > 60
        assert found.verdict(program).metrics["r2"]["drop"] < 1e-3
        inputs = [program.node_of(node.inputs[0]) for node in nodes(program, "Mul")]
        assert not any(node is not None and node.op == "OneHot" for node in inputs)


def test_the_bias_takes_in_the_mean_error():
    """Rounded weights times columns that are never near zero are off by a constant."""
    rng = np.random.default_rng(0)
    X = rng.normal(np.array([50.0, -30.0, 70.0, 20.0]), 1.0, (2000, 4))
    found = problem(LinearRegression().fit(X, X @ [1.0, 0.37, -0.61, 0.253]), X)
    for mode in ("int8", "dynamic"):
        program = found.smallest(mode, ANYTHING).program
        expected, got = (interpreter.run(p, found.held.columns)["predict"] for p in (found.program, program))
        assert abs((got - expected).mean()) < 0.1 * (got - expected).std()


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_scales_are_numbers_of_float32_that_clip_no_weight(dtype):
    weight = np.random.default_rng(0).normal(size=(50, 300)) * 10.0 ** np.linspace(-9, 9, 300)
    codes, scale = whole_codes(weight, dtype)
    assert (scale == scale.astype(np.float32)).all()
    assert (scale * np.iinfo(dtype).max >= np.abs(weight).max(axis=0)).all()
    assert (np.abs(codes * scale - weight) <= 0.500001 * scale).all()
    least = whole_codes(weight, dtype, least=np.full(300, 1e-3))[1]
    assert (least == np.maximum(scale, np.float32(1e-3))).all()
    assert len(set(whole_codes(weight, dtype, per_tensor=True)[1])) == 1


@pytest.mark.parametrize("read", ["maximum of 2", "shown"])
def test_only_a_relu_that_one_layer_reads_is_moved_into(mlp, read):
    """relu(a * x) = a * relu(x) holds of a maximum with zero, and of nothing that is read elsewhere too."""
    program = mlp.program
    relu = nodes(program, "Maximum")[0]
    if read == "shown":
        at = len(program.inputs) + program.nodes.index(relu)
        program = program.with_outputs([*program.outputs.values(), Output("transform", (at,), "matrix", "float64")])
    else:
        at = relu.inputs[1] - len(program.inputs)
        moved = replace(program.nodes[at], attrs={"value": np.full_like(program.nodes[at].attrs["value"], 2.0)})
        program = replace(program, nodes=(*program.nodes[:at], moved, *program.nodes[at + 1 :]))
    columns = mlp.calibration.columns
    expected = interpreter.run(program, columns)
    search = Search(program, columns, Truth(expected), ANYTHING, "int8", int8_activations=False)
    got = interpreter.run(search.candidate([0] * search.groups).program, columns)
    for method in expected.keys() - {"predict"}:
        assert np.abs(got[method] - expected[method]).mean() < 0.02 * np.abs(expected[method]).mean(), method


def test_multipliers_behind_relu_cost_nothing(mlp):
    program = mlp.smallest("int8", ANYTHING, int8_activations=False).program
    assert len(nodes(program, "Mul")) <= 1  # in front of the first layer, where nothing can take it in
    assert len(nodes(program, "QuantizedLinear")) == 3


def test_a_layer_that_is_not_finite_or_too_large_stays():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(500, 3))
    model = LinearRegression().fit(X, X[:, 0])
    model.coef_ = np.array([1e200, 1e199, 0.0])
    search = problem(model, X, None).search("int8", ANYTHING)
    assert search.sites[0].forms == (None,)
    assert "beyond the range of float32" in search.sites[0].note


X3 = np.random.default_rng(3).normal(size=(600, 3))
# Weights, bias and rows of a regression, and which activations may be rounded.
SIZES = {
    "weights of zero": ([0, 0, 0], 1.0, X3, "static"),
    "a huge bias": ([1, 1, 1], 1e100, X3, "none"),
    "a bias beyond the grid of its sums": ([1e-3, 1, 1], 1e15, X3, "dynamic"),
    "a bias that int32 has no units for": ([1, 1, 1], 1e8, X3, "static"),
    "a denormal weight": ([1e-315, 1, 1], 0.0, X3, "static"),
    "a denormal column": ([1, 1, 1], 0.0, X3 * [1e-320, 1, 1], "static"),
    "weights near the limit, columns of 45 orders": ([9e19, 9e19, 9e19], 0.0, X3 * [1e-20, 1, 1e18], "static"),
    "a column of 1e200": ([1, 1, 1], 0.0, X3 * [1e200, 1, 1], "float"),
    "columns of 1e300": ([1, 1, 1], 0.0, X3 * 1e300, "float"),
    "equal rows": ([1, 2, 3], 0.0, np.ones((600, 3)), "static"),
    "rows of zeros": ([1, 2, 3], 5.0, np.zeros((600, 3)), "static"),
    "rows above zero": ([1, 2, 3], 5.0, np.abs(X3) + 100, "static"),
    "rows below zero": ([1, 2, 3], 5.0, -np.abs(X3) - 100, "static"),
}


def _storable(program, layer):
    """Whether int32 holds the bias of a layer in the units of its int8 sums, else whether float32 does."""
    bias, source = layer.attrs["bias"], program.node_of(layer.inputs[0])
    if layer.attrs["weight"].dtype == np.float16:
        return True
    if source is None or source.op != "FakeQuantize" or source.attrs["bits"] == 16:
        return (bias == bias.astype(np.float32)).all()
    units = bias / (source.attrs["scale"] * layer.attrs["scale"])
    return np.allclose(units, np.rint(units), rtol=1e-12) and np.abs(units).max() < 2**31


@pytest.mark.parametrize("sizes", SIZES)
def test_numbers_of_every_size(sizes):
    """No warning and no number that is not finite; what the formats cannot store is left in float, by name."""
    weights, bias, X, rounded = SIZES[sizes]
    model = LinearRegression().fit(X3, X3[:, 0])
    model.coef_, model.intercept_ = np.array(weights, dtype=float), bias
    found = problem(model, X)
    rows = found.calibration.columns
    expected = interpreter.run(found.program, rows)["predict"]
    for mode in LADDERS:
        for device in ({}, {"int8_activations": False}, {"per_channel_dynamic": False}):
            search = found.search(mode, ANYTHING, **device)
            for candidate in search.path():
                check(candidate.program)
                got = interpreter.run(candidate.program, rows)["predict"]
                assert np.isfinite(got).all()
                assert np.abs(got - expected).max() <= 0.05 * np.abs(expected).max(), candidate.forms
                assert all(_storable(candidate.program, n) for n in nodes(candidate.program, "QuantizedLinear"))
    forms = {f.activations for mode in ("int8", "dynamic") for f in found.search(mode, ANYTHING).sites[0].forms if f}
    allowed = {"none": set(), "float": {"float"}, "dynamic": {"float", "dynamic"}}
    assert forms == allowed.get(rounded, {"float", "dynamic", "static"})
