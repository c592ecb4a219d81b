"""Where a column comes from: each one traced back, through operations cell by cell, to the one column it depends on.

``Tracer.of`` takes a column of a value and says what it is as a function of a base column: a number that grows or falls
with it, one of two values that tell NaN apart, or a function of a category. The passes over raw columns (raw_trees.py,
raw_linear.py, raw_checks.py) ask it; cuts.py finds thresholds of the first kind, categories.py lists the last one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from edgeml.ir.ops import OPS
from edgeml.ir.ops_tensor import keys_array
from edgeml.ir.program import Attr, Node
from edgeml.ir.table import Array
from edgeml.passes.rewrite import Graph

# A column of a value.
Cell = tuple[int, int]
FLOATS = ("float64", "float32")


@dataclass(frozen=True, slots=True)
class Step:
    """One operation on an array: with a constant before or behind it, or with none."""

    op: str
    constant: Array | None = None  # (1,)
    constant_first: bool = False
    to: str = ""

    @property
    def kind(self) -> tuple[str, bool, bool, str, str]:
        """What steps have in common that can be computed together, each with its own constant."""
        dtype = "" if self.constant is None else self.constant.dtype.name
        return self.op, self.constant is None, self.constant_first, self.to, dtype


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same value, (1,), in every row."""

    value: Array


@dataclass(frozen=True, slots=True)
class Missing:
    """One value, (1,), where the base is NaN and another where it is not."""

    base: Cell
    value: Array
    at_nan: Array


@dataclass(frozen=True, slots=True)
class Monotone:
    """``steps`` applied to a float base: never falling with it when ``rises``, else never rising.

    For a base that is not NaN, infinity included, the result is not NaN. For NaN it is ``at_nan``, (1,).
    """

    base: Cell
    steps: tuple[Step, ...]
    rises: bool
    at_nan: Array

    @property
    def only_casts(self) -> bool:
        return all(step.op == "Cast" for step in self.steps)

    @property
    def gains(self) -> bool:
        """Whether who reads the base instead saves more than a cast."""
        return not self.only_casts or not np.isnan(self.at_nan.astype(np.float64)[0])


@dataclass(frozen=True, slots=True)
class Listed:
    """A function of a category: of a cell of strings, or of the position that a Lookup of numbers gives.

    ``keys`` are the strings that what is computed of a cell of strings can tell apart; categories.py evaluates it.
    """

    root: Cell
    cell: Cell
    keys: tuple[str, ...] = ()


Trace = Fixed | Missing | Monotone | Listed
# op -> whether the result rises with the operand beside the constant; None where that is the constant's sign.
_WITH_CONSTANT: dict[str, tuple[bool | None, bool | None]] = {  # constant behind, constant before
    "Add": (True, True),
    "Sub": (True, False),
    "Mul": (None, None),
    "Minimum": (True, True),
    "Maximum": (True, True),
    "Greater": (True, False),
    "GreaterEqual": (True, False),
    "Less": (False, True),
    "LessEqual": (False, True),
}
_COMPARE = ("Greater", "GreaterEqual", "Less", "LessEqual")
# Ops that hand on cells as they are.
_SAME = ("CheckFinite", "CheckRange", "Require", "Select", "Concat")
# Ops whose result's column j depends on column j of every operand (on its only one where it has one).
_CELLWISE = (
    "Add", "Sub", "Mul", "Div", "Minimum", "Maximum", *_COMPARE, "Equal", "And", "Or", "Not", "Where", "Neg", "Abs",
    "Sqrt", "Exp", "Log", "Sigmoid", "Tanh", "Log1p", "Expm1", "Sin", "Cos", "Erf", "NormalQuantile", "Digamma",
    "LogGamma", "BesselK", "Floor", "Round", "Sign", "Pow", "Fmod", "IsNaN", "IsNone", "Cast",
)  # fmt: skip
# Ops that compute every column of the result from the only column of the operand.
_OF_ONE = ("Lookup", "Recode", "Take", "OneHot")


def source(graph: Graph, cell: Cell) -> Cell:
    """The cell that a column is another name of: behind checks, selections and columns side by side."""
    while True:
        value, column = cell
        node = graph.node(value)
        if node is None or node.op not in _SAME:
            return cell
        if node.op == "Select":
            column = int(node.attrs["indices"][column])
        value = node.inputs[0]
        if node.op == "Concat":
            for value in node.inputs:
                width = graph.type_of(value).width
                if column < width:
                    break
                column -= width
        cell = (value, column)


