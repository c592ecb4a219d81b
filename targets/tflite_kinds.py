"""The program's ops by what they are to the TFLite target: one list a kind, for every module that asks.

``LINEAR`` and ``TREES`` hold a model's weights. ``GRIDS`` round to codes and stand in front of a linear map of a
quantised program.
"""

from __future__ import annotations

LINEAR = ("Linear", "QuantizedLinear")
TREES = ("TreeEnsemble", "TreeLeaves")
GRIDS = ("FakeQuantize", "DynamicQuantize")
# Of these at least one must reach the core, or nothing of the model would be left for TFLite.
WEIGHTS = (*LINEAR, *TREES)
# Computed by the core, and all that depends on them.
MODEL = (*WEIGHTS, *GRIDS, "Softmax", "Sigmoid", "Tanh")
# In front of a linear map or of trees these are preprocessing, behind them part of the model.
LATE = ("ReduceSum", "ReduceMax", "ReduceMin", "ArgMax", "ArgMin", "Interp")
# Need the front's float64, or its strings. A loop is left to the core where nothing else would be.
EXACT = ("Rank", "Lookup", "IsNone", "Loop", "Solve")
# Exact in int32 when operands and result are small integers or bools.
INTEGER = (
    "Concat", "Select", "Cast", "Where", "Add", "Sub", "Mul", "Minimum", "Maximum", "Neg", "Abs", "Less", "LessEqual",
    "Greater", "GreaterEqual", "Equal", "And", "Or", "Not",
)  # fmt: skip
