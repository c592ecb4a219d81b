"""``edgeml monitor init`` and ``status``: from nothing to a server that a device can enrol with, and a look at it."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edgeml.cli import options, output
from edgeml.cli.monitor_common import (
    actor,
    database_option,
    moment,
    open_store,
    password_option,
    read_password,
)
from edgeml.errors import MonitorSettingsError

_FIRST_TOKEN_DAYS = 7


@click.command(short_help="Make the database, a project, a root user and an enrolment token.")
@database_option
@click.option("--project", default="default", show_default=True, metavar="NAME", help="Name of the first project.")
@click.option("--user", default="admin", show_default=True, metavar="NAME", help="Name of the first user, a root user.")
@password_option
@options.json_option
def init(database: str | None, project: str, user: str, password_file: Path | None, as_json: bool) -> None:
    """Make the database, its first project, a root user, and a token that devices enrol with for 7 days.

    A root user may do everything in all projects. The password is asked for, or read from EDGEML_MONITOR_PASSWORD or
    --password-file. On a database that has users nothing is changed.

    \b
    Example:
      edgeml monitor init --project shops --user ada
    """
    from edgeml.fleet import access, accounts
    from edgeml.fleet.auth import hash_password
    from edgeml.fleet.enrol import create_enrolment_token

    with open_store(database, new=True) as store:
        with store.read() as connection:
            if accounts.list_users(connection, limit=1):
                raise MonitorSettingsError(
                    f"the database {store.url} is set up already",
                    "use edgeml monitor user, project and enrol-token to add to it",
                )
        hashed = hash_password(read_password(password_file, user))
        now = time.time()
        with store.write() as connection:
            made = accounts.create_project(connection, project, now)
            accounts.create_user(connection, user, hashed, now, root=True)
            expires = now + 86400 * _FIRST_TOKEN_DAYS
            token = create_enrolment_token(
                connection, made["id"], name="first", max_uses=None, expires=expires, now=now
            )
            access.audit(connection, now=now, actor=actor(), action="init", target=user, project=made["id"])
        url = store.url
    if as_json:
        shown = {"database": url, "project": made, "user": user, "enrolment_token": token, "expires": expires}
        output.print_json(shown)
        return
    output.line(f"database         {url}")
    output.line(f"project          {project}")
    output.line(f"root user        {user}")
    output.line(f"enrolment token  {token}")
    output.line(f"                 for any number of devices, until {moment(expires)} UTC; shown this once")
    output.line()
    output.line("next: edgeml monitor serve")


@click.command(short_help="Show what the database holds.")
@database_option
@options.json_option
def status(database: str | None, as_json: bool) -> None:
    """Show every project: its devices, when one was last heard of, its windows, and what was lost.

    \b
    Example:
      edgeml monitor status --json
    """
    from edgeml.fleet import accounts, queries

    with open_store(database) as store, store.read() as connection:
        projects = accounts.list_projects(connection, limit=1000)
        now = time.time()
        found = [row | queries.summary(connection, row["id"], now=now) for row in projects]
        url = store.url
    if as_json:
        output.print_json({"database": url, "projects": found})
        return
    output.line(f"database {url}")
    rows = [tuple(row[field] for field in _SHOWN) for row in found]
    output.table("Projects", tuple(_SHOWN.values()), rows)


# Field of a project's summary -> heading.
_SHOWN = {
    "name": "project",
    "devices": "devices",
    "seen_hour": "seen in 1 h",
    "revoked": "revoked",
    "clone_seen": "clones",
    "windows": "windows",
    "rows": "rows",
    "lost_items": "lost",
    "quarantine": "refused",
}
