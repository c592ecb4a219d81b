"""Certificates of a connection, and its failures in words that say what to do.

``Certificates`` makes the TLS context of the transport; ``explain`` turns what httpx raises into a sentence for the
log and for ``edgeml agent status``.
"""

from __future__ import annotations

import os
import socket
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from edgeml.errors import AgentError
from edgeml.telemetry import clock
from edgeml.telemetry.server_address import ServerAddress


@dataclass(frozen=True, slots=True)
class Certificates:
    """``ca``: a file or folder of PEM certificates, trusted instead of the system's. ``cert`` and ``key``: what the
    device shows of itself (mTLS); ``key`` None when it stands in the same file.
    """

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None

    def context(self) -> ssl.SSLContext:
        """The context, from the files as they are now. Raises AgentError, naming the file."""
        context = self._trust()
        if self.cert is None:
            if self.key is not None:
                raise AgentError("a key of a client certificate was given without the certificate", "give --cert, too")
            return context
        for path in (self.cert, self.key):
            if path is not None and not Path(path).is_file():
                raise AgentError(f"there is no file {path}", "check --cert and --cert-key")
        try:
            # Without a password callback OpenSSL would ask on the terminal.
            context.load_cert_chain(self.cert, self.key, password=lambda: b"")
        except (OSError, ValueError) as error:
            raise AgentError(
                f"the client certificate {self.cert} cannot be used: {_reason(error)}",
                "give a PEM certificate and its private key, without a passphrase (--cert, --cert-key)",
            ) from None
        return context

    def _trust(self) -> ssl.SSLContext:
        if self.ca is None:
            context = ssl.create_default_context()
            if not os.environ.get("SSL_CERT_FILE") and not os.environ.get("SSL_CERT_DIR"):
                # Small images often lack the system's certificates: httpx brings Mozilla's list.
                import certifi

                context.load_verify_locations(certifi.where())
            return context
        path = Path(self.ca)
        try:
            if path.is_dir():
                return ssl.create_default_context(capath=str(path))
            path.open("rb").close()
            return ssl.create_default_context(cafile=str(path))
        except (OSError, ValueError) as error:
            raise AgentError(
                f"the CA certificates {path} cannot be used: {_reason(error)}",
                "give a file of PEM certificates, or a folder made by `openssl rehash` (--ca)",
            ) from None


def explain(error: BaseException, address: ServerAddress) -> str:
    """Why a request had no answer, in one sentence without anything secret."""
    for cause in _chain(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return _untrusted(cause, address)
        if isinstance(cause, ssl.SSLError):
            return f"no TLS with {address}: {_reason(cause)}"
        if isinstance(cause, socket.gaierror):
            return f"the name of {address} cannot be resolved: {cause.strerror or cause}"
        if isinstance(cause, ConnectionRefusedError):
            return f"{address} refuses connections: is the monitor running there?"
        if isinstance(cause, TimeoutError):
            break
    kind = type(error).__name__
    if "Timeout" in kind:
        what = "cannot be reached in time" if kind == "ConnectTimeout" else "did not answer in time"
        return f"{address} {what}"
    if kind == "RemoteProtocolError":
        return f"{address} broke off its answer, or it is not HTTP: {str(error)[:200]}"
    return f"no answer from {address}: {str(error)[:200] or kind}"


def _untrusted(error: ssl.SSLCertVerificationError, address: ServerAddress) -> str:
    reason = error.verify_message or str(error)
    now = datetime.fromtimestamp(min(max(clock.wall(), 0), 2**37), UTC)
    if "expired" in reason:
        return f"the certificate of {address} has expired (this device's clock says {now:%Y-%m-%d}): renew it"
    if "not yet valid" in reason:
        return f"the certificate of {address} is not valid yet (this device's clock says {now:%Y-%m-%d})"
    if "ostname mismatch" in reason or "IP address mismatch" in reason:
        return f"the certificate of {address} is for another name: {reason[:200]}"
    return f"the certificate of {address} is not trusted: {reason[:200]} (give its CA with --ca)"


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    while error not in found and len(found) < 10:
        found.append(error)
        following = error.__cause__ or error.__context__
        if following is None:
            break
        error = following
    return found


def _reason(error: BaseException) -> str:
    text = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(text)[:200]
