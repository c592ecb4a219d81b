"""A bundle before it is written: the manifest, and the members that do not depend on a verdict.

Judges write a draft aside to run its artifacts, and may take one out of it.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bundle import write_bundle
from edgeml.compiler.lowering import Lowered
from edgeml.compiler.options import Options
from edgeml.compiler.source import Converted, Source
from edgeml.compiler.truths import Truths
from edgeml.golden import write_golden
from edgeml.jsonutil import dumps
from edgeml.parity.golden_rows import GoldenRows
from edgeml.profile import build_profile
from edgeml.runtimes.frames import read_rows
from edgeml.sample import classes_of

_VERSIONS = (
    "edgeml-sdk", "scikit-learn", "numpy", "scipy", "pandas",
    "onnx", "onnxruntime", "onnx-ir", "skl2onnx", "numba", "llvmlite", "ai-edge-litert", "flatbuffers",
)  # fmt: skip


@dataclass(frozen=True)
class Draft:
    """``members`` lack the report."""

    manifest: dict[str, Any]
    members: dict[str, bytes]

    def without(self, format: str, reason: str) -> Draft:
        """The draft without an artifact, which the manifest then gives the reason for."""
        artifacts = dict(self.manifest["artifacts"])
        gone = set(artifacts.pop(format)["members"])
        missing = {**self.manifest["missing"], format: reason}
        manifest = {**self.manifest, "artifacts": artifacts, "missing": missing}
        return Draft(manifest, {name: data for name, data in self.members.items() if name not in gone})

    def with_golden(self, golden: GoldenRows) -> Draft:
        """The draft with these golden rows in the place of its own."""
        return replace(self, members=self.members | _golden_members(golden))

    def write(self, path: Path, report: Mapping[str, Any], sign_with: Any = None) -> None:
        write_bundle(path, self.manifest, self.members | {"report.json": dumps(report)}, sign_with=sign_with)


def make_draft(
    source: Source, converted: Converted, truths: Truths, golden: GoldenRows, lowered: Lowered, options: Options
) -> Draft:
    """The bundle with every artifact that was lowered."""
    schema = converted.about.schema
    columns, _ = read_rows(source.profiled.rows, schema)
    profile = build_profile(columns, schema, truths.answers.outputs)
    members = {name: data for parts in lowered.artifacts.values() for name, data in parts.items()}
    members |= {"schema.json": dumps(schema.to_json()), "profile.json": dumps(profile)}
    manifest = _manifest(source.pipeline, converted, lowered, options) | {"profile_sha256": profile["sha256"]}
    return Draft(manifest, members | _golden_members(golden))


def _manifest(pipeline: Any, converted: Converted, lowered: Lowered, options: Options) -> dict[str, Any]:
    returns = converted.returns
    classes = classes_of(pipeline) if "predict" in returns else None
    return {
        "format_version": 1,
        "name": options.name,
        "version": options.version,
        "estimator": _describe(pipeline),
        "methods": {
            m: {"form": form, "dtype": dtype} | ({"widths": converted.widths[m]} if m in converted.widths else {})
            for m, (form, dtype) in returns.items()
        },
        "classes": None if classes is None else _labels(classes),
        "artifacts": {
            n: {"members": sorted(parts), "bytes": sum(map(len, parts.values()))}
            for n, parts in lowered.artifacts.items()
        },
        "missing": dict(lowered.missing),
        "quantize": options.quantize,
        "target": options.device.name,
        "versions": dict(_installed()),
    }


def _labels(classes: Any) -> list[Any]:
    """``classes_``, which is a list of arrays where the estimator has several outputs."""
    if isinstance(classes, list) and all(isinstance(labels, np.ndarray) for labels in classes):
        return [labels.tolist() for labels in classes]
    found: list[Any] = np.asarray(classes).tolist()
    return found


def _describe(pipeline: Any) -> str:
    steps = getattr(pipeline, "steps", None)
    if steps is None:
        return type(pipeline).__name__
    return f"{type(pipeline).__name__}({', '.join(type(s).__name__ for _, s in steps if not isinstance(s, str))})"


@cache
def _installed() -> dict[str, str]:
    """Versions by package: what pip wrote beside each is read and parsed once, not for every bundle."""
    found = {"python": platform.python_version()}
    for package in _VERSIONS:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _golden_members(golden: GoldenRows) -> dict[str, bytes]:
    index, blob = write_golden(golden.columns, golden.outputs, golden.refused)
    return {"golden.json": dumps(index), "golden.bin": blob}
