"""A monitor in memory for the load generator's tests: it checks what it is sent as strictly as the real one, counts,
and can be told to misbehave. It is one ASGI application, served by uvicorn in a thread.
"""

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections import Counter
from hashlib import sha256

import uvicorn
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from edgeml.errors import WireError
from edgeml.telemetry import wire
from edgeml.telemetry.window import check_window


class StubMonitor:
    """``misbehave`` is asked before every batch: a status to answer instead, or None."""

    def __init__(self, token="token", misbehave=lambda number: None):
        self.token, self.misbehave = token, misbehave
        self.keys, self.chains, self.open = {}, {}, {}
        self.counted = {}  # (device, stream, sequence) -> rows
        self.profiles, self.requests, self.problems = {}, Counter(), []
        self.skews = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.requests[scope["path"]] += 1
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        try:
            if scope["path"] == "/v1/enrol":
                status, answer = self.enrol(json.loads(body))
            elif status := self.misbehave(self.requests[scope["path"]]):
                answer = {"error": "stub", "cause": "told to", "remedy": ""}
            else:
                status, answer = self.batch(headers, body)
        except (WireError, InvalidSignature, KeyError) as error:
            self.problems.append(repr(error))
            status, answer = 400, {"error": "malformed", "cause": repr(error), "remedy": ""}
        if status is ...:
            await asyncio.sleep(3600)
        content = json.dumps(answer).encode()
        more = [(b"retry-after", b"0")] if status in (429, 503) else []
        length = [(b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": length + more})
        await send({"type": "http.response.body", "body": content})

    def enrol(self, request):
        if request["token"] != self.token:
            return 401, {"error": "bad_token", "cause": "the token is not known", "remedy": "make one"}
        public = base64.urlsafe_b64decode(request["public_key"] + "=")
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(wire.decode(request["signature"], "signature"), wire.enrolment_bytes(self.token))
        device = sha256(public).hexdigest()[:32]
        self.keys[device] = key
        return 201, {"device": device, "project": "0" * 32, "server_time": time.time()}

    def batch(self, headers, content):
        data = wire.decode(headers[wire.HEADER.lower()], "header")
        header, sent = wire.read_header(data), wire.read_sent(headers[wire.SENT.lower()])
        signed = wire.signed_bytes(data, headers[wire.SENT.lower()])
        self.keys[header.device].verify(wire.decode(headers[wire.SIGNATURE.lower()], "signature"), signed)
        self.skews.append(sent.wall - time.time())
        body = wire.decompress(content)
        assert sha256(body).hexdigest() == header.body_sha256
        chain = self.chains.setdefault((header.device, header.chain), {"number": -1, "last": wire.NO_PREVIOUS})
        digest = sha256(data).hexdigest()
        if header.number == chain["number"] and digest == chain["last"]:
            return 200, chain["reply"]
        if header.number == 0 and chain["number"] < 0:
            self.open[header.device] = header.chain
        if self.open.get(header.device) != header.chain:
            return 409, {"error": "chain_conflict", "why": "closed", "cause": "", "remedy": ""}
        if header.number <= chain["number"]:
            return 409, {"error": "chain_conflict", "why": "forked", "cause": "", "remedy": ""}
        if header.number > chain["number"] + 1 or header.previous != chain["last"]:
            return 409, {"error": "chain_conflict", "why": "gap", "cause": "", "remedy": ""}
        read = wire.read_body(body)
        self.profiles.update(read.profiles)
        reply = {"results": [], "need_profiles": [], "server_time": time.time(), "pause": None}
        for item, payload in zip(read.items, read.payloads, strict=True):
            profile = payload["profile_sha256"]
            if profile is not None and profile not in self.profiles:
                reply["results"].append(["deferred", "profile"])
                reply["need_profiles"] = [profile]
                continue
            check_window(payload, self.profiles.get(profile))
            key = (header.device, item.stream, item.sequence)
            reply["results"].append(["duplicate" if key in self.counted else "accepted", ""])
            self.counted[key] = payload["rows"]
        chain.update(number=header.number, last=digest, reply=reply)
        return 200, reply


@contextlib.contextmanager
def served(app, **options):
    """The URL of an ASGI application on a free port of this machine, until the end of the block."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", ws="none", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
