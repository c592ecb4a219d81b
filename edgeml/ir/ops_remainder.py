"""The remainder of a division, exact, from which // and % of Python and NumPy follow.

In come two floats, out goes ``numpy.fmod`` of them, which IEEE 754 determines to the last bit. Used by the steps that
users write themselves (converters/function_emitters.py) and by ``Builder.mod``.
"""

from __future__ import annotations

import numpy as np

from edgeml.ir.ops_tensor import _infer_float_arithmetic
from edgeml.ir.table import Array, op


@op("Fmod", 2, _infer_float_arithmetic)
def fmod(x: Array, y: Array) -> Array:
    """x - trunc(x / y) * y without rounding, with the sign of x; NaN where y is 0 or x infinite."""
    with np.errstate(invalid="ignore"):
        result: Array = np.fmod(x, y)
    return result
