"""Ops that take many steps for a row: a loop over a program of its own, and a system of linear equations.

A loop's meaning is per row: a row that is done keeps its state while others go on, so no answer depends on the rows
beside it. Entered in the table by ``ops.py``; the kernels are in runtimes/kernels/iterate.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.program import Attr, Program, ValueType
from edgeml.ir.table import OPS, Array, op, require_dtype

# A program from a file must end: rounds of one loop.
MOST_ROUNDS = 10_000_000


def _infer_loop(types: Sequence[ValueType], attrs: Mapping[str, Attr]) -> ValueType:
    from edgeml.ir.spec import check

    body: Program = attrs["body"]
    if not 1 <= attrs["most"] <= MOST_ROUNDS:
        raise ProgramError(f"a loop of at most {attrs['most']} rounds; it takes 1 to {MOST_ROUNDS}")
    check(body)
    if [entry.type for entry in body.inputs] != list(types):
        raise ProgramError("the body's inputs are not of the types that the loop is given")
    every = [*types, *(node.type for node in body.nodes)]
    if any(t.dtype == "string" for t in every) or any(OPS[n.op].effect or n.op == "OnnxGraph" for n in body.nodes):
        raise ProgramError("the body of a loop works on numbers, and refuses no rows")
    wanted = {"state": ("matrix", types[0].dtype), "more": ("vector", "bool")}
    outputs = body.outputs.values()
    if {o.name: (o.form, o.dtype) for o in outputs} != wanted or any(len(o.values) != 1 for o in outputs):
        raise ProgramError("the body of a loop gives state and more, a value each")
    state, more = (body.type_of(body.outputs[name].values[0]) for name in wanted)
    if state != types[0] or more != ValueType("bool", 1):
        raise ProgramError(f"the body makes {state} of {types[0]} and tells by {more} whether to go on")
    return state


@op("Loop", None, _infer_loop, {"body": "program", "most": "int"})
def loop(state: Array, *given: Array, body: Program, most: int) -> Array:
    """state, more = body(state, *given), at most ``most`` times, for each row as long as its ``more`` holds."""
    from edgeml.ir.interpreter import run

    rows = max(x.shape[0] for x in (state, *given))
    result = np.broadcast_to(state, (rows, state.shape[1])).copy()
    names = [entry.name for entry in body.inputs]
    active = np.arange(rows)
    for _ in range(most):
        if not active.size:
            break
        now = [result[active], *(x if x.shape[0] == 1 else x[active] for x in given)]
        after = run(body, dict(zip(names, now, strict=True)))
        result[active] = after["state"]
        active = active[after["more"]]
    return result


def _infer_solve(types: Sequence[ValueType], attrs: Mapping[str, Attr]) -> ValueType:
    for t in types:
        require_dtype(t, "float64")
    if types[0].width != types[1].width ** 2 or not types[1].width:
        raise ProgramError(f"{types[0]} is no square matrix for {types[1]}")
    return types[1]


@op("Solve", 2, _infer_solve)
def solve(matrix: Array, right: Array) -> Array:
    """The x of ``matrix @ x == right``, by Cholesky's factors of a symmetric positive definite matrix (k * k cells a
    row, row by row; the upper triangle is not read). NaN where the matrix is not positive definite.
    """
    k = right.shape[1]
    rows = max(matrix.shape[0], right.shape[0])
    factor = np.broadcast_to(matrix, (rows, k * k)).copy().reshape(rows, k, k)
    x = np.broadcast_to(right, (rows, k)).copy()
    for j in range(k):
        column = factor[:, j:, j].copy()
        for t in range(j):
            column = column - factor[:, j:, t] * factor[:, j : j + 1, t]
        pivot = np.where(column[:, :1] > 0.0, np.sqrt(column[:, :1]), np.nan)
        factor[:, j:, j] = column / pivot
        factor[:, j, j] = pivot[:, 0]
    for i in range(k):
        for t in range(i):
            x[:, i] = x[:, i] - factor[:, i, t] * x[:, t]
        x[:, i] = x[:, i] / factor[:, i, i]
    for i in range(k - 1, -1, -1):
        for t in range(i + 1, k):
            x[:, i] = x[:, i] - factor[:, t, i] * x[:, t]
        x[:, i] = x[:, i] / factor[:, i, i]
    return x
