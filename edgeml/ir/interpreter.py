"""Runs a program with NumPy: the oracle of the tests, and the last resort on a device without kernels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeml.ir.ops import OPS
from edgeml.ir.program import Output, Program
from edgeml.ir.table import Array, numpy_dtype


def needed(program: Program, outputs: Iterable[str]) -> list[bool]:
    """For every value, whether the outputs (or an op that may refuse rows) depend on it."""
    n = len(program.inputs)
    keep = [False] * (n + len(program.nodes))
    for name in outputs:
        for value in program.outputs[name].values:
            keep[value] = True
    for index in range(len(program.nodes) - 1, -1, -1):
        node = program.nodes[index]
        if keep[n + index] or OPS[node.op].effect:
            keep[n + index] = True
            for value in node.inputs:
                keep[value] = True
    return keep


def run(program: Program, columns: Mapping[str, Array], outputs: Iterable[str] | None = None) -> dict[str, Array]:
    """Evaluate outputs (all by default) on columns of shape (rows,) or (rows, width).

    String columns are object arrays of str, None and NaN. Returns one array an output: (rows,) for the form "vector",
    else (rows, width), also of a "list" or "stack". Raises InputError where the program refuses a row.
    """
    wanted = list(program.outputs if outputs is None else outputs)
    keep = needed(program, wanted)
    values: list[Array | None] = [None] * len(keep)
    # Not of the columns that are read: answers that depend on no column have as many rows all the same.
    rows = next((np.shape(column)[0] for column in columns.values()), 1)
    for index, entry in enumerate(program.inputs):
        if keep[index]:
            column = np.asarray(columns[entry.name], dtype=numpy_dtype(entry.type.dtype))
            values[index] = column[:, None] if column.ndim == 1 else column
    n = len(program.inputs)
    uses = program.uses()
    with np.errstate(all="ignore"):  # IEEE results are meant: kernels and ONNX give the same ones without a word
        for index, node in enumerate(program.nodes):
            if keep[n + index]:
                arguments = [values[v] for v in node.inputs]
                values[n + index] = OPS[node.op].evaluate(*arguments, **node.attrs)
                for value in node.inputs:
                    uses[value] -= 1
                    if uses[value] == 0:
                        values[value] = None  # large batches: free what no one reads again
    return {
        name: assemble([values[v] for v in program.outputs[name].values], program.outputs[name], rows)
        for name in wanted
    }


def assemble(parts: list[Array | None], output: Output, rows: int) -> Array:
    """Put an output's values together in scikit-learn's shape and dtype; those of a list or stack side by side."""
    arrays = [np.broadcast_to(p, (rows, p.shape[1])) for p in parts if p is not None]
    if output.form == "vector":
        return arrays[0][:, 0].astype(output.dtype)
    return np.concatenate([a.astype(output.dtype) for a in arrays], axis=1)
