"""Ops of one-against-one classifiers, whose columns are pairs of classes: sums over groups of columns, and the
probabilities of classes that fit those of pairs best.

Every function is the op's meaning on arrays of shape (rows, width), in libsvm's arithmetic and order. A pair (i, j) of
classes, i < j, is a column; pairs stand in the order (0, 1), (0, 2), ..., (1, 2), ....
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.ops_tensor import reduce_sum
from edgeml.ir.program import Attr, ValueType
from edgeml.ir.table import Array, op, require_dtype

Types = Sequence[ValueType]
Attrs = Mapping[str, Attr]

# Where the iteration of CouplePairs stops: no error above this over the number of classes, or as many steps.
COUPLING_TOLERANCE = 0.005
COUPLING_STEPS = 100


def _infer_sum_groups(types: Types, attrs: Attrs) -> ValueType:
    x, size = types[0], attrs["size"]
    require_dtype(x, "float64", "float32", "int64")
    if size < 1 or x.width % size or not x.width:
        raise ProgramError(f"{x} does not fall into groups of {size} columns")
    return ValueType(x.dtype, x.width // size)


@op("SumGroups", 1, _infer_sum_groups, {"size": "int"})
def sum_groups(x: Array, size: int) -> Array:
    """Sums of ``size`` neighbouring columns each, from the first column of a group to the last."""
    return np.asarray(reduce_sum(x.reshape(-1, size)).reshape(x.shape[0], x.shape[1] // size))


def _infer_couple_pairs(types: Types, attrs: Attrs) -> ValueType:
    x, classes = types[0], attrs["classes"]
    require_dtype(x, "float64")
    if classes < 2 or x.width != classes * (classes - 1) // 2:
        raise ProgramError(f"{x} is not one column a pair of {classes} classes")
    return ValueType("float64", classes)


@op("CouplePairs", 1, _infer_couple_pairs, {"classes": "int"})
def couple_pairs(x: Array, classes: int) -> Array:
    """Probabilities of the classes from those of pairs, x: that of class i where it is i or j.

    The second method of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
    coupling" (2004): the p that makes the sum of (r[j, i] p[i] - r[i, j] p[j])^2 least, by coordinate steps from
    equal shares until Q p is constant to 0.005 / classes, max(100, classes) of them at most.
    """
    k = classes
    first, second = np.triu_indices(k, 1)
    r = np.zeros((x.shape[0], k, k))
    r[:, first, second], r[:, second, first] = x, 1.0 - x
    q = -(r.transpose(0, 2, 1) * r)
    for t in range(k):
        others = np.delete(r[:, :, t], t, axis=1)
        q[:, t, t] = reduce_sum(others * others)[:, 0]
    p = np.full((x.shape[0], k), 1.0 / k)
    going = np.arange(x.shape[0])
    for _ in range(max(COUPLING_STEPS, k)):
        part = p[going]
        qp = np.stack([reduce_sum(q[going, t] * part)[:, 0] for t in range(k)], axis=1)
        pqp = reduce_sum(part * qp)
        far = ~(np.fmax.reduce(np.abs(qp - pqp), axis=1, initial=0.0) < COUPLING_TOLERANCE / k)
        going, qp, pqp, part = going[far], qp[far], pqp[far], part[far]
        if not going.size:
            break
        for t in range(k):
            own = q[going, t, t][:, None]
            step = (-qp[:, t : t + 1] + pqp) / own
            part[:, t : t + 1] += step
            pqp = (pqp + step * (step * own + 2.0 * qp[:, t : t + 1])) / (1.0 + step) / (1.0 + step)
            qp = (qp + step * q[going, t]) / (1.0 + step)
            part = part / (1.0 + step)
        p[going] = part
    return p
