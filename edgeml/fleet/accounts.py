"""Projects, users, their roles, and the tokens of programs: made, listed, changed and ended.

Every function works inside the caller's transaction; the API's routes and the command line call the same ones, and
write the audit log beside them. Raises RequestError for what is there already or not at all.
"""

from __future__ import annotations

import re
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from edgeml.errors import RequestError
from edgeml.fleet import tables
from edgeml.fleet.access import end_sessions, not_found
from edgeml.fleet.auth import new_id, new_token
from edgeml.fleet.roles import ROLES

# Names stand in paths, logs and terminals. The first character keeps them apart from options.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,99}")
PROJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,98}[A-Za-z0-9]|[A-Za-z0-9]")
_HEX = re.compile(r"[0-9a-f]{32}")

Row = dict[str, Any]


# --- projects
def create_project(connection: Connection, name: str, now: float) -> Row:
    """A new project, ``{"id", "name", "created"}``."""
    _check(PROJECT_NAME, name, "a project's name: letters, digits, space, dot, dash, underscore; at most 100")
    if _HEX.fullmatch(name):
        raise _refused(422, "invalid", "a project's name may not look like an id", "choose another name")
    row = {"id": new_id(), "name": name, "created": now}
    _insert(connection, tables.projects, row, f"a project named {name!r}")
    return row


def rename_project(connection: Connection, project: str, name: str) -> Row:
    """The project with its new name."""
    _check(PROJECT_NAME, name, "a project's name: letters, digits, space, dot, dash, underscore; at most 100")
    table = tables.projects
    try:
        with connection.begin_nested():
            connection.execute(update(table).where(table.c.id == project).values(name=name))
    except IntegrityError:
        raise _refused(409, "exists", f"there is a project named {name!r}", "choose another name") from None
    return get_project(connection, project)


def get_project(connection: Connection, project: str) -> Row:
    """A project by its id, or by its name."""
    column = tables.projects.c.id if _HEX.fullmatch(project) else tables.projects.c.name
    row = connection.execute(select(tables.projects).where(column == project)).one_or_none()
    if row is None:
        raise not_found("project")
    return dict(row._mapping)


def list_projects(
    connection: Connection, *, only: list[str] | None = None, limit: int = 100, after: str | None = None
) -> list[Row]:
    """Projects by name; ``only`` the ids given, or all; those after the name ``after``."""
    table = tables.projects
    query = select(table).order_by(table.c.name).limit(limit)
    if only is not None:
        query = query.where(table.c.id.in_(only))
    if after is not None:
        query = query.where(table.c.name > after)
    return [dict(row._mapping) for row in connection.execute(query)]


# --- users
_SHOWN = (tables.users.c.id, tables.users.c.name, tables.users.c.root, tables.users.c.disabled, tables.users.c.created)


def create_user(connection: Connection, name: str, password_hash: str, now: float, *, root: bool = False) -> Row:
    """A new user; ``password_hash`` is of ``auth.hash_password``, called before the transaction began."""
    check_name(name)
    row = {
        "id": new_id(),
        "name": name,
        "password_hash": password_hash,
        "root": root,
        "disabled": False,
        "created": now,
    }
    _insert(connection, tables.users, row, f"a user named {name!r}")
    del row["password_hash"]
    return row


def get_user(connection: Connection, name: str) -> Row:
    """A user by name, without the password."""
    row = connection.execute(select(*_SHOWN).where(tables.users.c.name == name)).one_or_none()
    if row is None:
        raise not_found("user")
    return dict(row._mapping)


def list_users(connection: Connection, *, limit: int = 100, after: str | None = None) -> list[Row]:
    """Users by name, those after the name ``after``."""
    query = select(*_SHOWN).order_by(tables.users.c.name).limit(limit)
    if after is not None:
        query = query.where(tables.users.c.name > after)
    return [dict(row._mapping) for row in connection.execute(query)]


