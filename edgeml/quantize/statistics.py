"""Bounds for what a finite number of judged rows can show: rates, and differences of metrics.

Plain arrays in, numbers out; judge.py and search.py call it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgeml.ir.table import Array

RESAMPLES = 200


def rate_bound(count: int, rows: int, confidence: float) -> float:
    """One-sided upper bound of a rate of which ``count`` of ``rows`` were seen (Clopper and Pearson, 1934)."""
    from scipy.stats import beta

    if rows == 0:
        return 1.0
    return 1.0 if count >= rows else float(beta.ppf(confidence, count + 1, rows - count))


def can_show(limit: float, rows: int, confidence: float) -> bool:
    """Whether that many rows without a single event would put the bound within the limit."""
    return rate_bound(0, rows, confidence) <= limit


def bootstrap(statistic: Callable[[Array], float], rows: int, confidence: float, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of row positions, over resampled rows (Efron, 1979).

    Both bounds are one-sided at ``confidence``. Resamples in which it is not defined (one class only) are left out;
    with fewer than half of them left the interval is (-inf, inf).
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        try:
            value = statistic(rng.integers(0, rows, rows))
        except ValueError:
            continue
        if np.isfinite(value):
            found.append(value)
    if len(found) < RESAMPLES // 2:
        return -np.inf, np.inf
    low, high = np.quantile(found, [1 - confidence, confidence])
    return float(low), float(high)
