"""Ed25519 keys and signatures: who made a bundle. What is signed is the manifest, which holds all digests.

``generate_key`` makes a key pair; ``write.py`` asks for ``signature_json`` and ``read.py`` for
``check_signature``. Needs the package cryptography, imported only when a key is at hand: a device that checks
no signature needs none.
"""

from __future__ import annotations

import base64
import binascii
import os
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeml.bundle.zip_layout import MAX_SIGNATURE_BYTES, SIGNATURE
from edgeml.errors import (
    JSONError,
    KeyFileError,
    NotSignedError,
    SignatureError,
    SigningNotInstalledError,
    WrongSignatureError,
)
from edgeml.jsonutil import dumps, loads

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ALGORITHM = "ed25519"
# Signed in front of the manifest, so that a signature made for another purpose is worth nothing here.
PREFIX = b"edgeml bundle manifest, format 1\x00"
PASSPHRASE_VARIABLE = "EDGEML_KEY_PASSPHRASE"

_KEY_ID_LENGTH = 16
_MAX_KEY_FILE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Signature:
    """What ``signature.json`` says: ``key_id`` is a hint which key to try, never a proof."""

    key_id: str
    value: bytes


def generate_key(path: str | os.PathLike[str], *, passphrase: str | bytes | None = None) -> tuple[Path, Path]:
    """Make a key pair: the private key in ``path``, mode 0600, the public one beside it with ``.pub`` added.

    Both are PEM files. With ``passphrase``, or the environment variable EDGEML_KEY_PASSPHRASE, the private
    key is encrypted. Returns the two paths. Raises KeyFileError when either file exists or cannot be written.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private_path = Path(path)
    public_path = private_path.with_name(private_path.name + ".pub")
    key = Ed25519PrivateKey.generate()
    secret = _passphrase(passphrase)
    encryption = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for existing in (private_path, public_path):
        if existing.exists() or existing.is_symlink():
            raise KeyFileError(f"{existing} exists and is not overwritten", "give another path, or move it away")
    _create(private_path, private, 0o600)
    try:
        _create(public_path, public, 0o644)
    except KeyFileError:
        private_path.unlink()
        raise
    return private_path, public_path


def key_id(public_key: Ed25519PublicKey) -> str:
    """First 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return sha256(public_key.public_bytes_raw()).hexdigest()[:_KEY_ID_LENGTH]


def signature_json(manifest: bytes, key: Any, *, passphrase: str | bytes | None = None) -> bytes:
    """``signature.json`` for a manifest; ``key`` is a private key: a path, PEM bytes or a key object."""
    private = private_key(key, passphrase=passphrase)
    value = base64.b64encode(private.sign(PREFIX + manifest)).decode("ascii")
    return dumps({"algorithm": ALGORITHM, "key_id": key_id(private.public_key()), "signature": value})


def read_signature(data: bytes | memoryview) -> Signature:
    """Parse ``signature.json``. Raises SignatureError unless it is as ``signature_json`` writes it."""
    try:
        fields = loads(data, SIGNATURE, limit=MAX_SIGNATURE_BYTES)
        if not isinstance(fields, dict) or set(fields) != {"algorithm", "key_id", "signature"}:
            raise SignatureError(f"{SIGNATURE} must hold algorithm, key_id and signature")
        if fields["algorithm"] != ALGORITHM:
            raise SignatureError(f"{SIGNATURE}: algorithm must be {ALGORITHM}, not {str(fields['algorithm'])[:40]!r}")
        signature = Signature(str(fields["key_id"]), base64.b64decode(fields["signature"], validate=True))
    except (JSONError, binascii.Error, TypeError, ValueError) as error:
        raise SignatureError(f"{SIGNATURE} is malformed: {error}") from None
    encoded = base64.b64encode(signature.value).decode("ascii")
    written = {"algorithm": ALGORITHM, "key_id": signature.key_id, "signature": encoded}
    if len(signature.value) != 64 or dumps(written) != bytes(data):
        raise SignatureError(f"{SIGNATURE} is malformed: not 64 bytes of signature in canonical JSON")
    return signature


