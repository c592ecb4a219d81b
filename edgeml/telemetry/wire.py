"""The form of a batch: a body of items, and a signed header that chains it to the batch before.

The agent builds batches, the monitor opens them; both call this module and nothing else decides what is well formed.
``WIRE.md`` says the same in words. Needs the package cryptography for signatures only.

A device's batches form a chain: number 0, 1, 2, …, each header holding the SHA-256 of the header before. A number that
comes again with other bytes, or a chain that goes on after another one began, shows that two devices have one key.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from edgeml.errors import JSONError, WireError
from edgeml.jsonutil import dumps, loads
from edgeml.telemetry.items import KINDS, Item, Loss

BATCH_VERSION = 1
PATH = "/v1/batches"
CONTENT_TYPE = "application/vnd.edgeml.batch+json"
# HTTP headers of a request: the signed header, what this attempt was sent at, and the signature over both.
HEADER, SENT, SIGNATURE = "EdgeML-Batch", "EdgeML-Sent", "EdgeML-Signature"

MAX_HEADER_BYTES = 2048
MAX_BODY_BYTES = 4 * 2**20  # as JSON
MAX_COMPRESSED_BYTES = 2**20
MAX_ITEMS = 500
MAX_LOSSES = 1000
MAX_PROFILES = 4
MAX_REASON = 200
NO_PREVIOUS = "0" * 64
MAX_SECONDS = 1e11  # of a clock: some 3,000 years

_HEX = frozenset("0123456789abcdef")
_MAX_NUMBER = 2**53 - 1
_MAX_SENT = 200


@dataclass(frozen=True, slots=True)
class Header:
    """What a batch says of itself; its canonical JSON is what is signed and what the next batch names.

    ``restarted`` is empty, or, in the first batch of a chain that follows another, the reason why.
    """

    device: str
    chain: str
    number: int
    previous: str
    body_sha256: str
    restarted: str = ""

    def to_bytes(self) -> bytes:
        # Not by dataclasses.asdict: the monitor does this for every batch, and that takes longer than all the rest.
        return dumps({"batch_version": BATCH_VERSION, **{name: getattr(self, name) for name in self.__slots__}})


@dataclass(frozen=True, slots=True)
class Sent:
    """The device's clocks when an attempt was made: boot, seconds since boot, and what it takes for the time."""

    boot_id: str
    monotonic: float
    wall: float

    def to_text(self) -> str:
        return f"{self.boot_id} {self.monotonic:.3f} {self.wall:.3f}"


@dataclass(frozen=True, slots=True)
class Body:
    """What a batch carries. ``payloads`` are the parsed payloads of ``items``, in their order."""

    items: tuple[Item, ...]
    payloads: tuple[Any, ...]
    losses: tuple[Loss, ...]
    profiles: Mapping[str, Any]


# --- writing --------------------------------------------------------------------------------------------------------
def body_bytes(items: Sequence[Item], losses: Sequence[Loss], profiles: Mapping[str, bytes]) -> bytes:
    """The body as JSON; equal arguments give equal bytes, on any machine, so that a batch may be built again."""
    parts = [
        b"[%s,%d,%s,%d,%s]" % (dumps(i.stream)[:-1], i.sequence, dumps(i.kind)[:-1], i.rows, i.payload.rstrip(b"\n"))
        for i in items
    ]
    lost = dumps([[x.stream, x.first, x.last, x.kind, x.reason, x.rows] for x in losses])[:-1]
    known = b",".join(dumps(sha)[:-1] + b":" + profiles[sha].rstrip(b"\n") for sha in sorted(profiles))
    return b'{"items":[' + b",".join(parts) + b'],"losses":' + lost + b',"profiles":{' + known + b"}}\n"


def compress(body: bytes) -> bytes:
    """What goes over the network: gzip."""
    return gzip.compress(body, compresslevel=6, mtime=0)


def signed_bytes(header: bytes, sent: str) -> bytes:
    """What the device's Ed25519 key signs for one attempt to send a batch."""
    return b"edgeml-batch\n" + header + sent.encode() + b"\n"


def enrolment_bytes(token: str) -> bytes:
    """What a device signs to show that it holds the private key it enrols."""
    return b"edgeml-enrol\n" + sha256(token.encode()).hexdigest().encode() + b"\n"


