"""``edgeml predict``: answers for a data file, read, computed and written in batches."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.errors import EmptyInputError, InputError

BATCH_ROWS = 10_000


@click.command(short_help="Answer for the rows of a data file.")
@options.bundle_argument
@click.argument("data", type=options.FILE)
@click.option(
    "-o",
    "--output",
    "target_path",
    type=options.FILE,
    help="File to write: CSV, TSV, Parquet or JSON lines. Default: CSV on stdout.",
)
@click.option("--method", help="What to compute, such as predict_proba. Default: predict, or the one method there is.")
@click.option(
    "--keep",
    multiple=True,
    metavar="COLUMN",
    help="A column of the data file to copy in front of the answers, such as an id. Repeatable.",
)
@options.engine_option
@options.public_key_option
@options.drop_option
@options.json_option
def command(
    bundle: Path,
    data: Path,
    target_path: Path | None,
    method: str | None,
    keep: tuple[str, ...],
    engine: str,
    public_key: tuple[Path, ...],
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the BUNDLE on every row of DATA: CSV, TSV, Parquet or JSON lines.

    The model's own schema says what the cells of a CSV file mean; an empty cell is missing. The output
    appears under its name only when it is complete. With --json and no -o, the answers are JSON lines on
    stdout.

    \b
    Examples:
      edgeml predict model.edgeml new.csv
      edgeml predict model.edgeml new.parquet --method predict_proba \\
        --keep id -o answers.parquet
    """
    from edgeml.cli import results
    from edgeml.cli.data import file_format
    from edgeml.runtimes.load import load

    if target_path is not None:
        file_format(target_path)
        if target_path.resolve() in (bundle.resolve(), data.resolve()):
            raise InputError(f"--output {target_path} is an input file", "write to another file")
    with (
        load(bundle, engine=engine, verify_with=list(public_key) or None) as model,
        output.progress("predicting") as say,
    ):
        chosen = _method(model, method)
        if target_path is None:
            stdout = sys.stdout.buffer
            out = results.JsonLinesWriter(stdout) if as_json else results.CsvWriter(stdout)
            try:
                _run(model, chosen, data, keep, drop, out, say)
                stdout.flush()
            except BrokenPipeError:
                # Whoever reads has had enough, as head does; nothing is left to flush at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return
        with results.new_file(target_path) as file:
            rows = _run(model, chosen, data, keep, drop, results.writer(target_path, file), say)
        if as_json:
            output.print_json({"path": str(target_path), "rows": rows, "method": chosen, "engine": model.engine})
        else:
            output.note(f"{target_path}: {chosen} of {rows} rows by the {model.engine} engine")


def _method(model: Any, method: str | None) -> str:
    methods = list(model.manifest["methods"])
    if method is None:
        return "predict" if "predict" in methods else methods[0]
    if method not in methods:
        raise InputError(f"the model has no method {method!r}", f"use one of: {', '.join(methods)}")
    return method


def _run(
    model: Any,
    method: str,
    data: Path,
    keep: tuple[str, ...],
    drop: tuple[str, ...],
    out: Any,
    say: output.Say,
) -> int:
    """Predict batch by batch; the number of rows."""
    from edgeml.cli.data import check_columns, for_model, read_batches
    from edgeml.cli.results import kept_column, result_columns

    answer = getattr(model, method)
    classes = model.classes_ if model.manifest["classes"] is not None else None
    rows = 0
    for batch in read_batches(data, BATCH_ROWS):
        check_columns(batch.columns, (*keep, *drop), data)
        # A column that is only kept may be one the model does not know.
        aside = (*drop, *(name for name in keep if name not in model.schema.names))
        result = answer(for_model(batch, model.schema, aside))
        out.write({name: kept_column(batch.columns[name]) for name in keep} | result_columns(method, result, classes))
        rows += batch.rows
        say(f"{rows} rows", batch.done)
    if not rows:
        raise EmptyInputError(f"{data} has no rows", "give a file with at least one row")
    out.close()
    return rows
