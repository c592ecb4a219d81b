"""Quantisation inside a budget: candidates of the search become artifacts, and the first that is good enough stays.

The search (edgeml/quantize) walks from the smallest program to the most exact, on the calibration rows. A candidate
whose bounds keep the budget there is lowered to every format and judged on the other rows by the artifacts themselves
(budget_judge.py); when it fails, the walk goes on. Where the rows are too few for bounds, candidates that keep the
budget as measured come last, the most exact first. When none is left: BudgetError, with the best that was reached.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edgeml.compiler.budget_judge import Judged, far, judge_budget
from edgeml.compiler.calibration import Halves, split_sample
from edgeml.compiler.draft import make_draft
from edgeml.compiler.lowering import Lowered, lower, sources
from edgeml.compiler.options import Options
from edgeml.compiler.source import Converted, Source
from edgeml.compiler.truths import Truths
from edgeml.errors import BudgetError, BudgetValueError, QuantizeError
from edgeml.ir import interpreter
from edgeml.parity.golden_rows import GoldenRows
from edgeml.quantize.budget import Budget
from edgeml.quantize.judge import judge
from edgeml.quantize.search import Candidate, Search
from edgeml.targets.base import Programs

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Quantised:
    """The artifacts that stay, as judged, and the report's part."""

    judged: Judged
    report: dict[str, Any]


@dataclass
class _Walk:
    """What was tried, for the report and for the error."""

    tried: list[dict[str, Any]] = field(default_factory=list)
    best: tuple[float, str] | None = None

    def note(self, candidate: Candidate, why: str, excess: float, size: int | None = None) -> None:
        entry: dict[str, Any] = {"forms": candidate.forms, "kept": not why, "why": why}
        self.tried.append(entry if size is None else entry | {"bytes": size})
        reached = f"{candidate.forms}: {why}"
        if why and (self.best is None or excess < self.best[0]):
            self.best = excess, reached


def quantise(
    source: Source, converted: Converted, truths: Truths, golden: GoldenRows, options: Options, say: Progress
) -> Quantised:
    """The smallest quantised form that keeps the budget, as artifacts.

    Raises QuantizeError for a pipeline that nobody can calibrate, SampleError for too few rows or targets that do not
    fit, BudgetValueError for a budget of which nothing can be judged, BudgetError when no form keeps the budget, and
    ParityError when an artifact refuses other rows than scikit-learn does.
    """
    budget = options.budget
    stand_ins = sorted({n.origin or "pipeline" for n in converted.programs.plain.nodes if n.op == "OnnxGraph"})
    if stand_ins:
        raise QuantizeError(
            f"quantize={options.quantize!r} cannot be used: step {', '.join(stand_ins)} was converted by skl2onnx, and "
            "only onnxruntime knows what that computes",
            "use quantize='none', or a supported estimator in its place (README, supported estimators)",
        )
    say("calibrating", 0.3)
    halves = split_sample(source, converted, options.quantize, budget)
    search = Search(
        converted.programs.plain,
        halves.calibration.columns,
        halves.calibration.truth,
        budget,
        options.quantize,
        near=halves.calibration.near,
        int8_activations=options.device.int8,
        per_channel_dynamic=options.device.per_channel_dynamic,
    )
    _check_judgeable(search, halves, budget)
    made_from = sources(converted.programs, options.made, "none")
    plain = lower(made_from, converted.about, truths.columns, strict=False, some=False)
    walk = _Walk()
    fallback: tuple[Candidate, Judged] | None = None
    for number, candidate in enumerate(_promising(search, walk)):
        say(f"judging {candidate.forms}", min(0.9, 0.5 + 0.1 * number))
        own = answered_by(candidate, golden)
        programs = Programs(candidate.program, candidate.program)
        lowered = lower(
            sources(programs, options.made, options.quantize),
            converted.about,
            truths.columns,
            strict=options.formats is not None,
            absent=options.why_not_made,
        )
        draft = make_draft(source, converted, truths, own, lowered, options)
        judged = judge_budget(draft, own, programs, halves.judged, truths, budget, options, source, converted)
        if judged.kept:
            walk.note(candidate, "", 0.0, judged.largest)
            return _quantised(candidate, judged, plain, walk, halves, budget, options)
        if judged.costly and candidate.bytes > (budget.max_bytes or np.inf):  # later ones have no smaller weights
            raise BudgetError(
                f"the smallest {options.quantize} form that keeps the answers ({candidate.forms}) is over the budget: "
                f"{judged.why}",
                "no file was written; raise that limit, or allow larger errors, for which smaller forms exist",
            )
        walk.note(candidate, judged.why, judged.excess, Judged(draft).largest)
        if fallback is None and judged.without_failing is not None:
            fallback = candidate, judged.without_failing
    if fallback is not None:
        walk.note(fallback[0], "", 0.0, fallback[1].largest)
        return _quantised(*fallback, plain, walk, halves, budget, options)
    raise _no_form(walk, budget, halves, options)


