"""``verify``: does a bundle give scikit-learn's answers on this machine?

The golden rows in the bundle are run through the chosen engine and compared with the answers stored beside
them; rows that scikit-learn refuses must be refused. With the live pipeline and rows at hand, those are
compared too. Called by applications, the command line and an agent after an update.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib import metadata
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml._version import __version__
from edgeml.compare import Difference, Measure, compare, overflowed, side_by_side, ties, usual_sizes
from edgeml.errors import InputError, ManifestError, VerificationError
from edgeml.golden import Golden, read_golden
from edgeml.runtimes.base import Model
from edgeml.runtimes.engines import precision
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.in_range import run_in_range
from edgeml.runtimes.load import open_model
from edgeml.runtimes.verify_budget import quantised_budget, within_budget

Array = npt.NDArray[Any]
_PACKAGES = ("numba", "llvmlite", "onnxruntime", "ai-edge-litert", "tflite-runtime", "scikit-learn")


@dataclass(frozen=True)
class Comparison:
    """One set of rows against scikit-learn: how far off each method is, its bound, and what went wrong.

    ``refused`` counts rows scikit-learn refuses; ``refused_equal`` says that the model refuses just the same.
    ``unjudged`` counts rows whose score overflows in scikit-learn itself: what label they get is chance.
    ``out_of_range`` counts rows that an engine in float32 refuses by name, since its numbers end there.
    """

    rows: int
    refused: int
    methods: dict[str, Difference]
    bounds: dict[str, float]
    refused_equal: bool
    problems: list[str]
    unjudged: int = 0
    out_of_range: int = 0

    @property
    def passed(self) -> bool:
        return not self.problems


@dataclass(frozen=True)
class Verification:
    """What ``verify`` found. ``live`` is the comparison with the pipeline, None when none was given."""

    path: str
    engine: str
    golden: Comparison
    live: Comparison | None
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return self.golden.passed and (self.live is None or self.live.passed)

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; an error that is infinite is the string "inf"."""
        data = asdict(self) | {"passed": self.passed}
        for part in (data["golden"], data["live"]):
            for figures in part["methods"].values() if part else ():
                figures.update({k: "inf" for k, v in figures.items() if v == np.inf})
        return data


def verify(
    path: str | os.PathLike[str],
    pipeline: Any = None,
    X: Any = None,
    *,
    engine: str = "auto",
    verify_with: Any = None,
) -> Verification:
    """Replay the golden rows of the bundle at ``path``; with a live ``pipeline``, compare on raw rows ``X``.

    Labels must be equal, and numbers within the bound of the parity report (1e-9 relative, 1e-5 where
    scikit-learn answers in float32, more only where scikit-learn itself is that far from its own answer). The engine
    "tflite" computes in float32: 1e-5, by the measure of edgeml.compare, labels of scores that tie and rows beyond the
    range of float32 counted apart. Golden rows of a quantised bundle hold its own answers; a live pipeline is compared
    with them inside the budget it was compiled with.

    Raises VerificationError with the figures when they are not; InputError for a pipeline without rows, rows
    without a pipeline, or rows that the pipeline refuses; and whatever ``load`` raises.
    """
    if (pipeline is None) != (X is None):
        raise InputError(
            "verify takes a pipeline and rows for it, or neither",
            "call verify(path) or verify(path, pipeline, X)",
        )
    with open_model(path, engine=engine, verify_with=verify_with) as model:
        bounds, rows = _bounds(model), read_golden(model._bundle)
        # A single live row may have a score near zero: what is usual is seen in the golden rows.
        measure = Measure(precision(model.engine), usual_sizes(rows.outputs))
        golden = _check_golden(model, rows, bounds, measure)
        budget = quantised_budget(model)
        live = None if pipeline is None else _check_live(model, pipeline, X, bounds, measure, budget)
        result = Verification(model.path, model.engine, golden, live, _versions())
    if not result.passed:
        problems = [f"golden rows: {p}" for p in golden.problems]
        problems += [f"pipeline: {p}" for p in live.problems] if live else []
        versions = ", ".join(f"{k} {v}" for k, v in result.versions.items())
        raise VerificationError(
            f"{path}: the {result.engine} engine does not give scikit-learn's answers here:\n  "
            + "\n  ".join(problems),
            f"do not use the model on this machine ({versions}); report it with these figures",
        )
    return result


def _report(model: Model) -> Mapping[str, Any]:
    report = model._bundle.json("report.json") if "report.json" in model._bundle else {}
    return report if isinstance(report, Mapping) else {}


def _bounds(model: Model) -> dict[str, float]:
    """Bounds of the parity report; scikit-learn may be ill-conditioned by more than the usual one."""
    bounds = _report(model).get("bounds", {})
    if not isinstance(bounds, Mapping) or any(
        isinstance(b, bool) or not isinstance(b, (int, float)) for b in bounds.values()
    ):
        raise ManifestError("report.json: bounds must be an object of numbers")
    return {str(method): float(b) for method, b in bounds.items()}


