"""Finds rows whose way through a tree is decided by rounding alone: no two computers need agree about them.

HistGradientBoosting puts its thresholds on values of the training rows. Behind a PCA such a row lies on the threshold
up to the last bit, which depends on the order in which BLAS adds: scikit-learn itself sends the row left in one batch
and right in another. ``compile`` counts these rows and judges the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from edgeml.ir import Program
from edgeml.ir.interpreter import needed, run
from edgeml.ir.ops import OPS
from edgeml.ir.program import Node, Output, ValueType
from edgeml.ir.sparse import SOURCES
from edgeml.ir.table import Array
from edgeml.parity.rounding import ROUND_AT_WILL, determined
from edgeml.parity.truth import Truth
from edgeml.runtimes.frames import read_rows
from edgeml.sample import Sample

# Sums are rounded anew this many times; a feature may lie this many times as far off as the farthest of them.
TRIALS = 4
WIDEN = 4.0
_OFF = 1e-12


def without_undetermined(program: Program, sample: Sample, truth: Truth) -> tuple[Sample, Truth, int]:
    """The rows and their answers without those ``split_by_rounding`` finds, and how many these were."""
    answered = truth.answered
    if not answered.size:
        return sample, truth, 0
    columns, _ = read_rows(sample.take(answered), sample.schema)
    undetermined = split_by_rounding(program, columns)
    if not undetermined.any():
        return sample, truth, 0
    keep = np.ones(len(sample), dtype=bool)
    keep[answered[undetermined]] = False
    outputs = {method: answer[~undetermined] for method, answer in truth.outputs.items()}
    rest = replace(truth, outputs=outputs, refused=truth.refused[keep])
    return Sample(sample.take(np.flatnonzero(keep)), sample.schema), rest, int(undetermined.sum())


def split_by_rounding(program: Program, columns: dict[str, Array]) -> Array:
    """Rows that some tree sends left or right by the rounding of a sum before it, bool (rows,).

    ``columns`` are rows the program answers. Trees on features known to the last bit have no such rows.
    """
    known = determined(program)
    keep = needed(program, program.outputs)[len(program.inputs) :]
    trees = [
        node
        for kept, node in zip(keep, program.nodes, strict=True)
        if kept and node.op == "TreeEnsemble" and not known[node.inputs[0]].all()
    ]
    rows = len(next(iter(columns.values())))
    undetermined = np.zeros(rows, dtype=bool)
    if not trees or any(node.op == "OnnxGraph" for node in program.nodes):
        return undetermined
    if any(node.op in SOURCES for node in program.nodes):
        for node in trees:
            undetermined |= _near_a_split(program, node, columns)
        return undetermined
    base = values_of(program, columns)
    off = [np.zeros(base[node.inputs[0]].shape) for node in trees]
    with np.errstate(all="ignore"):
        for trial in rounded_anew(program, base, TRIALS):
            for node, farthest in zip(trees, off, strict=True):
                x, y = base[node.inputs[0]].astype(np.float64), trial[node.inputs[0]].astype(np.float64)
                np.fmax(farthest, np.where(np.isfinite(x), np.abs(y - x), 0.0), out=farthest)
        for node, farthest in zip(trees, off, strict=True):
            undetermined |= _on_a_split(node, base[node.inputs[0]].astype(np.float64), WIDEN * farthest)
    return undetermined


def _near_a_split(program: Program, node: Node, columns: dict[str, Array]) -> Array:
    """Rows so near a threshold of a tree over texts that rounding may decide, bool (rows,).

    Every value of such a program a few times over, with a column for each term, would take minutes: a fixed part of
    the cells stands for the trials, more than the norm of a document of a million terms is off.
    """
    feature = node.attrs["feature"]
    used = np.unique(feature[feature >= 0]).astype(np.int64)
    of = program.type_of(node.inputs[0])
    chosen = Node("Select", (node.inputs[0],), ValueType(of.dtype, len(used)), {"indices": used})
    last = len(program.inputs) + len(program.nodes)
    part = replace(program, nodes=(*program.nodes, chosen), outputs={"x": Output("x", (last,), "matrix", "float64")})
    x = run(part, columns)["x"]
    places = np.where(feature >= 0, np.searchsorted(used, feature), -1)
    off = _OFF * (np.abs(x) + np.abs(x).max(axis=0, initial=0.0))
    return _on_a_split(replace(node, attrs={**node.attrs, "feature": places}), x, off)


def values_of(program: Program, columns: dict[str, Array]) -> list[Array]:
    """Every value of the program."""
    first = len(program.inputs)
    every = range(first, first + len(program.nodes))
    # As a matrix of its own dtype each, so that the interpreter hands them out as they are.
    outputs = [
        Output(str(v), (v,), "matrix", "O" if program.type_of(v).dtype == "string" else program.type_of(v).dtype)
        for v in every
    ]
    found = run(program.with_outputs(outputs), columns)
    inputs = [np.asarray(columns[entry.name]) for entry in program.inputs]
    return [x[:, None] if x.ndim == 1 else x for x in inputs] + [found[str(v)] for v in every]


def rounded_anew(program: Program, base: list[Array], trials: int, eps: float | None = None) -> Iterator[list[Array]]:
    """The values of ``values_of`` with sums and functions off by what another order of additions may make of them.

    ``eps``: the rounding unit of the arithmetic, that of each value's own dtype when None.
    """
    known, rng = determined(program), np.random.default_rng(0)
    for _ in range(trials):
        with np.errstate(all="ignore"):
            trial = _rounded(program, base, known, rng, eps)
        yield trial


def _rounded(
    program: Program, base: list[Array], known: list[Array], rng: np.random.Generator, eps: float | None
) -> list[Array]:
    values = list(base)
    for at, node in enumerate(program.nodes, len(program.inputs)):
        if known[at].all():
            continue
        inputs = [values[v] for v in node.inputs]
        if OPS[node.op].effect:
            values[at] = inputs[0]
            continue
        y = OPS[node.op].evaluate(*inputs, **node.attrs)
        if node.op in ROUND_AT_WILL and y.dtype.kind == "f":
            noise = rng.uniform(-1.0, 1.0, y.shape) * _rounding(node, inputs[0], y, eps or float(np.finfo(y.dtype).eps))
            y = (y + noise.astype(y.dtype)).astype(y.dtype)
        values[at] = y
    return values


def _rounding(node: Node, x: Array, y: Array, eps: float) -> Array:
    """About how far two orders of adding n terms lie apart: sqrt(n) units of their sizes' sum. 4 of a function."""
    if node.op == "Linear":
        size = np.abs(x) @ np.abs(node.attrs["weight"]) + np.abs(node.attrs["bias"])
    elif node.op == "ReduceSum":
        size = np.abs(x).sum(axis=1, keepdims=True)
    elif node.op == "SumGroups":
        size = np.abs(x).reshape(len(x), y.shape[1], -1).sum(axis=2)
    else:
        return 4.0 * eps * np.abs(y).astype(np.float64)
    result: Array = (2.0 + np.sqrt(x.shape[1])) * eps * size.astype(np.float64)
    return result


def _on_a_split(node: Node, x: Array, off: Array) -> Array:
    """Rows with a threshold of some feature between ``x - off`` and ``x + off``, bool (rows,)."""
    result = np.zeros(len(x), dtype=bool)
    splits = node.attrs["category_set"] < 0
    for feature in np.unique(node.attrs["feature"][(node.attrs["feature"] >= 0) & splits]):
        if not off[:, feature].any():
            continue
        thresholds = np.unique(node.attrs["threshold"][(node.attrs["feature"] == feature) & splits])
        low = np.searchsorted(thresholds, x[:, feature] - off[:, feature])
        high = np.searchsorted(thresholds, x[:, feature] + off[:, feature])
        result |= low != high
    return result
