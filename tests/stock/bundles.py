"""What a user without EdgeML gets out of a bundle's models: answers of the stock runtimes in scikit-learn's shapes.

The models are taken out of the ZIP file as they are. What EdgeML still does is what README and the models' metadata
describe: missing strings are spelled for ONNX, and the kernels in front make TFLite's features and codes.
Called by the tests with a bundle's path and raw rows.
"""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

import numpy as np
import onnx as onnx_package

from edgeml.bundle import open_bundle
from edgeml.runtimes.frames import read_rows
from edgeml.runtimes.native import NativeEngine, read_program
from edgeml.runtimes.tflite import ENTRY, FRONT_ARRAYS, FRONT_PROGRAM, REFUSED
from edgeml.runtimes.tflite_file import read_metadata
from tests.onnx_oracle import feeds as spelled
from tests.onnx_oracle import missing_again
from tests.stock import client

ROWS = 1024  # at a time: what the engines do, too


def answers(path: str | os.PathLike[str], X: Any, formats: Any = ("onnx", "tflite")) -> dict[str, dict[str, Any]]:
    """Answers by format and method for raw rows, of those ``formats`` that the bundle has."""
    with open_bundle(path) as bundle, zipfile.ZipFile(path) as members:
        columns, rows = read_rows(X, bundle.schema)
        make = {"onnx": _onnx, "tflite": _tflite}
        present = [f for f in formats if f in bundle.manifest["artifacts"]]
        return {f: make[f](bundle, members.read(f"model.{f}"), columns, rows) for f in present}


def _onnx(bundle: Any, model: bytes, columns: dict[str, Any], rows: int) -> dict[str, Any]:
    proto = onnx_package.load_model_from_string(model)
    facts = {entry.key: entry.value for entry in proto.metadata_props}
    kinds = {entry.name: entry.type.tensor_type.elem_type for entry in proto.graph.input}
    feeds = {}
    for column, name in json.loads(facts["edgeml.inputs"]).items():
        if column in columns:
            feeds[name] = spelled({column: columns[column]})[column]
        else:  # no answer depends on it; it says how many rows there are
            feeds[name] = np.full((rows, 1), 0, onnx_package.helper.tensor_dtype_to_np_dtype(kinds[name]))
            if feeds[name].dtype == object:
                feeds[name][:] = ""
    given = client.onnx(model, feeds, rows=ROWS)
    results = {}
    for method, names in json.loads(facts["edgeml.outputs"]).items():
        dtype = bundle.manifest["methods"][method]["dtype"]
        parts = [missing_again(given[name]).astype(dtype) for name in names]
        results[method] = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return results


def _tflite(bundle: Any, model: bytes, columns: dict[str, Any], rows: int) -> dict[str, Any]:
    facts = read_metadata(model, ENTRY, "model.tflite")
    front = NativeEngine(read_program(bundle, FRONT_PROGRAM, FRONT_ARRAYS), bundle.schema, 1)
    given = client.tflite(model, front.run(columns, rows, tuple(facts["inputs"])), rows=ROWS)
    if REFUSED in given and given[REFUSED].any():
        raise client.StockError(f"row {int(np.flatnonzero(given[REFUSED])[0])} is refused")
    results = {}
    for method, described in facts["outputs"].items():
        x = given[method]
        if "labels" in described:
            tables = [np.array(cells, dtype=object) for cells in described["labels"]]
            x = tables[0][x] if x.ndim == 1 else np.stack([t[x[:, k]] for k, t in enumerate(tables)], axis=1)
        results[method] = x.astype(bundle.manifest["methods"][method]["dtype"])
    return results
