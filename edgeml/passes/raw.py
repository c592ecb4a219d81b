"""Raw-space programs: what the native engine runs reads raw columns, and computes no scaled or one-hot ones.

``raw`` takes an optimised program and gives one with the same answers, to the bit, and the same refusals. The ops it
uses (edgeml/ir/ops_raw.py) are those of the native target; edgeml/quantize calls it for that target alone.
"""

from __future__ import annotations

from edgeml import fast
from edgeml.ir.program import Program
from edgeml.passes import run_passes, simplify
from edgeml.passes.raw_checks import RAW_CHECKS
from edgeml.passes.raw_linear import RAW_LINEAR
from edgeml.passes.raw_trees import RAW_TREES

# Checks first: what they read is then read by trees and linear maps alone.
RAW = (RAW_CHECKS, RAW_TREES, RAW_LINEAR)


def raw(program: Program) -> Program:
    """The program over raw columns; the program itself where nothing gains, or where EDGEML_FAST says -raw."""
    if not fast.on("raw"):
        return program
    after, changed = run_passes(program, RAW)
    return simplify(after) if changed else program
