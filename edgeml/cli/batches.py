"""The rows of a data file in batches that a model takes, in the file's order and with their numbers in it.

In comes a path, the model's schema and the columns to keep; out goes a ``Rows`` a batch. CSV and Parquet go through
Arrow and make no Python object a cell; small or odd files, and a machine without pyarrow, go through data.py, with the
same answers and messages. What is in memory is a few batches, however long the file. Used by predict.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

from edgeml import fast
from edgeml.cli.columns import Plan, make_plan
from edgeml.cli.csv_blocks import Rest, blocks, header_end, is_plain, lines_of, read_full
from edgeml.cli.data import csv_rows, json_lines, parquet_errors, parquet_names, utf8_only
from edgeml.cli.source import PARQUET, SEPARATORS, Done, Joined, input_format, open_bytes
from edgeml.errors import InputError
from edgeml.schema import Schema

# Up to here Python's csv module is done before pyarrow is imported (0.2 s).
_SMALL_BYTES = 1 << 18
# Blocks of CSV: enough for Arrow to be fast, and few enough bytes to have several in memory.
_BLOCK_BYTES = (1 << 20, 1 << 25)
# Lists of Python's cells take some kilobytes a row.
_CELL_ROWS = 10_000
# Read from each column of a row group at a time; without it Arrow holds the whole row group, which may be the file.
_COLUMN_BYTES = 1 << 20


@dataclass(frozen=True)
class Rows:
    """Some rows: ``inputs`` as ``Model`` takes them, ``kept`` the columns to copy, by name.

    ``first`` is the number of the first row, from 1 for the first of the file ``where`` names; ``done`` the part of
    all rows that has been read by then, None where nobody can say.
    """

    inputs: dict[Any, Any]
    kept: dict[str, Any]
    rows: int
    first: int
    where: str
    done: float | None


@dataclass(frozen=True)
class Reader:
    """How to read ``path``: for which schema, with which columns, at most ``batch_rows`` rows at a time, decoded by up
    to ``threads`` threads.
    """

    path: Path
    schema: Schema
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    batch_rows: int = 65_536
    threads: int = 1

    def __iter__(self) -> Generator[Rows]:
        """The batches. Raises InputError naming the row or line that is wrong, and OSError."""
        suffix = PARQUET[0] if self.path.is_dir() else input_format(self.path)
        if suffix in PARQUET:
            yield from self._parquet()
            return
        with utf8_only(self.path), open_bytes(self.path) as (stream, done):
            if suffix in SEPARATORS:
                yield from self._csv(stream, done, SEPARATORS[suffix])
            else:
                with io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
                    records = json_lines(self.path, text, min(self.batch_rows, _CELL_ROWS))
                    yield from self._of_cells(records, done, text=False)

    # --- text
    def _csv(self, stream: BinaryIO, done: Done, separator: str) -> Iterator[Rows]:
        head = read_full(stream, _SMALL_BYTES)
        header, end = _header(head, separator)
        if len(head) < _SMALL_BYTES or not header or not fast.on("stream") or find_spec("pyarrow") is None:
            yield from self._csv_cells(Joined(head, stream), separator, done, "utf-8-sig")
            return
        from edgeml.cli.csv_arrow import ArrowReader

        self._set_threads()
        plan = self._plan(header)
        reader = ArrowReader(plan, separator)
        first, lines, where = 1, head.count(b"\n", 0, end), str(self.path)
        row_bytes = len(head) // max(head.count(b"\n"), 1)
        size = min(max(self.batch_rows * row_bytes, _BLOCK_BYTES[0]), _BLOCK_BYTES[1])
        for block in blocks(stream, head[end:], size, separator):
            if isinstance(block, Rest):
                rest = Joined(block.data, stream)
                yield from self._csv_cells(rest, separator, done, "utf-8", header, first, lines)
                return
            count, longest = lines_of(block)
            columns = reader.read(block) if is_plain(block, longest) else None
            if columns is not None:
                for at, part in columns.parts(self.batch_rows):
                    inputs = plan.of_arrow(part.read, part.rows)
                    yield Rows(inputs, part.kept, part.rows, first + at, where, done())
                first += columns.rows
            else:
                for rows in self._csv_cells(io.BytesIO(block), separator, done, "utf-8", header, first, lines):
                    yield rows
                    first = rows.first + rows.rows
            lines += count

    def _csv_cells(
        self,
        stream: io.RawIOBase | io.BytesIO,
        separator: str,
        done: Done,
        encoding: str,
        header: Sequence[str] = (),
        first: int = 1,
        lines: int = 0,
    ) -> Iterator[Rows]:
        raw = stream if isinstance(stream, io.BytesIO) else io.BufferedReader(stream)
        with io.TextIOWrapper(raw, encoding, newline="") as text:
            rows = min(self.batch_rows, _CELL_ROWS)
            yield from self._of_cells(csv_rows(self.path, text, rows, separator, header, first, lines), done, text=True)

    def _of_cells(self, batches: Iterator[tuple[dict[str, Any], int, int]], done: Done, text: bool) -> Iterator[Rows]:
        plan = None
        for columns, count, first in batches:
            if plan is None or plan.names != tuple(columns):  # JSON may bring other keys in other rows
                plan = self._plan(list(columns))
            inputs = plan.of_cells(columns, f"{self.path} row", first, text)
            yield Rows(inputs, {name: columns[name] for name in self.keep}, count, first, str(self.path), done())

    def _plan(self, names: Sequence[str]) -> Plan:
        return make_plan(names, self.schema, self.keep, self.drop, self.path)

    def _set_threads(self) -> None:
        import pyarrow

        pyarrow.set_cpu_count(self.threads)

    # --- Parquet
    def _parquet(self) -> Iterator[Rows]:
        from pyarrow import parquet

        self._set_threads()
        files = []
        for path in _parts(self.path):
            path.open("rb").close()  # for Python's own error where it cannot be read
            with parquet_errors(path):
                files.append((path, parquet.read_metadata(path)))
        total, read = sum(facts.num_rows for _, facts in files), 0
        for path, facts in files:
            plan = self._plan(parquet_names(path, facts.schema.to_arrow_schema()))
            options = {"metadata": facts, "pre_buffer": False, "buffer_size": _COLUMN_BYTES}
            first = 1
            with (
                parquet_errors(path),
                parquet.ParquetFile(path, read_dictionary=_dictionaries(plan, facts), **options) as file,
            ):
                # The columns are asked for even if there are none: a batch of no columns would end at each row group.
                for batch in file.iter_batches(self.batch_rows, columns=plan.needed or list(plan.names[:1])):
                    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
                    read += batch.num_rows
                    inputs = plan.of_arrow(columns, batch.num_rows)
                    kept = {name: columns[name] for name in self.keep}
                    yield Rows(inputs, kept, batch.num_rows, first, str(path), read / total)
                    first += batch.num_rows


def _parts(path: Path) -> list[Path]:
    """The file, or the Parquet files of a folder by name."""
    if not path.is_dir():
        return [path]
    parts = sorted(part for part in path.iterdir() if part.suffix.lower() in PARQUET and part.is_file())
    if not parts:
        raise InputError(
            f"the folder {path} holds no Parquet file ({', '.join(PARQUET)})", "give a file, or a folder of parts"
        )
    return parts


def _dictionaries(plan: Plan, facts: Any) -> list[str]:
    """String columns that are stored as codes everywhere: read so, they stay codes for the model.

    A column to keep is read as what it is.
    """
    wanted = {n for n, column in plan.read.items() if column.kind == "string" and n not in plan.keep}
    for group in range(facts.num_row_groups if wanted else 0):
        chunks = [facts.row_group(group).column(at) for at in range(facts.num_columns)]
        wanted &= {c.path_in_schema for c in chunks if c.physical_type == "BYTE_ARRAY" and c.has_dictionary_page}
    return sorted(wanted)


def _header(head: bytes, separator: str) -> tuple[list[str], int]:
    """The names in the first row of a file, and how many bytes it takes; no names where they are not plainly there."""
    end = header_end(head)
    try:
        rows = list(csv.reader([head[:end].decode("utf-8-sig")], delimiter=separator, strict=True))
    except (UnicodeDecodeError, csv.Error):
        return [], 0
    header = rows[0] if len(rows) == 1 else []
    return (header, end) if any(header) and len(set(header)) == len(header) else ([], 0)
