"""Passes: rewrites from program to program that make it smaller and faster without touching its answers.

``optimise`` runs the standard list and is what the compiler calls; each pass lives in its own file and sees
programs only.
"""

from __future__ import annotations

from edgeml.errors import PassError
from edgeml.ir.program import Program
from edgeml.passes.casts import SHORTEN_CASTS
from edgeml.passes.checks import DROP_CHECKS
from edgeml.passes.columns import SIMPLIFY_COLUMNS
from edgeml.passes.common import SHARE_COMMON
from edgeml.passes.constants import FOLD_CONSTANTS
from edgeml.passes.dead import DROP_DEAD
from edgeml.passes.infrastructure import Pass, Rows, run_passes
from edgeml.passes.scaling import FOLD_SCALING

# Exact to the bit, in the order that lets one find what the one before left.
EXACT: tuple[Pass, ...] = (
    DROP_DEAD,
    FOLD_CONSTANTS,
    SHORTEN_CASTS,
    SIMPLIFY_COLUMNS,
    DROP_CHECKS,
    SHARE_COMMON,
)
# Within a stated error. Run once, since their error is derived for one rewrite.
INEXACT: tuple[Pass, ...] = (FOLD_SCALING,)
STANDARD: tuple[Pass, ...] = (*EXACT, *INEXACT)

# Each round shortens the program or a chain in it; four settle everything seen so far.
_MOST_ROUNDS = 100


def optimise(program: Program, rows: Rows | None = None) -> Program:
    """The program after the standard passes, run until nothing changes.

    Its inputs are those the answers depend on; outputs keep their names, forms and dtypes. ``rows`` (input
    name to array) turns on the comparison of every pass's answers. Raises PassError when a pass breaks the
    program.
    """
    program, _ = run_passes(simplify(program, rows), INEXACT, rows)
    return simplify(program, rows)


def simplify(program: Program, rows: Rows | None = None) -> Program:
    """The program after the passes that are exact to the bit: ``optimise`` without folded scaling.

    A target that computes in float32 or in integers starts from it: there a scaler must stay a scaler.
    """
    for _ in range(_MOST_ROUNDS):
        program, changed = run_passes(program, EXACT, rows)
        if not changed:
            return program
    raise PassError(
        f"passes {', '.join(changed)} still change the program after {_MOST_ROUNDS} rounds",
        "this is a fault of EdgeML: please report it with the pipeline's steps and parameters",
    )


__all__ = ["EXACT", "INEXACT", "STANDARD", "Pass", "optimise", "run_passes", "simplify"]