def operands(graph: Graph, cell: Cell) -> list[Cell]:
    """The cells that a cell is computed from, sources all; none for an op this module does not understand."""
    cell = source(graph, cell)
    node = graph.node(cell[0])
    if node is None or node.op not in (*_CELLWISE, *_OF_ONE):
        return []
    columns = [0 if node.op in _OF_ONE or graph.type_of(v).width == 1 else cell[1] for v in node.inputs]
    return [source(graph, operand) for operand in zip(node.inputs, columns, strict=True)]


def gather(graph: Graph, cells: Sequence[Cell], origin: str) -> int:
    """Columns side by side, each from where it was computed; of operations cell by cell, no more than asked for."""
    runs: list[tuple[int, list[int]]] = []
    for value, column in (source(graph, cell) for cell in cells):
        if runs and runs[-1][0] == value:
            runs[-1][1].append(column)
        else:
            runs.append((value, [column]))
    return graph.concat([_narrowed(graph, value, columns, origin) for value, columns in runs], origin)


def _narrowed(graph: Graph, value: int, columns: Sequence[int], origin: str) -> int:
    node = graph.node(value)
    if node is None or node.op not in _CELLWISE or len(columns) >= node.type.width:
        return graph.select(value, np.array(columns), origin)
    parts = []
    for operand in node.inputs:
        constant = graph.constant(operand)
        if graph.type_of(operand).width == 1:
            parts.append(operand)
        elif constant is not None:
            parts.append(graph.emit("Constant", (), {"value": constant[list(columns)]}, node.origin))
        else:
            parts.append(gather(graph, [(operand, column) for column in columns], node.origin))
    return graph.emit(node.op, parts, node.attrs, node.origin)


