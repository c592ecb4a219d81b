"""From a fitted pipeline and its schema to a program: the one entry point of this package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeml.converters.block import Block
from edgeml.converters.registry import Conversion, Outputs
from edgeml.errors import UnsupportedEstimatorError
from edgeml.ir import Builder, Program, Value
from edgeml.ir.program import Form
from edgeml.schema import MATRIX, Schema

# What a method returns: form, and NumPy dtype as a string. Found by calling the pipeline on the sample.
Returns = Mapping[str, tuple[Form, str]]


def to_program(
    pipeline: Any,
    schema: Schema,
    returns: Returns,
    dtypes: Mapping[str, str] | None = None,
    *,
    sparse: bool = False,
) -> Program:
    """Convert a fitted estimator.

    ``returns`` has one entry for each method the pipeline has, which becomes an output of the program. ``dtypes`` has
    the dtype of raw columns where it is not that of their kind, such as int8; that of a matrix goes by "X". With
    ``sparse`` the pipeline is given a SciPy matrix. Raises
    CompileError, naming the step, when an estimator, a parameter or a method cannot be honoured.
    """
    builder = Builder()
    held = dtypes or {}
    if schema.form == "matrix":
        matrix = builder.input(MATRIX, schema.kind, len(schema.columns))
        block = Block(matrix.held_as(held.get(MATRIX, matrix.numpy)), form="sparse" if sparse else "array")
    else:
        # A column of kind "any" has no place in a program; the stand-in is dropped by the first pass, or, when a
        # converter reads it, named in the error of Block.matrix.
        kinds = {c.name: "string" if c.kind == "any" else c.kind for c in schema.columns}
        inputs = [builder.input(name, kind) for name, kind in kinds.items()]
        block = Block(
            *(v.held_as(held.get(name, v.numpy)) for name, v in zip(kinds, inputs, strict=True)),
            names=schema.names,
            form="frame",
        )
    conversion = Conversion(builder)
    outputs = conversion.convert(pipeline, block, "")
    for method, (form, dtype) in returns.items():
        builder.output(method, _values(conversion, pipeline, outputs, method), form, dtype)
    return builder.finish()


def _values(c: Conversion, pipeline: Any, outputs: Outputs, method: str) -> list[Value]:
    if method == "predict_log_proba" and method not in outputs and "predict_proba" in outputs:
        proba = outputs["predict_proba"]
        return [c.builder.log(p) for p in ([proba] if isinstance(proba, Value) else proba.values)]
    if method not in outputs and method in c.refusals:
        raise c.refusals[method]
    if method not in outputs:
        raise UnsupportedEstimatorError(
            f"{type(pipeline).__name__} has the method {method}, which its converter does not give",
            "report it: every method of a supported estimator is meant to compile",
        )
    result = outputs[method]
    values = list(result.values) if isinstance(result, Block) else [result]
    if not values:
        raise UnsupportedEstimatorError(
            f"{method} of {type(pipeline).__name__} returns no columns",
            "keep at least one column in the pipeline",
        )
    return values
