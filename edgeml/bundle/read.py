"""Opens a bundle and believes nothing of it before it is checked; runtimes and command line read through it.

Every member is read once into memory of our own, 64-byte aligned, and its digest is taken there: the bytes
handed out are the bytes that were checked. Mapping the file would leave them open to change after the check,
and a file that is cut short in place kills a process that has it mapped (SIGBUS). The file is closed when
``open_bundle`` returns, so replacing or deleting it is safe, and closing a bundle frees the members nobody
holds a view of.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np

from edgeml.bundle.manifest import check_manifest
from edgeml.bundle.sign import check_signature, read_signature
from edgeml.bundle.zip_layout import (
    ALIGNMENT,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MAX_SIGNATURE_BYTES,
    SCHEMA,
    SIGNATURE,
    Entry,
)
from edgeml.bundle.zip_read import read_directory
from edgeml.errors import (
    BundleClosedError,
    BundleError,
    BundleFileError,
    ChecksumError,
    DigestError,
    MemberSizeError,
    MissingMemberError,
    TruncatedBundleError,
)
from edgeml.jsonutil import MAX_JSON_BYTES, loads
from edgeml.schema import Schema

_SPOILED = "the file was damaged or changed: copy it again, or compile it again"


class Bundle:
    """An open bundle, all of it verified. Immutable, so any number of threads may read it at once.

    Attributes:
        path: where it was read from.
        manifest: the validated manifest, as FORMAT.md lists its fields.
        schema: the model's input.
        signed_by: id of the trusted key that signed it, or None when no ``verify_with`` was given.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        schema: Schema,
        views: Mapping[str, memoryview],
        signed_by: str | None,
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.schema = schema
        self.signed_by = signed_by
        self._views: Mapping[str, memoryview] | None = views

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all members, in file order."""
        return tuple(self._open_views())

    def member(self, name: str) -> memoryview:
        """Bytes of a member: a read-only view, 64-byte aligned in memory, that stays valid after ``close``.

        Raises MissingMemberError, BundleClosedError.
        """
        try:
            return self._open_views()[name]
        except KeyError:
            raise MissingMemberError(f"{self.path}: there is no member {name}") from None

    def json(self, name: str) -> Any:
        """A JSON member, parsed anew at each call. Raises JSONError and what ``member`` raises."""
        return loads(self.member(name), name, limit=MAX_JSON_BYTES)

    def __contains__(self, name: object) -> bool:
        return name in self._open_views()

    def close(self) -> None:
        """Let go of the members. Views that were handed out stay valid; closing twice is harmless."""
        self._views = None

    def __enter__(self) -> Bundle:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Bundle({str(self.path)!r}, name={self.manifest['name']!r}, version={self.manifest['version']})"

    def _open_views(self) -> Mapping[str, memoryview]:
        if self._views is None:
            raise BundleClosedError(f"{self.path} is closed", "open it again, or keep it open while it is in use")
        return self._views


def open_bundle(path: str | os.PathLike[str], *, verify_with: Any = None) -> Bundle:
    """Read and verify the bundle at ``path``.

    With ``verify_with`` (a public key as path, bytes or key object, or several of them) the bundle must be
    signed by one of the keys; without it a signature is parsed and not verified.

    Raises BundleError, by the kind of malformation: nothing else, whatever the file holds. KeyFileError and
    SigningNotInstalledError when ``verify_with`` cannot be used.
    """
    try:
        with _open_file(path) as file:
            return _read(file, Path(path), verify_with)
    except BundleFileError:
        raise
    except BundleError as error:
        raise type(error)(f"{os.fspath(path)}: {error.cause}", error.remedy or _SPOILED) from None
    except OSError as error:
        raise BundleFileError(f"{os.fspath(path)} cannot be read: {error}") from error


def _open_file(path: str | os.PathLike[str]) -> BinaryIO:
    # O_NONBLOCK: opening a named pipe must fail at once rather than wait for somebody to write to it.
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        descriptor = os.open(path, flags)
    except (OSError, ValueError) as error:
        raise BundleFileError(
            f"{os.fspath(path)} cannot be opened: {getattr(error, 'strerror', None) or error}", "check the path"
        ) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise BundleFileError(f"{os.fspath(path)} is not a regular file", "give the path of a bundle")
    return os.fdopen(descriptor, "rb")


def _read(file: BinaryIO, path: Path, verify_with: Any) -> Bundle:
    entries = {e.name: e for e in read_directory(file, os.fstat(file.fileno()).st_size)}
    for name, limit in ((MANIFEST, MAX_MANIFEST_BYTES), (SIGNATURE, MAX_SIGNATURE_BYTES)):
        if name in entries and entries[name].size > limit:
            raise MemberSizeError(f"member {name} has {entries[name].size} bytes, over {limit}")
    views = {MANIFEST: _member(file, entries[MANIFEST])}
    signature = None
    if SIGNATURE in entries:
        views[SIGNATURE] = _member(file, entries[SIGNATURE])
        signature = read_signature(views[SIGNATURE])
    # The signature first: what nobody trusted has signed is not even parsed.
    signed_by = None if verify_with is None else check_signature(views[MANIFEST], signature, verify_with)
    sizes = {e.name: e.size for e in entries.values() if e.name not in (MANIFEST, SIGNATURE)}
    manifest = check_manifest(loads(views[MANIFEST], MANIFEST, limit=MAX_MANIFEST_BYTES), sizes)
    for name in sizes:
        views[name] = _member(file, entries[name])
        if sha256(views[name]).hexdigest() != manifest["members"][name]["sha256"]:
            raise DigestError(f"member {name} does not match its SHA-256 in the manifest")
    if SCHEMA not in views:
        raise MissingMemberError(f"there is no {SCHEMA}")
    return Bundle(path, manifest, Schema.from_json(loads(views[SCHEMA], SCHEMA)), views, signed_by)


def _member(file: BinaryIO, entry: Entry) -> memoryview:
    """A member's bytes in aligned memory of our own, their CRC-32 checked."""
    memory = np.empty(entry.size + ALIGNMENT, dtype=np.uint8)
    first = -memory.__array_interface__["data"][0] % ALIGNMENT
    view = memory[first : first + entry.size].data
    file.seek(entry.start)
    done = 0
    while done < entry.size:
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise TruncatedBundleError(f"the file was cut short while member {entry.name} was read")
        done += count
    if zlib.crc32(view) != entry.crc:
        raise ChecksumError(f"member {entry.name} does not match its CRC-32")
    return view.toreadonly()