def _check_golden(model: Model, golden: Golden, bounds: Mapping[str, float], measure: Measure) -> Comparison:
    absent = sorted(set(model.manifest["methods"]) - set(golden.outputs))
    if absent or not golden.outputs:
        raise ManifestError(f"golden.json has no answers of {', '.join(absent) or 'any method'}")
    wanted = {c.name for c in model.schema.columns if c.used} if model.schema.form == "columns" else {"X"}
    if wanted - set(golden.columns):
        raise ManifestError(f"golden.json lacks the column {min(wanted - set(golden.columns))!r}")
    methods = tuple(golden.outputs)
    found = _judge(model, golden.take(~golden.refused), golden.outputs, bounds, measure)
    problems = list(found.problems)
    refused_equal = True
    for row in np.flatnonzero(golden.refused):
        try:
            model._engine.run(golden.take(np.array([row])), 1, methods)
        except InputError:
            continue
        refused_equal = False
        problems.append(f"row {row} is answered, which scikit-learn refuses")
    return replace(
        found,
        rows=golden.rows,
        refused=int(golden.refused.sum()),
        refused_equal=refused_equal,
        problems=problems,
    )


def _check_live(
    model: Model,
    pipeline: Any,
    X: Any,
    bounds: Mapping[str, float],
    measure: Measure,
    budget: Mapping[str, float | None] | None,
) -> Comparison:
    methods = tuple(model.manifest["methods"])
    lacking = [m for m in methods if not hasattr(pipeline, m)]
    if lacking:
        raise InputError(
            f"the pipeline has no {lacking[0]}, which the bundle has: it is another pipeline",
            "pass the pipeline the bundle was compiled from",
        )
    columns, _ = read_rows(X, model.schema)
    expected: dict[str, Array] = {}
    # Where an estimator's answer is one about the whole batch, the truth about a row is what it says of it alone.
    parts = _single_rows(X) if _report(model).get("asked_row_by_row") is True else [X]
    for method in methods:
        try:
            answers = [getattr(pipeline, method)(part) for part in parts]
        except Exception as error:  # scikit-learn, or a step of the caller's own, refuses rows as it likes
            raise InputError(
                f"the pipeline's own {method} refuses the rows: {type(error).__name__}: {error}",
                "pass rows it can answer",
            ) from error
        dense = [side_by_side(a.toarray() if hasattr(a, "toarray") else a) for a in answers]
        expected[method] = np.concatenate(dense)
    return _judge(model, columns, expected, bounds, measure, budget)


def _single_rows(X: Any) -> list[Any]:
    """Copies of the rows one by one, as batches of one; X itself where there is no row."""
    count = X.shape[0] if hasattr(X, "shape") else len(X)
    places = ([i] for i in range(count))
    if hasattr(X, "iloc"):
        return [X.iloc[place] for place in places] or [X]
    return [X[place] if hasattr(X, "shape") else [X[place[0]]] for place in places] or [X]


def _judge(
    model: Model,
    columns: Mapping[str, Array],
    outputs: Mapping[str, Array],
    bounds: Mapping[str, float],
    measure: Measure,
    budget: Mapping[str, float | None] | None = None,
) -> Comparison:
    """The model on rows that scikit-learn answered with ``outputs``; by a budget where it is quantised and answers the
    pipeline itself, not its own golden rows.
    """
    rows = len(next(iter(outputs.values())))
    try:
        results, within = run_in_range(
            lambda at: model._engine.run({n: cells[at] for n, cells in columns.items()}, len(at), tuple(outputs)),
            rows,
            measure.precision,
        )
    except InputError as error:
        return Comparison(rows, 0, {}, {}, False, [f"a row that scikit-learn answers is refused: {error.cause}"])
    figures: dict[str, Difference] = {}
    limits: dict[str, float] = {}
    problems: list[str] = []
    overflow = overflowed(outputs, rows)
    kept = within & ~overflow
    expected = {method: answer[kept] for method, answer in outputs.items()}
    for method, got in results.items():
        want = expected[method]
        # The width of a fixed-width string array is that of its longest string, and no part of the answer.
        same_dtype = got.dtype == want.dtype or (got.dtype.kind == want.dtype.kind == "U")
        if got.shape[1:] != want.shape[1:] or not same_dtype:
            problems.append(
                f"{method} returns {got.dtype}{list(got.shape)}, scikit-learn {want.dtype}{list(outputs[method].shape)}"
            )
            continue
        limit = measure.limit(want.dtype, bounds.get(method, 0.0))
        got = got[~overflow[within]]
        tied = ties(expected, got, getattr(model, "classes_", None), measure) if method == "predict" else None
        difference = compare(want, got, method, measure, tied)
        figures[method], limits[method] = difference, limit
        if budget is not None:
            limits[method], broken = within_budget(budget, method, want, got, difference, model)
            problems += broken
            continue
        if difference.flips:
            problems.append(f"{method}: {difference.flips} of {difference.rows} rows have another answer")
        if not difference.max_rel <= limit:
            problems.append(
                f"{method}: relative error {difference.max_rel:.3g} is over {limit:.3g} "
                f"(absolute {difference.max_abs:.3g}, 99.9 % of the values within {difference.p999_rel:.3g})"
            )
    return Comparison(rows, 0, figures, limits, True, problems, int(overflow.sum()), int((~within).sum()))


def _versions() -> dict[str, str]:
    found = {"edgeml-sdk": __version__, "python": platform.python_version(), "numpy": np.__version__}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found | {"machine": f"{platform.system()} {platform.machine()}"}
