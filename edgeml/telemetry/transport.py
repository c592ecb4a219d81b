"""HTTPS to the monitor: one POST, one reply, everything bounded: bytes of the reply, seconds, redirects.

The agent calls ``HttpTransport`` through the protocol ``Transport``, so that tests and simulations bring their own. No
method raises for what a network or a server does: it comes back as a ``Reply`` that says whether the server may have
taken the request. Needs httpx, imported when the first transport is made.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edgeml._version import __version__
from edgeml.errors import AgentError, JSONError
from edgeml.jsonutil import loads
from edgeml.telemetry import clock, wire
from edgeml.telemetry.backoff import retry_after
from edgeml.telemetry.server_address import ServerAddress
from edgeml.telemetry.tls import Certificates, explain

if TYPE_CHECKING:
    import httpx

ENROL_PATH = "/v1/enrol"
CONNECT_SECONDS = 15.0
READ_SECONDS = 60.0  # between two reads or writes
TOTAL_SECONDS = 180.0  # for one request, from the first byte to the last: slow drips end here
MAX_REPLY_BYTES = 2**20
MAX_REDIRECTS = 3
# What a TLS handshake costs on the line, for the bandwidth cap: certificates of the server, mostly.
_HANDSHAKE_BYTES = 5000


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, or why there is none.

    ``status`` is 0 without one. ``fields`` is the JSON object of the body, None where the body is something else.
    ``problem`` says, for people, why there are no ``fields``. ``reached``: the server may have taken the request.
    ``retry_after`` in seconds. ``spent`` counts bytes sent and received.
    """

    status: int
    fields: Mapping[str, Any] | None = None
    problem: str = ""
    reached: bool = True
    retry_after: float | None = None
    spent: int = 0


class Transport(Protocol):
    """What the agent needs of a connection to the monitor."""

    def post_batch(self, header: bytes, sent: str, signature: bytes, packed: bytes) -> Reply:
        """One attempt to send a batch; ``packed`` is its compressed body."""

    def enrol(self, request: bytes) -> Reply:
        """Ask to become a device; ``request`` is JSON."""

    def abort(self) -> None:
        """End the request under way, from another thread; it comes back as one without an answer."""

    def close(self) -> None:
        """Free what is open. The transport may be used again."""


class HttpTransport:
    """``Transport`` over HTTP/1.1. One thread posts at a time; ``abort`` may come from any.

    Raises AgentError for an address or certificate files that cannot be used, and when httpx is not installed.
    """

    def __init__(
        self,
        address: ServerAddress,
        certificates: Certificates | None = None,
        *,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        _require_httpx()
        self.address = address
        self._certificates = certificates or Certificates()
        self._connect_seconds, self._read_seconds, self._total = connect_seconds, read_seconds, total_seconds
        self._client: httpx.Client | None = None
        self._line = _Line()
        if address.secure:
            self._certificates.context()  # say now what is wrong with the files

    def post_batch(self, header: bytes, sent: str, signature: bytes, packed: bytes) -> Reply:
        headers = {
            "Content-Type": wire.CONTENT_TYPE,
            "Content-Encoding": "gzip",
            wire.HEADER: wire.encode(header),
            wire.SENT: sent,
            wire.SIGNATURE: wire.encode(signature),
        }
        return self._post(wire.PATH, headers, packed)

    def enrol(self, request: bytes) -> Reply:
        return self._post(ENROL_PATH, {"Content-Type": "application/json"}, request)

    def abort(self) -> None:
        self._line.cut()

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def forget(self) -> None:
        """In a process made by fork: leave the connection to the parent, without a word on it."""
        if self._client is not None:
            _left_to_the_parent.append(self._client)
        self._client, self._line = None, _Line()

    def _post(self, path: str, headers: Mapping[str, str], content: bytes) -> Reply:
        url = self.address.url + path
        spent = 0
        for _ in range(MAX_REDIRECTS + 1):
            reply, target = self._one(url, headers, content)
            spent += reply.spent
            if target is None or not self.address.same_origin(target):
                break
            url = target
        if not reply.status or reply.status >= 400:
            # Files of certificates, the server's address and its certificate may all be other ones next time.
            self.close()
        return Reply(reply.status, reply.fields, reply.problem, reply.reached, reply.retry_after, spent)

    def _one(self, url: str, headers: Mapping[str, str], content: bytes) -> tuple[Reply, str | None]:
        """The reply, and where it redirects to."""
        import httpx

        self._line.begin()
        timer = threading.Timer(self._total, self._line.expire)
        timer.daemon = True
        sent = 0
        try:
            client = self._open()
            request = client.build_request(
                "POST", url, headers=headers, content=content, extensions={"trace": self._line.trace}
            )
            sent = sum(len(k) + len(v) + 4 for k, v in request.headers.raw) + len(content) + len(url)
            timer.start()
            with contextlib.closing(client.send(request, stream=True)) as response:
                body, problem = _body(response)
        except AgentError as error:
            return Reply(0, problem=error.cause, reached=False), None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            # Nothing of the request has left: the connection did not come about.
            return Reply(0, problem=self._explain(error), reached=False, spent=self._line.handshakes), None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, ValueError, ImportError) as error:
            # ValueError: what a socket that was cut under way, a header that cannot be read, or a proxy of the
            # environment that is no URL ends in. ImportError: a SOCKS proxy without its package.
            return Reply(0, problem=self._explain(error), reached=sent > 0, spent=sent + self._line.handshakes), None
        finally:
            timer.cancel()
            self._line.end()
        received = sum(len(k) + len(v) + 4 for k, v in response.headers.raw) + len(body)
        spent = sent + received + self._line.handshakes
        wait = retry_after(response.headers.get("retry-after"), response.headers.get("date"), clock.wall())
        fields, why = (None, problem) if problem else _fields(response, body)
        target = _target(response)
        if target is not None and not self.address.same_origin(target):
            fields, why = None, f"{self.address} redirects to another server, which is not followed: {target[:200]}"
        return Reply(response.status_code, fields, why, True, wait, spent), target

    def _open(self) -> httpx.Client:
        import httpx

        if self._client is None:
            verify = self._certificates.context() if self.address.secure else True
            self._client = httpx.Client(
                verify=verify,
                timeout=httpx.Timeout(self._read_seconds, connect=self._connect_seconds),
                limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=20.0),
                follow_redirects=False,
                trust_env=not self.address.loopback,  # proxies; there is none on the way to this machine itself
                headers={
                    "User-Agent": f"edgeml-agent/{__version__}",
                    "Accept": "application/json",
                    # A compressed reply would have to be bounded while it grows; it is short anyway.
                    "Accept-Encoding": "identity",
                },
            )
        return self._client

    def _explain(self, error: Exception) -> str:
        if self._line.state == "expired":
            return f"{self.address} did not finish its answer within {self._total:g} s"
        if self._line.state == "cut":
            return "the request was ended by this side"
        return explain(error, self.address)


