"""The judge of quantised artifacts: the budget on rows nothing was calibrated on, and what quantisation must not touch.

In comes a draft whose artifacts were made from a quantised program; out goes a ``Judged``. Labels and numbers may
differ from scikit-learn's as far as the budget allows. Which rows are refused, shapes and dtypes, and the leaves that
rows reach must not differ at all: a disagreement there is a ParityError, or takes a float32 artifact out under "auto".
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.compare import Measure, usual_sizes
from edgeml.compiler.calibration import Part
from edgeml.compiler.draft import Draft
from edgeml.compiler.options import Options
from edgeml.compiler.source import Converted, Source
from edgeml.compiler.truths import Truths
from edgeml.errors import BudgetError, EngineError, InputError, OutOfRangeError, ParityError
from edgeml.ir import Program
from edgeml.ir.table import Array
from edgeml.parity.check import SAMPLE, Finding, judge
from edgeml.parity.golden_rows import GoldenRows
from edgeml.parity.leaf_check import check_leaves
from edgeml.parity.truth import Truth as RowsTruth
from edgeml.quantize.budget import Budget
from edgeml.quantize.judge import Limit, plot_data
from edgeml.quantize.judge import judge as judge_answers
from edgeml.quantize.noise import perturbed
from edgeml.runtimes.base import Model
from edgeml.runtimes.engines import precision
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.in_range import run_in_range
from edgeml.runtimes.load import open_model
from edgeml.sample import Sample
from edgeml.targets.base import Programs

_LATENCY_ROWS, _LATENCY_CALLS = 32, 400
_COSTS = ("max_bytes", "max_latency_us")
_TRIALS = 8
# Codes are added up before they are scaled, in float32 in most runtimes: far beyond the calibrated range a sum
# overflows that scikit-learn's does not. The awkward rows go up to 1e308.
FAR = 1e15


@dataclass
class Judged:
    """``formats``: the report's part by artifact. ``why`` and ``excess`` tell of the limit broken worst.

    ``costly``: nothing but size or time is over, which more exact forms hardly mend. ``without_failing``: the same
    without the artifacts that failed, where "auto" may leave them out.
    """

    draft: Draft
    formats: dict[str, dict[str, Any]] = field(default_factory=dict)
    leaves: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    bounds: dict[str, float] = field(default_factory=dict)
    why: str = ""
    excess: float = 0.0
    costly: bool = False
    without_failing: Judged | None = None

    @property
    def kept(self) -> bool:
        return not self.why

    @property
    def largest(self) -> int:
        """Bytes of the largest artifact."""
        return max(int(artifact["bytes"]) for artifact in self.draft.manifest["artifacts"].values())


def judge_budget(
    draft: Draft,
    golden: GoldenRows,
    programs: Programs,
    rows: Part,
    truths: Truths,
    budget: Budget,
    options: Options,
    source: Source,
    converted: Converted,
) -> Judged:
    """Run every artifact of a draft on the judged rows. Raises ParityError and EngineError as the module says."""
    result = Judged(draft)
    failed: dict[str, str] = {}
    costly: set[str] = set()
    structural: dict[str, list[str]] = {}
    usual = usual_sizes(truths.sets[SAMPLE][1].outputs)
    with tempfile.TemporaryDirectory(prefix="edgeml-") as folder, ExitStack() as stack:
        trial = Path(folder) / "trial.edgeml"
        draft.write(trial, {})
        models: dict[str, Model] = {}
        for name in draft.manifest["artifacts"]:
            try:
                model = models[name] = stack.enter_context(open_model(trial, engine=name))
                answers = model._engine.run(rows.columns, rows.truth.rows, tuple(rows.truth.outputs))
                between = _between(model, rows)
            except (EngineError, OutOfRangeError) as error:
                if not _may_go(name, draft, options):
                    raise
                failed[name] = error.cause
                continue
            except InputError as error:
                structural[name] = [f"judged rows: {error.cause}"]
                continue
            verdict = judge_answers(rows.truth, answers, budget)
            if rows.near is not None and between is not None:
                verdict.limits += rows.near.limits(between, budget)
            verdict.limits += costs(draft, name, model, rows.sample, budget)
            result.formats[name] = verdict.to_json() | {"plot": plot_data(rows.truth, answers)}
            latency = next((limit.measured for limit in verdict.limits if limit.name == "max_latency_us"), None)
            if latency is not None:
                result.formats[name]["latency_us"] = latency
            if not verdict.kept:
                failed[name] = f"{name}: {', '.join(verdict.broken())} on {rows.truth.rows} judged rows"
                result.excess = max(result.excess, verdict.excess)
                if all(limit.kept for limit in verdict.limits if limit.name not in _COSTS):
                    costly.add(name)
            structural[name] = _structure(model, truths, result, Measure(precision(name), usual))
        leaves = check_leaves(
            source.pipeline, programs, draft.manifest, converted.about, truths.sets, folder, options.quantize
        )
        result.leaves = leaves
        for name, problem in leaves["problems"].items():
            structural.setdefault(name, []).append(problem)
        sound = [name for name in models if name not in failed and not structural.get(name)]
        measured = [(models[name], Measure(precision(name), usual)) for name in sound]
        golden, result.bounds = golden.repeated(measured, rounded_otherwise(programs.plain, golden))
        result.draft = draft.with_golden(golden)
    for name, problems in structural.items():
        if not problems:
            continue
        if name not in draft.manifest["artifacts"] or not _may_go(name, draft, options):
            raise ParityError(
                f"the quantised pipeline and scikit-learn disagree about more than rounding: {name}: {problems[0]}",
                "no file was written; report the pipeline, or leave out that format (formats=[…])",
            )
        failed[name] = f"{name}: {problems[0]}"
        costly.discard(name)
    if failed:
        result.why = "; ".join(failed.values())
        result.costly = set(failed) == costly
        result.without_failing = _without(result, failed, options)
        if result.costly and result.without_failing is not None:
            return result.without_failing
    return result


def _between(model: Model, rows: Part) -> Array | None:
    """Predictions for the rows between the judged ones; None where none were made.

    A row beyond the range of float32, which the engine refuses by name, counts as predicted right.
    """
    near = rows.near
    if near is None:
        return None

    def run(at: Array) -> Mapping[str, Array]:
        return model._engine.run({n: cells[at] for n, cells in near.columns.items()}, len(at), ("predict",))

    found, within = run_in_range(run, len(near.predictions), precision(model.engine))
    result = near.predictions.copy()
    if within.any():
        result[within] = found["predict"]
    return result


def rounded_otherwise(program: Program, golden: GoldenRows) -> list[dict[str, Array]]:
    """Answers of a quantised program to the answered golden rows, when grids round the other way here and there."""
    count = int((~golden.refused).sum())
    columns = {name: cells[:count] for name, cells in golden.columns.items()}
    return [perturbed(program, columns, seed) for seed in range(_TRIALS)] if count else []


def _may_go(name: str, draft: Draft, options: Options) -> bool:
    return options.formats is None and len(draft.manifest["artifacts"]) > 1


def _without(result: Judged, failed: Mapping[str, str], options: Options) -> Judged | None:
    """The same without the artifacts that failed; None when none would be left, or they were asked for by name."""
    if options.formats is not None or set(failed) >= set(result.draft.manifest["artifacts"]):
        return None
    draft = result.draft
    for name, reason in failed.items():
        draft = draft.without(name, f"it does not keep the budget: {reason}")
    formats = {name: found for name, found in result.formats.items() if name not in failed}
    return Judged(draft, formats, result.leaves, result.findings, result.bounds)


def costs(draft: Draft, name: str, model: Model, sample: Sample, budget: Budget) -> list[Limit]:
    """The limits of size and time, measured."""
    found = []
    if budget.max_bytes is not None:
        size = draft.manifest["artifacts"][name]["bytes"]
        found.append(Limit("max_bytes", float(size), float(budget.max_bytes), None, "all members together"))
    if budget.max_latency_us is not None:
        time_us = latency(model, sample)
        found.append(Limit("max_latency_us", time_us, budget.max_latency_us, None, "median of one row, this machine"))
    return found


def latency(model: Model, sample: Sample) -> float:
    """Median time of one row through the model's first method, microseconds."""
    method = next(iter(model.manifest["methods"]))
    one = getattr(model, f"{method}_one")
    few = sample.take(np.arange(min(_LATENCY_ROWS, len(sample))))
    cells = few.to_dict("records") if sample.is_frame else list(few)
    times = []
    for call in range(_LATENCY_CALLS + _LATENCY_ROWS):
        row = cells[call % len(cells)]
        started = time.perf_counter_ns()
        one(row)
        if call >= _LATENCY_ROWS:  # the first calls warm up
            times.append(time.perf_counter_ns() - started)
    return statistics.median(times) / 1e3


