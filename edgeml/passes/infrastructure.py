"""What a pass is, and how passes are run: each one takes a legal program and gives a legal program that
answers the same.

``run_passes`` takes a program and a list of passes and gives the rewritten program; ``optimise`` (in the
package) calls it until nothing changes. The spec is checked before and after every pass. With ``rows`` the
interpreter also runs before and after on them and the answers are compared, which is how the tests use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edgeml.errors import EdgeMLError, InputError, PassError
from edgeml.ir import interpreter
from edgeml.ir.program import Program
from edgeml.ir.spec import check
from edgeml.ir.table import Array

Rows = Mapping[str, Array]

# Far below the 1e-9 that a compiled artifact may differ from scikit-learn by (DESIGN, decision 2). Only
# passes that say ``exact=False`` may use it.
INEXACT_RTOL = 1e-10
INEXACT_ATOL = 1e-12


@dataclass(frozen=True, slots=True)
class Pass:
    """One rewrite of a whole program.

    ``requires`` and ``ensures`` say in words what holds before and after, beyond the spec. ``run`` returns
    the new program and whether it differs; when it does not, the program it was given. ``exact`` passes keep
    every bit of every output; the others keep labels and stay within INEXACT_RTOL.
    """

    name: str
    requires: str
    ensures: str
    run: Callable[[Program], tuple[Program, bool]]
    exact: bool = True


def run_passes(program: Program, passes: Sequence[Pass], rows: Rows | None = None) -> tuple[Program, tuple[str, ...]]:
    """Run passes in order.

    Returns the program and the names of the passes that changed it. Raises PassError, naming the pass and
    those that ran before it, when a program is illegal before or after a pass, when a pass changes what the
    outputs look like, or, given ``rows`` (input name to array, as the interpreter takes them), when the
    answers differ.
    """
    done: list[str] = []
    changed: list[str] = []
    for current in passes:
        before = program
        try:
            check(before)
            program, modified = current.run(before)
            check(program)
            _check_kept(before, program, modified)
            if modified and rows is not None:
                _check_answers(before, program, rows, current.exact)
        except Exception as error:  # whatever goes wrong inside a pass is the pass's fault, and says so
            cause = error.cause if isinstance(error, EdgeMLError) else f"{type(error).__name__}: {error}"
            raise PassError(
                f"pass {current.name} failed: {cause} (passes before it: {', '.join(done) or 'none'})",
                "this is a fault of EdgeML: please report it with the pipeline's steps and parameters",
            ) from error
        done.append(current.name)
        if modified:
            changed.append(current.name)
    return program, tuple(changed)


def _check_kept(before: Program, after: Program, modified: bool) -> None:
    """Raise PassError unless the outputs look as they did and inputs were at most dropped."""
    if not modified and after is not before:
        raise PassError("it reports no change but returns another program")
    known = {entry.name: entry for entry in before.inputs}
    for entry in after.inputs:
        if known.get(entry.name) != entry:
            raise PassError(f"input {entry.name} is new or has another type")
    if list(before.outputs) != list(after.outputs):
        raise PassError(f"outputs {list(before.outputs)} became {list(after.outputs)}")
    for name, old in before.outputs.items():
        new = after.outputs[name]
        widths = [[p.type_of(v).width for v in o.values] for p, o in ((before, old), (after, new))]
        same = widths[0] == widths[1] if old.form in ("list", "stack") else sum(widths[0]) == sum(widths[1])
        if (old.form, old.dtype) != (new.form, new.dtype) or not same:
            raise PassError(f"output {name} changed its form, dtype or width")


def _check_answers(before: Program, after: Program, rows: Rows, exact: bool) -> None:
    """Raise PassError unless both programs refuse the rows alike, or answer alike."""
    old, new = _answers(before, rows), _answers(after, rows)
    if isinstance(old, InputError) or isinstance(new, InputError):
        if type(old) is not type(new):
            raise PassError(f"before it the rows gave {_says(old)}, after it {_says(new)}")
        return
    for name in before.outputs:
        if not (same_bits(old[name], new[name]) if exact else _close(old[name], new[name])):
            raise PassError(f"output {name} differs: {old[name]!r} became {new[name]!r}")


def _answers(program: Program, rows: Rows) -> dict[str, Array] | InputError:
    try:
        return interpreter.run(program, rows)
    except InputError as error:
        return error


def _says(result: dict[str, Array] | InputError) -> str:
    return type(result).__name__ if isinstance(result, InputError) else "answers"


def same_bits(a: Array, b: Array) -> bool:
    """Equal shapes, dtypes and bits; any NaN equals any NaN, since its payload has no meaning."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        pairs = zip(a.ravel().tolist(), b.ravel().tolist(), strict=True)
        return all(x == y or (x != x and y != y) for x, y in pairs)
    return bool(np.all((np.signbit(a) == np.signbit(b)) & (a == b) | (np.isnan(a) & np.isnan(b))))


def _close(a: Array, b: Array) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return same_bits(a, b)
    return bool(np.allclose(a, b, rtol=INEXACT_RTOL, atol=INEXACT_ATOL, equal_nan=True))
