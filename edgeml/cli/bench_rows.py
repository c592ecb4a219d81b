"""The rows that bench measures with: a data file's, or the golden rows of the bundle. NumPy alone, unless scikit-learn
takes part.

In comes an open bundle and perhaps a data file; out go ``Rows``, which become batches, single rows and a frame.
Called by bench.py and, for single rows, by demo.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import EmptyInputError, InputError
from edgeml.schema import MATRIX, Schema

Array = npt.NDArray[Any]

GOLDEN, DATA = "golden rows", "rows of --data"
# Different rows a single-row measurement goes through.
MOST_SINGLE = 1000
# The plain golden rows stand first, at most so many (edgeml/parity/golden_rows.py); awkward ones follow. Numbers
# beyond this are awkward too: an engine in float32 may refuse them, and the rows must be the same on all machines.
_PLAIN, _LARGEST = 32, 1e15


@dataclass(frozen=True)
class Rows:
    """``columns`` as ``read_rows`` gives them, the used ones, or the one matrix. ``outputs`` are the answers that the
    bundle holds to them, by method, None where the rows are a file's. ``frame`` makes what scikit-learn takes.
    """

    schema: Schema
    columns: Mapping[str, Array]
    count: int
    source: str
    outputs: Mapping[str, Array] | None
    frame: Callable[[], Any]

    def at(self, rows: int) -> Array:
        """Positions of the rows of a batch: all of them, over and over, until there are ``rows``."""
        return np.arange(rows) % self.count

    def batch(self, rows: int) -> Any:
        """A dict of columns, or an array where the pipeline was fitted on one."""
        at = self.at(rows)
        parts = {name: cells[at] for name, cells in self.columns.items()}
        return parts[MATRIX] if self.schema.form == "matrix" else parts

    def single(self, most: int = MOST_SINGLE) -> list[Any]:
        """Rows as an application hands them to ``predict_one``: a dict of plain values each, a list for a matrix."""
        if self.schema.form == "matrix":
            rows: list[Any] = self.columns[MATRIX][:most].tolist()
            return rows
        count = min(self.count, most)
        # An application passes its whole row: columns that nobody reads are part of it.
        cells = {
            name: self.columns[name][:count].tolist() if name in self.columns else [None] * count
            for name in self.schema.names
        }
        return [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]

    def digest(self) -> str:
        """SHA-256 of the rows' values, equal on every machine."""
        found = sha256()
        for name, cells in self.columns.items():
            found.update(
                f"{name}\0{cells.dtype.newbyteorder('<').str}\0{cells.shape}\0".encode("utf-8", "surrogatepass")
            )
            little = cells if cells.dtype.kind in "OU" else cells.astype(cells.dtype.newbyteorder("<"), copy=False)
            found.update(repr(cells.tolist()).encode() if cells.dtype.kind in "OU" else little.tobytes())
        return found.hexdigest()


def read(bundle: Any, data: Path | None, drop: Sequence[str], most: int) -> Rows:
    """The first ``most`` rows of the file ``data``, or without one the bundle's plain golden rows.

    Raises InputError for a file that is not as the schema says, or a bundle without usable golden rows.
    """
    rows = _golden(bundle) if data is None else _from_file(bundle.schema, data, drop, most)
    if not rows.count:
        raise EmptyInputError(f"{data or bundle.path} has no rows to measure with", "give rows with --data")
    return rows


def _from_file(schema: Schema, data: Path, drop: Sequence[str], most: int) -> Rows:
    from edgeml.cli.data import for_model, read_batches, read_frame
    from edgeml.cli.source import file_format
    from edgeml.runtimes.frames import read_rows

    batch = next(read_batches(data, most), None)
    if batch is None:
        raise EmptyInputError(f"{data} has no rows", "give a file with at least one row")
    raw = for_model(batch, schema, drop)
    columns, count = read_rows(raw, schema)

    def frame() -> Any:
        import pandas as pd

        if file_format(data) in (".parquet", ".pq"):
            return read_frame(data, drop).iloc[:count]  # which keeps pandas' own dtypes, such as categories
        return pd.DataFrame(raw)

    return Rows(schema, columns, count, DATA, None, frame)


def _golden(bundle: Any) -> Rows:
    from edgeml.golden import read_golden

    schema, golden = bundle.schema, read_golden(bundle)
    plain = np.flatnonzero(~golden.refused)[:_PLAIN]
    kept = np.ones(len(plain), dtype=bool)
    for cells in golden.take(plain).values():
        if cells.dtype.kind in "fi":
            with np.errstate(invalid="ignore"):
                kept &= ~(np.abs(cells.astype(np.float64)) > _LARGEST).reshape(len(plain), -1).any(axis=1)
    at = plain[kept]
    columns = golden.take(at)
    wanted = {MATRIX} if schema.form == "matrix" else {c.name for c in schema.columns if c.used}
    if wanted - set(columns):
        raise InputError(f"the golden rows lack the column {min(wanted - set(columns))!r}", "give rows with --data")
    columns = {name: cells for name, cells in columns.items() if name in wanted}
    place = np.cumsum(~golden.refused)[at] - 1  # answers are those of the rows not refused
    outputs = {method: answer[place] for method, answer in golden.outputs.items()}

    def frame() -> Any:
        import pandas as pd

        if schema.form == "matrix":
            return columns[MATRIX]
        return pd.DataFrame({name: columns.get(name, np.nan) for name in schema.names})

    return Rows(schema, columns, len(at), GOLDEN, outputs, frame)


def one_by_one(model: Any, method: str, rows: Sequence[Any]) -> Callable[[int], Any]:
    """A function of i: the answer to row i, modulo their number, by the model's fastest way for ``method``."""
    name, as_list = one_method(method)
    call, count = getattr(model, name), len(rows)
    if as_list:
        parts = [[row] for row in rows]
        return lambda i: first_row(call(parts[i % count]))
    return lambda i: call(rows[i % count])


def first_row(answer: Any) -> Any:
    """The one row of an answer; of a list of arrays, a list of rows."""
    return [part[0] for part in answer] if isinstance(answer, list) else answer[0]


def one_method(method: str) -> tuple[str, bool]:
    """The method of a Model that answers one row, and whether it wants a list of that one row."""
    return (f"{method}_one", False) if method in ("predict", "predict_proba") else (method, True)
