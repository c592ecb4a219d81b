"""The two routes of devices: enrolment, and batches, the one route where every microsecond counts.

A batch is plain ASGI without pydantic: headers, key (from memory), signature, rate, then the body, which ``wire.py``
reads, and the ingest thread, which answers when the transaction is on the disk. What stands against it is decided
before the body is read. ``OPENAPI`` describes it for the API's description all the same.
"""

from __future__ import annotations

import asyncio
import time
from hashlib import sha256
from typing import Annotated, Any

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field

from edgeml.errors import RequestError, WireError
from edgeml.fleet import fast_json
from edgeml.fleet.device_state import Device
from edgeml.fleet.enrol import ACTIVE, enrol_device
from edgeml.fleet.limits import address_key
from edgeml.fleet.monitor import Monitor
from edgeml.fleet.protocol import error_response
from edgeml.fleet.routes_common import Do, Error, Form, address_of, checked_router, too_often
from edgeml.telemetry import wire

# A body that takes longer to read than this many bytes do is read in a thread, so that other requests go on.
_INLINE_BYTES = 32 * 2**10

Label = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]
_BASE64 = r"^[A-Za-z0-9_-]*={0,2}$"

router = checked_router(signed_in=False)


class EnrolmentForm(Form):
    """``public_key`` and ``signature`` are URL-safe Base64; the signature shows that the device has the private key."""

    token: Annotated[str, Field(min_length=1, max_length=200)]
    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}=?$")]
    name: Label
    labels: Annotated[dict[Label, Label], Field(max_length=32, default_factory=dict)]
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{86}(==)?$")]


class Enrolled(BaseModel):
    device: str
    project: str
    server_time: float


_ENROL_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"model": Enrolled, "description": "The device enrolled before with this key and token: the same answer."},
    401: {"model": Error},
    403: {"model": Error},
}


@router.post("/v1/enrol", status_code=201, responses=_ENROL_RESPONSES)
def enrol(form: EnrolmentForm, response: Response, do: Do) -> Enrolled:
    """Make a device known. The same key with the same token again gives the same device."""
    limits, address = do.monitor.limits, address_key(do.address)
    wait = limits.enrolments.take(address)
    if wait:
        do.monitor.metrics.limited("enrolments")
        raise too_often(wait, "enrolments from this address")
    wait = limits.failures.wait(address)
    if wait:
        do.monitor.metrics.limited("failures")
        raise too_often(wait, "refused requests from this address")
    try:
        public_key = wire.decode(form.public_key.rstrip("="), "public_key")
        signature = wire.decode(form.signature.rstrip("="), "signature")
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, wire.enrolment_bytes(form.token))
    except (WireError, ValueError, InvalidSignature):
        limits.failures.take(address)
        cause = "the signature is not made with the private key of public_key over this token"
        raise RequestError(cause, "sign it as WIRE.md says", status=401, code="bad_signature") from None
    made = enrol_device(do.monitor.store, form.token, public_key, name=form.name, labels=form.labels, now=do.now)
    if made.status >= 400:
        limits.failures.take(address)
        raise RequestError(made.cause, made.remedy, status=made.status, code=made.code)
    # Its first batch is next.
    do.monitor.devices.add(Device(made.device, made.project, form.name, public_key, ACTIVE))
    response.status_code = made.status
    return Enrolled(device=made.device, project=made.project, server_time=do.now)


async def batches(request: Request) -> Response:
    """POST /v1/batches: see ``wire.py`` for the form, and the module for the order of things."""
    monitor: Monitor = request.app.state.monitor
    try:
        return await _take(request, monitor)
    except RequestError as error:
        monitor.metrics.batch(error.status)
        return error_response(error)


async def _take(request: Request, monitor: Monitor) -> Response:
    received = time.time()
    device, header, header_bytes, sent = await _check_headers(request, monitor)
    wait = monitor.limits.batches.take(device.id)
    if wait:
        monitor.metrics.limited("batches")
        raise too_often(wait, "batches of this device")
    data = await request.body()
    if len(data) > _INLINE_BYTES:
        body = await run_in_threadpool(_read, data, header.body_sha256)
    else:
        body = _read(data, header.body_sha256)
    reply = await asyncio.wrap_future(monitor.ingest.take(device, header, header_bytes, sent, body, received))
    if reply.status in (401, 403):  # revoked or deleted meanwhile
        monitor.devices.forget(device.id)
    clone = reply.body.get("why") in ("forked", "closed")
    monitor.metrics.batch(reply.status, len(data), clone=clone)
    headers = {"Retry-After": str(max(1, round(reply.retry_after)))} if reply.retry_after is not None else None
    return Response(orjson.dumps(reply.body), reply.status, headers, media_type="application/json")


