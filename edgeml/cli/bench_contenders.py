"""Who takes part in a benchmark: the engines of a bundle and, where its pipeline is given, scikit-learn.

In come a bundle's path and the names of engines; out go ``Contender``s, open and ready, each with its answers compared
before anything is timed: a fast wrong answer is no benchmark. Called by bench.py.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.cli.bench_rows import Rows, first_row, one_by_one
from edgeml.compare import Measure, compare, side_by_side, ties, usual_sizes
from edgeml.errors import EdgeMLError, EngineNotInBundleError, InputError, UnknownEngineError
from edgeml.runtimes.base import Model
from edgeml.runtimes.engines import ENGINES, precision
from edgeml.runtimes.verify_budget import quantised_budget, within_budget

Array = npt.NDArray[Any]

SKLEARN = "scikit-learn"
# The native engine without compiled kernels, as it runs where neither Numba nor a library of kernels is.
NUMPY = "numpy"
NAMES = (*ENGINES, NUMPY)
_KERNELS = "EDGEML_KERNELS"


@dataclass(frozen=True)
class Contender:
    """``batch(n)`` gives a call that answers n rows, ``single()`` one that answers row i. ``threads`` is None where a
    library decides for itself.
    """

    name: str
    threads: int | None
    batch: Callable[[int], Callable[[], Any]]
    single: Callable[[], Callable[[int], Any]]
    kernels: str | None = None
    model: Model | None = None


@dataclass(frozen=True)
class Reference:
    """The answers that all others are compared with, by method, to the rows of ``Rows``; ``name`` says whose. With
    ``alone`` they are those to each row alone, which the pipeline's own to a batch need not equal.
    """

    name: str
    outputs: Mapping[str, Array]
    limit: float
    budget: Mapping[str, float | None] | None = None
    alone: bool = False


def chosen(wanted: Sequence[str], manifest: Mapping[str, Any], path: Path) -> list[str]:
    """The engines to measure: those asked for, or all whose artifact the bundle has.

    Raises UnknownEngineError and EngineNotInBundleError.
    """
    artifacts = manifest["artifacts"]
    if not wanted:
        found = [name for name, entry in ENGINES.items() if entry.artifact in artifacts]
        if not found:
            raise EngineNotInBundleError(
                f"{path} has no artifact that this version of EdgeML can run; it has: {', '.join(artifacts) or 'none'}",
                "upgrade edgeml-sdk, or compile the pipeline again",
            )
        return found
    for name in wanted:
        if name not in NAMES:
            raise UnknownEngineError(f"there is no engine {name!r}", f"use one of: {', '.join(NAMES)}")
        artifact = artifact_of(name)
        if artifact not in artifacts:
            reason = manifest["missing"].get(artifact, "the bundle does not say why")
            raise EngineNotInBundleError(
                f"{path} has no {artifact} artifact for the engine {name!r}: {reason}",
                f"use one of: {', '.join(n for n in NAMES if artifact_of(n) in artifacts) or 'none that it has'}",
            )
    return list(dict.fromkeys(wanted))


def artifact_of(name: str) -> str:
    """The bundle's format that an engine runs."""
    return ENGINES["native" if name == NUMPY else name].artifact


def kernels_of(name: str) -> str | None:
    """EDGEML_KERNELS of a process for the engine ``name``, None for what it is here."""
    return NUMPY if name == NUMPY else None


@contextlib.contextmanager
def _environment(name: str) -> Iterator[None]:
    """EDGEML_KERNELS as the engine ``name`` is opened with."""
    before, wanted = os.environ.get(_KERNELS), kernels_of(name)
    try:
        if wanted is not None:
            os.environ[_KERNELS] = wanted
        yield
    finally:
        if before is not None:
            os.environ[_KERNELS] = before
        elif wanted is not None:
            os.environ.pop(_KERNELS, None)


def open_engine(path: Path, name: str, threads: int) -> Model:
    """The bundle on an engine, without telemetry. Raises as ``edgeml.load``."""
    from edgeml.runtimes.load import open_model

    with _environment(name):
        return open_model(path, engine="native" if name == NUMPY else name, threads=threads)


def engine(path: Path, name: str, threads: int, method: str, rows: Rows) -> Contender:
    """An engine as a contender. Raises as ``edgeml.load``."""
    model = open_engine(path, name, threads)
    answer = getattr(model, method)

    def batch(count: int) -> Callable[[], Any]:
        part = rows.batch(count)
        return lambda: answer(part)

    return Contender(name, threads, batch, lambda: one_by_one(model, method, rows.single()), _kernels(model), model)


def _kernels(model: Model) -> str | None:
    """Where an engine's compiled kernels are from: the cache, Numba, a library by its file's name, or NumPy."""
    engine: Any = model._engine
    # LiteRT's preprocessing runs on the native engine, whose own ``_front`` is that of text.
    inner = engine if hasattr(engine, "source") else getattr(engine, "_front", None)
    source = getattr(inner, "source", None)
    return None if source is None else os.path.basename(str(source))  # a path may name a person


def scikit_learn(estimator: Any, method: str, rows: Rows) -> Contender:
    """The pipeline as a contender."""
    frame, answer = _frame(estimator, rows), getattr(estimator, method)

    def take(at: Array) -> Any:
        return frame.iloc[at].reset_index(drop=True) if hasattr(frame, "iloc") else frame[at]

    def batch(count: int) -> Callable[[], Any]:
        part = take(rows.at(count))
        return lambda: answer(part)

    def single() -> Callable[[int], Any]:
        parts = [take(np.arange(i, i + 1)) for i in range(min(rows.count, 200))]
        return lambda i: first_row(answer(parts[i % len(parts)]))

    return Contender(SKLEARN, None, batch, single)


