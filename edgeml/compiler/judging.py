"""The strict judge: every artifact against scikit-learn, its answers, leaves and golden rows, before a file is written.

In comes a draft, out goes a ``Verdict`` with the draft as it may be written. An artifact that computes in float32 and
was not asked for by name is left out when it disagrees, with the reason; any other disagreement is a ParityError, but
for a start of boosted trees that scikit-learn itself does not determine: that parameter is refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeml.compare import Measure, usual_sizes
from edgeml.compiler.draft import Draft
from edgeml.compiler.options import Options
from edgeml.compiler.source import PARITY_ROWS, Converted, Source
from edgeml.compiler.truths import Truths
from edgeml.converters.answering import float32_starts
from edgeml.errors import EngineError, ParityError, UnsupportedParameterError
from edgeml.parity.check import SAMPLE, Finding, judge
from edgeml.parity.conditioning import is_continuous
from edgeml.parity.golden_rows import GoldenRows
from edgeml.parity.leaf_check import check_leaves
from edgeml.parity.metrics import metrics_against
from edgeml.parity.rounding import rounds_to_float32
from edgeml.runtimes.engines import precision
from edgeml.runtimes.load import open_model

Progress = Callable[[str, float], None]
_SHOWN = 8


@dataclass(frozen=True)
class Verdict:
    """``report`` is what the judge has to say for report.json."""

    draft: Draft
    report: dict[str, Any]


def judge_parity(
    draft: Draft,
    golden: GoldenRows,
    source: Source,
    converted: Converted,
    truths: Truths,
    options: Options,
    say: Progress,
) -> Verdict:
    """Run the artifacts of a draft. Raises ParityError when one that must agree does not."""
    usual = usual_sizes(truths.sets[SAMPLE][1].outputs)
    measures = {engine: Measure(precision(engine), usual) for engine in draft.manifest["artifacts"]}
    program = converted.programs.plain
    continuous = (source.pipeline, program) if is_continuous(program) else None
    with tempfile.TemporaryDirectory(prefix="edgeml-") as folder:
        trial = Path(folder) / "trial.edgeml"
        draft.write(trial, {})
        findings: list[Finding] = []
        problems: dict[str, list[str]] = {}
        for engine, measure in measures.items():
            say(f"checking parity of {engine}", 0.4)
            try:
                found = _findings(trial, engine, measure, truths, continuous)
            except EngineError as error:
                if not _may_be_left_out(engine, draft, options):
                    raise
                draft = draft.without(engine, error.cause)
                continue
            findings += found
            problems[engine] = [f"{f.rows}: {p}" for f in found for p in f.problems]
        draft = _leave_out(draft, problems, options)
        leaves = check_leaves(
            source.pipeline, converted.programs, draft.manifest, converted.about, truths.sets, folder, options.quantize
        )
        for who, problem in leaves["problems"].items():
            problems.setdefault(who, []).append(problem)
        draft = _leave_out(draft, problems, options)
        engines = list(draft.manifest["artifacts"])
        _raise_on({who: p for who, p in problems.items() if who in (*engines, "program")}, source, converted, truths)
        metrics = (
            {}
            if source.targets is None
            else metrics_against(source.targets, trial, engines, source.pipeline, source.sample, PARITY_ROWS)
        )
        with ExitStack() as stack:
            models = [(stack.enter_context(open_model(trial, engine=engine)), measures[engine]) for engine in engines]
            draft = draft.with_golden(golden.settled(models, truths.bounds))
    report = {
        "findings": [f.to_json() for f in findings if f.engine in engines],
        "leaves": leaves,
        "metrics": metrics,
        "disagreements": {engine: problems[engine][:_SHOWN] for engine in measures if problems.get(engine)},
    }
    return Verdict(draft, report)


def _findings(trial: Path, engine: str, measure: Measure, truths: Truths, continuous: Any) -> list[Finding]:
    with open_model(trial, engine=engine) as model:
        return [
            judge(model, rows, truth, truths.bounds, name, continuous, measure)
            for name, (rows, truth) in truths.sets.items()
        ]


def _may_be_left_out(engine: str, draft: Draft, options: Options) -> bool:
    """Whether the bundle does without an artifact: float32 cannot follow every pipeline, and there are others."""
    return options.formats is None and precision(engine) == "float32" and len(draft.manifest["artifacts"]) > 1


def _leave_out(draft: Draft, problems: Mapping[str, Sequence[str]], options: Options) -> Draft:
    for engine in list(draft.manifest["artifacts"]):
        if problems.get(engine) and _may_be_left_out(engine, draft, options):
            reason = f"in {precision(engine)} its answers are not scikit-learn's: {problems[engine][0]}"
            draft = draft.without(engine, reason)
    return draft


def _raise_on(problems: Mapping[str, Sequence[str]], source: Source, converted: Converted, truths: Truths) -> None:
    lines = [f"program: {p}" if who == "program" else f"{who} engine, {p}" for who, ps in problems.items() for p in ps]
    if not lines:
        return
    shown = "\n  ".join(lines[:_SHOWN])
    more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    for method, error in truths.noise.items():
        if error > truths.bounds[method]:
            more += (
                f"\n  scikit-learn's own {method} of a batch and of its rows one by one differ by {error:.3g}: "
                "the pipeline magnifies rounding, as scaling a column that is nothing but noise does"
            )
    # Steps without a converter of our own: which ones is half of the message when they disagree.
    nodes = converted.programs.folded.nodes
    stand_ins = sorted({n.origin or type(source.pipeline).__name__ for n in nodes if n.op == "OnnxGraph"})
    if stand_ins:
        raise ParityError(
            f"the compiled pipeline and scikit-learn disagree:\n  {shown}{more}\n"
            f"EdgeML has no converter for {', '.join(stand_ins)}: it was converted by skl2onnx",
            "no file was written; replace the step by a supported estimator (README, supported estimators)",
        )
    starts = float32_starts(source.pipeline)
    if starts and any(rounds_to_float32(converted.programs.plain, method) for method in truths.bounds):
        raise UnsupportedParameterError(
            f"{' and '.join(starts)} cannot be compiled: scikit-learn computes the start in float32, and its digits "
            f"hang on the order in which BLAS adds, or on NumPy's own float32 functions:\n  {shown}{more}",
            "fit it with init=None, init='zero' or an init made of trees, or put the models into a StackingClassifier "
            "or StackingRegressor, which leaves float64 rows as they are; no file was written",
        )
    raise ParityError(
        f"the compiled pipeline and scikit-learn disagree:\n  {shown}{more}",
        "no file was written; report the pipeline, or compile only the engine that agrees (formats=[…])",
    )
