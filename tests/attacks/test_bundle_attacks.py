"""Hostile ZIP structure: each malformation is refused by its own named error, and nothing else happens."""

from __future__ import annotations

import os
import zlib
from typing import Any

import pytest

from edgeml import errors
from edgeml.bundle import zip_read
from edgeml.bundle.zip_layout import MAX_MEMBERS
from tests.attacks import forge
from tests.attacks.forge import Member, archive, bundle, contents, manifest, ordered, to_json
from tests.attacks.tools import opened


def members(**changes: Any) -> list[Member]:
    """Members of a valid bundle, to be spoiled."""
    return ordered({"manifest.json": to_json(manifest(contents(), **changes)), **contents()})


def spoiled(position: int = 1, /, **fields: Any) -> bytes:
    """A bundle with fields of one member's headers changed: ``local_x``, ``central_x``, or ``x`` for both."""
    result = members()
    for name, value in fields.items():
        where, _, rest = name.partition("_")
        if where in ("local", "central"):
            getattr(result[position], where)[rest] = value
        else:
            result[position].local[name] = result[position].central[name] = value
    return archive(result)


def with_member(name: bytes, data: bytes = b"x") -> bytes:
    """A bundle that holds one more member, listed in the manifest as far as JSON can say the name."""
    listed = contents() | {name.decode("latin-1"): data}
    result = [Member(b"manifest.json", to_json(manifest(listed))), *ordered(contents()), Member(name, data)]
    return archive(sorted(result, key=lambda m: (m.name != b"manifest.json", m.name)))


def bomb() -> bytes:
    """A gigabyte of zeros in a few kilobytes, were it unpacked."""
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(bytes(10_000_000)) + packer.flush()
    result = [*members(), Member(b"zeros.bin", packed)]
    result[-1].local |= {"method": 8, "size": 1_000_000_000}
    result[-1].central |= {"method": 8, "size": 1_000_000_000}
    return archive(result)


def overlapping() -> bytes:
    """Two entries of the directory that share one member's bytes: the trick of the flat ZIP bomb."""
    result = members()
    result[2].central["offset"] = 0
    return archive(result)


def hidden() -> bytes:
    """Bytes smuggled into the padding that aligns a member, everything else being right."""
    plain = bytearray(archive(members()))
    plain[plain.index(forge.ARRAYS) - 1] = 1
    return bytes(plain)


def junk_in_directory() -> bytes:
    """Bytes after the last entry of the directory, and counted as part of it."""
    directory = VALID[VALID.index(b"PK\1\2") : -22]
    longer = archive(members(), length=len(directory) + 4)
    return longer[:-22] + b"JUNK" + longer[-22:]


def zip64_locator() -> bytes:
    plain = archive(members())
    return plain[:-22] + b"PK\6\7" + bytes(16) + plain[-22:]


def many_members() -> bytes:
    listed = contents() | {f"m/{i:03}": b"" for i in range(MAX_MEMBERS)}
    return bundle(listed)


def swapped_data() -> bytes:
    """Two members of one size and one manifest, each with the other's bytes and right CRC-32s."""
    listed = contents() | {"x.bin": b"one", "y.bin": b"two"}
    encoded = to_json(manifest(listed))
    return archive(ordered({"manifest.json": encoded, **listed, "x.bin": b"two", "y.bin": b"one"}))


VALID = bundle()
U32 = 0xFFFFFFFF

