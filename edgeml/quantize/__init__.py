"""Quantisation: ways to make a program's weights narrow, and the search for the smallest form inside a budget.

``quantize="lossless"`` concerns the native artifact alone: its trees compare ranks and equal leaves are stored once,
with the same answers to the bit. Every other way but "none" rounds: forms.py lists them, search.py chooses among them,
judge.py measures what they cost. All of it happens on the program, so every format is made from the same decisions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml.ir import Program
from edgeml.passes.lossless import lossless
from edgeml.passes.raw import raw
from edgeml.targets.base import About, target

_LOSSLESS_FORMATS = ("native",)


def program_for(format: str, program: Program, quantize: str) -> Program:
    """The program that the artifact ``format`` is made from, given one that is quantised already.

    The native one reads raw columns. Whatever else is rounded, its trees are lossless: ranks and shared leaves cost
    nothing.
    """
    if format != "native":
        return program
    program = raw(program)
    return lossless(program) if quantize != "none" else program


def describe(
    program: Program, about: About, artifacts: Mapping[str, Mapping[str, bytes]], quantize: str
) -> dict[str, Any]:
    """The report's part where nothing is rounded, JSON-ready: bytes of each member against the same one without."""
    formats: dict[str, Any] = {}
    for name in _LOSSLESS_FORMATS if quantize != "none" else ():
        if name in artifacts:
            plain = target(name).lower(program_for(name, program, "none"), about)
            members = {m: {"float": len(plain[m]), "quantized": len(data)} for m, data in artifacts[name].items()}
            formats[name] = {"members": members}
    return {"mode": quantize} | ({"formats": formats} if formats else {})
