"""Compares a converted pipeline with scikit-learn through the NumPy interpreter; used by the converters' tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeml.converters import to_program
from edgeml.ir import interpreter
from edgeml.ir.program import Program
from edgeml.sample import Sample, column_kind, numpy_dtypes
from edgeml.schema import MATRIX, Column, Schema

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score_samples", "transform")


def schema_of(X: Any) -> Schema:
    """Schema of a numeric array, or of a frame."""
    if isinstance(X, np.ndarray):
        return Schema("matrix", tuple(Column(f"x{i}", X.dtype.name) for i in range(X.shape[1])))
    return Schema("columns", tuple(Column(str(name), column_kind(X[name], str(name))) for name in X.columns))


def columns_of(X: Any, schema: Schema) -> dict[str, Any]:
    """Rows as the interpreter takes them."""
    if schema.form == "matrix":
        return {MATRIX: np.asarray(X)}
    dtypes = {c.name: object if c.kind in ("string", "any") else c.kind for c in schema.columns}
    # A cell of an extension array that is missing is NaN in a column of numbers.
    return {n: X[n].to_numpy(d, **({"na_value": np.nan} if d == "float64" else {})) for n, d in dtypes.items()}


def reference(pipeline: Any, X: Any) -> dict[str, Any]:
    """What every method of the pipeline returns for X; sparse results as dense arrays."""
    with np.errstate(all="ignore"):  # log(0) of a class that no leaf holds, overflow of deliberately large rows
        results = {m: getattr(pipeline, m)(X) for m in METHODS if hasattr(pipeline, m)}
    return {m: np.asarray(r.toarray() if hasattr(r, "toarray") else r) for m, r in results.items()}


def converted(pipeline: Any, X: Any) -> Program:
    """The pipeline's program, its outputs typed from what scikit-learn returns for X."""
    expected = reference(pipeline, X)
    returns = {m: ("vector" if r.ndim == 1 else "matrix", r.dtype.str) for m, r in expected.items()}
    schema = schema_of(X)
    return to_program(pipeline, schema, returns, numpy_dtypes(Sample(X, schema)))  # type: ignore[arg-type]


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
        elif want.dtype == object:  # None and NaN are two cells, and NaN is equal to itself
            assert [[_cell(v) for v in row] for row in got.tolist()] == [
                [_cell(v) for v in row] for row in want.tolist()
            ]
        else:
            np.testing.assert_array_equal(got, want, err_msg=method)
    return program


def _cell(value: Any) -> Any:
    return "nan" if isinstance(value, float) and value != value else (type(value) is bool, value)
