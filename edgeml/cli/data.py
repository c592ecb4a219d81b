"""Data files read whole as a sample, and the cells of text files: CSV, TSV and JSON lines.

A sample becomes a pandas frame, as a pipeline takes it. Text goes through Python's csv and json modules, which say
exactly what is wrong with a line; batches.py asks here for what its faster ways are not sure of. Used by compile,
verify, predict and bench.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from edgeml.cli.cells import CELL_KINDS, infer, parse
from edgeml.cli.columns import check_columns, make_plan
from edgeml.cli.source import PARQUET, SEPARATORS, input_format, open_bytes
from edgeml.errors import EmptyInputError, InputError, ShapeError
from edgeml.schema import Schema


@dataclass(frozen=True)
class Batch:
    """Some rows of a file: columns by name, in the file's order.

    ``first`` is the number of the first row, from 1 for the first below the header.
    """

    columns: dict[str, Any]
    where: str = "row"
    first: int = 1
    text: bool = False  # cells are the text of a CSV file


def read_frame(path: Path, drop: Sequence[str] = (), dtypes: Mapping[str, str] | None = None) -> Any:
    """The whole file as a pandas frame, without the columns of ``drop``.

    ``dtypes`` gives kinds for CSV columns that should not go by the looks of their cells. Raises InputError.
    """
    import pandas as pd

    suffix, wanted = input_format(path), dict(dtypes or {})
    if suffix in PARQUET:
        path.open("rb").close()  # for Python's own error where it cannot be read
        try:
            frame = pd.read_parquet(path)
        except (ValueError, OSError) as error:
            raise InputError(f"{path} cannot be read as Parquet: {error}", "check that it is complete") from None
        check_columns(frame.columns, [*drop, *wanted], path)
        return frame.drop(columns=list(drop))
    parts = list(read_batches(path, 1 << 62))
    if not parts:
        raise EmptyInputError(f"{path} has no rows", "give a file with a header and at least one row")
    part = parts[0]
    check_columns(part.columns, [*drop, *wanted], path)
    columns = {name: cells for name, cells in part.columns.items() if name not in drop}
    if part.text:
        columns = {
            name: parse(cells, wanted[name], name, where=part.where, first=part.first)
            if name in wanted
            else infer(cells)
            for name, cells in columns.items()
        }
    return pd.DataFrame(columns)


def read_batches(path: Path, rows: int) -> Iterator[Batch]:
    """The file in batches of at most ``rows`` rows, every column. Raises InputError naming the line that is wrong."""
    suffix, where = input_format(path), f"{path} row"
    if suffix in PARQUET:
        from pyarrow import parquet

        first = 1
        with path.open("rb") as raw, parquet_errors(path), parquet.ParquetFile(raw) as file:
            names = parquet_names(path, file.schema_arrow)
            for batch in file.iter_batches(batch_size=min(rows, 1 << 20)):
                yield Batch({name: batch.column(name) for name in names}, where, first)
                first += batch.num_rows
        return
    with open_bytes(path) as (stream, _), TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        separator = SEPARATORS.get(suffix)
        reader = json_lines(path, text, rows) if separator is None else csv_rows(path, text, rows, separator)
        with utf8_only(path):
            for columns, _, first in reader:
                yield Batch(columns, where, first, separator is not None)


def for_model(batch: Batch, schema: Schema, drop: Sequence[str] = ()) -> dict[Any, Any]:
    """Columns of a batch as a model of ``schema`` takes them.

    Raises MissingColumnError for a column of ``drop`` that is not there, ColumnTypeError for text that is not of its
    kind.
    """
    plan = make_plan(list(batch.columns), schema, drop=drop)
    return plan.of_cells(batch.columns, batch.where, batch.first, batch.text)


@contextmanager
def utf8_only(path: Path) -> Iterator[None]:
    """Turns the codec's error within the block into ours."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text: {error.reason} at byte {error.start} of a block",
            "save it as UTF-8",
        ) from None


def parse_dtypes(pairs: Sequence[str]) -> dict[str, str]:
    """``COLUMN=KIND`` options as a dict. Raises InputError."""
    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, kind = pair.rpartition("=")
        if not equals or not name or kind not in CELL_KINDS:
            raise InputError(f"--dtype {pair}: COLUMN=KIND is due", f"KIND is one of {', '.join(CELL_KINDS)}")
        result[name] = kind
    return result


def csv_rows(
    path: Path,
    text: Iterable[str],
    rows: int,
    separator: str,
    header: Sequence[str] = (),
    first: int = 1,
    lines: int = 0,
) -> Iterator[tuple[dict[str, Any], int, int]]:
    """Columns of at most ``rows`` cells, their number, and the number of the first row.

    ``text`` begins with the header, unless ``header`` is given; then ``first`` and ``lines`` say how many rows and
    lines were in front of it. Raises EmptyInputError, ShapeError or InputError.
    """
    reader = csv.reader(text, delimiter=separator, strict=True)
    try:
        if not header:
            header = next(reader, [])
            check_header(path, header)
        # A blank line is no row, unless one empty cell is all a row has.
        filled = (row or [""] for row in reader if row or len(header) == 1)
        while block := list(islice(filled, rows)):
            for at, row in enumerate(block):
                if len(row) != len(header):
                    raise ShapeError(
                        f"{path} row {first + at}: {len(row)} cells, the header names {len(header)} columns",
                        "quote cells that hold the separator",
                    )
            yield dict(zip(header, map(list, zip(*block, strict=True)), strict=True)), len(block), first
            first += len(block)
    except csv.Error as error:
        raise InputError(
            f"{path} line {lines + reader.line_num}: {error}", "check the quotes and the separator"
        ) from None


def check_header(path: Path, header: Sequence[str]) -> None:
    """Raise EmptyInputError or InputError unless the names are there and differ."""
    if not any(header):
        raise EmptyInputError(f"{path} is empty", "its first line must name the columns")
    if len(set(header)) < len(header):
        twice = next(name for at, name in enumerate(header) if name in header[:at])
        raise InputError(f"{path}: two columns are called {twice!r}", "rename or drop one of them")


def json_lines(path: Path, text: Iterable[str], rows: int) -> Iterator[tuple[dict[str, Any], int, int]]:
    """As ``csv_rows``, from a JSON object a line; a key that a row lacks is None there. Raises InputError."""
    lines = ((number, line) for number, line in enumerate(text, start=1) if line.strip())
    first = 1
    while True:
        records: list[dict[str, Any]] = []
        for number, line in lines:
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(
                    f"{path} line {number}: not JSON: {error}", "put one JSON object on each line"
                ) from None
            if not isinstance(record, dict):
                raise InputError(
                    f"{path} line {number}: a JSON {type(record).__name__}, not an object",
                    "put one object a line, keyed by column name",
                )
            records.append(record)
            if len(records) == rows:
                break
        if not records:
            return
        names = dict.fromkeys(name for record in records for name in record)
        yield {name: [record.get(name) for record in records] for name in names}, len(records), first
        first += len(records)


def parquet_names(path: Path, schema: Any) -> list[str]:
    """The columns of a Parquet file without a frame's index, which pandas stores as a column of a name of its own."""
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    names = [name for name in schema.names if name not in index]
    check_header(path, names)
    return names


@contextmanager
def parquet_errors(path: Path) -> Iterator[None]:
    """Turns what Arrow cannot read into an InputError."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}", "check that it is complete") from None
