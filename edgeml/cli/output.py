"""What commands print: tables for people, JSON for programs, progress for whoever watches a terminal.

Results go to stdout, all else to stderr. Text that comes from a file (column names, labels, reasons)
passes ``printable`` first, so that it cannot steer the terminal.
"""

from __future__ import annotations

import json
import math
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click
import numpy as np
from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

Say = Callable[[str, float], None]
Cell = str | int | float | None

_WIDTH = 80


def printable(text: object) -> str:
    """Text with control characters escaped, line feeds apart."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in str(text))


def line(text: str = "") -> None:
    """A line on stdout."""
    click.echo(printable(text))


def paragraph(text: str) -> None:
    """Text on stdout, indented and broken into lines of at most 80 characters."""
    # A number stays with its percent sign: wrap does not break at a no-break space.
    for part in textwrap.wrap(printable(text).replace(" %", "\u00a0%"), _WIDTH - 2, break_on_hyphens=False):
        line("  " + part.replace("\u00a0", " "))


def title(text: str) -> None:
    """A heading on stdout, with an empty line in front."""
    click.echo()
    click.secho(printable(text), bold=True, color=color())


def note(text: str) -> None:
    """A line on stderr, beside the result."""
    click.echo(printable(text), err=True)


def color() -> bool | None:
    """False where NO_COLOR asks for none; None leaves it to click, which colours terminals only."""
    return False if os.environ.get("NO_COLOR") else None


def table(heading: str, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    """A titled table on stdout. Columns of numbers are set flush right, ``None`` is shown as a dash.

    The last column is wrapped where a line would be longer than 80 characters.
    """
    title(heading)
    cells = [[printable("—" if cell is None else cell).replace("\n", " ") for cell in row] for row in rows]
    columns = list(zip(*cells, strict=True)) or [()] * len(header)
    right = [
        at > 0 and bool(column) and all(cell == "—" or cell.lstrip("-")[:1].isdigit() for cell in column)
        for at, column in enumerate(columns)
    ]
    lines = [list(header), *cells] if any(header) else cells
    widths = [max(cell_len(row[at]) for row in lines) for at in range(len(header))]
    for row in lines:
        start = "  " + "".join(
            _set(cell, width, at_right) + "  " for cell, width, at_right in zip(row[:-1], widths, right, strict=False)
        )
        last = row[-1] if not right[-1] else _set(row[-1], widths[-1], True)
        room = max(_WIDTH - cell_len(start), 20)
        first, *more = [last] if right[-1] else textwrap.wrap(last, room, break_on_hyphens=False) or [""]
        line((start + first).rstrip())
        for rest in more:
            line(" " * cell_len(start) + rest)


def _set(text: str, width: int, at_right: bool) -> str:
    space = " " * (width - cell_len(text))
    return space + text if at_right else text + space


def print_json(data: Any) -> None:
    """One JSON document on stdout; NaN and infinities become strings, since JSON has no word for them."""
    click.echo(json.dumps(plain(data), ensure_ascii=False, indent=2, allow_nan=False))


def plain(value: Any) -> Any:
    """A value as JSON can hold it: NumPy's numbers as Python's, bytes and odd objects as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    # Half a surrogate pair cannot be written as UTF-8.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def size(count: float) -> str:
    """Bytes for people: 512 B, 1.4 kB, 23 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def seconds(value: float) -> str:
    """A duration for people: 4.2 us, 13 ms, 1.3 s."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if value * factor < 1000:
            return f"{value * factor:.3g} {unit}"
    return f"{value:.3g} s"


def short(value: float) -> str:
    """An error figure: 0, 2.2e-16."""
    return "0" if value == 0 else f"{value:.1e}"


@contextmanager
def progress(title: str) -> Iterator[Say]:
    """A progress bar on stderr while it is a terminal, else nothing. Yields a function of (stage, fraction
    done).
    """
    if not sys.stderr.isatty():
        yield lambda stage, fraction: None
        return
    columns = TextColumn("{task.description}"), BarColumn(None), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task(printable(title), total=1.0)
        yield lambda stage, fraction: bar.update(task, description=printable(stage), completed=fraction)
