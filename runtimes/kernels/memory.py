"""Where arrays lie, for those who hand them to the kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy.typing as npt

_first_of = ctypes.c_char.from_buffer


def address(array: npt.NDArray[Any]) -> int:
    """Of the first element. The caller keeps the array."""
    try:
        # 0.25 us, where the interface, which describes the dtype too, takes 1; a batch of 20 columns needs 25 of them.
        return ctypes.addressof(_first_of(array))  # type: ignore[arg-type]  # NumPy arrays have the buffer protocol
    except (TypeError, ValueError, BufferError):  # read-only, not contiguous, or without elements
        result: int = array.__array_interface__["data"][0]
        return result
