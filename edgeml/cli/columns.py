"""Which columns of a data file a model reads, under which key it wants them, and which are only copied.

In come the file's column names and the model's schema; out goes a ``Plan``, made once for a file, that turns the
columns of each batch into what ``Model`` takes. Used by batches.py, data.py and csv_arrow.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeml.cli.cells import parse
from edgeml.errors import MissingColumnError
from edgeml.schema import Column, Schema


@dataclass(frozen=True)
class Plan:
    """``inputs`` holds, for each column that goes to the model, its key there, its name in the file, and the schema's
    column, or None where the model reads no cell of it. ``keep`` are the columns to copy.
    """

    names: tuple[str, ...]
    inputs: tuple[tuple[Any, str, Column | None], ...]
    keep: tuple[str, ...]

    @property
    def read(self) -> dict[str, Column]:
        """The columns whose cells the model reads, by their names in the file."""
        return {name: column for _, name, column in self.inputs if column is not None}

    @property
    def needed(self) -> list[str]:
        """The columns of the file to read, in its order."""
        wanted = {*self.read, *self.keep}
        return [name for name in self.names if name in wanted]

    def of_cells(self, columns: Mapping[str, Any], where: str, first: int, text: bool) -> dict[Any, Any]:
        """Columns for the model, from lists of cells: text of a CSV file, or Python's own values.

        Raises ColumnTypeError for text that is not of its kind.
        """
        result = {}
        for key, name, column in self.inputs:
            cells = columns[name]
            if column is not None:
                null = null_of(column)
                if text:
                    cells = parse(cells, column.kind, name, null=null, where=where, first=first)
                elif column.kind == "string" and isinstance(cells, list):
                    cells = [null if cell is None else cell for cell in cells]  # JSON has one word for missing
            result[key] = cells
        return result

    def of_arrow(self, columns: Mapping[str, Any], rows: int) -> dict[Any, Any]:
        """Columns for the model, from those of ``needed``; the others, which it never reads, are there by name only."""
        import pyarrow

        unread = pyarrow.nulls(rows)
        return {key: unread if column is None else columns[name] for key, name, column in self.inputs}


def make_plan(
    names: Sequence[str],
    schema: Schema,
    keep: Sequence[str] = (),
    drop: Sequence[str] = (),
    path: Path | None = None,
) -> Plan:
    """The plan for a file with columns ``names``.

    A model that was fitted without column names takes them by position; the keys are then numbers. Raises
    MissingColumnError for a column of ``keep`` or ``drop`` that is not there.
    """
    check_columns(names, (*keep, *drop), path)
    # A column that is only kept may be one the model does not know.
    aside = {*drop, *(name for name in keep if name not in schema.names)}
    given = [name for name in names if name not in aside]
    unnamed = schema.form == "matrix" or schema.names == tuple(f"x{i}" for i in range(len(schema.names)))
    by_position = unnamed and set(given) != set(schema.names) and len(given) == len(schema.names)
    known = dict(zip(given, schema.columns, strict=True)) if by_position else {c.name: c for c in schema.columns}
    inputs = []
    for at, name in enumerate(given):
        column = known.get(name)
        if column is not None and not column.used and schema.form == "columns":
            column = None
        if column is not None and column.unit is not None:
            column = replace(column, kind="string", null="none", unit=None)  # the model itself reads ISO 8601
        inputs.append((at if by_position else name, name, column))
    return Plan(tuple(names), tuple(inputs), tuple(keep))


def null_of(column: Column) -> float | None:
    """The missing cell of a column, as the sample at compile time had it."""
    return None if column.null == "none" else float("nan")


def check_columns(present: Any, wanted: Sequence[str], path: Path | None = None) -> None:
    """Raise MissingColumnError unless every name of ``wanted`` is there."""
    for name in wanted:
        if name not in present:
            shown = ", ".join(repr(str(n)) for n in list(present)[:8])
            more = f", … ({len(present)} in all)" if len(present) > 8 else ""
            raise MissingColumnError(f"{path or 'the file'} has no column {name!r}", f"it has: {shown}{more}")
