"""The recorder of one model in one process: opens and closes windows over what its counter counts.

``edgeml.runtimes.recording`` makes it with a counter and tells it of errors; its writer's thread closes windows by time
or rows and keeps them. Nothing here raises into a call that predicts, and no lock is held while something is written.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

from edgeml.jsonutil import dumps
from edgeml.telemetry import clock, lifecycle
from edgeml.telemetry import outlet as outlets
from edgeml.telemetry.counting import Counter, Layout
from edgeml.telemetry.feedback import Truths
from edgeml.telemetry.sampling import Reservoir
from edgeml.telemetry.settings import Settings
from edgeml.telemetry.system import SystemFigures
from edgeml.telemetry.window import MAX_ERROR_KINDS, MAX_NAME, MAX_SECONDS, WINDOW_VERSION
from edgeml.telemetry.writer import Draft, Writer

INTERNAL_ERROR = "recorder"  # the kind of a fault of the recorder itself
OTHER_ERRORS = "other"
STOP_SECONDS = 10.0
# How long the thread waits for calls that are counting while a window closes; later ones come with the next window.
_CLOSE_SECONDS = 1.0

# Sampled rows of one window take at most this part of the spool.
_SPOOL_A_SAMPLE = 32
_MOST_WALL = MAX_SECONDS - 1

_LOG = logging.getLogger("edgeml.telemetry")


@dataclass(frozen=True, slots=True)
class About:
    """The model a window is of. ``profile`` is its reference profile as canonical JSON, ``classes`` its labels."""

    name: str
    version: int
    manifest_sha256: str
    profile: bytes | None
    profile_sha256: str | None
    classes: Sequence[Any] | None

    def model(self) -> dict[str, Any]:
        """The window's field ``model``."""
        name = "".join(c if c.isprintable() else " " for c in self.name)[:MAX_NAME] or "model"
        return {"name": name, "version": self.version, "manifest_sha256": self.manifest_sha256}


