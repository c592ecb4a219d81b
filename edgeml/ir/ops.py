"""Every op, one table: ``OPS`` maps a name to its arity, attributes, typing rule and NumPy meaning.

The entries are declared where their meaning is written, one module ``ops_*`` a kind: the tensor vocabulary in
``ops_tensor.py``, the ML level in ``ops_ml.py``, what stands over raw columns in the native artifact in ``ops_raw.py``;
each of the others says what it is for. Importing this module fills the table with what most programs are made of; the
other files are imported when one of their ops is asked for: a start is 16 ms of CPU shorter (168 to 152 ms).
"""

from importlib import import_module

from edgeml.ir.table import OPS, Op

__all__ = ["OPS", "SELDOM", "Op"]

# A new file is entered in one of these two. With those that are seldom needed stand the ops they declare.
_ALWAYS = ("tensor", "ml", "raw")
SELDOM = {
    "quantised": "FakeQuantize DynamicQuantize QuantizedLinear",
    "distances": "Distances TopK TakeAlong",
    "iterate": "Loop Solve",
    "pairs": "SumGroups CouplePairs",
    "remainder": "Fmod",
    "search": "HeapK VisitOrder",
    "special": "Pow Log1p Expm1 Sin Cos Erf NormalQuantile Digamma LogGamma Floor Round Sign Convolve BesselK",
    "text": "Terms HashedTerms",
    "items": "HashedItems CountedItems",
}

for _module in _ALWAYS:
    import_module(f"edgeml.ir.ops_{_module}")
OPS.elsewhere |= {op: f"edgeml.ir.ops_{module}" for module, ops in SELDOM.items() for op in ops.split()}
