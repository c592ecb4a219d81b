"""Sampled rows are sealed on the device to a public key: neither spool nor server can read them, who retrains can.

``seal_rows`` makes the payload of an item of kind "rows"; ``open_sealed`` is for whoever holds the private key, which
``generate_sample_key`` makes. An ephemeral X25519 key, HKDF-SHA256 and AES-256-GCM, which also binds the model and the
time. Needs the package cryptography.
"""

from __future__ import annotations

import base64
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeml.errors import JSONError, KeyFileError, SigningNotInstalledError, WireError
from edgeml.jsonutil import dumps, loads

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

ROWS_VERSION = 1
MAX_SEALED_BYTES = 384 * 2**10
_MAX_OPENED_BYTES = 32 * 2**20
_ALGORITHM = "x25519-hkdf-sha256-aes256gcm"
_INFO = b"edgeml sampled rows 1"
_FIELDS = ("ephemeral", "nonce", "data")
_MAKE_ONE = "make a pair with edgeml.telemetry.sealing.generate_sample_key(path)"


# --- keys -----------------------------------------------------------------------------------------------------------
def generate_sample_key(path: str | os.PathLike[str]) -> tuple[Path, Path]:
    """Make a key pair: the private key in ``path``, mode 0600, the public one beside it with ``.pub`` added, both PEM.

    Devices get the public one as ``sample_key``. Returns the paths. Raises KeyFileError when either exists.
    """
    _require_cryptography()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    key = X25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    paths = Path(path), Path(f"{os.fspath(path)}.pub")
    for target, data, mode in ((paths[0], private, 0o600), (paths[1], public, 0o644)):
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        except OSError as error:
            raise KeyFileError(f"{target} cannot be made: {error.strerror}", "give another path") from None
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
    return paths


def public_key(key: Any) -> X25519PublicKey:
    """An X25519 public key from a path, PEM or 32 raw bytes, or a key object. Raises KeyFileError."""
    _require_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

    if isinstance(key, X25519PublicKey):
        return key
    data = _read(key, "sample_key")
    if b"PRIVATE KEY" in data:
        raise KeyFileError("sample_key is a private key", "devices get the public key only")
    try:
        found = X25519PublicKey.from_public_bytes(data) if len(data) == 32 else serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise KeyFileError("sample_key is not a public key in PEM form or 32 raw bytes", _MAKE_ONE) from None
    if not isinstance(found, X25519PublicKey):
        raise KeyFileError("sample_key is a key of another kind than X25519", _MAKE_ONE)
    return found


def _private_key(key: Any) -> X25519PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if isinstance(key, X25519PrivateKey):
        return key
    try:
        found = serialization.load_pem_private_key(_read(key, "the private key"), None)
    except (TypeError, ValueError, UnsupportedAlgorithm):
        raise KeyFileError("the private key cannot be read as one in PEM form", _MAKE_ONE) from None
    if not isinstance(found, X25519PrivateKey):
        raise KeyFileError("the private key is of another kind than X25519", _MAKE_ONE)
    return found


def _read(key: Any, what: str) -> bytes:
    if isinstance(key, bytes):
        return key
    if not isinstance(key, (str, os.PathLike)):
        raise KeyFileError(f"{what} is a {type(key).__name__}", "give a path, bytes or a key object")
    try:
        return Path(key).read_bytes()
    except OSError as error:
        raise KeyFileError(f"{what} {os.fspath(key)} cannot be read: {error.strerror}", "check the path") from None


def _require_cryptography() -> None:
    try:
        import cryptography  # noqa: F401  # asked for by name, used by the callers
    except ImportError:
        raise SigningNotInstalledError(
            "sealing sampled rows needs the package cryptography, which is not installed",
            "pip install 'edgeml-sdk[agent]'",
        ) from None


# --- sealing --------------------------------------------------------------------------------------------------------
def seal_rows(
    to: X25519PublicKey,
    model: Mapping[str, Any],
    wall: float,
    seen: int,
    rows: Sequence[Mapping[str, Any]],
    most_bytes: int = MAX_SEALED_BYTES,
) -> tuple[dict[str, Any], int]:
    """The payload of ``rows``, and how many of them it holds: fewer where all would be too large."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    while True:
        data = zlib.compress(dumps({"seen": seen, "rows": [_encoded(row) for row in rows]}), 6)
        if len(data) <= most_bytes or not rows:
            break
        rows = rows[: len(rows) // 2]
    payload: dict[str, Any] = {"rows_version": ROWS_VERSION, "model": dict(model), "wall": wall}
    ephemeral, nonce = X25519PrivateKey.generate(), os.urandom(12)
    public = ephemeral.public_key().public_bytes_raw()
    cipher = AESGCM(_derived(ephemeral.exchange(to), public, to.public_bytes_raw()))
    sealed = (public, nonce, cipher.encrypt(nonce, data, dumps(payload)))
    fields = {name: base64.b64encode(part).decode() for name, part in zip(_FIELDS, sealed, strict=True)}
    return payload | {"sealed": {"algorithm": _ALGORITHM, **fields}}, len(rows)


def open_sealed(private_key: Any, payload: Any) -> dict[str, Any]:
    """``{"seen": rows the window saw, "rows": [{"method", "row", "answer"}, …]}`` of a payload of kind "rows".

    ``private_key`` is a path, PEM bytes or a key object; ``payload`` the whole payload, as a dict or its JSON.
    Raises KeyFileError for a key that is none or another one, WireError for a payload that is malformed or was changed.
    """
    _require_cryptography()
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    key = _private_key(private_key)
    try:
        fields = loads(payload, "sampled rows") if isinstance(payload, (bytes, memoryview)) else dict(payload)
        sealed = fields.pop("sealed")
        if fields["rows_version"] != ROWS_VERSION or sealed["algorithm"] != _ALGORITHM:
            raise WireError("sampled rows: sealed in a form that is not known", "upgrade edgeml-sdk")
        public, nonce, data = (base64.b64decode(sealed[name], validate=True) for name in _FIELDS)
        shared = key.exchange(X25519PublicKey.from_public_bytes(public))
        about = dumps(fields)
        cipher = AESGCM(_derived(shared, public, key.public_key().public_bytes_raw()))
    except (JSONError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"sampled rows: malformed: {type(error).__name__}") from None
    try:
        opened = cipher.decrypt(nonce, data, about)
    except (InvalidTag, ValueError):
        raise KeyFileError(
            "the sampled rows do not open: they are sealed to another key, or were changed",
            "use the private key that belongs to the device's sample_key",
        ) from None
    found = zlib.decompressobj().decompress(opened, _MAX_OPENED_BYTES)
    return dict(_decoded(loads(found, "sampled rows")))


def _derived(shared: bytes, ephemeral: bytes, recipient: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), 32, salt=ephemeral + recipient, info=_INFO).derive(shared)


# --- cells that JSON cannot hold ------------------------------------------------------------------------------------
def _encoded(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}
    if isinstance(value, Mapping):
        return {"fields": {str(key): _encoded(cell) for key, cell in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_encoded(cell) for cell in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(cell) for cell in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"float"}:
        return float(value["float"])
    return {key: _decoded(cell) for key, cell in value.get("fields", value).items()}
