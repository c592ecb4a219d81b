"""A monitor for the tests of the agent: the contract of WIRE.md in memory, over real HTTP or called directly, with
faults by script.

``Monitor`` takes batches as the real one must: signatures, chains, each item once. ``serve`` puts it behind a socket of
this machine. ``DirectTransport`` is an agent's transport without a network, for tests on a simulated clock. A fault is
a function of the request; faults are used up one a request.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgeml.errors import WireError
from edgeml.telemetry import wire
from edgeml.telemetry.transport import ENROL_PATH, Reply

TOKEN = "em_0123456789abcdef_secretsecretsecretsecret"
HANGS = 60.0  # seconds after which an answer that nobody lets go comes all the same


@dataclass
class Answer:
    """What goes back: ``body`` a JSON value or bytes; ``cut`` bytes of it and then the connection ends; ``drop`` ends
    it without a word; ``drip`` seconds between single bytes; ``wait`` an event to wait for first.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    drop: bool = False
    drip: float | None = None
    drip_headers: bool = False
    wait: threading.Event | None = None


@dataclass
class Chain:
    number: int
    header_sha256: str
    reply: dict[str, Any]
    closed: bool = False


@dataclass
class Device:
    id: str
    key: bytes
    revoked: bool = False
    open: str | None = None
    chains: dict[str, Chain] = field(default_factory=dict)


Fault = Callable[["Monitor", str, dict[str, str], bytes], Answer | None]


def error(status: int, code: str, cause: str = "said no", headers: dict[str, str] | None = None, **more: Any) -> Answer:
    """An answer in the form of the monitor's errors."""
    return Answer(status, {"error": code, "cause": cause, "remedy": "see the test", **more}, headers or {})


def always(answer: Answer) -> Fault:
    """Answers so without looking at the request."""
    return lambda monitor, path, headers, body: answer


def taken_but(**change: Any) -> Fault:
    """The request is taken, and its answer spoilt: ``cut=10``, ``drop=True`` …"""

    def fault(monitor: Monitor, path: str, headers: dict[str, str], body: bytes) -> Answer:
        answer = monitor.answer(path, headers, body)
        for name, value in change.items():
            setattr(answer, name, value)
        return answer

    return fault


