"""Budgets and ways to quantise: what is refused; and what a number of rows can show."""

import json

import numpy as np
import pytest
from scipy.stats import binomtest

from edgeml.errors import BudgetValueError, QuantizeError
from edgeml.quantize.budget import Budget, check_budget
from edgeml.quantize.forms import LADDERS, QUANTIZE, check_quantize, ladder
from edgeml.quantize.statistics import bootstrap, can_show, rate_bound

NONE = {"label_flips": None, "metric_drop": None}


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"label_flips": -0.1}, "label_flips"),
        ({"label_flips": 1.5}, "label_flips"),
        ({"label_flips": "few"}, "label_flips"),
        ({"label_flips": True}, "label_flips"),
        ({"metric_drop": float("nan")}, "metric_drop"),
        ({"metric_drop": 2}, "metric_drop"),
        ({"max_abs_error": -1}, "max_abs_error"),
        ({"max_bytes": 0}, "max_bytes"),
        ({"max_latency_us": 0}, "max_latency_us"),
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": "high"}, "confidence"),
        ({"confidence": 0.4}, "confidence"),
        ({"max_abs_error": np.inf}, "limits nothing"),
        ({"max_bytes": np.array([10])}, "max_bytes"),
        (NONE, "limits nothing"),
    ],
)
def test_a_budget_that_contradicts_itself_is_named(limits, named):
    with pytest.raises(BudgetValueError, match=named) as caught:
        Budget(**limits)
    assert caught.value.remedy
    assert caught.value.exit_code == 2


def test_numbers_of_numpy_become_numbers_that_json_holds():
    budget = Budget(label_flips=np.float32(0.1), max_bytes=np.int64(1000), confidence=np.float64(0.9))
    assert json.loads(json.dumps(budget.to_json())) == {
        "label_flips": 0.1, "metric_drop": 0.002, "max_abs_error": None, "max_bytes": 1000, "max_latency_us": None,
    }  # fmt: skip
    assert type(budget.confidence) is float


def test_what_is_no_budget():
    assert check_budget(None) is None
    with pytest.raises(BudgetValueError, match="not a dict"):
        check_budget({"label_flips": 0.1})


def test_unknown_ways_to_quantise():
    for mode in QUANTIZE:
        check_quantize(mode)
    with pytest.raises(QuantizeError, match="int4"):
        check_quantize("int4")


def test_ladders_grow():
    """Every form of a ladder takes at least as many bytes as the one before it."""
    size = {"int8": 1, "int16": 2, "float16": 2, None: 8}
    for ops in LADDERS.values():
        for forms in ops.values():
            sizes = [size[getattr(f, "weights", getattr(f, "leaves", None))] for f in forms]
            assert sizes == sorted(sizes)


def test_a_device_leaves_forms_out():
    assert all(f.activations != "static" for f in ladder("int8", "Linear", int8_activations=False))
    assert ladder("dynamic", "Linear", per_channel_dynamic=False)[0].per_tensor


# --- statistics -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("count", "rows"), [(0, 100), (3, 5000), (7, 7), (40, 400)])
def test_rate_bound_is_clopper_pearson(count, rows):
    exact = binomtest(count, rows, alternative="less").proportion_ci(0.95, method="exact").high
    assert rate_bound(count, rows, 0.95) == pytest.approx(exact, abs=1e-12)


def test_how_many_rows_can_show_a_limit():
    assert not can_show(0.001, 2000, 0.95)
    assert can_show(0.001, 3000, 0.95)
    assert rate_bound(0, 0, 0.95) == 1.0


def test_bootstrap_covers_a_difference():
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.3, 1, 2000), rng.normal(0, 1, 2000)
    low, high = bootstrap(lambda rows: float(x[rows].mean() - y[rows].mean()), 2000, 0.95)
    assert low < 0.3 < high
    assert high - low < 0.2
