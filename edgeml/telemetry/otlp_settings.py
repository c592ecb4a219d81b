"""Where figures go over OTLP, and how: from options, then from the environment as OpenTelemetry itself reads it.

Read by the agent's and the monitor's exporters. The variables are those of OpenTelemetry's specification
(``OTEL_EXPORTER_OTLP_METRICS_HEADERS`` and its like), so that a device that already has them needs the URL alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit, urlunsplit

from edgeml.errors import OtlpError
from edgeml.telemetry.otlp import DELTA, TEMPORALITIES

PATH = "/v1/metrics"
TIMEOUT_SECONDS = 10.0
INTERVAL_SECONDS = 60.0
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_GENERAL, _METRICS = "OTEL_EXPORTER_OTLP_", "OTEL_EXPORTER_OTLP_METRICS_"


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """``url`` is the whole address that messages are posted to. ``headers`` may hold secrets: they are not shown.

    ``ca``, ``cert`` and ``key`` are paths of PEM files; ``attributes`` are added to every resource; ``interval`` is the
    seconds between two exports of the monitor.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    temporality: str = DELTA
    timeout: float = TIMEOUT_SECONDS
    interval: float = INTERVAL_SECONDS
    gzip: bool = True
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


def settings(
    url: str | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    temporality: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> OtlpSettings:
    """Settings from options, and from the environment what is not given. Raises OtlpError naming the setting.

    ``url`` is a collector's address, such as http://localhost:4318, to which ``/v1/metrics`` is added unless it ends
    with that already.
    """
    found = os.environ if environment is None else environment

    def variable(name: str) -> str | None:
        return found.get(_METRICS + name) or found.get(_GENERAL + name) or None

    whole = found.get(_METRICS + "ENDPOINT") or None
    if url is not None or whole is None:
        whole = _with_path(url or found.get(_GENERAL + "ENDPOINT") or "")
    chosen = (temporality or found.get(_METRICS + "TEMPORALITY_PREFERENCE") or DELTA).lower()
    chosen = DELTA if chosen == "lowmemory" else chosen
    if chosen not in TEMPORALITIES:
        raise OtlpError(f"OTLP: the temporality {chosen!r} is not known", f"use {' or '.join(TEMPORALITIES)}")
    attributes = _pairs(found.get("OTEL_RESOURCE_ATTRIBUTES"), "OTEL_RESOURCE_ATTRIBUTES")
    if name := found.get("OTEL_SERVICE_NAME"):
        attributes["service.name"] = name
    result = OtlpSettings(
        url=_checked(whole),
        headers=dict(headers) if headers is not None else _pairs(variable("HEADERS"), _GENERAL + "HEADERS"),
        temporality=chosen,
        timeout=_seconds(variable("TIMEOUT"), _GENERAL + "TIMEOUT", TIMEOUT_SECONDS),
        interval=_seconds(found.get(_INTERVAL), _INTERVAL, INTERVAL_SECONDS),
        gzip=(variable("COMPRESSION") or "gzip").lower() != "none",
        ca=ca or variable("CERTIFICATE"),
        cert=cert or variable("CLIENT_CERTIFICATE"),
        key=key or variable("CLIENT_KEY"),
        attributes=attributes,
    )
    for path in filter(None, (result.ca, result.cert, result.key)):
        if not os.path.isfile(path):
            raise OtlpError(f"OTLP: there is no file {path}", "give the path of a PEM file")
    if any(
        not (n.isascii() and n.isprintable() and v.isascii() and v.isprintable()) for n, v in result.headers.items()
    ):
        raise OtlpError("OTLP: a header is not printable ASCII", f"look at {_GENERAL}HEADERS")
    if result.key and not result.cert:
        raise OtlpError("OTLP: a client key without its certificate", "give the client certificate too")
    return result


def parse_header(text: str) -> tuple[str, str]:
    """``NAME=VALUE`` of a command line. Raises OtlpError without showing the value, which may be a secret."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not name.isascii() or not value.isprintable() or not value.isascii():
        raise OtlpError("OTLP: a header is not NAME=VALUE in ASCII", "give for example Authorization='Bearer TOKEN'")
    return name.strip(), value.strip()


def _with_path(url: str) -> str:
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path.endswith(PATH) else path + PATH))


def _checked(url: str) -> str:
    parts = urlsplit(url)
    try:
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise OtlpError("OTLP: the URL is not http(s)://HOST[:PORT][/PATH]", "give for example http://localhost:4318")
    if parts.username or parts.password:
        raise OtlpError("OTLP: the URL holds a user or password", "give them as a header")
    return url


def _pairs(text: str | None, variable: str) -> dict[str, str]:
    """``name=value,name=value`` with percent-encoding, as OpenTelemetry writes lists."""
    pairs: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in (text or "").split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise OtlpError(f"{variable} is not name=value,name=value", "separate pairs by commas")
        pairs[unquote(name.strip())] = unquote(value.strip())
    return pairs


def _seconds(text: str | None, variable: str, default: float) -> float:
    if not text:
        return default
    try:
        milliseconds = float(text)
    except ValueError:
        milliseconds = 0.0
    if not 1 <= milliseconds <= 86.4e6:
        raise OtlpError(f"{variable} is not a number of milliseconds", "give for example 10000")
    return milliseconds / 1000