def _structure(model: Model, truths: Truths, result: Judged, measure: Measure) -> list[str]:
    """Refusals, shapes and dtypes on every set of rows; how far numbers are off there is told, not judged."""
    problems = []
    for name, (sample, truth) in truths.sets.items():
        sample, truth = _near(sample, truth)
        if not len(sample):
            continue
        try:
            finding = judge(model, sample, truth, truths.bounds, name, None, measure, exact=False)
        except InputError as error:
            problems.append(f"{name}: {error.cause}")
            continue
        result.findings.append(_told(finding))
        problems += [f"{name}: {problem}" for problem in finding.problems]
    return problems


def far(columns: Mapping[str, Array], rows: int) -> Array:
    """Rows with a finite number beyond what a quantised program is defined for, bool (rows,)."""
    found = np.zeros(rows, dtype=bool)
    for cells in columns.values():
        if cells.dtype.kind in "fi":
            size = np.abs(cells.reshape(rows, -1).astype(np.float64))
            found |= ((size > FAR) & np.isfinite(size)).any(axis=1)
    return found


def _near(sample: Sample, truth: RowsTruth) -> tuple[Sample, RowsTruth]:
    """The rows without those that are ``far``."""
    columns, rows = read_rows(sample.rows, sample.schema)
    keep = ~far(columns, rows)
    outputs = {method: answer[keep[truth.answered]] for method, answer in truth.outputs.items()}
    rest = replace(truth, outputs=outputs, refused=truth.refused[keep])
    return Sample(sample.take(np.flatnonzero(keep)), sample.schema), rest


