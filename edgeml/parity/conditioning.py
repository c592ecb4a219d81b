"""Tells rounding noise that scikit-learn has itself from an error of ours, cell by cell, for continuous programs.

A k-means distance of a row that lies on a centre is the square root of a difference of nearly equal numbers: half of
its digits depend on the order in which BLAS adds, and no artifact can repeat them. Such a cell gives itself away:
moving the raw row, and scikit-learn's exponentials, by units in the last place moves its own answer by as much. Never
used for labels, nor where a program has trees, whose answers may jump for good reason.

An engine in float32 knows nothing of a score of 1 that is left of terms of 1e9, as a row with an absurd cell has them:
there the program's own sums, rounded to float32 at random, tell. Only awkward rows are excused so (check.py): of the
sample an artifact keeps the digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import numpy as np

from edgeml.compare import FLOAT32_BOUND, FLOAT64, Measure, row_errors
from edgeml.ir.program import Program
from edgeml.ir.table import Array
from edgeml.parity.exponentials import off_by_a_unit
from edgeml.parity.splits import rounded_anew, values_of
from edgeml.parity.truth import call, quiet
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

# An error up to this many times scikit-learn's own movement is noise.
FACTOR = 8.0
# Such noise is a coin toss a time: one trial may well show none of it.
TRIALS = 32
# Noise of a square root of a difference is about 1.5e-8 of the operands; on the scale of edgeml.compare, which
# floors a denominator at 1e-3 of its column's usual size, that is at most this.
LARGEST = 1e-4
# Or the error is this small a part of the row's largest cell: a component that is nothing but rounding noise.
PART_OF_ROW = 1e-12
# The same where a pipeline computes in float32, whose square root of a difference keeps three digits.
FLOAT32_LARGEST = 0.1
FLOAT32_PART_OF_ROW = 1e-4
# Rows whose values are held at once.
_ROWS = 256


def is_continuous(program: Program) -> bool:
    """True when no tree stands between the raw columns and the outputs."""
    return all(node.op != "TreeEnsemble" for node in program.nodes)


def ill_conditioned(
    pipeline: Any,
    sample: Sample,
    method: str,
    expected: Array,
    actual: Array,
    limit: float,
    measure: Measure = FLOAT64,
    program: Program | None = None,
    *,
    chaotic: bool = False,
    ops: Set[str] = frozenset(),
) -> tuple[int, float]:
    """How many rows over the limit are noise of scikit-learn's own, and the largest error of the other rows.

    With ``program`` the noise is that of its sums in float32. ``chaotic``: noise may have any size, as in an iteration
    that does not converge on a row it was not made for. ``ops`` are those of the program that count: sines keep no
    digit of an angle of 1e300, so any error may be noise (of awkward rows); and where scikit-learn convolves by Fourier
    transforms, no component is known better than to a part of the row's largest.
    """
    errors = row_errors(expected, actual, method, measure)
    over = np.flatnonzero(errors > limit)
    sizes = (LARGEST, PART_OF_ROW) if limit < FLOAT32_BOUND else (FLOAT32_LARGEST, FLOAT32_PART_OF_ROW)
    if not ops.isdisjoint(("Sin", "Cos")):
        sizes = (np.inf, sizes[1])
    small = chaotic or _small(expected[over], actual[over], errors[over], *sizes).all()
    if not over.size or not small:
        return 0, float(errors.max(initial=0.0))
    moved = np.zeros(len(over))
    try:
        for answer in (
            _nudged(pipeline, sample, method, over) if program is None else _in_float32(program, sample, method, over)
        ):
            trial = expected.copy()
            trial[over] = answer.reshape(trial[over].shape)
            moved = np.maximum(moved, row_errors(expected, trial, method, measure)[over])
    except Exception:  # a row on the edge of what scikit-learn refuses: nothing is excused
        return 0, float(errors.max())
    noise = errors[over] <= FACTOR * moved
    if "Convolve" in ops:
        noise |= _small(expected[over], actual[over], errors[over], 0.0, sizes[1])
    rest = errors.copy()
    rest[over[noise]] = 0.0
    return int(noise.sum()), float(rest.max())


def has_meaning(program: Program) -> bool:
    """Whether NumPy can run the program: it cannot run what skl2onnx made."""
    return all(node.op != "OnnxGraph" for node in program.nodes)


def reordered(
    program: Program,
    sample: Sample,
    method: str,
    expected: Array,
    actual: Array,
    limit: float,
    measure: Measure,
    *,
    repeated: bool = False,
) -> tuple[int, float]:
    """The same two numbers, where the noise is that of the program's own sums, added up in another order.

    A coordinate of a manifold that a row lies 1e38 away from is a sum of terms that cancel to nothing: no digit of
    scikit-learn's survives there either, and moving the row by units in the last place does not show it. ``repeated``:
    only rows whose answer the program, which adds as its converter says, repeats within the limit. Then nothing cancels
    in it but what cancels in scikit-learn, as the products of 10,000 support vectors do near a decision of 0.
    """
    errors = row_errors(expected, actual, method, measure)
    over = np.flatnonzero(errors > limit)
    if not over.size or not has_meaning(program):
        return 0, float(errors.max(initial=0.0))
    moved = np.zeros(len(over))
    for part in _batches(len(over)):
        rows = over[part]
        for before, after in _added_anew(program, sample.take(rows), sample, method):
            trial = expected.copy()
            with np.errstate(invalid="ignore"):
                trial[rows] += (after - before).reshape(trial[rows].shape).astype(trial.dtype)
            moved[part] = np.maximum(moved[part], row_errors(expected, trial, method, measure)[rows])
        if repeated:
            own = expected.copy()
            own[rows] = before.reshape(own[rows].shape)
            moved[part][row_errors(expected, own, method, measure)[rows] > limit] = 0.0
    rest = errors.copy()
    rest[over[errors[over] <= FACTOR * moved]] = 0.0
    return int((rest != errors).sum()), float(rest.max())


def searches(program: Program) -> bool:
    """Whether a program looks for nearest points: which of two at equal distance, and whether a row lies on a point of
    its own, is decided by rounding where the distances are sums of BLAS; answers may then differ by any amount."""
    return has_meaning(program) and any(node.op in ("TopK", "HeapK") for node in program.nodes)


def relabelled(program: Program, sample: Sample, method: str, expected: Array, actual: Array) -> Array:
    """Rows whose label is another one, and that get the expected one when the program's sums are added up in another
    order, bool (rows,)."""
    result = np.zeros(len(expected), dtype=bool)
    flipped = np.flatnonzero((expected != actual).reshape(len(expected), -1).any(axis=1))
    for part in _batches(len(flipped)):
        rows = flipped[part]
        for _, after in _added_anew(program, sample.take(rows), sample, method):
            result[rows] |= (after == expected[rows].reshape(after.shape)).all(axis=1)
    return result


def _batches(count: int) -> Iterator[slice]:
    for start in range(0, count, _ROWS):
        yield slice(start, min(start + _ROWS, count))


def _added_anew(program: Program, rows: Any, sample: Sample, method: str) -> Iterator[tuple[Array, Array]]:
    """What the program answers to the rows, and what it answers with its sums added up in another order."""
    columns, _ = read_rows(rows, sample.schema)
    base, at = values_of(program, columns), program.outputs[method].values
    before = np.concatenate([base[v] for v in at], axis=1)
    for values in rounded_anew(program, base, TRIALS):
        yield before, np.concatenate([values[v] for v in at], axis=1)


def _nudged(pipeline: Any, sample: Sample, method: str, rows: Array) -> Iterator[Array]:
    """scikit-learn's answers to the rows, which are moved by units in the last place, as its exponentials are."""
    rng = np.random.default_rng(0)
    for _ in range(TRIALS):
        with quiet(), off_by_a_unit(rng):
            yield call(pipeline, method, _nudge(sample.take(rows), sample, rng))


