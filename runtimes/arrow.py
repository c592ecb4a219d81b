"""Reads arrays of strings through Arrow's C data interface, which pyarrow, polars and others offer on their objects.

Comes in: an object with ``__arrow_c_array__`` or ``__arrow_c_stream__``. Goes out: its chunks, each the addresses of
its buffers and what keeps them alive. Nothing is copied and no library is imported: a capsule holds a struct, whose
layout is Arrow's promise (https://arrow.apache.org/docs/format/CDataInterface.html). ``text_column`` calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any


class _Schema(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", c_char_p),
    ("name", c_char_p),
    ("metadata", c_void_p),
    ("flags", c_int64),
    ("n_children", c_int64),
    ("children", c_void_p),
    ("dictionary", POINTER(_Schema)),
    ("release", ctypes.CFUNCTYPE(None, POINTER(_Schema))),
    ("private_data", c_void_p),
]


class _Array(ctypes.Structure):
    pass


_Array._fields_ = [
    ("length", c_int64),
    ("null_count", c_int64),
    ("offset", c_int64),
    ("n_buffers", c_int64),
    ("n_children", c_int64),
    ("buffers", POINTER(c_void_p)),
    ("children", c_void_p),
    ("dictionary", POINTER(_Array)),
    ("release", ctypes.CFUNCTYPE(None, POINTER(_Array))),
    ("private_data", c_void_p),
]


class _Stream(ctypes.Structure):
    pass


_Stream._fields_ = [
    ("get_schema", ctypes.CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Schema))),
    ("get_next", ctypes.CFUNCTYPE(c_int, POINTER(_Stream), POINTER(_Array))),
    ("get_last_error", ctypes.CFUNCTYPE(c_char_p, POINTER(_Stream))),
    ("release", ctypes.CFUNCTYPE(None, POINTER(_Stream))),
    ("private_data", c_void_p),
]

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = c_void_p, (ctypes.py_object, c_char_p)


@dataclass(frozen=True, slots=True)
class Chunk:
    """An array, or a piece of one. ``format`` is Arrow's: "u", "U" and "vu" are strings, "c" to "L" integers.

    ``buffers`` are addresses, 0 for one that is not there; the elements begin at ``offset`` of them. ``dictionary`` is
    set when the elements are indices into it. The memory lives as long as ``owner``.
    """

    format: str
    rows: int
    offset: int
    buffers: Sequence[int]
    dictionary: Chunk | None
    owner: Any


class _Owned:
    """A struct that an exporter filled in for us, released once, when nothing needs its memory any more."""

    def __init__(self, struct: Any) -> None:
        self.struct = struct

    def __del__(self) -> None:
        if self.struct.release:  # a struct that holds nothing has no release
            self.struct.release(ctypes.byref(self.struct))


def chunks_of(column: Any) -> list[Chunk] | None:
    """The chunks of an Arrow object, without those that are empty; None when it fails to export itself."""
    if hasattr(column, "__arrow_c_array__"):
        schema, array = column.__arrow_c_array__()
        # The capsules stay the owners: their destructors release, once, what nobody has taken out.
        kind = _Schema.from_address(_pointer(schema, b"arrow_schema"))
        found = _chunk(kind, _Array.from_address(_pointer(array, b"arrow_array")), array)
        return [found] if found.rows else []
    capsule = column.__arrow_c_stream__()
    stream = _Stream.from_address(_pointer(capsule, b"arrow_array_stream"))
    kinds = _Owned(_Schema())
    if stream.get_schema(stream, kinds.struct):
        return None
    chunks: list[Chunk] = []
    while True:
        array = _Owned(_Array())
        if stream.get_next(stream, array.struct):
            return None
        if not array.struct.release:  # the end
            return chunks
        if array.struct.length:
            chunks.append(_chunk(kinds.struct, array.struct, array))


def _chunk(kind: Any, array: Any, owner: Any) -> Chunk:
    # A pointer in a struct that is NULL is false; an address in the list that is NULL is None.
    buffers = [address or 0 for address in array.buffers[: array.n_buffers]] if array.n_buffers else []
    dictionary = _chunk(kind.dictionary[0], array.dictionary[0], owner) if array.dictionary else None
    if array.null_count == 0 and buffers:
        buffers[0] = 0
    return Chunk(kind.format.decode(), array.length, array.offset, buffers, dictionary, owner)
