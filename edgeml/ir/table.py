"""The mechanism behind the op table: what an op declares, and the decorator that enters it.

An op is declared once, as a NumPy function with its typing rule: see ``ops.py`` for the list. The NumPy function is
the op's meaning; kernels and targets must reproduce it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeml.errors import ProgramError
from edgeml.ir.program import Attr, ValueType

Array = npt.NDArray[Any]
Infer = Callable[[Sequence[ValueType], Mapping[str, Attr]], ValueType]
Evaluate = Callable[..., Array]

# Attribute kinds an op may declare. "keys" is a tuple of str, None or NaN (cells of a string value), or an array;
# "program" is a program inside the program, such as the body of a loop.
ATTR_KINDS = ("int", "float", "str", "bool", "array", "keys", "program")


@dataclass(frozen=True, slots=True)
class Op:
    """One operation.

    ``arity`` is the number of inputs, None for one or more. ``attrs`` maps each attribute to its kind. ``infer``
    gives the result's type or raises ProgramError. ``evaluate(*arrays, **attrs)`` is the meaning on NumPy arrays of
    shape (rows, width). An op with an ``effect`` may refuse rows, so it is never removed as dead.
    """

    name: str
    doc: str
    arity: int | None
    attrs: Mapping[str, str]
    infer: Infer
    evaluate: Evaluate
    effect: bool = False


class Ops(MutableMapping[str, Op]):
    """Ops by name. Those that ``elsewhere`` names are found by importing their module; to count or to go through all
    of them imports every one.
    """

    def __init__(self) -> None:
        self._known: dict[str, Op] = {}
        self.elsewhere: dict[str, str] = {}

    def __getitem__(self, name: str) -> Op:
        found = self._known.get(name)
        if found is None and name in self.elsewhere:
            import_module(self.elsewhere[name])
            found = self._known.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __setitem__(self, name: str, op: Op) -> None:
        self._known[name] = op

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __iter__(self) -> Iterator[str]:
        for module in dict.fromkeys(self.elsewhere.values()):  # in order, as a set would not be
            import_module(module)
        return iter(dict(self._known))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def entered(self, name: str) -> bool:
        """Whether the op is known without importing anything."""
        return name in self._known


OPS = Ops()


def op(
    name: str,
    arity: int | None,
    infer: Infer,
    attrs: Mapping[str, str] | None = None,
    *,
    effect: bool = False,
) -> Callable[[Evaluate], Evaluate]:
    """Enter the decorated NumPy function in the table as the meaning of op ``name``."""

    def enter(evaluate: Evaluate) -> Evaluate:
        if OPS.entered(name):
            raise ProgramError(f"op {name} is declared twice")
        doc = (evaluate.__doc__ or "").strip()
        OPS[name] = Op(name, doc, arity, dict(attrs or {}), infer, evaluate, effect)
        return evaluate

    return enter


def same_dtype(types: Sequence[ValueType]) -> None:
    """Raise unless all types have one dtype."""
    if len({t.dtype for t in types}) > 1:
        raise ProgramError("inputs must have one dtype, got " + ", ".join(map(str, types)))


def broadcast_width(types: Sequence[ValueType]) -> int:
    """The common width of values whose widths are equal or 1."""
    widths = {t.width for t in types} - {1}
    if len(widths) > 1:
        raise ProgramError("widths must be equal or 1, got " + ", ".join(map(str, types)))
    return widths.pop() if widths else 1


def require_dtype(t: ValueType, *allowed: str) -> None:
    """Raise unless ``t`` has one of the allowed dtypes."""
    if t.dtype not in allowed:
        raise ProgramError(f"got {t}, need one of {', '.join(allowed)}")


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The NumPy dtype of arrays that hold a value of IR dtype ``dtype`` (strings are object arrays)."""
    return np.dtype(object) if dtype == "string" else np.dtype(dtype)
