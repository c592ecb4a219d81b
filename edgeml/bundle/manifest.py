"""Checks ``manifest.json`` field by field: every one typed and bounded, as FORMAT.md lists them.

Comes in: the parsed JSON and the sizes of the other members. Goes out: the same manifest, now safe to use.
The writer calls it before it writes and the reader before anything else of the file is believed, so the two
cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from edgeml.bundle.zip_layout import PROFILE
from edgeml.errors import (
    BundleVersionError,
    ManifestError,
    MemberSizeError,
    MissingMemberError,
    UnlistedMemberError,
)

FORMAT_VERSION = 1
# Beyond this, a reader in JavaScript (the monitor's page) no longer tells two versions apart.
MAX_VERSION = 2**53 - 1
MAX_NAME = 255
MAX_TEXT = 10_000
MAX_ENTRIES = 256
MAX_CLASSES = 100_000

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FORMS = ("vector", "matrix", "list", "stack")


def check_manifest(data: Any, sizes: Mapping[str, int]) -> dict[str, Any]:
    """The manifest, valid. ``sizes`` is bytes by name of the members that the manifest has to list.

    Raises BundleVersionError for a newer format; ManifestError naming the field; MissingMemberError,
    UnlistedMemberError and MemberSizeError when ``members`` and ``sizes`` differ.
    """
    if not isinstance(data, dict):
        raise ManifestError("the manifest is not a JSON object")
    version = _integer(data.get("format_version"), "format_version", 1, MAX_VERSION)
    if version > FORMAT_VERSION:
        raise BundleVersionError(
            f"the bundle has format version {version}, this version of EdgeML reads up to {FORMAT_VERSION}",
            "upgrade edgeml-sdk",
        )
    for name, check in _FIELDS.items():
        if name not in data:
            raise ManifestError(f"the manifest lacks {name}")
        check(data[name], name)
    _check_members(data["members"], sizes)
    _check_artifacts(data["artifacts"], data["missing"], sizes)
    if (data["profile_sha256"] is None) != (PROFILE not in sizes):
        raise ManifestError(f"profile_sha256 must be null without {PROFILE}, and must not be with it")
    return data


def several_outputs(classes: Any) -> bool:
    """Whether a manifest's ``classes`` are those of several outputs, one list of labels each."""
    return isinstance(classes, list) and all(isinstance(labels, list) for labels in classes)