async def _check_headers(request: Request, monitor: Monitor) -> tuple[Device, wire.Header, bytes, wire.Sent]:
    """Who sends, and that it does. Raises RequestError."""
    given = request.headers
    if given.get("content-type") != wire.CONTENT_TYPE or given.get("content-encoding") != "gzip":
        cause = f"a batch is {wire.CONTENT_TYPE}, compressed with gzip"
        raise RequestError(cause, "update the agent", status=415, code="unsupported_type")
    try:
        header_bytes = wire.decode(given.get(wire.HEADER, ""), wire.HEADER)
        header = wire.read_header(header_bytes)
        sent_text = given.get(wire.SENT, "")
        sent = wire.read_sent(sent_text)
        signature = wire.decode(given.get(wire.SIGNATURE, ""), wire.SIGNATURE)
    except WireError as error:
        raise _failed(request, monitor, 400, "malformed", error.cause, "update the agent") from None
    found = monitor.devices.get(header.device)
    if found is None:
        wait = monitor.limits.failures.wait(address_key(address_of(request)))
        if wait:
            monitor.metrics.limited("failures")
            raise too_often(wait, "refused requests from this address")
        found = await run_in_threadpool(monitor.devices.look_up, header.device)
    if found is None:
        raise _failed(request, monitor, 401, "unknown_device", "no such device is enrolled here", "enrol it")
    device, key = found
    try:
        key.verify(signature, wire.signed_bytes(header_bytes, sent_text))
    except InvalidSignature:
        cause = "the signature is not made with the device's key"
        raise _failed(request, monitor, 401, "bad_signature", cause, "check the device's key, or enrol it") from None
    if device.state != "active":
        # Only to whoever holds the key: others learn nothing of a device.
        cause, remedy = "this device's key is revoked", "an admin of its project can reinstate it"
        raise RequestError(cause, remedy, status=403, code="device_revoked")
    return device, header, header_bytes, sent


def _read(data: bytes, digest: str) -> wire.Body:
    """The body of a batch, which must be the one its signed header names. Raises RequestError."""
    try:
        body = wire.decompress(data)
        if sha256(body).hexdigest() != digest:
            raise WireError("batch: the body is not the one that the header names")
        return wire.read_body(body, fast_json.loads, fast_json.dumps)
    except WireError as error:
        large = "more than" in error.cause and "decompressed" in error.cause
        status, code = (413, "too_large") if large else (422, "malformed")
        raise RequestError(error.cause, "send fewer items at once", status=status, code=code) from None


def _failed(request: Request, monitor: Monitor, status: int, code: str, cause: str, remedy: str) -> RequestError:
    """The refusal of a request that nobody vouches for; it counts against its address."""
    wait = monitor.limits.failures.take(address_key(address_of(request)))
    if wait:
        monitor.metrics.limited("failures")
        return too_often(wait, "refused requests from this address")
    return RequestError(cause, remedy, status=status, code=code)


# --- the description: what FastAPI would have made of a route of its own
def _header(name: str, meaning: str, **form: Any) -> dict[str, Any]:
    schema = {"type": "string", **form}
    return {"name": name, "in": "header", "required": True, "description": meaning, "schema": schema}


_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_RESULT = {
    "type": "array",
    "prefixItems": [{"enum": ["accepted", "duplicate", "refused", "deferred"]}, {"type": "string"}],
}
_STATUSES = {
    400: "The signed header is malformed.",
    401: "No such device, or a wrong signature.",
    403: "The device is revoked.",
    409: "The batch does not continue the device's chain; `why` says how.",
    413: "Too large, as it comes or decompressed.",
    415: "Not a compressed batch.",
    422: "The body is malformed, or not the one the header names.",
    429: "Too often: Retry-After.",
    500: "The server failed.",
    503: "Not now: Retry-After.",
}
OPENAPI: dict[str, Any] = {
    "summary": "Take a batch of a device's items",
    "description": "Signed by the device's Ed25519 key and chained to the batch before; WIRE.md has the whole form.",
    "operationId": "batches",
    "parameters": [
        _header(wire.HEADER, "The header that is signed, canonical JSON as URL-safe Base64.", pattern=_BASE64),
        _header(wire.SENT, "Boot id, seconds since boot and wall clock of this attempt."),
        _header(wire.SIGNATURE, "Ed25519 over both, URL-safe Base64.", pattern=_BASE64),
        _header("Content-Encoding", "A batch always is compressed.", enum=["gzip"]),
    ],
    "requestBody": {
        "required": True,
        "content": {wire.CONTENT_TYPE: {"schema": {"type": "string", "format": "binary"}}},
    },
    "responses": {
        "200": {
            "description": "Every item's result, in order; the batch's number is used up.",
            "content": {"application/json": {"schema": {
                "type": "object",
                "required": ["results", "need_profiles", "server_time", "pause"],
                "properties": {
                    "results": {"type": "array", "items": _RESULT},
                    "need_profiles": {"type": "array", "items": {"type": "string"}},
                    "server_time": {"type": "number"},
                    "pause": {"type": ["number", "null"]},
                },
            }}},
        },
        **{str(code): {"description": text, "content": _ERROR} for code, text in _STATUSES.items()},
    },
}  # fmt: skip
