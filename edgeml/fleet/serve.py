"""Runs the monitor: one process, uvicorn with our bounded connections, TLS, and an orderly end.

``serve`` is what ``edgeml monitor serve`` calls. Whatever is wrong at the start (address in use, certificate, database)
is raised as a MonitorError before anything is served; SIGTERM and SIGINT finish what is under way and return.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from errno import EACCES, EADDRINUSE, EADDRNOTAVAIL
from ipaddress import ip_address
from types import FrameType

from uvicorn import Config, Server

from edgeml.errors import MonitorSettingsError
from edgeml.fleet.app import create_app
from edgeml.fleet.auth import without_secrets
from edgeml.fleet.connection import bounded_protocol, connection_count
from edgeml.fleet.monitor import Monitor
from edgeml.fleet.otlp_export import start_otlp
from edgeml.fleet.retention import Retention
from edgeml.fleet.settings import Settings
from edgeml.fleet.store import Store
from edgeml.fleet.tls import expiry_warning, reload, server_context
from edgeml.telemetry.otlp_settings import OtlpSettings

log = logging.getLogger("edgeml.monitor")
_BACKLOG = 2048
_HANDSHAKE_SECONDS = 10.0
# Every step of a statement lets go of Python's lock, and the ingest thread has it back when the loop has had its turn.
# At Python's own 5 ms a turn that was most of a transaction's time: 36 ms, where it takes 9.
_SWITCH_SECONDS = 0.0005


def serve(
    url: str,
    settings: Settings,
    *,
    retention: Retention | None = None,
    migrate: bool = True,
    otlp: OtlpSettings | None = None,
    ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve until a signal says stop; ``ready`` is told the server's own URL once it listens. With ``otlp`` the figures
    are exported to a collector as well.

    Raises MonitorSettingsError, MonitorDatabaseError and OtlpError before it serves anything.
    """
    check_exposure(settings)
    context = server_context(settings)
    warning = expiry_warning(settings)
    if warning:
        log.warning("%s", warning)
    _raise_file_limit(settings)
    sys.setswitchinterval(_SWITCH_SECONDS)
    listener = listen(settings.host, settings.port)
    with contextlib.closing(listener):
        store = Store.open(url, migrate=migrate)
        try:
            monitor = Monitor(store, settings, retention)
            server = MonitorServer(monitor, context)
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            server.on_started = lambda: ready(f"{'https' if context else 'http'}://{shown}:{port}")
            with contextlib.ExitStack() as beside:
                if otlp is not None:
                    beside.callback(start_otlp(store, otlp).stop)
                server.run(sockets=[listener])
        finally:
            store.close()


class MonitorServer(Server):
    """uvicorn's server with our own signals, handshake deadline and connections."""

    def __init__(self, monitor: Monitor, context: ssl.SSLContext | None) -> None:
        settings = monitor.settings
        self._monitor, self._context = monitor, context
        self.on_started: Callable[[], None] = lambda: None
        config = Config(
            create_app(monitor),
            http=bounded_protocol(settings, monitor.metrics.refused),
            loop="auto",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,  # our own says less of what was sent, and more of what came of it
            server_header=False,
            date_header=True,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_keep_alive=round(settings.keep_alive_seconds),
            timeout_graceful_shutdown=settings.shutdown_seconds,
            backlog=_BACKLOG,
        )
        super().__init__(config)
        monitor.metrics.watch_connections(lambda: connection_count(self))

    async def startup(self, sockets: Sequence[socket.socket] | None = None) -> None:
        # uvicorn's own startup, with a deadline for the TLS handshake: a connection counts, and its clock runs, only
        # once that is done.
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise MonitorSettingsError("the server could not start", "its log says why")
        loop = asyncio.get_running_loop()
        config, state = self.config, self.server_state

        def protocol() -> asyncio.Protocol:
            made: asyncio.Protocol = config.http_protocol_class(  # type: ignore[call-arg]  # typed as any protocol
                config=config, server_state=state, app_state=self.lifespan.state, _loop=loop
            )
            return made

        self.servers = [
            await loop.create_server(
                protocol,
                sock=sock,
                ssl=self._context,
                backlog=_BACKLOG,
                ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._context else None,
            )
            for sock in sockets or ()
        ]
        self.started = True
        self.on_started()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn sends itself the signal again at the end, which would make a normal stop look like a crash.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handlers: dict[int, Callable[[int, FrameType | None], object]] = {
            signal.SIGINT: self.handle_exit,
            signal.SIGTERM: self.handle_exit,
        }
        if hasattr(signal, "SIGHUP"):
            # In the loop's own turn: a handler runs in the middle of anything, a line of the log or a handshake too.
            loop = asyncio.get_running_loop()
            handlers[signal.SIGHUP] = lambda sig, frame: loop.call_soon_threadsafe(self._renew)
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks for an orderly end, the second for a quick one."""
        self.force_exit = self.should_exit
        self.should_exit = True

    def _renew(self) -> None:
        if self._context is None:
            return
        try:
            reload(self._context, self._monitor.settings)
            log.info("the certificate was read again")
        except MonitorSettingsError as error:
            log.error("the old certificate stays in use: %s", error.cause)


def check_exposure(settings: Settings) -> None:
    """Raises MonitorSettingsError when others could read along: an address that is not the machine's own, no TLS."""
    if settings.cert is not None or settings.insecure_http:
        return
    try:
        private = ip_address(settings.host).is_loopback
    except ValueError:
        private = settings.host == "localhost"
    if not private:
        raise MonitorSettingsError(
            f"{settings.host} can be reached from other machines, and there is no TLS",
            "give --cert and --key; or --insecure-http when a proxy in front does TLS, or in a closed network",
        )


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens to nobody yet, bound. Raises MonitorSettingsError."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError, OverflowError):
        raise MonitorSettingsError(f"--host {host!r} is no address of this machine", "give an IP address") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and ip_address(address[0]).is_unspecified:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # "::" is all addresses, the old ones too
        listener.bind(address)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        remedies = {
            EADDRINUSE: "stop what listens there, or give another --port",
            EACCES: "ports below 1024 need privileges: give another --port",
            EADDRNOTAVAIL: "give an address of this machine",
        }
        cause = f"cannot listen on {host} port {port}: {error.strerror}"
        raise MonitorSettingsError(cause, remedies.get(error.errno or 0, "check --host and --port")) from None
    return listener


class RedactingFilter(logging.Filter):
    """Cuts tokens out of every line of a log, whoever wrote it; a last resort."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        clean = without_secrets(text)
        if clean != text:
            record.msg, record.args = clean, ()
        return True


def _raise_file_limit(settings: Settings) -> None:
    """Ask for as many files as there may be connections; without them accepting fails, with them nothing is lost."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.max_connections + 256
    if soft < wanted:
        top = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
        if top < wanted:
            log.warning("only %d files may be open: fewer connections than --max-connections fit", top)
