"""``edgeml predict``: answers for a data file of any length, read ahead, computed and written behind in batches."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import click

from edgeml.cli import options, output
from edgeml.errors import EmptyInputError, InputError

# From 16k to 256k rows take the same time within 10 %, 4k a fifth more; a batch of 20 columns is 10 MB.
BATCH_ROWS = 65_536
# Batches that wait at each end. More would only hide longer pauses of a disk.
_AHEAD = 2


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
@click.option(
    "--threads",
    type=click.IntRange(1),
    help="Threads that compute and decode. Default: the cores this process may use.",
)
@click.option(
    "--batch-rows",
    type=click.IntRange(1),
    default=BATCH_ROWS,
    show_default=True,
    help="Rows in a batch at most. Fewer take less memory; a row's answer is the same.",
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
    threads: int | None,
    batch_rows: int,
    engine: str,
    public_key: tuple[Path, ...],
    drop: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the BUNDLE on every row of DATA: CSV, TSV, Parquet or JSON lines.

    DATA may be longer than memory. It may be packed (.csv.gz), a folder of Parquet files with the same
    columns, or - for CSV from stdin. The model's own schema says what the cells of a CSV file mean; an empty
    cell is missing. The output appears under its name only when it is complete. With --json and no -o, the
    answers are JSON lines on stdout.

    \b
    Examples:
      edgeml predict model.edgeml new.csv
      edgeml predict model.edgeml new.parquet --method predict_proba \\
        --keep id -o answers.parquet
    """
    from edgeml.cli import results
    from edgeml.cli.batches import Reader
    from edgeml.cli.progress import meter
    from edgeml.cli.source import file_format
    from edgeml.runtimes.load import load

    if target_path is not None:
        file_format(target_path)
        if target_path.resolve() in (bundle.resolve(), data.resolve()):
            raise InputError(f"--output {target_path} is an input file", "write to another file")
    count = threads or _cores()
    with (
        _ends_on_sigterm(),
        load(bundle, engine=engine, threads=count, verify_with=list(public_key) or None) as model,
        # Answers on a terminal are to be read, not to be drawn over.
        meter(quiet=target_path is None and sys.stdout.isatty()) as rows,
    ):
        chosen = _method(model, method)
        reader = Reader(data, model.schema, keep, drop, batch_rows, count)
        if target_path is None:
            with _stdout() as stdout:
                out = results.JsonLinesWriter(stdout) if as_json else results.CsvWriter(stdout)
                _run(model, chosen, reader, out, "stdout", rows)
            return
        with results.new_file(target_path) as file:
            _run(model, chosen, reader, results.writer(target_path, file), target_path, rows)
        facts = {"rows": rows.rows, "seconds": rows.seconds, "rows_per_s": rows.rows_per_second}
    if as_json:
        output.print_json(
            {"path": str(target_path), **facts, "method": chosen, "engine": model.engine, "threads": count}
        )
    else:
        output.note(
            f"{target_path}: {chosen} of {facts['rows']} rows by the {model.engine} engine in "
            f"{output.seconds(facts['seconds'])}, {facts['rows_per_s']:,.0f} rows/s"
        )


def _method(model: Any, method: str | None) -> str:
    methods = list(model.manifest["methods"])
    if method is None:
        return "predict" if "predict" in methods else methods[0]
    if method not in methods:
        raise InputError(f"the model has no method {method!r}", f"use one of: {', '.join(methods)}")
    return method


def _cores() -> int:
    """The cores this process may use: a container or taskset may give it fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _run(model: Any, method: str, reader: Any, out: Any, target: Path | str, rows: Any) -> None:
    """Predict batch by batch, and finish ``out`` if that went well."""
    from edgeml.cli.results import names_file

    try:
        _answer(model, method, reader, out, target, rows)
        with names_file(target):
            out.close()
    except BaseException:
        out.discard()
        raise


def _answer(model: Any, method: str, reader: Any, out: Any, target: Path | str, rows: Any) -> None:
    """Predict batch by batch, while a thread reads the next ones and another writes the last ones."""
    from edgeml.cli.overlap import Ahead, Behind
    from edgeml.cli.results import names_file, result_columns

    answer = getattr(model, method)
    classes = model.classes_ if model.manifest["classes"] is not None else None

    def write(columns: Any) -> None:
        with names_file(target):
            out.write(columns)

    with Behind(write, _AHEAD) as behind, Ahead(iter(reader), _AHEAD) as batches:
        for batch in batches:
            try:
                result = answer(batch.inputs)
            except InputError as error:
                raise at_row(error, batch.where, batch.first) from None
            answers = result_columns(method, result, classes)
            for name in batch.kept:
                if name in answers:
                    raise InputError(
                        f"the column to keep {name!r} has the name of an answer", "rename it in the data file"
                    )
            behind.put(batch.kept | answers)
            rows.advance(batch.rows, batch.done)
        if not rows.rows:
            raise EmptyInputError(f"{reader.path} has no rows", "give a file with at least one row")


# A number of a row, outside of what quotes show of the data: repr's quotes, not an apostrophe.
_ROW = re.compile(r"""(?<!\w)'(?:\\.|[^'\\])*'|(?<!\w)"(?:\\.|[^"\\])*"|\brow (?P<number>\d+)""", re.DOTALL)


def at_row(error: InputError, where: str, first: int) -> InputError:
    """The engine's error about a row of a batch, as one about a row of the file, which counts from 1."""

    def in_file(found: re.Match[str]) -> str:
        number = found["number"]
        return found[0] if number is None else f"{where} row {first + int(number)}"

    return type(error)(_ROW.sub(in_file, error.cause), error.remedy)


@contextmanager
def _stdout() -> Iterator[BinaryIO]:
    """Stdout as a binary file. Who reads it may have had enough, as head does: then this ends well.

    It has a buffer of its own: Python flushes that of ``sys.stdout`` at exit and dies when a thread is still writing
    to it, as after Ctrl-C in front of a pipe that nobody reads.
    """
    try:
        file: BinaryIO = os.fdopen(sys.stdout.fileno(), "wb", closefd=False)
    except (OSError, ValueError):  # no file, as where a program has replaced sys.stdout
        file = sys.stdout.buffer
    try:
        yield file
        file.flush()
    except BrokenPipeError:
        _silence_stdout()
    except OSError:
        _silence_stdout()
        raise


def _silence_stdout() -> None:
    """Nothing is left to flush at exit, which would fail again."""
    with ExitStack() as stack:
        null = os.open(os.devnull, os.O_WRONLY)
        stack.callback(os.close, null)
        os.dup2(null, sys.stdout.fileno())


@contextmanager
def _ends_on_sigterm() -> Iterator[None]:
    """A polite kill ends as Ctrl-C does, so that no unfinished file stays aside."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: Any) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
