"""A lean HTTP client for the load generator: kept-open connections, one request at a time on each.

Why not httpx: one request through it costs 0.5 to 1 ms of CPU, which on a machine of two cores is as much as the server
under test does for it, so that the generator would measure itself. Here it is some 50 us: ready bytes go out, httptools
parses what comes back. Only for the load generator, which talks to a server it trusts; the agent uses httpx.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import deque
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

import httptools

from edgeml.errors import SimulationError

MAX_WAIT = 30.0


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[bytes, bytes] = field(default_factory=dict)  # names in lower case
    body: bytes = b""

    def json(self) -> Any:
        """The body's value; None when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    def said(self) -> str:
        """What the server said, for people."""
        answer = self.json()
        if isinstance(answer, dict) and "cause" in answer:
            return f"HTTP {self.status}: {answer.get('error', '')}: {answer['cause']}"[:300]
        return f"HTTP {self.status}: {self.body[:200].decode('utf-8', 'replace')}"

    def retry_after(self) -> float:
        """Seconds to wait that the server asked for, at most half a minute; 0 when it asked for none."""
        text = self.headers.get(b"retry-after", b"")
        return min(float(text), MAX_WAIT) if text.isdigit() else 0.0


class NoReply(Exception):
    """The connection failed, or closed before a whole reply came: whether the request was taken is not known."""


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.fresh = True  # no request was answered on it yet
        self.usable = False
        self._waiting: asyncio.Future[Reply] | None = None
        self._reply = Reply(0)
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    # --- asyncio's side
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it
        self.usable = True

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def eof_received(self) -> None:
        self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    # --- httptools' side
    def on_message_begin(self) -> None:
        self._reply, self._parts = Reply(0), []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._reply.headers[name.lower()] = value

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        self._reply.status = self._parser.get_status_code()
        self._reply.body = b"".join(self._parts)
        keep = self._parser.should_keep_alive()
        self.fresh = False
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done() and self._reply.status >= 200:
            waiting.set_result(self._reply)
        if not keep:
            self.close()

    # --- the client's side
    async def ask(self, request: bytes) -> Reply:
        assert self.transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self._waiting

    def close(self) -> None:
        self.usable = False
        if self.transport is not None and not self.transport.is_closing():
            self.transport.close()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(NoReply("the connection closed before a whole reply came"))


class Client:
    """At most ``connections`` at once; requests beyond wait their turn, first come first served."""

    def __init__(
        self, server: str, *, connections: int = 64, timeout: float = 30.0, context: ssl.SSLContext | None = None
    ) -> None:
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SimulationError(f"{server!r} is not http(s)://HOST[:PORT]", "give the URL the server listens on")
        self._host, self._port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
        self._host_header = parts.netloc.rpartition("@")[2]
        self._prefix = parts.path.rstrip("/")
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._limit, self._timeout = connections, timeout
        self._idle: deque[_Connection] = deque()
        self._room = asyncio.Semaphore(connections)
        self.opened = 0

    def request(self, method: str, path: str, headers: dict[str, str], body: bytes) -> bytes:
        """The bytes of a request, ready for ``send``."""
        lines = [f"{method} {self._prefix}{path} HTTP/1.1", f"Host: {self._host_header}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        lines.append(f"Content-Length: {len(body)}\r\n\r\n")
        return "\r\n".join(lines).encode("latin-1") + body

    async def send(self, request: bytes) -> Reply:
        """The reply to a request. Raises NoReply."""
        async with self._room:
            while True:
                connection = await self._connection()
                was_fresh = connection.fresh
                try:
                    async with asyncio.timeout(self._timeout):
                        reply = await connection.ask(request)
                except TimeoutError:
                    connection.close()
                    raise NoReply(f"no reply within {self._timeout:g} s") from None
                except NoReply:
                    # A server may close a connection it kept open just as the next request goes out.
                    if was_fresh:
                        raise
                    continue
                except asyncio.CancelledError:
                    connection.close()  # its reply would be taken for the next request's
                    raise
                if connection.usable:
                    self._idle.append(connection)
                return reply

    async def _connection(self) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._timeout):
                _, connection = await loop.create_connection(_Connection, self._host, self._port, ssl=self._context)
        except (OSError, TimeoutError) as error:
            raise NoReply(f"{type(error).__name__}: {error}") from None
        self.opened += 1
        return connection

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
