"""What every request passes first: bounds on its body, a request id, security headers, errors as JSON, the access log.

``Guard`` is plain ASGI, inside Starlette's own outermost layer and around all routes. ``error_body`` and
``error_response`` give every refusal its one form, ``{"error", "cause", "remedy"}``; ``connection.py`` uses it for what
never becomes a request.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
import traceback
from typing import Any

import orjson
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgeml.errors import RequestError
from edgeml.fleet import roles
from edgeml.fleet.auth import without_secrets
from edgeml.fleet.prometheus import Metrics
from edgeml.fleet.settings import MAX_BODY_BYTES, MAX_MODEL_BYTES, Settings
from edgeml.telemetry import wire

log = logging.getLogger("edgeml.monitor")
access_log = logging.getLogger("edgeml.monitor.access")

JSON = b"application/json"
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)
_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=31536000")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_PLAIN = frozenset(rule.path for rule in roles.RULES if "{" not in rule.path)
_MODELS = re.compile(r"/v1/projects/[0-9a-f]{32}/models")
# After a refusal the rest of a body is read and thrown away, so that the client sees the answer and not a broken
# connection; for so long, and so many bytes.
_DRAIN_SECONDS, _DRAIN_BYTES = 2.0, 4 * 2**20


def error_body(code: str, cause: str, remedy: str, **more: Any) -> bytes:
    """The JSON of a refusal."""
    return orjson.dumps({"error": code, "cause": without_secrets(cause), "remedy": remedy, **more})


def error_response(error: RequestError, **more: Any) -> Response:
    """The response a refusal becomes."""
    body = error_body(error.code, error.cause, error.remedy, **more)
    return Response(body, error.status, error.headers, media_type="application/json")


def body_limit(path: str) -> int:
    """The bytes of body that a route takes."""
    if path == wire.PATH:
        return wire.MAX_COMPRESSED_BYTES
    return MAX_MODEL_BYTES if _MODELS.fullmatch(path) else MAX_BODY_BYTES


def route_of(scope: Scope) -> str:
    """The path of a request's route, with its parameters' names and not their values; "other" where there is none."""
    path = getattr(scope.get("route"), "path", None)
    # Not every version of FastAPI says so of a plain route.
    return path or (scope["path"] if scope["path"] in _PLAIN else "other")


class Guard:
    """See the module. ``metrics`` counts requests by route and status."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._settings.body_seconds)
        began = time.perf_counter()
        try:
            exchange.check_length()
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or 499  # the client's own end, as nginx logs it
        except RequestError as error:
            await self._answer(error, scope, exchange)
        except Exception as error:  # the last resort
            # Whatever a route did not foresee must not show the client more than that it happened.
            # The message of an exception may quote what was sent, so that the log has where, and of what type.
            where = "".join(traceback.format_tb(error.__traceback__)[-6:])
            log.error("request %s: %s\n%s", exchange.id, type(error).__name__, without_secrets(where))
            cause, remedy = "the server failed", f"try again later; its log names request {exchange.id}"
            await self._answer(RequestError(cause, remedy, status=500, code="internal"), scope, exchange)
        finally:
            seconds = time.perf_counter() - began
            self._metrics.request(scope["method"], route_of(scope), exchange.status, seconds)
            if self._settings.access_log:
                client = (scope.get("client") or ("-",))[0]
                path = without_secrets(scope["path"])[:200].encode("unicode_escape").decode()
                line = '%s "%s %s" %d %.1fms %s'
                access_log.info(line, client, scope["method"], path, exchange.status, 1000 * seconds, exchange.id)

    async def _answer(self, error: RequestError, scope: Scope, exchange: _Exchange) -> None:
        if exchange.status:
            # The response has begun: cutting it is the only way left to say that it is not whole.
            raise ConnectionAbortedError("a response failed after it began") from None
        await error_response(error)(scope, exchange.receive, exchange.send)


class _Exchange:
    """One request and its response, watched."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, body_seconds: float) -> None:
        self._receive, self._send = receive, send
        self._limit, self._seconds = body_limit(scope["path"]), body_seconds
        self._deadline: float | None = None
        self._received, self._whole = 0, False
        self._https = scope["scheme"] == "https"
        self._length: bytes | None = None
        self._expects = False
        self.status = 0
        self.id = ""
        chunked = False
        for name, value in scope["headers"]:
            if name == b"content-length":
                self._length = value
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self.id = value.decode()
            elif name == b"expect":
                self._expects = True
            elif name == b"transfer-encoding":
                chunked = True
        self.id = self.id or secrets.token_hex(8)
        if not chunked and self._length in (None, b"0"):
            self._whole = True
        scope["edgeml.request_id"] = self.id

    def check_length(self) -> None:
        """Refuse a body that says itself that it is too long, before it comes."""
        if self._length is not None and not (self._length.isdigit() and int(self._length[:20]) <= self._limit):
            raise self._too_large()

    async def receive(self) -> Message:
        if self._whole:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            cause, remedy = f"the body did not come within {self._seconds:g} s", "send it faster, or less of it"
            close = {"connection": "close"}
            raise RequestError(cause, remedy, status=408, code="timeout", headers=close) from None
        self._note(message)
        if self._received > self._limit:
            raise self._too_large()
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = list(message.get("headers", ()))
            have = {name.lower() for name, _ in headers}
            headers += [pair for pair in SECURITY_HEADERS if pair[0] not in have]
            headers.append((b"x-request-id", self.id.encode()))
            if self._https:
                headers.append(_STRICT_TRANSPORT)
            if not self._whole and b"connection" not in have and not await self._drain():
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        await self._send(message)

    def _note(self, message: Message) -> None:
        if message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            self._whole = not message.get("more_body", False)
        else:
            self._whole = True  # it went away: nothing more will come

    async def _drain(self) -> bool:
        """Read what is left of the body; whether it came to its end."""
        if self._expects:
            return False  # it waits to be asked for the body, which is not wanted
        most = self._received + _DRAIN_BYTES
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while not self._whole and self._received < most:
                    self._note(await self._receive())
        except TimeoutError:
            pass
        return self._whole

    def _too_large(self) -> RequestError:
        cause = f"the body is larger than the {self._limit} bytes this route takes"
        return RequestError(cause, "send less at once", status=413, code="too_large")
