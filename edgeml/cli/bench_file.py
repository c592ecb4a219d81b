"""The file of a benchmark run, ``edgeml bench -o run.json``: one table says what stands in it, and reading checks
every field of it.

Comes in: a path; goes out: the run as a dict that has all fields, of the types that docs/benchmarks.md lists, or an
InputError that names the file and the field. ``edgeml bench`` writes, ``edgeml bench compare`` reads.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeml.cli import output
from edgeml.errors import InputError, JSONError
from edgeml.jsonutil import loads

NAME, VERSION = "edgeml bench", 1
FORMAT = f"{NAME} {VERSION}"

_MOST_BYTES = 16 << 20
_AGAIN = "write it again with edgeml bench BUNDLE -o FILE.json"


@dataclass(frozen=True)
class Maybe:
    """A field that may be null."""

    kind: Any


@dataclass(frozen=True)
class Many:
    """A list of equals, ``least`` of them or more."""

    kind: Any
    least: int = 0


@dataclass(frozen=True)
class ByName:
    """An object whose keys are the file's own."""

    kind: Any


class Count(int):
    """An integer from 0."""


class Figure(float):
    """A number from 0 that is finite."""


class Positive(float):
    """A finite number above 0: something that ratios are made of."""


class Error(float):
    """A number from 0, or the word "inf"."""


_RUN = {
    "rows": Count, "single": bool, "threads": Maybe(Count), "min_s": Figure, "p10_s": Figure, "p50_s": Positive,
    "p90_s": Figure, "p99_s": Figure, "repeats": Count, "rows_per_s": Positive,
}  # fmt: skip
_AGREEMENT = {
    "against": str, "rows": Count, "labels_different": Count, "max_abs": Error, "max_rel": Error, "allowed": Error,
    "agrees": bool, "problems": Many(str),
}  # fmt: skip
_ENGINE = {
    "engine": str, "kernels": Maybe(str), "bytes": Count, "problem": Maybe(str), "agreement": Maybe(_AGREEMENT),
    "load_s": Maybe(Figure), "first_answer_s": Maybe(Figure), "peak_bytes": Maybe(Count),
    "above_numpy_bytes": Maybe(int), "runs": Many(_RUN),
}  # fmt: skip
# Every field of the file and its type: what is missing or of another type is refused, what is more is passed over.
FIELDS = {
    "format": str,
    "label": str,
    "date": str,
    "bundle": {
        "name": str, "version": Count, "manifest_sha256": str, "bytes": Count, "estimator": str, "columns": Count,
    },
    "settings": {
        "method": str, "rows_from": str, "distinct_rows": Count, "rows_sha256": str, "batches": Many(Count),
        "threads": Many(Count, 1), "seconds": Figure, "fast": Maybe(str),
    },
    "machine": {
        "cpu": str, "architecture": str, "board": Maybe(str), "cores": Maybe(Count), "cores_usable": Maybe(Count),
        "cores_quota": Maybe(Figure), "governor": Maybe(str), "max_mhz": Maybe(Figure), "memory_bytes": Maybe(Count),
        "os": str, "kernel": str, "libc": Maybe(str), "virtual": Maybe(str), "container": Maybe(str),
        "emulated": Maybe(str),
    },
    "software": ByName(Maybe(str)),
    "noise": {
        "load_before": Maybe(Figure), "load_after": Maybe(Figure), "yardstick_p10_s": Figure,
        "yardstick_p50_s": Figure, "yardstick_p90_s": Figure, "cpu_share": Figure, "steal": Maybe(Figure),
        "busy": Many(str),
    },
    "timer_s": Figure,
    "numpy": {"start_s": Maybe(Figure), "peak_bytes": Maybe(Count)},
    "engines": Many(_ENGINE, 1),
}  # fmt: skip


def encode(run: Mapping[str, Any]) -> bytes:
    """The bytes of a run's file."""
    return json.dumps(output.plain(run), ensure_ascii=False, indent=1, allow_nan=False).encode() + b"\n"


def read(path: Path) -> dict[str, Any]:
    """The run in ``path``. Raises InputError for a file that is none, is cut short, or is of a newer version."""
    with path.open("rb") as file:
        data = file.read(_MOST_BYTES + 1)
    if not data.strip():
        raise InputError(f"{path} is empty", _AGAIN)
    try:
        run = loads(data, str(path), limit=_MOST_BYTES)
    except JSONError as error:
        begins = data.lstrip()[:1] == b"{" and data.rstrip()[-1:] != b"}"
        what = "is cut short: its JSON does not end" if begins else "is no file of edgeml bench"
        raise InputError(f"{path} {what} ({error.cause.removeprefix(f'{path}: ')})", _AGAIN) from None
    kind = run.get("format") if isinstance(run, dict) else None
    name, _, version = kind.rpartition(" ") if isinstance(kind, str) else ("", "", "")
    if name != NAME or not version.isdecimal():
        hint = f"its format is {kind!r}" if isinstance(kind, str) else "it has no format"
        raise InputError(f"{path} is no file of edgeml bench: {hint[:100]}, {FORMAT!r} is due", _AGAIN)
    if int(version) != VERSION:
        raise InputError(
            f"{path} has format {kind!r}, this version of EdgeML reads {FORMAT!r}",
            "upgrade edgeml-sdk" if int(version) > VERSION else _AGAIN,
        )
    _check(run, FIELDS, "", path)
    for engine in run["engines"]:
        cases = [(r["rows"], r["single"], r["threads"]) for r in engine["runs"]]
        if len(set(cases)) < len(cases) or [e["engine"] for e in run["engines"]].count(engine["engine"]) > 1:
            raise InputError(f"{path}: engine {engine['engine']!r:.60} has two figures for one case", _AGAIN)
    return dict(run)


def _check(value: Any, kind: Any, where: str, path: Path) -> None:
    if isinstance(kind, Maybe):
        if value is not None:
            _check(value, kind.kind, where, path)
    elif isinstance(kind, Many):
        if not isinstance(value, list) or len(value) < kind.least:
            raise _wrong(path, where, value, f"a list of {kind.least} entries or more" if kind.least else "a list")
        for at, item in enumerate(value):
            _check(item, kind.kind, f"{where}[{at}]", path)
    elif isinstance(kind, ByName):
        if not isinstance(value, dict):
            raise _wrong(path, where, value, "an object")
        for key, item in value.items():
            _check(item, kind.kind, f"{where}.{key}"[:200], path)
    elif isinstance(kind, dict):
        if not isinstance(value, dict):
            raise _wrong(path, where, value, "an object")
        for key, inner in kind.items():
            field = f"{where}.{key}" if where else key
            if key not in value:
                raise InputError(f"{path}: {field} is missing", _AGAIN)
            _check(value[key], inner, field, path)
    elif not _TYPES[kind][1](value):
        raise _wrong(path, where, value, _TYPES[kind][0])


def _wrong(path: Path, where: str, value: Any, due: str) -> InputError:
    return InputError(f"{path}: {where} is {json.dumps(value)[:60]}, {due} is due", _AGAIN)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


# Type -> what a message calls it, and whether a value is one.
_TYPES: dict[Any, tuple[str, Any]] = {
    str: ("a text", lambda v: isinstance(v, str)),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: ("an integer", lambda v: type(v) is int),
    Count: ("an integer from 0", lambda v: type(v) is int and v >= 0),
    Figure: ("a number from 0", _number),
    Positive: ("a number above 0", lambda v: _number(v) and v > 0),
    Error: ('a number from 0 or "inf"', lambda v: _number(v) or v == "inf"),
}
