"""Makes bundles by hand from FORMAT.md alone: nothing of edgeml.bundle is used, so every lie can be told.

``archive`` lays members out; any field of any header can be overridden by name. ``bundle`` adds a manifest
that fits, ``sealed`` takes any.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

LOCAL_FIELDS = (
    "version", "flags", "method", "time", "date", "crc", "packed", "size", "name_length", "extra_length",
)  # fmt: skip
CENTRAL_FIELDS = ("made_by", *LOCAL_FIELDS, "comment_length", "disk", "internal", "external", "offset")
END_FIELDS = ("disk", "directory_disk", "here", "count", "length", "offset", "comment_length")


@dataclass
class Member:
    """``local`` and ``central`` override header fields; the key "name" or "extra" overrides those bytes."""

    name: bytes
    data: bytes
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)


def archive(members: list[Member], *, before: bytes = b"", gap: bytes = b"", after: bytes = b"", **end: int) -> bytes:
    """A ZIP as the format wants it, but for the overrides: ``before`` the members, after them, at the end."""
    out, directory = bytearray(before), bytearray()
    for m in members:
        offset = len(out)
        pad = -(offset + 30 + len(m.name) + 6) % 64
        extra = m.local.get("extra", struct.pack("<HHH", 0xD935, 2 + pad, 64) + bytes(pad))
        name = m.local.get("name", m.name)
        common = {
            "version": 10, "made_by": 10, "flags": 0, "method": 0, "time": 0, "date": 0x21,
            "crc": zlib.crc32(m.data), "packed": len(m.data), "size": len(m.data), "name_length": len(name),
            "extra_length": len(extra), "comment_length": 0, "disk": 0, "internal": 0, "external": 0,
            "offset": offset,
        }  # fmt: skip
        local = common | m.local
        out += b"PK\3\4" + struct.pack("<HHHHHIIIHH", *(local[f] for f in LOCAL_FIELDS)) + name + extra + m.data
        name, extra = m.central.get("name", m.name), m.central.get("extra", b"")
        central = common | {"name_length": len(name), "extra_length": len(extra)} | m.central
        directory += b"PK\1\2" + struct.pack("<HHHHHHIIIHHHHHII", *(central[f] for f in CENTRAL_FIELDS))
        directory += name + extra
    out += gap
    fields = {
        "disk": 0, "directory_disk": 0, "here": len(members), "count": len(members), "length": len(directory),
        "offset": len(out), "comment_length": 0,
    } | end  # fmt: skip
    return bytes(out + directory + b"PK\5\6" + struct.pack("<HHHHIIH", *(fields[f] for f in END_FIELDS)) + after)


def to_json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode() + b"\n"


SCHEMA = to_json({"form": "columns", "columns": [{"name": "a", "kind": "float64", "used": True}]})
ARRAYS = bytes(range(200))


def contents() -> dict[str, bytes]:
    """Members of a small bundle, but for the manifest."""
    return {"native/arrays.bin": ARRAYS, "native/program.json": to_json({"nodes": []}), "schema.json": SCHEMA}


def manifest(members: Mapping[str, bytes], /, **changes: Any) -> dict[str, Any]:
    """A manifest that fits ``members``, with fields changed, or left out where the change is ``...``."""
    native = sorted(n for n in members if n.startswith("native/"))
    fields = {
        "format_version": 1,
        "name": "churn",
        "version": 3,
        "estimator": "Pipeline(StandardScaler, LogisticRegression)",
        "methods": {"predict": {"form": "vector", "dtype": "<i8"}},
        "classes": [0, 1],
        "artifacts": {"native": {"members": native, "bytes": sum(len(members[n]) for n in native)}},
        "missing": {"onnx": "not asked for"},
        "quantize": "none",
        "target": "generic",
        "profile_sha256": None,
        "versions": {"numpy": "2.4.0"},
        "members": {n: {"sha256": sha256(d).hexdigest(), "bytes": len(d)} for n, d in members.items()},
    } | changes
    return {k: v for k, v in fields.items() if v is not ...}


def ordered(members: Mapping[str, bytes]) -> list[Member]:
    """Members in the format's order."""
    first = ["manifest.json", "signature.json"]
    return [Member(n.encode(), members[n]) for n in sorted(members, key=lambda n: (n not in first, n))]


def sealed(encoded: bytes, held: Mapping[str, bytes] | None = None) -> bytes:
    """A bundle with any bytes for a manifest, and every CRC-32 right."""
    return archive(ordered({"manifest.json": encoded, **(contents() if held is None else held)}))


def bundle(held: Mapping[str, bytes] | None = None, /, **changes: Any) -> bytes:
    """A bundle whose manifest fits what it holds, but for the changes; every checksum is right."""
    held = contents() if held is None else held
    return sealed(to_json(manifest(held, **changes)), held)