def _in_float32(program: Program, sample: Sample, method: str, rows: Array) -> Iterator[Array]:
    """The program's answers to the rows, its sums and functions rounded as float32 may round them."""
    columns, _ = read_rows(sample.take(rows), sample.schema)
    for values in rounded_anew(program, values_of(program, columns), TRIALS, eps=float(np.finfo(np.float32).eps)):
        yield np.concatenate([values[v] for v in program.outputs[method].values], axis=1)


def _small(expected: Array, actual: Array, errors: Array, largest: float, part_of_row: float) -> Array:
    """Whether each row's error is of a size that rounding alone can have, bool (rows,)."""
    rows = expected.reshape(len(expected), -1)
    with np.errstate(invalid="ignore"):
        absolute = np.abs(actual.reshape(rows.shape) - rows).max(axis=1)
        small: Array = (errors <= largest) | (absolute <= part_of_row * np.abs(rows).max(axis=1))
    return small


def _nudge(rows: Any, sample: Sample, rng: np.random.Generator) -> Any:
    """The rows with every float cell moved by some units in the last place, of itself or of its column's usual cell.

    A zero among large cells is no better known than they are, once a scaler has shifted it. A sum of k products in
    another order is the exact sum of terms perturbed by up to k units (Higham, Accuracy and Stability, section 3.1),
    by about the square root of k in practice: so far the cells move.
    """
    most = int(np.clip(np.sqrt(len(sample.schema.columns)), 1, 16))

    def nudged(cells: Array, column: Array) -> Array:
        with np.errstate(all="ignore"):
            usual = np.median(np.abs(column[np.isfinite(column)])) if np.isfinite(column).any() else cells.dtype.type(0)
            step = np.spacing(np.maximum(np.abs(cells), usual))
        moved: Array = cells + np.where(np.isfinite(step), step, 0) * rng.integers(-most, most + 1, cells.shape)
        return moved.astype(cells.dtype)

    if not hasattr(rows, "iloc"):
        if rows.dtype.kind != "f":
            return rows
        return np.stack([nudged(c, s) for c, s in zip(rows.T, sample.rows.T, strict=True)], axis=1)
    rows = rows.copy()
    for at, column in enumerate(sample.schema.columns):
        cells = rows.iloc[:, at]
        if column.used and cells.dtype in (np.float64, np.float32):
            rows[rows.columns[at]] = nudged(cells.to_numpy(), sample.rows.iloc[:, at].to_numpy())
    return rows
