"""SplineTransformer: every column as the values of its B-splines.

In comes a Block of numbers, out goes ``transform``. The basis is evaluated by de Boor's recurrence in SciPy's order of
operations, all columns at once; what lies outside of the knots follows ``extrapolation``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.converters.block import Block
from edgeml.converters.preprocessing import ranks
from edgeml.converters.registry import Conversion, Outputs, converter
from edgeml.ir import Value

Array = npt.NDArray[Any]


@converter(
    "sklearn.SplineTransformer",
    honours=("degree", "knots", "extrapolation", "include_bias", "sparse_output", "handle_missing"),
    ignores=("n_knots", "order"),
)
def spline_transformer(c: Conversion, est: Any, X: Block) -> Outputs:
    """Per column the values of its splines; missing cells give zeros where they are allowed."""
    b = c.builder
    allow_nan = getattr(est, "handle_missing", "error") == "zeros"
    if allow_nan and est.sparse_output and X.width > 1 and est.extrapolation in ("continue", "error", "periodic"):
        # scikit-learn writes its zeros into the first column's splines alone: the others get those of the batch's least
        # cell.
        raise c.refuse(
            est,
            "sparse_output",
            True,
            f"with handle_missing='zeros' and extrapolation={est.extrapolation!r} scikit-learn's answer to a missing "
            "cell depends on the other rows: use sparse_output=False",
        )
    # Where missing cells are allowed, scikit-learn does not look for infinity either.
    x = X.matrix(c, est, dtype=X.dtype, check=not allow_nan)
    dtype = "float32" if x.dtype == "float32" and not est.sparse_output else "float64"
    x = x.cast("float64")
    splines = est.bsplines_
    count = splines[0].c.shape[1]
    nan = b.is_nan(x)
    cells = b.where(nan, 0.0, x) if allow_nan else x
    if est.extrapolation == "periodic":
        cells = _into_period(cells, splines)
    values = _basis(cells, splines)
    if est.extrapolation in ("constant", "linear"):
        values = _beyond(c, x, values, est)
    elif est.extrapolation == "error":
        low, high = _ends(splines, est.degree)
        inside = (x >= low) & (x <= high)
        inside = inside | nan if allow_nan else inside
        values = b.require(values, inside, f"{c.place(est)} was given values beyond the limits of the knots")
    if allow_nan:
        values = b.where(nan.select(np.repeat(np.arange(x.width), count)), 0.0, values)
    kept = np.arange(x.width * count) if est.include_bias else np.flatnonzero((np.arange(x.width * count) + 1) % count)
    form: Any = "sparse" if est.sparse_output else "array"
    return {"transform": Block(values.cast(dtype).select(kept), form=form)}


def _ends(splines: Any, degree: int) -> tuple[Array, Array]:
    """First and last knot of the interval that the splines cover, per column."""
    return np.array([s.t[degree] for s in splines]), np.array([s.t[-degree - 1] for s in splines])


def _into_period(x: Value, splines: Any) -> Value:
    """Cells moved by whole periods into the base interval."""
    degree = splines[0].k
    low, high = _ends(splines, degree)
    period = high - low
    flat = period <= 0  # a column of one value
    moved = x.builder.mod(x - low, np.where(flat, 1.0, period)) + low
    return x.builder.where(x.builder.constant(flat), 0.0, moved) if flat.any() else moved


def _basis(x: Value, splines: Any) -> Value:
    """The splines of every column side by side, by de Boor's recurrence; finite numbers in, any number allowed."""
    b, k, width, count = x.builder, splines[0].k, x.width, splines[0].c.shape[1]
    pieces = len(splines[0].t) - 2 * k - 1
    piece = _pieces(x, [s.t[k + 1 : -k - 1] for s in splines])
    # Knots around the piece: columns of one offset side by side.
    around = [
        b.take(piece.select([j]), np.lib.stride_tricks.sliding_window_view(s.t, 2 * k + 2)[:pieces])
        for j, s in enumerate(splines)
    ]
    knots = b.concat(around)

    def knot(offset: int) -> Value:
        """Knot ``offset`` places from the left end of the piece."""
        return knots.select(np.arange(width) * (2 * k + 2) + k + offset)

    repeated = any((np.diff(s.t) == 0).any() for s in splines)
    h = [b.constant(np.ones(width))]
    for j in range(1, k + 1):
        before, h = h, [b.constant(np.zeros(width))]
        for n in range(1, j + 1):
            right, left = knot(n), knot(n - j)
            w = before[n - 1] / (right - left)
            if repeated:
                w = b.where(right == left, 0.0, w)
            h[n - 1] = h[n - 1] + w * (right - x)
            h.append(w * (x - left))
    # Spline i of a column is the one of h whose place falls on i; periodic ones wrap around.
    own = np.repeat(np.arange(width), count)
    place = piece.select(own)
    target = np.tile(np.arange(count), width)
    total: Value | None = None
    for a, value in enumerate(h):
        # SciPy multiplies by the coefficients 0 and 1, so what is not finite reaches every spline.
        hit = place + a == target
        if pieces + k > count:
            hit = hit | (place + (a - count) == target)
        term = value.select(own) * hit.cast("float64")
        total = term if total is None else total + term
    assert total is not None  # a spline has at least degree 0
    return total


