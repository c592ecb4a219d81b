"""Tree ensembles with leaves of one or two bytes; where a row goes does not change.

Leaf values become whole numbers, codes of ``offset + scale * code``, so that their sum is exact in any order and one
multiplication at the end gives the answer. Rounding errors of the trees are made to cancel: a leaf is rounded together
with the mean error that the trees before it have left on the calibration rows that reach it (error feedback, as in
Floyd and Steinberg 1976, along the trees instead of along a line). Probabilities keep adding up to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edgeml.ir import Node
from edgeml.ir.table import Array
from edgeml.quantize.trace import Trace

# Calibration rows that weigh as much as a leaf's own value: below some of them the mean error of a leaf is noise.
_PRIOR_ROWS = 4.0
_EQUAL_SUMS = 1e-9
# Codes of two bytes reach over 15 bits: then a node of the TFLite tables can hold the code of its leaf itself.
_BITS = {"int8": 8, "int16": 15}
_FLOAT16_TOP = 2.0**15
# A scale is a small part of the largest leaf, and twice that leaf is a number still.
_SMALLEST, _LARGEST = 1e-300, 1e300


@dataclass(frozen=True, slots=True)
class TreeForm:
    """``leaves``: dtype of the leaf values."""

    name: str
    leaves: str


def fits(node: Node, form: TreeForm) -> str:
    """Why a TreeEnsemble cannot take the form; '' when it can."""
    values, base = node.attrs["leaf_values"], node.attrs["base"]
    if not np.isfinite(values).all() or not np.isfinite(base).all():
        return "its leaves are not finite"
    size = np.abs(values).max(initial=0.0)
    if size and not _SMALLEST < size < _LARGEST:
        return "its leaves are too large or too small for a scale"
    return ""


def quantize_trees(trace: Trace, index: int, form: TreeForm) -> int:
    """Put an ensemble of whole-number leaves, a multiplication and an addition in the place of node ``index``."""
    node = trace.exact.program.nodes[index]
    x = trace.place[node.inputs[0]]
    attrs = node.attrs
    width, target = len(attrs["base"]), attrs["target"]
    counts = np.bincount(target, minlength=width) if target.size else np.full(width, len(attrs["roots"]))
    if form.leaves == "float16":
        scale, offset = _powers_of_two(attrs, width), np.zeros(width)
        codes = _scaled(attrs, scale, offset).astype(np.float16).astype(np.float64)
    else:
        scale, offset = _grid(attrs, width, _BITS[form.leaves])
        codes = _feedback(trace.exact.leaves(trace.values[x], attrs), attrs, scale, offset, form)
    changed = {**attrs, "leaf_values": codes, "base": np.zeros(width)}
    total = trace.emit(node.op, (x,), changed, node.origin)
    total = trace.emit("Mul", (total, trace.constant(scale, total, node.origin)), {}, node.origin)
    shift = attrs["base"] + counts * offset
    if not shift.any():
        return total
    return trace.emit("Add", (total, trace.constant(shift, total, node.origin)), {}, node.origin)


def _columns(attrs: Mapping[str, Array]) -> Array:
    """int64 (leaves,): the output a leaf adds to, for ensembles whose trees have one each; -1 for leaves of no tree."""
    owner = np.full(len(attrs["leaf_values"]), -1, dtype=np.int64)
    feature, left, right = attrs["feature"], attrs["left"], attrs["right"]
    nodes, tree = attrs["roots"].astype(np.int64), np.arange(len(attrs["roots"]))
    while nodes.size:
        leaf = feature[nodes] < 0
        owner[left[nodes[leaf]]] = attrs["target"][tree[leaf]]
        parents, tree = nodes[~leaf], tree[~leaf]
        nodes, tree = np.concatenate([left[parents], right[parents]]), np.concatenate([tree, tree])
    return owner


def _grid(attrs: Mapping[str, Array], width: int, bits: int) -> tuple[Array, Array]:
    """Scale and offset of each output: codes reach from the least to the largest leaf. Outputs that are alike share."""
    low, high = _extremes(attrs, width)
    if _adds_up(attrs):  # probabilities: one grid for all classes, or their codes could not add up
        low, high = np.full(width, low.min()), np.full(width, high.max())
    steps = 2.0**bits - 1
    scale = np.where(high > low, (high - low) / steps, 1.0)
    return scale, low + scale * 2.0 ** (bits - 1)  # codes are signed: the least is -2^(bits - 1)


def _extremes(attrs: Mapping[str, Array], width: int) -> tuple[Array, Array]:
    values = attrs["leaf_values"]
    if not attrs["target"].size:
        return values.min(axis=0), values.max(axis=0)
    owner = _columns(attrs)
    low, high = np.zeros(width), np.zeros(width)
    for column in range(width):
        own = values[owner == column, 0]
        if own.size:
            low[column], high[column] = own.min(), own.max()
    return low, high


def _adds_up(attrs: Mapping[str, Array]) -> bool:
    """Whether the values of every leaf have the same sum, as probabilities of several classes do."""
    values = attrs["leaf_values"]
    if attrs["target"].size or values.shape[1] < 2:
        return False
    sums = values.sum(axis=1)
    return bool(np.ptp(sums) <= _EQUAL_SUMS * max(1.0, np.abs(values).max()))


def _feedback(leaves: Array, attrs: Mapping[str, Array], scale: Array, offset: Array, form: TreeForm) -> Array:
    """Codes of all leaves, float64 whole numbers; ``leaves`` (rows, trees) are those the calibration rows reach."""
    least, most = -(2.0 ** (_BITS[form.leaves] - 1)), 2.0 ** (_BITS[form.leaves] - 1) - 1
    target, together = attrs["target"], _adds_up(attrs)
    wanted = _scaled(attrs, scale, offset)  # in units of the grid
    codes = np.empty_like(wanted)
    done = np.zeros(len(codes), dtype=bool)
    off = np.zeros((len(leaves), len(scale)))  # wanted minus code, added up along the trees
    for tree in range(leaves.shape[1]):
        own, place = np.unique(leaves[:, tree], return_inverse=True)
        place = place.reshape(-1)
        columns = slice(None) if not target.size else slice(int(target[tree]), int(target[tree]) + 1)
        count = np.bincount(place)
        mean = np.stack([np.bincount(place, weights=column) for column in off[:, columns].T], axis=1)
        mean = mean / (count + _PRIOR_ROWS)[:, None]
        fresh = ~done[own]  # leaves may be shared by trees
        moved = np.clip(wanted[own] + np.clip(mean, -0.5, 0.5), least, most)
        rounded = _with_sum(moved, wanted[own]) if together else np.rint(moved)
        codes[own[fresh]] = rounded[fresh]
        done[own] = True
        off[:, columns] += (wanted[own] - codes[own])[place]
    rest = ~done
    codes[rest] = _with_sum(wanted[rest], wanted[rest]) if together else np.rint(wanted[rest])
    return np.clip(codes, least, most) + 0.0


def _scaled(attrs: Mapping[str, Array], scale: Array, offset: Array) -> Array:
    values = attrs["leaf_values"]
    if not attrs["target"].size:
        return (values - offset) / scale
    owner = np.maximum(_columns(attrs), 0)
    return (values - offset[owner, None]) / scale[owner, None]


def _with_sum(values: Array, wanted: Array) -> Array:
    """Rows rounded so that each adds up to what ``wanted`` adds up to: down, and up where the fraction is largest.

    A row that has moved too far for that is rounded from ``wanted``.
    """
    down = np.floor(values)
    missing = np.rint(wanted.sum(axis=1) - down.sum(axis=1))
    lost = (missing < 0) | (missing > (values > down).sum(axis=1))
    values = np.where(lost[:, None], wanted, values)
    down = np.floor(values)
    missing = np.rint(wanted.sum(axis=1) - down.sum(axis=1))
    order = np.argsort(down - values, axis=1, kind="stable")
    rank = np.argsort(order, axis=1, kind="stable")
    result: Array = down + (rank < missing[:, None])
    return result


# --- float16 ------------------------------------------------------------------------------------------------------
def _powers_of_two(attrs: Mapping[str, Array], width: int) -> Array:
    """A scale an output, 1 where that does: float16 has one relative precision over 30 binary orders of magnitude."""
    low, high = _extremes(attrs, width)
    size = np.maximum(-low, high)
    outside = (size > _FLOAT16_TOP) | ((size > 0) & (size < 2.0**-6))
    return np.asarray(2.0 ** np.where(outside, np.ceil(np.log2(np.where(outside, size, 1.0) / _FLOAT16_TOP)), 0.0))
