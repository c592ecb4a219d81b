"""Reads ``--budget``: the limits that a quantised artifact keeps, from text to the keyword arguments of
``edgeml.quantize.budget.Budget``.

One table says what each limit takes; whatever does not fit is a usage error that names the limit and shows it well
formed. Used by compile.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import click

Limits = dict[str, Any]  # keyword arguments: numbers, or None where a limit is lifted

_NUMBER = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_BYTES = re.compile(rf"({_NUMBER.pattern})\s*(B|[KMG]B|[KMG]iB)?", re.ASCII | re.IGNORECASE)
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_OFF = ("none", "off")


def parse(specs: Sequence[str]) -> Limits | None:
    """The limits of every SPEC, each ``key=value`` or several with commas between; None when there are none.

    Raises click.BadParameter naming the key: an unknown one, given twice, or with a value that it does not take.
    """
    limits: Limits = {}
    for part in (part.strip() for spec in specs for part in spec.split(",")):
        key, equals, text = (piece.strip() for piece in part.partition("="))
        if key not in _KEYS:
            raise click.BadParameter(
                f"{key!r} is not a limit; there are: {', '.join(_KEYS)}. {_example('label_flips')}"
                if key
                else f"a limit is missing. {_example('label_flips')}"
            )
        if key in limits:
            raise click.BadParameter(f"{key} is given twice. {_example(key)}")
        entry = _KEYS[key]
        if text.lower() in _OFF and entry.may_be_off:
            limits[key] = None
            continue
        value = entry.read(text) if equals else None
        if value is None:
            given = f"is {text!r}" if text else "has no value"
            raise click.BadParameter(f"{key} {given}, where {entry.due} is due. {_example(key)}")
        limits[key] = value
    return limits or None


def callback(context: click.Context, option: click.Parameter, specs: tuple[str, ...]) -> Limits | None:
    """``parse`` as click calls it."""
    return parse(specs)


def _example(key: str) -> str:
    return f"Example: --budget {key}={_KEYS[key].example}"


def _number(text: str) -> float | None:
    """A finite number from 0 on; no sign, so nothing negative."""
    value = float(text) if _NUMBER.fullmatch(text) else math.inf
    return value if math.isfinite(value) else None


def _share(text: str) -> float | None:
    """A number from 0 to 1, or the same in percent."""
    percent = text.endswith("%")
    value = _number(text.removesuffix("%").rstrip())
    if value is None:
        return None
    # 3.1 % is 0.031 to the bit, which multiplying by 0.01 is not.
    value = value / 100 if percent else value
    return value if value <= 1 else None


def _confidence(text: str) -> float | None:
    value = _share(text)
    return value if value is not None and 0.5 <= value < 1 else None


def _bytes(text: str) -> int | None:
    """Whole bytes from 1 on, with or without a unit: KB, MB, GB are thousands, KiB, MiB, GiB are 1024s."""
    match = _BYTES.fullmatch(text)
    if match is None:
        return None
    count = float(match[1]) * _UNITS[(match[2] or "B").lower()]
    return int(count) if math.isfinite(count) and count >= 1 else None


def _above_zero(text: str) -> float | None:
    value = _number(text)
    return value if value is not None and value > 0 else None


@dataclass(frozen=True, slots=True)
class _Key:
    """How a limit is read, what that takes in words, a good example, and whether "off" lifts the limit."""

    read: Callable[[str], float | int | None]
    due: str
    example: str
    may_be_off: bool = True


_SHARE = "a share from 0 to 1 or in percent, or off"
_KEYS = {
    "label_flips": _Key(_share, _SHARE, "0.1%"),
    "metric_drop": _Key(_share, _SHARE, "0.002"),
    "max_abs_error": _Key(_number, "a number from 0 on, or off", "0.05"),
    "max_bytes": _Key(_bytes, "a size such as 13KB, 2MiB or 13000, or off", "13KB"),
    "max_latency_us": _Key(_above_zero, "microseconds above 0, or off", "50"),
    "confidence": _Key(_confidence, "a share from 0.5 to below 1 or in percent", "95%", may_be_off=False),
}
KEYS = tuple(_KEYS)
