"""A value of a program that is being built: arithmetic and comparisons on it add nodes.

Made by the ``Builder`` (builder.py) alone; converters and passes work with values as NumPy code works with arrays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgeml.ir.program import Dtype, ValueType

if TYPE_CHECKING:
    from edgeml.ir.builder import Builder


class Value:
    """A value of the program being built. Arithmetic and comparisons add nodes; see Builder for the rest.

    ``numpy`` is the dtype NumPy has for the cells. It is narrower than the value's own where a program has no such
    dtype: an int8 column is int64 here, but beside float32 the two meet in float32, not in float64.
    """

    __slots__ = ("builder", "id", "numpy", "type")
    __array_ufunc__ = None  # so that `array - value` comes to our reflected operator
    __hash__ = object.__hash__

    def __init__(self, builder: Builder, id: int, type: ValueType, numpy: str | None = None) -> None:
        self.builder, self.id, self.type = builder, id, type
        self.numpy: str = numpy or ("object" if type.dtype == "string" else type.dtype)

    @property
    def width(self) -> int:
        return self.type.width

    @property
    def dtype(self) -> Dtype:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"Value(%{self.id}: {self.type})"

    def __add__(self, other: Any) -> Value:
        return self.builder.binary("Add", self, other)

    def __radd__(self, other: Any) -> Value:
        return self.builder.binary("Add", other, self)

    def __sub__(self, other: Any) -> Value:
        return self.builder.binary("Sub", self, other)

    def __rsub__(self, other: Any) -> Value:
        return self.builder.binary("Sub", other, self)

    def __mul__(self, other: Any) -> Value:
        return self.builder.binary("Mul", self, other)

    def __rmul__(self, other: Any) -> Value:
        return self.builder.binary("Mul", other, self)

    def __truediv__(self, other: Any) -> Value:
        return self.builder.binary("Div", self, other)

    def __rtruediv__(self, other: Any) -> Value:
        return self.builder.binary("Div", other, self)

    def __neg__(self) -> Value:
        return self.builder.op("Neg", self)

    def __lt__(self, other: Any) -> Value:
        return self.builder.binary("Less", self, other)

    def __le__(self, other: Any) -> Value:
        return self.builder.binary("LessEqual", self, other)

    def __gt__(self, other: Any) -> Value:
        return self.builder.binary("Greater", self, other)

    def __ge__(self, other: Any) -> Value:
        return self.builder.binary("GreaterEqual", self, other)

    def __eq__(self, other: Any) -> Value:  # type: ignore[override]  # a value compares elementwise, as arrays do
        return self.builder.binary("Equal", self, other)

    def __and__(self, other: Any) -> Value:
        return self.builder.binary("And", self, other)

    def __or__(self, other: Any) -> Value:
        return self.builder.binary("Or", self, other)

    def __invert__(self) -> Value:
        return self.builder.op("Not", self)

    def cast(self, dtype: str) -> Value:
        """The value as ``dtype``; itself when it has that dtype already."""
        return self if self.dtype == dtype else self.builder.op("Cast", self, to=dtype)

    def held_as(self, numpy: str) -> Value:
        """The same value, known to be of dtype ``numpy`` in NumPy."""
        return self if self.numpy == numpy else Value(self.builder, self.id, self.type, numpy)

    def select(self, indices: Any) -> Value:
        """Columns by position (an int, a slice, or a sequence of ints or bools)."""
        if not isinstance(indices, slice):
            indices = np.atleast_1d(indices)
            indices = indices if indices.size else indices.astype(np.int64)  # an empty list is an array of floats
        positions = np.arange(self.width, dtype=np.int64)[indices]
        if np.array_equal(positions, np.arange(self.width)):
            return self
        return self.builder.op("Select", self, indices=positions).held_as(self.numpy)
