"""Lowers programs and pipelines to TFLite and runs them in LiteRT; for the tests of the TFLite target and engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from edgeml.bundle import open_bundle, write_bundle
from edgeml.converters import to_program
from edgeml.ir import interpreter
from edgeml.jsonutil import dumps
from edgeml.passes import run_passes, simplify
from edgeml.passes.rank import RANK_TREES
from edgeml.schema import Column, Schema
from edgeml.targets.base import About
from edgeml.targets.tflite import lower
from edgeml.targets.tflite_graph import Model
from edgeml.targets.tflite_lowering import Lowering
from edgeml.targets.tflite_split import split
from tests.oracle import columns_of, reference, schema_of

ABOUT = About("small", 3, Schema("columns", (Column("x", "float64"),)))
NARROW = {"float64": np.float32, "float32": np.float32, "int64": np.int32, "bool": np.bool_}
OPERATORS = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}


def everyday():
    """The usual steps in front of a model for the frame of the fixture ``mixed``, not fitted."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), ["age", "income"]),
        (OneHotEncoder(handle_unknown="ignore"), ["colour"]),
        ("passthrough", ["member"]),
    )


def interpreter_of(data, xnnpack=False):
    kind = OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    return Interpreter(model_content=data, num_threads=1, experimental_op_resolver_type=kind)


def answers(data, feeds, signature="serve", xnnpack=False):
    """Outputs of one signature."""
    return interpreter_of(data, xnnpack).get_signature_runner(signature)(**feeds)


def graph_answers(program, columns, xnnpack=False):
    """The whole program as one graph, without a front; string columns are not possible."""
    model = Model("test")
    Lowering(model, program, "serve")
    data = model.to_bytes()
    feeds = {}
    for entry in program.inputs:
        x = np.asarray(columns[entry.name])
        feeds[entry.name] = x.reshape(len(x), -1).astype(NARROW[entry.type.dtype])
    return answers(data, feeds, xnnpack=xnnpack)


def halves(program):
    """Front and core of a program, as the target splits it."""
    return split(simplify(run_passes(program, [RANK_TREES])[0]))


def program_answers(program, columns, sample=None, xnnpack=False):
    """Outputs of the core on what the front makes of the columns, with class labels looked up."""
    members = lower(program, ABOUT, sample)
    from edgeml.targets.tflite_centre import centre

    parts = halves(program)
    if sample is not None:
        parts = centre(parts, sample)
    results = answers(members["model.tflite"], interpreter.run(parts.front, columns), xnnpack=xnnpack)
    for method, tables in parts.labels.items():
        results[method] = np.array(tables[0], dtype=object)[results[method]]
    return results


def read(data) -> Any:
    """The file as the schema's objects."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


def operators(data, graph=0):
    """(name, version) of each operator of a graph."""
    model = read(data)
    codes = [(OPERATORS[c.builtinCode], c.version) for c in model.operatorCodes]
    return [codes[o.opcodeIndex] for o in model.subgraphs[graph].operators]


def metadata(data):
    return json.loads(entry(data, "edgeml"))


def entry(data, name):
    """Content of an entry of metadata."""
    model = read(data)
    found = next(m for m in model.metadata if m.name == name.encode())
    return bytes(model.buffers[found.buffer].data)


def code_table(column):
    """What each listed cell of a string column becomes, and under None what any other becomes."""
    cells, values, other = column
    if isinstance(values, int):
        values = range(values, values + len(cells))
    return {repr(c): v for c, v in zip(cells, values, strict=True)} | {"other": other}


def converted(pipeline, X):
    """Program without folded scaling, the schema with its unused columns marked, and scikit-learn's answers."""
    expected = reference(pipeline, X)
    returns = {
        m: ("vector" if r.ndim == 1 else "matrix", "O" if r.dtype == object else r.dtype.str)
        for m, r in expected.items()
    }
    kinds = schema_of(X)
    program = simplify(to_program(pipeline, kinds, returns))
    if kinds.form == "columns":
        used = {entry.name for entry in program.inputs}
        kinds = Schema("columns", tuple(Column(c.name, c.kind, c.name in used, c.null) for c in kinds.columns))
    return program, kinds, expected


def bundle_of(path: Path, pipeline, X, change=None):
    """A bundle with the TFLite artifact of a pipeline, opened. ``change`` may edit the members first."""
    program, kinds, _ = converted(pipeline, X)
    members = dict(lower(program, About("small", 3, kinds), columns_of(X, kinds)))
    if change is not None:
        change(members)
    classes = getattr(pipeline, "classes_", None)
    manifest = {
        "format_version": 1,
        "name": "small",
        "version": 3,
        "estimator": type(pipeline).__name__,
        "methods": {o.name: {"form": o.form, "dtype": o.dtype} for o in program.outputs.values()},
        "classes": None if classes is None else np.asarray(classes).tolist(),
        "artifacts": {"tflite": {"members": sorted(members), "bytes": sum(map(len, members.values()))}},
        "missing": {},
        "quantize": "none",
        "target": "generic",
        "profile_sha256": None,
        "versions": {},
    }
    empty = {"report.json": b"{}", "golden.json": b"{}", "golden.bin": b""}
    write_bundle(path, manifest, members | empty | {"schema.json": dumps(kinds.to_json())})
    return open_bundle(path)


def worst_error(expected, actual, method=""):
    """Largest error in units of the answer, or of the usual size of its column where the answer is nearer to zero.

    A probability counts in units of itself down to 0.1, a logarithm of one in units of 1.
    """
    b = expected.astype(np.float64).reshape(len(expected), -1)
    a = actual.astype(np.float64).reshape(len(expected), -1)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = np.where(np.isfinite(b), np.abs(b), np.nan)
    with np.errstate(all="ignore"):
        floor = {"predict_proba": 0.1, "predict_log_proba": 1.0}.get(method, np.nanmedian(finite, axis=0))
        error = np.where(same, 0.0, np.abs(a - b) / np.maximum(np.abs(b), floor))
    return float(np.where(np.isnan(error), np.inf, error).max(initial=0.0))
