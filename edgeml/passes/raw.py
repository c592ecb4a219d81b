"""Raw-space programs: what the native engine runs reads raw columns, and computes no scaled or one-hot ones.

``raw`` takes an optimised program and gives one with the same answers, to the bit, and the same refusals. The ops it
uses (edgeml/ir/ops_raw.py) are those of the native target; edgeml/quantize calls it for that target alone.
"""

from __future__ import annotations

from dataclasses import replace

from edgeml import fast
from edgeml.ir.program import Input, Program
from edgeml.ir.sparse import SOURCES
from edgeml.passes.columns import SIMPLIFY_COLUMNS
from edgeml.passes.common import SHARE_COMMON
from edgeml.passes.dead import DROP_DEAD
from edgeml.passes.infrastructure import run_passes
from edgeml.passes.raw_checks import RAW_CHECKS
from edgeml.passes.raw_linear import RAW_LINEAR
from edgeml.passes.raw_trees import RAW_TREES

# Checks first: what they read is then read by trees and linear maps alone.
RAW = (RAW_CHECKS, RAW_TREES, RAW_LINEAR)


def raw(program: Program) -> Program:
    """The program over raw columns; the program itself where nothing gains, or where EDGEML_FAST says -raw."""
    if not fast.on("raw") or any(node.op in SOURCES for node in program.nodes):
        return program  # the terms of texts are no raw columns, and too many to look for one behind each
    after, changed = run_passes(program, RAW)
    if not changed:
        return program
    # Not all of ``simplify``: each pass looks at all nodes of all trees again, and nothing else is left to find.
    after, _ = run_passes(after, (SHARE_COMMON, SIMPLIFY_COLUMNS, DROP_DEAD))
    return _with_inputs(after, program.inputs)


def _with_inputs(program: Program, inputs: tuple[Input, ...]) -> Program:
    """The program with all inputs that there were, read or not: they are those that the schema says rows must have."""
    if program.inputs == inputs:
        return program
    names = [entry.name for entry in inputs]
    place = [names.index(entry.name) for entry in program.inputs]
    more = len(inputs) - len(place)
    place += [more + value for value in range(len(place), len(place) + len(program.nodes))]
    nodes = tuple(replace(node, inputs=tuple(place[v] for v in node.inputs)) for node in program.nodes)
    outputs = {n: replace(o, values=tuple(place[v] for v in o.values)) for n, o in program.outputs.items()}
    return Program(inputs, nodes, outputs)
