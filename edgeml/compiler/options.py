"""What the caller of ``compile`` asked for, checked before anything is read: every wrong option is named at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeml.errors import CompileError, FormatError
from edgeml.quantize.budget import Budget, check_budget
from edgeml.quantize.forms import check_quantize
from edgeml.targets.base import TARGETS
from edgeml.targets.devices import Device, device


@dataclass(frozen=True, slots=True)
class Options:
    """``formats``: those asked for by name, None for auto. ``output``: the file to write."""

    output: Path
    formats: tuple[str, ...] | None
    quantize: str
    device: Device
    budget: Budget | None
    name: str
    version: int

    @property
    def made(self) -> tuple[str, ...]:
        """The formats to make: those asked for by name, else all that the device runs."""
        return self.formats or self.device.formats

    @property
    def why_not_made(self) -> str:
        return "not asked for" if self.formats else f"the target {self.device.name} does not run it"


def check_options(
    pipeline: Any,
    output: str | Path | None,
    formats: str | Sequence[str],
    quantize: str,
    target: str,
    budget: Any,
    name: str | None,
    version: int | None,
) -> Options:
    """The options of ``compile``, with their defaults. Raises CompileError for one that cannot be honoured."""
    check_quantize(quantize)
    chosen, limits = device(target), check_budget(budget)
    wanted = _formats(formats)
    path = Path(output) if output is not None else Path(f"{name or type(pipeline).__name__.lower()}.edgeml")
    options = Options(path, wanted, quantize, chosen, limits, name or path.stem, _version(version))
    if not path.parent.is_dir():
        raise CompileError(f"the folder {path.parent} does not exist", "create it, or write elsewhere")
    return options


def _formats(formats: str | Sequence[str]) -> tuple[str, ...] | None:
    if formats == "auto":
        return None
    names = (formats,) if isinstance(formats, str) else tuple(formats)
    unknown = [n for n in names if n not in TARGETS]
    if unknown or not names:
        raise FormatError(
            f"unknown format {', '.join(map(repr, unknown)) or '(none given)'}",
            f'use "auto", or some of: {", ".join(TARGETS)}',
        )
    return names


def _version(version: int | None) -> int:
    if version is None:
        return 1
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise CompileError(f"version={version!r} is not an integer from 1 on", "count model versions 1, 2, 3, …")
    return version