def _check_judgeable(search: Search, halves: Halves, budget: Budget) -> None:
    """Raise BudgetValueError when something would be rounded, and no limit of answers that is set can be judged."""
    truth = halves.judged.truth
    own = judge(truth, truth.outputs, budget, intervals=False)
    rounds = any(form is not None for site in search.sites for form in site.forms)
    if rounds and budget.limits_answers() and not own.limits:
        raise BudgetValueError(
            "nothing of what the budget allows can be judged: "
            + "; ".join(f"{name}: {why}" for name, why in own.unjudged.items()),
            "set max_abs_error, label_flips of a pipeline that predicts labels, or pass y",
        )


def _promising(search: Search, walk: _Walk) -> Iterator[Candidate]:
    """Candidates worth lowering: those that surely keep the budget from small to exact, then those that just do."""
    measured: list[Candidate] = []
    for candidate in search.path():
        verdict = candidate.verdict
        if not verdict.kept:
            walk.note(candidate, f"{', '.join(verdict.broken())} on the calibration rows", verdict.excess)
        elif verdict.sure:
            yield candidate
        else:
            measured.append(candidate)
    yield from reversed(measured)


def answered_by(candidate: Candidate, golden: GoldenRows) -> GoldenRows:
    """Golden rows whose answers are the quantised program's: a device must repeat those, to the grid's last step."""
    keep = ~far(golden.columns, len(golden.refused))
    columns = {name: cells[keep] for name, cells in golden.columns.items()}
    refused = golden.refused[keep]
    answered = {name: cells[~refused] for name, cells in columns.items()}
    outputs = interpreter.run(candidate.program, answered) if not refused.all() else golden.outputs
    return GoldenRows(columns, outputs, refused)


def _quantised(
    candidate: Candidate,
    judged: Judged,
    plain: Lowered,
    walk: _Walk,
    halves: Halves,
    budget: Budget,
    options: Options,
) -> Quantised:
    formats = {}
    for name, found in judged.formats.items():
        before = {member: len(data) for member, data in plain.artifacts.get(name, {}).items()}
        after = {
            member: len(judged.draft.members[member]) for member in judged.draft.manifest["artifacts"][name]["members"]
        }
        both = sorted(before.keys() | after.keys())
        members = {m: {"float": before.get(m, 0), "quantized": after.get(m, 0)} for m in both}
        formats[name] = found | {"members": members}
    report = {
        "mode": options.quantize,
        "target": options.device.name,
        "confidence": budget.confidence,
        "rows": {"calibration": len(halves.calibration.sample), "judged": len(halves.judged.sample)},
        "budget": budget.to_json(),
        "ops": candidate.ops,
        "tried": walk.tried,
        "formats": formats,
    }
    return Quantised(judged, report)


def _no_form(walk: _Walk, budget: Budget, halves: Halves, options: Options) -> BudgetError:
    reached = "nothing" if walk.best is None else walk.best[1]
    rows = len(halves.judged.sample)
    mode = options.quantize
    ways = ["raise the limit that is broken"]
    if mode != "auto":
        ways.append("use quantize='auto', which leaves in float what has to be")
    if budget.label_flips and rows * budget.label_flips < 1:
        ways.append(f"pass more rows: among {rows} judged rows a single flip is {100 / rows:.2g} %")
    return BudgetError(
        f"no {mode} form keeps the budget; the best that was reached is {reached}",
        f"no file was written; {', or '.join(ways)}",
    )
