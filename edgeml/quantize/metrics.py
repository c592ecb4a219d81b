"""Metrics of judged answers, the truth's own and the quantised ones: accuracy and ROC AUC, or R2.

A ``Truth`` and answers go in; ``metrics_of`` gives the metrics that are defined for such a pipeline, each a function of
row positions, so that judge.py can resample them. NumPy alone: scikit-learn's own take too long for a bootstrap.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edgeml.compare import r2
from edgeml.ir.table import Array
from edgeml.quantize.truth import Truth


@dataclass(frozen=True, slots=True)
class Metric:
    """``values`` gives the metric of the truth's own answers and of the others, for row positions; for rows that do not
    define it a ValueError, which says why.

    ``limited``: whether the budget limits its drop. ``resampled``: whether an interval of it means something.
    """

    name: str
    values: Callable[[Array], tuple[float, float]]
    limited: bool = True
    resampled: bool = True

    @property
    def against_itself(self) -> bool:
        """Whether scikit-learn's own answers are the truth."""
        return "against scikit-learn's" in self.name


def dropped(first: float, second: float) -> float:
    """How much less the second is. Of R2 below 0, a share of the variance that is left unexplained: where a row of 1e6
    makes R2 -1e10, a difference of 1e-6 of that is no drop.
    """
    if first == second:
        return 0.0
    drop = (first - second) / max(1.0, 1.0 - first)
    return drop if np.isfinite(drop) else np.inf


def metrics_of(truth: Truth, actual: Mapping[str, Array]) -> list[Metric]:
    """The metrics that are defined for such answers."""
    outputs, targets = truth.outputs, truth.targets
    if truth.classes is not None:
        known = targets is not None and "predict" in outputs
        found = _of_classifier(outputs, actual, targets, truth.classes) if known and targets is not None else []
        if truth.score is not None:
            # Neither labels nor ranks tell of probabilities that all drift.
            own, other = outputs[truth.score], actual[truth.score]
            found.append(Metric(f"r2 against scikit-learn's {truth.score}", _pair(pooled_r2, own, own, other)))
        return found
    if truth.score is None or _labels_only(truth):
        return []
    own, other = outputs[truth.score], actual[truth.score]
    # Against scikit-learn's own answers too: where a model explains little, its answers may change a lot and R2 not.
    found = [Metric(f"r2 against scikit-learn's {truth.score}", _pair(r2, own, own, other))]
    if truth.score == "predict" and targets is not None and _varies(targets):
        found.insert(0, Metric("r2", _pair(_known_r2, targets, own, other)))
    typical = _pair(typical_r2, own, own, other)
    return [*found, Metric(f"typical r2 against scikit-learn's {truth.score}", typical, resampled=False)]


def _varies(targets: Array) -> bool:
    """Whether every column of known targets has more than one value: R2 of a constant is 1 or minus infinity."""
    table = targets.reshape(len(targets), -1).astype(np.float64)
    return all(len(np.unique(column[np.isfinite(column)])) != 1 for column in table.T)


def _labels_only(truth: Truth) -> bool:
    """A clusterer: its labels are limited, its distances are shown."""
    return "predict" in truth.outputs and truth.is_label("predict")


def _of_classifier(
    outputs: Mapping[str, Array], actual: Mapping[str, Array], targets: Array, classes: Array
) -> list[Metric]:
    """Metrics over the rows whose target is a class that the pipeline knows."""
    code = _codes(classes, targets)
    right = [_codes(classes, answers["predict"]) == code for answers in (outputs, actual)]

    def among(metric: Callable[[Array], tuple[float, float]]) -> Callable[[Array], tuple[float, float]]:
        def values(rows: Array) -> tuple[float, float]:
            known = rows[code[rows] >= 0]
            if not len(known):
                raise ValueError("no target among the judged rows is a class of the pipeline")
            return metric(known)

        return values

    def accuracy(rows: Array) -> tuple[float, float]:
        return float(right[0][rows].mean()), float(right[1][rows].mean())

    def balanced(rows: Array) -> tuple[float, float]:
        each = [code[rows] == c for c in np.unique(code[rows])]
        first, second = (float(np.mean([r[rows][p].mean() for p in each])) for r in right)
        return first, second

    found = [Metric("accuracy", among(accuracy))]
    scores = next((m for m in ("predict_proba", "decision_function") if m in outputs), None)
    if scores is not None and len(classes) > 1:
        area = _pair(_auc(len(classes)), code, outputs[scores], actual[scores])
        found.append(Metric("roc_auc", among(area)))
    return [*found, Metric("balanced_accuracy", among(balanced), limited=False)]


