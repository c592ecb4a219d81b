"""How far a model's answers are from scikit-learn's: one measure, shared by the compiler and ``verify``.

Two arrays of one method go in, the expected one first; a ``Difference`` comes out. Whether it passes is the
caller's question: ``bound`` gives the usual answer. Needs only NumPy, so a device compares as the compiler
does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import ProgramError

Array = npt.NDArray[Any]

FLOAT64_BOUND = 1e-9
FLOAT32_BOUND = 1e-5  # where scikit-learn itself answers in float32
# Below this a probability is compared absolutely: it is the tail of an exponential, and decides nothing.
TINY_PROBABILITY = 1e-12
# Of float32 probabilities: p and 1 - p are known to some units of 2^-24, whatever their size.
TINY_FLOAT32_PROBABILITY = 4 * 2.0**-24 / FLOAT32_BOUND
# A decision value may cross zero; nearer to zero than this share of its column's usual size, the size counts.
NEAR_ZERO = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """``flips``: rows where a label, or any cell that is not a float, differs. Errors are of the floats."""

    flips: int
    max_abs: float
    max_rel: float
    p999_rel: float
    rows: int


def bound(dtype: np.dtype[Any]) -> float:
    """Largest relative error that passes for a result of ``dtype``."""
    return FLOAT32_BOUND if dtype.kind == "f" and dtype.itemsize < 8 else FLOAT64_BOUND


def overflowed(outputs: Mapping[str, Array], rows: int) -> Array:
    """Rows whose own score is NaN or infinite, bool (rows,): no label follows from it, so none is judged."""
    bad = np.zeros(rows, dtype=bool)
    for method, answer in outputs.items():
        if answer.dtype.kind == "f" and method in ("predict", "predict_proba", "decision_function"):
            bad |= ~np.isfinite(_table(answer)).all(axis=1)
    return bad


def compare(expected: Array, actual: Array, method: str = "") -> Difference:
    """Compare results of one method, both of shape (rows,) or (rows, k).

    Labels and all other cells that are not floats must be equal. For floats the relative error is
    ``|actual - expected| / d``, where d depends on the method:

    - ``predict_proba``: ``max(|expected|, 1e-12)``, of float32 ``max(|expected|, 0.024)``;
    - ``predict_log_proba``: ``max(|expected|, 1)``, since an absolute error of a logarithm is a relative
      error of the probability; of float32 more, where the probability is below 0.024;
    - all others: ``max(|expected|, 1e-3 * m)``, m the median of ``|expected|`` over the finite cells of the
      column that are not zero, so that rounding noise at a zero crossing does not count as a large relative
      error.

    NaN equals NaN and an infinity equals itself; any other pair with one of them has an infinite error.
    Raises ProgramError when the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ProgramError(f"{method or 'results'}: shape {actual.shape} cannot be compared with {expected.shape}")
    rows = expected.shape[0]
    if expected.dtype.kind == "f" and actual.dtype.kind in "fiu":
        return Difference(0, *_errors(_table(expected), _table(actual), method), rows)
    if expected.dtype == object and actual.dtype == object:
        return _compare_objects(_table(expected), _table(actual), method)
    different = _table(np.asarray(expected != actual, dtype=bool))
    return Difference(int(different.any(axis=1).sum()), 0.0, 0.0, 0.0, rows)


def row_errors(expected: Array, actual: Array, method: str = "") -> Array:
    """Largest relative error of each row, float64 (rows,), of float results as ``compare`` measures them."""
    errors: Array = _cells(_table(expected), _table(actual), method)[1].max(axis=1, initial=0.0)
    return errors


def _table(x: Array) -> Array:
    """(rows,) as (rows, 1)."""
    return x.reshape(x.shape[0], -1) if x.size else x.reshape(x.shape[0], 0)


def _errors(expected: Array, actual: Array, method: str) -> tuple[float, float, float]:
    """Largest absolute, largest relative, and 99.9th percentile of the relative error of float tables."""
    if not expected.size:
        return 0.0, 0.0, 0.0
    absolute, relative = _cells(expected, actual, method)
    p999 = np.quantile(relative, 0.999, method="higher")
    return float(absolute.max()), float(relative.max()), float(p999)


def _cells(expected: Array, actual: Array, method: str) -> tuple[Array, Array]:
    """Absolute and relative error of every cell of float tables."""
    b, a = expected.astype(np.float64), actual.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        absolute = np.where(same, 0.0, np.abs(a - b))
        relative = np.where(same, 0.0, absolute / _denominator(b, method, expected.dtype))
    odd = ~same & ~(np.isfinite(a) & np.isfinite(b))
    absolute[odd] = relative[odd] = np.inf
    return absolute, relative


def _denominator(b: Array, method: str, dtype: np.dtype[Any]) -> Array:
    size = np.abs(b)
    float32 = dtype.itemsize < 8
    if method == "predict_proba":
        return np.maximum(size, TINY_FLOAT32_PROBABILITY if float32 else TINY_PROBABILITY)
    if method == "predict_log_proba":
        size = np.maximum(size, 1.0)
        return size * np.maximum(1.0, TINY_FLOAT32_PROBABILITY / np.exp(b)) if float32 else size
    usual = np.zeros(b.shape[1])
    for k in range(b.shape[1]):
        cells = size[:, k]
        cells = cells[np.isfinite(cells) & (cells > 0)]
        usual[k] = np.median(cells) if cells.size else 0.0
    result: Array = np.maximum(size, NEAR_ZERO * usual)
    return result


def _compare_objects(expected: Array, actual: Array, method: str) -> Difference:
    """Object cells: two floats are compared as floats, anything else must be equal and of one type."""
    floats = np.array(
        [isinstance(b, float) and isinstance(a, float) for b, a in zip(expected.flat, actual.flat, strict=True)],
        dtype=bool,
    ).reshape(expected.shape)
    different = np.array(
        [a is not b and (type(a) is not type(b) or a != b) for b, a in zip(expected.flat, actual.flat, strict=True)],
        dtype=bool,
    ).reshape(expected.shape)
    flips = int((different & ~floats).any(axis=1).sum())
    # Cells that are not floats count as equal zeros here; a median passes over zeros.
    b = np.where(floats, expected, 0.0).astype(np.float64)
    a = np.where(floats, actual, 0.0).astype(np.float64)
    return Difference(flips, *_errors(b, a, method), expected.shape[0])
