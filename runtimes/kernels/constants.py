"""Weights, tables and nodes of a program, where the kernels find them.

``encode.py`` asks for each by the node it belongs to; the first plan that needs one makes it. ``aligned`` and
``address`` say where arrays lie, here and for whoever else calls the kernels.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.table import Array

CELL = 8  # bytes
ALIGNMENT = 64
Fact = TypeVar("Fact")
# The node, behind the loops it stands in, and what the array is to it.
Key = tuple[int | str, ...]


class Constants:
    """Weights, tables and nodes of a program, shared by all its plans and made when the first plan needs them.

    Each lies in an array of its own, so that a process that never runs a batch never makes what batches need. A plan
    finds it at an offset from ``base``, in elements of 8 bytes.
    """

    def __init__(self) -> None:
        self.base = aligned(ALIGNMENT // CELL)
        self._places: dict[Key, int] = {}
        self._parts: list[Array] = []
        self._facts: dict[Key, Any] = {}

    def place(self, key: Key, make: Callable[[], Array]) -> int:
        """Offset in elements of the array that ``make`` gives, made at first use only."""
        if key not in self._places:
            part = np.ascontiguousarray(make()).reshape(-1)
            if part.dtype.itemsize != CELL:
                raise ProgramError(f"constant {key} has dtype {part.dtype}, not 8 bytes")
            if address(part) % ALIGNMENT:
                part, unaligned = aligned(len(part)), part
                part[:] = unaligned.view(np.int64)
            self._parts.append(part)
            self._places[key] = (address(part) - address(self.base)) // CELL
        return self._places[key]

    def fact(self, key: Key, find: Callable[[], Fact]) -> Fact:
        """What ``find`` finds out about a node, once for all plans."""
        if key not in self._facts:
            self._facts[key] = find()
        found: Fact = self._facts[key]
        return found


class NoConstants(Constants):
    """Constants of a plan that is only to be found possible."""

    def place(self, key: Key, make: Callable[[], Array]) -> int:
        return 0


_first_of = ctypes.c_char.from_buffer


def address(array: Array) -> int:
    """Of the first element."""
    try:
        # 0.25 us, where the interface, which describes the dtype too, takes 1; a batch of 20 columns needs 25 of them.
        return ctypes.addressof(_first_of(array))  # type: ignore[arg-type]  # NumPy arrays have the buffer protocol
    except (TypeError, ValueError, BufferError):  # read-only, not contiguous, or without elements
        result: int = array.__array_interface__["data"][0]
        return result


def aligned(cells: int) -> Array:
    """A zeroed int64 array whose first element lies on a cache line."""
    spare = ALIGNMENT // CELL
    memory = np.zeros(cells + spare, dtype=np.int64)
    first = (-address(memory) % ALIGNMENT) // CELL
    return memory[first : first + cells]
