"""scikit-learn's log-determinants, computed once a matrix: ``PCA.score_samples`` asks for that of its precision, which
no row changes, at every call. Of 5,000 columns it takes 6 s, and a compilation calls fifty times.

``compile`` holds ``remembered_determinants`` while it asks scikit-learn; the numbers are those of scikit-learn's own
function.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgeml.ir.table import Array

# Modules of scikit-learn whose score_samples calls their global of this name, with a matrix as its one argument.
_MODULES = ("sklearn.decomposition._pca", "sklearn.decomposition._factor_analysis")
_NAME = "fast_logdet"

_lock = threading.Lock()
_users = 0
_replaced: list[tuple[Any, Any]] = []  # modules and what they had


def remembering(function: Callable[[Array], Any]) -> Callable[[Array], Any]:
    """The function of a matrix, with its last answer kept for a matrix of equal cells."""
    last: tuple[Array, Any] | None = None

    def answer(matrix: Array) -> Any:
        nonlocal last
        known = last
        if known is None or not np.array_equal(known[0], matrix):
            known = last = matrix.copy(), function(matrix)
        return known[1]

    return answer


@contextmanager
def remembered_determinants() -> Iterator[None]:
    """scikit-learn's modules with a ``fast_logdet`` that remembers. Several threads may be inside at once; the last
    one to leave puts the functions back.
    """
    global _users
    with _lock:
        if _users == 0:
            for module in filter(None, map(sys.modules.get, _MODULES)):
                function = getattr(module, _NAME, None)
                if function is not None:
                    _replaced.append((module, function))
                    setattr(module, _NAME, remembering(function))
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            while not _users and _replaced:
                module, function = _replaced.pop()
                setattr(module, _NAME, function)
