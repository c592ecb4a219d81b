"""``compile``: a fitted pipeline and a sample in, one verified bundle out.

The way of the data, a module a stage: options -> source (sample to schema, pipeline to programs) -> truths (what
scikit-learn answers) -> lowering (artifacts) -> draft (the bundle) -> judging (artifacts run against scikit-learn).
Where quantisation rounds, quantising takes the place of the last three: it lowers and judges until a budget is kept.
Nothing is written to the output until everything has passed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeml._version import __version__
from edgeml.bundle import Bundle, open_bundle
from edgeml.compiler.budget_judge import within_costs
from edgeml.compiler.draft import Draft, make_draft
from edgeml.compiler.judging import Progress, judge_parity
from edgeml.compiler.lowering import lower, sources
from edgeml.compiler.options import Options, check_options
from edgeml.compiler.quantising import quantise
from edgeml.compiler.source import Converted, Source, convert, read_source
from edgeml.compiler.truths import AWKWARD, Truths, ask_scikit_learn
from edgeml.converters.answering import answers_alone
from edgeml.parity.check import SAMPLE
from edgeml.parity.golden_rows import GoldenRows, golden_rows
from edgeml.parity.precisions import remembered_precisions
from edgeml.quantize import describe
from edgeml.quantize.forms import ROUNDING


@remembered_precisions()
# NumPy's own settings: an application's seterr(all="raise") would make errors of what is meant, as of a number that
# float32 has not.
@np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")
def compile(
    pipeline: Any,
    X: Any,
    y: Any = None,
    *,
    output: str | Path | None = None,
    formats: str | Sequence[str] = "auto",
    quantize: str = "none",
    target: str = "generic",
    budget: Any = None,
    name: str | None = None,
    version: int | None = None,
    sign_with: Any = None,
    progress: Progress | None = None,
) -> Bundle:
    """Compile a fitted scikit-learn estimator into a bundle and return it, opened.

    Args:
        pipeline: fitted estimator, most often a Pipeline.
        X: sample of raw training rows (frame or array, rows x columns): it fixes the schema, makes the reference
            profile, and is what parity is measured on. Some hundreds of rows or more.
        y: targets of the sample, (rows,); adds accuracy or R2 of pipeline and artifacts to the report.
        output: file to write; ``<name>.edgeml`` in the current folder by default.
        formats: "auto" for every artifact the pipeline can be expressed in, or names such as ``["native", "onnx"]``.
            Under "auto" the manifest says why one is missing; a name that cannot be honoured is an error.
        quantize: "none"; "lossless": native trees over ranks, smaller, with the same answers to the bit; or, rounding
            inside the budget: "int8", "int16", "float16", "dynamic" (int8 weights, activations rounded row by row), or
            "auto", which takes the smallest form of each op that the budget allows. "int8" and "dynamic" give a layer
            int16 weights, or its activations float, where the budget asks for it; the report says where.
        target: device profile (`edgeml devices`), or the path of one's own TOML file: it says which formats "auto"
            makes, whether int8 activations are tried, and how large an artifact may be where the budget does not.
        budget: an ``edgeml.Budget``: what quantisation may cost. By default ``Budget()``. Without quantisation only its
            limits of size and time matter.
        name: model name, by default the stem of ``output`` or the estimator's class name.
        version: model version, an integer from 1; higher is newer.
        sign_with: Ed25519 private key (path, PEM bytes or key object) that signs the manifest.
        progress: called with a stage's name and the fraction done.

    Raises:
        CompileError: the pipeline, the sample or an option cannot be honoured; no file is written.
        ParityError: an artifact and the pipeline disagree; no file is written.
        BudgetError: nothing that was tried keeps the budget; no file is written.
    """
    options = check_options(pipeline, output, formats, quantize, target, budget, name, version)
    say = progress or (lambda stage, fraction: None)

    say("reading the sample", 0.0)
    source = read_source(pipeline, X, y)

    say("converting", 0.05)
    source, converted = convert(source, options.name, options.version)

    say("asking scikit-learn", 0.1)
    truths = ask_scikit_learn(source, converted)
    golden = golden_rows(*truths.sets[SAMPLE], *truths.sets[AWKWARD])

    make = _quantised if options.quantize in ROUNDING else _exact
    draft, report = make(source, converted, truths, golden, options, say)

    say("writing", 0.95)
    # The report holds no timing but what a budget asked for: equal inputs give equal bytes.
    report |= {
        "edgeml": __version__,
        "undetermined_rows": truths.undetermined,
        # JSON has no infinity: a zero in a batch that alone is something else.
        "noise": {method: min(error, sys.float_info.max) for method, error in truths.noise.items()},
        "methods_left_out": converted.left_out,
        "asked_row_by_row": answers_alone(source.pipeline),
        "sample_rows": len(source.sample),
        "lowered_ops": len(converted.programs.folded.nodes),
    }
    draft.write(options.output, report, sign_with)
    say("done", 1.0)
    return open_bundle(options.output)


def _exact(
    source: Source, converted: Converted, truths: Truths, golden: GoldenRows, options: Options, say: Progress
) -> tuple[Draft, dict[str, Any]]:
    """Artifacts with scikit-learn's answers, and what the report says of them."""
    say("lowering", 0.3)
    made_from = sources(converted.programs, options.made, options.quantize)
    strict = options.formats is not None
    lowered = lower(made_from, converted.about, truths.columns, strict=strict, absent=options.why_not_made)
    draft = make_draft(source, converted, truths, golden, lowered, options)
    say("checking parity", 0.4)
    verdict = judge_parity(draft, golden, source, converted, truths, options, say)
    draft = verdict.draft
    budget = options.budget
    if budget.max_bytes is not None or budget.max_latency_us is not None:
        say("measuring size and time", 0.9)
        draft = within_costs(draft, source.part, budget, options)
    quantization = describe(converted.programs.folded, converted.about, lowered.artifacts, options.quantize)
    return draft, verdict.report | {"bounds": truths.bounds, "quantization": quantization}


def _quantised(
    source: Source, converted: Converted, truths: Truths, golden: GoldenRows, options: Options, say: Progress
) -> tuple[Draft, dict[str, Any]]:
    """The smallest artifacts that keep the budget, and what the report says of them."""
    chosen = quantise(source, converted, truths, golden, options, say)
    return chosen.judged.draft, {
        "findings": chosen.judged.findings,
        "leaves": chosen.judged.leaves,
        "metrics": {},
        "bounds": chosen.judged.bounds,
        "quantization": chosen.report,
    }


__all__ = ["Progress", "compile"]
