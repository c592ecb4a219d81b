"""Reads a bundle's ZIP structure and trusts none of it; called by ``read.py`` alone.

Comes in: an open file. Goes out: one Entry a member, after the end record, the central directory and the
local headers have been checked against each other and against the one layout the format allows. A
malformation people know by name gets its own error; whatever else differs from the layout is
MemberHeaderError. No member is read here.
"""

from __future__ import annotations

from typing import BinaryIO

from edgeml.bundle.zip_layout import (
    ALIGNMENT,
    CENTRAL,
    CENTRAL_MARK,
    END,
    END_MARK,
    LOCAL,
    LOCAL_MARK,
    MAX_FILE_BYTES,
    MAX_MEMBER_BYTES,
    MAX_MEMBERS,
    MAX_NAME_LENGTH,
    Entry,
    check_name,
    check_names,
    end_record,
    order,
)
from edgeml.errors import (
    CompressedMemberError,
    DataDescriptorError,
    EncryptedMemberError,
    ExtraBytesError,
    MemberAlignmentError,
    MemberHeaderError,
    MemberNameError,
    MemberOrderError,
    MemberOverlapError,
    MemberSizeError,
    NotABundleError,
    TruncatedBundleError,
    Zip64Error,
)

_ZIP64_MARKS = (0xFFFF, 0xFFFFFFFF)
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_ID = b"\x01\x00"
_MAX_COMMENT = 0xFFFF
# Flag bits of a ZIP header: encryption (ordinary, strong, of the directory) and sizes after the data.
_ENCRYPTED, _DESCRIPTOR = 0x0001 | 0x0040 | 0x2000, 0x0008


def read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    """``size`` bytes at ``offset``. Raises TruncatedBundleError when the file ends before them."""
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise TruncatedBundleError(f"the file ends at byte {offset + len(data)}, {offset + size} are needed")
    return data


def read_directory(file: BinaryIO, size: int) -> list[Entry]:
    """Entries of a file of ``size`` bytes, in file order. Raises BundleError, by the kind of malformation."""
    count, directory, limit = _end_record(file, size)
    entries: list[Entry] = []
    at = end = 0
    for _ in range(count):
        entry = _central_entry(directory, at, limit, end)
        if entries and order(entry.name) < order(entries[-1].name):
            raise MemberOrderError(f"member {entry.name} stands after {entries[-1].name}")
        _check_local(file, entry)
        entries.append(entry)
        at, end = at + CENTRAL.size + len(entry.name), entry.end
    if at != len(directory):
        raise ExtraBytesError(f"{len(directory) - at} bytes after the last entry of the central directory")
    if end != limit:
        raise ExtraBytesError(f"{limit - end} bytes between the last member and the central directory")
    check_names(e.name for e in entries)
    return entries


def _end_record(file: BinaryIO, size: int) -> tuple[int, bytes, int]:
    """Number of members, bytes of the central directory, and where it starts."""
    if size > MAX_FILE_BYTES:
        raise MemberSizeError(f"the file has {size} bytes, over {MAX_FILE_BYTES}")
    if size == 0:
        raise TruncatedBundleError("the file is empty")
    raw = read_at(file, max(size - END.size, 0), min(size, END.size))
    if len(raw) < END.size or raw[:4] != END_MARK:
        raise _without_end(file, size)
    _, disk, _, here, count, length, offset, comment = END.unpack(raw)
    before = read_at(file, max(size - END.size - 20, 0), 4)
    if before == _ZIP64_LOCATOR or any(v in _ZIP64_MARKS for v in (disk, here, count, length, offset)):
        raise Zip64Error("the end record asks for ZIP64")
    if comment:
        raise ExtraBytesError(f"the end record announces a comment of {comment} bytes")
    if length > MAX_MEMBERS * (CENTRAL.size + MAX_NAME_LENGTH):
        raise MemberSizeError(f"a central directory of {length} bytes")
    if offset + length > size - END.size:
        raise MemberSizeError("the central directory reaches into the end record")
    if offset + length < size - END.size:
        extra = size - END.size - offset - length
        raise ExtraBytesError(f"{extra} bytes before the first member or after the central directory")
    if raw != end_record(count, length, offset):
        raise MemberHeaderError("the end record is not of the format: split archives are not allowed")
    return count, read_at(file, offset, length), offset


