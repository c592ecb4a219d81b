"""``edgeml verify``: does the bundle give scikit-learn's answers on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.errors import VerificationError


@click.command(short_help="Replay the golden rows on this machine.")
@options.bundle_argument
@click.option(
    "--pipeline",
    type=options.FILE,
    help="Compare with this pipeline too (.skops is safe; .joblib and .pkl run code). Needs --data.",
)
@click.option("--data", type=options.FILE, help="Raw rows for --pipeline: CSV, TSV, Parquet or JSON lines.")
@options.engine_option
@options.public_key_option
@options.drop_option
@options.dtype_option
@options.trust_option
@options.json_option
def command(
    bundle: Path,
    pipeline: Path | None,
    data: Path | None,
    engine: str,
    public_key: tuple[Path, ...],
    drop: tuple[str, ...],
    dtypes: tuple[str, ...],
    trust: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the golden rows of a BUNDLE and compare with scikit-learn's answers, which it carries.

    With --pipeline and --data, compare with the pipeline itself on those rows as well. The exit code is 1
    when an answer differs, or when the signature asked for with --public-key is missing or wrong.

    \b
    Examples:
      edgeml verify model.edgeml
      edgeml verify model.edgeml --pipeline model.skops --data test.csv --drop target
    """
    from edgeml.runtimes.verify import verify

    if (pipeline is None) != (data is None):
        raise click.UsageError("--pipeline and --data go together")
    estimator = rows = None
    with output.progress("verifying") as say:
        if pipeline is not None and data is not None:
            from edgeml.cli.data import parse_dtypes, read_frame
            from edgeml.cli.load_pipeline import load_pipeline

            estimator = load_pipeline(pipeline, trust)
            say("reading the data", 0.1)
            rows = as_fitted(estimator, read_frame(data, drop, parse_dtypes(dtypes)))
        say("comparing", 0.3)
        try:
            result = verify(bundle, estimator, rows, engine=engine, verify_with=list(public_key) or None)
        except VerificationError as error:
            if as_json:
                output.print_json({"passed": False, "path": str(bundle), "cause": error.cause, "remedy": error.remedy})
            raise
    if as_json:
        output.print_json(result.to_json())
    else:
        _show(result)


def as_fitted(estimator: Any, frame: Any) -> Any:
    """The frame, or its array where the pipeline was fitted without column names."""
    return frame if getattr(estimator, "feature_names_in_", None) is not None else frame.to_numpy()


def _show(result: Any) -> None:
    output.line(f"{result.path}: the {result.engine} engine gives scikit-learn's answers on this machine")
    for title, part in (("Golden rows", result.golden), ("Against the pipeline", result.live)):
        if part is None:
            continue
        rows = [
            (
                method,
                figures.rows,
                figures.flips,
                output.short(figures.max_rel),
                output.short(part.bounds[method]),
            )
            for method, figures in part.methods.items()
        ]
        output.table(title, ("method", "rows", "flips", "max rel", "bound"), rows)
        if part.refused:
            output.line(f"  {part.refused} rows that scikit-learn refuses are refused here too")
