"""Routes of projects, the tenants: made by root users, and in each its members, programs' tokens and enrolment tokens.

A token's text is in the answer that makes it, and nowhere else.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Response
from pydantic import BaseModel, Field

from edgeml.fleet import accounts
from edgeml.fleet.enrol import create_enrolment_token
from edgeml.fleet.routes_common import (
    CONFLICT,
    Do,
    Doing,
    Form,
    Name,
    Paged,
    Paging,
    ProjectId,
    TokenId,
    UserName,
    checked_router,
    next_name,
)

router = checked_router()

ProjectName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9])?$", min_length=1, max_length=100)
]
RoleName = Annotated[str, Field(pattern=r"^(viewer|operator|admin)$")]
Expiry = Annotated[float | None, Field(description="Seconds since 1970; null: never.", ge=0, le=1e11)]


class ProjectForm(Form):
    name: ProjectName


class Project(BaseModel):
    id: str
    name: str
    created: float


class Projects(BaseModel):
    items: list[Project]
    next: str | None


class MemberForm(Form):
    role: RoleName


class Member(BaseModel):
    name: str
    role: str
    disabled: bool


class Members(BaseModel):
    items: list[Member]
    next: str | None


class TokenForm(Form):
    name: Name
    role: RoleName
    expires: Expiry = None


class Token(BaseModel):
    id: str
    name: str
    role: str | None
    created: float
    expires: float | None
    revoked: float | None


class Tokens(BaseModel):
    items: list[Token]
    next: str | None


class NewToken(BaseModel):
    """``token`` is shown here, and never again."""

    id: str
    name: str
    role: str | None
    created: float
    expires: float | None
    token: str


class MetricsTokenForm(Form):
    name: Name
    expires: Expiry = None


class EnrolmentTokenForm(Form):
    """``max_uses`` 1 for one device, null for a fleet."""

    name: Name
    max_uses: Annotated[int | None, Field(ge=1, le=1_000_000)] = 1
    expires: Expiry = None


class EnrolmentToken(BaseModel):
    id: str
    name: str
    max_uses: int | None
    uses: int
    created: float
    expires: float | None
    revoked: float | None


class EnrolmentTokens(BaseModel):
    items: list[EnrolmentToken]
    next: str | None


class NewEnrolmentToken(BaseModel):
    """``token`` is shown here, and never again."""

    name: str
    max_uses: int | None
    expires: float | None
    token: str


# --- projects
@router.get("/v1/projects")
def list_projects(paging: Paged, do: Do) -> Projects:
    """The caller's projects, by name."""
    only = None if do.someone.root else sorted(do.someone.roles)
    with do.read() as connection:
        found = accounts.list_projects(connection, only=only, limit=paging.limit, after=paging.after)
    return Projects(items=[Project(**row) for row in found], next=next_name(found, paging))


@router.post("/v1/projects", status_code=201, responses=CONFLICT)
def create_project(form: ProjectForm, do: Do) -> Project:
    """A new project, empty."""
    with do.change("project create", form.name) as change:
        made = Project(**accounts.create_project(change.connection, form.name, do.now))
        change.detail["id"] = made.id
    return made


@router.get("/v1/projects/{project}")
def get_project(project: ProjectId, do: Do) -> Project:
    """One project."""
    with do.read() as connection:
        return Project(**accounts.get_project(connection, project))


@router.patch("/v1/projects/{project}", responses=CONFLICT)
def rename_project(project: ProjectId, form: ProjectForm, do: Do) -> Project:
    """Give a project another name."""
    with do.change("project rename", form.name, project) as change:
        return Project(**accounts.rename_project(change.connection, project, form.name))


# --- members
@router.get("/v1/projects/{project}/members")
def list_members(project: ProjectId, paging: Paged, do: Do) -> Members:
    """Who has a role in the project, by name."""
    with do.read() as connection:
        found = accounts.list_members(connection, project, limit=paging.limit, after=paging.after)
    return Members(items=[Member(**row) for row in found], next=next_name(found, paging))


@router.put("/v1/projects/{project}/members/{name}")
def set_member(project: ProjectId, name: UserName, form: MemberForm, do: Do) -> Member:
    """Give a user a role in the project, in place of the one it has."""
    with do.change("member set", name, project, role=form.role) as change:
        return Member(**accounts.set_member(change.connection, project, name, form.role))


