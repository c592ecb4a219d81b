"""Runs lowered programs in onnxruntime and compares with the interpreter; for the tests of the ONNX target."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime

from edgeml.schema import Column, Schema
from edgeml.targets.base import About
from edgeml.targets.onnx_graph import MISSING_NAN, MISSING_NONE

NAN, INF = math.nan, math.inf
ABOUT = About("small", 3, Schema("columns", (Column("x", "float64"),)))
# Two trees: one split, and one that is a single leaf.
TREE = {
    "roots": np.array([0, 3], np.int32),
    "feature": np.array([0, -1, -1, -1], np.int32),
    "threshold": np.array([0.5, 0, 0, 0]),
    "left": np.array([1, 0, 1, 1], np.int32),
    "right": np.array([2, 0, 0, 0], np.int32),
    "missing_left": np.zeros(4, np.uint8),
    "category_set": np.full(4, -1, np.int32),
    "categories": np.zeros((0, 8), np.uint32),
    "leaf_values": np.array([[0.1, 0.9], [0.7, 0.3]]),
    "target": np.zeros(0, np.int32),
    "base": np.array([0.0, 1.0]),
}


def session(data, threads=1, optimise=True):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    if not optimise:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def feeds(columns):
    """Columns as the model takes them: two dimensions, missing strings spelled."""
    result = {}
    for name, x in columns.items():
        if x.dtype == object:
            spelled = [c if isinstance(c, str) else MISSING_NONE if c is None else MISSING_NAN for c in x.ravel()]
            x = np.array(spelled, dtype=object).reshape(x.shape)
        result[name] = x.reshape(len(x), -1)
    return result


def missing_again(x):
    if x.dtype != object:
        return x
    cells = [None if c == MISSING_NONE else NAN if c == MISSING_NAN else c for c in x.ravel()]
    return np.array(cells, dtype=object).reshape(x.shape)


def assert_equal(got, want, rtol):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    if want.dtype == object:
        assert [repr(c) for c in got.ravel()] == [repr(c) for c in want.ravel()]
    elif rtol:
        np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-307)
    else:
        np.testing.assert_array_equal(got, want)  # NaN equals NaN, and the zeros each other


def run(data, columns, **options):
    (result,) = session(data, **options).run(None, feeds(columns))
    return missing_again(result)


def operators(data):
    """Kinds of the nodes in the file, in their order."""
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


def optimised_operators(data, folder):
    """Kinds of the nodes that onnxruntime really runs: those of the model that its optimiser leaves."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 4, str(folder / "optimised.onnx")
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return operators((folder / "optimised.onnx").read_bytes())