def _frame(estimator: Any, rows: Rows) -> Any:
    from edgeml.cli.verify import as_fitted

    raw = rows.frame()
    return as_fitted(estimator, raw) if hasattr(raw, "iloc") else raw


# --- their answers ------------------------------------------------------------------------------------------
def reference(
    first: Contender, estimator: Any, rows: Rows, methods: Sequence[str], bounds: Mapping[str, Any], method: str
) -> Reference:
    """Whose answers count: the pipeline's where it is given, those that the bundle holds to its golden rows, else those
    of ``first``, an engine. ``bounds`` are the parity report's.

    Raises InputError when the pipeline, or the first engine, refuses the rows.
    """
    bound, model = bounds.get(method), first.model
    assert model is not None
    limit = float(bound) if isinstance(bound, (int, float)) else 0.0
    if estimator is None and rows.outputs is not None:
        return Reference(rows.source, rows.outputs, limit)
    if estimator is None:
        part = rows.batch(rows.count)
        return Reference(first.name, {m: getattr(model, m)(part) for m in methods}, limit)
    from edgeml.converters.answering import answers_alone
    from edgeml.parity.truth import call, quiet

    frame = _frame(estimator, rows)
    outputs = {}
    for name in methods:
        if not hasattr(estimator, name):
            continue
        try:
            with quiet():
                outputs[name] = call(estimator, name, frame)
        except Exception as error:  # scikit-learn, or a step of the caller's own, refuses rows as it likes
            raise InputError(
                f"the pipeline's own {name} refuses the rows: {type(error).__name__}: {error}",
                "give rows that it can answer with --data, or leave out --pipeline",
            ) from error
    return Reference(SKLEARN, outputs, limit, quantised_budget(model), answers_alone(estimator))


def agreement(contender: Contender, against: Reference, rows: Rows, method: str, largest: int) -> dict[str, Any]:
    """The record's ``agreement``: a contender's answers to a batch of ``largest`` rows and, one by one, to the first
    hundred, against the reference's.
    """
    expected = against.outputs[method]
    at = rows.at(largest)
    singles = np.arange(min(rows.count, 100))
    found: dict[str, Any] = {
        "against": against.name,
        "rows": len(at) + len(singles),
        "labels_different": 0,
        "max_abs": 0.0,
        "max_rel": 0.0,
        "allowed": 0.0,
        "problems": [],
        "refused": False,
    }
    call = contender.single()
    to_compare = (
        ("a batch", at, lambda: contender.batch(largest)()),
        ("single rows", singles, lambda: stacked([call(int(i)) for i in singles], expected)),
    )
    for what, positions, answer in to_compare[1:] if against.alone and contender.name == SKLEARN else to_compare:
        try:
            actual = answer()
        except EdgeMLError as error:
            found["problems"].append(f"{what}: {refusal(error)}")
            found["refused"] = True
            continue
        _judge(found, what, contender, against, positions, _dense(actual), method)
    found["agrees"] = not found["problems"]
    return found


def _judge(
    found: dict[str, Any], what: str, contender: Contender, against: Reference, at: Array, actual: Array, method: str
) -> None:
    """Add what differs to ``found``."""
    expected, problems = against.outputs[method][at], found["problems"]
    if actual.shape != expected.shape:
        problems.append(f"{what}: answers of shape {actual.shape}, {expected.shape} is due")
        return
    measure = Measure(_precision(contender.name), usual_sizes(against.outputs))
    tied = None
    if method == "predict":
        scores = {m: answer[at] for m, answer in against.outputs.items()}
        classes = None if contender.model is None else getattr(contender.model, "classes_", None)
        tied = ties(scores, actual, classes, measure)
    difference = compare(expected, actual, method, measure, tied)
    limit = measure.limit(expected.dtype, against.limit)
    broken = [f"{what}: {difference.flips} of {len(at)} rows have another answer"] if difference.flips else []
    if not difference.max_rel <= limit:
        broken.append(f"{what}: relative error {difference.max_rel:.3g} is over {limit:.3g}")
    if against.budget is not None and contender.model is not None:
        limit, broken = within_budget(against.budget, method, expected, actual, difference, contender.model)
        broken = [f"{what}: {line}" for line in broken]
    problems += broken
    found["labels_different"] += difference.flips
    for name, value in (("max_abs", difference.max_abs), ("max_rel", difference.max_rel), ("allowed", limit)):
        found[name] = max(found[name], value)


def _precision(name: str) -> Any:
    return precision(name) if name in ENGINES else "float64"


def _dense(answer: Any) -> Array:
    """An answer as one array: scikit-learn may transform to a sparse matrix, or give a list of arrays."""
    return side_by_side(answer.toarray() if hasattr(answer, "toarray") else answer)


def stacked(answers: Sequence[Any], like: Array) -> Array:
    """Answers to single rows as one array, (rows,) or (rows, k); labels keep their own type."""
    if like.dtype.kind != "O":
        return np.asarray([_dense(answer).reshape(like.shape[1:]) for answer in answers])
    result = np.empty((len(answers), *like.shape[1:]), dtype=object)
    for at, answer in enumerate(answers):
        result[at] = answer
    return result


def refusal(error: EdgeMLError) -> str:
    """An error as a line of a report."""
    return ": ".join(part for part in (error.cause, error.remedy) if part)
