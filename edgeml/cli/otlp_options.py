"""Options of an OpenTelemetry collector, shared by ``edgeml agent run`` and ``edgeml monitor serve``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeml.cli import options

if TYPE_CHECKING:
    from edgeml.telemetry.otlp_settings import OtlpSettings

_NAMES = ("otlp", "otlp_header", "otlp_temporality", "otlp_ca", "otlp_cert", "otlp_cert_key")


def otlp_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Where figures go over OTLP/HTTP; the command gets them as keyword arguments, for ``settings``."""
    for option in reversed(
        (
            click.option(
                "--otlp",
                metavar="URL",
                help="Export the figures to this OpenTelemetry collector too, such as http://localhost:4318. What is "
                "not given is read from OpenTelemetry's own variables, such as OTEL_EXPORTER_OTLP_HEADERS.",
            ),
            click.option(
                "--otlp-header", multiple=True, metavar="NAME=VALUE", help="Header for the collector. Repeatable."
            ),
            click.option(
                "--otlp-temporality",
                type=click.Choice(("delta", "cumulative")),
                help="Sums of each window (delta, the default), or since the start (cumulative, as Prometheus wants).",
            ),
            click.option("--otlp-ca", type=options.FILE, help="Trust the collector by this CA certificate."),
            click.option("--otlp-cert", type=options.FILE, help="Client certificate for the collector."),
            click.option("--otlp-cert-key", type=options.FILE, help="Its private key."),
        )
    ):
        function = option(function)
    return function


def take(given: dict[str, Any]) -> OtlpSettings | None:
    """Settings from a command's keyword arguments, which lose the options of ``otlp_options``; None without --otlp.

    Raises OtlpError.
    """
    otlp, headers, temporality, ca, cert, key = (given.pop(name) for name in _NAMES)
    if otlp is None:
        if headers or temporality or ca or cert or key:
            raise click.UsageError("options of a collector are given, but no --otlp URL")
        return None
    from edgeml.telemetry.otlp_settings import parse_header, settings

    def path(file: Path | None) -> str | None:
        return None if file is None else str(file)

    return settings(
        otlp,
        headers=dict(parse_header(h) for h in headers) if headers else None,
        temporality=temporality,
        ca=path(ca),
        cert=path(cert),
        key=path(key),
    )
