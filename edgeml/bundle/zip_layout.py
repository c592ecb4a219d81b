"""The ZIP records of a bundle and the limits of the format: one byte for every choice, as FORMAT.md says.

Members are stored, aligned, in one order, with one timestamp and no platform fields, so the headers of a
bundle follow from the members' names, sizes and CRC-32. ``zip_write`` emits these records; ``zip_read``
parses a file and then compares it with them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from edgeml.errors import DuplicateMemberError, MemberNameError, MemberSizeError, MissingMemberError

MANIFEST = "manifest.json"
SIGNATURE = "signature.json"
SCHEMA = "schema.json"
PROFILE = "profile.json"

# Data of every member starts at a multiple of this, like the arrays within a member (see arrays.py).
ALIGNMENT = 64
MAX_MEMBERS = 64
MAX_NAME_LENGTH = 120
MAX_MEMBER_BYTES = 2**31 - 1
# ZIP's 32-bit fields end at 2**32 - 1, which is the mark of ZIP64.
MAX_FILE_BYTES = 2**32 - 2
MAX_MANIFEST_BYTES = 4 * 2**20
MAX_SIGNATURE_BYTES = 1024

LOCAL = struct.Struct("<4sHHHHHIIIHH")
CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
END = struct.Struct("<4sHHHHIIH")
LOCAL_MARK, CENTRAL_MARK, END_MARK = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"

# Version 1.0 of the ZIP specification is what a stored member needs. "Made by" MS-DOS (host 0): on Unix,
# unzip then gives files the user's default permissions, where host 3 would need a mode, which is a platform
# field.
_VERSION = 10
_TIME, _DATE = 0, 0x0021  # midnight of 1 January 1980, the earliest a ZIP can say
# Header ID of the padding field that Android's zipalign and apksigner introduced: u16 alignment, then zeros.
_PADDING_ID = 0xD935
_PADDING = struct.Struct("<HHH")

_NAME = re.compile(r"[a-z0-9_][a-z0-9_.-]*(?:/[a-z0-9_][a-z0-9_.-]*)*", re.ASCII)
# Windows opens a device when a file has one of these names, whatever its suffix.
_DEVICES = {"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10))}


@dataclass(frozen=True, slots=True)
class Entry:
    """One member; ``offset``, of its local header, and ``start``, of its data, count bytes of the file."""

    name: str
    size: int
    crc: int
    offset: int

    @property
    def start(self) -> int:
        unpadded = self.offset + LOCAL.size + len(self.name) + _PADDING.size
        return unpadded + -unpadded % ALIGNMENT

    @property
    def end(self) -> int:
        return self.start + self.size

    def local_header(self) -> bytes:
        """Everything from ``offset`` to ``start``: the header, the name and the padding field."""
        extra = self.start - self.offset - LOCAL.size - len(self.name)
        fields = (_VERSION, 0, 0, _TIME, _DATE, self.crc, self.size, self.size, len(self.name), extra)
        padding = _PADDING.pack(_PADDING_ID, extra - 4, ALIGNMENT) + bytes(extra - _PADDING.size)
        return LOCAL.pack(LOCAL_MARK, *fields) + self.name.encode("ascii") + padding

    def central_header(self) -> bytes:
        fields = (_VERSION, _VERSION, 0, 0, _TIME, _DATE, self.crc, self.size, self.size, len(self.name))
        return CENTRAL.pack(CENTRAL_MARK, *fields, 0, 0, 0, 0, 0, self.offset) + self.name.encode("ascii")


def end_record(count: int, size: int, offset: int) -> bytes:
    """End of central directory: ``count`` members, a directory of ``size`` bytes at ``offset``."""
    return END.pack(END_MARK, 0, 0, count, count, size, offset, 0)


def order(name: str) -> tuple[int, str]:
    """Sort key of the one order of members: manifest, signature, then by name."""
    return ((MANIFEST, SIGNATURE).index(name) if name in (MANIFEST, SIGNATURE) else 2, name)


def check_names(names: Iterable[str]) -> None:
    """Refuse names that are not the format's, that stand twice, or that cannot be unpacked side by side."""
    seen: set[str] = set()
    for name in names:
        check_name(name)
        if name in seen:
            raise DuplicateMemberError(f"member {name} stands twice")
        seen.add(name)
    for name in seen:
        parts = name.split("/")
        for depth in range(1, len(parts)):
            if (folder := "/".join(parts[:depth])) in seen:
                raise MemberNameError(f"{folder} is a member and the folder of member {name}")
    if len(seen) > MAX_MEMBERS:
        raise MemberSizeError(f"{len(seen)} members, at most {MAX_MEMBERS} are allowed")
    if MANIFEST not in seen:
        raise MissingMemberError(f"there is no {MANIFEST}")


def check_name(name: str) -> None:
    """Refuse a name that could leave the folder it is unpacked in, or be another file on another system."""
    if len(name) > MAX_NAME_LENGTH:
        raise MemberNameError(f"member name {name[:40]!r}… has {len(name)} characters, over {MAX_NAME_LENGTH}")
    if not _NAME.fullmatch(name):
        raise MemberNameError(
            f"member name {name!r} is not allowed",
            "use lower-case ASCII letters, digits and . _ - in parts divided by /, none starting with . or -",
        )
    for part in name.split("/"):
        if part.endswith(".") or part.split(".")[0] in _DEVICES:
            raise MemberNameError(f"member name {name!r} means another file on Windows")
