"""What the subcommands of ``edgeml monitor`` share: the database, the project, times, a change with its audit line."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeml.cli import output
from edgeml.errors import MonitorSettingsError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from edgeml.fleet.retention import Retention
    from edgeml.fleet.store import Store

PASSWORD_VARIABLE = "EDGEML_MONITOR_PASSWORD"

database_option = click.option(
    "--database",
    metavar="URL",
    help="sqlite:///FILE, a path of an SQLite file, or postgresql://… Default: EDGEML_MONITOR_DATABASE, else a file "
    "in the user's data folder.",
)
project_option = click.option("--project", metavar="NAME", help="Name or id of the project; the only one by default.")
password_option = click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="Read the password from this file's first line. Else EDGEML_MONITOR_PASSWORD is taken, or asked for.",
)
keep_option = click.option(
    "--keep",
    "kept",
    multiple=True,
    metavar="KIND=DAYS",
    help="How long to keep windows, samples, minutes, hours, days, device_days, losses, events, quarantine or audit; "
    "'ever' for ever. Repeatable. Default: windows 2, samples 30, minutes 14, hours 400, days 1830, device_days 180, "
    "losses 90, events 180, quarantine 30, audit 732.",
)
expires_option = click.option(
    "--days", type=click.FloatRange(0.001, 36500), metavar="NUMBER", help="Days until it expires; never by default."
)


@contextmanager
def open_store(database: str | None, *, new: bool = False) -> Iterator[Store]:
    """The database, migrated. An SQLite file must be there, unless ``new``."""
    from edgeml.fleet.settings import database_url
    from edgeml.fleet.store import Store

    url = database_url(database)
    path = Path(url.removeprefix("sqlite:///"))
    if not new and url.startswith("sqlite:///") and not path.exists():
        raise MonitorSettingsError(f"there is no database {path}", "make it: edgeml monitor init")
    store = Store.open(url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def change(store: Store, action: str, target: str, project: str | None = None, **detail: Any) -> Iterator[Connection]:
    """A transaction that changes something, with its line in the audit log."""
    from edgeml.fleet.access import audit

    with store.write() as connection:
        yield connection
        audit(connection, now=time.time(), actor=actor(), action=action, target=target, project=project, **detail)


def actor() -> str:
    """Who changes something by the command line, for the audit log."""
    try:
        return f"command line:{getpass.getuser()}"
    except (KeyError, OSError):  # no such user on this machine, as in some containers
        return f"command line:uid {os.getuid()}"


def find_project(connection: Connection, given: str | None) -> dict[str, Any]:
    """The project that was named, or the only one."""
    from edgeml.fleet import accounts

    if given is not None:
        return accounts.get_project(connection, given)
    found = accounts.list_projects(connection, limit=6)
    if len(found) != 1:
        names = ", ".join(row["name"] for row in found)
        raise MonitorSettingsError(
            f"there are several projects: {names}" if found else "there is no project",
            "name one: --project NAME" if found else "make one: edgeml monitor project create NAME",
        )
    return found[0]


def read_password(file: Path | None, name: str) -> str:
    """A new password: of the file, of the variable, or typed twice. Never an argument, which others could see."""
    if file is not None:
        with file.open(encoding="utf-8") as lines:
            return lines.readline().rstrip("\r\n")
    if os.environ.get(PASSWORD_VARIABLE):
        return os.environ[PASSWORD_VARIABLE]
    if not sys.stdin.isatty():
        raise MonitorSettingsError(
            "there is no terminal to ask for a password", f"set {PASSWORD_VARIABLE}, or give --password-file"
        )
    return str(click.prompt(f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True))


def retention_of(kept: Sequence[str]) -> Retention:
    """How long is kept what, by the --keep options over the defaults."""
    from edgeml.fleet.retention import DAY, Retention

    kinds = [field.name for field in fields(Retention)]
    chosen: dict[str, float | None] = {}
    for text in kept:
        kind, _, days = text.partition("=")
        try:
            chosen[kind] = None if days == "ever" else float(days) * DAY
            valid = kind in kinds and (days == "ever" or 0 <= float(days) <= 36500)
        except ValueError:
            valid = False
        if not valid:
            raise MonitorSettingsError(
                f"--keep {text!r} is not KIND=DAYS", f"a KIND is one of {', '.join(kinds)}; DAYS a number, or 'ever'"
            )
    return Retention(**chosen)


def expiry(days: float | None) -> float | None:
    """Seconds since 1970 in so many days; None for never."""
    return None if days is None else time.time() + 86400 * days


def moment(seconds: float | None) -> str | None:
    """A time for people, in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def show_secret(what: str, text: str) -> None:
    """A secret, once."""
    output.line(f"{what}: {text}")
    output.note("it is shown this once, and kept as a hash only")
