"""What the tests of the monitor share: a server of our own on a free port, people of every role, and a device.

The server is the real one, uvicorn and all, in a thread; ``served`` stops it at the end. Passwords are hashed at a cost
that tests can afford.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from unittest.mock import patch

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgeml.fleet import accounts, auth
from edgeml.fleet.enrol import create_enrolment_token
from edgeml.fleet.monitor import Monitor
from edgeml.fleet.serve import MonitorServer, listen
from edgeml.fleet.settings import Settings
from edgeml.fleet.store import Store
from edgeml.fleet.tls import server_context
from edgeml.jsonutil import dumps
from edgeml.telemetry import wire
from edgeml.telemetry.items import Item, Loss
from tests.fleet_tools import window
from tests.waiting import PATIENCE

__all__ = [
    "PASSWORD",
    "QUIET",
    "FakeDevice",
    "cheap_hashes",
    "enrolment_token",
    "people",
    "secret_of",
    "served",
    "window",
]

PASSWORD = "correct horse battery"
QUIET = Settings(port=0, retention_seconds=0, header_seconds=30)


@contextlib.contextmanager
def cheap_hashes() -> Iterator[None]:
    """Passwords are hashed at scrypt's least cost."""
    with patch.object(auth, "_LOG2_N", 2):
        yield


def secret_of(token: str) -> str:
    """The secret half of a token; it may itself hold ``_``, one in 64 begins with it."""
    return token.split("_", 2)[2]


@dataclass
class Served:
    """A running server. ``http`` is a client of its own address."""

    url: str
    monitor: Monitor
    server: MonitorServer
    http: httpx.Client

    @property
    def store(self) -> Store:
        return self.monitor.store

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", httpx.URL(self.url).port or 0


@contextlib.contextmanager
def served(url: str, settings: Settings = QUIET, **client: Any) -> Iterator[Served]:
    """A server of the database ``url``, until the block ends."""
    store = Store.open(url)
    monitor = Monitor(store, settings)
    context = server_context(settings)
    server = MonitorServer(monitor, context)
    listener = listen(settings.host, settings.port)
    started = threading.Event()
    server.on_started = started.set
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        assert started.wait(PATIENCE)
        address = f"{'https' if context else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
        with httpx.Client(base_url=address, trust_env=False, timeout=PATIENCE, **client) as http:
            yield Served(address, monitor, server, http)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
        store.close()
    assert not thread.is_alive()


@dataclass
class People:
    """Two projects, and a bearer token for every kind of caller; ``foreign`` ones are of the other project."""

    project: str
    other: str
    tokens: dict[str, str] = field(default_factory=dict)

    def headers(self, kind: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[kind]}"} if kind in self.tokens else {}


def people(store: Store, settings: Settings = QUIET) -> People:
    """Users and tokens of every role in the project "shops", and an admin of the project "other"."""
    from edgeml.fleet.access import open_session

    now = time.time()
    with cheap_hashes():
        hashed = auth.hash_password(PASSWORD)
    with store.write() as connection:
        made = People(*(accounts.create_project(connection, name, now)["id"] for name in ("shops", "other")))
        for kind in ("root", "viewer", "operator", "admin", "foreign", "nobody"):
            user = accounts.create_user(connection, kind, hashed, now, root=kind == "root")
            made.tokens[kind] = open_session(connection, user["id"], now, settings.session_seconds)[0]
        for role in ("viewer", "operator", "admin"):
            accounts.set_member(connection, made.project, role, role)
            token = accounts.create_token(
                connection, made.project, name=f"{role}-program", role=role, expires=None, now=now
            )
            made.tokens[f"{role} token"] = token["token"]
        accounts.set_member(connection, made.other, "foreign", "admin")
        foreign = accounts.create_token(connection, made.other, name="theirs", role="admin", expires=None, now=now)
        made.tokens["foreign token"] = foreign["token"]
        metrics = accounts.create_token(connection, None, name="prometheus", role=None, expires=None, now=now)
        made.tokens["metrics"] = metrics["token"]
    return made


def enrolment_token(store: Store, project: str, **more: Any) -> str:
    """A new enrolment token, for a fleet unless ``more`` says otherwise."""
    given = {"name": "test", "max_uses": None, "expires": None, "now": time.time()} | more
    with store.write() as connection:
        return create_enrolment_token(connection, project, **given)


class FakeDevice:
    """A device's end of the wire, by hand."""

    def __init__(self, http: httpx.Client) -> None:
        self.http, self.key = http, Ed25519PrivateKey.generate()
        self.device, self.chain, self.number, self.previous = "", "c" * 32, 0, wire.NO_PREVIOUS
        self.stream, self.sequence = sha256(self.key.public_key().public_bytes_raw()).hexdigest()[:32], 0

    def enrol(self, token: str, /, **more: Any) -> httpx.Response:
        form = {
            "token": token,
            "public_key": wire.encode(self.key.public_key().public_bytes_raw()),
            "name": "till-7",
            "labels": {"town": "Bern"},
            "signature": wire.encode(self.key.sign(wire.enrolment_bytes(token))),
        } | more
        answer = self.http.post("/v1/enrol", json=form)
        if answer.is_success:
            self.device = answer.json()["device"]
        return answer

    def items(self, *payloads: Any, kind: str = "window") -> list[Item]:
        made = [
            Item(self.stream, self.sequence + at, kind, dumps(payload), payload.get("rows", 0))
            for at, payload in enumerate(payloads)
        ]
        self.sequence += len(made)
        return made

    def request(
        self, items: list[Item], losses: Sequence[Loss] = (), profiles: dict[str, bytes] | None = None, **header: Any
    ) -> tuple[bytes, dict[str, str], bytes]:
        """Header bytes, HTTP headers and body of the chain's next batch; ``header`` changes its fields."""
        body = wire.body_bytes(items, losses, profiles or {})
        fields = {
            "device": self.device,
            "chain": self.chain,
            "number": self.number,
            "previous": self.previous,
            "body_sha256": sha256(body).hexdigest(),
        } | header
        signed = wire.Header(**fields).to_bytes()
        return signed, self.signed(signed), wire.compress(body)

    def signed(self, header: bytes) -> dict[str, str]:
        """The HTTP headers of one attempt."""
        sent = wire.Sent("boot", 60.0, time.time()).to_text()
        return {
            wire.HEADER: wire.encode(header),
            wire.SENT: sent,
            wire.SIGNATURE: wire.encode(self.key.sign(wire.signed_bytes(header, sent))),
            "Content-Type": wire.CONTENT_TYPE,
            "Content-Encoding": "gzip",
        }

    def send(self, items: list[Item], *more: Any, **header: Any) -> httpx.Response:
        """Send the chain's next batch, and go on in the chain when it is taken."""
        signed, headers, body = self.request(items, *more, **header)
        answer = self.http.post(wire.PATH, headers=headers, content=body)
        if answer.is_success:
            self.number, self.previous = self.number + 1, sha256(signed).hexdigest()
        return answer
