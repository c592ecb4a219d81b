"""Writes predictions as CSV, TSV, JSON lines or Parquet, batch by batch.

A file appears under its name only when it is complete: it is written aside, synced and renamed, and what
interrupts that removes it. Used by predict.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from edgeml.cli.data import file_format
from edgeml.cli.output import plain

Array = npt.NDArray[Any]


class Writer(Protocol):
    """Takes columns of equal length, the same names each time."""

    def write(self, columns: Mapping[str, Array]) -> None: ...

    def close(self) -> None: ...


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


def writer(path: Path, file: BinaryIO) -> Writer:
    """The writer for a file's suffix."""
    suffix = file_format(path)
    if suffix in (".parquet", ".pq"):
        return _Parquet(file)
    return (
        JsonLinesWriter(file) if suffix in (".jsonl", ".ndjson") else CsvWriter(file, "\t" if suffix == ".tsv" else ",")
    )


class CsvWriter:
    """Numbers in the shortest form that reads back to the same bits; missing cells empty."""

    def __init__(self, file: BinaryIO, separator: str = ",") -> None:
        self._file, self._separator, self._started = file, separator, False

    def write(self, columns: Mapping[str, Array]) -> None:
        text = io.StringIO(newline="")
        out = csv.writer(text, delimiter=self._separator, lineterminator="\n")
        if not self._started:
            out.writerow(columns)
            self._started = True
        out.writerows(zip(*(map(_cell, c.tolist()) for c in columns.values()), strict=True))
        self._file.write(text.getvalue().encode("utf-8", "backslashreplace"))

    def close(self) -> None:
        pass


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


class JsonLinesWriter:
    """A JSON object a row."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, columns: Mapping[str, Array]) -> None:
        names = list(columns)
        for row in zip(*(c.tolist() for c in columns.values()), strict=True):
            text = json.dumps(plain(dict(zip(names, row, strict=True))), ensure_ascii=False, allow_nan=False)
            self._file.write(text.encode() + b"\n")

    def close(self) -> None:
        pass


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._writer: Any = None

    def write(self, columns: Mapping[str, Array]) -> None:
        import pyarrow
        from pyarrow import parquet

        batch = pyarrow.table(
            {name: pyarrow.array(c.tolist() if c.dtype.kind in "OU" else c) for name, c in columns.items()}
        )
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._file, batch.schema)
        self._writer.write_table(batch)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def result_columns(method: str, result: Array, classes: Array | None) -> dict[str, Array]:
    """A method's answers as named columns: ``predict``, or ``predict_proba_<label>``, or
    ``transform_<i>``.
    """
    if result.ndim == 1:
        return {method: result}
    # A decision_function may have as many columns as there are classes and mean pairs of them.
    by_class = method in ("predict_proba", "predict_log_proba") and classes is not None
    labels = classes.tolist() if by_class and classes is not None else range(result.shape[1])
    return {f"{method}_{label}": result[:, at] for at, label in enumerate(labels)}


def kept_column(cells: Any) -> Array:
    """A column of a data file as it goes to the output unchanged."""
    if hasattr(cells, "to_pylist"):
        cells = cells.to_pylist()
    out = np.empty(len(cells), dtype=object)
    out[:] = cells
    return out
