"""A hand-written program in a bundle, and an engine that interprets it: for tests of what is around engines.

The program is a classifier of two raw columns, ``x`` (float64, infinity refused) and ``c`` (string), with
labels "no" and "yes"; column ``unread`` is never read. ``write`` makes the bundle, with golden rows from
the interpreter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeml.bundle import write_bundle
from edgeml.bundle.arrays import pack, unpack
from edgeml.golden import write_golden
from edgeml.ir import Builder, Program, interpreter, serial
from edgeml.jsonutil import dumps
from edgeml.runtimes.base import generic_one
from edgeml.runtimes.engines import Entry
from edgeml.schema import Column, Schema
from edgeml.targets.base import About, target

SCHEMA = Schema("columns", (Column("x", "float64"), Column("c", "string", null="none"), Column("unread", "any", False)))
COLUMNS = {
    "x": np.array([0.5, -1.0, np.nan, -0.0, 1e300, np.inf]),
    "c": np.array(["AA", "UA", None, float("nan"), "\U0001f600", "AA"], dtype=object),
}
REFUSED = np.array([False] * 5 + [True])
# Rows as a caller gives them, and P(yes) of each.
ROWS = [{"x": 0.5, "c": "AA"}, {"x": -1.0, "c": "UA"}, {"x": float("nan"), "c": None}]
YES = 1 / (1 + np.exp(-np.array([1.5, -3.0, 0.375])))
ENTRY = Entry("tests.small_bundle", "InterpreterEngine", "interpreted", None, "")


def program(outputs: Sequence[str] = ("predict", "predict_proba")) -> Program:
    """P(yes) is a sigmoid of x where it is known, and moved by the carrier."""
    b = Builder()
    x, c = b.input("x", "float64"), b.input("c", "string")
    x = b.check_finite(x, "scale", allow_nan=True)
    known = b.where(b.is_nan(x), 0.25, x)
    shift = b.take(b.lookup(c, ("AA", "UA", None)) + 1, np.array([0.0, 1.0, -2.0, 0.125]))
    yes = b.op("Sigmoid", known + shift)
    if "predict" in outputs:
        b.output("predict", [b.take((yes > 0.5).cast("int64"), ("no", "yes"))], "vector", "<U3")
    if "predict_proba" in outputs:
        b.output("predict_proba", [1.0 - yes, yes], "matrix", "<f8")
    if "transform" in outputs:
        b.output("transform", [x, yes], "matrix", "<f8")
    return b.finish()


def write(
    path: Path,
    *,
    formats: Sequence[str] = ("interpreted",),
    outputs: Sequence[str] = ("predict", "predict_proba"),
    change: Callable[[dict[str, Any], dict[str, bytes]], None] | None = None,
    sign_with: Any = None,
) -> Path:
    """Write the bundle. ``change`` may edit the manifest and the members first."""
    p = program(outputs)
    artifacts: dict[str, Mapping[str, bytes]] = {}
    for name in formats:
        if name == "interpreted":
            description, arrays = serial.dump(p)
            index, blob = pack(arrays)
            artifacts[name] = {"interpreted.json": dumps([description, index]), "interpreted.bin": blob}
        else:
            artifacts[name] = target(name).lower(p, About("small", 3, SCHEMA))
    answered = interpreter.run(p, {k: v[~REFUSED] for k, v in COLUMNS.items()})
    golden, binary = write_golden(COLUMNS, answered, REFUSED)
    members = {name: data for parts in artifacts.values() for name, data in parts.items()}
    members |= {
        "schema.json": dumps(SCHEMA.to_json()),
        "report.json": dumps({"bounds": {}}),
        "golden.json": dumps(golden),
        "golden.bin": binary,
    }
    manifest: dict[str, Any] = {
        "format_version": 1,
        "name": "small",
        "version": 3,
        "estimator": "Pipeline(Small)",
        "methods": {o.name: {"form": o.form, "dtype": o.dtype} for o in p.outputs.values()},
        "classes": ["no", "yes"] if "predict" in outputs else None,
        "artifacts": {
            n: {"members": sorted(parts), "bytes": sum(map(len, parts.values()))} for n, parts in artifacts.items()
        },
        "missing": {f: "not asked for" for f in ("native", "onnx") if f not in formats},
        "quantize": "none",
        "target": "generic",
        "profile_sha256": None,
        "versions": {},
    }
    if change is not None:
        change(manifest, members)
    write_bundle(path, manifest, members, sign_with)
    return path


class InterpreterEngine:
    """The meaning of the program itself, as an engine."""

    name = "interpreted"
    text_library = None

    def __init__(self, program: Program, schema: Schema) -> None:
        self._program, self._schema = program, schema

    @classmethod
    def open(cls, bundle: Any, threads: int) -> InterpreterEngine:
        description, index = json.loads(bytes(bundle.member("interpreted.json")))
        arrays = unpack(index, bundle.member("interpreted.bin"))
        return cls(serial.load(description, arrays), bundle.schema)

    def run(self, columns: Mapping[str, Any], rows: int, methods: Sequence[str]) -> dict[str, Any]:
        return interpreter.run(self._program, columns, methods)

    def one(self, method: str) -> Callable[[Any], Any]:
        return generic_one(self, self._schema, method)
