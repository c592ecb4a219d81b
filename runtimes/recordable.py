"""The part of Model that turns recording on and off. Nothing of telemetry is imported until it is turned on.

``Model`` inherits it; ``recording`` does the work. While a model does not record, none of its calls asks whether it
does: what records is put into the instance, in front of the class's own methods, and taken out again.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeml.runtimes.recording import Recording
    from edgeml.telemetry.recorder import Recorder
    from edgeml.telemetry.settings import Key, Settings

# The functions of one row, which a model makes at first use and keeps.
ONE_ROW = ("predict_one", "predict_proba_one")
_STARTING = threading.Lock()  # one recording starts or stops at a time
# Held while a model's functions are changed, never while anything is opened or written. Reentrant: an engine's plan of
# one row may make others.
LOCK = threading.RLock()


def _after_fork() -> None:
    global _STARTING
    _STARTING = threading.Lock()  # who held it is not in this process
    LOCK.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=LOCK.acquire, after_in_parent=LOCK.release, after_in_child=_after_fork)


class Recordable:
    """``record_to`` starts, ``stop_recording`` ends; ``track`` and ``feedback`` bring truths."""

    def __init__(self) -> None:
        self._recording: Recording | None = None

    def record_to(
        self,
        folder: str | os.PathLike[str],
        *,
        window_seconds: float = 60.0,
        window_rows: int = 100_000,
        server: str | None = None,
        token: str | None = None,
        key: Key = None,
        max_bytes: int = 64 * 2**20,
        sample_rows: int = 0,
        sample_key: Any = None,
        consent_to_sample: bool = False,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        insecure_http: bool = False,
    ) -> Recorder:
        """Count from now on what the model sees and does, in windows that are kept in ``folder``.

        A function that was taken from the model before, such as ``one = model.predict_one``, stays unrecorded. The same
        call again gives the same recorder. Nothing that happens later, not even a disk that fails, is raised into a
        call that predicts. A pickled model records in the process it is sent to, without server and samples.

        Args:
            folder: where the spool lies; made when missing. Several models and processes may share one.
            window_seconds, window_rows: a window is closed after so long, or about so many rows.
            server, token: the monitor's address, to have a thread of this process send the windows, and what enrols
                the device there. Without a server, ``edgeml agent run`` sends them.
            key: of the spool's encryption: a path, 32 bytes, or a function that gives them.
            max_bytes: what the spool may take on disk; the oldest goes first, and is counted.
            sample_rows: raw rows to keep of each window, for retraining; needs ``consent_to_sample=True`` and
                ``sample_key``, an X25519 public key (path, PEM or 32 bytes, or key object) they are sealed to.
            ca, cert, cert_key, insecure_http: how the server is trusted, and the client's certificate.

        Raises:
            TelemetryError: a setting that is none, or another recording of the model; by its kind for key and server.
            KeyFileError, SigningNotInstalledError: ``sample_key`` cannot be used.
            ProfileError: the bundle's reference profile does not fit its schema.
        """
        from edgeml.errors import TelemetryError
        from edgeml.telemetry.settings import from_arguments

        settings = from_arguments(
            folder,
            window_seconds=window_seconds,
            window_rows=window_rows,
            max_bytes=max_bytes,
            key=key,
            server=server,
            token=token,
            ca=ca,
            cert=cert,
            cert_key=cert_key,
            insecure_http=insecure_http,
            sample_rows=sample_rows,
            sample_key=sample_key,
            consent_to_sample=consent_to_sample,
        )
        with _STARTING:
            if self._recording is not None:
                if self._recording.settings != settings:
                    raise TelemetryError(
                        f"the model records to {self._recording.settings.folder} already, with other settings",
                        "call model.stop_recording() first",
                    )
                return self._recording.recorder
            recording = self._start_recording(settings)
            with LOCK:
                self._recording = recording
                # What is found in the instance comes first: no call of a model that does not record asks if it does.
                self.__dict__["_run"] = recording.run
                self._forget_one_row()
            self._abandon = weakref.finalize(self, recording.recorder.stop, 0.0)
            self._abandon.atexit = False  # the recorder has its own way to end with the process
            return recording.recorder

    def stop_recording(self) -> None:
        """End recording. The open window is kept, durably when this returns; a disk that does not answer is waited for
        some seconds. Calls that are under way in other threads may stay uncounted. Harmless without recording.
        """
        with _STARTING, LOCK:
            recording, self._recording = self._recording, None
            if recording is None:
                return
            self._abandon.detach()
            self.__dict__.pop("_run", None)
            self._forget_one_row()
        recording.recorder.stop()

    @property
    def recorder(self) -> Recorder | None:
        """What records this model; its ``status()`` is for people. None while nothing does."""
        return None if self._recording is None else self._recording.recorder

    def track(self, id: Any, prediction: Any) -> None:
        """Remember a prediction until ``feedback`` brings the truth. ``id`` is the application's: a string or a number,
        or a list or array of them with as many predictions. The last 65,536 are remembered. Without recording, nothing
        happens. Raises TelemetryError for different numbers of ids and predictions.
        """
        if self._recording is not None:
            self._recording.recorder.truths.track(id, prediction)

    def feedback(self, id: Any, y: Any, *, prediction: Any = None) -> None:
        """The truth for a prediction, or for several: the window tells how right the model was.

        ``prediction`` is for an application that kept it; else what was given to ``track`` under ``id`` counts. Without
        recording, nothing happens. Raises TelemetryError for different numbers of ids and truths.
        """
        if self._recording is not None:
            self._recording.recorder.feedback(id, y, prediction)

    # --- helpers
    def _start_recording(self, settings: Settings) -> Recording:
        raise NotImplementedError

    def _forget_one_row(self) -> None:
        """They are made anew at the next use, by the engine or by what records."""
        for name in ONE_ROW:
            self.__dict__.pop(name, None)
