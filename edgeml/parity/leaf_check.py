"""Compares the leaves that rows reach, tree by tree: sums can agree by luck where leaves differ.

The program's trees are compiled once more with their leaf numbers as outputs, by the same targets and run by the same
engines. The interpreter is the common reference, and scikit-learn's own ``apply`` where the pipeline has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bundle import open_bundle, write_bundle
from edgeml.ir import Program, interpreter
from edgeml.ir.table import Array
from edgeml.jsonutil import dumps
from edgeml.parity.leaves import leaf_program, sklearn_leaves
from edgeml.parity.truth import Truth, quiet
from edgeml.passes import optimise
from edgeml.profile import build_profile
from edgeml.quantize import program_for
from edgeml.runtimes.engines import open_engine
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample
from edgeml.targets.base import About, target

LEAF_ROWS = 1000


def check_leaves(
    pipeline: Any,
    program: Program,
    manifest: Mapping[str, Any],
    about: About,
    truths: Mapping[str, tuple[Sample, Truth]],
    folder: str,
    quantize: str = "none",
    most: int = LEAF_ROWS,
) -> dict[str, Any]:
    """Leaves of every engine against the interpreter and scikit-learn, on up to ``most`` rows of each set; JSON-ready.

    ``problems`` is empty when all agree.
    """
    probe = leaf_program(program)
    names = [n for n in probe.outputs if n.startswith("leaves_")]
    if not names:
        return {"trees": 0, "problems": []}
    probe = optimise(probe.with_outputs([probe.outputs[n] for n in names]))
    parts = [Sample(s.take(t.answered[:most]), s.schema) for s, t in truths.values() if len(t.answered)]
    columns = [read_rows(p.rows, p.schema) for p in parts]
    reference = [interpreter.run(probe, c) for c, _ in columns]
    trees = sum(reference[0][n].shape[1] for n in names)
    result: dict[str, Any] = {
        "trees": trees,
        "rows": sum(n for _, n in columns),
        "different": {},
        "problems": [],
    }
    _against_sklearn(pipeline, parts, reference, names, result)
    # The probe reads a subset of the columns; the schema of the model itself still describes the rows.
    for engine in manifest["artifacts"]:
        path = Path(folder) / f"leaves-{engine}.edgeml"
        artifact = target(engine).lower(program_for(engine, probe, quantize), about)
        _write_probe(path, manifest, about, engine, artifact, names, probe, columns[0][0])
        with open_bundle(path) as bundle:
            running = open_engine(bundle, engine, threads=1)
            different = 0
            for (cells, rows), want in zip(columns, reference, strict=True):
                got = running.run(cells, rows, names)
                different += sum(int((got[n] != want[n]).any(axis=1).sum()) for n in names)
        result["different"][engine] = different
        if different:
            result["problems"].append(f"{engine} engine: {different} rows reach other leaves")
    return result


def _against_sklearn(
    pipeline: Any,
    parts: Sequence[Sample],
    reference: Sequence[Mapping[str, Array]],
    names: Sequence[str],
    result: dict[str, Any],
) -> None:
    result["sklearn"] = None
    if len(names) != 1:
        return
    different = 0
    for part, want in zip(parts, reference, strict=True):
        with quiet():
            leaves = sklearn_leaves(pipeline, part.rows)
        if leaves is None:
            return
        different += int((np.asarray(leaves) != want[names[0]]).any(axis=1).sum())
    result["sklearn"] = different
    if different:
        result["problems"].append(f"program: {different} rows reach other leaves than in scikit-learn")


def _write_probe(
    path: Path,
    manifest: Mapping[str, Any],
    about: About,
    engine: str,
    artifact: Mapping[str, bytes],
    names: Sequence[str],
    probe: Program,
    columns: Mapping[str, Array],
) -> None:
    """A bundle like the model's own, but for its one artifact and its methods."""
    profile = build_profile(columns, about.schema, {})
    probe_manifest = dict(manifest) | {
        "methods": {n: {"form": "matrix", "dtype": probe.outputs[n].dtype} for n in names},
        "classes": None,
        "artifacts": {engine: {"members": sorted(artifact), "bytes": sum(map(len, artifact.values()))}},
        "missing": {},
        "profile_sha256": profile["sha256"],
    }
    empty = {"report.json": b"{}", "golden.json": b"{}", "golden.bin": b""}
    members = {
        **artifact,
        **empty,
        "schema.json": dumps(about.schema.to_json()),
        "profile.json": dumps(profile),
    }
    write_bundle(path, probe_manifest, members)