def _check_members(listed: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
    for name in listed:
        if name not in sizes:
            raise MissingMemberError(f"the manifest lists member {name}, which the file does not hold")
    for name, size in sizes.items():
        if name not in listed:
            raise UnlistedMemberError(f"the file holds member {name}, which the manifest does not list")
        if listed[name]["bytes"] != size:
            raise MemberSizeError(f"member {name} has {size} bytes, the manifest says {listed[name]['bytes']}")


def _check_artifacts(artifacts: Mapping[str, Any], missing: Mapping[str, str], sizes: Mapping[str, int]) -> None:
    for format_name, artifact in artifacts.items():
        where = f"artifacts.{format_name}"
        if format_name in missing:
            raise ManifestError(f"{format_name} stands under artifacts and under missing")
        for name in artifact["members"]:
            if name not in sizes:
                raise MissingMemberError(f"{where} names member {name}, which the file does not hold")
        if artifact["bytes"] != sum(sizes[name] for name in artifact["members"]):
            raise ManifestError(f"{where}.bytes is not the size of its members")


def _integer(value: Any, where: str, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        raise ManifestError(f"{where} must be an integer from {low} to {high}, not {_shown(value)}")
    return value


def _text(value: Any, where: str, most: int = MAX_TEXT, *, empty: bool = True) -> str:
    if not isinstance(value, str) or len(value) > most or not (value or empty):
        raise ManifestError(f"{where} must be a string of at most {most} characters, not {_shown(value)}")
    # Half a surrogate pair cannot be printed or stored; control characters rewrite a terminal's lines.
    if any("\ud800" <= c <= "\udfff" or (c < " " and c not in "\n\t") or c == "\x7f" for c in value):
        raise ManifestError(f"{where} holds a control character or half a surrogate pair: {value[:80]!a}")
    return value


def _sha256(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _SHA256.fullmatch(value):
        raise ManifestError(f"{where} must be 64 lower-case hexadecimal digits, not {_shown(value)}")


def _mapping(value: Any, where: str, check: Callable[[Any, str], object], *, empty: bool = True) -> None:
    """An object of names to values that ``check`` accepts."""
    if not isinstance(value, dict) or len(value) > MAX_ENTRIES or not (value or empty):
        raise ManifestError(f"{where} must be an object of at most {MAX_ENTRIES} entries")
    for key, item in value.items():
        _text(key, f"a key of {where}", MAX_NAME, empty=False)
        check(item, f"{where}.{key}")


def _object(value: Any, where: str, fields: set[str]) -> None:
    if not isinstance(value, dict) or not fields <= set(value):
        raise ManifestError(f"{where} must be an object with {', '.join(sorted(fields))}")


def _method(value: Any, where: str) -> None:
    _object(value, where, {"form", "dtype"})
    if value["form"] not in _FORMS:
        raise ManifestError(f"{where}.form must be vector, matrix, list or stack, not {_shown(value['form'])}")
    _text(value["dtype"], f"{where}.dtype", MAX_NAME, empty=False)
    if value["form"] in ("list", "stack"):
        widths = value.get("widths")
        if not isinstance(widths, list) or not 0 < len(widths) <= MAX_CLASSES:
            raise ManifestError(f"{where}.widths must be a list of 1 to {MAX_CLASSES} widths")
        for width in widths:
            _integer(width, f"{where}.widths", 1, MAX_CLASSES)


def _artifact(value: Any, where: str) -> None:
    _object(value, where, {"members", "bytes"})
    names = value["members"]
    if not isinstance(names, list) or not 0 < len(names) <= MAX_ENTRIES:
        raise ManifestError(f"{where}.members must be a list of 1 to {MAX_ENTRIES} names")
    for name in names:
        _text(name, f"{where}.members", MAX_NAME, empty=False)
    if len(set(names)) != len(names):
        raise ManifestError(f"{where}.members names a member twice")
    _integer(value["bytes"], f"{where}.bytes", 0, MAX_VERSION)


def _member(value: Any, where: str) -> None:
    _object(value, where, {"sha256", "bytes"})
    _sha256(value["sha256"], f"{where}.sha256")
    _integer(value["bytes"], f"{where}.bytes", 0, MAX_VERSION)


def _classes(value: Any, where: str) -> None:
    if value is None:
        return
    if not isinstance(value, list) or not 0 < len(value) <= MAX_CLASSES:
        raise ManifestError(f"{where} must be null or a list of 1 to {MAX_CLASSES} labels")
    if several_outputs(value):
        if sum(map(len, value)) > MAX_CLASSES or not all(value):
            raise ManifestError(f"{where} must have 1 to {MAX_CLASSES} labels in all, at least one an output")
        value = [label for labels in value for label in labels]
    for label in value:
        # A label's text is the user's own: any character may stand in it, but for half a surrogate pair.
        if not isinstance(label, (str, int, float)) or (
            isinstance(label, str) and (len(label) > MAX_TEXT or any("\ud800" <= c <= "\udfff" for c in label))
        ):
            raise ManifestError(f"{where}: a label must be a string, a number or a boolean, not {_shown(label)}")


def _shown(value: Any) -> str:
    return ascii(value)[:80]


# Every required field and its check. A reader ignores other fields: an addition to format version 1 may come.
_FIELDS: dict[str, Callable[[Any, str], object]] = {
    "name": lambda v, w: _text(v, w, MAX_NAME, empty=False),
    "version": lambda v, w: _integer(v, w, 1, MAX_VERSION),
    "estimator": _text,
    "methods": lambda v, w: _mapping(v, w, _method, empty=False),
    "classes": _classes,
    "artifacts": lambda v, w: _mapping(v, w, _artifact),
    "missing": lambda v, w: _mapping(v, w, _text),
    "quantize": lambda v, w: _text(v, w, MAX_NAME, empty=False),
    "target": lambda v, w: _text(v, w, MAX_NAME, empty=False),
    "profile_sha256": lambda v, w: None if v is None else _sha256(v, w),
    "versions": lambda v, w: _mapping(v, w, lambda i, p: _text(i, p, MAX_NAME)),
    "members": lambda v, w: _mapping(v, w, _member),
}
