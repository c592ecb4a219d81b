"""Every op, one table: ``OPS`` maps a name to its arity, attributes, typing rule and NumPy meaning.

The entries are declared where their meaning is written, one module ``ops_*`` a kind: the tensor vocabulary in
``ops_tensor.py``, the ML level in ``ops_ml.py``, what a quantiser puts in its place in ``ops_quantised.py``, what
stands over raw columns in the native artifact in ``ops_raw.py``; each of the others says what it is for. Importing
this module fills the table.
"""

from importlib import import_module

from edgeml.ir.table import OPS, Op

__all__ = ["OPS", "Op"]

# One line a file of ops; a new file is entered here.
for _module in (
    "tensor",
    "ml",
    "quantised",
    "raw",
    "distances",
    "iterate",
    "pairs",
    "remainder",
    "search",
    "special",
    "text",
    "items",
):
    import_module(f"edgeml.ir.ops_{_module}")