ZIP_ATTACKS: list[tuple[str, Any, type[errors.BundleError]]] = [
    ("empty file", b"", errors.TruncatedBundleError),
    ("one byte", b"P", errors.TruncatedBundleError),
    ("not a ZIP", b"#!/bin/sh\n" * 100, errors.NotABundleError),
    ("a pickle", b"\x80\x04\x95" + bytes(100), errors.NotABundleError),
    ("cut in the middle", VALID[: len(VALID) // 2], errors.TruncatedBundleError),
    ("cut by one byte", VALID[:-1], errors.TruncatedBundleError),
    ("junk in the directory", junk_in_directory, errors.ExtraBytesError),
    ("no members", archive([]), errors.MissingMemberError),
    ("byte after the end", VALID + b"\0", errors.ExtraBytesError),
    ("script before the archive", b"#!/bin/sh\n" + VALID, errors.ExtraBytesError),
    ("script before it, offsets adjusted", archive(members(), before=b"#!/bin/sh\n"), errors.ExtraBytesError),
    ("second archive after it", VALID + VALID, errors.ExtraBytesError),
    ("gap before the directory", archive(members(), gap=bytes(64)), errors.ExtraBytesError),
    ("archive comment", archive(members(), after=b"hi", comment_length=2), errors.ExtraBytesError),
    ("comment announced, absent", archive(members(), comment_length=2), errors.ExtraBytesError),
    ("split archive", archive(members(), disk=1), errors.MemberHeaderError),
    ("counts differ", archive(members(), here=1), errors.MemberHeaderError),
    ("count too low", archive(members(), here=3, count=3), errors.ExtraBytesError),
    ("count too high", archive(members(), here=5, count=5), errors.MemberSizeError),
    ("directory beyond the end", archive(members(), offset=10**6), errors.MemberSizeError),
    ("directory of 2 GB", archive(members(), length=2**31), errors.MemberSizeError),
    ("directory starts early", archive(members(), offset=64), errors.ExtraBytesError),
    ("ZIP64 count", archive(members(), count=0xFFFF), errors.Zip64Error),
    ("ZIP64 offset", archive(members(), offset=U32), errors.Zip64Error),
    ("ZIP64 locator", zip64_locator, errors.Zip64Error),
    ("ZIP64 size", lambda: spoiled(size=U32, packed=U32), errors.Zip64Error),
    ("ZIP64 size, local", lambda: spoiled(local_size=U32, local_packed=U32), errors.Zip64Error),
    ("ZIP64 field", lambda: spoiled(local_extra=b"\1\0\x08\0" + bytes(8)), errors.Zip64Error),
    ("ZIP64 field, central", lambda: spoiled(central_extra=b"\1\0\x08\0" + bytes(8)), errors.Zip64Error),
    ("encrypted", lambda: spoiled(flags=1), errors.EncryptedMemberError),
    ("encrypted, local only", lambda: spoiled(local_flags=1), errors.EncryptedMemberError),
    ("strongly encrypted", lambda: spoiled(flags=0x41), errors.EncryptedMemberError),
    ("masked headers", lambda: spoiled(central_flags=0x2000), errors.EncryptedMemberError),
    ("data descriptor", lambda: spoiled(flags=8), errors.DataDescriptorError),
    ("deflate bomb", bomb, errors.CompressedMemberError),
    ("compressed, local only", lambda: spoiled(local_method=8), errors.CompressedMemberError),
    ("unknown method", lambda: spoiled(method=99), errors.CompressedMemberError),
    ("UTF-8 flag", lambda: spoiled(flags=0x800), errors.MemberHeaderError),
    ("packed to half", lambda: spoiled(packed=100), errors.MemberSizeError),
    ("two sizes", lambda: spoiled(size=10**9), errors.MemberSizeError),
    ("size beyond the file", lambda: spoiled(size=10**9, packed=10**9), errors.MemberSizeError),
    ("size over the limit", lambda: spoiled(size=2**31, packed=2**31), errors.MemberSizeError),
    ("size one too low", lambda: spoiled(size=199, packed=199), errors.ExtraBytesError),
    ("size one too high", lambda: spoiled(size=201, packed=201), errors.MemberOverlapError),
    ("overlapping members", overlapping, errors.MemberOverlapError),
    ("offset in a gap", lambda: spoiled(central_offset=10**4), errors.ExtraBytesError),
    ("offset inside a member", lambda: spoiled(central_offset=70), errors.MemberOverlapError),
    ("local name differs", lambda: spoiled(local_name=b"native/arrays.bak"), errors.MemberHeaderError),
    ("local name longer", lambda: spoiled(local_name_length=9999), errors.MemberHeaderError),
    ("local size differs", lambda: spoiled(local_size=10, local_packed=10), errors.MemberHeaderError),
    ("local CRC differs", lambda: spoiled(local_crc=1), errors.MemberHeaderError),
    ("local date differs", lambda: spoiled(local_date=0x5C21), errors.MemberHeaderError),
    ("another date", lambda: spoiled(date=0x5C21), errors.MemberHeaderError),
    ("link of Unix", lambda: spoiled(central_external=0o120777 << 16), errors.MemberHeaderError),
    ("made on Unix", lambda: spoiled(central_made_by=0x31E), errors.MemberHeaderError),
    ("central comment", lambda: spoiled(central_comment_length=3), errors.MemberHeaderError),
    ("no padding field", lambda: spoiled(local_extra=b""), errors.MemberAlignmentError),
    ("too much padding", lambda: spoiled(local_extra=bytes(200)), errors.MemberAlignmentError),
    ("data in the padding", hidden, errors.MemberHeaderError),
    ("wrong CRC", lambda: spoiled(crc=1), errors.ChecksumError),
    ("wrong CRC of the manifest", lambda: spoiled(0, crc=1), errors.ChecksumError),
    ("members in another order", lambda: archive(members()[::-1]), errors.MemberOrderError),
    ("duplicate member", lambda: archive([*members(), members()[-1]]), errors.DuplicateMemberError),
    ("duplicate manifest", lambda: archive([members()[0], *members()]), errors.DuplicateMemberError),
    ("too many members", many_members, errors.MemberSizeError),
    ("no manifest", lambda: archive(members()[1:]), errors.MissingMemberError),
]  # fmt: skip

BAD_NAMES = [
    b"../evil", b"native/../../evil", b"/etc/passwd", b"native//x", b"native/", b"", b".", b"..", b".hidden",
    b"-rf", b"C:/evil", b"c:evil", b"native\\evil", b"a\0b", b"a\nb", b"a b", b"Model.onnx", b"MANIFEST.JSON",
    b"\xff\xfe", "é".encode(), b"con", b"aux.json", b"native/nul.bin", b"com1.txt", b"model.onnx.", b"a~1",
    b"x" * 121, b"a%2e", b"schema.json/x",
]  # fmt: skip


def test_the_hand_made_bundle_is_accepted(tmp_path):
    with opened(tmp_path, VALID) as valid:
        assert bytes(valid.member("native/arrays.bin")) == forge.ARRAYS


@pytest.mark.parametrize(("data", "error"), [a[1:] for a in ZIP_ATTACKS], ids=[a[0] for a in ZIP_ATTACKS])
def test_zip(tmp_path, data, error):
    with pytest.raises(errors.BundleError) as caught:
        opened(tmp_path, data() if callable(data) else data)
    assert type(caught.value) is error, caught.value
    assert "attack.edgeml" in caught.value.cause
    assert caught.value.remedy


@pytest.mark.parametrize("limit", ["MAX_MEMBER_BYTES", "MAX_FILE_BYTES"])
def test_limits_too_large_to_try(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(zip_read, limit, 199)
    with pytest.raises(errors.MemberSizeError, match="over 199"):
        opened(tmp_path, VALID)


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_member_names(tmp_path, name):
    with pytest.raises(errors.MemberNameError):
        opened(tmp_path, with_member(name))
    assert sorted(os.listdir(tmp_path)) == ["attack.edgeml"]


def test_a_usual_extra_member_is_accepted(tmp_path):
    with opened(tmp_path, with_member(b"extra/notes-1.txt")) as valid:
        assert bytes(valid.member("extra/notes-1.txt")) == b"x"


def test_members_swapped(tmp_path):
    with pytest.raises(errors.DigestError, match=r"x\.bin"):
        opened(tmp_path, swapped_data())
