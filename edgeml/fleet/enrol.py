"""Enrolment: a token and a key become a device; and what makes a device's access end.

A device that asks again with the same key and token is told what it was told before, for the first answer may have been
lost: a one-time token is not used up by that. The HTTP layer has checked that the device holds the private key.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from edgeml.fleet.auth import new_id, new_token, split_token, token_matches
from edgeml.fleet.device_state import Device
from edgeml.fleet.store import Store
from edgeml.fleet.tables import devices, enrolment_tokens, events

ACTIVE, REVOKED = "active", "revoked"
_NEW_TOKEN = "ask the monitor's operator for a new enrolment token (edgeml monitor enrol-token)"
_REFUSALS = {
    "bad_token": (401, "the enrolment token is not known", _NEW_TOKEN),
    "revoked_token": (401, "the enrolment token was revoked", _NEW_TOKEN),
    "expired_token": (401, "the enrolment token has expired", _NEW_TOKEN),
    "used_token": (401, "the enrolment token was used as often as it may be", _NEW_TOKEN),
    "device_revoked": (403, "the device's access was revoked", "ask the monitor's operator to restore the device"),
    "key_in_use": (
        403,
        "the device's key is enrolled elsewhere",
        "end its identity: edgeml agent erase --device-key; then enrol",
    ),
}


@dataclass(frozen=True, slots=True)
class Enrolment:
    """How an enrolment went: an HTTP status, the device and its project, or a code, the cause and the remedy."""

    status: int
    device: str = ""
    project: str = ""
    code: str = ""
    cause: str = ""
    remedy: str = ""


def create_enrolment_token(
    connection: Connection, project_id: str, *, name: str, max_uses: int | None, expires: float | None, now: float
) -> str:
    """Make a token that enrols ``max_uses`` devices (None: any number). Returns its text, which is kept nowhere."""
    token = new_token()
    connection.execute(
        insert(enrolment_tokens),
        {
            "id": token.id, "salt": token.salt, "hash": token.hash, "project_id": project_id, "name": name,
            "max_uses": max_uses, "uses": 0, "created": now, "expires": expires, "revoked": None,
        },
    )  # fmt: skip
    return token.text


def enrol_device(
    store: Store, token: str, public_key: bytes, *, name: str, labels: Mapping[str, str], now: float
) -> Enrolment:
    """Enrol the device that holds ``public_key`` (32 bytes), or find it. Raises MonitorDatabaseError."""
    try:
        return _enrol(store, token, public_key, name, labels, now)
    except IntegrityError:  # the same key came twice at once, and the other request was first
        return _enrol(store, token, public_key, name, labels, now)


def _enrol(store: Store, text: str, public_key: bytes, name: str, labels: Mapping[str, str], now: float) -> Enrolment:
    parts = split_token(text)
    with store.write() as connection:
        token = None
        if parts is not None:
            query = select(enrolment_tokens).where(enrolment_tokens.c.id == parts[0])
            token = connection.execute(query.with_for_update()).one_or_none()
        secret = parts[1] if parts is not None else ""
        if not token_matches(secret, *((token.salt, token.hash) if token else (None, None))) or token is None:
            return _refused("bad_token")
        known = connection.execute(select(devices).where(devices.c.public_key == public_key)).one_or_none()
        refusal = _refusal(token, known, now)
        if refusal:
            return _refused(refusal)
        if known is not None:
            return Enrolment(200, known.id, known.project_id)
        device = {
            "id": new_id(), "project_id": token.project_id, "name": name, "labels": dict(labels),
            "public_key": public_key, "enrolment_token_id": token.id, "enrolled": now, "state": ACTIVE,
        }  # fmt: skip
        connection.execute(insert(devices), device)
        used = update(enrolment_tokens).where(enrolment_tokens.c.id == token.id)
        connection.execute(used.values(uses=enrolment_tokens.c.uses + 1))
        _event(connection, token.project_id, device["id"], "enrolled", {"name": name, "token": token.name}, now)
        return Enrolment(201, device["id"], token.project_id)


def _refusal(token: Row[Any], known: Row[Any] | None, now: float) -> str:
    """Why the key may not enrol with the token, or nothing."""
    if token.revoked is not None:
        return "revoked_token"
    if known is not None:
        if known.project_id != token.project_id:
            return "key_in_use"
        if known.state != ACTIVE:
            return "device_revoked"
        if known.enrolment_token_id == token.id:
            return ""  # what it was told may have been lost, and the token have expired since
    if token.expires is not None and token.expires <= now:
        return "expired_token"
    if known is None and token.max_uses is not None and token.uses >= token.max_uses:
        return "used_token"
    return ""


def _refused(code: str) -> Enrolment:
    status, cause, remedy = _REFUSALS[code]
    return Enrolment(status, code=code, cause=cause, remedy=remedy)


_DEVICE = (devices.c.id, devices.c.project_id, devices.c.name, devices.c.public_key, devices.c.state)


def find_device(store: Store, device_id: str) -> Device | None:
    """The device with an identity, of whatever project."""
    with store.read() as connection:
        row = connection.execute(select(*_DEVICE).where(devices.c.id == device_id)).one_or_none()
    return None if row is None else _device(row)


def recent_devices(store: Store, most: int) -> list[Device]:
    """The ``most`` active devices that were heard of last, the latest last."""
    latest = func.coalesce(devices.c.last_seen, devices.c.enrolled).desc()
    with store.read() as connection:
        rows = connection.execute(select(*_DEVICE).where(devices.c.state == ACTIVE).order_by(latest).limit(most)).all()
    return [_device(row) for row in reversed(rows)]


def _device(row: Any) -> Device:
    return Device(row[0], row[1], row[2], bytes(row[3]), row[4])


def set_device_state(connection: Connection, project_id: str, device_id: str, state: str, now: float) -> bool:
    """Make a device ``ACTIVE`` or ``REVOKED``. False when the project has no such device."""
    where = (devices.c.id == device_id, devices.c.project_id == project_id)
    # The row's lock: a batch that is being taken is finished first, and none is taken after.
    before = connection.execute(select(devices.c.state).where(*where).with_for_update()).scalar_one_or_none()
    if before is None:
        return False
    if before != state:
        connection.execute(update(devices).where(*where).values(state=state))
        kind = "device_revoked" if state == REVOKED else "device_restored"
        _event(connection, project_id, device_id, kind, {}, now)
    return True


def _event(
    connection: Connection, project_id: str, device_id: str, kind: str, detail: Mapping[str, Any], now: float
) -> None:
    row = {"at": now, "project_id": project_id, "device_id": device_id, "kind": kind, "detail": dict(detail)}
    connection.execute(insert(events), row)
