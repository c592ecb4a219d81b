"""The bytes of a bundle, piece by piece, from its members; called by ``write.py`` alone."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping

from edgeml.bundle.zip_layout import (
    CENTRAL,
    MAX_FILE_BYTES,
    MAX_MEMBER_BYTES,
    Entry,
    check_names,
    end_record,
    order,
)
from edgeml.errors import MemberSizeError

Bytes = bytes | memoryview


def lay_out(members: Mapping[str, Bytes]) -> list[Entry]:
    """The place of each member in the file, in file order. Raises MemberError when a limit is exceeded."""
    check_names(members)
    entries: list[Entry] = []
    end = 0
    for name in sorted(members, key=order):
        if len(members[name]) > MAX_MEMBER_BYTES:
            raise MemberSizeError(f"member {name} has {len(members[name])} bytes, over {MAX_MEMBER_BYTES}")
        entry = Entry(name, len(members[name]), zlib.crc32(members[name]), end)
        entries.append(entry)
        end = entry.end
    if end + sum(CENTRAL.size + len(e.name) for e in entries) > MAX_FILE_BYTES:
        raise MemberSizeError(f"the members have {end} bytes together, over {MAX_FILE_BYTES}")
    return entries


def pieces(members: Mapping[str, Bytes]) -> Iterator[Bytes]:
    """The file, in order: local headers and data, the central directory, the end record."""
    entries = lay_out(members)
    for entry in entries:
        yield entry.local_header()
        yield members[entry.name]
    directory = b"".join(e.central_header() for e in entries)
    yield directory
    yield end_record(len(entries), len(directory), entries[-1].end)
