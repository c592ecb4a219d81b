"""``edgeml monitor project`` and ``user``: tenants, people, and who may do what."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from edgeml.cli import options, output
from edgeml.cli.monitor_common import (
    change,
    database_option,
    find_project,
    moment,
    open_store,
    password_option,
    project_option,
    read_password,
)
from edgeml.fleet.roles import ROLES


@click.group(short_help="Make, list and rename projects.")
def project() -> None:
    """Make, list and rename projects. Devices, models and roles belong to one; projects see nothing of each other.

    \b
    Example:
      edgeml monitor project create shops
    """


@project.command("create")
@click.argument("name")
@database_option
@options.json_option
def create_project(name: str, database: str | None, as_json: bool) -> None:
    """Make a project.

    \b
    Example:
      edgeml monitor project create shops
    """
    from edgeml.fleet import accounts

    with open_store(database) as store, change(store, "project create", name) as connection:
        made = accounts.create_project(connection, name, time.time())
    if as_json:
        output.print_json(made)
    else:
        output.line(f"project {name}, id {made['id']}")


@project.command("list")
@database_option
@options.json_option
def list_projects(database: str | None, as_json: bool) -> None:
    """List the projects.

    \b
    Example:
      edgeml monitor project list --json
    """
    from edgeml.fleet import accounts

    with open_store(database) as store, store.read() as connection:
        found = accounts.list_projects(connection, limit=100_000)
    if as_json:
        output.print_json(found)
        return
    rows = [(row["name"], row["id"], moment(row["created"])) for row in found]
    output.table("Projects", ("project", "id", "made (UTC)"), rows)


@project.command("rename")
@click.argument("name")
@click.argument("new")
@database_option
@options.json_option
def rename_project(name: str, new: str, database: str | None, as_json: bool) -> None:
    """Give the project NAME the name NEW.

    \b
    Example:
      edgeml monitor project rename shops stores
    """
    from edgeml.fleet import accounts

    with open_store(database) as store:
        with store.read() as connection:
            found = accounts.get_project(connection, name)
        with change(store, "project rename", new, found["id"]) as connection:
            made = accounts.rename_project(connection, found["id"], new)
    if as_json:
        output.print_json(made)
    else:
        output.line(f"project {new}, id {made['id']}")


@click.group(short_help="Make and change users, and their roles.")
def user() -> None:
    """Make and change users, and their roles in projects: viewer, operator or admin.

    \b
    Examples:
      edgeml monitor user create ada
      edgeml monitor user role ada operator --project shops
      edgeml monitor user password ada
    """


@user.command("create")
@click.argument("name")
@click.option("--root", is_flag=True, help="May do everything in all projects, and make projects and users.")
@password_option
@database_option
@options.json_option
def create_user(name: str, root: bool, password_file: Path | None, database: str | None, as_json: bool) -> None:
    """Make a user, with no role yet.

    \b
    Example:
      edgeml monitor user create ada --password-file ada.txt
    """
    from edgeml.fleet import accounts
    from edgeml.fleet.auth import hash_password

    with open_store(database) as store:
        hashed = hash_password(read_password(password_file, name))
        with change(store, "user create", name, root=root) as connection:
            made = accounts.create_user(connection, name, hashed, time.time(), root=root)
    if as_json:
        output.print_json(made)
    else:
        output.line(f"user {name}" + (", a root user" if root else "; give it a role: edgeml monitor user role"))


@user.command("list")
@database_option
@options.json_option
def list_users(database: str | None, as_json: bool) -> None:
    """List the users and their roles.

    \b
    Example:
      edgeml monitor user list
    """
    from edgeml.fleet import accounts

    with open_store(database) as store, store.read() as connection:
        roles: dict[str, dict[str, str]] = {}
        for row in accounts.list_projects(connection, limit=100_000):
            for member in accounts.list_members(connection, row["id"], limit=100_000):
                roles.setdefault(member["name"], {})[row["name"]] = member["role"]
        found = [row | {"roles": roles.get(row["name"], {})} for row in accounts.list_users(connection, limit=100_000)]
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            row["name"],
            "disabled" if row["disabled"] else "root" if row["root"] else "user",
            ", ".join(f"{role} in {name}" for name, role in row["roles"].items()) or None,
        )
        for row in found
    ]
    output.table("Users", ("user", "state", "roles"), rows)


@user.command("role")
@click.argument("name")
@click.argument("role", type=click.Choice([*ROLES, "none"]))
@project_option
@database_option
@options.json_option
def set_role(name: str, role: str, project: str | None, database: str | None, as_json: bool) -> None:
    """Give the user NAME a ROLE in a project: viewer, operator, admin, or none.

    \b
    Example:
      edgeml monitor user role ada operator --project shops
    """
    from edgeml.fleet import accounts

    with open_store(database) as store:
        with store.read() as connection:
            found = find_project(connection, project)
        action = "member remove" if role == "none" else "member set"
        with change(store, action, name, found["id"], role=role) as connection:
            if role == "none":
                accounts.remove_member(connection, found["id"], name)
            else:
                accounts.set_member(connection, found["id"], name, role)
    if as_json:
        output.print_json({"name": name, "project": found["name"], "role": None if role == "none" else role})
    else:
        output.line(f"{name}: {role} in {found['name']}")


@user.command("password")
@click.argument("name")
@password_option
@database_option
@options.json_option
def set_password(name: str, password_file: Path | None, database: str | None, as_json: bool) -> None:
    """Set the password of the user NAME, and end its sessions.

    \b
    Example:
      edgeml monitor user password ada
    """
    from edgeml.fleet import accounts
    from edgeml.fleet.auth import hash_password

    with open_store(database) as store:
        with store.read() as connection:
            accounts.get_user(connection, name)
        hashed = hash_password(read_password(password_file, name))
        with change(store, "user change", name, password="new") as connection:
            made = accounts.change_user(connection, name, time.time(), password_hash=hashed)
    if as_json:
        output.print_json(made)
    else:
        output.line(f"user {name}: the password is set, sessions are ended")


@user.command("change")
@click.argument("name")
@click.option("--disable/--enable", "disabled", default=None, help="Whether it may log in.")
@click.option("--root/--no-root", "root", default=None, help="Whether it is a root user.")
@database_option
@options.json_option
def change_user(name: str, disabled: bool | None, root: bool | None, database: str | None, as_json: bool) -> None:
    """Disable or enable the user NAME, or make it a root user or none. The last root user stays.

    \b
    Example:
      edgeml monitor user change ada --disable
    """
    from edgeml.fleet import accounts

    said: dict[str, Any] = {key: value for key, value in (("disabled", disabled), ("root", root)) if value is not None}
    with open_store(database) as store, change(store, "user change", name, **said) as connection:
        made = accounts.change_user(connection, name, time.time(), disabled=disabled, root=root)
    if as_json:
        output.print_json(made)
    else:
        output.line(f"user {name}: {'disabled' if made['disabled'] else 'root' if made['root'] else 'enabled'}")


@user.command("delete")
@click.argument("name")
@database_option
@options.json_option
def delete_user(name: str, database: str | None, as_json: bool) -> None:
    """Forget the user NAME; the audit log keeps the name.

    \b
    Example:
      edgeml monitor user delete ada
    """
    from edgeml.fleet import accounts

    with open_store(database) as store, change(store, "user delete", name) as connection:
        accounts.delete_user(connection, name)
    if as_json:
        output.print_json({"deleted": name})
    else:
        output.line(f"user {name} is gone")
