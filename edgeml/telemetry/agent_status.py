"""What the agent says of itself: a small file beside the spool, for ``edgeml agent status`` in another process.

The agent changes a ``Status`` and hands it to ``StatusFile``, which replaces the file whole; nothing in it is secret,
and nothing depends on it: one that is missing or damaged reads as None. A moment holds all three clocks, so that its
age is right even after the wall clock has jumped.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Protocol

from edgeml.errors import JSONError
from edgeml.jsonutil import dumps, loads

STATUS_FILE = "agent.json"
STATUS_VERSION = 1
_MAX_BYTES = 64 * 1024


class Clock(Protocol):
    """``edgeml.telemetry.clock``, or a test's own."""

    def boot_id(self) -> str: ...
    def monotonic(self) -> float: ...
    def wall(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Moment:
    """A time by the device's clocks."""

    boot_id: str
    monotonic: float
    wall: float

    @classmethod
    def now(cls, clock: Clock, later: float = 0.0) -> Moment:
        return cls(clock.boot_id(), round(clock.monotonic() + later, 3), round(clock.wall() + later, 3))

    def age(self, clock: Clock) -> float:
        """Seconds since then, below 0 for a moment to come; by the wall clock, a hint, when the device was restarted
        in between.
        """
        if self.boot_id == clock.boot_id():
            return clock.monotonic() - self.monotonic
        return clock.wall() - self.wall


@dataclass(slots=True)
class Status:
    """How the agent fares. Counts go on over restarts of the agent.

    ``state`` is one of starting, sending, idle, waiting, paused, standby, not enrolled, revoked, stopped.
    ``clock_ahead``: seconds that the device's wall clock was ahead of the monitor's at the last batch.
    """

    state: str = "starting"
    pid: int = 0
    server: str | None = None
    device: str | None = None
    project: str | None = None
    key_id: str | None = None
    failures: int = 0
    error: str | None = None
    error_at: Moment | None = None
    last_contact: Moment | None = None
    next_try: Moment | None = None
    batches: int = 0
    items: int = 0
    rows: int = 0
    bytes: int = 0
    duplicates: int = 0
    refused: int = 0
    clock_ahead: float | None = None
    notes: tuple[str, ...] = ()


_MOMENTS = ("error_at", "last_contact", "next_try")
_COUNTS = ("failures", "pid", "batches", "items", "rows", "bytes", "duplicates", "refused")
_TEXTS = ("server", "device", "project", "key_id", "error")


class StatusFile:
    """Where a ``Status`` is kept. Writing never raises: a full disk must not stop the agent."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(folder) / STATUS_FILE
        self._written = b""

    def write(self, status: Status) -> None:
        data = dumps({"status_version": STATUS_VERSION, **asdict(status)})
        if data == self._written:
            return  # flash wears
        aside = self.path.with_name(f".{STATUS_FILE}.{os.getpid()}")
        try:
            # Not synchronised: after a power cut an old status, or none, is good enough.
            with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), "wb") as file:
                file.write(data)
            aside.replace(self.path)
            self._written = data
        except OSError:
            with contextlib.suppress(OSError):
                aside.unlink()

    def read(self) -> Status | None:
        """The status last written, by whichever process; None when there is none that can be read."""
        try:
            with self.path.open("rb") as file:
                found = loads(file.read(_MAX_BYTES + 1), str(self.path), limit=_MAX_BYTES)
            return _status(found)
        except (OSError, JSONError, ValueError, TypeError):
            return None


def _status(found: Any) -> Status:
    """Raises ValueError or TypeError for anything that ``StatusFile.write`` does not write."""
    if not isinstance(found, dict) or found.pop("status_version", None) != STATUS_VERSION:
        raise ValueError
    if set(found) != {field.name for field in fields(Status)}:
        raise ValueError
    for name in _MOMENTS:
        if found[name] is not None:
            moment = Moment(**found[name])
            if not isinstance(moment.boot_id, str):
                raise TypeError
            found[name] = Moment(moment.boot_id, float(moment.monotonic), float(moment.wall))
    if not all(type(found[name]) is int for name in _COUNTS) or not isinstance(found["state"], str):
        raise TypeError
    if not all(found[name] is None or isinstance(found[name], str) for name in _TEXTS):
        raise TypeError
    if found["clock_ahead"] is not None:
        found["clock_ahead"] = float(found["clock_ahead"])
    found["notes"] = tuple(str(note) for note in found["notes"])
    return Status(**found)
