"""Judges quantised answers against scikit-learn's: flips, errors, metrics, and whether the budget is kept.

Answers of the judged rows go in, by method, with the budget; a ``Verdict`` comes out, with every figure the report
shows. The search calls it on the calibration rows for each form it tries, the compiler on rows that nothing was
calibrated on, once for each artifact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from edgeml.ir.table import Array
from edgeml.quantize.budget import ANSWER_LIMITS, Budget
from edgeml.quantize.margins import estimated_flips
from edgeml.quantize.metrics import Metric, dropped, metrics_of
from edgeml.quantize.statistics import bootstrap, can_show, rate_bound
from edgeml.quantize.truth import Truth

PLOT_POINTS = 400
# The largest error of other rows, in units of the largest among some rows or thousands of them.
_MANY, _MORE_OF_FEW, _MORE_OF_MANY = 3000, 1.5, 1.2
# An estimate of flips counts this many times where it stands in for a bound.
_CAUTION = 2.0
_BINS = 40


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit of the budget: what was measured, the bound that the rows support, and whether it is kept."""

    name: str
    measured: float
    limit: float
    bound: float | None = None
    note: str = ""

    @property
    def kept(self) -> bool:
        return bool(self.measured <= self.limit)

    @property
    def sure(self) -> bool:
        """Whether the bound keeps the limit too; where there is none, whether the measured figure does."""
        return self.kept and (self.bound is None or self.bound <= self.limit)

    @property
    def excess(self) -> float:
        """Measured over allowed; at most 1 when kept."""
        if self.kept:
            return 0.0 if not self.limit else float(max(self.measured, 0.0) / self.limit)
        return float("inf") if not self.limit else float(self.measured / self.limit)

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "measured": finite(self.measured),
            "bound": None if self.bound is None else finite(self.bound),
            "limit": self.limit,
            "kept": self.kept,
            "note": self.note,
        }

    def __str__(self) -> str:
        return f"{self.name} {shown(self.name, self.measured)} (limit {shown(self.name, self.limit)})"


@dataclass(slots=True)
class Verdict:
    """Figures of one set of answers. ``error``: root mean square error of the scores, in units of their spread.

    ``unjudged``: limits and metrics that these answers do not define, and why.
    """

    limits: list[Limit] = field(default_factory=list)
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    error: float = 0.0

    @property
    def kept(self) -> bool:
        return all(limit.kept for limit in self.limits)

    @property
    def sure(self) -> bool:
        return all(limit.sure for limit in self.limits)

    @property
    def excess(self) -> float:
        """How far the worst limit is used up; over 1 when it is not kept."""
        return max((limit.excess for limit in self.limits), default=0.0)

    def broken(self) -> list[str]:
        return [str(limit) for limit in self.limits if not limit.kept]

    def to_json(self) -> dict[str, Any]:
        return {
            "kept": self.kept,
            "limits": [limit.to_json() for limit in self.limits],
            "methods": self.methods,
            "metrics": self.metrics,
            "not_judged": self.unjudged,
        }


def shown(name: str, value: float) -> str:
    """A figure of a limit for people."""
    if name in ("label_flips", "metric_drop"):
        return f"{100 * value:.3g} %"
    return f"{value:,.0f} bytes" if name == "max_bytes" else f"{value:.3g}"


def finite(value: float) -> float | None:
    """A number JSON can hold; None for the others."""
    return float(value) if np.isfinite(value) else None


def judge(truth: Truth, actual: Mapping[str, Array], budget: Budget, *, intervals: bool = True) -> Verdict:
    """Compare the answers of one artifact with the truth. ``intervals``, which take a while, come from a bootstrap."""
    verdict = Verdict()
    rows = truth.rows
    for method, expected in truth.outputs.items():
        got = actual[method]
        verdict.methods[method] = (
            _label_figures(expected, got, budget) if truth.is_label(method) else _number_figures(expected, got)
        )
    if "predict" in truth.outputs and truth.is_label("predict") and budget.label_flips is not None:
        verdict.limits.append(_flips(truth, actual, budget, verdict.methods["predict"]))
    _metrics(truth, actual, budget, verdict, intervals)
    if truth.score is not None:
        figures = verdict.methods[truth.score]
        verdict.error = figures["error"]
        if budget.max_abs_error is not None:
            note = f"of {truth.score}, the largest of {rows} rows"
            worst = np.inf if figures["max_abs"] is None else figures["max_abs"]
            bound = worst * (_MORE_OF_FEW if rows < _MANY else _MORE_OF_MANY)
            verdict.limits.append(Limit("max_abs_error", worst, budget.max_abs_error, bound, note))
    judged = {limit.name for limit in verdict.limits}
    for name in ANSWER_LIMITS:
        if getattr(budget, name) is not None and name not in judged:
            verdict.unjudged[name] = _why_unjudged(truth, name)
    return verdict


def _flips(truth: Truth, actual: Mapping[str, Array], budget: Budget, figures: dict[str, Any]) -> Limit:
    """The limit of flips. Where too few rows are judged for a bound within it, what margins tell stands in for one."""
    assert budget.label_flips is not None
    estimate = estimated_flips(truth, actual)
    note = f"{100 * budget.confidence:.4g} % one-sided bound {shown('label_flips', figures['flip_bound'])}"
    if estimate is not None:
        figures["flip_estimate"] = estimate
        note += f", by margins {shown('label_flips', estimate)}"
    bound = figures["flip_bound"]
    if not can_show(budget.label_flips, truth.rows, budget.confidence):
        note += f"; {truth.rows} rows are too few to show the limit"
        told = figures["flip_rate"] if estimate is None else max(estimate, figures["flip_rate"])
        note += f", and {_CAUTION:g} times what they tell is taken for a bound"
        bound = _CAUTION * told
    return Limit("label_flips", figures["flip_rate"], budget.label_flips, bound, note)


