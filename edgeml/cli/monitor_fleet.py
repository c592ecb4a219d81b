"""``edgeml monitor add-model``, ``devices``, ``revoke`` and ``reinstate``: the fleet, as its administrator sees it."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.cli.monitor_common import actor, change, database_option, find_project, moment, open_store, project_option
from edgeml.errors import MonitorSettingsError


@click.command(short_help="Register a bundle's model, so that its windows have names and bins.")
@options.bundle_argument
@options.public_key_option
@project_option
@database_option
@options.json_option
def add_model(
    bundle: Path, public_key: tuple[Path, ...], project: str | None, database: str | None, as_json: bool
) -> None:
    """Register the model of BUNDLE in a project: its name, version and reference profile.

    Devices make models known by themselves, too; registered ones are those that a person vouches for.

    \b
    Example:
      edgeml monitor add-model churn.edgeml --project shops
    """
    from edgeml.bundle import open_bundle
    from edgeml.fleet.registry import add_bundle

    with open_bundle(bundle, verify_with=list(public_key) or None) as opened, open_store(database) as store:
        with store.read() as connection:
            found = find_project(connection, project)
        name = str(opened.manifest["name"])
        with change(store, "model add", name, found["id"], version=opened.manifest["version"]) as connection:
            row = add_bundle(connection, found["id"], opened, by=actor(), now=time.time())
    if as_json:
        output.print_json(asdict(row) | {"project": found["name"]})
    else:
        output.line(f"model {row.name} version {row.version} is registered in {found['name']} as number {row.id}")


@click.command(short_help="List the devices of a project.")
@click.option("--search", default="", metavar="TEXT", help="Only devices whose name or id holds this text.")
@click.option("--state", type=click.Choice(("active", "revoked")), help="Only devices in this state.")
@project_option
@database_option
@options.json_option
def devices(search: str, state: str | None, project: str | None, database: str | None, as_json: bool) -> None:
    """List the devices of a project, and when each was last heard of.

    \b
    Example:
      edgeml monitor devices --search till --json
    """
    from edgeml.fleet import queries

    found: list[dict[str, Any]] = []
    with open_store(database) as store, store.read() as connection:
        where, after = find_project(connection, project)["id"], None
        while True:
            page = queries.devices(connection, where, search=search, state=state, limit=1000, after=after)
            found += page.items
            after = page.next
            if after is None:
                break
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            row["name"],
            row["state"] + (", key seen twice" if row["clone_seen"] else ""),
            moment(row["last_seen"]) or "never",
            row["id"],
        )
        for row in found
    ]
    output.table(f"Devices ({len(rows)})", ("name", "state", "last seen (UTC)", "id"), rows)


@click.command(short_help="Refuse a device from now on.")
@click.argument("device")
@project_option
@database_option
@options.json_option
def revoke(device: str, project: str | None, database: str | None, as_json: bool) -> None:
    """Refuse what DEVICE, a name or an id, sends from now on. What it sent stays.

    \b
    Example:
      edgeml monitor revoke till-7
    """
    _set_state(device, "revoked", project, database, as_json)


@click.command(short_help="Take a revoked device's batches again.")
@click.argument("device")
@project_option
@database_option
@options.json_option
def reinstate(device: str, project: str | None, database: str | None, as_json: bool) -> None:
    """Take what DEVICE, a name or an id, sends again, after it was revoked.

    \b
    Example:
      edgeml monitor reinstate till-7
    """
    _set_state(device, "active", project, database, as_json)


def _set_state(device: str, state: str, project: str | None, database: str | None, as_json: bool) -> None:
    from edgeml.fleet import queries
    from edgeml.fleet.enrol import set_device_state

    with open_store(database) as store:
        with store.read() as connection:
            where = find_project(connection, project)
            page = queries.devices(connection, where["id"], search=device, limit=1000)
        named = [row for row in page.items if device in (row["id"], row["name"])]
        if len(named) != 1:
            found = "several devices have" if named else "no device has"
            raise MonitorSettingsError(
                f"{found} the name or id {device!r} in {where['name']}", "give an id of edgeml monitor devices"
            )
        action = "device revoke" if state == "revoked" else "device reinstate"
        with change(store, action, named[0]["id"], where["id"]) as connection:
            set_device_state(connection, where["id"], named[0]["id"], state, time.time())
    if as_json:
        output.print_json({"device": named[0]["id"], "name": named[0]["name"], "state": state})
    else:
        output.line(f"device {named[0]['name']}: {state}")
