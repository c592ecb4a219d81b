"""``compile``: a fitted pipeline and a sample in, one verified bundle out.

The way of the data: sample -> schema; pipeline -> program (converters) -> passes -> artifacts (targets); artifacts run
against the pipeline (parity); then profile, golden rows, report and manifest go into the bundle. Nothing is written to
the output until everything has passed.
"""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgeml._version import __version__
from edgeml.bundle import Bundle, open_bundle, write_bundle
from edgeml.converters import to_program
from edgeml.errors import CompileError, FormatError, ParityError, SampleError
from edgeml.golden import write_golden
from edgeml.ir import Program
from edgeml.ir.program import Form
from edgeml.jsonutil import dumps
from edgeml.parity.awkward import awkward_rows, boundary_rows
from edgeml.parity.check import Finding, bounds, judge
from edgeml.parity.conditioning import is_continuous
from edgeml.parity.golden_rows import GoldenRows, golden_rows
from edgeml.parity.leaf_check import check_leaves
from edgeml.parity.metrics import check_targets, metrics_against
from edgeml.parity.splits import without_undetermined
from edgeml.parity.truth import Truth, ask, methods_of, noise
from edgeml.passes import optimise
from edgeml.profile import build_profile
from edgeml.quantize import check_quantize, describe, program_for
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.load import load
from edgeml.sample import Sample, check_has_fit, numpy_dtypes, read_sample
from edgeml.schema import Schema
from edgeml.targets.base import TARGETS, About, target

Progress = Callable[[str, float], None]

PARITY_ROWS = 5000  # of the sample; scikit-learn's forests take 10-100 us a row, so this stays within a second
PROFILE_ROWS = 100_000
AWKWARD_ROWS = 192
BOUNDARY_ROWS = 256
NOISE_ROWS = 24
_SEED = 20  # fixed, so that equal inputs give equal bytes

