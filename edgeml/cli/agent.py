"""``edgeml agent``: sends what models on this device have recorded; as a service, or once, by hand."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeml.cli import agent_options, agent_spool, options, otlp_options, output

if TYPE_CHECKING:
    from edgeml.telemetry.agent_thread import AgentThread


@click.group(name="agent", short_help="Send what models on this device record.")
def command() -> None:
    """Send what models on this device record to the monitor, and look after the spool it waits in.

    \b
    Example:
      edgeml agent enrol --spool /var/lib/edgeml \\
        --server https://monitor.example.com --token-file token
      edgeml agent run --spool /var/lib/edgeml
      edgeml agent status --spool /var/lib/edgeml
    """


@command.command()
@agent_options.spool_option
@agent_options.key_option
@agent_options.identity_option
@agent_options.connection_options
@click.option(
    "--bandwidth", type=click.FloatRange(min=1), metavar="BYTES", help="Send at most so many bytes a second, over time."
)
@otlp_options.otlp_options
@click.option("--otlp-only", is_flag=True, help="There is no monitor: the collector takes its place.")
@click.option("--verbose", "-v", is_flag=True, help="Log every batch on stderr, not only what goes wrong.")
def run(
    folder: Path | None,
    key: Path | None,
    identity: Path | None,
    bandwidth: float | None,
    otlp_only: bool,
    verbose: bool,
    **more: Any,
) -> None:
    """Send what is recorded, until SIGTERM or SIGINT. Of several agents on one spool, one sends and others stand by.

    Runs well under systemd: type notify, watchdog, see docs/edgeml-agent.service. With --otlp an OpenTelemetry
    collector gets a copy of what the monitor took.

    \b
    Examples:
      edgeml agent run --spool /var/lib/edgeml
      edgeml agent run --spool /var/lib/edgeml --otlp http://localhost:4318
    """
    from edgeml.telemetry.agent_thread import AgentThread

    _log_to_stderr(verbose)
    otlp = otlp_options.take(more)
    if otlp_only and otlp is None:
        raise click.UsageError("--otlp-only needs --otlp URL")
    where = agent_options.place(folder, key)
    chosen = agent_options.settings(identity, bandwidth_bytes_per_second=bandwidth, **more)
    where.folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # the agent may start before the first model records
    spool = where.open()
    try:
        copy = None
        if otlp is not None and otlp_only:
            from edgeml.telemetry.otlp_agent import OtlpThread

            thread: AgentThread = OtlpThread(spool, where.folder, chosen, otlp)
        else:
            thread = AgentThread(spool, where.folder, chosen)
        if otlp is not None and not otlp_only:
            from edgeml.telemetry.otlp_agent import copy_deliveries

            copy = copy_deliveries(thread, spool, otlp)
        ended = _serve(thread)
        if copy is not None:
            copy.close()
    finally:
        spool.close()
    if not ended:
        # The thread hangs in the network, looking up a name for instance. It must not come back while Python is being
        # taken down around it; all that matters is on the disk.
        sys.stderr.flush()
        os._exit(0)


def _serve(thread: AgentThread) -> bool:
    """Run until a signal comes; whether the thread ended in time."""
    from edgeml.telemetry import clock, systemd

    # Not an Event: a handler that sets one while this thread is about to wait for it never gets its lock.
    told, tell = socket.socketpair()
    tell.setblocking(False)
    before = {s: signal.signal(s, lambda *_: _say(tell)) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        thread.start()
        systemd.notify("READY=1")
        every, said = systemd.watchdog_seconds(), ""
        while not select.select([told], [], [], min(every or 5.0, 5.0))[0]:
            if not thread.alive:
                # A service that does nothing is worse than one that ended: whatever started it can start it again.
                raise RuntimeError("the agent's thread has ended; the log above says why")
            if clock.monotonic() < thread.last_beat + _HANGS_SECONDS:
                systemd.notify("WATCHDOG=1")
            if (state := _line(thread)) != said:
                systemd.notify(f"STATUS={state}")
                said = state
        systemd.notify("STOPPING=1")
        return thread.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        told.close()
        tell.close()


def _say(tell: socket.socket) -> None:
    with contextlib.suppress(BlockingIOError):  # it was said often enough
        tell.send(b"x")


# No step takes longer: a request has a deadline, and so has a wait for the database.
_HANGS_SECONDS = 600.0


def _line(thread: AgentThread) -> str:
    status = thread.status
    return output.printable(f"{status.state}: {status.error}" if status.error else status.state).replace("\n", " ")


def _log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("edgeml.telemetry")
    logger.handlers[:] = [handler]
    logger.propagate = False
    logger.setLevel(logging.INFO if verbose else logging.WARNING)


@command.command()
@agent_options.spool_option
@agent_options.identity_option
@agent_options.connection_options
@options.json_option
def enrol(folder: Path | None, identity: Path | None, as_json: bool, **more: Any) -> None:
    """Make the device's key, if there is none yet, and enrol it at the monitor with a token.

    Enrolling again is harmless: the same key stays the same device.

    \b
    Example:
      edgeml agent enrol --spool /var/lib/edgeml \\
        --server https://monitor.example.com --token-file token --label site=bern
    """
    from edgeml.errors import AgentError
    from edgeml.telemetry.agent_enrol import enrol_now
    from edgeml.telemetry.identity import Identity

    chosen = agent_options.settings(identity, **more)
    home = chosen.identity_folder(agent_options.place(folder, None).folder) if identity is None else identity
    if chosen.server is None:
        raise AgentError("no server is given", "give --server URL, or set EDGEML_TELEMETRY_SERVER")
    if chosen.token is None:
        raise AgentError("no enrolment token is given", "give --token-file FILE, or set EDGEML_TELEMETRY_TOKEN")
    transport = chosen.transport(chosen.server)
    who = Identity.load_or_create(home)
    enrolment = enrol_now(who, chosen, transport)
    if as_json:
        output.print_json(
            {"device": enrolment.device, "project": enrolment.project, "server": enrolment.server, "key_id": who.key_id}
        )
        return
    output.line(f"enrolled at {enrolment.server}")
    output.line(f"  device  {enrolment.device}")
    output.line(f"  key     {who.key_id}, in {who.folder}")


@command.command()
@agent_options.spool_option
@agent_options.key_option
@agent_options.identity_option
@agent_options.connection_options
@click.option("--timeout", default=60.0, show_default=True, type=click.FloatRange(min=0.1), help="Seconds to try.")
@options.json_option
def flush(
    folder: Path | None, key: Path | None, identity: Path | None, timeout: float, as_json: bool, **more: Any
) -> None:
    """Send what waits in the spool now. Exit code 1 when not all of it went.

    \b
    Example:
      edgeml agent flush --spool /var/lib/edgeml --timeout 30
    """
    from edgeml.telemetry.agent_thread import AgentThread

    where = agent_options.place(folder, key)
    chosen = agent_options.settings(identity, **more)
    spool = where.open()
    try:
        before = spool.stats().items
        thread = AgentThread(spool, where.folder, chosen, standby=0.5)
        thread.start()
        done = thread.flush(timeout)
        error = thread.status.error
        thread.stop()
        left = spool.stats().items
    finally:
        spool.close()
    if as_json:
        output.print_json({"done": done, "before": before, "left": left, "error": error})
    elif done:
        output.line(f"nothing waits any more ({before} waited)")
    else:
        output.line(f"{left} of {max(before, left)} still wait")
        output.note(f"  {error or 'the time was up; nothing is lost'}")
    if not done:
        click.get_current_context().exit(1)


for other in (agent_spool.status, agent_spool.rotate_key, agent_spool.erase):
    command.add_command(other)
