"""scikit-learn with exponentials that another machine would give it: off by a unit in the last place, or right.

NumPy's ``exp`` depends on the processor. On one with AVX-512 a tenth of the results for arguments near 0 are the
neighbour of the right number, and where 1 - exp(-1e-10) is left of a probability no artifact can repeat its digits.
Moving the row does not show it: log probabilities stand on a grid. Called by conditioning.py, which measures how far
scikit-learn's own answer moves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np


@contextmanager
def off_by_a_unit(rng: np.random.Generator) -> Iterator[None]:
    """Within, ``numpy.exp`` gives floats moved by -1, 0 or 1 units in the last place, drawn from ``rng``."""
    from sklearn.externals.array_api_compat import numpy as compat

    exact = np.exp

    def exp(x: Any, *args: Any, **options: Any) -> Any:
        result = exact(x, *args, **options)
        if not isinstance(result, (np.ndarray, np.floating)) or result.dtype.kind != "f":
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
    before = [module.exp for module in modules]
    for module in modules:
        module.exp = exp
    try:
        yield
    finally:
        for module, function in zip(modules, before, strict=True):
            module.exp = function