_VERSIONS = (
    "edgeml-sdk", "scikit-learn", "numpy", "scipy", "pandas",
    "onnx", "onnxruntime", "onnx-ir", "skl2onnx", "numba", "llvmlite",
)  # fmt: skip


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
        quantize: "none", or "lossless": native trees over ranks, smaller, with the same answers to the bit.
        name: model name, by default the stem of ``output`` or the estimator's class name.
        version: model version, an integer from 1; higher is newer.
        sign_with: Ed25519 private key (path, PEM bytes or key object) that signs the manifest.
        progress: called with a stage's name and the fraction done.

    Raises:
        CompileError: the pipeline, the sample or an option cannot be honoured; no file is written.
        ParityError: an artifact and the pipeline disagree; no file is written.
    """
    _check_options(quantize, target, budget)
    wanted = _formats(formats)
    path = Path(output) if output is not None else Path(f"{name or type(pipeline).__name__.lower()}.edgeml")
    about_name, about_version = name or path.stem, _version(version)
    say = progress or (lambda stage, fraction: None)
    if not path.parent.is_dir():
        raise CompileError(f"the folder {path.parent} does not exist", "create it, or write elsewhere")

    say("reading the sample", 0.0)
    check_has_fit(pipeline)
    sample = read_sample(pipeline, X)
    targets = None if y is None else check_targets(y, sample, pipeline)
    methods = methods_of(pipeline)
    if not methods:
        raise CompileError(
            f"{type(pipeline).__name__} has no method for new rows (predict, transform, …)",
            "compile an estimator that can answer about rows it has not seen; a search can when fitted with refit=True",
        )
    rng = np.random.default_rng(_SEED)
    part = _part(sample, PARITY_ROWS, rng)

    say("converting", 0.05)
    started = time.perf_counter()
    returns, left_out = _returns(pipeline, part, methods)
    methods = tuple(returns)
    program = optimise(to_program(pipeline, sample.schema, returns, numpy_dtypes(sample)))
    schema = _mark_used(sample, program)
    sample, part = Sample(sample.rows, schema), Sample(part.rows, schema)
    about = About(about_name, about_version, schema)
    artifacts, missing = _lower(program, about, wanted, quantize)
    lowering_seconds = time.perf_counter() - started

    say("asking scikit-learn", 0.2)
    columns, _ = read_rows(part.rows, schema)
    answers = ask(pipeline, part, methods)
    truths = {"sample": (part, answers)}
    awkward = awkward_rows(part, most=AWKWARD_ROWS, seed=_SEED)
    truths["awkward rows"] = (awkward, ask(pipeline, awkward, methods, like=answers))
    boundary = boundary_rows(program, part, columns, most=BOUNDARY_ROWS, seed=_SEED)
    if boundary is not None:
        truths["rows at split boundaries"] = (boundary, ask(pipeline, boundary, methods, like=answers))
    undetermined = {}
    for rows, (asked, truth) in truths.items():
        asked, truth, undetermined[rows] = without_undetermined(program, asked, truth)
        truths[rows] = (asked, truth)
    judged, truth = truths["sample"]
    few = Sample(judged.take(truth.answered[:NOISE_ROWS]), schema)
    own_noise = {m: noise(pipeline, few, m) if len(few) else 0.0 for m in methods}
    limit = bounds(program, answers.outputs, own_noise)

    manifest = _manifest(pipeline, about, returns, artifacts, missing, quantize, target)
    members: dict[str, bytes] = {n: data for parts in artifacts.values() for n, data in parts.items()}
    members["schema.json"] = dumps(schema.to_json())
    profile_columns, _ = read_rows(_part(sample, PROFILE_ROWS, rng).rows, schema)
    profile = build_profile(profile_columns, schema, answers.outputs)
    members["profile.json"] = dumps(profile)
    manifest["profile_sha256"] = profile["sha256"]
    golden = golden_rows(*truths["sample"], *truths["awkward rows"])
    members |= _golden_members(golden)

    say("checking parity", 0.4)
    with tempfile.TemporaryDirectory(prefix="edgeml-") as folder:
        trial = Path(folder) / "trial.edgeml"
        write_bundle(trial, manifest, members | {"report.json": dumps({})})
        findings = _parity(trial, artifacts, truths, limit, pipeline if is_continuous(program) else None, say)
        metrics = {} if targets is None else metrics_against(targets, trial, artifacts, pipeline, sample, PARITY_ROWS)
        leaves = check_leaves(pipeline, program, manifest, about, truths, folder, quantize)
        # Steps without a converter of our own: which ones is half of the message when they disagree.
        stand_ins = sorted({n.origin or type(pipeline).__name__ for n in program.nodes if n.op == "OnnxGraph"})
        _raise_on(stand_ins, findings, leaves, own_noise, limit)
        with ExitStack() as stack:
            models = [stack.enter_context(load(trial, engine=engine)) for engine in artifacts]
            members |= _golden_members(golden.settled(models, limit))
    report = {
        "edgeml": __version__,
        "findings": [f.to_json() for f in findings],
        "leaves": leaves,
        "undetermined_rows": undetermined,
        "noise": own_noise,
        "bounds": limit,
        "methods_left_out": left_out,
        "metrics": metrics,
        "quantize": describe(program, about, artifacts, quantize),
        "sample_rows": len(sample),
        "lowered_ops": len(program.nodes),
    }

    say("writing", 0.95)
    # The report holds no timing: equal inputs give equal bytes.
    members["report.json"] = dumps(report)
    write_bundle(path, manifest, members, sign_with=sign_with)
    say(f"done (lowering took {lowering_seconds:.2f} s)", 1.0)
    return open_bundle(path)


def _check_options(quantize: str, target_name: str, budget: Any) -> None:
    check_quantize(quantize)
    if target_name != "generic":
        raise CompileError(
            f"target={target_name!r} is not available in edgeml-sdk {__version__}", 'use target="generic"'
        )
    if budget is not None:
        raise CompileError(
            f"a budget needs quantisation, which edgeml-sdk {__version__} does not have yet",
            "leave budget out",
        )


def _formats(formats: str | Sequence[str]) -> list[str] | None:
    """The formats asked for by name, or None for auto."""
    if formats == "auto":
        return None
    names = [formats] if isinstance(formats, str) else list(formats)
    unknown = [n for n in names if n not in TARGETS]
    if unknown or not names:
        raise FormatError(
            f"unknown format {', '.join(map(repr, unknown)) or '(none given)'}",
            f'use "auto", or some of: {", ".join(TARGETS)}',
        )
    return names


def _version(version: int | None) -> int:
    if version is None:
        return 1
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CompileError(f"version={version!r} is not an integer from 1 on", "count model versions 1, 2, 3, …")
    return version


def _part(sample: Sample, most: int, rng: np.random.Generator) -> Sample:
    """At most ``most`` rows of the sample, drawn without replacement, in their order."""
    if len(sample) <= most:
        return sample
    return Sample(sample.take(np.sort(rng.choice(len(sample), most, replace=False))), sample.schema)


def _returns(
    pipeline: Any, sample: Sample, methods: Sequence[str]
) -> tuple[dict[str, tuple[Form, str]], dict[str, str]]:
    """Form and dtype of what each method returns, from scikit-learn's own answers; and the methods left out, why.

    A method that scikit-learn itself fails at for every row (PCA.score_samples of a singular covariance) is left out.
    Raises SampleError when no method answers.
    """
    head = Sample(sample.take(np.arange(min(len(sample), 200))), sample.schema)
    result: dict[str, tuple[Form, str]] = {}
    left_out: dict[str, str] = {}
    failure: SampleError | None = None
    for method in methods:
        try:
            answer = ask(pipeline, head, [method]).outputs[method]
        except SampleError as error:
            failure = failure or error
            left_out[method] = error.cause
            continue
        if answer.ndim not in (1, 2):
            raise SampleError(f"{method} returns an array of {answer.ndim} dimensions", "this cannot be compiled")
        dtype = answer.dtype
        if dtype.kind == "U":
            # The width NumPy gives a batch's labels follows classes_, not the rows at hand.
            dtype = getattr(getattr(pipeline, "classes_", answer), "dtype", dtype)
        result[method] = ("vector" if answer.ndim == 1 else "matrix", "O" if dtype.kind == "O" else dtype.str)
    if not result:
        assert failure is not None
        raise failure
    return result, left_out


def _mark_used(sample: Sample, program: Program) -> Schema:
    """The schema with ``used`` set from the optimised program; refuses columns that no program can read."""
    read = {i.name for i in program.inputs}
    if sample.schema.form == "matrix":
        return sample.schema
    columns = []
    for column in sample.schema.columns:
        used = column.name in read
        if used and column.kind == "any":
            dtype = numpy_dtypes(sample)[column.name]
            raise SampleError(
                f"the pipeline reads column {column.name!r}, whose values ({dtype}) cannot be compiled",
                "turn it into numbers or strings before the pipeline, or leave it out of the pipeline's columns",
            )
        columns.append(replace(column, used=used))
    return Schema("columns", tuple(columns))


def _lower(
    program: Program, about: About, wanted: Sequence[str] | None, quantize: str
) -> tuple[dict[str, Mapping[str, bytes]], dict[str, str]]:
    """Artifacts by format, and for those that cannot be made the reason. Raises FormatError as DESIGN.md says."""
    artifacts: dict[str, Mapping[str, bytes]] = {}
    missing: dict[str, str] = {}
    for name in wanted or TARGETS:
        try:
            artifacts[name] = target(name).lower(program_for(name, program, quantize), about)
        except FormatError as error:
            if wanted is not None:
                raise
            missing[name] = error.cause
    if not artifacts:
        raise FormatError("; ".join(f"{n}: {r}" for n, r in missing.items()), "no format can express this pipeline")
    for name in TARGETS:
        if name not in artifacts and name not in missing:
            missing[name] = "not asked for"
    return artifacts, missing


def _manifest(
    pipeline: Any,
    about: About,
    returns: Mapping[str, tuple[Form, str]],
    artifacts: Mapping[str, Mapping[str, bytes]],
    missing: Mapping[str, str],
    quantize: str,
    target_name: str,
) -> dict[str, Any]:
    classes = getattr(pipeline, "classes_", None) if "predict" in returns else None
    return {
        "format_version": 1,
        "name": about.name,
        "version": about.version,
        "estimator": _describe(pipeline),
        "methods": {m: {"form": form, "dtype": dtype} for m, (form, dtype) in returns.items()},
        "classes": None if classes is None else np.asarray(classes).tolist(),
        "artifacts": {
            n: {"members": sorted(parts), "bytes": sum(map(len, parts.values()))} for n, parts in artifacts.items()
        },
        "missing": dict(missing),
        "quantize": quantize,
        "target": target_name,
        "versions": _versions(),
    }


def _describe(pipeline: Any) -> str:
    steps = getattr(pipeline, "steps", None)
    if steps is None:
        return type(pipeline).__name__
    return f"{type(pipeline).__name__}({', '.join(type(s).__name__ for _, s in steps if not isinstance(s, str))})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _golden_members(golden: GoldenRows) -> dict[str, bytes]:
    index, blob = write_golden(golden.columns, golden.outputs, golden.refused)
    return {"golden.json": dumps(index), "golden.bin": blob}


def _parity(
    trial: Path,
    artifacts: Iterable[str],
    truths: Mapping[str, tuple[Sample, Truth]],
    limit: dict[str, float],
    continuous: Any,
    say: Progress,
) -> list[Finding]:
    findings: list[Finding] = []
    for engine in artifacts:
        say(f"checking parity of {engine}", 0.4)
        with load(trial, engine=engine) as model:
            for rows_name, (rows, truth) in truths.items():
                findings.append(judge(model, rows, truth, limit, rows_name, continuous))
    return findings


def _raise_on(
    stand_ins: Sequence[str],
    findings: Sequence[Finding],
    leaves: Mapping[str, Any],
    own_noise: Mapping[str, float],
    limit: Mapping[str, float],
) -> None:
    problems = [f"{f.engine} engine, {f.rows}: {p}" for f in findings for p in f.problems]
    problems += list(leaves.get("problems", []))
    if problems:
        shown = "\n  ".join(problems[:8])
        more = f"\n  and {len(problems) - 8} more" if len(problems) > 8 else ""
        for method, error in own_noise.items():
            if error > limit[method]:
                more += (
                    f"\n  scikit-learn's own {method} of a batch and of its rows one by one differ by {error:.3g}: "
                    "the pipeline magnifies rounding, as scaling a column that is nothing but noise does"
                )
        if stand_ins:
            raise ParityError(
                f"the compiled pipeline and scikit-learn disagree:\n  {shown}{more}\n"
                f"EdgeML has no converter for {', '.join(stand_ins)}: it was converted by skl2onnx",
                "no file was written; replace the step by a supported estimator (README, supported estimators)",
            )
        raise ParityError(
            f"the compiled pipeline and scikit-learn disagree:\n  {shown}{more}",
            "no file was written; report the pipeline, or compile only the engine that agrees (formats=[…])",
        )
