"""A quantised model against the live pipeline: inside the budget that the bundle's report names, as far as rows tell.

``verify`` calls it in the place of its exact bounds. NumPy alone, since a device has no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.compare import SCORES, Difference, r2
from edgeml.errors import ManifestError
from edgeml.runtimes.base import Model

Array = npt.NDArray[Any]

# Of n judged rows none of which broke a limit, this many in n others may (the rule of three, 95 %).
_UNSEEN = 3.0
# R2 of other rows than were judged may be worse by chance.
_CHANCE = 2.0
# A budget that is kept is called broken this seldom.
_FALSE_ALARM = 1e-3
# Fewer rows may lie so near each other that their own variance says nothing of the pipeline's.
_R2_ROWS = 32


def quantised_budget(model: Model) -> Mapping[str, float | None] | None:
    """The limits a quantised bundle was compiled with, None for a bundle that rounds nothing.

    Raises ManifestError when the report does not hold them as it should.
    """
    report = model._bundle.json("report.json") if "report.json" in model._bundle else {}
    part = report.get("quantization", {}) if isinstance(report, Mapping) else {}
    budget = part.get("budget") if isinstance(part, Mapping) else None
    if budget is None:
        return None
    names = ("label_flips", "metric_drop", "max_abs_error")
    values = {n: budget.get(n) for n in names} if isinstance(budget, Mapping) else {}
    rows = part.get("rows")
    if values and isinstance(rows, Mapping):
        values["judged"] = rows.get("judged")
    if not values or any(isinstance(v, bool) or not isinstance(v, (int, float, type(None))) for v in values.values()):
        raise ManifestError("report.json: the budget must be an object of numbers", "compile the pipeline again")
    return values


def within_budget(
    budget: Mapping[str, float | None], method: str, expected: Array, actual: Array, found: Difference, model: Model
) -> tuple[float, list[str]]:
    """The bound that was applied to a method, and what breaks it.

    Flips may be as many as chance makes of the budget's rate, and answers over the largest error as many as the judged
    rows could not rule out; numbers are judged for the method that the budget is
    about, the first of SCORES, their R2 where there are 32 rows or more.
    """
    if _is_label(model, method):
        limit = budget["label_flips"]
        unseen = _unseen(budget)
        flips = int(np.asarray(expected != actual).reshape(len(expected), -1).any(axis=1).sum()) if len(expected) else 0
        if limit is None or method != "predict" or flips <= most_flips(limit or unseen, len(expected)):
            return limit or 0.0, []
        return limit, [
            f"{method}: {flips} of {len(expected)} rows have another label ({100 * flips / len(expected):.3g} %), the "
            f"budget is {100 * limit:.3g} %"
        ]
    methods = model.manifest["methods"]
    judged = next((m for m in SCORES if m in methods and not _is_label(model, m)), None)
    worst, drop = budget["max_abs_error"], budget["metric_drop"]
    if method != judged:
        return 0.0, []
    if worst is not None and not found.max_abs <= worst:
        with np.errstate(invalid="ignore"):
            off = np.abs(actual.astype(np.float64) - expected).reshape(len(expected), -1).max(axis=1)
        over = int((~(off <= worst)).sum())
        if over > most_flips(_unseen(budget), len(expected)):
            return worst, [
                f"{method}: {over} of {len(expected)} answers are off by more than the budget of {worst:.3g}, the "
                f"worst by {found.max_abs:.3g}"
            ]
    labels = "predict" in methods and _is_label(model, "predict")  # numbers beside labels have no R2 to keep
    if not labels and drop is not None and len(expected) >= _R2_ROWS:
        lost = 1 - r2(expected, actual)
        if not lost <= _CHANCE * drop:
            return drop, [f"{method}: R2 against the pipeline is {1 - lost:.5g}, the budget is {1 - drop:.5g}"]
    return worst or 0.0, []


def _unseen(budget: Mapping[str, float | None]) -> float:
    """The share of rows that may break a limit although no judged row did."""
    judged = budget.get("judged")
    return _UNSEEN / judged if judged else 0.0


def _is_label(model: Model, method: str) -> bool:
    """Whether a method's cells are labels, to be equal or not, rather than numbers."""
    manifest = model.manifest
    labels = method == "predict" and manifest["classes"] is not None
    return labels or np.dtype(manifest["methods"][method]["dtype"]).kind != "f"


def most_flips(rate: float, rows: int) -> int:
    """The most events of a rate that chance brings among some rows, but for one time in a thousand (Poisson)."""
    mean = rate * rows
    if mean == 0:
        return 0
    term = total = math.exp(-mean) if mean < 700 else 0.0
    if not total:
        return math.ceil(mean + 3.1 * math.sqrt(mean))
    count = 0
    while 1 - total > _FALSE_ALARM and count < rows:
        count += 1
        term *= mean / count
        total += term
    return count
