"""What a target is: a name, and a way from a program to bundle members. One table lists them all."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

from edgeml.errors import FormatError
from edgeml.ir import Program
from edgeml.ir.sparse import SOURCES
from edgeml.ir.table import Array
from edgeml.schema import Schema


@dataclass(frozen=True, slots=True)
class About:
    """What an artifact says of itself: model name, model version, and the raw columns it was compiled for."""

    name: str
    version: int
    schema: Schema


class Target(Protocol):
    """A module of this package with a function ``lower``."""

    def lower(self, program: Program, about: About, sample: Mapping[str, Array] | None = None) -> Mapping[str, bytes]:
        """Bundle members, name to bytes. Raises FormatError with the reason when the program cannot be expressed.

        ``sample``: raw columns of rows that the pipeline answers, as ``read_rows`` gives them.
        """
        ...


@dataclass(frozen=True, slots=True)
class Entry:
    """``folds_scaling``: lowered from ``passes.optimise``; a target that does not is lowered from ``passes.simplify``.

    ``extra`` is what pip installs the target's libraries with. ``most_nodes`` of trees are what "auto" makes it for.
    """

    module: str
    folds_scaling: bool
    extra: str
    most_nodes: int | None = None


# ONNX's and TFLite's libraries hold every node several times over: 430 bytes each at the peak for ONNX, 3.7 GB in all
# for a forest of 5 million nodes, whose native artifact takes 1.6.
_MOST_NODES = 2_000_000
# Terms of a vocabulary that "auto" makes an ONNX model of: 0.8 MB a document and temporary.
_MOST_TERMS = 100_000

# By format name. Adding a target is a module and a line here.
TARGETS = {
    "native": Entry("edgeml.targets.native", folds_scaling=True, extra="compile"),
    "onnx": Entry("edgeml.targets.onnx", folds_scaling=True, extra="compile", most_nodes=_MOST_NODES),
    # A fold moves the cancellation of a large mean into float32.
    "tflite": Entry("edgeml.targets.tflite", folds_scaling=False, extra="tflite", most_nodes=_MOST_NODES),
}


@dataclass(frozen=True, slots=True)
class Programs:
    """One pipeline's program as the targets take it: with scaling folded, and as it is."""

    folded: Program
    plain: Program

    def of(self, name: str) -> Program:
        """The program that the target ``name`` is lowered from."""
        return self.folded if TARGETS[name].folds_scaling else self.plain


def too_large(name: str, program: Program) -> str:
    """Why "auto" leaves the format out for a program of so many tree nodes or terms; '' where it does not."""
    terms = max((node.type.width for node in program.nodes if node.op == "Terms"), default=0)
    if name == "onnx" and terms > _MOST_TERMS:
        return f"{terms:,} terms, and its rows are dense: beyond {_MOST_TERMS:,} they take too long; ask for it by name"
    most = TARGETS[name].most_nodes
    nodes = sum(len(node.attrs["feature"]) for node in program.nodes if node.op in ("TreeEnsemble", "TreeLeaves"))
    if most is None or nodes <= most:
        return ""
    return f"{nodes:,} tree nodes: beyond {most:,} making it takes gigabytes; ask for it by name"


def refuse_texts(program: Program, format: str, reason: str, ops: Collection[str] | None = None) -> None:
    """Raise FormatError where a step takes texts apart, by one of ``ops`` or by any, for ``reason``."""
    for node in program.nodes:
        if node.op in (SOURCES if ops is None else ops):
            raise FormatError(
                f"step {node.origin or 'pipeline'} takes texts apart: {reason}",
                f"use engine='native' (formats=['native']), or leave out the format {format}",
            )


def target(name: str) -> Target:
    """The target called ``name``; its libraries are imported only now. Raises FormatError when one is not installed."""
    entry = TARGETS[name]
    try:
        return cast("Target", import_module(entry.module))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "edgeml"):
            raise
        raise FormatError(
            f"the format {name!r} needs {package.replace('_', '-')}, which is not installed",
            f'pip install "edgeml-sdk[{entry.extra}]"',
        ) from None
