"""The path between the smallest and the most exact form: which steps it takes, and none of them twice."""

import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.ensemble import (
    RandomForestRegressor,
    StackingClassifier,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from edgeml.ir import interpreter
from edgeml.quantize.budget import Budget
from edgeml.quantize.search import Candidate, Search
from tests.quantize_tools import ANYTHING, problem


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


def test_a_step_mends_most_for_its_bytes(mlp):
    search = mlp.search("int16", Budget(label_flips=None, metric_drop=None, max_abs_error=0.0))
    first, second, *_ = search.path()
    raised = [search.candidate(levels) for levels in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]
    gains = [(first.verdict.error**2 - one.verdict.error**2) / (1 + (one.bytes - first.bytes) / 4096) for one in raised]
    assert len(set(gains)) == 3
    assert second.levels == raised[int(np.argmax(gains))].levels
    dear = Candidate((1,), first.program, first.verdict, [{"bytes": {"quantized": first.bytes + 4096}}])
    dear.verdict = raised[0].verdict
    cheap = replace(dear, ops=first.ops)
    assert search._gain(first, cheap)[0] == pytest.approx(2 * search._gain(first, dear)[0])
    assert search._gain(first, dear)[0] > 0


def test_what_saves_no_bytes_is_not_lowered(mlp):
    """int8 weights take as many bytes beside float activations as beside rounded ones, and are more exact."""
    search = mlp.search("int8", ANYTHING)
    middle = search.candidate([1, 1, 1])
    assert search._trimmed(middle) is middle


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
