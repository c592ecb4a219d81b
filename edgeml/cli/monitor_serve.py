"""``edgeml monitor serve``: the server itself, its options and its log."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import click

from edgeml.cli import options, otlp_options, output
from edgeml.cli.monitor_common import database_option, keep_option, retention_of

_LEVELS = ("debug", "info", "warning", "error")


@click.command(short_help="Serve devices and people over HTTP.")
@database_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 or :: for all.")
@click.option("--port", default=8765, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 for a free one.")
@click.option("--cert", type=options.FILE, help="Certificate chain in PEM form: serve HTTPS.")
@click.option("--key", type=options.FILE, help="Its private key, when it is not in the same file.")
@click.option("--client-ca", type=options.FILE, help="Only clients with a certificate by this CA may connect (mTLS).")
@click.option("--insecure-http", is_flag=True, help="Listen without TLS on an address that others can reach.")
@click.option(
    "--trusted-proxy",
    "trusted_proxies",
    multiple=True,
    metavar="ADDRESS",
    help="A reverse proxy whose X-Forwarded-For and -Proto are believed. Repeatable.",
)
@click.option("--open-metrics", is_flag=True, help="Let anyone read /metrics; else it takes a token.")
@click.option(
    "--max-connections",
    default=8192,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Connections at once.",
)
@click.option(
    "--enrolment-rate",
    default=100.0,
    show_default=True,
    type=click.FloatRange(min=0.01),
    metavar="NUMBER",
    help="Devices a second that may enrol from one address, over time; raise it for a fleet behind one router.",
)
@click.option(
    "--session-hours",
    default=12.0,
    show_default=True,
    type=click.FloatRange(0.01, 720),
    metavar="NUMBER",
    help="How long a log-in lasts.",
)
@keep_option
@otlp_options.otlp_options
@click.option("--access-log/--no-access-log", default=True, help="A line of the log for every request.")
@click.option("--log-level", default="info", show_default=True, type=click.Choice(_LEVELS), help="What is logged.")
@click.option("--no-migrate", is_flag=True, help="Refuse a database of another version instead of migrating it.")
@options.json_option
def serve(
    database: str | None,
    session_hours: float,
    kept: tuple[str, ...],
    log_level: str,
    no_migrate: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Serve until SIGTERM or Ctrl-C; then finish what is under way and end with exit code 0.

    Without --cert it listens on this machine's own address only. Devices send to it, people and programs ask it:
    /openapi.json describes all routes, /healthz and /readyz say how it is, /metrics is for Prometheus. SIGHUP reads
    the certificate again. The line with its address is on stdout, the log on stderr.

    \b
    Examples:
      edgeml monitor serve
      edgeml monitor serve --host 0.0.0.0 --cert chain.pem --key key.pem
    """
    from edgeml.fleet.serve import serve as run
    from edgeml.fleet.settings import Settings, database_url

    set_up_log(log_level)
    retention = retention_of(kept)
    otlp = otlp_options.take(given)
    settings = Settings(session_seconds=3600 * session_hours, **given)

    def ready(url: str) -> None:
        click.echo(json.dumps({"url": url}) if as_json else output.printable(f"listening on {url}"))
        sys.stdout.flush()

    url = database_url(database)
    run(url, settings, retention=retention, migrate=not no_migrate, otlp=otlp, ready=ready)


def set_up_log(level: str) -> None:
    """Log to stderr, in UTC, without secrets, whichever library writes."""
    from edgeml.fleet.serve import RedactingFilter

    handler = logging.StreamHandler(sys.stderr)
    form = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    form.converter = time.gmtime
    handler.setFormatter(form)
    handler.addFilter(RedactingFilter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Anyone can make uvicorn write this as often as they like, and it says nothing; /metrics counts it.
    logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != "Invalid HTTP request received.")
    # Alembic tells of its own plumbing at every start.
    logging.getLogger("alembic").setLevel(max(logging.WARNING, logging.getLogger().level))
