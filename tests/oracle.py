"""Compares a converted pipeline with scikit-learn through the NumPy interpreter; used by the converters' tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters import to_program
from edgeml.ir import interpreter
from edgeml.ir.program import Program
from edgeml.schema import MATRIX, Column, Schema

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")


def schema_of(X: Any) -> Schema:
    """Schema of a numeric array, or of a frame of plain columns."""
    if isinstance(X, np.ndarray):
        return Schema("matrix", tuple(Column(f"x{i}", X.dtype.name) for i in range(X.shape[1])))
    kinds = {"f": "float64", "i": "int64", "u": "int64", "b": "bool"}
    return Schema(
        "columns",
        tuple(
            Column(str(name), "float32" if X[name].dtype == np.float32 else kinds.get(X[name].dtype.kind, "string"))
            for name in X.columns
        ),
    )


def columns_of(X: Any, schema: Schema) -> dict[str, Any]:
    """Rows as the interpreter takes them."""
    if schema.form == "matrix":
        return {MATRIX: np.asarray(X)}
    return {
        c.name: X[c.name].astype(object).to_numpy() if c.kind == "string" else X[c.name].to_numpy().astype(c.kind)
        for c in schema.columns
    }


def reference(pipeline: Any, X: Any) -> dict[str, Any]:
    """What every method of the pipeline returns for X; sparse results as dense arrays."""
    results = {m: getattr(pipeline, m)(X) for m in METHODS if hasattr(pipeline, m)}
    return {m: np.asarray(r.toarray() if hasattr(r, "toarray") else r) for m, r in results.items()}


def converted(pipeline: Any, X: Any) -> Program:
    """The pipeline's program, its outputs typed from what scikit-learn returns for X."""
    expected = reference(pipeline, X)
    returns = {m: ("vector" if r.ndim == 1 else "matrix", r.dtype.str) for m, r in expected.items()}
    return to_program(pipeline, schema_of(X), returns)  # type: ignore[arg-type]


def assert_same(pipeline: Any, X: Any, rows: Any = None, *, rtol: float = 1e-9, atol: float = 1e-12) -> Program:
    """Convert with X as the sample, run on ``rows`` (X by default), compare every method with scikit-learn."""
    program = converted(pipeline, X)
    rows = X if rows is None else rows
    expected = reference(pipeline, rows)
    actual = interpreter.run(program, columns_of(rows, schema_of(X)))
    assert set(actual) == set(expected)
    for method, want in expected.items():
        got = actual[method]
        assert got.shape == want.shape, method
        assert got.dtype == want.dtype, (method, got.dtype, want.dtype)
        if want.dtype.kind in "fc":
            np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, err_msg=method)
        else:
            np.testing.assert_array_equal(got, want, err_msg=method)
    return program
