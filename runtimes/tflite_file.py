"""Reads one entry of metadata out of a ``.tflite`` file: the model's own description, for runtimes/tflite.py.

A flatbuffer read by hand in a few lines: tflite-runtime, the older of the two runtimes, brings no schema. Trusts
nothing: whatever does not lie inside the file raises ManifestError.
"""

from __future__ import annotations

import struct
from typing import Any

from edgeml.errors import ManifestError
from edgeml.jsonutil import MAX_JSON_BYTES, loads

# Fields of the tables Model, Metadata and Buffer by their numbers in the schema.
_BUFFERS, _METADATA = 4, 6
_NAME, _BUFFER = 0, 1
_DATA = 0
_MOST_ENTRIES = 1_000_000


def read_metadata(data: bytes, entry: str, member: str) -> dict[str, Any]:
    """The JSON object stored as metadata ``entry``. ``member`` names the file in errors."""
    try:
        content = _content(data, entry.encode())
    except (struct.error, IndexError, ValueError) as error:
        raise ManifestError(f"{member}: its metadata cannot be read: {error}", "compile the pipeline again") from None
    found = loads(content, f"{member}: metadata", limit=MAX_JSON_BYTES)
    if not isinstance(found, dict):
        raise ManifestError(f"{member}: its metadata is not an object", "compile the pipeline again")
    return found


def _content(data: bytes, entry: bytes) -> bytes:
    model = _follow(data, 0)
    entries, buffers = _field(data, model, _METADATA), _field(data, model, _BUFFERS)
    if entries is None or buffers is None:
        raise ValueError("there is none")
    tables = _vector(data, buffers)
    for place in _vector(data, entries):
        metadata = _follow(data, place)
        name, number = _field(data, metadata, _NAME), _field(data, metadata, _BUFFER)
        if name is None or number is None or _bytes(data, name) != entry:
            continue
        content = _field(data, _follow(data, tables[_u32(data, number)]), _DATA)
        if content is not None:
            return _bytes(data, content)
    raise ValueError(f"there is no entry {entry.decode()}")


def _u32(data: bytes, at: int) -> int:
    result: int = struct.unpack_from("<I", data, at)[0]
    return result


def _follow(data: bytes, at: int) -> int:
    return at + _u32(data, at)


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a table lies, None when it has its default."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    if layout < 0:
        raise ValueError("a table points outside the file")
    size = struct.unpack_from("<H", data, layout)[0]
    if 4 + 2 * number >= size:
        return None
    offset = struct.unpack_from("<H", data, layout + 4 + 2 * number)[0]
    return table + offset if offset else None


def _vector(data: bytes, field: int) -> range:
    """Where the elements of a vector of offsets lie."""
    start = _follow(data, field)
    count = _u32(data, start)
    if count > _MOST_ENTRIES or start + 4 + 4 * count > len(data):
        raise ValueError("a vector does not fit in the file")
    return range(start + 4, start + 4 + 4 * count, 4)


def _bytes(data: bytes, field: int) -> bytes:
    start = _follow(data, field)
    size = _u32(data, start)
    if start + 4 + size > len(data):
        raise ValueError("an entry does not fit in the file")
    return data[start + 4 : start + 4 + size]
