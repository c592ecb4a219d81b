"""The rows of a sparse sample: a dense array that knows it is asked about as a sparse matrix.

Some estimators take another way for a SciPy matrix (another order of sums, zeros left out), so a pipeline that was
given one in the sample is asked with one. All that reads cells or edits them sees the array. ``sample`` makes them,
``truth`` turns them back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Dense rows of a sample: 400 MB of float64. More rows of a wide matrix than that are left out.
MOST_CELLS = 50_000_000


class SparseRows(np.ndarray[Any, Any]):
    """Rows, (rows, columns); slices and copies are again such rows."""


def from_sparse(X: Any) -> npt.NDArray[Any]:
    """The rows of a SciPy matrix, evenly chosen where all would not fit."""
    rows, width = X.shape
    most = max(MOST_CELLS // max(width, 1), 1)
    if rows > most:
        X = X.tocsr()[np.linspace(0, rows - 1, most).astype(np.int64)]
    return np.asarray(X.toarray()).view(SparseRows)


def as_given(rows: Any) -> Any:
    """What the pipeline is to be asked with: a CSR matrix for rows of a sparse sample, all else as it is."""
    if not isinstance(rows, SparseRows):
        return rows
    from scipy.sparse import csr_matrix

    return csr_matrix(np.asarray(rows))