def _told(finding: Finding) -> dict[str, Any]:
    """A finding for the report: no bound was applied, and a number that JSON has not is a string."""
    told = finding.to_json()
    for figures in told["methods"].values():
        figures.update({k: "inf" for k, v in figures.items() if v == np.inf}, bound=None)
    return told


def within_costs(draft: Draft, sample: Sample, budget: Budget, options: Options) -> Draft:
    """A draft that rounds nothing, without the artifacts that are too large or too slow, under "auto".

    Raises BudgetError for one that was asked for by name, and when none is left.
    """
    over: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="edgeml-") as folder:
        trial = Path(folder) / "trial.edgeml"
        draft.write(trial, {})
        for name in draft.manifest["artifacts"]:
            with open_model(trial, engine=name) as model:
                broken = [str(limit) for limit in costs(draft, name, model, sample, budget) if not limit.kept]
            if broken:
                over[name] = f"{name}: {', '.join(broken)}"
    if over and (options.formats is not None or set(over) == set(draft.manifest["artifacts"])):
        raise BudgetError(
            f"over the budget: {'; '.join(over.values())}",
            "no file was written; raise the limit, or quantise (quantize='auto' finds the smallest form)",
        )
    for name, reason in over.items():
        draft = draft.without(name, f"it does not keep the budget: {reason}")
    return draft


__all__ = ["Judged", "costs", "judge_budget", "latency", "within_costs"]
