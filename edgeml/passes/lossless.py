"""Lossless quantisation of trees: the same answers to the bit from thresholds of one or two bytes and fewer leaves.

``lossless`` takes an optimised program and gives one whose trees compare ranks (rank.py) and whose equal leaves are
stored once. edgeml/quantize.py calls it for the native target, which stores small integers in small types and walks
trees over 16-bit codes. What would not gain from ranks keeps its thresholds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgeml.ir.compact import stored_bytes
from edgeml.ir.program import Node, Program
from edgeml.ir.table import Array
from edgeml.passes import run_passes, simplify
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rank import ABOVE, rank_trees
from edgeml.passes.rewrite import Graph, rewrite

# A rank fits 16 bits, with one value to spare for NaN (runtimes/kernels/forest.py).
MAX_EDGES = 2**16 - 1 - ABOVE
# Ranks need a column of 0 and 1 for every set of categories; beyond this many the sets themselves are shorter, unless
# most are asked again and again, as the one-hot columns that raw_trees.py makes sets of are.
MAX_CATEGORY_QUESTIONS = 64
NODES_PER_QUESTION = 8
_TREES = ("TreeEnsemble", "TreeLeaves")


def lossless(program: Program) -> Program:
    """The program with trees in their lossless form; the program itself where it has none."""
    after, changed = run_passes(program, [ROUND_THRESHOLDS, RANK_SMALL_TREES, SHARE_LEAVES])
    return simplify(after) if changed else program


def float32_at_most(threshold: Array) -> Array:
    """The largest float32 values that are at most the thresholds, as float64: every float32 goes the same way."""
    with np.errstate(all="ignore"):
        near = threshold.astype(np.float32)
        below = np.nextafter(near, np.float32(-np.inf))
        return np.where(near.astype(np.float64) > threshold, below, near).astype(np.float64)


def _round(node: Node, graph: Graph) -> int | None:
    if node.op not in _TREES or graph.type_of(node.inputs[0]).dtype != "float32":
        return None
    threshold = float32_at_most(node.attrs["threshold"])
    if threshold.tobytes() == node.attrs["threshold"].tobytes():
        return None
    return graph.append(replace(node, attrs={**node.attrs, "threshold": threshold}))


def _fits(node: Node) -> bool:
    """Whether the ranks of every column fit 16 bits, and its sets of categories are few."""
    feature, sets = node.attrs["feature"], node.attrs["category_set"]
    numeric, categorical = (feature >= 0) & (sets < 0), (feature >= 0) & (sets >= 0)
    pairs = np.unique(np.stack([feature[numeric].astype(np.float64), node.attrs["threshold"][numeric]]), axis=1)
    most = np.unique(pairs[0], return_counts=True)[1].max(initial=0)
    questions = np.stack([feature, sets, node.attrs["missing_left"] != 0])[:, categorical]
    allowed = max(MAX_CATEGORY_QUESTIONS, int(categorical.sum()) // NODES_PER_QUESTION)
    return bool(most <= MAX_EDGES and np.unique(questions, axis=1).shape[1] <= allowed)


def _share(node: Node, graph: Graph) -> int | None:
    """Equal leaves become one where that is shorter; TreeLeaves, whose answers are leaves, keeps them all."""
    if node.op != "TreeEnsemble":
        return None
    values = np.ascontiguousarray(node.attrs["leaf_values"])
    if len(values) < 2:
        return None
    rows = values.view(np.dtype((np.void, values.dtype.itemsize * values.shape[1]))).reshape(-1)
    _, first, place = np.unique(rows, return_index=True, return_inverse=True)
    leaf = node.attrs["feature"] < 0
    left = node.attrs["left"].copy()
    left[leaf] = place.reshape(-1)[left[leaf]]
    # As they are stored: narrow, or few different numbers once. A leaf of its own is found by counting, a shared one
    # needs its number.
    if stored_bytes(values[first]) + stored_bytes(left[leaf]) >= stored_bytes(values):
        return None
    return graph.append(replace(node, attrs={**node.attrs, "left": left, "leaf_values": values[first]}))


ROUND_THRESHOLDS = Pass(
    "round-thresholds",
    requires="nothing beyond a legal program",
    ensures="trees over float32 columns have float32 thresholds",
    run=lambda program: rewrite(program, _round),
)
RANK_SMALL_TREES = Pass(
    "rank-small-trees",
    requires="nothing beyond a legal program",
    ensures="every tree whose ranks fit 16 bits compares ranks, as after rank-trees",
    run=lambda program: rank_trees(program, _fits),
)
SHARE_LEAVES = Pass(
    "share-leaves",
    requires="nothing beyond a legal program",
    ensures="no two leaves of an ensemble are equal where that saves bytes",
    run=lambda program: rewrite(program, _share),
)
