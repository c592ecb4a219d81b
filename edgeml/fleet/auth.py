"""Passwords and tokens: how they are made, kept and compared. Nothing here knows the database or HTTP.

What is kept of a secret is a salted hash: scrypt for passwords, which people choose, SHA-256 for tokens, whose 256
random bits need no slow hash. Comparisons take the same time whatever the answer, and so does a name that nobody has.
``access.py`` keeps what is made here, the enrolment of devices uses the same tokens.
"""

from __future__ import annotations

import hmac
import re
import secrets
import unicodedata
from dataclasses import dataclass
from hashlib import scrypt, sha256

from edgeml.errors import MonitorSettingsError

TOKEN = re.compile(r"em_([0-9a-f]{32})_([A-Za-z0-9_-]{43})")
# For logs: anything that looks like a token, whole or with its end cut off.
TOKEN_IN_TEXT = re.compile(r"em_[0-9a-f]{8,32}_?[A-Za-z0-9_%=-]*")

MIN_PASSWORD_CHARACTERS = 12
MAX_PASSWORD_CHARACTERS = 200  # a bound on the work of hashing it
# scrypt's cost: 32 MB and some 0.2 s a guess. Kept with every hash, so that it may be raised later.
_LOG2_N, _R, _P = 15, 8, 3


@dataclass(frozen=True, slots=True)
class Token:
    """A new token. ``text`` is shown once; ``id``, ``salt`` and ``hash`` are kept."""

    id: str
    text: str
    salt: bytes
    hash: bytes

    def __repr__(self) -> str:
        return f"Token({self.id})"  # never the secret, whoever prints or logs it


def new_id() -> str:
    """32 random hexadecimal digits."""
    return secrets.token_hex(16)


def new_token() -> Token:
    """A token with 256 random bits."""
    name, secret, salt = new_id(), secrets.token_urlsafe(32), secrets.token_bytes(16)
    return Token(name, f"em_{name}_{secret}", salt, token_hash(secret, salt))


def token_hash(secret: str, salt: bytes) -> bytes:
    """What is kept of the secret half of a token, 32 bytes."""
    return sha256(salt + secret.encode()).digest()


def split_token(text: str) -> tuple[str, str] | None:
    """Id and secret of a token, or None when ``text`` does not have a token's form."""
    match = TOKEN.fullmatch(text)
    return (match[1], match[2]) if match else None


def token_matches(secret: str, salt: bytes | None, kept: bytes | None) -> bool:
    """Whether ``secret`` is the one that was kept. None stands for an id nobody has: False, after the same work."""
    right = hmac.compare_digest(token_hash(secret, salt or bytes(16)), kept or bytes(32))
    return right and salt is not None and kept is not None


def check_password(password: str) -> None:
    """Raises MonitorSettingsError when a new password is too short, too long or one character again and again."""
    if not MIN_PASSWORD_CHARACTERS <= len(password) <= MAX_PASSWORD_CHARACTERS or len(set(password)) < 4:
        raise MonitorSettingsError(
            "the password is too short, too long, or has fewer than 4 different characters",
            f"choose {MIN_PASSWORD_CHARACTERS} to {MAX_PASSWORD_CHARACTERS} characters; several words are easy to keep",
        )


def hash_password(password: str) -> str:
    """What is kept of a password: scrypt with its cost and salt, as ``scrypt$log2(n)$r$p$salt$hash`` in hex.

    Raises MonitorSettingsError for one that ``check_password`` refuses. Takes some 0.2 s: call it before a transaction.
    """
    check_password(password)
    salt = secrets.token_bytes(16)
    made = _scrypt(password, salt, _LOG2_N, _R, _P)
    return f"scrypt${_LOG2_N}${_R}${_P}${salt.hex()}${made.hex()}"


def password_matches(password: str, kept: str | None) -> bool:
    """Whether ``password`` is the one that was kept. None stands for a name nobody has: False, after the same work."""
    parts = (kept or f"scrypt${_LOG2_N}${_R}${_P}${'00' * 16}${'00' * 32}").split("$")
    cost, salt, expected = [int(part) for part in parts[1:4]], bytes.fromhex(parts[4]), bytes.fromhex(parts[5])
    right = hmac.compare_digest(_scrypt(password, salt, *cost), expected)
    return right and kept is not None


def without_secrets(text: str) -> str:
    """``text`` with everything that looks like a token cut out; for logs and messages."""
    return TOKEN_IN_TEXT.sub("em_[cut out]", text)


def _scrypt(password: str, salt: bytes, log2_n: int, r: int, p: int) -> bytes:
    # The same password may come composed from one keyboard and decomposed from another.
    text = unicodedata.normalize("NFKC", password[: 4 * MAX_PASSWORD_CHARACTERS]).encode("utf-8", "surrogatepass")
    # 128 * r * (n + p) bytes are the algorithm's own; OpenSSL asks for some more.
    maxmem = 128 * r * (2**log2_n + p) + 2**20
    return scrypt(text, salt=salt, n=2**log2_n, r=r, p=p, maxmem=maxmem, dklen=32)
