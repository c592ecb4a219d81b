"""The monitor's address: what may be given, and whether a redirect stays with it.

Comes in: the text of ``--server``, EDGEML_TELEMETRY_SERVER or an enrolment. Goes out: a ``ServerAddress`` that the
transport sends to. HTTPS, or plain HTTP to this machine itself; other plain HTTP only when it is asked for.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from edgeml.errors import AgentError

_EXAMPLE = "give an address such as https://monitor.example.com"


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """``url`` without a slash at its end; a path in front of the monitor's own is kept."""

    url: str
    secure: bool
    loopback: bool

    @classmethod
    def parse(cls, text: str, *, insecure_http: bool = False) -> ServerAddress:
        """Raises AgentError, naming what is wrong; never repeats a password that stood in the address."""
        parts, port = _split(text.strip())
        if parts.username is not None or parts.password is not None:
            raise AgentError("the server's address holds a user or a password", f"{_EXAMPLE}; devices enrol by token")
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise AgentError(f"{text[:200]!r} is not the address of a server", _EXAMPLE)
        if parts.query or parts.fragment:
            raise AgentError(f"the server's address {text[:200]!r} has a query or a fragment", _EXAMPLE)
        loopback = is_loopback(parts.hostname)
        if parts.scheme == "http" and not (loopback or insecure_http):
            raise AgentError(
                f"{text[:200]} is plain HTTP: whoever is on the way could read and change what the device sends",
                "use https:// (with --ca for a CA of your own), or allow it with --insecure-http (insecure_http=True)",
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        where = host if port is None else f"{host}:{port}"
        return cls(f"{parts.scheme}://{where}{parts.path.rstrip('/')}", parts.scheme == "https", loopback)

    def __str__(self) -> str:
        return self.url

    def same_origin(self, url: str) -> bool:
        """Whether a URL has the scheme, host and port of this server."""
        try:
            parts, port = _split(url)
            mine, my_port = _split(self.url)
        except AgentError:
            return False
        default = {"https": 443, "http": 80}.get(parts.scheme)
        return (
            parts.username is None
            and (parts.scheme, parts.hostname) == (mine.scheme, mine.hostname)
            and (port or default) == (my_port or default)
        )


def is_loopback(host: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _split(text: str) -> tuple[SplitResult, int | None]:
    try:
        if not text.isprintable() or " " in text or len(text) > 2000:
            raise ValueError
        parts = urlsplit(text)
        return parts, parts.port
    except ValueError:
        raise AgentError("the server's address is not a URL", _EXAMPLE) from None
