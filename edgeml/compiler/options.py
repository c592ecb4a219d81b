"""What the caller of ``compile`` asked for, checked before anything is read: every wrong option is named at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeml.errors import BudgetValueError, CompileError, FormatError
from edgeml.quantize.budget import Budget, check_budget
from edgeml.quantize.forms import ROUNDING, check_quantize
from edgeml.targets.base import TARGETS
from edgeml.targets.devices import Device, device


@dataclass(frozen=True, slots=True)
class Options:
    """``formats``: those asked for by name, None for auto. ``output``: the file to write.

    ``budget`` limits bytes by what the device holds where the caller named no limit.
    """

    output: Path
    formats: tuple[str, ...] | None
    quantize: str
    device: Device
    budget: Budget
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
    chosen = device(target)
    limits = _limits(check_budget(budget), quantize, chosen)
    wanted = _formats(formats)
    path = Path(output) if output is not None else Path(f"{name or type(pipeline).__name__.lower()}.edgeml")
    options = Options(path, wanted, quantize, chosen, limits, name or path.stem, _version(version))
    if not path.parent.is_dir():
        raise CompileError(f"the folder {path.parent} does not exist", "create it, or write elsewhere")
    return options


def _limits(budget: Budget | None, quantize: str, chosen: Device) -> Budget:
    """The budget with its defaults. Raises BudgetValueError for one that has nothing to limit."""
    if budget is not None and quantize not in ROUNDING and budget.max_bytes is None and budget.max_latency_us is None:
        raise BudgetValueError(
            f"the budget limits what rounding may cost, and quantize={quantize!r} rounds nothing",
            f"leave it out, limit max_bytes or max_latency_us, or quantise with one of: {', '.join(ROUNDING)}",
        )
    limits = budget or Budget()
    return limits if limits.max_bytes is not None else replace(limits, max_bytes=chosen.default_max_bytes)


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
