"""Rows about which scikit-learn's own answer depends on more than the model and the row.

Where it takes the k nearest with numpy.argpartition and several are equally far, NumPy's vector instructions on the CPU
at hand decide. KernelDensity walks a tree until its bounds meet, in logarithms: in the tails they meet too soon, and
the same model with one leaf, which adds up all kernels, answers otherwise. Of a product with infinite terms of both
signs BLAS makes whatever it adds first, and the nearest point is found by that. No artifact can repeat any of them.

In come a pipeline, its program and rows, out goes a mask of them. Called by check.py, which does not judge such rows.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import numpy as np

from edgeml.compare import FLOAT64_BOUND
from edgeml.ir.program import Program
from edgeml.ir.table import Array
from edgeml.parity.conditioning import has_meaning
from edgeml.parity.splits import values_of
from edgeml.parity.truth import call, quiet
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

# Rows whose values are held at once.
_ROWS = 256
# Rows without a larger cell have no infinite products, in float32 either.
_HUGE = 1e30


def unsettled(pipeline: Any, program: Program, sample: Sample) -> Array:
    """Such rows, bool (rows,)."""
    result = np.zeros(len(sample), dtype=bool)
    nodes = list(enumerate(program.nodes, len(program.inputs))) if has_meaning(program) else []
    chosen = [node for _, node in nodes if node.op == "TopK"]
    searches = any(node.op in ("HeapK", "ArgMin") for _, node in nodes)
    products = [(value, node.inputs[0]) for value, node in nodes if node.op == "Linear" and searches]
    for start in range(0, len(sample) if chosen or products else 0, _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(sample)))
        columns, _ = read_rows(sample.take(rows), sample.schema)
        if not chosen and not any(_is_huge(x) for x in columns.values()):
            continue
        with np.errstate(all="ignore"):  # rows may be absurd
            values = values_of(program, columns)
        for node in chosen:
            result[rows] |= _tied(values[node.inputs[0]], node.attrs["k"])
        for product, factor in products:
            result[rows] |= np.isfinite(values[factor]).all(axis=1) & np.isnan(values[product]).any(axis=1)
    return result | _walked_short(pipeline, sample)


def _is_huge(cells: Array) -> bool:
    return cells.dtype.kind == "f" and bool((np.abs(cells) > _HUGE).any())


def _tied(cells: Array, k: int) -> Array:
    """Whether the k-th smallest cell and the next one are equal."""
    if k == cells.shape[1]:
        return np.zeros(len(cells), dtype=bool)
    ordered = np.sort(cells, axis=1)
    last, following = ordered[:, k - 1], ordered[:, k]
    tied: Array = (last == following) | (np.isnan(last) & np.isnan(following))
    return tied


def _walked_short(pipeline: Any, sample: Sample) -> Array:
    """Where a KernelDensity, alone or at the end of a pipeline, differs from itself with one leaf."""
    steps = getattr(pipeline, "steps", None)
    last = steps[-1][1] if steps else pipeline
    if type(last).__name__ != "KernelDensity" or not len(sample):
        return np.zeros(len(sample), dtype=bool)
    flat, tree = copy(last), last.tree_
    data, weights = np.asarray(tree.data), tree.sample_weight
    flat.tree_ = type(tree)(
        data,
        leaf_size=len(data),
        metric=last.metric,
        sample_weight=None if weights is None else np.asarray(weights),
        **(last.metric_params or {}),
    )
    other = flat
    if steps:
        other = copy(pipeline)
        other.steps = [*steps[:-1], (steps[-1][0], flat)]
    with quiet():
        own, whole = (call(p, "score_samples", sample.rows) for p in (pipeline, other))
    with np.errstate(invalid="ignore"):
        differs: Array = ~np.isclose(own, whole, rtol=FLOAT64_BOUND / 10, atol=0.0, equal_nan=True)
    return differs
