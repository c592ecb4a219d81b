"""Ops of estimators that look among fixed points: distances to all, the nearest, cells by computed position.

``Distances`` gives a column a point, ``TopK`` the positions of a row's smallest cells, ``TakeAlong`` the cells at such
positions. Every function is the op's meaning on arrays of shape (rows, width).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir import elementary
from edgeml.ir.metrics import MAHALANOBIS, METRICS
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.table import Array, op, require_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]
# Whole exponents up to here are products: exact for small whole numbers, where exp(p log d) is not.
MOST_FACTORS = 16


def _infer_distances(types: Types, attrs: Attrs) -> ValueType:
    x, points, weights, metric = types[0], attrs["points"], attrs["weights"], attrs["metric"]
    require_dtype(x, "float64", "float32")
    if points.ndim != 2 or points.shape[1] != x.width or points.dtype.name != x.dtype:
        raise ProgramError(f"points {points.dtype} of shape {points.shape} do not fit {x}")
    if metric not in METRICS and metric != MAHALANOBIS:
        raise ProgramError(f"no metric {metric}")
    expected = (x.width, x.width) if metric == MAHALANOBIS else (x.width,)
    if weights.shape != expected or weights.dtype != np.float64:
        raise ProgramError(f"weights of {metric} are float64 of shape {expected}, got {weights.dtype} {weights.shape}")
    return ValueType("float64", points.shape[0])


@op(
    "Distances",
    1,
    _infer_distances,
    {"points": "array", "metric": "str", "p": "float", "weights": "array"},
)
def distances(x: Array, points: Array, metric: str, p: float, weights: Array) -> Array:
    """Distance of each row to each of the points (m, width), float64: differences in the dtype of x, the rest wide.

    ``weights`` (width,) are those of minkowski, the variances of seuclidean; (width, width) the inverse covariance of
    mahalanobis; without meaning elsewhere. See metrics.py for what is squared.
    """
    shape = (x.shape[0], points.shape[0])
    with np.errstate(all="ignore"):
        if metric == MAHALANOBIS:
            return _mahalanobis(x, points, weights, shape)
        chosen, power = METRICS[metric], powers(p)
        a, b = np.zeros(shape), np.zeros(shape)
        for j in range(points.shape[1]):
            u, v = x[:, j : j + 1], points[None, :, j]
            d = (u - v).astype(np.float64)
            a, b = chosen.step(np.where, power, a, b, u.astype(np.float64), v.astype(np.float64), d, weights[j])
        result: Array = chosen.finish(np.where, a, b, float(points.shape[1]))
        return result


def powers(p: float) -> Callable[[Any], Any]:
    """|d| to the power p, for arrays."""
    if p == int(p) and 1 <= p <= MOST_FACTORS:

        def product(d: Any) -> Any:
            result = d
            for _ in range(int(p) - 1):
                result = result * d
            return result

        return product
    return lambda d: elementary.exp(elementary.log(d) * p)


def _mahalanobis(x: Array, points: Array, inverse: Array, shape: tuple[int, int]) -> Array:
    total = np.zeros(shape)
    columns = [(x[:, j : j + 1] - points[None, :, j]).astype(np.float64) for j in range(points.shape[1])]
    for i, left in enumerate(columns):
        inner = np.zeros(shape)
        for j, right in enumerate(columns):
            inner += inverse[i, j] * right
        total += inner * left
    return total


def _infer_top_k(types: Types, attrs: Attrs) -> ValueType:
    require_dtype(types[0], "float64", "float32")
    if not 1 <= attrs["k"] <= types[0].width:
        raise ProgramError(f"the {attrs['k']} smallest of {types[0]}")
    return ValueType("int64", attrs["k"])


@op("TopK", 1, _infer_top_k, {"k": "int"})
def top_k(x: Array, k: int) -> Array:
    """Positions of the k smallest cells of a row, smallest first; of equal cells the leftmost first, NaN last."""
    return np.argsort(x, axis=1, kind="stable")[:, :k].astype(np.int64)


def _infer_take_along(types: Types, attrs: Attrs) -> ValueType:
    x, positions = types
    require_dtype(x, "float64", "float32", "int64", "bool")
    require_dtype(positions, "int64")
    return ValueType(x.dtype, positions.width)


@op("TakeAlong", 2, _infer_take_along)
def take_along(x: Array, positions: Array) -> Array:
    """The cells of each row at its positions, which the converter keeps within [0, width of x)."""
    rows = max(x.shape[0], positions.shape[0])
    wide = np.broadcast_to(x, (rows, x.shape[1]))
    return np.take_along_axis(wide, np.broadcast_to(positions, (rows, positions.shape[1])), axis=1)
