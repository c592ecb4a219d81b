"""Runs rows of which an engine may refuse some by name, as beyond the range of its arithmetic, and tells which.

An engine that computes in float32 raises OutOfRangeError for a whole batch where scikit-learn answers every row. The
others are found by halving. Parity and ``verify`` call it; an application decides for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.compare import Precision
from edgeml.errors import OutOfRangeError

Array = npt.NDArray[Any]


def run_in_range(
    run: Callable[[Array], Mapping[str, Array]], rows: int, precision: Precision
) -> tuple[dict[str, Array], Array]:
    """Results of the rows within range, in their order, and which these are, bool (rows,). No row, no results.

    ``run`` answers about the rows at some positions, ascending, or raises; every error but OutOfRangeError is passed
    on, and that one too when the engine computes in float64, as scikit-learn does.
    """
    within = np.zeros(rows, dtype=bool)
    pieces: list[Mapping[str, Array]] = []

    def visit(indices: Array) -> None:
        try:
            pieces.append(run(indices))
            within[indices] = True
        except OutOfRangeError:
            if precision == "float64":
                raise
            if len(indices) > 1:
                middle = len(indices) // 2
                visit(indices[:middle])
                visit(indices[middle:])

    if rows:
        visit(np.arange(rows))
    if len(pieces) == 1:
        return dict(pieces[0]), within
    return {m: np.concatenate([p[m] for p in pieces]) for m in (pieces[0] if pieces else ())}, within
