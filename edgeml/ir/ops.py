"""Every op, one table: ``OPS`` maps a name to its arity, attributes, typing rule and NumPy meaning.

The entries are declared where their meaning is written: the tensor vocabulary in ``ops_tensor.py``, the ML level in
``ops_ml.py``, what a quantiser puts in its place in ``ops_quantised.py``, what stands over raw columns in the native
artifact in ``ops_raw.py``, special functions in ``ops_special.py``, what repeats a program of its own, and solves
equations, in ``ops_iterate.py``. Importing this module fills the table.
"""

from edgeml.ir import ops_iterate, ops_ml, ops_quantised, ops_raw, ops_special, ops_tensor
from edgeml.ir.table import OPS, Op

__all__ = ["OPS", "Op", "ops_iterate", "ops_ml", "ops_quantised", "ops_raw", "ops_special", "ops_tensor"]