class _Line:
    """The socket of the request under way, so that another thread can end it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: Any = None
        self.state = "idle"
        self.handshakes = 0

    def begin(self) -> None:
        with self._lock:
            self.state, self.handshakes = "open", 0

    def end(self) -> None:
        with self._lock:
            if self.state == "open":
                self.state = "idle"

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """What httpx tells of a connection as it comes about; see its extension "trace"."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        with self._lock:
            self._socket = info["return_value"].get_extra_info("socket")
            if event.endswith("start_tls.complete"):
                self.handshakes += _HANDSHAKE_BYTES
            if self.state in ("cut", "expired"):
                self._shut()

    def cut(self) -> None:
        self._stop("cut")

    def expire(self) -> None:
        self._stop("expired")

    def _stop(self, state: str) -> None:
        with self._lock:
            if self.state == "open":
                self.state = state
                self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket.shutdown, which takes the TLS state from under the thread that reads.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)


# Connections that a child inherited by fork: closing them would say goodbye on the parent's behalf.
_left_to_the_parent: list[Any] = []


def _body(response: httpx.Response) -> tuple[bytes, str]:
    """The bytes of the reply as they came, and what is wrong with them."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        return b"", f"the answer is compressed ({encoding[:40]}), which was not asked for"
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > MAX_REPLY_BYTES:
            return b"", f"the answer has more than {MAX_REPLY_BYTES} bytes"
    return bytes(body), ""


def _fields(response: httpx.Response, body: bytes) -> tuple[Mapping[str, Any] | None, str]:
    """The JSON object of a reply, or why there is none."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()[:60]
    if kind != "application/json":
        portal = ": a captive portal, a proxy, or another server?" if kind == "text/html" else ""
        return None, f"answered {response.status_code} with {kind or 'no content type'}, not with JSON{portal}"
    try:
        fields = loads(body, f"answer {response.status_code}", limit=MAX_REPLY_BYTES)
    except JSONError as error:
        return None, error.cause
    return (fields, "") if isinstance(fields, dict) else (None, f"answer {response.status_code}: not an object")


def _target(response: httpx.Response) -> str | None:
    """Where the request is to be sent once more as it is; other redirects would turn it into a GET."""
    location = response.headers.get("location")
    if not 300 <= response.status_code < 400 or location is None:
        return None
    try:
        return str(response.request.url.join(location))
    except Exception:  # a Location that is no URL: httpx raises several kinds
        return str(location)


def _require_httpx() -> None:
    from importlib.util import find_spec

    if find_spec("httpx") is None:
        raise AgentError(
            "sending telemetry needs the package httpx, which is not installed", 'pip install "edgeml-sdk[agent]"'
        )
