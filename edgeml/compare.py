"""How far a model's answers are from scikit-learn's: one measure, shared by the compiler and ``verify``.

Two arrays of one method go in, the expected one first; a ``Difference`` comes out. Whether it passes is the
caller's question: ``bound`` gives the usual answer. A ``Measure`` says what the model computes in: an error that
float32 arithmetic cannot avoid is one of float64's. Needs only NumPy, so a device compares as the compiler does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeml.errors import ProgramError

Array = npt.NDArray[Any]

# The methods whose numbers a budget limits, the first that there is.
SCORES = ("predict_proba", "decision_function", "predict", "transform", "score_samples")

Precision = Literal["float64", "float32"]

FLOAT64_BOUND = 1e-9
FLOAT32_BOUND = 1e-5  # where scikit-learn itself answers in float32, or the engine computes in it
# Below this a probability is compared absolutely: it is the tail of an exponential, and decides nothing.
TINY_PROBABILITY = 1e-12
# Of float32 probabilities: p and 1 - p are known to some units of 2^-24, whatever their size.
TINY_FLOAT32_PROBABILITY = 4 * 2.0**-24 / FLOAT32_BOUND
# A decision value may cross zero; nearer to zero than this share of its column's usual size, the size counts.
NEAR_ZERO = 1e-3
# An engine that adds up in float32 knows a sum to some units of its largest terms, whatever is left of them: a score
# near zero counts in units of its column's usual size, and a probability, which is a part of 1, in units of this.
LEAST_PROBABILITY = 0.1
# The logarithm of a probability that float32 does not tell from zero.
LEAST_LOG = float(np.log(np.finfo(np.float32).tiny))
# The same where scikit-learn itself finds a float32 probability as 1 - p: half a unit of 1, or nothing.
LEAST_FLOAT32_LOG = float(np.log(2.0**-25))


@dataclass(frozen=True, slots=True)
class Difference:
    """``flips``: rows where a label, or any cell that is not a float, differs. Errors are of the floats.

    ``ties`` counts rows with another label whose scores are equal as far as float32 can tell; they are no flips.
    """

    flips: int
    max_abs: float
    max_rel: float
    p999_rel: float
    rows: int
    ties: int = 0


@dataclass(frozen=True, slots=True)
class Measure:
    """By what answers are measured: the ``precision`` that an engine computes in.

    ``usual`` holds, for a method, the usual size of each column, as ``usual_sizes`` finds it in ordinary rows; where it
    is absent the rows at hand tell. float64 does without.
    """

    precision: Precision = "float64"
    usual: Mapping[str, Array] = field(default_factory=dict)

    def limit(self, dtype: np.dtype[Any], least: float = 0.0) -> float:
        """Largest error that passes for a result of ``dtype``; ``least`` for a pipeline that is ill-conditioned."""
        return max(FLOAT32_BOUND if self.precision == "float32" else bound(dtype), least)


FLOAT64 = Measure()


def usual_sizes(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """By method the usual size of each column: the median of what is neither zero nor infinite, float64 (k,)."""
    return {m: _usual(np.abs(_table(x).astype(np.float64))) for m, x in outputs.items() if x.dtype.kind == "f"}


def bound(dtype: np.dtype[Any]) -> float:
    """Largest relative error that passes for a result of ``dtype`` from an engine that computes in float64."""
    return FLOAT32_BOUND if dtype.kind == "f" and dtype.itemsize < 8 else FLOAT64_BOUND


def overflowed(outputs: Mapping[str, Array], rows: int) -> Array:
    """Rows whose own score is NaN or infinite, bool (rows,): no label follows from it, so none is judged."""
    bad = np.zeros(rows, dtype=bool)
    for method, answer in outputs.items():
        if answer.dtype.kind == "f" and method in ("predict", "predict_proba", "decision_function"):
            bad |= ~np.isfinite(_table(answer)).all(axis=1)
    return bad


def side_by_side(answer: Any) -> Array:
    """What a method returned, of many rows or one, as one array: a list or stack is joined along the columns."""
    if isinstance(answer, (list, tuple)) or np.ndim(answer) == 3:
        return np.concatenate([np.asarray(part) for part in answer], axis=-1)
    return np.asarray(answer)


def compare(
    expected: Array, actual: Array, method: str = "", measure: Measure = FLOAT64, tied: Array | None = None
) -> Difference:
    """Compare results of one method, both of shape (rows,) or (rows, k).

    Labels and all other cells that are not floats must be equal. For floats the relative error is
    ``|actual - expected| / d``, where d depends on the method:

    - ``predict_proba``: ``max(|expected|, 1e-12)``, of float32 ``max(|expected|, 0.024)``;
    - ``predict_log_proba``: ``max(|expected|, 1)``, since an absolute error of a logarithm is a relative
      error of the probability; of float32 more, where the probability is below 0.024;
    - all others: ``max(|expected|, 1e-3 * m)``, m the median of ``|expected|`` over the finite cells of the
      column that are not zero, so that rounding noise at a zero crossing does not count as a large relative
      error.

    Of an engine that computes in float32, d is ``max(|expected|, 0.1)`` for a probability p, for its logarithm what
    follows from that, ``max(|expected|, 1) * max(1, 0.1 / p)``, and ``max(|expected|, usual size of the column)`` for
    all others; logarithms below that of float32's smallest number are all one. So are those of float32 probabilities
    below 2^-25, whatever the engine. Rows that are ``tied``, bool (rows,), count as ties where their labels differ.

    NaN equals NaN and an infinity equals itself; any other pair with one of them has an infinite error.
    Raises ProgramError when the shapes differ.
    """
    if expected.shape != actual.shape:
        raise ProgramError(f"{method or 'results'}: shape {actual.shape} cannot be compared with {expected.shape}")
    rows = expected.shape[0]
    if expected.dtype.kind == "f" and actual.dtype.kind in "fiu":
        return Difference(0, *_errors(_table(expected), _table(actual), method, measure), rows)
    if expected.dtype == object and actual.dtype == object:
        flipped, figures = _compare_objects(_table(expected), _table(actual), method, measure)
    else:
        different: Array = np.asarray(expected != actual, dtype=bool)
        flipped = np.asarray(_table(different).any(axis=1))
        figures = (0.0, 0.0, 0.0)
    ties = int((flipped & tied).sum()) if tied is not None else 0
    return Difference(int(flipped.sum()) - ties, *figures, rows, ties)


def row_errors(expected: Array, actual: Array, method: str = "", measure: Measure = FLOAT64) -> Array:
    """Largest relative error of each row, float64 (rows,), of float results as ``compare`` measures them."""
    errors: Array = _cells(_table(expected), _table(actual), method, measure)[1].max(axis=1, initial=0.0)
    return errors


def r2(targets: Array, answers: Array) -> float:
    """1 - residual sum of squares / total sum of squares, the smallest over the columns; 1 where all is constant and
    equal. In units of the largest target, so that targets around 1e-6 or 1e200 neither vanish nor overflow.
    """
    b, a = (_table(x).astype(np.float64) for x in (targets, answers))
    known = np.isfinite(b)
    size = np.abs(np.where(known, b, 0.0)).max(axis=0, initial=0.0)
    size[size == 0] = 1.0
    count = np.maximum(known.sum(axis=0), 1)
    with np.errstate(all="ignore"):
        b = np.where(known, b / size, 0.0)
        mean = b.sum(axis=0) / count
        total = np.where(known, (b - mean) ** 2, 0.0).sum(axis=0)
        residual = np.where(known, (a / size - b) ** 2, 0.0).sum(axis=0)
        varies = total > 1e-24 * count
        score = np.where(varies, 1 - residual / total, np.where(residual > 1e-12 * count, -np.inf, 1.0))
    score[np.isnan(residual)] = -np.inf
    return float(score.min(initial=1.0))


def ties(outputs: Mapping[str, Array], labels: Array, classes: Array | None, measure: Measure) -> Array:
    """Rows where ``labels``, another engine's, are as good as scikit-learn's own by its own scores, bool (rows,).

    ``outputs`` are scikit-learn's answers. A label follows from the scores of one method: the decision function,
    else the probabilities; without classes the nearest of the distances that ``transform`` gives, but 1 and -1, inliers
    and outliers, from the sign of the decision function. Two classes tie
    when their scores differ by no more than both may be off. float64 knows of no ties, nor does a pipeline without
    such a method.
    """
    none = np.zeros(len(labels), dtype=bool)
    own = outputs.get("predict")
    outliers = classes is None and own is not None and _tells_outliers(outputs, own)
    if outliers:
        classes = np.array([-1, 1])
    scores = _scores(outputs, classes) if measure.precision == "float32" and labels.ndim == 1 else None
    if scores is None or own is None or not len(labels):
        return none
    method, table, units = scores[0], scores[1], _denominator(scores[1], scores[0], scores[1].dtype, measure)
    names = list(range(table.shape[1])) if classes is None else classes.tolist()
    place = {name: column for column, name in enumerate(names)}
    mine, other = (np.array([place.get(label, -1) for label in x.tolist()]) for x in (own, labels))
    if method == "decision_function" and outputs[method].ndim == 1:
        units[:, 0] = 0.0  # of two classes one has a score, and it is compared with zero
    rows = np.arange(len(labels))
    best = table.argmin(axis=1) if method == "transform" else table.argmax(axis=1)

    def near(one: Array, two: Array) -> Array:
        with np.errstate(invalid="ignore"):
            off = np.abs(table[rows, one] - table[rows, two])
            return np.asarray(off <= FLOAT32_BOUND * (units[rows, one] + units[rows, two]))

    # k-means finds its labels by another formula than its distances: its own need not be the very nearest.
    # An outlier detector's label is 1 at 0 itself.
    won = near(mine, best) if method == "transform" or outliers else np.equal(best, mine)
    result: Array = near(mine, other) & won & (other >= 0)
    return result


def _tells_outliers(outputs: Mapping[str, Array], labels: Array) -> bool:
    scores = outputs.get("decision_function")
    return scores is not None and scores.ndim == 1 and bool(np.isin(labels, (-1, 1)).all())


def _scores(outputs: Mapping[str, Array], classes: Array | None) -> tuple[str, Array] | None:
    """The method that labels follow from, and its scores, float64 (rows, labels)."""
    if classes is None:
        found = outputs.get("transform")
        return None if found is None or found.ndim != 2 or found.dtype.kind != "f" else ("transform", found * 1.0)
    for method in ("decision_function", "predict_proba"):
        if method not in outputs:
            continue
        table = _table(outputs[method]).astype(np.float64)
        if outputs[method].ndim == 1 and len(classes) == 2:
            table = np.concatenate([np.zeros_like(table), table], axis=1)
        if table.shape[1] == len(classes):
            return method, table
    return None


def _table(x: Array) -> Array:
    """(rows,) as (rows, 1)."""
    return x.reshape(x.shape[0], -1) if x.size else x.reshape(x.shape[0], 0)


def _errors(expected: Array, actual: Array, method: str, measure: Measure) -> tuple[float, float, float]:
    """Largest absolute, largest relative, and 99.9th percentile of the relative error of float tables."""
    if not expected.size:
        return 0.0, 0.0, 0.0
    absolute, relative = _cells(expected, actual, method, measure)
    p999 = np.quantile(relative, 0.999, method="higher")
    return float(absolute.max()), float(relative.max()), float(p999)


def _cells(expected: Array, actual: Array, method: str, measure: Measure) -> tuple[Array, Array]:
    """Absolute and relative error of every cell of float tables."""
    b, a = expected.astype(np.float64), actual.astype(np.float64)
    if method == "predict_log_proba" and (measure.precision == "float32" or expected.dtype.itemsize < 8):
        least = LEAST_FLOAT32_LOG if expected.dtype.itemsize < 8 else LEAST_LOG
        b, a = np.maximum(b, least), np.maximum(a, least)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        absolute = np.where(same, 0.0, np.abs(a - b))
        relative = np.where(same, 0.0, absolute / _denominator(b, method, expected.dtype, measure))
    odd = ~same & ~(np.isfinite(a) & np.isfinite(b))
    absolute[odd] = relative[odd] = np.inf
    return absolute, relative


def _denominator(b: Array, method: str, dtype: np.dtype[Any], measure: Measure) -> Array:
    size = np.abs(b)
    single = measure.precision == "float32"
    least = LEAST_PROBABILITY if single else TINY_FLOAT32_PROBABILITY if dtype.itemsize < 8 else TINY_PROBABILITY
    if method == "predict_proba":
        return np.maximum(size, least)
    if method == "predict_log_proba":
        size = np.maximum(size, 1.0)
        return size if least == TINY_PROBABILITY else size * np.maximum(1.0, least / np.exp(b))
    usual = measure.usual.get(method)
    result: Array = np.maximum(size, (1.0 if single else NEAR_ZERO) * (_usual(size) if usual is None else usual))
    return result


def _usual(size: Array) -> Array:
    """The median of each column's cells that are neither zero nor infinite, (k,); 0 where there are none."""
    usual = np.zeros(size.shape[1])
    for k in range(size.shape[1]):
        cells = size[:, k]
        cells = cells[np.isfinite(cells) & (cells > 0)]
        usual[k] = np.median(cells) if cells.size else 0.0
    return usual


def _compare_objects(
    expected: Array, actual: Array, method: str, measure: Measure
) -> tuple[Array, tuple[float, float, float]]:
    """Object cells: two floats are compared as floats, anything else must be equal and of one type.

    Rows where something else differs, bool (rows,), and the errors of the floats.
    """
    floats = np.array(
        [isinstance(b, float) and isinstance(a, float) for b, a in zip(expected.flat, actual.flat, strict=True)],
        dtype=bool,
    ).reshape(expected.shape)
    different = np.array(
        [a is not b and (type(a) is not type(b) or a != b) for b, a in zip(expected.flat, actual.flat, strict=True)],
        dtype=bool,
    ).reshape(expected.shape)
    flipped = (different & ~floats).any(axis=1)
    # Cells that are not floats count as equal zeros here; a median passes over zeros.
    b = np.where(floats, expected, 0.0).astype(np.float64)
    a = np.where(floats, actual, 0.0).astype(np.float64)
    return flipped, _errors(b, a, method, measure)
