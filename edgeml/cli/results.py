"""Writes predictions as CSV, TSV, JSON lines or Parquet, batch by batch.

Columns come as NumPy arrays, and those copied from the data file as Arrow arrays or lists. A file appears under its
name only when it is complete: it is written aside, synced and renamed, and what interrupts that removes it. Used by
predict.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from edgeml import fast
from edgeml.cli.output import plain
from edgeml.cli.source import JSON_LINES, PARQUET, SEPARATORS, file_format
from edgeml.errors import InputError

Array = npt.NDArray[Any]

# Fewer rows are written before pyarrow is imported.
_MANY_ROWS = 20_000


class Writer(Protocol):
    """Takes columns of equal length, the same names each time; then ``close``, or ``discard`` where that went wrong."""

    def write(self, columns: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends well, and is removed when it does not."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise IsADirectoryError(21, "is not a file", str(path))
    aside = target.with_name(f".edgeml-{secrets.token_hex(8)}.tmp")
    try:
        with open(aside, "xb") as file:
            yield file
            with names_file(path):
                file.flush()
                os.fsync(file.fileno())
        os.replace(aside, target)
    except OSError as error:
        if error.filename == str(aside):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            aside.unlink()


@contextmanager
def names_file(path: Path | str) -> Iterator[None]:
    """Gives an error of a write, such as a full disk, the name of the file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def writer(path: Path, file: BinaryIO) -> Writer:
    """The writer for a file's suffix."""
    suffix = file_format(path)
    if suffix in PARQUET:
        return _Parquet(file)
    return JsonLinesWriter(file) if suffix in JSON_LINES else CsvWriter(file, SEPARATORS[suffix])


class CsvWriter:
    """Numbers in the shortest form that reads back to the same bits; missing cells empty."""

    def __init__(self, file: BinaryIO, separator: str = ",") -> None:
        self._file, self._separator, self._started = file, separator, False

    def write(self, columns: Mapping[str, Any]) -> None:
        text = io.StringIO(newline="")
        out = csv.writer(text, delimiter=self._separator, lineterminator="\n")
        if not self._started:
            out.writerow(columns)
            self._started = True
        if not _by_arrow(columns):
            out.writerows(zip(*(map(_cell, _list(c)) for c in columns.values()), strict=True))
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))
        if _by_arrow(columns):
            from edgeml.cli.texts import csv_lines

            for lines in csv_lines(columns, self._separator):
                self._file.write(lines)

    def close(self) -> None:
        pass

    def discard(self) -> None:
        pass


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


class JsonLinesWriter:
    """A JSON object a row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Mapping[str, Any]) -> None:
        if _by_arrow(columns):
            from edgeml.cli.texts import json_lines

            for lines in json_lines(columns):
                self._file.write(lines)
            return
        names = list(columns)
        for row in zip(*map(_list, columns.values()), strict=True):
            text = json.dumps(plain(dict(zip(names, row, strict=True))), ensure_ascii=False, allow_nan=False)
            self._file.write(text.encode() + b"\n")

    def close(self) -> None:
        pass

    def discard(self) -> None:
        pass


def _by_arrow(columns: Mapping[str, Any]) -> bool:
    """Whether lines are joined by Arrow; where that has to be imported first, only for many rows."""
    rows = len(next(iter(columns.values())))
    there = sys.modules.get("pyarrow") is not None or (rows >= _MANY_ROWS and find_spec("pyarrow") is not None)
    return there and fast.on("stream")


def _list(column: Any) -> list[Any]:
    """A column's cells as Python's own objects."""
    if isinstance(column, list):
        return column
    cells: list[Any] = column.to_pylist() if hasattr(column, "to_pylist") else column.tolist()
    return cells


class _Parquet:
    """The first batch fixes the types of the columns."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def write(self, columns: Mapping[str, Any]) -> None:
        import pyarrow
        from pyarrow import parquet

        batch = pyarrow.table({name: _arrow(column) for name, column in columns.items()})
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, batch.schema)
        schema = self._writer.schema
        if batch.schema != schema:
            # Lists of JSON's values: their types are known batch by batch.
            try:
                batch = batch.cast(schema)
            except pyarrow.ArrowException:
                name = next(f.name for f, g in zip(batch.schema, schema, strict=True) if f != g)
                raise InputError(
                    f"column {name!r} is {schema.field(name).type} in the first rows and "
                    f"{batch.schema.field(name).type} in later ones, which one Parquet file cannot hold",
                    "write CSV or JSON lines, or keep another column",
                ) from None
        self._writer.write_table(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.is_open = False  # or it would finish the file when it is collected, and complain


def _arrow(column: Any) -> Any:
    import pyarrow

    if isinstance(column, pyarrow.Array):
        return column
    return pyarrow.array(column if isinstance(column, np.ndarray) and column.dtype.kind not in "OU" else _list(column))


def result_columns(method: str, result: Any, classes: Any) -> dict[str, Array]:
    """A method's answers as named columns: ``predict``, or ``predict_proba_<label>``, or ``transform_<i>``.

    Of several outputs ``result`` is a list of arrays, or a stack of them, whose columns are
    ``predict_proba_<output>_<label>``. ``classes`` are the labels, an array or a list of one an output, or None.
    """
    # A decision_function may have as many columns as there are classes and mean pairs of them.
    by_class = method in ("predict_proba", "predict_log_proba") and classes is not None
    if isinstance(result, list) or result.ndim == 3:
        each = classes if by_class and isinstance(classes, list) else [None] * len(result)
        parts = [(f"{method}_{at}", *both) for at, both in enumerate(zip(result, each, strict=True))]
    elif result.ndim == 1:
        return {method: result}
    else:
        parts = [(method, result, classes if by_class else None)]
    return {
        f"{name}_{label}": part[:, at]
        for name, part, labels in parts
        for at, label in enumerate(range(part.shape[1]) if labels is None else labels.tolist())
    }
