"""The table of engines, and the choice among them: the one place that knows which engine runs which artifact.

Comes in: an open bundle and the name the caller gave; goes out: an engine on it, or an EngineError that says
what to do. ``load`` and the compiler's parity check call it. An engine's module is imported when it is
opened, not before.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from edgeml.bundle.read import Bundle
from edgeml.errors import EngineError, EngineNotInBundleError, EngineNotInstalledError, UnknownEngineError
from edgeml.runtimes.base import Engine

if TYPE_CHECKING:
    from edgeml.compare import Precision


@dataclass(frozen=True, slots=True)
class Entry:
    """``artifact``: the bundle's format it runs. ``package`` must be importable; ``install`` gets it.

    ``package`` is None for an engine that needs none, or that looks for its own. ``precision`` is what it computes in,
    which edgeml.compare measures its answers by. ``options`` says that its ``open`` takes options.
    """

    module: str
    class_name: str
    artifact: str
    package: str | None
    install: str
    precision: Precision = "float64"
    options: bool = False


# In the order in which "auto" prefers them. Adding an engine is a module and a line here.
ENGINES = {
    "native": Entry("edgeml.runtimes.native", "NativeEngine", "native", None, "pip install edgeml-sdk"),
    "onnx": Entry("edgeml.runtimes.onnx", "OnnxEngine", "onnx", "onnxruntime", "pip install 'edgeml-sdk[onnx]'"),
    # Either of two packages will do: the engine finds out by itself.
    "tflite": Entry(
        "edgeml.runtimes.tflite", "TfliteEngine", "tflite", None, "pip install 'edgeml-sdk[tflite]'", "float32", True
    ),
}


def precision(name: str) -> Precision:
    """What the engine ``name`` computes in."""
    return ENGINES[name].precision


def open_engine(
    bundle: Bundle, name: str = "auto", threads: int = 1, options: Mapping[str, Any] | None = None
) -> Engine:
    """Open the engine ``name``; "auto" takes the first of the table whose artifact the bundle has.

    Raises UnknownEngineError, EngineNotInBundleError (with the manifest's reason), EngineNotInstalledError
    (with the pip command), and EngineError for options that the engine does not have.
    """
    if name != "auto" and name not in ENGINES:
        raise UnknownEngineError(f"there is no engine {name!r}", f"use one of: auto, {', '.join(ENGINES)}")
    artifacts = bundle.manifest["artifacts"]
    if name == "auto":
        present = [n for n, e in ENGINES.items() if e.artifact in artifacts]
        if not present:
            raise EngineNotInBundleError(
                f"{bundle.path} has no artifact that this version of EdgeML can run; "
                f"it has: {', '.join(artifacts) or 'none'}",
                "upgrade edgeml-sdk, or compile the pipeline again",
            )
        name = present[0]
    entry = ENGINES[name]
    if entry.artifact not in artifacts:
        reason = bundle.manifest["missing"].get(entry.artifact, "the bundle does not say why")
        usable = [n for n, e in ENGINES.items() if e.artifact in artifacts]
        raise EngineNotInBundleError(
            f"{bundle.path} has no {entry.artifact} artifact for the engine {name!r}: {reason}",
            f"use engine={usable[0]!r}" if usable else "compile the pipeline again with that format",
        )
    if options and not entry.options:
        able = [n for n, e in ENGINES.items() if e.options]
        raise EngineError(
            f"the engine {name!r} has no option {next(iter(options))!r}, nor any other",
            f"leave options out, or use an engine that has some: {', '.join(able)}",
        )
    if entry.package is not None and not _installed(entry.package):
        raise EngineNotInstalledError(
            f"the engine {name!r} needs {entry.package}, which is not installed", entry.install
        )
    try:
        engine = getattr(import_module(entry.module), entry.class_name)
        return cast("Engine", engine.open(bundle, threads, options) if options else engine.open(bundle, threads))
    except ImportError as error:
        if entry.package is None or (error.name or "").partition(".")[0] != entry.package:
            raise
        raise EngineNotInstalledError(
            f"the engine {name!r} needs {entry.package}, which cannot be imported: {error}", entry.install
        ) from error


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a package that a program has blocked or half removed
        return False