def check_signature(manifest: bytes | memoryview, signature: Signature | None, keys: Any) -> str:
    """The id of the trusted key that signed the manifest.

    ``keys`` is a public key (path, PEM or 32 raw bytes, or key object) or several of them, any of which will
    do. Raises NotSignedError, WrongSignatureError; KeyFileError for a key that cannot be used.
    """
    trusted = public_keys(keys)
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise NotSignedError(
            "the bundle is not signed, and a signature was asked for",
            "compile it with sign_with=…, or load it without verify_with",
        )
    by_id = {key_id(key): key for key in trusted}
    if signature.key_id not in by_id:
        raise WrongSignatureError(
            f"the bundle is signed by key {signature.key_id[:40]!r}, trusted: {', '.join(by_id)}",
            "get the bundle from its maker, or add the maker's public key to verify_with",
        )
    try:
        by_id[signature.key_id].verify(signature.value, PREFIX + bytes(manifest))
    except InvalidSignature:
        raise WrongSignatureError(
            f"the signature by key {signature.key_id} does not match the manifest",
            "the bundle was changed after it was signed: get it again from its maker",
        ) from None
    return signature.key_id


def private_key(key: Any, *, passphrase: str | bytes | None = None) -> Ed25519PrivateKey:
    """A private key from a path, PEM bytes or a key object. Raises KeyFileError."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if isinstance(key, Ed25519PrivateKey):
        return key
    data, where = _read_key(key, "sign_with")
    if b"PUBLIC KEY-----" in data:
        raise KeyFileError(f"{where} is a public key", "sign with the private key it belongs to")
    secret = _passphrase(passphrase)
    try:
        try:
            loaded = serialization.load_pem_private_key(data, secret)
        except TypeError:
            if secret is None:
                raise KeyFileError(
                    f"{where} is protected by a passphrase", f"set {PASSPHRASE_VARIABLE} in the environment"
                ) from None
            # A passphrase in the environment is no reason to refuse a key that needs none.
            loaded = serialization.load_pem_private_key(data, None)
    except (ValueError, UnsupportedAlgorithm):
        hint = "its passphrase is another one" if b"ENCRYPTED" in data else _MAKE_ONE
        raise KeyFileError(f"{where} cannot be read as a private key in PEM form", hint) from None
    if not isinstance(loaded, Ed25519PrivateKey):
        raise KeyFileError(f"{where} is a key of another kind than Ed25519", _MAKE_ONE)
    return loaded


def public_keys(keys: Any) -> list[Ed25519PublicKey]:
    """Public keys from one key or several. Raises KeyFileError, for an empty list too: it trusts nobody."""
    several = keys if isinstance(keys, (list, tuple, set, frozenset)) else [keys]
    if not several:
        raise KeyFileError("verify_with holds no key", "give a public key, or leave verify_with out")
    return [_public_key(key) for key in several]


_MAKE_ONE = "make a key with `edgeml keys generate`"


def _public_key(key: Any) -> Ed25519PublicKey:
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if isinstance(key, Ed25519PublicKey):
        return key
    data, where = _read_key(key, "verify_with")
    if b"PRIVATE KEY-----" in data:
        raise KeyFileError(f"{where} is a private key", "verify with the public key; keep the private one to its maker")
    try:
        if len(data) == 32:
            return Ed25519PublicKey.from_public_bytes(data)
        loaded = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError(f"{where} is not a public key in PEM form or 32 raw bytes", _MAKE_ONE) from None
    if not isinstance(loaded, Ed25519PublicKey):
        raise KeyFileError(f"{where} is a key of another kind than Ed25519", _MAKE_ONE)
    return loaded


def _read_key(key: Any, argument: str) -> tuple[bytes, str]:
    """Bytes of a key, and what to call it in a message."""
    if isinstance(key, (bytes, bytearray, memoryview)):
        return bytes(key), f"the key given as {argument}"
    if not isinstance(key, (str, os.PathLike)):
        raise KeyFileError(
            f"{argument} cannot be a {type(key).__name__}", "give a path, bytes or an Ed25519 key object"
        )
    try:
        with open(key, "rb") as file:
            data = file.read(_MAX_KEY_FILE + 1)
    except (OSError, ValueError) as error:
        raise KeyFileError(f"the key file {os.fspath(key)} cannot be read: {error}") from None
    if len(data) > _MAX_KEY_FILE:
        raise KeyFileError(f"{os.fspath(key)} is too large for a key file", _MAKE_ONE)
    return data, os.fspath(key)


def _passphrase(given: str | bytes | None) -> bytes | None:
    value = given if given is not None else os.environ.get(PASSPHRASE_VARIABLE)
    encoded = value.encode() if isinstance(value, str) else value
    return encoded or None


def _create(path: Path, data: bytes, mode: int) -> None:
    """A new file with ``mode`` from its first moment, on the disk when this returns."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise KeyFileError(f"the key file {path} cannot be written: {error}") from None


def _require_cryptography() -> None:
    if find_spec("cryptography") is None:
        raise SigningNotInstalledError(
            "keys and signatures need the package cryptography, which is not installed",
            'pip install "edgeml-sdk[sign]"',
        )
