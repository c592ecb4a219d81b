"""Dead-column removal: values no output depends on go, and so do inputs, so that a device never reads those
columns.

An op that may refuse rows counts as an output: it stays, with all it reads. The schema keeps the names of
dropped columns; only the program forgets them. Called by ``optimise``.
"""

from __future__ import annotations

from edgeml.ir.interpreter import needed
from edgeml.ir.program import Program
from edgeml.passes.infrastructure import Pass
from edgeml.passes.rewrite import keep_only


def _run(program: Program) -> tuple[Program, bool]:
    keep = needed(program, program.outputs)
    n = len(program.inputs)
    if n and not any(keep[:n]):
        keep[0] = True  # answers that depend on no column still need one, to say how many rows there are
    return (program, False) if all(keep) else (keep_only(program, keep), True)


DROP_DEAD = Pass(
    "drop-dead",
    requires="nothing beyond a legal program",
    ensures="every value is read by an output or a check; every input is read, or is the only one",
    run=_run,
)