def change_user(
    connection: Connection,
    name: str,
    now: float,
    *,
    root: bool | None = None,
    disabled: bool | None = None,
    password_hash: str | None = None,
    keep_session: str | None = None,
) -> Row:
    """Change what is given. A new password or ``disabled`` ends the user's sessions, but ``keep_session``."""
    user = get_user(connection, name)
    values: Row = {}
    if root is not None:
        values["root"] = root
    if disabled is not None:
        values["disabled"] = disabled
    if user["root"] and (root is False or disabled is True):
        _keep_a_root(connection, user["id"])
    if password_hash is not None:
        values["password_hash"] = password_hash
    if values:
        connection.execute(update(tables.users).where(tables.users.c.id == user["id"]).values(**values))
    if password_hash is not None or disabled:
        end_sessions(connection, user["id"], now, but=keep_session)
    return get_user(connection, name)


def delete_user(connection: Connection, name: str) -> None:
    """Forget a user, with sessions and roles; the audit log keeps the name."""
    user = get_user(connection, name)
    if user["root"]:
        _keep_a_root(connection, user["id"])
    connection.execute(delete(tables.users).where(tables.users.c.id == user["id"]))


def _keep_a_root(connection: Connection, user_id: str) -> None:
    users = tables.users.c
    # Locked, so that two root users cannot end each other at once.
    roots = select(users.id).where(users.root.is_(True), users.disabled.is_(False)).with_for_update()
    if not set(connection.scalars(roots)) - {user_id}:
        raise _refused(409, "last_root", "no other root user would be left", "make another root user first")


# --- members
def set_member(connection: Connection, project: str, name: str, role: str) -> Row:
    """Give a user a role in a project, in place of the one it has."""
    if role not in ROLES:
        raise _refused(422, "invalid", f"there is no role {role[:20]!r}", f"one of {', '.join(ROLES)}")
    user = get_user(connection, name)
    members = tables.memberships
    changed = update(members).where(members.c.project_id == project, members.c.user_id == user["id"]).values(role=role)
    if not connection.execute(changed).rowcount:
        try:
            with connection.begin_nested():
                connection.execute(insert(members).values(user_id=user["id"], project_id=project, role=role))
        except IntegrityError:  # another request was first
            connection.execute(changed)
    return {"name": user["name"], "role": role, "disabled": user["disabled"]}


def remove_member(connection: Connection, project: str, name: str) -> None:
    """Take a user's role in a project away."""
    members = tables.memberships
    user_id = select(tables.users.c.id).where(tables.users.c.name == name).scalar_subquery()
    gone = delete(members).where(members.c.project_id == project, members.c.user_id == user_id)
    if not connection.execute(gone).rowcount:
        raise not_found("member")


def list_members(connection: Connection, project: str, *, limit: int = 100, after: str | None = None) -> list[Row]:
    """Who has a role in a project, ``{"name", "role", "disabled"}`` by name."""
    members, users = tables.memberships.c, tables.users.c
    query = (
        select(users.name, members.role, users.disabled)
        .where(members.user_id == users.id, members.project_id == project)
        .order_by(users.name)
        .limit(limit)
    )
    if after is not None:
        query = query.where(users.name > after)
    return [dict(row._mapping) for row in connection.execute(query)]


# --- tokens: of programs (in a project, with a role) and for /metrics (in none)
def create_token(
    connection: Connection, project: str | None, *, name: str, role: str | None, expires: float | None, now: float
) -> Row:
    """A new access token; ``"token"`` of the answer is its text, which is not kept."""
    check_name(name)
    if role is not None and role not in ROLES:
        raise _refused(422, "invalid", f"there is no role {role[:20]!r}", f"one of {', '.join(ROLES)}")
    check_expiry(expires, now)
    made = new_token()
    row = {"id": made.id, "name": name, "project_id": project, "role": role, "created": now, "expires": expires}
    connection.execute(insert(tables.access_tokens).values(**row, salt=made.salt, hash=made.hash))
    return {"id": made.id, "name": name, "role": role, "created": now, "expires": expires, "token": made.text}


