"""What quantisation may cost: the ``Budget`` a caller sets, and the limits it comes to.

``edgeml.compile(budget=...)`` takes one; the command line builds it from ``--budget``. judge.py measures against it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from edgeml.errors import BudgetValueError

# Below this many rows on either side, neither ranges nor flips mean anything.
MIN_ROWS = 32


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits that a quantised artifact must keep against scikit-learn's own answers. None: no limit.

    Attributes:
        label_flips: largest share of judged rows whose label differs, from 0 to 1 (classifiers and clusterers).
        metric_drop: largest drop of accuracy and of ROC AUC (R2 for regressors) against known targets. Where compile is
            given no ``y``: of the R2 of the quantised numbers against scikit-learn's (regressors and transformers).
        max_abs_error: largest absolute error of any judged score: ``predict_proba``, else ``decision_function``, of a
            classifier; ``predict`` of a regressor; ``transform`` or ``score_samples`` where there is neither.
        max_bytes: largest size of an artifact in bytes, all its members together.
        max_latency_us: longest median time of one row on the machine that compiles, in microseconds.
        confidence: confidence of the bounds in the report, one-sided.

    Raises:
        BudgetValueError: a limit that makes no sense, or no limit at all.
    """

    label_flips: float | None = 0.001
    metric_drop: float | None = 0.002
    max_abs_error: float | None = None
    max_bytes: int | None = None
    max_latency_us: float | None = None
    confidence: float = 0.95

    def __post_init__(self) -> None:
        for name in LIMITS:
            value = getattr(self, name)
            if value is None:
                continue
            if not _is_number(value):
                raise BudgetValueError(f"the budget's {name}={value!r} is not a number", f"use {_EXAMPLES[name]}")
            if _plain(value) > 1e300:
                raise BudgetValueError(f"the budget's {name}={value!r} limits nothing", f"use {name}=None for no limit")
            object.__setattr__(self, name, _plain(value))
            low_open = name in ("max_bytes", "max_latency_us")
            if value < 0 or (low_open and value <= 0):
                raise BudgetValueError(
                    f"the budget's {name}={value!r} contradicts itself: nothing is that small", f"use {_EXAMPLES[name]}"
                )
            if name in ("label_flips", "metric_drop") and value > 1:
                raise BudgetValueError(
                    f"the budget's {name}={value!r} is a share and at most 1", f"use {_EXAMPLES[name]}; 0.001 is 0.1 %"
                )
        if not _is_number(self.confidence) or not 0.5 <= self.confidence < 1:
            raise BudgetValueError(
                f"the budget's confidence={self.confidence!r} is not from 0.5 to below 1", "use confidence=0.95"
            )
        object.__setattr__(self, "confidence", _plain(self.confidence))
        if all(getattr(self, name) is None for name in LIMITS):
            raise BudgetValueError(
                "the budget limits nothing: every limit is None",
                f"set at least one of: {', '.join(LIMITS)}",
            )

    def limits_answers(self) -> bool:
        """Whether anything but size and time is limited."""
        return any(getattr(self, name) is not None for name in ANSWER_LIMITS)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready limits."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "confidence"}


ANSWER_LIMITS = ("label_flips", "metric_drop", "max_abs_error")
LIMITS = (*ANSWER_LIMITS, "max_bytes", "max_latency_us")
_EXAMPLES = {
    "label_flips": "label_flips=0.001",
    "metric_drop": "metric_drop=0.002",
    "max_abs_error": "max_abs_error=0.05",
    "max_bytes": "max_bytes=13000",
    "max_latency_us": "max_latency_us=50",
}


def _is_number(value: Any) -> bool:
    """Whether a limit is a number of Python or NumPy; NaN and True are none."""
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool) and value == value


def _plain(value: Any) -> int | float:
    """NumPy's numbers as Python's, which JSON holds: one of float32 as the decimal that it prints as."""
    if isinstance(value, (int, np.integer)):
        return int(value)
    return float(value) if isinstance(value, float) else float(str(value))


def check_budget(budget: Any) -> Budget | None:
    """A budget as given to ``compile``: a Budget, or None. Raises BudgetValueError for anything else."""
    if budget is None or isinstance(budget, Budget):
        return budget
    raise BudgetValueError(
        f"budget is an edgeml.Budget, not a {type(budget).__name__}", "use budget=edgeml.Budget(label_flips=0.001)"
    )
