"""``compile``: a fitted pipeline and a sample in, one verified bundle out.

The way of the data, a module a stage: options -> source (sample to schema, pipeline to programs) -> truths (what
scikit-learn answers) -> lowering (artifacts) -> draft (the bundle) -> judging (artifacts run against scikit-learn).
Nothing is written to the output until everything has passed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeml._version import __version__
from edgeml.bundle import Bundle, open_bundle
from edgeml.compiler.draft import make_draft
from edgeml.compiler.judging import Progress, judge_parity
from edgeml.compiler.lowering import lower, sources
from edgeml.compiler.options import check_options
from edgeml.compiler.source import convert, read_source
from edgeml.compiler.truths import AWKWARD, ask_scikit_learn
from edgeml.parity.check import SAMPLE
from edgeml.parity.golden_rows import golden_rows
from edgeml.quantize import describe


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
        quantize: "none", or "lossless": native trees over ranks, smaller, with the same answers to the bit.
        name: model name, by default the stem of ``output`` or the estimator's class name.
        version: model version, an integer from 1; higher is newer.
        sign_with: Ed25519 private key (path, PEM bytes or key object) that signs the manifest.
        progress: called with a stage's name and the fraction done.

    Raises:
        CompileError: the pipeline, the sample or an option cannot be honoured; no file is written.
        ParityError: an artifact and the pipeline disagree; no file is written.
    """
    options = check_options(pipeline, output, formats, quantize, target, budget, name, version)
    say = progress or (lambda stage, fraction: None)

    say("reading the sample", 0.0)
    source = read_source(pipeline, X, y)

    say("converting", 0.05)
    started = time.perf_counter()
    source, converted = convert(source, options.name, options.version)
    seconds = time.perf_counter() - started

    say("asking scikit-learn", 0.1)
    truths = ask_scikit_learn(source, converted)
    golden = golden_rows(*truths.sets[SAMPLE], *truths.sets[AWKWARD])

    say("lowering", 0.3)
    started = time.perf_counter()
    made_from = sources(converted.programs, options.formats, options.quantize)
    lowered = lower(made_from, converted.about, truths.columns, strict=options.formats is not None)
    seconds += time.perf_counter() - started
    draft = make_draft(source, converted, truths, golden, lowered, options)

    say("checking parity", 0.4)
    verdict = judge_parity(draft, golden, source, converted, truths, options, say)

    say("writing", 0.95)
    # The report holds no timing: equal inputs give equal bytes.
    report = verdict.report | {
        "edgeml": __version__,
        "undetermined_rows": truths.undetermined,
        "noise": truths.noise,
        "bounds": truths.bounds,
        "methods_left_out": converted.left_out,
        "quantize": describe(converted.programs.folded, converted.about, lowered.artifacts, options.quantize),
        "sample_rows": len(source.sample),
        "lowered_ops": len(converted.programs.folded.nodes),
    }
    verdict.draft.write(options.output, report, sign_with)
    say(f"done (lowering took {seconds:.2f} s)", 1.0)
    return open_bundle(options.output)


__all__ = ["Progress", "compile"]