class Recorder:
    """Counts of one model, in windows. Made and started by ``Model.record_to``."""

    def __init__(
        self,
        about: About,
        layout: Layout,
        counter: Counter,
        settings: Settings,
        opener: outlets.OpenSpool | None = None,
    ) -> None:
        """Raises TelemetryError, KeyFileError for settings that cannot be used, SpoolKeyError for the spool's key."""
        self.settings = settings
        self._about, self._layout, self._counter = about, layout, counter
        self._sample_key: Any = None
        self.sampler: Reservoir | None = None
        if settings.sample_rows:
            from edgeml.telemetry.sealing import public_key

            self._sample_key = public_key(settings.sample_key)
            self.sampler = Reservoir(settings.sample_rows)
        self.truths = Truths(about.classes)
        profile = None
        if about.profile is not None and about.profile_sha256 is not None:
            profile = about.profile_sha256, about.profile
        self._outlet = outlets.acquire(settings, opener or outlets.open_spool)
        self._writer = Writer(self._outlet, self._collect, self._due, profile, lambda: outlets.release(self._outlet))
        self._stopped = False
        self._begin()

    def _begin(self) -> None:
        """For the start, and for a forked child."""
        self._lock = threading.Lock()
        self._errors: dict[str, int] = {}
        self._full = False
        self._closed = 0
        self._start = self._seen = clock.monotonic()
        self._system: SystemFigures | None = None

    def start(self) -> None:
        """Begin with an empty window."""
        lifecycle.watch(self)
        self.ensure_running()

    # --- while the model predicts; none of these but ``feedback`` raises, and none blocks
    def failed(self, error: Exception) -> None:
        """The model refused rows, or failed."""
        self._count_error(type(error).__name__)
        self.ensure_running()

    def feedback(self, ids: Any, truths: Any, predictions: Any = None) -> None:
        """As ``Truths.feedback``."""
        self.truths.feedback(ids, truths, predictions)
        self.ensure_running()

    def internal(self, error: Exception) -> None:
        """Recording itself failed; the application has its answer."""
        self._count_error(INTERNAL_ERROR)
        _LOG.debug("a call was not recorded", exc_info=error)

    def window_is_full(self) -> None:
        """The window has its rows."""
        self._full = True
        self._writer.wake()

    def ensure_running(self) -> None:
        """Start the thread where there is none, as in a forked child."""
        try:
            if not self._stopped:
                self._writer.ensure_running()
                lifecycle.in_worker()
        except Exception as error:  # no more threads: counts stay in memory, and the next window tries again
            self.internal(error)

    def _count_error(self, kind: str) -> None:
        try:
            kind = kind if 0 < len(kind) <= MAX_NAME and kind.isprintable() else OTHER_ERRORS
            with self._lock:
                if kind not in self._errors and len(self._errors) >= MAX_ERROR_KINDS - 2 and kind != INTERNAL_ERROR:
                    kind = OTHER_ERRORS
                self._errors[kind] = self._errors.get(kind, 0) + 1
        except Exception:  # a class whose name is no text; nothing is worth an exception here
            _LOG.debug("an error was not counted", exc_info=True)

    # --- for the application
    def flush(self, timeout: float = STOP_SECONDS) -> bool:
        """Close the open window and keep it: whether all is in the spool, durably, within ``timeout`` seconds."""
        return self._writer.flush(timeout)

    def ask_flush(self) -> None:
        """Begin what ``flush`` waits for."""
        self._full = True
        self._writer.wake()

    def stop(self, timeout: float = STOP_SECONDS) -> bool:
        """Flush, and end the thread. What the spool did not take in time is lost, and said in the log."""
        if self._stopped:
            return True
        self._stopped = True
        lifecycle.unwatch(self)
        return self._writer.end(timeout)

    def forget(self) -> None:
        """In a forked child: a stream of its own, and nothing of what the parent counted."""
        self._counter.forget()
        self._writer.forget()
        self.truths.forget()
        if self.sampler is not None:
            self.sampler.forget()
        self._begin()

    def status(self) -> dict[str, Any]:
        """How recording goes, for people: plain values."""
        totals, stats = self._writer.totals, self._outlet.stats()
        return {
            "folder": self.settings.folder,
            "stream": self._writer.stream,
            "windows_closed": self._closed,
            "kept": totals.kept,
            "waiting": self._writer.waiting,
            "lost": totals.lost,
            "rows_lost": totals.rows_lost,
            "last_error": totals.last_error,
            "recording": not self._stopped,
            "spool": asdict(stats) if is_dataclass(stats) and not isinstance(stats, type) else None,
        }

    # --- the writer's thread
    def _due(self) -> float:
        return 0.0 if self._full else self._start + self.settings.window_seconds

    def _collect(self, ask: bool) -> list[Draft]:
        """The window that is due, or with ``ask`` the one that is open, if anything is in it."""
        now = max(clock.monotonic(), self._start)
        due = now >= self._start + self.settings.window_seconds
        if not (ask or due or self._full):
            return []
        self._full = False
        counts = self._counter.take(_CLOSE_SECONDS)
        with self._lock:
            errors, self._errors = self._errors, {}
        feedback = self.truths.take()
        fields = self._layout.fields(counts)
        seen, rows = (0, []) if self.sampler is None else self.sampler.take()
        if not (due or fields["rows"] or errors or feedback):
            return []
        if self._system is None:
            self._system = SystemFigures(self.settings.folder)
        wall, start = round(min(max(clock.wall(), 0.0), _MOST_WALL), 3), self._start
        self._start = now
        window = fields | {
            "window_version": WINDOW_VERSION,
            "model": self._about.model(),
            "profile_sha256": self._about.profile_sha256,
            "process": {"pid": os.getpid(), "boot_id": clock.boot_id()},
            "start": round(start, 3),
            "end": round(now, 3),
            "wall": wall,
            "errors": errors,
            "system": self._system.read(),
            "feedback": feedback,
        }
        drafts = [Draft("window", dumps(window), fields["rows"])]
        self._closed += 1
        if rows:
            drafts += self._sealed(wall, seen, rows)
        return drafts

    def _sealed(self, wall: float, seen: int, rows: Sequence[Mapping[str, Any]]) -> list[Draft]:
        from edgeml.telemetry.sealing import MAX_SEALED_BYTES, seal_rows

        most = min(MAX_SEALED_BYTES, self.settings.max_bytes // _SPOOL_A_SAMPLE)
        try:
            payload, count = seal_rows(self._sample_key, self._about.model(), wall, seen, rows, most)
        except Exception as error:  # samples are an extra: the window they belong to is kept without
            self.internal(error)
            return []
        return [Draft("rows", dumps(payload), count)]
