"""Every setting of the server, with its default, and where its database is when nobody says.

``edgeml monitor serve`` makes a ``Settings`` of its options; the application, its limits and its listener read it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from edgeml.errors import MonitorSettingsError

DATABASE_VARIABLE = "EDGEML_MONITOR_DATABASE"
KEY_PASSPHRASE_VARIABLE = "EDGEML_MONITOR_KEY_PASSPHRASE"
DEFAULT_PORT = 8765

# Bytes of a request's body, by route; all that is not named has the first.
MAX_BODY_BYTES = 64 * 2**10
MAX_MODEL_BYTES = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Settings:
    """What a server listens on, and its limits. Times in seconds, rates a second."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT  # 0: one that is free
    cert: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None  # with it, only clients with a certificate it signed may connect
    insecure_http: bool = False
    trusted_proxies: tuple[str, ...] = ()  # whose X-Forwarded-For and -Proto are believed
    open_metrics: bool = False  # /metrics without a token
    access_log: bool = True

    session_seconds: float = 12 * 3600.0
    retention_seconds: float = 3600.0  # between two runs of retention

    # --- what a connection may take
    max_connections: int = 8192
    header_seconds: float = 10.0
    body_seconds: float = 30.0
    write_seconds: float = 30.0
    keep_alive_seconds: float = 15.0
    shutdown_seconds: int = 10
    max_header_bytes: int = 16 * 2**10
    max_headers: int = 100

    # --- rates: see limits.Limits. A device that comes back after weeks sends some hundred batches one after the other.
    device_rate: float = 2.0
    device_burst: float = 120.0
    token_rate: float = 20.0
    token_burst: float = 200.0
    failure_rate: float = 1.0
    failure_burst: float = 100.0
    enrolment_rate: float = 100.0
    enrolment_burst: float = 1000.0
    # Ten guesses at once and one in 6 s from an address; from all together a hundred, and one in 36 s, at a name.
    login_address_rate: float = 1 / 6
    login_address_burst: float = 10.0
    login_name_rate: float = 1 / 36
    login_name_burst: float = 100.0


def database_url(given: str | None = None) -> str:
    """The database to use: the one given (a URL, or a path of an SQLite file), else the variable's, else a file in the
    user's data folder. Needs the package platformdirs for the last.
    """
    text = given or os.environ.get(DATABASE_VARIABLE, "")
    if not text:
        return f"sqlite:///{default_database()}"
    if "://" in text:
        return text
    if text.startswith(("sqlite:", "postgresql:", "postgres:")):
        # The text is not shown: it may hold a password.
        raise MonitorSettingsError("the database is not a URL", "write sqlite:///FILE, postgresql://… or a file's path")
    return f"sqlite:///{Path(text).expanduser().absolute()}"


def default_database() -> Path:
    """The SQLite file of a server that was not told of another database."""
    from platformdirs import user_data_path  # imported where used: the API's own users hand a URL in

    return user_data_path("edgeml", appauthor=False) / "monitor.db"
