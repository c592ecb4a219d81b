"""Routes of people: log in and out, one's own password, and the users that root users make.

A wrong name, a wrong password and a disabled user are refused in the same words after the same work. Guesses are
limited by address and by name; every refused log-in stands in the audit log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from fastapi import Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, Field
from sqlalchemy import select

from edgeml.errors import MonitorSettingsError, RequestError
from edgeml.fleet import access, accounts, tables
from edgeml.fleet.auth import MAX_PASSWORD_CHARACTERS, hash_password, password_matches
from edgeml.fleet.limits import address_key
from edgeml.fleet.monitor import Monitor
from edgeml.fleet.routes_common import (
    CONFLICT,
    Do,
    Doing,
    Error,
    Form,
    Name,
    Paged,
    UserName,
    checked_router,
    next_name,
    too_often,
)

open_router = checked_router(signed_in=False)
router = checked_router()

Password = Annotated[
    str, Field(min_length=1, max_length=MAX_PASSWORD_CHARACTERS, json_schema_extra={"format": "password"})
]
T = TypeVar("T")


class Login(Form):
    name: Annotated[str, Field(min_length=1, max_length=100)]
    password: Password


class Session(BaseModel):
    """``token`` goes into the header Authorization: Bearer, until ``expires`` (seconds since 1970)."""

    token: str
    expires: float


class Role(BaseModel):
    project: str
    role: str


class Me(BaseModel):
    """Who calls: a user's session, or a token of a program; and what it may do where."""

    kind: str
    name: str
    root: bool
    roles: list[Role]
    expires: float | None


class PasswordChange(Form):
    old: Password
    new: Password


class NewUser(Form):
    name: Name
    password: Password
    root: bool = False


class UserChange(Form):
    """What is left out stays. A new password, or disabling, ends the user's sessions."""

    password: Password | None = None
    root: bool | None = None
    disabled: bool | None = None


class User(BaseModel):
    id: str
    name: str
    root: bool
    disabled: bool
    created: float


class Users(BaseModel):
    items: list[User]
    next: str | None


