"""``edgeml compile``: a pipeline file and a sample in, a bundle out, and a table of what was made and how
exact it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeml.cli import budget as budgets
from edgeml.cli import options, output
from edgeml.errors import InputError


def _formats(context: click.Context, option: click.Parameter, given: tuple[str, ...]) -> list[str]:
    """The formats asked for, commas between them or not; none for "auto"."""
    names = [name.strip() for part in given for name in part.split(",")]
    return [] if names == ["auto"] else names


@click.command(short_help="Compile a fitted pipeline into one file.")
@click.argument("pipeline", type=options.FILE)
@click.option(
    "--data",
    type=options.FILE,
    required=True,
    help="Sample of raw training rows: CSV, TSV, Parquet or JSON lines.",
)
@click.option(
    "-o",
    "--output",
    "target_path",
    type=options.FILE,
    required=True,
    help="Bundle to write, such as churn.edgeml.",
)
@click.option(
    "--target-column",
    metavar="COLUMN",
    help="The sample's target: left out of the input; adds scores to the report.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    metavar="FORMAT[,…]",
    callback=_formats,
    help="Artifacts to make: native, onnx, tflite. Repeatable. Default: all that the target runs and the pipeline "
    "can be expressed in; of these, one that does not keep the budget is left out.",
)
@click.option(
    "--quantize",
    default="none",
    show_default=True,
    help="none; lossless: smaller trees, the same answers to the bit; float16: weights and leaves in 16 bits; dynamic: "
    "int8 weights, activations rounded row by row; int8: int8 weights, and activations on grids found in the sample; "
    "int16: leaves and activations in 16 bits; auto: for every layer and ensemble the smallest of int8, int16 and "
    "float that keeps the budget.",
)
@click.option(
    "--target",
    default="generic",
    show_default=True,
    help="Device profile to compile for (`edgeml devices` lists them), or the path of your own, such as ./board.toml.",
)
@click.option(
    "--budget",
    "limits",
    multiple=True,
    metavar="LIMIT=VALUE[,…]",
    callback=budgets.callback,
    help="Limits that a quantised artifact keeps: label_flips (default 0.1%), metric_drop (0.002), max_abs_error, "
    "max_bytes (such as 13KB or 2MiB; default: the target's), max_latency_us; and the confidence of the bounds (95%). "
    "`off` lifts one. Repeatable.",
)
@click.option("--name", help="Model name. Default: the stem of the output file.")
@click.option("--model-version", type=click.IntRange(min=1), help="Model version, from 1; higher is newer.")
@click.option("--sign-with", type=options.FILE, help="Ed25519 private key that signs the bundle.")
@options.drop_option
@options.dtype_option
@options.trust_option
@options.json_option
def command(
    pipeline: Path,
    data: Path,
    target_path: Path,
    target_column: str | None,
    formats: list[str],
    quantize: str,
    target: str,
    limits: budgets.Limits | None,
    name: str | None,
    model_version: int | None,
    sign_with: Path | None,
    drop: tuple[str, ...],
    dtypes: tuple[str, ...],
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Compile the fitted PIPELINE into one file that gives the same answers.

    PIPELINE is a .skops file, which is safe to read, or a .joblib or .pkl file, which RUNS THE CODE IT HOLDS
    when it is read: give only files you made yourself.

    The compiled file is run against scikit-learn on the sample and on awkward rows before it is written. When
    the two disagree, nothing is written and the exit code is 1. So it is when no quantised artifact keeps the --budget,
    or one that --format asks for does not; the message says what could be reached.

    \b
    Examples:
      edgeml compile churn.skops --data train.csv --target-column churned \\
        -o churn.edgeml
      edgeml compile churn.skops --data train.csv --target-column churned \\
        -o churn.edgeml --quantize int8 --target cortex-a72 \\
        --budget label_flips=0.1%,max_bytes=13KB --budget max_latency_us=50
    """
    from edgeml.cli.data import parse_dtypes, read_frame
    from edgeml.cli.load_pipeline import load_pipeline
    from edgeml.compiler import compile as compile_pipeline
    from edgeml.quantize.budget import Budget

    if pipeline.resolve() == target_path.resolve() or data.resolve() == target_path.resolve():
        raise InputError(f"--output {target_path} is an input file", "write to another file")
    budget = None if limits is None else Budget(**limits)
    estimator = load_pipeline(pipeline, trust)
    with output.progress("compiling") as say:
        say("reading the data", 0.0)
        frame = read_frame(data, drop, parse_dtypes(dtypes))
        y = None
        if target_column is not None:
            if target_column not in frame.columns:
                raise InputError(f"{data} has no column {target_column!r}", "check --target-column")
            y = frame.pop(target_column).to_numpy()
        bundle = compile_pipeline(
            estimator,
            frame,
            y,
            output=target_path,
            formats=formats or "auto",
            quantize=quantize,
            target=target,
            budget=budget,
            name=name,
            version=model_version,
            sign_with=sign_with,
            progress=say,
        )
    _say_what_the_target_lacks(target, formats)
    with bundle:
        if as_json:
            output.print_json(summary(bundle))
        else:
            show(bundle)


def _say_what_the_target_lacks(target: str, formats: list[str]) -> None:
    """A format asked for by name is made, whatever the device runs; but whoever named both should know."""
    from edgeml.targets.devices import device

    profile = device(target)
    lacking = [name for name in formats if name not in profile.formats]
    if lacking:
        output.note(f"note: the target {profile.name} does not run {', '.join(lacking)}; made as --format asks for it")


_IN_SUMMARY = ("name", "version", "estimator", "methods", "classes", "quantize", "target", "artifacts", "missing")


def summary(bundle: Any) -> dict[str, Any]:
    """What was made, as JSON."""
    manifest = bundle.manifest
    return {
        "path": str(bundle.path),
        "bytes": Path(bundle.path).stat().st_size,
        **{key: manifest[key] for key in _IN_SUMMARY},
        "schema": bundle.schema.to_json(),
        "report": bundle.json("report.json"),
    }


def show(bundle: Any) -> None:
    """What was made, for people."""
    from edgeml.cli import describe

    manifest = bundle.manifest
    output.line(f"{bundle.path}  {output.size(Path(bundle.path).stat().st_size)}")
    output.line(f"{manifest['name']} version {manifest['version']}: {manifest['estimator']}")
    describe.schema(bundle.schema)
    describe.artifacts(manifest)
    describe.quantisation(bundle.json("report.json"))
    describe.parity(bundle.json("report.json"))