def _codes(classes: Array, labels: Array) -> Array:
    """Position of each label among the classes, int64; -1 for one that is none of them, and for a missing one."""
    place = {label: i for i, label in enumerate(classes.tolist())}
    return np.array([place.get(label, -1) for label in labels.tolist()], dtype=np.int64)


def _pair(
    metric: Callable[[Array, Array], float], targets: Array, own: Array, other: Array
) -> Callable[[Array], tuple[float, float]]:
    return lambda rows: (metric(targets[rows], own[rows]), metric(targets[rows], other[rows]))


# --- R2 -----------------------------------------------------------------------------------------------------------
def _known_r2(targets: Array, answers: Array) -> float:
    """R2 against targets, some of which may be missing."""
    if not np.isfinite(targets).any():
        raise ValueError("no target among the judged rows is a finite number")
    return r2(targets, answers)


def pooled_r2(targets: Array, answers: Array) -> float:
    """R2 of all columns together: a class that hardly occurs, and hardly varies, weighs as little as that."""
    b = targets.astype(np.float64).reshape(len(targets), -1)
    a = answers.astype(np.float64).reshape(b.shape)
    known = np.isfinite(b)
    size = float(np.abs(b[known]).max(initial=0.0)) or 1.0
    with np.errstate(all="ignore"):
        b, a = np.where(known, b / size, 0.0), np.where(known, a / size, 0.0)
        residual = float(np.square(a - b).sum())
        total = float(np.square(np.where(known, b - b.sum(axis=0) / np.maximum(known.sum(axis=0), 1), 0.0)).sum())
    if not np.isfinite(residual):
        return -np.inf
    if total > 1e-24 * max(int(known.sum()), 1):
        return 1 - residual / total
    return 1.0 if residual <= 1e-12 * max(int(known.sum()), 1) else -np.inf


def typical_r2(targets: Array, answers: Array) -> float:
    """1 - (median absolute error / median absolute deviation)^2, the smallest over the columns.

    R2 of the usual row: sums of squares belong to a few rows where tails are heavy, and a grid that is stretched by
    them leaves nothing of the others without a trace in R2. 1 where more than half of a column is constant.
    """
    b = targets.astype(np.float64).reshape(len(targets), -1)
    a = answers.astype(np.float64).reshape(b.shape)
    worst = 1.0
    for own, other in zip(b.T, a.T, strict=True):
        known = np.isfinite(own)
        if not known.any():
            continue
        spread = float(np.median(np.abs(own[known] - np.median(own[known]))))
        error = float(np.median(np.abs(other[known] - own[known])))
        if not np.isfinite(error):
            return -np.inf
        if spread > 0:
            worst = min(worst, 1 - (error / spread) ** 2)
    return worst


# --- ROC AUC ------------------------------------------------------------------------------------------------------
def _auc(classes: int) -> Callable[[Array, Array], float]:
    """Area under the ROC curve; of several classes the mean of each against the rest."""

    def auc(code: Array, scores: Array) -> float:
        if scores.ndim == 1 or scores.shape[1] == 1:
            return _binary_auc(code == 1, scores.reshape(-1))
        if classes == 2:
            return _binary_auc(code == 1, scores[:, 1])
        if scores.shape[1] != classes:
            raise ValueError("the scores are of pairs of classes")
        present = [c for c in range(classes) if (code == c).any() and not (code == c).all()]
        if not present:
            raise ValueError("the judged rows have targets of one class alone")
        return float(np.mean([_binary_auc(code == c, scores[:, c]) for c in present]))

    return auc


def _binary_auc(positive: Array, score: Array) -> float:
    """The rank form of the Mann-Whitney statistic, ties counted half."""
    count = int(positive.sum())
    if count in (0, len(positive)):
        raise ValueError("the judged rows have targets of one class alone")
    if np.isnan(score).any():
        return -np.inf
    _, place, sizes = np.unique(score, return_inverse=True, return_counts=True)
    ends = np.cumsum(sizes)
    rank = (ends - (sizes - 1) / 2)[place.reshape(-1)]
    return float((rank[positive].sum() - count * (count + 1) / 2) / (count * (len(positive) - count)))
