"""What ``quantize`` may be, and the program each format is made from.

The compiler and its check of leaves ask here. "lossless" concerns the native artifact alone: its trees compare ranks
and equal leaves are stored once, bit for bit the same answers. The other formats keep the program as it is, since ONNX
has no operator for trees over integers and TFLite ranks by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml._version import __version__
from edgeml.errors import CompileError
from edgeml.ir import Program
from edgeml.passes.lossless import lossless
from edgeml.targets.base import About, target

QUANTIZE = ("none", "lossless")
_LOSSLESS_FORMATS = ("native",)


def check_quantize(quantize: str) -> None:
    """Raise CompileError for a value that is none of QUANTIZE."""
    if quantize not in QUANTIZE:
        raise CompileError(
            f"quantize={quantize!r} is not available in edgeml-sdk {__version__}",
            f"use one of: {', '.join(QUANTIZE)}",
        )


def program_for(format: str, program: Program, quantize: str) -> Program:
    """The program that the artifact ``format`` is made from."""
    return lossless(program) if quantize == "lossless" and format in _LOSSLESS_FORMATS else program


def describe(
    program: Program, about: About, artifacts: Mapping[str, Mapping[str, bytes]], quantize: str
) -> dict[str, Any]:
    """For the report, JSON-ready: bytes of each quantised member against the same one without, and what was done."""
    if quantize == "none":
        return {"how": quantize, "members": {}, "note": ""}
    members: dict[str, dict[str, int]] = {}
    for name in _LOSSLESS_FORMATS:
        if name in artifacts:
            plain = target(name).lower(program, about)
            members |= {m: {"none": len(plain[m]), quantize: len(data)} for m, data in artifacts[name].items()}
    trees = sum(node.op == "TreeEnsemble" for node in program.nodes)
    note = f"{trees} tree ensemble{'' if trees == 1 else 's'}" if trees else "no trees: the program is the same"
    return {"how": quantize, "members": members, "note": note}
