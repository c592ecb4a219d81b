"""Sparse rows at run time: a SciPy matrix read a part at a time, as dense rows.

SciPy is never imported; its matrices are known by what they offer. ``Model`` asks ``dense_parts`` for rows it can read,
so that 100,000 columns of mostly zeros do not become one array of gigabytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

# Of float64: 64 MB a part.
MOST_CELLS = 2**23


def is_sparse(X: Any) -> TypeGuard[Any]:
    """Whether X is a SciPy sparse matrix or array."""
    return hasattr(X, "toarray") and hasattr(X, "nnz") and hasattr(X, "tocsr")


def dense_parts(X: Any) -> Iterator[npt.NDArray[Any]]:
    """The rows of a sparse matrix in their order, as dense arrays of at most ``MOST_CELLS`` cells; one for no rows."""
    rows, width = X.shape
    if rows * width <= MOST_CELLS:
        yield X.toarray()
        return
    by_rows = X.tocsr()
    step = max(MOST_CELLS // width, 1)
    for first in range(0, rows, step):
        part: npt.NDArray[Any] = np.asarray(by_rows[first : first + step].toarray())
        yield part
