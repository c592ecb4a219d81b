"""Where a process's recorders hand their windows: one spool a folder, opened once, and the agent thread beside it.

Several models that record to one folder share the outlet; the last to let go closes it. A disk that cannot be opened
now is tried again later by the recorder's thread: a device whose disk is full at start still predicts and still counts.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from edgeml.errors import SpoolError, SpoolKeyError, TelemetryError
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.settings import Settings

if TYPE_CHECKING:
    from edgeml.telemetry.spool import Spool

_AGENT_SETTINGS = ("server", "token", "ca", "cert", "cert_key", "insecure_http")

_LOG = logging.getLogger("edgeml.telemetry")


class SpoolLike(Protocol):
    """What a recorder needs of ``edgeml.telemetry.spool.Spool``."""

    def append(self, items: Sequence[Item], losses: Sequence[Loss] = ()) -> None: ...
    def put_profile(self, sha256: str, body: bytes) -> None: ...
    def stats(self) -> Any: ...
    def close(self) -> None: ...


OpenSpool = Callable[[Settings], SpoolLike]


def open_spool(settings: Settings) -> SpoolLike:
    """The real spool. Raises TelemetryError where the package it encrypts with is missing, else as ``Spool``."""
    try:
        import cryptography  # noqa: F401  # the spool imports it when it first needs a key: too late to tell it apart
    except ImportError:
        raise TelemetryError(
            "recording needs the package cryptography, which is not installed", "pip install 'edgeml-sdk[agent]'"
        ) from None
    from edgeml.telemetry.spool import Spool

    return Spool(
        settings.folder,
        key=settings.key,
        max_bytes=settings.max_bytes,
        on_note=lambda note: _LOG.warning("spool %s: %s", settings.folder, note),
    )


class Outlet:
    """One folder's spool and agent. ``acquire`` gives it, ``release`` lets go."""

    def __init__(self, settings: Settings, opener: OpenSpool) -> None:
        self._settings = settings
        self._opener = opener
        self._users = 0
        self._spool: SpoolLike | None = None
        self._agent: Any = None
        self._lock = threading.Lock()

    def spool(self) -> SpoolLike:
        """The spool, opened now if it is not, and its agent at work. Raises SpoolError."""
        with self._lock:
            if self._spool is None:
                self._spool = self._opener(self._settings)
            try:
                self._start_agent(self._spool)
            except (TelemetryError, RuntimeError) as error:  # no more threads; windows are kept without an agent
                _LOG.warning("the agent does not start: %s", error)
            return self._spool

    def open(self) -> None:
        """As ``spool``, for the start: raises what is wrong with the agent's settings, too."""
        with self._lock:
            if self._spool is None:
                self._spool = self._opener(self._settings)
            self._start_agent(self._spool)

    def adopt(self, settings: Settings) -> None:
        """Another model brings settings of its own: the first server that is named starts the agent."""
        with self._lock:
            self._settings = settings
            if self._spool is not None:
                self._start_agent(self._spool)

    def wake_agent(self) -> None:
        """There is something to send."""
        agent = self._agent
        if agent is not None:
            agent.wake()

    def stats(self) -> Any:
        """The spool's figures, None while it is not open or does not answer."""
        spool = self._spool
        try:
            return None if spool is None else spool.stats()
        except TelemetryError:
            return None

    def forget(self) -> None:
        """In a forked child: the lock may be held by a thread that is not here. The spool reopens by itself, and the
        agent's thread is started again when the child first records something.
        """
        self._lock = threading.Lock()

    def _start_agent(self, spool: SpoolLike) -> None:
        settings = self._settings
        if settings.server is None:
            return
        if self._agent is None:
            from edgeml.telemetry.agent_settings import AgentSettings, read_token
            from edgeml.telemetry.agent_thread import AgentThread

            chosen = {name: getattr(settings, name) for name in _AGENT_SETTINGS}
            chosen["token"] = read_token(settings.token, None)
            self._agent = AgentThread(
                cast("Spool", spool), settings.folder, AgentSettings(**chosen)
            )  # which it is, outside tests
        self._agent.start()

    def _close(self) -> None:
        if self._agent is not None:
            self._agent.stop(3.0)
            self._agent = None
        if self._spool is not None:
            self._spool.close()
            self._spool = None


_OUTLETS: dict[str, Outlet] = {}
# The garbage collector may let go of a model, and so of its outlet, in a thread that holds the lock already.
_LOCK = threading.RLock()


def acquire(settings: Settings, opener: OpenSpool) -> Outlet:
    """The outlet of the settings' folder, opened if the disk lets it.

    Raises SpoolKeyError for a key that is no good, TelemetryError for settings the agent does not take or that differ
    from those the folder is already open with; not for a disk in trouble.
    """
    key = os.path.realpath(settings.folder)
    with _LOCK:
        outlet = _OUTLETS.get(key)
        if outlet is None:
            outlet = Outlet(settings, opener)
            try:
                outlet.open()
            except TelemetryError as error:
                if isinstance(error, SpoolKeyError) or not isinstance(error, SpoolError):
                    outlet._close()
                    raise
                _LOG.warning("recording to %s starts without its spool, and will try again: %s", settings.folder, error)
            _OUTLETS[key] = outlet
        else:
            outlet.adopt(_compare(outlet._settings, settings))
        outlet._users += 1
        return outlet


def release(outlet: Outlet) -> None:
    """One user less; the last one closes spool and agent."""
    with _LOCK:
        outlet._users -= 1
        if outlet._users > 0:
            return
        for key, known in list(_OUTLETS.items()):
            if known is outlet:
                del _OUTLETS[key]
    outlet._close()


def forget_all() -> None:
    """In a forked child."""
    global _LOCK
    _LOCK = threading.RLock()
    for outlet in _OUTLETS.values():
        outlet.forget()


def _compare(first: Settings, second: Settings) -> Settings:
    """Settings that serve both models of a folder: whoever names a server brings the agent's."""
    names = ["key", "max_bytes"] + [*_AGENT_SETTINGS] * (None not in (first.server, second.server))
    for name in names:
        if getattr(first, name) != getattr(second, name):
            raise TelemetryError(
                f"another model of this process records to {second.folder} with another {name}",
                "give both models the same settings, or folders of their own",
            )
    if first.server is not None or second.server is None:
        return first
    return replace(first, **{name: getattr(second, name) for name in _AGENT_SETTINGS})
