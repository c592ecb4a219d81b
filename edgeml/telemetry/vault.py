"""Keys of the spool: what is written to the disk is sealed with AES-GCM, and what opens it can be destroyed.

Every row is sealed with a random data key. The data key lies in the database, wrapped by a key-encryption key that
comes from a file, from the caller or from a function (a secret store, a TPM). A new key-encryption key wraps the same
data key anew; without the wrapping nothing can be read. The spool's files call this; needs the package cryptography.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from edgeml.errors import SpoolError, SpoolKeyError
from edgeml.telemetry.spool_disk import sync_folder

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_VARIABLE = "EDGEML_TELEMETRY_KEY"
KEY_NAME = "spool.key"
KEY_BYTES = 32
# A key file on its way to its name, as ``write_key`` and a rotation use them.
_NEW, NEXT = ".new", ".next"
LEFT_BY_ROTATION = (KEY_NAME + NEXT, KEY_NAME + _NEW, KEY_NAME + NEXT + _NEW)

Key = bytes | str | os.PathLike[str] | Callable[[], bytes] | None

_NONCE = 12
_TAG = 16
_WRAPPED_VERSION = b"\x01"
_CHECK = 8


class Unreadable(Exception):
    """Sealed bytes that do not open with the data key: damaged, or moved from another row."""


# --- the key-encryption key -----------------------------------------------------------------------------------------
def key_path(key: Key, folder: Path) -> Path | None:
    """The file the key-encryption key is in; None for bytes and functions."""
    if isinstance(key, bytes) or callable(key):
        return None
    if key is not None:
        return Path(key)
    named = os.environ.get(KEY_VARIABLE)
    return Path(named) if named else folder / KEY_NAME


def load_key(key: Key, folder: Path, *, create: bool) -> bytes:
    """The 32 bytes of the key-encryption key.

    With ``create``, the spool's own key file is made when it is missing; a file that the caller or the environment
    names never is, since it may only be a secret that is not mounted yet. Raises SpoolKeyError.
    """
    if isinstance(key, bytes):
        return _checked(key, "the key given")
    if callable(key):
        try:
            made = key()
        except Exception as error:  # a secret store fails in its own ways; all of them mean that there is no key
            raise SpoolKeyError(
                f"the function that gives the spool's key failed: {error}", "see its own error"
            ) from error
        return _checked(made, "what the function for the spool's key returned")
    path = key_path(key, folder)
    assert path is not None
    own = path == folder / KEY_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if own and create:
            return write_key(path)
        raise SpoolKeyError(
            f"the spool's key file {path} is missing",
            "put it back; or, to give up what the spool holds, delete spool.db and start again"
            if own
            else f"put it there, or name another one in {KEY_VARIABLE}",
        ) from None
    except OSError as error:
        raise SpoolKeyError(
            f"the spool's key file {path} cannot be read: {error.strerror}", "check its rights"
        ) from error
    return _checked(_decoded(data), f"the key file {path}")


def loose_rights(path: Path) -> bool:
    """Whether others than the owner may read a key file. Rights of a Windows file are not looked at."""
    return os.name == "posix" and bool(path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))


def write_key(path: Path, key: bytes | None = None) -> bytes:
    """Make a key file, mode 0600, in place of the one that is there: text of 44 characters. Returns the key.

    It is on the disk, and so is its name, when this returns. Raises OSError.
    """
    made = os.urandom(KEY_BYTES) if key is None else _checked(key, "the key given")
    aside = path.with_name(path.name + _NEW)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.urlsafe_b64encode(made) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    sync_folder(path.parent)
    return made


def _decoded(data: bytes) -> bytes:
    """Raw bytes, or URL-safe Base64 with or without padding and line end."""
    if len(data) == KEY_BYTES:
        return data
    text = data.strip()
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""


def _checked(key: object, what: str) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise SpoolKeyError(
            f"{what} is not a key of {KEY_BYTES} bytes",
            "make one with: python -c 'import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())'",
        )
    return key


# --- the data key -----------------------------------------------------------------------------------------------------
class Vault:
    """Seals and opens bytes with one data key. ``about`` says what the bytes are: they open with the same only."""

    def __init__(self, data_key: bytes) -> None:
        self._data_key = data_key
        self._cipher = _cipher(data_key)

    @classmethod
    def new(cls) -> Vault:
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def unwrap(cls, key: bytes, wrapped: bytes) -> Vault | None:
        """The vault of a wrapped data key, or None when another key wrapped it. Raises Unreadable when damaged."""
        head, check = wrapped[:-_CHECK], wrapped[-_CHECK:]
        if len(head) < _NONCE + _TAG or not head.startswith(_WRAPPED_VERSION) or _digest(head) != check:
            raise Unreadable
        try:
            return cls(_open(_cipher(key), head[1:], b"data key"))
        except Unreadable:
            return None

    def wrap(self, key: bytes) -> bytes:
        """The data key as it may lie on the disk. Its checksum tells a damaged one from another key's."""
        head = _WRAPPED_VERSION + _seal(_cipher(key), self._data_key, b"data key")
        return head + _digest(head)

    def seal(self, data: bytes, about: bytes) -> bytes:
        """Nonce (12 random bytes), ciphertext and tag."""
        return _seal(self._cipher, data, about)

    def open(self, sealed: bytes, about: bytes) -> bytes:
        """Raises Unreadable."""
        return _open(self._cipher, sealed, about)


def _digest(data: bytes) -> bytes:
    return sha256(b"edgeml spool wrapped key\n" + data).digest()[:_CHECK]


def _cipher(key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        raise SpoolError(
            "keeping telemetry needs the package cryptography, which is not installed",
            "pip install 'edgeml-sdk[agent]'",
        ) from None
    return AESGCM(key)


def _seal(cipher: AESGCM, data: bytes, about: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, data, about)


def _open(cipher: AESGCM, sealed: bytes, about: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    if len(sealed) < _NONCE + _TAG:
        raise Unreadable
    try:
        return cipher.decrypt(sealed[:_NONCE], sealed[_NONCE:], about)
    except InvalidTag:
        raise Unreadable from None
