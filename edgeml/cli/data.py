"""Data files: CSV, TSV, Parquet and JSON lines, read whole as a sample or in batches for a model.

A sample becomes a pandas frame, as a pipeline takes it. Batches are dicts of columns for ``Model`` and
need neither pandas nor the compiler; the model's schema says what the text of a CSV cell means. Used by
compile, verify, predict and bench.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import Any

from edgeml.cli.cells import CELL_KINDS, infer, parse
from edgeml.errors import EmptyInputError, InputError, MissingColumnError, ShapeError
from edgeml.schema import Schema

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".pq")
_JSON_LINES = (".jsonl", ".ndjson")
FORMATS = (*_SEPARATORS, *_PARQUET, *_JSON_LINES)


@dataclass(frozen=True)
class Batch:
    """Some rows of a file: columns by name, in the file's order. ``done`` is the fraction of the file read so
    far.

    ``first`` is the number of its first row, from 1 for the first below the header.
    """

    columns: dict[str, Any]
    rows: int
    done: float
    where: str = "row"
    first: int = 1
    text: bool = False  # cells are the text of a CSV file


def file_format(path: Path) -> str:
    """The suffix that says what a data file holds. Raises InputError for one that is not known."""
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise InputError(
            f"{path}: a data file ends in {', '.join(FORMATS)}, this one in {suffix or 'nothing'}",
            "convert or rename it",
        )
    return suffix


def read_frame(path: Path, drop: Sequence[str] = (), dtypes: Mapping[str, str] | None = None) -> Any:
    """The whole file as a pandas frame, without the columns of ``drop``.

    ``dtypes`` gives kinds for CSV columns that should not go by the looks of their cells. Raises InputError.
    """
    import pandas as pd

    suffix, wanted = file_format(path), dict(dtypes or {})
    if suffix in _PARQUET:
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
    """The file in batches of at most ``rows`` rows. Raises InputError naming the line that is wrong."""
    suffix = file_format(path)
    if suffix in _PARQUET:
        yield from _parquet(path, rows)
        return
    total = max(os.stat(path).st_size, 1)
    with path.open("rb") as raw, TextIOWrapper(raw, "utf-8-sig", newline="") as text:
        reader = _json_lines(path, text, rows) if suffix in _JSON_LINES else _csv(path, text, rows, _SEPARATORS[suffix])
        try:
            for columns, count, first in reader:
                yield Batch(
                    columns,
                    count,
                    min(raw.tell() / total, 1.0) if raw.seekable() else 0.0,
                    f"{path} row",
                    first,
                    suffix in _SEPARATORS,
                )
        except UnicodeDecodeError as error:
            raise InputError(
                f"{path} is not UTF-8 text: {error.reason} at byte {error.start} of a block",
                "save it as UTF-8",
            ) from None


def for_model(batch: Batch, schema: Schema, drop: Sequence[str] = ()) -> dict[Any, Any]:
    """Columns of a batch as a model of ``schema`` takes them.

    A model that was fitted without column names takes them by position; the keys are then numbers. Raises
    MissingColumnError for a column of ``drop`` that is not there, ColumnTypeError for text that is not of its
    kind.
    """
    check_columns(batch.columns, drop)
    columns = {name: cells for name, cells in batch.columns.items() if name not in drop}
    names = list(columns)
    unnamed = schema.form == "matrix" or schema.names == tuple(f"x{i}" for i in range(len(schema.names)))
    by_position = unnamed and set(names) != set(schema.names) and len(names) == len(schema.names)
    known = dict(zip(names, schema.columns, strict=True)) if by_position else {c.name: c for c in schema.columns}
    for name in names:
        column = known.get(name)
        if column is None or (not column.used and schema.form == "columns"):
            continue
        null = None if column.null == "none" else float("nan")
        cells = columns[name]
        if batch.text:
            columns[name] = parse(cells, column.kind, name, null=null, where=batch.where, first=batch.first)
        elif column.kind == "string" and isinstance(cells, list):
            columns[name] = [null if cell is None else cell for cell in cells]  # JSON has one word for missing
    return dict(enumerate(columns.values())) if by_position else columns


def parse_dtypes(pairs: Sequence[str]) -> dict[str, str]:
    """``COLUMN=KIND`` options as a dict. Raises InputError."""
    result: dict[str, str] = {}
    for pair in pairs:
        name, equals, kind = pair.rpartition("=")
        if not equals or not name or kind not in CELL_KINDS:
            raise InputError(f"--dtype {pair}: COLUMN=KIND is due", f"KIND is one of {', '.join(CELL_KINDS)}")
        result[name] = kind
    return result


def check_columns(present: Any, wanted: Sequence[str], path: Path | None = None) -> None:
    """Raise MissingColumnError unless every name of ``wanted`` is there."""
    for name in wanted:
        if name not in present:
            shown = ", ".join(repr(str(n)) for n in list(present)[:8])
            more = f", … ({len(present)} in all)" if len(present) > 8 else ""
            raise MissingColumnError(f"{path or 'the file'} has no column {name!r}", f"it has: {shown}{more}")


def _csv(path: Path, text: TextIOWrapper, rows: int, separator: str) -> Iterator[tuple[dict[str, Any], int, int]]:
    reader = csv.reader(text, delimiter=separator, strict=True)
    try:
        header = next(reader, None)
        if not header or not any(header):
            raise EmptyInputError(f"{path} is empty", "its first line must name the columns")
        if len(set(header)) < len(header):
            twice = next(name for at, name in enumerate(header) if name in header[:at])
            raise InputError(f"{path}: two columns are called {twice!r}", "rename or drop one of them")
        # A blank line is no row, unless one empty cell is all a row has.
        filled = (row or [""] for row in reader if row or len(header) == 1)
        first = 1
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
        raise InputError(f"{path} line {reader.line_num}: {error}", "check the quotes and the separator") from None


def _json_lines(path: Path, text: TextIOWrapper, rows: int) -> Iterator[tuple[dict[str, Any], int, int]]:
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


def _parquet(path: Path, rows: int) -> Iterator[Batch]:
    import pyarrow
    from pyarrow import parquet

    try:
        with path.open("rb") as raw, parquet.ParquetFile(raw) as file:
            total, done = max(file.metadata.num_rows, 1), 0
            # A frame's index, which pandas stores as a column of a name of its own.
            index = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
            for batch in file.iter_batches(batch_size=min(rows, 1 << 20)):
                columns = {n: batch.column(at) for at, n in enumerate(batch.schema.names) if n not in index}
                yield Batch(columns, batch.num_rows, (done + batch.num_rows) / total, f"{path} row", done + 1)
                done += batch.num_rows
    except pyarrow.ArrowException as error:
        raise InputError(f"{path} cannot be read as Parquet: {error}", "check that it is complete") from None
