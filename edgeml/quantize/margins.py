"""How many labels rounding flips, estimated from margins: finer than counting when the rows are few.

Of 1,000 rows a flip is 0.1 %, and two or none of them say little. But every row has a margin between its two best
scores, and an error that moves it. With a density f of margins near zero, errors e > 0 that narrow a margin flip
f * E[max(e, 0)] of the rows; both factors are means over the rows whose margins are small, hundreds of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edgeml.ir.table import Array
from edgeml.quantize.truth import Truth

# Rows whose margins count as small: this share, and this many at the least.
_NEAR = 0.2
_FEWEST = 30
# Of the rows; k-means finds labels by another formula than distances, and they may differ where these tie.
_FOLLOW = 0.99


def estimated_flips(truth: Truth, actual: Mapping[str, Array]) -> float | None:
    """The estimate, from 0 to 1; None where labels do not follow from scores that the pipeline gives."""
    found = _scores(truth, actual)
    if found is None or truth.rows < 2 or not _labels_follow(truth, found[0]):
        return None
    own, other = found
    rows = np.arange(len(own))
    order = np.argsort(own, axis=1, kind="stable")
    best, second = order[:, -1], order[:, -2]
    with np.errstate(invalid="ignore"):
        margin = own[rows, best] - own[rows, second]
        error = other[rows, best] - other[rows, second] - margin
    known = np.isfinite(margin) & np.isfinite(error)
    if known.sum() < 2:
        return None
    margin, error = margin[known], error[known]
    count = min(len(margin), max(_FEWEST, int(_NEAR * len(margin))))
    near = np.argsort(margin, kind="stable")[:count]
    widest, share = float(margin[near[-1]]), count / len(margin)
    narrowing = np.maximum(-error[near], 0.0)
    if not widest > 0:  # scores that tie: whatever narrows a margin of zero flips
        return share * float((narrowing > 0).mean())
    return min(1.0, share / widest * float(narrowing.mean()))


def _scores(truth: Truth, actual: Mapping[str, Array]) -> tuple[Array, Array] | None:
    """Scores of every label, the largest wins, float64 (rows, labels): scikit-learn's and the others."""
    if truth.classes is None:
        nearest = truth.outputs.get("transform")
        usable = nearest is not None and nearest.ndim == 2 and nearest.shape[1] > 1 and nearest.dtype.kind == "f"
        return _pair(-truth.outputs["transform"], -actual["transform"]) if usable else None
    for method in ("decision_function", "predict_proba"):
        if method not in truth.outputs:
            continue
        own, other = _pair(truth.outputs[method], actual[method])
        if own.shape[1] == 1 and len(truth.classes) == 2:
            zero = np.zeros_like(own)
            return np.concatenate([zero, own], axis=1), np.concatenate([zero, other], axis=1)
        if own.shape[1] == len(truth.classes) > 1:
            return own, other
    return None


def _labels_follow(truth: Truth, scores: Array) -> bool:
    """Whether the largest score is that of the label: scores of pairs, of which three classes have three, are others,
    and so are those of a label with a threshold of its own.
    """
    labels = truth.outputs.get("predict")
    if labels is None or labels.ndim != 1:
        return False
    names = range(scores.shape[1]) if truth.classes is None else truth.classes.tolist()
    place = {name: at for at, name in enumerate(names)}
    own = np.array([place.get(label, -1) for label in labels.tolist()], dtype=np.int64)
    won = scores[np.arange(len(own)), own] >= scores.max(axis=1)
    return bool((won & (own >= 0)).mean() >= _FOLLOW)


def _pair(own: Array, other: Array) -> tuple[Array, Array]:
    return own.astype(np.float64).reshape(len(own), -1), other.astype(np.float64).reshape(len(other), -1)
