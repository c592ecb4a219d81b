"""Runs a compiled artifact against scikit-learn's answers and judges it.

In come a loaded Model, the rows and the truth about them; out goes a ``Finding`` for the report, one an engine and a
set of rows. A finding that is not within its bound makes the compiler stop before any file is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from edgeml.compare import FLOAT32_BOUND, FLOAT64, Difference, Measure, bound, compare, side_by_side, ties
from edgeml.errors import EngineError, InputError
from edgeml.ir import Program
from edgeml.ir.table import Array
from edgeml.parity.conditioning import PART_OF_ROW, ill_conditioned, relabelled, reordered, searches
from edgeml.parity.rounding import iterates, rounds_to_float32
from edgeml.parity.truth import STD, Truth
from edgeml.parity.unsettled import unsettled
from edgeml.runtimes.base import Model
from edgeml.runtimes.in_range import run_in_range
from edgeml.sample import Sample

# scikit-learn's own answer may move by more than the bound when BLAS adds in another order (an ill-conditioned
# pipeline); then a multiple of that noise is the bound, up to a limit, and the report says so.
NOISE_FACTOR = 10.0
WIDEST_FACTOR = 1e3
# Where scikit-learn iterates to a tolerance: rounding moves where within it an iteration ends.
LOOP_BOUND = 1e-6
SAMPLE = "sample"  # the name of the rows that are the caller's own
# Awkward rows may all be beyond an engine's range; of the sample's own no more than this part, or it serves nobody.
MOST_OUT_OF_RANGE = 0.01


@dataclass(frozen=True)
class Finding:
    """How one engine did on one set of rows.

    ``refused`` counts rows that scikit-learn refuses, ``unjudged`` those whose score overflows in scikit-learn itself,
    or whose answer it does not settle (unsettled.py),
    ``out_of_range`` those that an engine refuses by name since float32 cannot follow them.
    """

    engine: str
    rows: str
    count: int
    refused: int
    unjudged: int
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    out_of_range: int = 0

    @property
    def passed(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"passed": self.passed}


def bounds(program: Program, outputs: dict[str, Array], noise: dict[str, float]) -> dict[str, float]:
    """Bound on the relative error of each method: by its dtype, and by the float32 sums and the loops behind it."""
    result = {}
    for method, answer in outputs.items():
        usual = FLOAT32_BOUND if rounds_to_float32(program, method) else bound(answer.dtype)
        usual = max(usual, LOOP_BOUND) if iterates(program, method) else usual
        result[method] = max(usual, min(NOISE_FACTOR * noise.get(method, 0.0), WIDEST_FACTOR * usual))
    return result


def overflowed(truth: Truth) -> Array:
    """Answered rows whose own score is NaN or infinite, bool: no label follows from such a score, so none is judged."""
    bad = np.zeros(len(truth.answered), dtype=bool)
    for method, answer in truth.outputs.items() if bad.size else ():
        if answer.dtype.kind == "f" and method in ("predict", "predict_proba", "decision_function"):
            bad |= ~np.isfinite(answer).reshape(len(bad), -1).all(axis=1)
    return bad


def cancelled(truth: Truth) -> Array:
    """Answered rows with NaN or infinity: of an overflow a Fourier transform makes both, here and there."""
    answer = truth.outputs.get("transform")
    if answer is None or answer.dtype.kind != "f":
        return np.zeros(len(truth.answered), dtype=bool)
    return np.asarray(~np.isfinite(answer).reshape(len(answer), -1).all(axis=1))


def judge(
    model: Model,
    sample: Sample,
    truth: Truth,
    limit: dict[str, float],
    name: str,
    continuous: tuple[Any, Program] | None = None,
    measure: Measure = FLOAT64,
    *,
    exact: bool = True,
) -> Finding:
    """Compare one model with the truth on one set of rows.

    ``continuous`` is the pipeline and its program when that is continuous: then cells whose digits scikit-learn itself
    does not determine are counted, not judged (conditioning.py). ``measure`` says what the model's engine computes in.
    Without ``exact``, for quantised models, only refusals, shapes and dtypes are judged; how far answers are off is
    told.
    """
    problems: list[str] = []
    overflow = overflowed(truth)
    if continuous is not None:
        overflow |= unsettled(*continuous, Sample(sample.take(truth.answered), sample.schema))
    ops = {node.op for node in continuous[1].nodes} if continuous is not None else set()
    searched = continuous is not None and searches(continuous[1]) and measure.precision == "float64"
    if name == SAMPLE:
        ops &= {"Convolve"}
    if "Convolve" in ops:
        overflow |= cancelled(truth)
    methods: dict[str, dict[str, Any]] = {}
    good = truth.answered
    within = np.ones(len(good), dtype=bool)
    for method, expected in truth.outputs.items() if good.size else ():
        tried = np.flatnonzero(within)
        try:
            actual, answered = _ask(model, method, sample, good[tried], measure)
        except InputError as error:
            problems.append(f"{method} refuses rows that scikit-learn answers: {error.cause}")
            continue
        except EngineError as error:
            problems.append(f"{method} fails: {error.cause}")
            continue
        within[tried[~answered]] = False
        if actual is None:
            continue
        if actual.shape != (within.sum(), *expected.shape[1:]) or actual.dtype != expected.dtype:
            got, want = (f"{a.dtype}{list(a.shape)}" for a in (actual, expected))
            problems.append(f"{method} returns {got}, scikit-learn {want}")
            continue
        kept = within & ~overflow
        actual = actual[~overflow[within]]
        expected = expected[kept]
        if continuous is not None and expected.dtype.kind == "f" and iterates(continuous[1], method):
            actual = _within_a_row(expected, actual)
        tied = None
        if method == "predict":
            scores = {m: answer[kept] for m, answer in truth.outputs.items()}
            tied = ties(scores, actual, getattr(model, "classes_", None), measure)
        difference = compare(expected, actual, method, measure, tied)
        if difference.flips and exact and searched and continuous is not None and expected.dtype.kind != "f":
            judged = Sample(sample.take(good[kept]), sample.schema)
            tied = relabelled(continuous[1], judged, method, expected, actual)
            difference = compare(expected, actual, method, measure, tied)
        largest, allowed = difference.max_rel, measure.limit(expected.dtype, limit[method])
        methods[method] = _figures(difference, allowed)
        single, floats = measure.precision == "float32", expected.dtype.kind == "f"
        if largest > allowed and continuous is not None and floats and not (single and name == SAMPLE):
            judged, program = Sample(sample.take(good[kept]), sample.schema), continuous[1] if single else None
            noisy, largest = ill_conditioned(
                continuous[0],
                judged,
                method,
                expected,
                actual,
                allowed,
                measure,
                program,
                ops=ops,
                # A process without noise knows its own rows: the root of a difference that is nothing but rounding.
                chaotic=method == STD or (name != SAMPLE and iterates(continuous[1], method)),
            )
            # Of the sample itself deviations, whose sums are scikit-learn's own, and answers by nearest points: which
            # of two at equal distance counts is decided by rounding, whatever that moves. Elsewhere a program that
            # cancels where scikit-learn does not is an error of the converter's, and it has to repeat the answer.
            if largest > allowed and not single:
                strict = name == SAMPLE and not (method == STD or searched)
                noisy, largest = reordered(
                    continuous[1], judged, method, expected, actual, allowed, measure, repeated=strict
                )
            methods[method]["ill_conditioned_rows"] = noisy
        if not exact:
            continue
        if difference.flips:
            problems.append(f"{method}: {difference.flips} of {difference.rows} rows have another answer")
        elif largest > allowed:
            problems.append(f"{method}: relative error {largest:.3g} is over {allowed:.3g}")
    outside = int((~within).sum())
    if name == SAMPLE and outside > MOST_OUT_OF_RANGE * len(good):
        problems.append(f"{outside} of {len(good)} rows are beyond the range of {measure.precision}")
    for row in np.flatnonzero(truth.refused):
        does = _instead_of_refusing(model, truth.outputs, sample.take([row]))
        if does:
            reason = truth.reason.splitlines()[0]
            problems.append(f"row {row} of the {name} {does}, scikit-learn refuses it ({reason})")
    refused = int(truth.refused.sum())
    return Finding(model.engine, name, len(sample), refused, int(overflow.sum()), methods, problems, outside)


def _within_a_row(expected: Array, actual: Array) -> Array:
    """The answers, with cells that are off by nothing beside their row's largest as expected: an iteration that ends by
    the norm of a row knows no more of them."""
    if expected.ndim == 1:
        return actual
    with np.errstate(all="ignore"):
        near = np.abs(actual - expected) <= PART_OF_ROW * np.abs(expected).max(axis=1, keepdims=True)
    return np.where(near & np.isfinite(actual), expected, actual)


def _ask(model: Model, method: str, sample: Sample, rows: Array, measure: Measure) -> tuple[Array | None, Array]:
    """Answers about the rows within the engine's range, None for no row, and which these are, bool (rows,)."""
    found, within = run_in_range(
        lambda at: {method: side_by_side(getattr(model, method)(sample.take(rows[at])))}, len(rows), measure.precision
    )
    return found.get(method), within


def _instead_of_refusing(model: Model, methods: Iterable[str], row: Any) -> str:
    """What the model does with a row that a method of scikit-learn refuses; '' when one of its own refuses too."""
    for method in methods:
        try:
            getattr(model, method)(row)
        except InputError:
            return ""
        except EngineError as error:
            return f"fails ({error.cause})"
    return "is answered"


def _figures(difference: Difference, limit: float) -> dict[str, Any]:
    # JSON has no infinity: of an excused row an engine may overflow where scikit-learn does not.
    figures = {k: min(v, sys.float_info.max) for k, v in asdict(difference).items() if k != "rows"}
    return figures | {"bound": limit}
