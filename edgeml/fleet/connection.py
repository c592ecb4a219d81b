"""One connection of a client, bounded: uvicorn's parser of HTTP/1.1 with the limits uvicorn leaves out.

``bounded_protocol`` makes the class that ``serve.py`` hands to uvicorn. What it adds: a deadline for the headers of
every request, a limit on their bytes and number, a limit on connections in all and of one address, an end to clients
that do not read their answer, trailers that are dropped, and refusals as JSON. Bodies are ``protocol.Guard``'s part.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from edgeml.fleet.limits import address_key
from edgeml.fleet.protocol import SECURITY_HEADERS, error_body
from edgeml.fleet.settings import Settings

# A client that is sent away gets this long to take the answer in.
_LINGER_SECONDS = 2.0
# Bytes of an answer that a client takes in within Settings.write_seconds, at least.
_LEAST_PROGRESS = 16 * 2**10


def bounded_protocol(settings: Settings, refused: Callable[[str], None] = lambda code: None) -> type[HttpToolsProtocol]:
    """The class of a server's connections; ``refused`` is told the code of every refusal."""
    by_address: Counter[str] = Counter()
    # Half of all for one address: a fleet behind one router fits in, and the other half stays for the rest.
    most_of_one = max(settings.max_connections // 2, 1)

    class BoundedProtocol(HttpToolsProtocol):
        _deadline: asyncio.TimerHandle | None = None
        _write_deadline: asyncio.TimerHandle | None = None
        _address: str | None = None
        _in_headers = True  # from the first byte of a request, or the connection's beginning, to its empty line
        _header_bytes = 0

        # --- the connection
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
            super().connection_made(transport)
            # Any byte the client does not take in starts the clock of pause_writing. Not 0, which over TLS would be
            # reached by nothing.
            transport.set_write_buffer_limits(high=1, low=0)
            peer = self.client[0] if self.client else ""
            if peer not in settings.trusted_proxies:
                self._address = address_key(peer)
                by_address[self._address] += 1
            crowded = self._address is not None and by_address[self._address] > most_of_one
            if len(self.connections) > settings.max_connections or crowded:
                self._refuse(503, "busy", "the server has as many connections as it takes", "try again later")
                return
            self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            if self._write_deadline is not None:
                self._write_deadline.cancel()
            if self._address is not None:
                by_address[self._address] -= 1
                if by_address[self._address] <= 0:
                    del by_address[self._address]
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            # A message that begins in this data is counted by the callbacks below when it ends in it, too.
            begun = self._in_headers and self._deadline is not None
            super().data_received(data)
            if self._in_headers and begun and not self.transport.is_closing():
                self._header_bytes += len(data)
                if self._header_bytes > settings.max_header_bytes:
                    self._too_many_headers()
            # uvicorn stops its own clock at any byte; an empty line is one, and begins nothing.
            waiting = self.timeout_keep_alive_task is None and self._deadline is None and not self._busy()
            if waiting and not self.transport.is_closing():
                self._expect_headers()

        def pause_writing(self) -> None:
            super().pause_writing()
            if self._write_deadline is None:
                self._watch_writing()

        def resume_writing(self) -> None:
            super().resume_writing()
            if self._write_deadline is not None:
                self._write_deadline.cancel()
                self._write_deadline = None

        # --- the parser
        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._in_headers, self._header_bytes = True, 0
            if self._deadline is None:
                self._expect_headers()

        def on_header(self, name: bytes, value: bytes) -> None:
            if not self._in_headers:
                return  # a trailer, which would join the headers of a request that is being answered
            super().on_header(name, value)

        def on_headers_complete(self) -> None:
            self._in_headers = False
            self._cancel()
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > settings.max_header_bytes or len(self.headers) > settings.max_headers:
                self._too_many_headers()
                raise httptools.HttpParserError("too many headers")
            # llhttp refuses most of these; which ones depends on its version, and a front end may read them otherwise.
            names = [name for name, _ in self.headers]
            framings = names.count(b"content-length") + names.count(b"transfer-encoding")
            coding = dict(self.headers).get(b"transfer-encoding", b"chunked")
            if framings > 1 or names.count(b"host") > 1 or coding.lower() != b"chunked":
                raise httptools.HttpParserError("ambiguous framing")
            super().on_headers_complete()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self.cycle is None or not self.cycle.keep_alive:
                self._linger()

        def timeout_keep_alive_handler(self) -> None:
            super().timeout_keep_alive_handler()
            self._linger()

        def send_400_response(self, msg: str) -> None:
            if self._busy():
                # A request before it is still being answered: two answers must not mix.
                self.transport.abort()
                return
            self._refuse(400, "malformed", "the request is not HTTP/1.1 as this server takes it", "check the client")

        # --- our own
        def _busy(self) -> bool:
            return self.cycle is not None and not self.cycle.response_complete

        def _expect_headers(self) -> None:
            self._deadline = self.loop.call_later(settings.header_seconds, self._headers_late)

        def _cancel(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _headers_late(self) -> None:
            self._deadline = None
            if self._busy() or self.transport.is_closing():
                self.transport.abort()
                return
            cause = f"the headers did not come within {settings.header_seconds:g} s"
            self._refuse(408, "timeout", cause, "send them at once")

        def _watch_writing(self) -> None:
            """End a client that takes in less than it could; a slow one that goes on taking may go on."""
            waiting = self.transport.get_write_buffer_size()

            def look() -> None:
                if self.transport.get_write_buffer_size() > waiting - _LEAST_PROGRESS:
                    self.transport.abort()
                else:
                    self._watch_writing()

            self._write_deadline = self.loop.call_later(settings.write_seconds, look)

        def _too_many_headers(self) -> None:
            if self.transport.is_closing():
                return
            if self._busy():
                self.transport.abort()
                return
            cause = f"the headers are more than {settings.max_header_bytes} bytes or {settings.max_headers} lines"
            self._refuse(431, "headers_too_large", cause, "send fewer of them")

        def _refuse(self, status: int, code: str, cause: str, remedy: str) -> None:
            """Answer a request that never was one, and close."""
            if self.transport.is_closing():
                return
            self._cancel()
            refused(code)
            body = error_body(code, cause, remedy)
            lines = [
                b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()),
                b"content-type: application/json",
                b"content-length: %d" % len(body),
                b"connection: close",
                *(name + b": " + value for name, value in SECURITY_HEADERS),
            ]
            if status == 503:
                lines.append(b"retry-after: 5")
            self.transport.write(b"\r\n".join([*lines, b"", body]))
            self.transport.close()
            self._linger()

        def _linger(self) -> None:
            """A closing connection waits until its last bytes are taken; not for ever."""
            self.loop.call_later(_LINGER_SECONDS, self.transport.abort)

        def _unsupported_upgrade_warning(self) -> None:
            """Another protocol was asked for; the request is answered in HTTP/1.1, then the connection ends."""
            if self.cycle is not None:
                self.cycle.keep_alive = False

    return BoundedProtocol


def connection_count(server: Any) -> int:
    """The open connections of a uvicorn server."""
    return len(server.server_state.connections)