def _without_end(file: BinaryIO, size: int) -> Exception:
    """Why a file does not end in an end record."""
    tail = read_at(file, max(0, size - END.size - _MAX_COMMENT), min(size, END.size + _MAX_COMMENT))
    found = tail.rfind(END_MARK)
    if found >= 0 and found + END.size <= len(tail):
        return ExtraBytesError(f"{len(tail) - found - END.size} bytes after the end record")
    if read_at(file, 0, min(size, 4)) == LOCAL_MARK[:size]:
        return TruncatedBundleError("the file has no end record: it was cut short")
    return NotABundleError("the file is not a ZIP file", "give the .edgeml file that edgeml compile wrote")


def _central_entry(directory: bytes, at: int, limit: int, end: int) -> Entry:
    """The entry at ``at`` of the directory, whose member must start at byte ``end`` and end by ``limit``."""
    if at + CENTRAL.size > len(directory):
        raise MemberSizeError("the central directory is smaller than its entries")
    fields = CENTRAL.unpack_from(directory, at)
    if fields[0] != CENTRAL_MARK:
        raise MemberHeaderError("an entry of the central directory does not start with its mark")
    flags, method, crc, packed, size, length, extra, comment = (*fields[3:5], *fields[7:13])
    offset = fields[16]
    raw = directory[at : at + CENTRAL.size + length]
    name = _decode_name(raw[CENTRAL.size :], length)
    rest = directory[at + len(raw) : at + len(raw) + extra]
    _check_plain(name, "central", flags, method, packed, size, rest)
    if extra or comment:
        raise MemberHeaderError(f"member {name}: a field or comment in the central directory")
    if offset < end:
        raise MemberOverlapError(f"member {name} starts at byte {offset}, the one before ends at {end}")
    if offset > end:
        raise ExtraBytesError(f"{offset - end} bytes before member {name}")
    entry = Entry(name, size, crc, offset)
    if entry.end > limit:
        raise MemberSizeError(f"member {name} reaches into the central directory")
    if raw != entry.central_header():
        raise MemberHeaderError(f"member {name}: the central header is not of the format")
    return entry


def _check_local(file: BinaryIO, entry: Entry) -> None:
    """Refuse a local header that differs from the one the central entry calls for."""
    expected = entry.local_header()
    raw = read_at(file, entry.offset, len(expected))
    if raw == expected:
        return
    fields = LOCAL.unpack_from(raw)
    if fields[0] != LOCAL_MARK:
        raise MemberHeaderError(f"member {entry.name}: no local header at byte {entry.offset}")
    flags, method, crc, packed, size, length, extra = (*fields[2:4], *fields[6:11])
    rest = raw[LOCAL.size + length : LOCAL.size + length + extra]
    _check_plain(entry.name, "local", flags, method, packed, size, rest)
    if raw[LOCAL.size : LOCAL.size + length] != entry.name.encode("ascii"):
        raise MemberHeaderError(f"member {entry.name}: its local header has another name")
    if (crc, size) != (entry.crc, entry.size):
        raise MemberHeaderError(f"member {entry.name}: the local and the central header disagree")
    start = entry.offset + LOCAL.size + length + extra
    if start % ALIGNMENT:
        raise MemberAlignmentError(f"member {entry.name} starts at byte {start}, not at a multiple of {ALIGNMENT}")
    raise MemberHeaderError(f"member {entry.name}: the local header is not of the format")


def _decode_name(raw: bytes, length: int) -> str:
    if len(raw) != length:
        raise MemberSizeError("a member name reaches beyond the central directory")
    try:
        name = raw.decode("ascii")
    except UnicodeDecodeError:
        raise MemberNameError(f"member name {raw!r} is not ASCII") from None
    check_name(name)
    return name


def _check_plain(name: str, where: str, flags: int, method: int, packed: int, size: int, extra: bytes) -> None:
    """Refuse what the format leaves out of ZIP: encryption, compression, ZIP64, data descriptors."""
    if flags & _ENCRYPTED:
        raise EncryptedMemberError(f"member {name} is encrypted ({where} header)")
    if flags & _DESCRIPTOR:
        raise DataDescriptorError(f"member {name}: its size follows the data ({where} header)")
    if method:
        raise CompressedMemberError(f"member {name} is compressed with method {method} ({where} header)")
    if packed in _ZIP64_MARKS[1:] or size in _ZIP64_MARKS[1:] or extra[:2] == _ZIP64_ID:
        raise Zip64Error(f"member {name} asks for ZIP64 ({where} header)")
    if packed != size:
        raise MemberSizeError(f"member {name}: {packed} bytes stored for {size} bytes ({where} header)")
    if size > MAX_MEMBER_BYTES:
        raise MemberSizeError(f"member {name} has {size} bytes, over {MAX_MEMBER_BYTES}")
