"""Compares the leaves that rows reach, tree by tree: sums can agree by luck where leaves differ.

The program's trees are compiled once more with their leaf numbers as outputs, by the same targets and run by the same
engines. The interpreter is the common reference, and scikit-learn's own ``apply`` where the pipeline has one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bundle import open_bundle, write_bundle
from edgeml.errors import FormatError
from edgeml.ir import Program, interpreter
from edgeml.ir.interpreter import needed
from edgeml.ir.table import Array
from edgeml.jsonutil import dumps
from edgeml.parity.leaves import leaf_program, sklearn_leaves
from edgeml.parity.truth import Truth, quiet
from edgeml.passes import optimise, simplify
from edgeml.profile import build_profile
from edgeml.quantize import program_for
from edgeml.runtimes.base import Engine
from edgeml.runtimes.engines import open_engine, precision
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.in_range import run_in_range
from edgeml.sample import Sample
from edgeml.targets.base import About, Programs, target

LEAF_ROWS = 1000


def check_leaves(
    pipeline: Any,
    programs: Programs,
    manifest: Mapping[str, Any],
    about: About,
    truths: Mapping[str, tuple[Sample, Truth]],
    folder: str | Path,
    quantize: str = "none",
    most: int = LEAF_ROWS,
) -> dict[str, Any]:
    """Leaves of every engine against the interpreter and scikit-learn, on up to ``most`` rows of each set; JSON-ready.

    ``problems``, by engine (or "program" for what all engines share), is empty when all agree. ``out_of_range`` counts
    rows that an engine refuses since float32 cannot follow them.
    """
    names = _exact_leaves(leaf_program(programs.folded))
    if not names:
        return {"trees": 0, "problems": {}}
    probes = Programs(optimise(_probe(programs.folded, names)), simplify(_probe(programs.plain, names)))
    parts = [Sample(s.take(t.answered[:most]), s.schema) for s, t in truths.values() if len(t.answered)]
    columns = [read_rows(p.rows, p.schema) for p in parts]
    reference = [interpreter.run(probes.folded, c) for c, _ in columns]
    trees = sum(reference[0][n].shape[1] for n in names)
    result: dict[str, Any] = {
        "trees": trees,
        "rows": sum(n for _, n in columns),
        "different": {},
        "out_of_range": {},
        "problems": {},
    }
    if len(names) == sum(node.op == "TreeEnsemble" for node in programs.folded.nodes):
        _against_sklearn(pipeline, parts, reference, names, result)
    # The probe reads a subset of the columns; the schema of the model itself still describes the rows.
    for engine in manifest["artifacts"]:
        path = Path(folder) / f"leaves-{engine}.edgeml"
        try:
            artifact = target(engine).lower(program_for(engine, probes.of(engine), quantize), about)
        except FormatError as error:
            result["problems"][engine] = f"its leaves cannot be compared: {error.cause}"
            continue
        _write_probe(path, manifest, about, engine, artifact, names, probes.folded, columns[0][0])
        different, outside = _different(path, engine, columns, reference, names)
        result["different"][engine], result["out_of_range"][engine] = different, outside
        if different:
            result["problems"][engine] = f"{different} rows reach other leaves"
    return result


_NOT_JUDGED = ("FakeQuantize", "DynamicQuantize", "QuantizedLinear", "OnnxGraph")


def _exact_leaves(program: Program) -> list[str]:
    """The outputs that are leaves, but for trees that read what a quantiser has rounded, or what only ONNX computes."""
    names = []
    for name, output in program.outputs.items():
        if name.startswith("leaves_"):
            keep = needed(program.with_outputs([output]), [name])[len(program.inputs) :]
            if not any(kept and node.op in _NOT_JUDGED for kept, node in zip(keep, program.nodes, strict=True)):
                names.append(name)
    return names


def _probe(program: Program, names: Sequence[str]) -> Program:
    probe = leaf_program(program)
    return probe.with_outputs([probe.outputs[n] for n in names])


def _different(
    path: Path,
    engine: str,
    columns: Sequence[tuple[Mapping[str, Array], int]],
    reference: Sequence[Mapping[str, Array]],
    names: Sequence[str],
) -> tuple[int, int]:
    """How many rows reach another leaf in one engine, and how many are beyond its range."""
    different = outside = 0
    with open_bundle(path) as bundle:
        running = open_engine(bundle, engine, threads=1)
        for (cells, rows), want in zip(columns, reference, strict=True):
            got, within = run_in_range(partial(_run, running, cells, names), rows, precision(engine))
            different += sum(int((got[n] != want[n][within]).any(axis=1).sum()) for n in names if got)
            outside += int((~within).sum())
    return different, outside


def _run(engine: Engine, columns: Mapping[str, Array], names: Sequence[str], rows: Array) -> dict[str, Array]:
    return engine.run({name: cells[rows] for name, cells in columns.items()}, len(rows), names)


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
        result["problems"]["program"] = f"{different} rows reach other leaves than in scikit-learn"


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
