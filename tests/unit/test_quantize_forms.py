"""What the quantiser puts in a program: linear maps, trees and points, form by form, and the path between them."""

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import load_diabetes, load_digits
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgeml.ir import interpreter
from edgeml.ir.ops_ml import walk
from edgeml.ir.program import Output
from edgeml.ir.spec import check
from edgeml.quantize.budget import Budget
from edgeml.quantize.forms import LADDERS
from edgeml.quantize.noise import perturbed
from edgeml.quantize.search import Search
from tests.quantize_tools import nodes, problem

ANYTHING = Budget(label_flips=1.0, metric_drop=1.0)


@pytest.fixture(scope="module")
def digits():
    return load_digits(return_X_y=True)


@pytest.fixture(scope="module")
def mlp(digits):
    X, y = digits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = make_pipeline(StandardScaler(), MLPClassifier((32, 16), random_state=0, max_iter=100)).fit(X[::2], y[::2])
    return problem(net, X, y)


# --- linear -----------------------------------------------------------------------------------------------------
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


X3 = np.random.default_rng(3).normal(size=(200, 3))
# Weights, bias and rows of a regression, and which activations may be rounded.
SIZES = {
    "weights of zero": ([0, 0, 0], 1.0, X3, "static"),
    "a huge bias": ([1, 1, 1], 1e100, X3, "none"),
    "a bias beyond the grid of its sums": ([1e-3, 1, 1], 1e15, X3, "dynamic"),
    "a denormal weight": ([1e-315, 1, 1], 0.0, X3, "static"),
    "a denormal column": ([1, 1, 1], 0.0, X3 * [1e-320, 1, 1], "static"),
    "weights near the limit, columns of 45 orders": ([9e19, 9e19, 9e19], 0.0, X3 * [1e-20, 1, 1e18], "static"),
    "a column of 1e200": ([1, 1, 1], 0.0, X3 * [1e200, 1, 1], "float"),
    "columns of 1e300": ([1, 1, 1], 0.0, X3 * 1e300, "float"),
    "equal rows": ([1, 2, 3], 0.0, np.ones((200, 3)), "static"),
    "rows of zeros": ([1, 2, 3], 5.0, np.zeros((200, 3)), "static"),
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


# --- trees ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "make",
    [
        lambda X, y: RandomForestClassifier(30, max_depth=6, random_state=0).fit(X, y),
        lambda X, y: GradientBoostingClassifier(n_estimators=8, random_state=0).fit(X, y % 3),
        lambda X, y: RandomForestRegressor(20, max_depth=6, random_state=0).fit(X, y * 1e-6),
        lambda X, y: HistGradientBoostingRegressor(max_iter=20).fit(X, y * 1e6),
    ],
)
@pytest.mark.parametrize(("mode", "limit"), [("int8", 2**7), ("int16", 2**15)])
def test_leaves_are_codes_and_splits_stay(make, mode, limit, digits):
    X, y = digits
    found = problem(make(X, y), X)
    program = found.smallest(mode, ANYTHING).program
    before, after = (nodes(p, "TreeEnsemble")[0].attrs for p in (found.program, program))
    for name in before.keys() - {"leaf_values", "base"}:
        np.testing.assert_array_equal(before[name], after[name])
    codes = after["leaf_values"]
    assert (codes == np.rint(codes)).all()
    assert codes.min() >= -limit
    assert codes.max() < limit
    assert not after["base"].any()
    expected, got = interpreter.run(found.program, found.held.columns), interpreter.run(program, found.held.columns)
    score = "predict_proba" if "predict_proba" in expected else "predict"
    error = np.abs(got[score] - expected[score]).max()
    spread = np.ptp(expected[score])
    assert 0 < error < (0.03 if mode == "int8" else 2e-4) * spread


def test_error_feedback_beats_plain_rounding(digits):
    X, y = digits
    found = problem(RandomForestRegressor(60, max_depth=8, random_state=0).fit(X, y), X)
    program = found.smallest("int8", ANYTHING).program
    expected = interpreter.run(found.program, found.held.columns)["predict"]
    fed = interpreter.run(program, found.held.columns)["predict"]
    # The same grid without feedback.
    node = nodes(found.program, "TreeEnsemble")[0]
    values = node.attrs["leaf_values"]
    step = np.ptp(values) / 255
    plain_values = values.min() + np.rint((values - values.min()) / step) * step
    plain = replace(
        found.program,
        nodes=tuple(
            replace(n, attrs={**n.attrs, "leaf_values": plain_values}) if n is node else n for n in found.program.nodes
        ),
    )
    rounded = interpreter.run(plain, found.held.columns)["predict"]
    assert np.sqrt(np.mean((fed - expected) ** 2)) < 0.5 * np.sqrt(np.mean((rounded - expected) ** 2))