# --- sessions
@open_router.post("/v1/login", responses={401: {"model": Error}, **CONFLICT})
async def login(form: Login, do: Do) -> Session:
    """A session for a person."""
    monitor, limits = do.monitor, do.monitor.limits
    address, name = address_key(do.address), form.name.casefold()
    wait = limits.login_address.take(address) or limits.login_name.take(name)
    if wait:
        monitor.metrics.login("too often")
        raise too_often(wait, "log-ins")
    session = await _hashing(monitor, _log_in, do, form)
    if session is None:
        monitor.metrics.login("refused")
        raise RequestError(
            "name or password is wrong", "check both", status=401, code="unauthorized",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    limits.login_address.give_back(address)
    limits.login_name.give_back(name)
    monitor.metrics.login("accepted")
    return session


def _log_in(do: Doing, form: Login) -> Session | None:
    users = tables.users.c
    # PostgreSQL takes no NUL in a text, and half a surrogate pair is none.
    name = form.name if form.name.isprintable() else ""
    with do.read() as connection:
        row = connection.execute(
            select(users.id, users.password_hash, users.disabled).where(users.name == name)
        ).one_or_none()
    right = password_matches(form.password, row.password_hash if row else None)
    if row is None or not right or row.disabled:
        # What was given as an unknown name may be a password in the wrong field.
        with do.change("login refused", name if row else "unknown name"):
            return None
    with do.change("login", name) as change:
        if change.connection.scalar(select(users.password_hash).where(users.id == row.id)) != row.password_hash:
            raise RequestError("the password was changed meanwhile", "log in again", status=409, code="changed")
        token, expires = access.open_session(change.connection, row.id, do.now, do.monitor.settings.session_seconds)
    return Session(token=token, expires=expires)


@router.post("/v1/logout", status_code=204)
def logout(do: Do) -> Response:
    """End the session that asks."""
    with do.change("logout", do.someone.name) as change:
        access.end_sessions(change.connection, do.someone.id, do.now, only=do.someone.token_id)
    return Response(status_code=204)


@router.get("/v1/me")
def me(do: Do) -> Me:
    """Who calls, and what it may do."""
    who = do.someone
    roles = [Role(project=project, role=role) for project, role in sorted(who.roles.items())]
    return Me(kind=who.kind, name=who.name, root=who.root, roles=roles, expires=who.expires)


@router.post("/v1/me/password", status_code=204)
async def change_own_password(form: PasswordChange, do: Do) -> Response:
    """Set one's own password, and end one's other sessions."""
    address = address_key(do.address)
    wait = do.monitor.limits.login_address.take(address)
    if wait:
        raise too_often(wait, "passwords")
    await _hashing(do.monitor, _change_own, do, form)
    do.monitor.limits.login_address.give_back(address)
    return Response(status_code=204)


def _change_own(do: Doing, form: PasswordChange) -> None:
    who = do.someone
    with do.read() as connection:
        kept = connection.scalar(select(tables.users.c.password_hash).where(tables.users.c.id == who.id))
    if not password_matches(form.old, kept):
        with do.change("password change refused", who.name):
            pass
        raise RequestError("the old password is wrong", "check it", status=403, code="forbidden")
    made = hashed(form.new)
    with do.change("password change", who.name) as change:
        accounts.change_user(change.connection, who.name, do.now, password_hash=made, keep_session=who.token_id)


# --- users, for root users
@router.get("/v1/users")
def list_users(paging: Paged, do: Do) -> Users:
    """All users, by name."""
    with do.read() as connection:
        found = accounts.list_users(connection, limit=paging.limit, after=paging.after)
    return Users(items=[User(**row) for row in found], next=next_name(found, paging))


@router.post("/v1/users", status_code=201, responses=CONFLICT)
async def create_user(form: NewUser, do: Do) -> User:
    """A new user, with no role yet."""
    made = await _hashing(do.monitor, hashed, form.password)

    def create() -> User:
        with do.change("user create", form.name, root=form.root) as change:
            return User(**accounts.create_user(change.connection, form.name, made, do.now, root=form.root))

    return await run_in_threadpool(create)


@router.get("/v1/users/{name}")
def get_user(name: UserName, do: Do) -> User:
    """One user."""
    with do.read() as connection:
        return User(**accounts.get_user(connection, name))


@router.patch("/v1/users/{name}", responses=CONFLICT)
async def change_user(name: UserName, form: UserChange, do: Do) -> User:
    """Set a user's password, or whether it is a root user, or disabled."""
    made = None if form.password is None else await _hashing(do.monitor, hashed, form.password)
    said = form.model_dump(exclude={"password"}, exclude_none=True) | ({"password": "new"} if made else {})

    def change_it() -> User:
        with do.change("user change", name, **said) as change:
            row = accounts.change_user(
                change.connection, name, do.now, root=form.root, disabled=form.disabled, password_hash=made
            )
            return User(**row)

    return await run_in_threadpool(change_it)


@router.delete("/v1/users/{name}", status_code=204, responses=CONFLICT)
def delete_user(name: UserName, do: Do) -> Response:
    """Forget a user. The audit log keeps the name."""
    with do.change("user delete", name) as change:
        accounts.delete_user(change.connection, name)
    return Response(status_code=204)


def hashed(password: str) -> str:
    """The hash of a new password. Raises RequestError for one that is too weak."""
    try:
        return hash_password(password)
    except MonitorSettingsError as error:
        raise RequestError(error.cause, error.remedy, status=422, code="invalid") from None


async def _hashing(monitor: Monitor, function: Callable[..., T], *args: Any) -> T:
    """Run what hashes a password in its own threads, of which there are few. Raises RequestError when many wait."""
    if not monitor.hash_queue.acquire(blocking=False):
        raise RequestError(
            "too many log-ins at once", "try again", status=503, code="busy", headers={"Retry-After": "2"}
        )
    try:
        return await asyncio.get_running_loop().run_in_executor(monitor.hashing, function, *args)
    finally:
        monitor.hash_queue.release()
