"""How large the numbers handed to a float32 core may be, so that nothing in it overflows.

float32 ends at 3.4e38 where float64 goes on, and behind the end scores become infinite or NaN and labels follow from
nothing. Interval arithmetic over the core finds the largest power of ten that its inputs may have; the front refuses
rows beyond it by name, and the core needs no checks of its own. What the pipeline itself makes infinite (an
exponential, a division by zero) is left to the engine, which sees it in the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgeml.ir import Node, Program
from edgeml.passes.facts import Facts, Known
from edgeml.passes.rewrite import Graph, rewrite

LARGEST = float(np.finfo(np.float32).max)
_EXPONENTS = range(38, 5, -1)
# float32 numbers are wider than the intervals by their rounding.
_MARGIN = 1.01
# XNNPACK's LOGISTIC gives NaN for arguments between about 1e30 and 1e38.
_OPERANDS = {"Sigmoid": 1e20}

# Infinite by the pipeline's own doing, or of a size that intervals do not tell.
_OWN_INFINITY = ("Exp", "Log", "Div", "Pow", "Log1p", "Expm1")


def settle(core: Program, name: str, nan: bool) -> tuple[float, Program]:
    """Largest absolute value of input ``name`` for which nothing overflows, and the core without checks that then pass.

    ``nan`` says whether the input may be NaN. The bound is LARGEST when intervals tell of none.
    """
    for exponent in _EXPONENTS:
        facts = _facts(core, name, 10.0**exponent, nan)
        if _holds(core, facts):
            return 10.0**exponent, _without_checks(core, facts)
    return LARGEST, core


def _facts(core: Program, name: str, bound: float, nan: bool) -> list[Facts]:
    """What is known of every value of the core for inputs within ``bound``."""
    graph = Graph(core.inputs)
    place = [_bounded(graph, v, bound, nan) if e.name == name else v for v, e in enumerate(core.inputs)]
    for node in core.nodes:
        # A check proves nothing here: what it would teach is what is to be shown.
        op, attrs = (node.op, node.attrs) if node.op != "CheckFinite" else ("Select", _all_columns(node))
        place.append(graph.append(replace(node, op=op, attrs=attrs, inputs=tuple(place[v] for v in node.inputs))))
    known = Known(graph)
    return [known.of(value) for value in place]


def _all_columns(node: Node) -> dict[str, object]:
    return {"indices": np.arange(node.type.width, dtype=np.int64)}


def _bounded(graph: Graph, value: int, bound: float, nan: bool) -> int:
    """The value between -bound and bound, as intervals see it."""
    low, high, zero = (graph.emit("Constant", (), {"value": np.array([b])}, "") for b in (-bound, bound, 0.0))
    clipped = graph.emit("Minimum", (graph.emit("Maximum", (value, low), {}, ""), high), {}, "")
    return clipped if nan else graph.emit("Where", (graph.emit("IsNaN", (clipped,), {}, ""), zero, clipped), {}, "")


def _holds(core: Program, facts: Sequence[Facts]) -> bool:
    """Whether all results stay within float32 whose operands do."""
    first = len(core.inputs)
    tame = set(range(first))
    for index, node in enumerate(core.nodes):
        if not all(v in tame for v in node.inputs) or node.op in _OWN_INFINITY:
            continue
        if node.op == "Constant" and not np.isfinite(facts[first + index].magnitude).all():
            continue  # what a step compares with, or puts in the place of an overflow
        if node.op in _OPERANDS and facts[node.inputs[0]].magnitude.max(initial=0.0) > _OPERANDS[node.op]:
            return False
        if node.type.dtype != "bool" and facts[first + index].magnitude.max(initial=0.0) > LARGEST / _MARGIN:
            return False
        tame.add(first + index)
    return True


def _without_checks(core: Program, facts: Sequence[Facts]) -> Program:
    values = iter(range(len(core.inputs), len(core.inputs) + len(core.nodes)))

    def drop(node: Node, graph: Graph) -> int | None:
        value = next(values)
        passes = node.op == "CheckFinite" and facts[value].finite("float32", allow_nan=node.attrs["allow_nan"])
        return node.inputs[0] if passes else None

    return rewrite(core, drop)[0]


def within(graph: Graph, value: int, bound: float, origin: str) -> int:
    """The value, refusing rows with a finite number beyond the bound."""
    kind = graph.type_of(value).dtype

    def at_most(limit: float) -> int:
        constant = graph.emit("Constant", (), {"value": np.array([limit], dtype=kind)}, origin)
        return graph.emit("LessEqual", (size, constant), {}, origin)

    size = graph.emit("Abs", (value,), {}, origin)
    finite = at_most(float(np.finfo(kind).max))
    fine = graph.emit("Or", (at_most(bound), graph.emit("Not", (finite,), {}, origin)), {}, origin)
    where = f"step {origin}" if origin else "a raw column"
    message = f"a number of {where} is beyond {bound:.1e}, more than the float32 arithmetic of TFLite can follow"
    return graph.emit("Require", (value, fine), {"message": message, "kind": "range"}, origin)