def encode(data: bytes) -> str:
    """URL-safe Base64 for an HTTP header, without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


# --- reading --------------------------------------------------------------------------------------------------------
def decode(text: str, what: str) -> bytes:
    """The bytes of ``encode``. Raises WireError naming ``what``."""
    if len(text) > 2 * MAX_HEADER_BYTES:
        raise WireError(f"{what} is too long")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise WireError(f"{what} is not URL-safe Base64") from None
    # Python also takes padding, the other alphabet's "+/" and stray bits in the last character.
    if encode(data) != text:
        raise WireError(f"{what} is not URL-safe Base64 in its one form")
    return data


def read_header(data: bytes) -> Header:
    """A header from its bytes, which must be canonical. Raises WireError."""
    if len(data) > MAX_HEADER_BYTES:
        raise WireError("batch header: too long")
    fields = _json(data, "batch header", MAX_HEADER_BYTES)
    if not isinstance(fields, dict) or fields.pop("batch_version", None) != BATCH_VERSION:
        raise WireError("batch header: its version is not known")
    try:
        header = Header(**fields)
    except TypeError:
        raise WireError("batch header: fields are missing or unknown") from None
    _identifier("batch header: device", header.device)
    _identifier("batch header: chain", header.chain)
    _integer("batch header: number", header.number)
    _digest("batch header: previous", header.previous)
    _digest("batch header: body_sha256", header.body_sha256)
    _reason("batch header: restarted", header.restarted, empty=True)
    if header.to_bytes() != data:
        raise WireError("batch header: not in its one canonical form")
    return header


def read_sent(text: str) -> Sent:
    """The clocks of an attempt. Raises WireError."""
    parts = text[: _MAX_SENT + 1].split(" ")
    try:
        boot_id, monotonic, wall = parts[0], float(parts[1]), float(parts[2])
    except (IndexError, ValueError):
        raise WireError(f"{SENT} is not 'boot monotonic wall'") from None
    sent = Sent(boot_id, monotonic, wall)
    # Comparisons that NaN fails, too.
    known = 0 < len(boot_id) <= 64 and boot_id.isascii() and boot_id.isprintable()
    if not known or not 0 <= monotonic < MAX_SECONDS or not abs(wall) < MAX_SECONDS or sent.to_text() != text:
        raise WireError(f"{SENT} is not 'boot monotonic wall' in its one form")
    return sent


def decompress(data: bytes) -> bytes:
    """The body of ``compress``, bounded while it grows. Raises WireError."""
    if len(data) > MAX_COMPRESSED_BYTES:
        raise WireError(f"batch: {len(data)} bytes, at most {MAX_COMPRESSED_BYTES} are taken")
    reader = zlib.decompressobj(wbits=31)
    try:
        body = reader.decompress(data, MAX_BODY_BYTES + 1)
    except zlib.error:
        raise WireError("batch: the body is not gzip") from None
    if len(body) > MAX_BODY_BYTES:
        raise WireError(f"batch: the body has more than {MAX_BODY_BYTES} bytes when decompressed")
    if not reader.eof or reader.unused_data:
        raise WireError("batch: the gzip body is cut short, or bytes follow it")
    return body


def read_body(data: bytes, reader: Callable[..., Any] = loads, writer: Callable[[Any], bytes] = dumps) -> Body:
    """A body from its JSON. Payloads are parsed, not checked: see ``window.check_window``. Raises WireError.

    ``reader`` and ``writer`` are ``jsonutil.loads`` and what writes the items' payloads again: the monitor has faster
    ones.
    """
    fields = _json(data, "batch body", MAX_BODY_BYTES, reader)
    if not isinstance(fields, dict) or set(fields) != {"items", "losses", "profiles"}:
        raise WireError("batch body: not {items, losses, profiles}")
    items, losses, profiles = fields["items"], fields["losses"], fields["profiles"]
    if not isinstance(items, list) or len(items) > MAX_ITEMS:
        raise WireError(f"batch body: items is not a list of at most {MAX_ITEMS}")
    if not isinstance(losses, list) or len(losses) > MAX_LOSSES:
        raise WireError(f"batch body: losses is not a list of at most {MAX_LOSSES}")
    if not isinstance(profiles, dict) or len(profiles) > MAX_PROFILES:
        raise WireError(f"batch body: profiles is not an object of at most {MAX_PROFILES}")
    for sha in profiles:
        _digest("batch body: profiles", sha)
    read = tuple(_item(fields, writer) for fields in items)
    if len({(i.stream, i.sequence) for i in read}) != len(read):
        raise WireError("batch body: an item stands twice")
    return Body(read, tuple(fields[4] for fields in items), tuple(map(_loss, losses)), profiles)


def _item(fields: Any, writer: Callable[[Any], bytes]) -> Item:
    if not isinstance(fields, list) or len(fields) != 5:
        raise WireError("batch body: an item is not [stream, sequence, kind, rows, payload]")
    stream, sequence, kind, rows, payload = fields
    _identifier("batch body: stream", stream)
    _integer("batch body: sequence", sequence)
    _integer("batch body: rows", rows)
    if kind not in KINDS:
        raise WireError("batch body: an item's kind is not known")
    return Item(stream, sequence, kind, writer(payload), rows)


def _loss(fields: Any) -> Loss:
    if not isinstance(fields, list) or len(fields) != 6:
        raise WireError("batch body: a loss is not [stream, first, last, kind, reason, rows]")
    loss = Loss(*fields)
    _identifier("batch body: stream of a loss", loss.stream)
    _integer("batch body: first of a loss", loss.first)
    _integer("batch body: last of a loss", loss.last)
    _integer("batch body: rows of a loss", loss.rows)
    _reason("batch body: reason of a loss", loss.reason)
    if loss.first > loss.last or loss.kind not in KINDS:
        raise WireError("batch body: a loss ends before it begins, or is of no known kind")
    return loss


def _json(data: bytes, what: str, limit: int, reader: Callable[..., Any] = loads) -> Any:
    try:
        return reader(data, what, limit=limit)
    except JSONError as error:
        raise WireError(error.cause) from None


def _identifier(what: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) != 32 or not set(value) <= _HEX:
        raise WireError(f"{what} is not 32 hexadecimal digits")


def _digest(what: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) != 64 or not set(value) <= _HEX:
        raise WireError(f"{what} is not a SHA-256 in hexadecimal digits")


def _integer(what: str, value: Any) -> None:
    if type(value) is not int or not 0 <= value <= _MAX_NUMBER:
        raise WireError(f"{what} is not an integer from 0 to 2**53 - 1")


def _reason(what: str, value: Any, *, empty: bool = False) -> None:
    if not isinstance(value, str) or len(value) > MAX_REASON or not (value or empty) or not value.isprintable():
        raise WireError(f"{what} is not a printable text of at most {MAX_REASON} characters")
