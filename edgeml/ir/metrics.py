"""Distances between two points, one column after the other: what each metric adds up, and what it makes of the sums.

Written once for arrays of NumPy (the meaning of op Distances), scalars of a kernel, and nodes of an ONNX graph: a step
uses ``+ - * /``, ``abs``, comparisons, ``&`` and ``|``, and is given ``choose(condition, x, y)``. The formulas and the
order of additions are those of scikit-learn's _dist_metrics.pyx.tp, in float64 whatever the columns are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Choose = Callable[[Any, Any, Any], Any]


@dataclass(frozen=True, slots=True)
class Metric:
    """``step(choose, power, a, b, x, y, d, w)`` gives the two running sums with one more column: its cells x and y,
    their difference d, and the column's weight. ``finish(choose, a, b, k)`` makes the distance of them after k
    columns. ``power`` is |d| to the metric's own exponent.
    """

    step: Callable[..., tuple[Any, Any]]
    finish: Callable[..., Any]


def _first(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return a


def _mean(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return a / k


def _square(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + d * d, b


def _square_over(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + d * d / w, b


def _absolute(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + abs(d), b


def _largest(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return choose(abs(d) > a, abs(d), a), b


def _powered(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + w * power(abs(d)), b


def _below(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + choose(d < 0.0, -d, 0.0), b


def _below_squared(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + choose(d < 0.0, d * d, 0.0), b


def _most_below(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return choose(-d > a, -d, a), b


def _share(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    size = abs(x) + abs(y)
    return a + abs(d) / choose(size > 0.0, size, 1.0), b


def _shares(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + abs(d), b + (abs(x) + abs(y))


def _ratio_or_zero(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return choose(b > 0.0, a / choose(b > 0.0, b, 1.0), 0.0)


def _additive_chi2(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    size = x + y
    none = size == 0.0
    return a + choose(none, 0.0, d * d / choose(none, 1.0, size)), b


def _unequal(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    return a + choose(x == y, 0.0, 1.0), b


def _both_or_one(choose: Any, power: Any, a: Any, b: Any, x: Any, y: Any, d: Any, w: Any) -> Any:
    """How often both are true, and how often one of the two."""
    none, other = x == 0.0, y == 0.0
    return a + choose(none | other, 0.0, 1.0), b + choose(none == other, 0.0, 1.0)


def _jaccard(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return choose(a + b > 0.0, b / choose(a + b > 0.0, a + b, 1.0), 0.0)


def _dice(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return b / (2.0 * a + b)


def _rogers_tanimoto(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return 2.0 * b / (b + k)


def _russell_rao(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return (k - a) / k


def _sokal_sneath(choose: Any, a: Any, b: Any, k: Any) -> Any:
    return b / (0.5 * a + b)


# ``below`` and its kin are by how much x falls short of y, for the boxes of a k-d tree. ``minkowski`` is without its
# root, ``seuclidean`` and ``mahalanobis`` are squared. Mahalanobis
# distances need a matrix and stand beside this table.
METRICS = {
    "sqeuclidean": Metric(_square, _first),
    "seuclidean": Metric(_square_over, _first),
    "manhattan": Metric(_absolute, _first),
    "chebyshev": Metric(_largest, _first),
    "minkowski": Metric(_powered, _first),
    "below": Metric(_below, _first),
    "below_squared": Metric(_below_squared, _first),
    "most_below": Metric(_most_below, _first),
    "canberra": Metric(_share, _first),
    "braycurtis": Metric(_shares, _ratio_or_zero),
    "additive_chi2": Metric(_additive_chi2, _first),
    "hamming": Metric(_unequal, _mean),
    "jaccard": Metric(_both_or_one, _jaccard),
    "dice": Metric(_both_or_one, _dice),
    "rogerstanimoto": Metric(_both_or_one, _rogers_tanimoto),
    "russellrao": Metric(_both_or_one, _russell_rao),
    "sokalsneath": Metric(_both_or_one, _sokal_sneath),
}
MAHALANOBIS = "mahalanobis"