@router.delete("/v1/projects/{project}/members/{name}", status_code=204)
def remove_member(project: ProjectId, name: UserName, do: Do) -> Response:
    """Take a user's role in the project away."""
    with do.change("member remove", name, project) as change:
        accounts.remove_member(change.connection, project, name)
    return Response(status_code=204)


# --- tokens of programs
@router.get("/v1/projects/{project}/tokens")
def list_tokens(project: ProjectId, paging: Paged, do: Do) -> Tokens:
    """The project's tokens, without their secrets."""
    return _tokens(do, project, paging)


@router.post("/v1/projects/{project}/tokens", status_code=201)
def create_token(project: ProjectId, form: TokenForm, do: Do) -> NewToken:
    """A token for a program, with a role in this project."""
    return _new_token(do, project, form.name, form.role, form.expires)


@router.delete("/v1/projects/{project}/tokens/{token}", status_code=204)
def revoke_token(project: ProjectId, token: TokenId, do: Do) -> Response:
    """End a token."""
    with do.change("token revoke", token, project) as change:
        accounts.revoke_token(change.connection, project, token, do.now)
    return Response(status_code=204)


# --- tokens for /metrics, which is about all projects
@router.get("/v1/metrics-tokens")
def list_metrics_tokens(paging: Paged, do: Do) -> Tokens:
    """Tokens that may read /metrics and nothing else, without their secrets."""
    return _tokens(do, None, paging)


@router.post("/v1/metrics-tokens", status_code=201)
def create_metrics_token(form: MetricsTokenForm, do: Do) -> NewToken:
    """A token that may read /metrics and nothing else."""
    return _new_token(do, None, form.name, None, form.expires)


@router.delete("/v1/metrics-tokens/{token}", status_code=204)
def revoke_metrics_token(token: TokenId, do: Do) -> Response:
    """End a token for /metrics."""
    with do.change("token revoke", token) as change:
        accounts.revoke_token(change.connection, None, token, do.now)
    return Response(status_code=204)


# --- enrolment tokens
@router.get("/v1/projects/{project}/enrolment-tokens")
def list_enrolment_tokens(project: ProjectId, paging: Paged, do: Do) -> EnrolmentTokens:
    """The project's enrolment tokens, without their secrets."""
    with do.read() as connection:
        found = accounts.list_enrolment_tokens(connection, project, limit=paging.limit, after=paging.after)
    return EnrolmentTokens(items=[EnrolmentToken(**row) for row in found], next=next_name(found, paging, "id"))


@router.post("/v1/projects/{project}/enrolment-tokens", status_code=201)
def new_enrolment_token(project: ProjectId, form: EnrolmentTokenForm, do: Do) -> NewEnrolmentToken:
    """A token that devices enrol with: once, so many times, or as often as they like."""
    accounts.check_expiry(form.expires, do.now)
    known: dict[str, Any] = form.model_dump()
    with do.change("enrolment token create", form.name, project, max_uses=form.max_uses) as change:
        text = create_enrolment_token(change.connection, project, now=do.now, **known)
        change.detail["id"] = text.split("_")[1]
    return NewEnrolmentToken(**known, token=text)


@router.delete("/v1/projects/{project}/enrolment-tokens/{token}", status_code=204)
def revoke_enrolment_token(project: ProjectId, token: TokenId, do: Do) -> Response:
    """End an enrolment token; devices that enrolled with it stay."""
    with do.change("enrolment token revoke", token, project) as change:
        accounts.revoke_enrolment_token(change.connection, project, token, do.now)
    return Response(status_code=204)


def _tokens(do: Doing, project: str | None, paging: Paging) -> Tokens:
    with do.read() as connection:
        found = accounts.list_tokens(connection, project, limit=paging.limit, after=paging.after)
    return Tokens(items=[Token(**row) for row in found], next=next_name(found, paging, "id"))


def _new_token(do: Doing, project: str | None, name: str, role: str | None, expires: float | None) -> NewToken:
    with do.change("token create", name, project, role=role) as change:
        made = accounts.create_token(change.connection, project, name=name, role=role, expires=expires, now=do.now)
        change.detail["id"] = made["id"]
    return NewToken(**made)
