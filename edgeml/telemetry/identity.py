"""Who a device is: an Ed25519 key of its own, made once, and what the monitor made of it when it enrolled.

A folder holds ``device.key`` (private key, PEM, mode 0600) and, once enrolled, ``enrolment.json``. Both appear whole or
not at all. A file that is there and cannot be read is an error, never a reason for a new identity: the monitor would
take that for another device. The agent and ``edgeml agent`` call it. Needs the package cryptography.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard
from uuid import uuid4

from edgeml.errors import AgentError, IdentityError, JSONError
from edgeml.jsonutil import dumps, loads
from edgeml.telemetry import wire
from edgeml.telemetry.spool_disk import make_folder, sync_folder, wipe_and_remove
from edgeml.telemetry.vault import loose_rights

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE = "device.key"
ENROLMENT_FILE = "enrolment.json"
ENROLMENT_VERSION = 1
_MAX_FILE_BYTES = 64 * 1024
_MAX_TEXT = 2000

_START_ANEW = (
    "restore the file from a copy; or, to begin as a new device, move the folder {folder} away and enrol again "
    "(the monitor keeps what the old device sent)"
)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What the monitor at ``server`` said: ids of the device and of its project, 32 hexadecimal digits each."""

    device: str
    project: str
    server: str


class Identity:
    """A device's key, and its enrolment or None. Make one with ``load_or_create`` or ``load``."""

    def __init__(self, folder: Path, key: Ed25519PrivateKey, enrolment: Enrolment | None) -> None:
        self.folder = folder
        self.enrolment = enrolment
        self.public_key = key.public_key().public_bytes_raw()
        self._key = key

    @classmethod
    def load_or_create(cls, folder: str | os.PathLike[str]) -> Identity:
        """The identity in ``folder``; a new key when there is none yet. Two processes at once get the same one.

        Raises IdentityError; AgentError when cryptography is not installed.
        """
        path = Path(folder)
        if not os.path.lexists(path / KEY_FILE):
            if os.path.lexists(path / ENROLMENT_FILE):
                raise IdentityError(
                    f"{path / KEY_FILE} is missing, but {ENROLMENT_FILE} beside it says that the device was enrolled",
                    _START_ANEW.format(folder=path),
                )
            _create_key(path)
        return cls.load(path)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Identity:
        """The identity in ``folder``. Raises IdentityError, also when there is none."""
        path = Path(folder)
        key = _read_key(path)
        identity = cls(path, key, None)
        identity.enrolment = identity._read_enrolment()
        return identity

    @property
    def key_id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the public key: what people compare."""
        return sha256(self.public_key).hexdigest()[:16]

    def sign(self, data: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""
        return self._key.sign(data)

    def enrol(self, enrolment: Enrolment) -> None:
        """Keep what the monitor said, on the disk when this returns. Raises IdentityError."""
        fields = {
            "enrolment_version": ENROLMENT_VERSION,
            "device": enrolment.device,
            "project": enrolment.project,
            "server": enrolment.server,
            "public_key": wire.encode(self.public_key),
        }
        _write(self.folder / ENROLMENT_FILE, dumps(fields), 0o600, replace=True)
        self.enrolment = enrolment

    def refresh(self) -> None:
        """Take over an enrolment that another process wrote. Raises IdentityError."""
        self.enrolment = self._read_enrolment()

    def readable_by_others(self) -> bool:
        """Whether the key's file is open to other users of the device; some file systems know no modes."""
        with contextlib.suppress(OSError):
            return loose_rights(self.folder / KEY_FILE)
        return False

    def _read_enrolment(self) -> Enrolment | None:
        path = self.folder / ENROLMENT_FILE
        data = _read(path)
        if data is None:
            return None
        remedy = f"enrol again: delete {path} and run `edgeml agent enrol`; the key, and so the device, stays the same"
        try:
            fields = loads(data, str(path), limit=_MAX_FILE_BYTES)
        except JSONError as error:
            raise IdentityError(f"the enrolment cannot be read: {error.cause}", remedy) from None
        if not isinstance(fields, dict) or fields.get("enrolment_version") != ENROLMENT_VERSION:
            raise IdentityError(f"{path} is not an enrolment of version {ENROLMENT_VERSION}", remedy)
        if fields.get("public_key") != wire.encode(self.public_key):
            raise IdentityError(f"{path} belongs to another key than {KEY_FILE} beside it", remedy)
        device, project, server = (fields.get(name) for name in ("device", "project", "server"))
        if not (is_id(device) and is_id(project) and _is_text(server)):
            raise IdentityError(f"{path} lacks the device, its project or the server", remedy)
        return Enrolment(device, project, server)


def destroy(folder: str | os.PathLike[str]) -> None:
    """Overwrite and delete a device's key and enrolment; nothing happens where there is none. Raises IdentityError.

    Flash storage may keep what was overwritten: who must be sure destroys the device.
    """
    path = Path(folder)
    for name in (KEY_FILE, ENROLMENT_FILE):
        file = path / name
        try:
            wipe_and_remove(file)
        except OSError as error:
            raise _unwritable(file, error) from None
    if path.is_dir():
        sync_folder(path)


def is_id(value: Any) -> TypeGuard[str]:
    """Whether a value is an identifier as the monitor gives them: 32 hexadecimal digits."""
    return isinstance(value, str) and len(value) == 32 and set(value) <= set("0123456789abcdef")


def _is_text(value: Any) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _create_key(folder: Path) -> None:
    require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    try:
        make_folder(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None
    _write(folder / KEY_FILE, pem, 0o600, replace=False)


def _read_key(folder: Path) -> Ed25519PrivateKey:
    require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = folder / KEY_FILE
    data = _read(path)
    if data is None:
        raise IdentityError(f"there is no device key {path}", "enrol the device first: `edgeml agent enrol`")
    try:
        key = serialization.load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise IdentityError(
            f"the device key {path} is cut short or damaged ({len(data)} bytes)", _START_ANEW.format(folder=folder)
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise IdentityError(f"{path} is a key of another kind than Ed25519", _START_ANEW.format(folder=folder))
    return key


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise IdentityError(f"{path} is a link to a file that is not there", "restore what it points at") from None
        return None
    except OSError as error:
        raise IdentityError(
            f"{path} cannot be read: {error.strerror or error}",
            "run as the user the device's key belongs to, and check the permissions of its folder",
        ) from None
    if len(data) > _MAX_FILE_BYTES:
        raise IdentityError(f"{path} is too large to be what it should be", "restore the file from a copy")
    return data


def _write(path: Path, data: bytes, mode: int, *, replace: bool) -> None:
    """The whole file or none, on the disk when this returns; without ``replace`` one that is there already stays."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            aside.replace(path)
        else:
            _link(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _link(aside: Path, path: Path) -> None:
    """Give the file its name unless another process was quicker."""
    try:
        os.link(aside, path)
    except FileExistsError:
        return
    except OSError:
        # The file system has no hard links (FAT): the moment between the question and the rename is the price.
        if not os.path.lexists(path):
            aside.replace(path)


def _unwritable(path: Path, error: OSError) -> IdentityError:
    return IdentityError(
        f"{path} cannot be written: {error.strerror or error}",
        "give a folder that this user may write and that has room (--identity, or the spool's own folder)",
    )


def require_cryptography() -> None:
    """Raises AgentError with the pip command when the package cryptography is not installed."""
    from importlib.util import find_spec

    if find_spec("cryptography") is None:
        raise AgentError(
            "a device's key and signatures need the package cryptography, which is not installed",
            'pip install "edgeml-sdk[agent]"',
        )