def test_half_precision_leaves_of_large_and_small_targets(digits):
    X, y = digits
    for size in (1e9, 1e-9):
        found = problem(RandomForestRegressor(10, max_depth=5, random_state=0).fit(X, (y + 1) * size), X)
        program = found.smallest("float16", ANYTHING).program
        codes = nodes(program, "TreeEnsemble")[0].attrs["leaf_values"]
        assert (codes == codes.astype(np.float16)).all()
        expected, got = (interpreter.run(p, found.held.columns)["predict"] for p in (found.program, program))
        np.testing.assert_allclose(got, expected, rtol=1e-3)


def test_outputs_of_other_sizes(digits):
    """Targets around 1e6 beside others around 1e-6: each output has a scale of its own."""
    X, y = digits
    found = problem(RandomForestRegressor(10, max_depth=5, random_state=0).fit(X, np.c_[y * 1e6, y * 1e-6]), X)
    for mode in ("float16", "int16", "int8"):
        program = found.smallest(mode, ANYTHING).program
        expected, got = (interpreter.run(p, found.held.columns)["predict"] for p in (found.program, program))
        assert (np.abs(got - expected).max(axis=0) < 0.02 * np.ptp(expected, axis=0)).all()
    assert found.search("float16").candidate([0]).verdict.kept


def test_a_forest_under_isotonic_calibration_stays(digits):
    X, y = digits
    forest = RandomForestClassifier(8, max_depth=4, random_state=0)
    found = problem(CalibratedClassifierCV(forest, method="isotonic", cv=2, ensemble=False).fit(X, y % 2), X)
    search = found.search("int8", ANYTHING)
    assert search.sites
    assert all(site.forms == (None,) and "isotonic" in site.note for site in search.sites)


# --- points -----------------------------------------------------------------------------------------------------
def test_points_keep_distances_of_zero_small():
    X, _ = load_digits(return_X_y=True)
    model = KMeans(6, n_init=1, random_state=0).fit(X)
    found = problem(model, X)
    program = found.smallest("int8", ANYTHING).program
    on_points = {"X": model.cluster_centers_}
    own = interpreter.run(program, on_points)["transform"]
    away = interpreter.run(found.program, on_points)["transform"]
    assert np.diag(own).max() < 0.05 * away.max()


@pytest.mark.parametrize("mode", ["int8", "dynamic", "int16", "float16"])
def test_labels_are_those_of_the_nearest_point(mode):
    """Both formulas of k-means, the one for labels and the one for distances, round the same points."""
    X, _ = load_digits(return_X_y=True)
    found = problem(KMeans(9, n_init=1, random_state=0).fit(X), X)
    answers = interpreter.run(found.smallest(mode, ANYTHING).program, found.held.columns)
    np.testing.assert_array_equal(answers["predict"], answers["transform"].argmin(axis=1))


# --- what rounding alone does ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mode", "moves"), [("int8", True), ("dynamic", True), ("float16", False)])
def test_answers_move_by_steps_of_the_grid(mlp, mode, moves):
    program = mlp.smallest(mode, ANYTHING).program
    own = interpreter.run(program, mlp.held.columns)["predict_proba"]
    other = perturbed(program, mlp.held.columns, 0)["predict_proba"]
    assert (np.abs(own - other).max() > 1e-6) == moves
    assert np.abs(own - other).mean() < 0.01


# --- the path ---------------------------------------------------------------------------------------------------
def test_path_grows_and_ends_exact(mlp):
    steps = list(mlp.search("auto", Budget(label_flips=None, metric_drop=None, max_abs_error=0.0)).path())
    assert steps[0].levels == (0, 0, 0)
    assert steps[-1].levels == (3, 3, 3)
    assert steps[-1].verdict.methods["predict_proba"]["max_abs"] < 1e-12
    sizes = [sum(op["bytes"]["quantized"] for op in step.ops) for step in steps]
    assert sizes == sorted(sizes)
    for before, after in pairwise(steps):
        assert sum(after.levels) == sum(before.levels) + 1


def test_what_was_raised_in_vain_is_lowered_again(mlp):
    """A budget that the smallest form keeps, entered from the top: everything comes down again."""
    search = mlp.search("int8", ANYTHING, int8_activations=False)
    top = search.candidate([search.top(group) for group in range(search.groups)])
    trimmed = search._trimmed(top)
    assert trimmed.levels == (0, 0, 0)
    assert trimmed.bytes < top.bytes
    strict = mlp.search("int8", Budget(label_flips=None, metric_drop=None, max_abs_error=0.0))
    assert strict._trimmed(top) is top


