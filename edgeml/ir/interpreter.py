"""Runs a program with NumPy: the oracle of the tests, and the last resort on a device without kernels.

Values that come from texts stay sparse while the ops they meet allow it (``sparse.py``); such programs run some rows at
a time, so that what has to be dense stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

from edgeml.errors import InputError
from edgeml.ir import sparse
from edgeml.ir.ops import OPS
from edgeml.ir.program import Output, Program
from edgeml.ir.table import Array, numpy_dtype

_CELLS_AT_ONCE = 2**22  # of one dense value of a program with texts: 32 MB


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
    # Not of the columns that are read: answers that depend on no column have as many rows all the same.
    rows = next((np.shape(column)[0] for column in columns.values()), 1)
    nodes = [node for node, kept in zip(program.nodes, keep[len(program.inputs) :], strict=True) if kept]
    if any(node.op in sparse.SOURCES for node in nodes):
        block = max(_CELLS_AT_ONCE // max(node.type.width for node in nodes), 1)
        return _in_blocks(program, columns, wanted, keep, rows, block)
    return _run(program, columns, wanted, keep, rows)


def _in_blocks(
    program: Program, columns: Mapping[str, Array], wanted: list[str], keep: list[bool], rows: int, block: int
) -> dict[str, Array]:
    parts = []
    for start in range(0, max(rows, 1), block):
        end = min(start + block, rows)
        try:
            parts.append(_run(program, {k: x[start:end] for k, x in columns.items()}, wanted, keep, end - start))
        except InputError:
            if start:  # again with all rows before, for a message that counts from the first
                _run(program, {k: x[:end] for k, x in columns.items()}, wanted, keep, end)
            raise
    if len(parts) == 1:
        return parts[0]
    return {name: np.concatenate([part[name] for part in parts]) for name in wanted}


def _run(
    program: Program, columns: Mapping[str, Array], wanted: list[str], keep: list[bool], rows: int
) -> dict[str, Array]:
    values: list[sparse.Argument | None] = [None] * len(keep)
    for index, entry in enumerate(program.inputs):
        if keep[index]:
            column = np.asarray(columns[entry.name], dtype=numpy_dtype(entry.type.dtype))
            values[index] = column[:, None] if column.ndim == 1 else column
    n = len(program.inputs)
    uses = program.uses()
    with np.errstate(all="ignore"):  # IEEE results are meant: kernels and ONNX give the same ones without a word
        for index, node in enumerate(program.nodes):
            if keep[n + index]:
                values[n + index] = sparse.evaluate(node, [x for v in node.inputs if (x := values[v]) is not None])
                for value in node.inputs:
                    uses[value] -= 1
                    if uses[value] == 0:
                        values[value] = None  # large batches: free what no one reads again
    return {
        name: assemble([_dense(values[v]) for v in program.outputs[name].values], program.outputs[name], rows)
        for name in wanted
    }


def _dense(x: sparse.Argument | None) -> Array | None:
    return None if x is None else sparse.dense(x)


def assemble(parts: list[Array | None], output: Output, rows: int) -> Array:
    """Put an output's values together in scikit-learn's shape and dtype; those of a list or stack side by side."""
    arrays = [np.broadcast_to(p, (rows, p.shape[1])) for p in parts if p is not None]
    if output.form == "vector":
        return arrays[0][:, 0].astype(output.dtype)
    return np.concatenate([a.astype(output.dtype) for a in arrays], axis=1)