class Tracer:
    """Traces of the columns of a graph, remembered: a graph only grows."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._known: dict[Cell, Trace | None] = {}

    def of(self, value: int, column: int) -> Trace | None:
        """What a column is; None for one that is neither a float nor a function of a category.

        A float that nothing is known of is its own base.
        """
        cell = source(self._graph, (value, column))
        if cell not in self._known:
            # Operands first, by hand: a chain may be longer than Python's stack.
            pending = [cell]
            while pending:
                top = pending[-1]
                missing = [c for c in operands(self._graph, top) if c not in self._known]
                if missing:
                    pending += missing
                else:
                    self._known[top] = self._trace(top)
                    pending.pop()
        return self._known[cell]

    def _trace(self, cell: Cell) -> Trace | None:
        node = self._graph.node(cell[0])
        found = None if node is None else self._of_node(cell, node)
        if found is not None:
            return found
        dtype = self._graph.type_of(cell[0]).dtype
        if dtype == "string":
            return Listed(cell, cell)
        if dtype in FLOATS:
            return Monotone(cell, (), True, np.full(1, np.nan, dtype=dtype))
        return Listed(cell, cell) if node is not None and node.op in ("Lookup", "Recode") else None

    def _of_node(self, cell: Cell, node: Node) -> Trace | None:
        if node.op == "Constant":
            return Fixed(keys_array(node.attrs["value"])[cell[1] : cell[1] + 1])
        known = [self._known[c] for c in operands(self._graph, cell)]
        traces = [x for x in known if x is not None]
        if not traces or len(traces) < len(known):
            return None
        roots = {x.root for x in traces if isinstance(x, Listed)}
        if roots:
            if len(roots) > 1 or not all(isinstance(x, (Listed, Fixed)) for x in traces):
                return None
            return Listed(roots.pop(), cell, _all_keys(node, traces))
        if node.op in _OF_ONE:
            return None
        with np.errstate(all="ignore"):
            return _computed(node, traces)


def _all_keys(node: Node, operands: Sequence[Trace]) -> tuple[str, ...]:
    """Strings that an op on categories can tell apart, those of its operands first."""
    found: dict[str, None] = {}
    for x in operands:
        if isinstance(x, Listed):
            found.update(dict.fromkeys(x.keys))
        elif isinstance(x, Fixed):
            found.update(dict.fromkeys(c for c in x.value.tolist() if isinstance(c, str)))
    for name in ("keys", "table"):
        cells = node.attrs.get(name)
        if isinstance(cells, tuple):
            found.update(dict.fromkeys(c for c in cells if isinstance(c, str)))
    return tuple(found)


# --- numbers ------------------------------------------------------------------------------------------------
def evaluate(node: Node, arrays: Sequence[Array]) -> Array:
    """A cellwise op on arrays of any one shape."""
    result: Array = OPS[node.op].evaluate(*arrays, **node.attrs)
    return result


def _computed(node: Node, operands: Sequence[Trace]) -> Trace | None:
    """A cellwise op on constants and functions of one float column."""
    bases = {x.base for x in operands if isinstance(x, (Missing, Monotone))}
    if not bases:
        return Fixed(evaluate(node, [_at(x) for x in operands]))
    if len(bases) > 1:
        return None
    at_nan = evaluate(node, [_at(x, nan=True) for x in operands])
    moving = [at for at, x in enumerate(operands) if isinstance(x, Monotone)]
    if not moving:
        return Missing(bases.pop(), evaluate(node, [_at(x) for x in operands]), at_nan)
    if node.op == "Where" and moving[0] > 0:
        chosen = operands[1 if bool(_at(operands[0])[0]) else 2]
        return _with_nan(chosen, bases.pop(), at_nan)
    x = operands[moving[0]]
    assert isinstance(x, Monotone)
    if node.op == "IsNaN":
        return Missing(x.base, np.zeros(1, dtype=bool), at_nan)
    others = [y for at, y in enumerate(operands) if at != moving[0]]
    if len(moving) > 1 or not all(isinstance(y, Fixed) for y in others):
        return None
    constant = _at(others[0]) if others else None
    rises = _direction(node, x, constant, constant_first=moving[0] == 1)
    if rises is None:
        return None
    step = Step(node.op, constant, moving[0] == 1, node.attrs.get("to", ""))
    return Monotone(x.base, (*x.steps, step), x.rises == rises, at_nan)


def _at(x: Trace, nan: bool = False) -> Array:
    """The value of what does not grow or fall; at NaN, of anything."""
    if isinstance(x, Fixed):
        return x.value
    assert isinstance(x, (Missing, Monotone))
    return x.at_nan if nan or isinstance(x, Monotone) else x.value


def _with_nan(x: Trace, base: Cell, at_nan: Array) -> Trace:
    if isinstance(x, Monotone):
        return replace(x, at_nan=at_nan)
    return Missing(base, _at(x), at_nan)


def _direction(node: Node, x: Monotone, constant: Array | None, constant_first: bool) -> bool | None:
    """Whether an op rises with its operand in floating point, None where that, or that it makes no NaN, is unproved.

    Rounding keeps order, so what rises in real numbers never falls when it is rounded once. A finite constant that is
    not zero where it multiplies or divides makes no NaN of a number, infinity included.
    """
    before = _dtype_after(x)
    if node.op == "Cast":
        to = node.attrs["to"]
        return True if to in FLOATS or (before == "bool" and to == "int64") else None
    if node.op == "Not":
        return False
    if constant is None:
        return False if node.op == "Neg" and before in FLOATS else None
    if before not in FLOATS or not np.isfinite(constant).all():
        return None
    if node.op == "Div":
        return None if constant_first or constant[0] == 0 else bool(constant[0] > 0)
    if node.op not in _WITH_CONSTANT:
        return None
    rises = _WITH_CONSTANT[node.op][constant_first]
    if rises is None:
        return None if constant[0] == 0 else bool(constant[0] > 0)
    return rises


def _dtype_after(x: Monotone) -> str:
    """dtype of what the steps compute."""
    return str(x.at_nan.dtype)


def run_steps(kinds: Sequence[tuple[str, bool, bool, str, str]], constants: Sequence[Array | None], x: Array) -> Array:
    """The steps of many traces of the same kinds at once, on one element for each."""
    with np.errstate(all="ignore"):
        for (op, alone, first, to, _), constant in zip(kinds, constants, strict=True):
            attrs: dict[str, Attr] = {"to": to} if op == "Cast" else {}
            if alone or constant is None:
                x = OPS[op].evaluate(x, **attrs)
            else:
                x = OPS[op].evaluate(*((constant, x) if first else (x, constant)), **attrs)
    return x


def gains(trace: Trace | None) -> bool:
    """Whether who reads the raw column instead of a traced one saves more than a cast."""
    return trace is not None and (not isinstance(trace, Monotone) or trace.gains)