def list_tokens(
    connection: Connection, project: str | None, *, limit: int = 100, after: str | None = None
) -> list[Row]:
    """Access tokens of a project, or those for /metrics, by id; never their secrets."""
    return _list_tokens(connection, tables.access_tokens, ("role",), project, limit, after)


def revoke_token(connection: Connection, project: str | None, token: str, now: float) -> None:
    """End an access token."""
    _revoke(connection, tables.access_tokens, project, token, now)


def list_enrolment_tokens(
    connection: Connection, project: str, *, limit: int = 100, after: str | None = None
) -> list[Row]:
    """Enrolment tokens of a project, by id; never their secrets."""
    return _list_tokens(connection, tables.enrolment_tokens, ("max_uses", "uses"), project, limit, after)


def revoke_enrolment_token(connection: Connection, project: str, token: str, now: float) -> None:
    """End an enrolment token; devices that enrolled with it stay."""
    _revoke(connection, tables.enrolment_tokens, project, token, now)


def _list_tokens(
    connection: Connection, table: Table, more: tuple[str, ...], project: str | None, limit: int, after: str | None
) -> list[Row]:
    columns = [table.c[name] for name in ("id", "name", "created", "expires", "revoked", *more)]
    query = select(*columns).where(table.c.project_id == project).order_by(table.c.id).limit(limit)
    if "user_id" in table.c:
        query = query.where(table.c.user_id.is_(None))  # sessions are no tokens of a program
    if after is not None:
        query = query.where(table.c.id > after)
    return [dict(row._mapping) for row in connection.execute(query)]


def _revoke(connection: Connection, table: Table, project: str | None, token: str, now: float) -> None:
    ended = update(table).where(table.c.id == token, table.c.project_id == project).values(revoked=now)
    if "user_id" in table.c:
        ended = ended.where(table.c.user_id.is_(None))
    if not connection.execute(ended.where(table.c.revoked.is_(None))).rowcount:
        raise not_found("token in use")


# --- devices: what people say of them
def describe_device(
    connection: Connection, project: str, device: str, *, name: str | None, labels: dict[str, str] | None
) -> None:
    """Change the name or the labels of a device."""
    devices = tables.devices
    values: Row = {}
    if name is not None:
        values["name"] = name
    if labels is not None:
        values["labels"] = labels
    if not values:
        return
    changed = update(devices).where(devices.c.id == device, devices.c.project_id == project).values(**values)
    if not connection.execute(changed).rowcount:
        raise not_found("device")


def check_name(name: str) -> None:
    """Raises RequestError for a name of a user or token that could not stand in a path or a log."""
    _check(NAME, name, "a name: letters, digits and . _ @ + -, beginning with a letter or digit; at most 100")


def check_expiry(expires: float | None, now: float) -> None:
    """Raises RequestError for a time that has passed."""
    if expires is not None and not now < expires < now + 100 * 366 * 86400:
        raise _refused(422, "invalid", "the time of expiry is not in the future", "give seconds since 1970")


def _insert(connection: Connection, table: Table, row: Row, what: str) -> None:
    try:
        with connection.begin_nested():  # so that on PostgreSQL the transaction outlives the refusal
            connection.execute(insert(table).values(row))
    except IntegrityError:
        raise _refused(409, "exists", f"there already is {what}", "choose another name") from None


def _check(pattern: re.Pattern[str], text: str, form: str) -> None:
    if not pattern.fullmatch(text):
        raise _refused(422, "invalid", f"{text[:100]!r} is not {form}", "choose another name")


def _refused(status: int, code: str, cause: str, remedy: str) -> RequestError:
    return RequestError(cause, remedy, status=status, code=code)
