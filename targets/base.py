"""What a target is: a name, and a way from a program to bundle members. One dict lists them all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from edgeml.ir import Program
from edgeml.schema import Schema


@dataclass(frozen=True, slots=True)
class About:
    """What an artifact says of itself: model name, model version, and the raw columns it was compiled for."""

    name: str
    version: int
    schema: Schema


class Target(Protocol):
    """A module of this package with a function ``lower``."""

    def lower(self, program: Program, about: About) -> Mapping[str, bytes]:
        """Bundle members, name to bytes. Raises FormatError with the reason when the program cannot be expressed."""
        ...


# Format name -> module. Adding a target is a module and a line here.
_TARGETS = {"native": "edgeml.targets.native", "onnx": "edgeml.targets.onnx"}
TARGETS = tuple(_TARGETS)


def target(name: str) -> Target:
    """The target called ``name``; its libraries are imported only now."""
    return cast("Target", import_module(_TARGETS[name]))
