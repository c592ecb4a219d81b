"""Everything an agent is told: where it sends, how it trusts, who it is. From arguments, or from the environment.

``Model.record_to`` and ``edgeml agent`` make an ``AgentSettings``; ``AgentThread`` reads it. Nothing is opened here.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from edgeml.errors import AgentError
from edgeml.telemetry.agent import BATCH_BYTES, IDLE_SECONDS
from edgeml.telemetry.server_address import ServerAddress
from edgeml.telemetry.settings import TOKEN_VARIABLE
from edgeml.telemetry.tls import Certificates
from edgeml.telemetry.transport import HttpTransport

IDENTITY_FOLDER = "identity"
_MAX_TOKEN_BYTES = 4096


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """``server`` None: the one the device is enrolled at. ``identity`` None: a folder in the spool's.

    ``token`` is only ever sent to the server, to enrol. ``cert`` and ``cert_key`` are the client's, for mTLS.
    """

    server: str | None = None
    token: str | None = field(default=None, repr=False)
    identity: str | os.PathLike[str] | None = None
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    cert_key: str | os.PathLike[str] | None = None
    insecure_http: bool = False
    bandwidth_bytes_per_second: float | None = None
    name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    batch_bytes: int = BATCH_BYTES
    idle_seconds: float = IDLE_SECONDS

    def __post_init__(self) -> None:
        rate = self.bandwidth_bytes_per_second
        if rate is not None and not rate >= 1:
            raise AgentError(
                f"a bandwidth of {rate!r} bytes a second is none", "give at least 1, or leave it out for no cap"
            )
        if self.server is not None:
            ServerAddress.parse(self.server, insecure_http=self.insecure_http)

    def identity_folder(self, spool: str | os.PathLike[str]) -> Path:
        return Path(spool) / IDENTITY_FOLDER if self.identity is None else Path(self.identity)

    def device_name(self) -> str:
        """What the device is called when nobody named it: its host name."""
        return (self.name or socket.gethostname() or "device")[:100]

    def transport(self, server: str) -> HttpTransport:
        """Raises AgentError for an address or files that cannot be used."""
        address = ServerAddress.parse(server, insecure_http=self.insecure_http)
        return HttpTransport(address, Certificates(self.ca, self.cert, self.cert_key))


def read_token(token: str | None, file: str | os.PathLike[str] | None) -> str | None:
    """The enrolment token: as given, from a file, or from EDGEML_TELEMETRY_TOKEN. None without any.

    Raises AgentError, which never repeats what stood there.
    """
    if token is not None and file is not None:
        raise AgentError("a token and a file with a token were given", "give one of --token and --token-file")
    if file is not None:
        try:
            with open(file, "rb") as stream:
                token = stream.read(_MAX_TOKEN_BYTES + 1).decode("ascii")
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not ASCII"
            cause = f"the token file {os.fspath(file)} cannot be read: {reason}"
            raise AgentError(cause, "check --token-file") from None
    if token is None:
        token = os.environ.get(TOKEN_VARIABLE)
    token = (token or "").strip()
    if len(token) > _MAX_TOKEN_BYTES or not token.isascii() or not token.isprintable() or " " in token:
        raise AgentError("the enrolment token is malformed", "copy it whole, as the monitor printed it")
    return token or None
