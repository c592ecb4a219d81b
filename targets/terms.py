"""A value of a graph with Python's operators, so that formulas written for arrays write themselves into a graph.

The formulas are those of edgeml/ir/elementary_*.py. ``Term`` names operators as ONNX does; each target subclasses it
and says what its graph does for a name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self


class Term(ABC):
    """A number or bool of each cell; operands are terms of the same graph, or plain numbers."""

    __hash__ = object.__hash__

    @abstractmethod
    def op(self, name: str, *operands: Any) -> Self:
        """The result of an operator."""

    def __add__(self, other: Any) -> Self:
        return self.op("Add", self, other)

    def __radd__(self, other: Any) -> Self:
        return self.op("Add", other, self)

    def __sub__(self, other: Any) -> Self:
        return self.op("Sub", self, other)

    def __rsub__(self, other: Any) -> Self:
        return self.op("Sub", other, self)

    def __mul__(self, other: Any) -> Self:
        return self.op("Mul", self, other)

    def __rmul__(self, other: Any) -> Self:
        return self.op("Mul", other, self)

    def __truediv__(self, other: Any) -> Self:
        return self.op("Div", self, other)

    def __rtruediv__(self, other: Any) -> Self:
        return self.op("Div", other, self)

    def __neg__(self) -> Self:
        return self.op("Neg", self)

    def __abs__(self) -> Self:
        return self.op("Abs", self)

    def __lt__(self, other: Any) -> Self:
        return self.op("Less", self, other)

    def __le__(self, other: Any) -> Self:
        return self.op("LessOrEqual", self, other)

    def __gt__(self, other: Any) -> Self:
        return self.op("Greater", self, other)

    def __ge__(self, other: Any) -> Self:
        return self.op("GreaterOrEqual", self, other)

    def __eq__(self, other: Any) -> Self:  # type: ignore[override]  # a term compares elementwise, as arrays do
        return self.op("Equal", self, other)

    def __ne__(self, other: Any) -> Self:  # type: ignore[override]  # as __eq__
        equal = self.op("Equal", self, other)
        return equal.op("Not", equal)

    def __and__(self, other: Any) -> Self:
        return self.op("And", self, other)

    def __or__(self, other: Any) -> Self:
        return self.op("Or", self, other)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y; the condition is a term."""
    return condition.op("Where", condition, x, y)


def unary(name: str) -> Any:
    """The function of one term that is the operator ``name``."""
    return lambda x: x.op(name, x)