def _pieces(x: Value, edges: list[Array]) -> Value:
    """The piece between knots that a cell lies in, from 0; cells outside belong to the first or the last."""
    distinct = [np.unique(e) for e in edges]
    # A cell that is NaN has a rank of its own, which is no piece.
    piece = x.builder.minimum(ranks(x, distinct), np.array([len(d) for d in distinct]))
    if all(len(d) == len(e) for d, e in zip(distinct, edges, strict=True)):
        return piece
    counts = [np.searchsorted(e, [-np.inf, *d], side="right") for d, e in zip(distinct, edges, strict=True)]
    return x.builder.concat([x.builder.take(piece.select([j]), count) for j, count in enumerate(counts)])


def _beyond(c: Conversion, x: Value, values: Value, est: Any) -> Value:
    """The values with what stands outside of the knots replaced: as at the end, or along the tangent there."""
    b, splines, count = c.builder, est.bsplines_, est.bsplines_[0].c.shape[1]
    degree = est.degree
    linear = est.extrapolation == "linear"
    parts = []
    for j, spline in enumerate(splines):
        cell, own = x.select([j]), values.select(np.arange(j * count, (j + 1) * count))
        first, last = spline.t[degree], spline.t[-degree - 1]
        if linear and degree <= 1:
            degree += 1  # and scikit-learn leaves it so for the columns that follow
        if degree == 0 and count > 1 and not est.sparse_output:
            message = f"{c.place(est)} was given a cell above the last knot, where scikit-learn fails for degree=0"
            own = b.require(own, ~(cell > last), message)
        below, above = np.arange(count) < degree, np.arange(count) >= (count - degree if degree else 0)
        low, high = (
            _tangent(cell - knot, spline(knot), spline(knot, nu=1) if linear else None, near)
            for knot, near in ((first, below), (last, above))
        )
        if first > last:
            # Few knots, and the degree raised by the columns before: a cell may be beyond both ends. scikit-learn
            # writes spline by spline from both ends inwards, so whichever comes later stands.
            later = above & ~(below & (np.arange(count)[::-1] < np.arange(count)))
            own = b.where(b.constant(later), high, low)
            parts.append(b.where(cell >= first, high, b.where(cell <= last, low, own)))
            continue
        parts.append(b.where(cell < first, low, b.where(cell > last, high, own)))
    return b.concat(parts)


def _tangent(distance: Value, start: Array, slope: Array | None, near: Array) -> Value:
    """start + distance * slope of the splines near an end, 0 of the others."""
    b = distance.builder
    constant = b.constant(np.where(near, start, 0.0))
    if slope is None:
        return constant
    # Not 0 * distance for the others, which is NaN far out.
    return b.where(b.constant(near), distance * slope + constant, constant)
