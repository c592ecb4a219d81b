"""``edgeml verify``: does the bundle give scikit-learn's answers on this machine?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output, quantization
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
    """Run the golden rows of a BUNDLE and compare with the answers that it carries: scikit-learn's, or where it is
    quantised its own, as they were when it was compiled.

    With --pipeline and --data, compare with the pipeline itself on those rows as well, a quantised bundle inside its
    budget. The exit code is 1 when an answer differs by more, or when the signature asked for with --public-key is
    missing or wrong.

    \b
    Examples:
      edgeml verify model.edgeml
      edgeml verify model.edgeml --pipeline model.skops --data test.csv \\
        --drop target
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
        _show(result, _budget(bundle))


def as_fitted(estimator: Any, frame: Any) -> Any:
    """The frame, or its array where the pipeline was fitted without column names."""
    return frame if getattr(estimator, "feature_names_in_", None) is not None else frame.to_numpy()


def _budget(path: Path) -> Mapping[str, float | None] | None:
    """The budget of a quantised bundle, None where nothing was rounded. The bundle has been checked by ``verify``."""
    from edgeml.bundle import open_bundle

    with open_bundle(path) as bundle:
        report = bundle.json("report.json") if "report.json" in bundle else {}
        found: Mapping[str, float | None] | None = (report.get("quantization") or {}).get("budget")
        return found


def _show(result: Any, budget: Mapping[str, float | None] | None) -> None:
    gives = "scikit-learn's answers" if budget is None else "the answers it gave when it was compiled"
    if budget is not None and result.live is not None:
        gives += ", and stays inside its budget,"
    output.line(f"{result.path}: the {result.engine} engine gives {gives} on this machine")
    for title, part in (("Golden rows", result.golden), ("Against the pipeline", result.live)):
        if part is None:
            continue
        if budget is not None and part is result.live:
            _show_within_budget(part, budget)
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


def _show_within_budget(part: Any, budget: Mapping[str, float | None]) -> None:
    rows: list[tuple[output.Cell, ...]] = []
    for method, figures in part.methods.items():
        share = quantization.percent(figures.flips / figures.rows) if figures.rows else None
        rows.append((method, figures.rows, figures.flips, share, output.short(figures.max_abs)))
    output.table("Against the pipeline", ("method", "rows", "flips", "share", "max error"), rows)
    names = ("label_flips", "metric_drop", "max_abs_error")
    limits = [quantization.limit(name, value) for name in names if (value := budget.get(name)) is not None]
    if limits:
        output.paragraph(f"budget: {', '.join(limits)}")
