"""``edgeml monitor token`` and ``enrol-token``: secrets of programs and of devices that enrol, each shown once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.cli.monitor_common import (
    change,
    database_option,
    expires_option,
    expiry,
    find_project,
    moment,
    open_store,
    project_option,
    show_secret,
)
from edgeml.errors import MonitorSettingsError
from edgeml.fleet.roles import ROLES


@click.group(short_help="Make, list and revoke tokens of programs.")
def token() -> None:
    """Make, list and revoke access tokens: what a program shows in the header Authorization: Bearer TOKEN.

    \b
    Examples:
      edgeml monitor token create dashboard --role viewer
      edgeml monitor token create prometheus --metrics
    """


_metrics_option = click.option("--metrics", is_flag=True, help="A token that may read /metrics, and nothing else.")


@token.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), help="What it may do in its project.")
@_metrics_option
@expires_option
@project_option
@database_option
@options.json_option
def create_token(
    name: str,
    role: str | None,
    metrics: bool,
    days: float | None,
    project: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Make an access token for the program NAME, with a role in a project or for /metrics. It is shown once.

    \b
    Example:
      edgeml monitor token create dashboard --role viewer --days 365
    """
    from edgeml.fleet import accounts

    if metrics == (role is not None):
        raise MonitorSettingsError("a token has a role in a project, or is for /metrics", "give --role or --metrics")
    with open_store(database) as store:
        where = _project(store, project, metrics)
        with change(store, "token create", name, where, role=role) as connection:
            made = accounts.create_token(connection, where, name=name, role=role, expires=expiry(days), now=time.time())
    if as_json:
        output.print_json(made)
    else:
        show_secret("access token", made["token"])


@token.command("list")
@_metrics_option
@project_option
@database_option
@options.json_option
def list_tokens(metrics: bool, project: str | None, database: str | None, as_json: bool) -> None:
    """List the access tokens of a project, or with --metrics those for /metrics; not their secrets.

    \b
    Example:
      edgeml monitor token list
    """
    from edgeml.fleet import accounts

    with open_store(database) as store:
        where = _project(store, project, metrics)
        with store.read() as connection:
            found = accounts.list_tokens(connection, where, limit=100_000)
    _show(found, as_json, "Access tokens", "role", lambda row: row["role"] or "metrics")


@token.command("revoke")
@click.argument("token_id", metavar="ID")
@_metrics_option
@project_option
@database_option
@options.json_option
def revoke_token(token_id: str, metrics: bool, project: str | None, database: str | None, as_json: bool) -> None:
    """End the access token with this ID, at once.

    \b
    Example:
      edgeml monitor token revoke 3f0c9d…
    """
    from edgeml.fleet import accounts

    with open_store(database) as store:
        where = _project(store, project, metrics)
        with change(store, "token revoke", token_id, where) as connection:
            accounts.revoke_token(connection, where, token_id, time.time())
    _revoked(token_id, as_json)


@click.group(short_help="Make, list and revoke tokens that devices enrol with.")
def enrol_token() -> None:
    """Make, list and revoke the tokens that devices enrol with: one-time tokens, or one for a fleet.

    \b
    Examples:
      edgeml monitor enrol-token create till-7
      edgeml monitor enrol-token create rollout --fleet --days 30
    """


@enrol_token.command("create")
@click.argument("name")
@click.option("--uses", type=click.IntRange(1, 1_000_000), metavar="NUMBER", help="For so many devices; 1 by default.")
@click.option("--fleet", is_flag=True, help="For any number of devices.")
@expires_option
@project_option
@database_option
@options.json_option
def create_enrol_token(
    name: str,
    uses: int | None,
    fleet: bool,
    days: float | None,
    project: str | None,
    database: str | None,
    as_json: bool,
) -> None:
    """Make a token that one device enrols with, or --uses of them, or a whole --fleet. It is shown once.

    \b
    Example:
      edgeml monitor enrol-token create rollout --fleet --days 30
    """
    from edgeml.fleet import accounts
    from edgeml.fleet.enrol import create_enrolment_token

    if fleet and uses is not None:
        raise MonitorSettingsError("--fleet sets no limit, --uses does", "give one of them")
    most, expires = None if fleet else uses or 1, expiry(days)
    accounts.check_name(name)
    with open_store(database) as store:
        with store.read() as connection:
            found = find_project(connection, project)
        with change(store, "enrolment token create", name, found["id"], max_uses=most) as connection:
            text = create_enrolment_token(
                connection, found["id"], name=name, max_uses=most, expires=expires, now=time.time()
            )
    if as_json:
        output.print_json({"name": name, "project": found, "max_uses": most, "expires": expires, "token": text})
    else:
        show_secret("enrolment token", text)


@enrol_token.command("list")
@project_option
@database_option
@options.json_option
def list_enrol_tokens(project: str | None, database: str | None, as_json: bool) -> None:
    """List the enrolment tokens of a project; not their secrets.

    \b
    Example:
      edgeml monitor enrol-token list
    """
    from edgeml.fleet import accounts

    with open_store(database) as store, store.read() as connection:
        found = accounts.list_enrolment_tokens(connection, find_project(connection, project)["id"], limit=100_000)
    _show(found, as_json, "Enrolment tokens", "uses", lambda row: f"{row['uses']} of {row['max_uses'] or 'any'}")


@enrol_token.command("revoke")
@click.argument("token_id", metavar="ID")
@project_option
@database_option
@options.json_option
def revoke_enrol_token(token_id: str, project: str | None, database: str | None, as_json: bool) -> None:
    """End the enrolment token with this ID; devices that enrolled with it stay.

    \b
    Example:
      edgeml monitor enrol-token revoke 3f0c9d…
    """
    from edgeml.fleet import accounts

    with open_store(database) as store:
        with store.read() as connection:
            found = find_project(connection, project)
        with change(store, "enrolment token revoke", token_id, found["id"]) as connection:
            accounts.revoke_enrolment_token(connection, found["id"], token_id, time.time())
    _revoked(token_id, as_json)


def _project(store: Any, given: str | None, metrics: bool) -> str | None:
    """The id of the project of a token; None for one that is for /metrics."""
    if metrics:
        return None
    with store.read() as connection:
        return str(find_project(connection, given)["id"])


def _show(
    found: Sequence[dict[str, Any]], as_json: bool, title: str, column: str, value: Callable[[dict[str, Any]], str]
) -> None:
    if as_json:
        output.print_json(found)
        return
    rows = [
        (row["name"], value(row), "revoked" if row["revoked"] else moment(row["expires"]) or "never", row["id"])
        for row in found
    ]
    output.table(title, ("name", column, "expires (UTC)", "id"), rows)


def _revoked(token_id: str, as_json: bool) -> None:
    if as_json:
        output.print_json({"revoked": token_id})
    else:
        output.line(f"token {token_id} is revoked")
