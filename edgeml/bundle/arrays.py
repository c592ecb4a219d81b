"""Raw little-endian arrays in one block of bytes, and a JSON index of them.

``pack`` takes NumPy arrays and gives the index and the block, each array at a multiple of 64 bytes;
``unpack`` gives read-only views into the block without a copy. The layout is fixed by the dtypes and shapes,
so an index that says anything else is refused. The native artifact and the golden rows are stored so; nothing
is ever executed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeml.errors import ArrayError
from edgeml.ir.serial import ARRAY_DTYPES

Array = NDArray[Any]

# A cache line, and the widest vector register there is (AVX-512): kernels may load without a fix-up.
ALIGNMENT = 64
MAX_ARRAYS = 100_000
MAX_DIMENSIONS = 8
# Shapes are bounded even when an axis of length zero makes the array empty: the product must never overflow.
MAX_ELEMENTS = 2**40

_FIELDS = {"dtype", "shape", "offset"}


def pack(arrays: Iterable[Array]) -> tuple[list[dict[str, Any]], bytes]:
    """Index and block of ``arrays``, in their order.

    The index is JSON-ready: one ``{"dtype", "shape", "offset"}`` an array, the offset in bytes from the start
    of the block. Arrays become C-contiguous and little-endian. Raises ArrayError for a dtype that is not in
    ``ARRAY_DTYPES``.
    """
    index: list[dict[str, Any]] = []
    parts: list[bytes] = []
    end = 0
    for position, array in enumerate(arrays):
        dtype = array.dtype.newbyteorder("<")
        if dtype.name not in ARRAY_DTYPES or array.dtype.names is not None:
            raise ArrayError(f"array {position}: dtype {array.dtype} cannot be stored", _allowed())
        _check_shape(position, array.shape)
        data = array.astype(dtype, order="C", copy=False).tobytes()
        padding = -end % ALIGNMENT
        index.append({"dtype": dtype.name, "shape": list(array.shape), "offset": end + padding})
        parts += [bytes(padding), data]
        end += padding + len(data)
    if len(index) > MAX_ARRAYS:
        raise ArrayError(f"{len(index)} arrays, at most {MAX_ARRAYS} can be stored")
    return index, b"".join(parts)


def unpack(index: Any, blob: memoryview | bytes) -> list[Array]:
    """The arrays of ``index`` as read-only, zero-copy views into ``blob``.

    Trusts neither argument: raises ArrayError, naming the array, for an unknown dtype, a wrong shape or
    offset, arrays that overlap, leave gaps or do not fill the block, padding that is not zero, and booleans
    other than 0 and 1.
    """
    if not isinstance(index, list) or len(index) > MAX_ARRAYS:
        raise ArrayError(f"the index of arrays must be a list of at most {MAX_ARRAYS} entries")
    view = memoryview(blob).cast("B").toreadonly()
    result: list[Array] = []
    end = 0
    for position, entry in enumerate(index):
        dtype, shape, offset = _entry(position, entry)
        start = end + -end % ALIGNMENT
        if offset != start:
            raise ArrayError(f"array {position}: offset {offset}, the layout puts it at {start}")
        size = prod(shape) * dtype.itemsize
        if start + size > len(view):
            raise ArrayError(
                f"array {position}: {size} bytes at offset {start} do not fit in a block of {len(view)} bytes"
            )
        if any(view[end:start]):
            raise ArrayError(f"array {position}: the padding before it is not zero")
        if dtype == np.bool_:
            _check_booleans(position, view[start : start + size])
        result.append(np.frombuffer(view[start : start + size], dtype=dtype).reshape(shape))
        end = start + size
    if end != len(view):
        raise ArrayError(f"the arrays end at byte {end}, the block at {len(view)}")
    return result


def _entry(position: int, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    if not isinstance(entry, dict) or set(entry) != _FIELDS:
        raise ArrayError(f"array {position}: an index entry has exactly dtype, shape and offset")
    name, shape, offset = entry["dtype"], entry["shape"], entry["offset"]
    if not isinstance(name, str) or name not in ARRAY_DTYPES:
        raise ArrayError(f"array {position}: dtype {str(name)[:40]!r} is not known", _allowed())
    if not isinstance(shape, list) or not all(type(n) is int for n in shape):
        raise ArrayError(f"array {position}: shape must be a list of integers")
    _check_shape(position, shape)
    if type(offset) is not int:
        raise ArrayError(f"array {position}: offset must be an integer")
    return np.dtype(name).newbyteorder("<"), tuple(shape), offset


def _check_shape(position: int, shape: Sequence[int]) -> None:
    if len(shape) > MAX_DIMENSIONS:
        raise ArrayError(f"array {position}: {len(shape)} dimensions, at most {MAX_DIMENSIONS} are allowed")
    if any(n < 0 for n in shape) or prod(max(n, 1) for n in shape) > MAX_ELEMENTS:
        raise ArrayError(f"array {position}: an axis is negative, or over {MAX_ELEMENTS} elements")


def _check_booleans(position: int, data: memoryview) -> None:
    # NumPy assumes bytes 0 and 1; any other byte makes comparisons and sums disagree with each other.
    if len(data) and np.frombuffer(data, dtype=np.uint8).max() > 1:
        raise ArrayError(f"array {position}: a boolean that is neither 0 nor 1")


def _allowed() -> str:
    return f"use one of {', '.join(ARRAY_DTYPES)}"
