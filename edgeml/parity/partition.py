"""Rows whose k nearest scikit-learn takes with numpy.argpartition while several are equally far: which of them it takes
is the business of NumPy's vector instructions on the CPU at hand, and no artifact can repeat it.

In come a program and rows, out goes a mask of them. Called by check.py, which does not judge such rows.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.program import Program
from edgeml.ir.table import Array
from edgeml.parity.splits import values_of
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

# Rows whose values are held at once.
_ROWS = 256


def undetermined(program: Program, sample: Sample) -> Array:
    """Whether the k-th and the next cell under a TopK of the program are equal, bool (rows,)."""
    result = np.zeros(len(sample), dtype=bool)
    chosen = [node for node in program.nodes if node.op == "TopK"]
    for start in range(0, len(sample) if chosen else 0, _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(sample)))
        columns, _ = read_rows(sample.take(rows), sample.schema)
        values = values_of(program, columns)
        for node in chosen:
            result[rows] |= _tied(values[node.inputs[0]], node.attrs["k"])
    return result


def _tied(cells: Array, k: int) -> Array:
    if k == cells.shape[1]:
        return np.zeros(len(cells), dtype=bool)
    ordered = np.sort(cells, axis=1)
    last, following = ordered[:, k - 1], ordered[:, k]
    tied: Array = (last == following) | (np.isnan(last) & np.isnan(following))
    return tied
