"""Who is calling, and may they: access tokens and sessions looked up in the database, and the decision by roles.py.

``authenticate`` makes a ``Caller`` of an Authorization header; ``authorise`` raises the refusal. To whoever has no role
in a project it does not exist: the answer is 404, as for a project that there is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from edgeml.errors import RequestError
from edgeml.fleet import auth, roles, tables


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request comes from. ``roles`` is by id of project; a root user is admin in all of them."""

    kind: str  # "user", "token", or "metrics" for a token that may read /metrics and nothing else
    id: str
    name: str
    token_id: str
    root: bool = False
    roles: Mapping[str, str] = field(default_factory=dict)
    expires: float | None = None

    @property
    def actor(self) -> str:
        """What the audit log calls it."""
        return f"{self.kind}:{self.name}"

    def role(self, project: str) -> str | None:
        """Its role in a project, or None."""
        return "admin" if self.root else self.roles.get(project)


def authenticate(connection: Connection, header: str | None, now: float) -> Caller | None:
    """The caller that an Authorization header names, or None when it names nobody: malformed, unknown, wrong,
    expired, revoked, and of a disabled user alike.
    """
    scheme, _, text = (header or "").partition(" ")
    parts = auth.split_token(text.strip()) if scheme.lower() == "bearer" else None
    if parts is None:
        return None
    tokens, users = tables.access_tokens, tables.users
    row = connection.execute(
        select(tokens, users.c.name.label("user_name"), users.c.root, users.c.disabled)
        .select_from(tokens.outerjoin(users, tokens.c.user_id == users.c.id))
        .where(tokens.c.id == parts[0])
    ).one_or_none()
    if not auth.token_matches(parts[1], row.salt if row else None, row.hash if row else None) or row is None:
        return None
    if row.revoked is not None or (row.expires is not None and row.expires <= now):
        return None
    if row.user_id is None:
        kind = "token" if row.project_id else "metrics"
        granted = {row.project_id: row.role} if row.project_id else {}
        return Caller(kind, row.id, row.name, row.id, roles=granted, expires=row.expires)
    if row.disabled:
        return None
    members = tables.memberships.c
    found = connection.execute(select(members.project_id, members.role).where(members.user_id == row.user_id))
    granted = {row.project_id: row.role for row in found}
    return Caller("user", row.user_id, row.user_name, row.id, bool(row.root), granted, row.expires)


def authorise(caller: Caller | None, least: str, project: str | None, *, exists: bool = True) -> None:
    """Raises RequestError (401, 403 or 404) unless ``caller`` is at least ``least``; ``project`` is the path's.

    ``exists`` is false for a project that there is not, which matters for root users only.
    """
    if least == roles.ANYONE:
        return
    if caller is None:
        raise RequestError(
            "no valid credentials came with the request",
            "log in, or give a token that is neither expired nor revoked: Authorization: Bearer em_…",
            status=401,
            code="unauthorized",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if project is not None and (caller.role(project) is None or not exists):
        raise not_found("project")
    allowed = {
        roles.METRICS: caller.root or caller.kind == "metrics",
        roles.SIGNED_IN: caller.kind != "metrics",
        roles.USER: caller.kind == "user",
        roles.ROOT: caller.root,
    }.get(least)
    if allowed is None:
        allowed = project is not None and roles.reaches(caller.role(project), least)
    if not allowed:
        raise RequestError(
            f"this needs the role {least!r}", "ask an admin of the project", status=403, code="forbidden"
        )


def not_found(what: str) -> RequestError:
    """The refusal for what is not there, or not the caller's to see."""
    return RequestError(f"there is no such {what}", "check its id, and the project's", status=404, code="not_found")


def open_session(connection: Connection, user_id: str, now: float, seconds: float) -> tuple[str, float]:
    """A token for a person who has logged in, and when it expires."""
    made, expires = auth.new_token(), now + seconds
    tokens = tables.access_tokens.c
    # Here, so that sessions that nobody ends do not pile up.
    connection.execute(delete(tables.access_tokens).where(tokens.user_id == user_id, tokens.expires < now))
    connection.execute(
        insert(tables.access_tokens).values(
            id=made.id, salt=made.salt, hash=made.hash, name="session", user_id=user_id, created=now, expires=expires
        )
    )
    return made.text, expires


def end_sessions(
    connection: Connection, user_id: str, now: float, *, but: str | None = None, only: str | None = None
) -> None:
    """End the sessions of a user: all, all but one token's, or only one token's."""
    tokens = tables.access_tokens.c
    ended = update(tables.access_tokens).where(tokens.user_id == user_id, tokens.revoked.is_(None)).values(revoked=now)
    if but is not None:
        ended = ended.where(tokens.id != but)
    if only is not None:
        ended = ended.where(tokens.id == only)
    connection.execute(ended)


def audit(
    connection: Connection,
    *,
    now: float,
    actor: str,
    action: str,
    target: str,
    project: str | None = None,
    address: str = "",
    **detail: Any,
) -> None:
    """Write one line of the audit log, in the transaction of what it tells of. ``detail`` never holds a secret."""
    connection.execute(
        insert(tables.audit).values(
            at=now,
            project_id=project,
            actor=actor[:150],
            action=action[:60],
            target=target[:200],
            detail=detail,
            address=address[:60],
        )
    )
