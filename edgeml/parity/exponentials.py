"""scikit-learn with exponentials that another machine would give it: off by a unit in the last place, or right.

NumPy's ``exp`` depends on the processor. On one with AVX-512 a tenth of the results for arguments near 0 are the
neighbour of the right number, and where 1 - exp(-1e-10) is left of a probability no artifact can repeat its digits.
Moving the row does not show it: log probabilities stand on a grid. Called by conditioning.py, which measures how far
scikit-learn's own answer moves.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

_EXP = np.exp
_ONE_AT_A_TIME = threading.Lock()  # or one thread would put back what another had put in


@contextmanager
def off_by_a_unit(rng: np.random.Generator) -> Iterator[None]:
    """Within, ``numpy.exp`` gives floats moved by -1, 0 or 1 units in the last place, drawn from ``rng``.

    Other threads get what they always get.
    """
    from sklearn.externals.array_api_compat import numpy as compat

    exact, here = _EXP, threading.get_ident()

    def exp(x: Any, *args: Any, **options: Any) -> Any:
        result = exact(x, *args, **options)
        floats = isinstance(result, (np.ndarray, np.floating)) and result.dtype.kind == "f"
        if not floats or threading.get_ident() != here:
            return result
        with np.errstate(all="ignore"):
            # Of 0 every library gives 1; what is infinite, zero or about to be stays so.
            steady = ~np.isfinite(result) | (result < np.finfo(result.dtype).smallest_normal) | (np.asarray(x) == 0)
            step = np.where(steady, result.dtype.type(0), np.spacing(result))
            moved = result + step * rng.integers(-1, 2, result.shape).astype(result.dtype)
        if isinstance(result, np.ndarray):
            result[...] = moved
            return result
        return moved

    modules: tuple[Any, ...] = (np, compat)
    with _ONE_AT_A_TIME:
        try:
            for module in modules:
                module.exp = exp
            yield
        finally:
            for module in modules:
                module.exp = exact
