"""Weights, tables and nodes of a program, where the kernels find them.

``encode.py`` asks for each by the node it belongs to; the first plan that needs one makes it. ``aligned`` and ``address``
say where arrays lie, here and for whoever else calls the kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.table import Array

CELL = 8  # bytes
ALIGNMENT = 64
Fact = TypeVar("Fact")


class Constants:
    """Weights, tables and nodes of a program, shared by all its plans and made when the first plan needs them.

    Each lies in an array of its own, so that a process that never runs a batch never makes what batches need. A plan
    finds it at an offset from ``base``, in elements of 8 bytes.
    """

    def __init__(self) -> None:
        self.base = aligned(ALIGNMENT // CELL)
        self._places: dict[tuple[int, str], int] = {}
        self._parts: list[Array] = []
        self._facts: dict[tuple[int, str], Any] = {}

    def place(self, key: tuple[int, str], make: Callable[[], Array]) -> int:
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

    def fact(self, key: tuple[int, str], find: Callable[[], Fact]) -> Fact:
        """What ``find`` finds out about a node, once for all plans."""
        if key not in self._facts:
            self._facts[key] = find()
        found: Fact = self._facts[key]
        return found


class NoConstants(Constants):
    """Constants of a plan that is only to be found possible."""

    def place(self, key: tuple[int, str], make: Callable[[], Array]) -> int:
        return 0


def address(array: Array) -> int:
    """Of the first element."""
    result: int = array.__array_interface__["data"][0]
    return result


def aligned(cells: int) -> Array:
    """A zeroed int64 array whose first element lies on a cache line."""
    spare = ALIGNMENT // CELL
    memory = np.zeros(cells + spare, dtype=np.int64)
    first = (-address(memory) % ALIGNMENT) // CELL
    return memory[first : first + cells]
