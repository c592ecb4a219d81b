"""Writes a bundle: the same manifest, members and key give the same bytes; a failure leaves nothing.

``write_bundle`` adds digests and sizes to the manifest, signs it when asked, and checks what it is about to
write with the functions the reader uses. Called by ``edgeml.compiler``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from edgeml.bundle.manifest import check_manifest
from edgeml.bundle.sign import signature_json
from edgeml.bundle.zip_layout import MANIFEST, MAX_MANIFEST_BYTES, SCHEMA, SIGNATURE, check_names
from edgeml.bundle.zip_write import Bytes, pieces
from edgeml.errors import BundleFileError, JSONLimitError, MemberNameError, MissingMemberError
from edgeml.jsonutil import MAX_JSON_BYTES, dumps, loads
from edgeml.schema import Schema


def write_bundle(
    path: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    members: Mapping[str, bytes],
    sign_with: Any = None,
) -> None:
    """Write ``manifest`` and ``members`` (bytes by name) as a bundle to ``path``, over a file that is there.

    ``manifest`` is what FORMAT.md lists without ``members``, which is added here. ``sign_with`` is an Ed25519
    private key: a path, PEM bytes or a key object. The file appears under its name only when it is complete
    and on the disk.

    Raises BundleError for what the format does not allow, BundleFileError when the file cannot be written,
    and KeyFileError for a key that cannot be used.
    """
    for reserved in (MANIFEST, SIGNATURE):
        if reserved in members:
            raise MemberNameError(f"{reserved} is made by write_bundle", "leave it out of members")
    if SCHEMA not in members:
        raise MissingMemberError(f"there is no {SCHEMA}")
    check_names([MANIFEST, *members])
    digests = {name: {"sha256": sha256(data).hexdigest(), "bytes": len(data)} for name, data in members.items()}
    encoded = dumps({**manifest, "members": digests})
    check_manifest(loads(encoded, MANIFEST, limit=MAX_MANIFEST_BYTES), {n: len(d) for n, d in members.items()})
    Schema.from_json(loads(members[SCHEMA], SCHEMA))
    for name, data in members.items():
        if name.endswith(".json") and len(data) > MAX_JSON_BYTES:
            raise JSONLimitError(f"{name}: {len(data)} bytes of JSON, at most {MAX_JSON_BYTES} can be read again")
    complete: dict[str, Bytes] = {MANIFEST: encoded, **members}
    if sign_with is not None:
        complete[SIGNATURE] = signature_json(encoded, sign_with)
    write_aside(path, pieces(complete))


def write_aside(path: str | os.PathLike[str], parts: Iterable[Bytes]) -> None:
    """Write ``parts`` to a new file beside ``path``, sync it, and rename it to ``path`` in one step.

    Whatever interrupts it, ``path`` holds the old content or the new, never a part. A symbolic link is
    followed. The file gets the permissions of any new file (the process's umask). Raises BundleFileError.
    """
    try:
        target = os.path.realpath(path)
        folder = os.path.dirname(target)
        aside = os.path.join(folder, f".edgeml-{secrets.token_hex(8)}.tmp")
        if os.path.exists(target) and not stat.S_ISREG(os.stat(target).st_mode):
            raise BundleFileError(f"{target} exists and is not a file", "give the path of a file")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        descriptor = os.open(aside, flags, 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, target)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(aside)
            raise
        _sync_folder(folder)
    except (OSError, ValueError) as error:
        raise BundleFileError(
            f"{os.fspath(path)} cannot be written: {error}",
            "check that the folder exists, is writable and has room",
        ) from error


def _sync_folder(folder: str) -> None:
    """Put the rename itself on the disk. Windows cannot, and some network file systems refuse."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)
