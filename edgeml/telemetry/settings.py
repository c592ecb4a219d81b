"""What ``model.record_to`` was asked for, checked; and the same from the environment, for ``EDGEML_TELEMETRY``.

Nothing is opened here. ``Recorder`` reads it, and a pickled model takes its portable part along.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from edgeml.errors import TelemetryError

FOLDER_VARIABLE = "EDGEML_TELEMETRY"
SERVER_VARIABLE = "EDGEML_TELEMETRY_SERVER"
TOKEN_VARIABLE = "EDGEML_TELEMETRY_TOKEN"

WINDOW_SECONDS = 60.0
WINDOW_ROWS = 100_000
SPOOL_BYTES = 64 * 2**20
LEAST_WINDOW_SECONDS, MOST_WINDOW_SECONDS = 0.01, 86_400.0
LEAST_SPOOL_BYTES = 2**19
MOST_SAMPLE_ROWS = 1000

Key = bytes | str | os.PathLike[str] | Callable[[], bytes] | None


@dataclass(frozen=True, slots=True)
class Settings:
    """See ``Model.record_to``. Raises TelemetryError naming the setting that is none."""

    folder: str
    window_seconds: float = WINDOW_SECONDS
    window_rows: int = WINDOW_ROWS
    max_bytes: int = SPOOL_BYTES
    key: Key = field(default=None, repr=False)
    server: str | None = None
    token: str | None = field(default=None, repr=False)
    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    cert_key: str | os.PathLike[str] | None = None
    insecure_http: bool = False
    sample_rows: int = 0
    sample_key: Any = None
    consent_to_sample: bool = False

    def __post_init__(self) -> None:
        seconds = self.window_seconds
        if (
            isinstance(seconds, bool)
            or not isinstance(seconds, (int, float))
            or not math.isfinite(seconds)
            or not LEAST_WINDOW_SECONDS <= seconds <= MOST_WINDOW_SECONDS
        ):
            raise TelemetryError(
                f"window_seconds={seconds!r} is no length of a window",
                f"give seconds from {LEAST_WINDOW_SECONDS} to {MOST_WINDOW_SECONDS:.0f}; 60 is usual",
            )
        _whole("window_rows", self.window_rows, 1, 2**53 - 1)
        _whole("max_bytes", self.max_bytes, LEAST_SPOOL_BYTES, 2**53 - 1)
        _whole("sample_rows", self.sample_rows, 0, MOST_SAMPLE_ROWS)
        if self.sample_rows and self.consent_to_sample is not True:
            raise TelemetryError(
                "sample_rows asks for raw rows, which may hold personal data, and nobody has consented",
                "pass consent_to_sample=True if those concerned agree, or leave sample_rows out",
            )
        if self.sample_rows and self.sample_key is None:
            raise TelemetryError(
                "sample_rows needs sample_key, the X25519 public key that rows are sealed to",
                "make a pair with edgeml.telemetry.sealing.generate_sample_key(path) and give the device path.pub",
            )

    def portable(self) -> dict[str, Any] | None:
        """What travels with a pickled model: no token, no server, no samples. None when its key cannot travel."""
        if not (self.key is None or isinstance(self.key, (str, os.PathLike))):
            return None
        key = None if self.key is None else os.fspath(self.key)
        return {
            "folder": self.folder, "window_seconds": self.window_seconds, "window_rows": self.window_rows,
            "max_bytes": self.max_bytes, "key": key,
        }  # fmt: skip


def from_arguments(folder: Any, **options: Any) -> Settings:
    """Settings for a folder, made absolute, so that a later change of the working folder does not move it."""
    if not isinstance(folder, (str, os.PathLike)) or not os.fspath(folder):
        raise TelemetryError(
            f"record_to takes the path of a folder, not {folder!r:.80}", "such as '/var/lib/myapp/telemetry'"
        )
    path = os.path.abspath(os.fspath(folder))
    if os.path.exists(path) and not os.path.isdir(path):
        raise TelemetryError(f"{path} is not a folder", "give the path of a folder, or of one to be made")
    return Settings(path, **options)


def from_environment(environment: Mapping[str, str]) -> Settings | None:
    """Settings of EDGEML_TELEMETRY and its companions; None where it is not set. The spool reads its key's variable."""
    folder = environment.get(FOLDER_VARIABLE)
    if not folder:
        return None
    server, token = environment.get(SERVER_VARIABLE), environment.get(TOKEN_VARIABLE)
    return from_arguments(folder, server=server or None, token=token or None)


def _whole(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise TelemetryError(f"{name}={value!r:.40} is not an integer from {least} to {most}", f"change {name}")
