"""Artifacts from programs: every format that was asked for, and the reason for each that cannot be made.

``sources`` says which program each artifact is made from; a quantiser puts its own there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeml.errors import FormatError
from edgeml.ir import Program
from edgeml.ir.table import Array
from edgeml.quantize import program_for
from edgeml.targets.base import TARGETS, About, Programs, target, too_large


@dataclass(frozen=True)
class Lowered:
    """``artifacts``: members by format; ``missing``: the reason for each format that has none."""

    artifacts: dict[str, Mapping[str, bytes]]
    missing: dict[str, str]


def sources(programs: Programs, formats: Sequence[str], quantize: str) -> dict[str, Program]:
    """The program that each of the formats is made from."""
    return {name: program_for(name, programs.of(name), quantize) for name in formats}


def lower(
    made_from: Mapping[str, Program],
    about: About,
    sample: Mapping[str, Array],
    *,
    strict: bool,
    absent: str = "not asked for",
    some: bool = True,
) -> Lowered:
    """All artifacts. ``sample``: raw columns of rows that the pipeline answers.

    ``absent`` is why formats are missing that ``made_from`` does not name. Raises FormatError for a format that cannot
    be made when ``strict``, and when none can but ``some`` must.
    """
    artifacts: dict[str, Mapping[str, bytes]] = {}
    missing: dict[str, str] = {}
    for name, program in made_from.items():
        if not strict and (reason := too_large(name, program)):
            missing[name] = reason
            continue
        try:
            artifacts[name] = target(name).lower(program, about, sample)
        except FormatError as error:
            if strict:
                raise
            missing[name] = error.cause
    if not artifacts and some:
        raise FormatError("; ".join(f"{n}: {r}" for n, r in missing.items()), "no format can express this pipeline")
    for name in TARGETS:
        if name not in artifacts and name not in missing:
            missing[name] = absent
    return Lowered(artifacts, missing)