def test_a_path_goes_nowhere_twice(mlp):
    """Whoever walks on has found that a form does not do: nothing is lowered to it again."""
    for mode in ("int8", "auto"):
        budget = Budget(label_flips=0.2, metric_drop=0.2)
        steps = [step.levels for step in mlp.search(mode, budget).path()]
        assert len(steps) == len(set(steps)) >= 4


def test_a_group_comes_down_as_far_as_it_goes(mlp):
    search = mlp.search("auto", ANYTHING, int8_activations=False)  # 8, 16 and 64 bits
    trimmed = search._trimmed(search.candidate([2, 0, 1]))
    assert trimmed.levels == (0, 0, 0)
    assert search._trimmed(search.candidate([2, 0, 1]), {(1, 0, 1)}).levels == (2, 0, 0)


def test_rows_that_memory_holds(mlp, monkeypatch):
    """Calibration rows are thinned where the values of the program, leaves of its trees among them, are many."""
    from edgeml.quantize import search

    width = sum(node.type.width for node in mlp.program.nodes) + 1
    monkeypatch.setattr(search, "_MOST_CELLS", 100 * width)
    found = mlp.search("int8", ANYTHING)
    assert found.exact.rows == found.truth.rows == 100
    assert len(found.truth.targets) == 100
    proba = interpreter.run(mlp.program, {"X": found.exact.values[0]}, ["predict_proba"])["predict_proba"]
    np.testing.assert_allclose(found.truth.outputs["predict_proba"], proba, atol=1e-12)
    X, y = load_diabetes(return_X_y=True)
    forest = problem(RandomForestRegressor(500, max_depth=1, random_state=0).fit(X, y), X, y)
    monkeypatch.setattr(search, "_MOST_CELLS", 100 * 500)
    assert 64 <= forest.search("int8", ANYTHING).exact.rows <= 100


def test_auto_leaves_what_is_too_small_to_gain():
    X, y = load_diabetes(return_X_y=True)
    found = problem(LinearRegression().fit(X, y), X, y)
    (site,) = found.search("auto", ANYTHING).sites
    assert site.forms == (None,)
    assert "too small" in site.note
    assert found.search("int8", ANYTHING).sites[0].forms != (None,)


def test_many_sites_are_raised_together(digits):
    X, y = digits
    members = [(f"m{i}", LogisticRegression(max_iter=20, C=10.0**-i)) for i in range(20)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = problem(StackingClassifier(members, cv=2).fit(X[:400], y[:400] % 2), X[:400])
    search = found.search("int8", ANYTHING)
    assert len(search.sites) == 21
    assert search.groups <= 12
    assert isinstance(search, Search)


def test_one_odd_row_spoils_nothing():
    """An outlier of 1e6 among the calibration rows: the path leaves the static grid it would stretch."""
    X, y = load_diabetes(return_X_y=True)
    X = np.vstack([X] * 6)
    y = np.concatenate([y] * 6)
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
    X[0, 0] = 1e6
    found = problem(model, X, y)
    chosen = found.smallest("int8")
    assert chosen.verdict.kept
    expected, got = (interpreter.run(p, found.held.columns)["predict"] for p in (found.program, chosen.program))
    assert np.corrcoef(expected, got)[0, 1] > 0.999


def test_leaves_belong_to_the_cells_they_were_asked_for(digits):
    """Cells of a dropped trace leave their address to those of the next one; trees may differ in one attribute."""
    X, y = digits
    found = problem(RandomForestRegressor(3, max_depth=4, random_state=0).fit(X, y), X)
    exact = found.search("int8", ANYTHING).exact
    attrs = nodes(found.program, "TreeEnsemble")[0].attrs
    for shift in range(5):
        cells = exact.values[0] + shift  # freed at once: the next one often gets the same place in memory
        expected = np.stack([walk(cells, int(root), attrs) for root in attrs["roots"]], axis=1)
        np.testing.assert_array_equal(exact.leaves(cells, attrs), expected)
        assert exact.leaves(cells, attrs) is exact.leaves(cells, attrs)
        del cells
    swapped = {**attrs, "left": np.where(attrs["feature"] < 0, attrs["left"], attrs["right"])}
    assert (exact.leaves(exact.values[0], swapped) != exact.leaves(exact.values[0], attrs)).any()
    assert sum(len(kept) for kept in exact._leaves.values()) <= 4