class Monitor:
    """The monitor's memory. ``counted`` is how often each item was added to the sums: 1, or the promise is broken."""

    def __init__(self, *, token: str = TOKEN) -> None:
        self.token = token
        self.devices: dict[str, Device] = {}
        self.counted: dict[tuple[str, str, int], int] = {}
        self.rows: dict[tuple[str, str, int], int] = {}
        self.lost: set[tuple[str, str, int, int, str, str]] = set()
        self.refused: dict[tuple[str, str, int], str] = {}
        self.profiles: set[str] | None = None  # None: every profile is known
        self.events: list[tuple[str, str]] = []
        self.faults: list[Fault | None] = []  # None: this request is answered as it should be
        self.constant: Fault | None = None  # for every request once the others are used up
        self.poison: Callable[[wire.Body], Answer | None] = lambda body: None
        self.pause: float | None = None
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.lock = threading.RLock()

    # --- requests ---------------------------------------------------------------------------------------------------
    def handle(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The answer, faults included. Header names in lower case."""
        with self.lock:
            self.requests.append((path, headers, body))
            fault = self.faults.pop(0) if self.faults else self.constant
            answer = None if fault is None else fault(self, path, headers, body)
            return self.answer(path, headers, body) if answer is None else answer

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Answer:
        """The answer without faults."""
        try:
            if path.endswith(ENROL_PATH):
                return self._enrol(json.loads(body))
            if path.endswith(wire.PATH):
                return self._batch(headers, body)
        except WireError as problem:
            return error(422 if "body" in problem.cause else 400, "malformed", problem.cause)
        return error(404, "not_found")

    def _enrol(self, request: dict[str, Any]) -> Answer:
        if request["token"] != self.token:
            return error(401, "bad_token", "the token is not known, used or expired")
        key = wire.decode(request["public_key"], "key")
        Ed25519PublicKey.from_public_bytes(key).verify(
            wire.decode(request["signature"], "signature"), wire.enrolment_bytes(self.token)
        )
        found = next((d for d in self.devices.values() if d.key == key), None)
        if found is not None and found.revoked:
            return error(403, "device_revoked", "the device was revoked")
        device = found or Device(uuid4().hex, key)
        self.devices[device.id] = device
        return Answer(201 if found is None else 200, {"device": device.id, "project": "0" * 32, "server_time": 1e9})

    def _batch(self, headers: dict[str, str], packed: bytes) -> Answer:
        assert headers["content-encoding"] == "gzip"
        assert headers["content-type"] == wire.CONTENT_TYPE
        raw = wire.decode(headers[wire.HEADER.lower()], "header")
        header = wire.read_header(raw)
        sent = wire.read_sent(headers[wire.SENT.lower()])
        device = self.devices.get(header.device)
        if device is None:
            return error(401, "unknown_device", "the device is not known")
        if device.revoked:
            return error(403, "device_revoked", "the device was revoked")
        try:
            signature = wire.decode(headers[wire.SIGNATURE.lower()], "signature")
            Ed25519PublicKey.from_public_bytes(device.key).verify(signature, wire.signed_bytes(raw, sent.to_text()))
        except InvalidSignature:
            return error(401, "bad_signature", "the signature is another one's")
        body = wire.decompress(packed)
        if sha256(body).hexdigest() != header.body_sha256:
            return error(400, "malformed", "the body is another one")
        return self._chain(device, header, sha256(raw).hexdigest(), wire.read_body(body))

    def _chain(self, device: Device, header: wire.Header, digest: str, body: wire.Body) -> Answer:
        chain = device.chains.get(header.chain)
        if chain is not None and (chain.number, chain.header_sha256) == (header.number, digest):
            return Answer(200, chain.reply)
        if chain is not None and chain.closed:
            return self._conflict(device, "closed", clone=True)
        if chain is None and (header.number != 0 or header.previous != wire.NO_PREVIOUS):
            return self._conflict(device, "gap")
        if chain is not None and header.number <= chain.number:
            return self._conflict(device, "forked" if header.number == chain.number else "replayed", clone=True)
        if chain is not None and header.number > chain.number + 1:
            return self._conflict(device, "gap")
        if chain is not None and header.previous != chain.header_sha256:
            return self._conflict(device, "forked", clone=True)
        spoilt = self.poison(body)
        if spoilt is not None:
            return spoilt
        if chain is None and device.open is not None:
            device.chains[device.open].closed = True
            self.events.append(("chain_restarted", header.restarted))
        reply = self._take(device, body)
        device.open = header.chain
        device.chains[header.chain] = Chain(header.number, digest, reply)
        return Answer(200, reply)

    def _conflict(self, device: Device, why: str, *, clone: bool = False) -> Answer:
        if clone:
            self.events.append(("clone_suspected", device.id))
        return error(409, "chain_conflict", f"the chain is {why}", why=why)

    def _take(self, device: Device, body: wire.Body) -> dict[str, Any]:
        if self.profiles is not None:
            self.profiles |= set(body.profiles)
        results, need = [], []
        for item, payload in zip(body.items, body.payloads, strict=True):
            name = (device.id, item.stream, item.sequence)
            profile = payload.get("profile_sha256") if isinstance(payload, dict) else None
            if name in self.counted or name in self.refused:
                results.append(["duplicate", ""])
            elif isinstance(payload, dict) and payload.get("bad"):
                self.refused[name] = payload["bad"]
                results.append(["refused", payload["bad"]])
            elif profile is not None and self.profiles is not None and profile not in self.profiles:
                need.append(profile)
                results.append(["deferred", "the profile is not known"])
            else:
                self.counted[name] = self.counted.get(name, 0) + 1
                self.rows[name] = item.rows
                results.append(["accepted", ""])
        self.lost |= {(device.id, x.stream, x.first, x.last, x.kind, x.reason) for x in body.losses}
        return {
            "results": results,
            "need_profiles": sorted(set(need)),
            "server_time": 1.7e9,
            "pause": self.pause,
        }

    # --- what tests ask ---------------------------------------------------------------------------------------------
    def sequences(self, stream: str) -> list[int]:
        """Which items of a stream were counted, once each or the test fails."""
        assert set(self.counted.values()) <= {1}
        return sorted(sequence for _, s, sequence in self.counted if s == stream)

    def batches(self) -> list[tuple[str, dict[str, str], bytes]]:
        return [request for request in self.requests if request[0].endswith(wire.PATH)]


class DirectTransport:
    """An agent's transport that calls a monitor. ``seconds`` pass on ``clock`` with every request. A fault that drops
    or cuts comes back as no answer; ``offline`` as one that never reached the monitor.
    """

    def __init__(self, monitor: Monitor, clock: Any = None, seconds: float = 0.1) -> None:
        self.monitor, self.clock, self.seconds = monitor, clock, seconds
        self.offline = False
        self.attempts = 0

    def post_batch(self, header: bytes, sent: str, signature: bytes, packed: bytes) -> Reply:
        headers = {
            "content-type": wire.CONTENT_TYPE,
            "content-encoding": "gzip",
            wire.HEADER.lower(): wire.encode(header),
            wire.SENT.lower(): sent,
            wire.SIGNATURE.lower(): wire.encode(signature),
        }
        return self._ask(wire.PATH, headers, packed)

    def enrol(self, request: bytes) -> Reply:
        return self._ask(ENROL_PATH, {}, request)

    def abort(self) -> None:
        pass

    def close(self) -> None:
        pass

    def _ask(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        self.attempts += 1
        if self.clock is not None:
            self.clock.pass_(self.seconds)
        if self.offline:
            return Reply(0, problem="no network", reached=False)
        answer = self.monitor.handle(path, headers, body)
        if answer.drop or answer.cut is not None:
            return Reply(0, problem="the answer was broken off", spent=len(body))
        fields = json.loads(json.dumps(answer.body)) if isinstance(answer.body, dict) else None
        wait = answer.headers.get("Retry-After")
        problem = "" if fields is not None else f"answered {answer.status} with no JSON"
        return Reply(answer.status, fields, problem, True, None if wait is None else float(wait), len(body) + 500)


class Server:
    """A monitor behind a socket."""

    def __init__(self, monitor: Monitor, context: ssl.SSLContext | None = None) -> None:
        self.monitor = monitor
        self.context = context
        self.connections = 0
        self._closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def do_POST(self) -> None:
                outer._post(self)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def get_request(self) -> Any:
                connection, address = super().get_request()
                outer.connections += 1
                connection.settimeout(30)
                if outer.context is not None:
                    # The handshake takes place in the thread of the connection, at its first read.
                    connection = outer.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
                return connection, address

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # clients that go away, and refuse certificates, are what the tests are about

        self._httpd = Quiet(("127.0.0.1", 0), Handler)
        self.port = self._httpd.server_address[1]
        self.url = f"{'https' if context else 'http'}://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self._httpd.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self._closing.set()
        self._httpd.shutdown()
        self._httpd.server_close()
        self.thread.join()

    def _post(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        answer = self.monitor.handle(handler.path, headers, body)
        if answer.wait is not None:
            answer.wait.wait(HANGS)
        if answer.drop:
            handler.close_connection = True
            return
        content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
        kind = "text/plain" if isinstance(answer.body, bytes) else "application/json"
        given = {"Content-Type": kind, "Content-Length": str(len(content)), **answer.headers}
        head = f"HTTP/1.1 {answer.status} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in given.items()) + "\r\n"
        parts = head.encode(), content if answer.cut is None else content[: answer.cut]
        handler.close_connection = answer.cut is not None
        for part, slow in zip(parts, (answer.drip_headers, answer.drip is not None), strict=True):
            for at in range(0, len(part), 1 if slow else max(len(part), 1)):
                if slow and self._closing.wait(answer.drip or 0.0):
                    return
                handler.wfile.write(part[at : at + 1] if slow else part)
                handler.wfile.flush()


@contextlib.contextmanager
def serve(monitor: Monitor, context: ssl.SSLContext | None = None) -> Iterator[Server]:
    """A running server for a monitor, on a free port of this machine."""
    server = Server(monitor, context)
    try:
        yield server
    finally:
        server.close()
