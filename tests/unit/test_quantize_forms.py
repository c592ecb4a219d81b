"""What the quantiser puts in a program for trees and points, and what rounding the other way would give."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)

from edgeml.ir import interpreter
from edgeml.ir.ops_ml import walk
from edgeml.quantize.noise import perturbed
from edgeml.quantize.trees import _with_sum
from tests.quantize_tools import ANYTHING, nodes, problem


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


@pytest.mark.parametrize("mode", ["int8", "int16"])
def test_probabilities_add_up_to_one(mode, digits):
    X, y = digits
    found = problem(RandomForestClassifier(30, max_depth=6, random_state=0).fit(X, y), X)
    program = found.smallest(mode, ANYTHING).program
    for half in (found.calibration, found.held):
        np.testing.assert_allclose(interpreter.run(program, half.columns)["predict_proba"].sum(axis=1), 1, atol=1e-12)


def test_rows_are_rounded_to_their_sum():
    wanted = np.array([[0.2, 0.3, 0.5], [1.4, 1.4, 0.2], [-0.5, 0.25, 0.25], [1.0, 2.0, 3.0]])
    rng = np.random.default_rng(0)
    for moved in (wanted, wanted + rng.uniform(-0.5, 0.5, wanted.shape), wanted + 3.0, wanted - 3.0):
        codes = _with_sum(moved, wanted)
        assert (codes == np.rint(codes)).all()
        np.testing.assert_array_equal(codes.sum(axis=1), np.rint(wanted.sum(axis=1)))
        assert (np.abs(codes - wanted) <= 2).all()


def test_sums_that_need_no_offset_get_none(digits):
    X, y = digits
    found = problem(RandomForestRegressor(5, max_depth=4, random_state=0).fit(X, y), X)
    assert not nodes(found.smallest("float16", ANYTHING).program, "Add")
    assert len(nodes(found.smallest("int8", ANYTHING).program, "Add")) == 1


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
    search = found.search(mode, ANYTHING)
    assert {form.activations for site in search.sites for form in site.forms} == {"float"}
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