# --- figures ----------------------------------------------------------------------------------------------------
def _label_figures(expected: Array, actual: Array, budget: Budget) -> dict[str, Any]:
    different = np.asarray(expected != actual, dtype=bool)
    if expected.dtype.kind in "fO":  # NaN is a label of its own
        different &= ~np.asarray((expected != expected) & (actual != actual), dtype=bool)
    rows = len(expected)
    flips = int(different.reshape(rows, -1).any(axis=1).sum()) if rows else 0
    return {
        "flips": flips,
        "rows": rows,
        "flip_rate": flips / max(rows, 1),
        "flip_bound": rate_bound(flips, rows, budget.confidence),
    }


def _number_figures(expected: Array, actual: Array) -> dict[str, Any]:
    b = expected.astype(np.float64).reshape(len(expected), -1)
    a = actual.astype(np.float64).reshape(b.shape)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
        error[np.isnan(error)] = np.inf
        spread = _spread(b)
        # However small the spread is that an infinite error is divided by, the square must be a number.
        relative = float(np.sqrt(np.mean(np.minimum(error / spread, 1e140) ** 2))) if error.size else 0.0
    return {
        "max_abs": finite(float(error.max(initial=0.0))),
        "p999_abs": finite(float(np.quantile(error, 0.999, method="higher"))) if error.size else 0.0,
        "mean_abs": finite(float(error.mean())) if error.size else 0.0,
        "error": relative,
        "rows": len(b),
    }


def _spread(table: Array) -> Array:
    """Standard deviation of the finite cells of each column; where it is none, their largest size. Above 0."""
    known = np.isfinite(table)
    cells = np.where(known, table, 0.0)
    size = np.maximum(np.abs(cells).max(axis=0, initial=0.0), 1e-300)
    count = np.maximum(known.sum(axis=0), 1)
    off = np.where(known, cells / size - (cells / size).sum(axis=0) / count, 0.0)
    spread = size * np.sqrt(np.square(off).sum(axis=0) / count)
    return np.asarray(np.where(spread > 0, spread, size))


# --- metrics ----------------------------------------------------------------------------------------------------
def _metrics(truth: Truth, actual: Mapping[str, Array], budget: Budget, verdict: Verdict, intervals: bool) -> None:
    for metric in metrics_of(truth, actual):
        try:
            first, second = metric.values(np.arange(truth.rows))
        except ValueError as error:
            verdict.unjudged[metric.name] = str(error)
            continue
        drop = dropped(first, second)
        low, high = -np.inf, np.inf
        if intervals and metric.resampled:
            low, high = bootstrap(partial(_drop, metric), truth.rows, budget.confidence)
        verdict.metrics[metric.name] = {
            "float": finite(first),
            "quantized": finite(second),
            "drop": finite(drop),
            "low": finite(low),
            "high": finite(high),
        }
        if budget.metric_drop is not None and metric.limited:
            note = f"of {metric.name if ' ' in metric.name else metric.name.replace('_', ' ')}"
            if intervals and np.isfinite(high):
                note += f", {100 * budget.confidence:.4g} % one-sided bound {high:+.2g}"
            # What numbers lose is steady from row to row, but of few rows it is taken twice, as flips are.
            bound = _CAUTION * drop if metric.against_itself and truth.rows < _MANY else None
            verdict.limits.append(Limit("metric_drop", drop, budget.metric_drop, bound, note))


def _drop(metric: Metric, rows: Array) -> float:
    return dropped(*metric.values(rows))


def _why_unjudged(truth: Truth, name: str) -> str:
    """Why a limit that the budget sets is not among those that were judged."""
    if name == "label_flips":
        return "the pipeline predicts no labels"
    if name == "max_abs_error":
        return "no method gives numbers"
    if truth.classes is not None and truth.targets is None:
        return "metrics of a classifier without scores need y"
    return "none is defined for this pipeline and these rows"


# --- plot -------------------------------------------------------------------------------------------------------
def plot_data(truth: Truth, actual: Mapping[str, Array]) -> dict[str, Any] | None:
    """Points and a histogram of errors for the parity plot; None where there are no numbers."""
    if truth.score is None:
        return None
    expected, got = truth.outputs[truth.score], actual[truth.score]
    if truth.score == "predict_proba" and expected.shape[1] == 2:
        expected, got = expected[:, 1], got[:, 1]
    b, a = expected.astype(np.float64).reshape(-1), got.astype(np.float64).reshape(-1)
    known = np.isfinite(a) & np.isfinite(b)
    a, b = a[known], b[known]
    if not len(a):
        return None
    chosen = np.unique(np.linspace(0, len(a) - 1, PLOT_POINTS).astype(np.int64))
    counts, edges = np.histogram(a - b, bins=_BINS)
    return {
        "method": truth.score,
        "float": [float(f"{v:.6g}") for v in b[chosen]],
        "quantized": [float(f"{v:.6g}") for v in a[chosen]],
        "histogram": {"edges": [float(f"{v:.6g}") for v in edges], "counts": counts.tolist()},
    }
