"""What all routes share: the check of the caller before a body is read, strict JSON, changes with their audit line.

``CheckedRoute`` is the class of every route that FastAPI makes here. It looks its own least role up in ``roles.py``
when it is made, so that a route without one cannot exist.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection

from edgeml.errors import JSONError, RequestError
from edgeml.fleet import access, accounts, roles
from edgeml.fleet.access import Caller
from edgeml.fleet.limits import address_key
from edgeml.fleet.monitor import Monitor
from edgeml.fleet.protocol import body_limit
from edgeml.jsonutil import loads

# What stands in the way of a terminal or of PostgreSQL, which takes no NUL in a text, is refused by the description.
PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
HEX = r"^[0-9a-f]{32}$"
MAX_ID = 2**53 - 1
_HEX = re.compile(r"[0-9a-f]{32}")

ProjectId = Annotated[str, Path(pattern=HEX, description="Id of a project.", examples=["0" * 32])]
DeviceId = Annotated[str, Path(pattern=HEX, description="Id of a device.", examples=["0" * 32])]
TokenId = Annotated[str, Path(pattern=HEX, description="Id of a token, its public half.", examples=["0" * 32])]
ModelId = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of a model.", examples=[1])]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$", min_length=1, max_length=100)]
UserName = Annotated[
    str, Path(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$", max_length=100, description="A user's name.", examples=["ada"])
]

_NOT_READ = object()
_bearer = HTTPBearer(auto_error=False, scheme_name="token", description="A session's or a program's token, em_…")


class Form(BaseModel):
    """Base of what is sent: unknown fields are refused, so that a misspelt one is not dropped in silence."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Error(BaseModel):
    """Every refusal: ``error`` for programs, ``cause`` and ``remedy`` for people."""

    model_config = ConfigDict(extra="allow")
    error: str
    cause: str
    remedy: str


CONFLICT: dict[int | str, dict[str, Any]] = {409: {"model": Error, "description": "It is there already."}}


class Paging(Form):
    """A part of a list: at most ``limit`` entries, those after the entry that the last part's ``next`` names."""

    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: Annotated[str | None, Field(max_length=300, pattern=PRINTABLE)] = None


@dataclass
class Change:
    """A change under way: its transaction, and what the audit log will say of it."""

    connection: Connection
    target: str
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Doing:
    """One request's view of the server. ``caller`` is None on routes for anyone."""

    monitor: Monitor
    caller: Caller | None
    address: str
    now: float

    @property
    def someone(self) -> Caller:
        """The caller of a route that is not for anyone."""
        assert self.caller is not None
        return self.caller

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self.monitor.store.read() as connection:
            yield connection

    @contextmanager
    def change(self, action: str, target: str, project: str | None = None, **detail: Any) -> Iterator[Change]:
        """A transaction that changes something, and writes so in the audit log."""
        with self.monitor.store.write() as connection:
            change = Change(connection, target, detail)
            yield change
            access.audit(
                connection,
                now=self.now,
                actor=self.caller.actor if self.caller else "anyone",
                action=action,
                target=change.target,
                project=project,
                address=self.address,
                **change.detail,
            )


class _StrictRequest(Request):
    """A request whose JSON was read by our own rules: no duplicate keys, no NaN, bounded depth."""

    _strict: Any = _NOT_READ

    async def json(self) -> Any:
        if self._strict is _NOT_READ:
            body = await self.body()
            try:
                self._strict = loads(body, "the body", limit=body_limit(self.scope["path"]))
            except JSONError as error:
                cause = error.cause
                raise RequestError(cause, "send one JSON document", status=422, code="malformed") from None
        return self._strict


class CheckedRoute(APIRoute):
    """A route that asks who is calling before it reads the body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        (method,) = self.methods or {"GET"}
        needed = roles.least(method, self.path)
        takes_body = self.body_field is not None

        async def checked(request: Request) -> Response:
            monitor: Monitor = request.app.state.monitor
            now = time.time()
            caller = None
            if needed != roles.ANYONE and not (needed == roles.METRICS and monitor.settings.open_metrics):
                header = request.headers.get("authorization")
                project = request.path_params.get("project")
                caller = await run_in_threadpool(_caller, monitor, header, needed, project, now, address_of(request))
            request.state.doing = Doing(monitor, caller, address_of(request), now)
            strict = _StrictRequest(request.scope, request.receive)
            if takes_body and await strict.body():
                kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
                if kind != "application/json":
                    cause = f"the body is {kind[:60] or 'of no stated type'!r}, not JSON"
                    remedy = "send Content-Type: application/json"
                    raise RequestError(cause, remedy, status=415, code="unsupported_type")
                await strict.json()
            return await handle(strict)

        return checked


def doing(request: Request) -> Doing:
    """The dependency that hands a route its ``Doing``."""
    made: Doing = request.state.doing
    return made


Do = Annotated[Doing, Depends(doing)]
Paged = Annotated[Paging, Query()]


def checked_router(*, signed_in: bool = True) -> APIRouter:
    """A router of checked routes; ``signed_in`` describes them as such in OpenAPI."""
    codes = (401, 403, 404, 413, 415, 422, 429, 500, 503) if signed_in else (404, 413, 415, 422, 429, 500, 503)
    return APIRouter(
        route_class=CheckedRoute,
        responses={code: {"model": Error} for code in codes},
        dependencies=[Security(_bearer)] if signed_in else [],
        redirect_slashes=False,
    )


def next_name(found: Sequence[Mapping[str, Any]], paging: Paging, key: str = "name") -> str | None:
    """Where the next part of a list that is ordered by ``key`` begins; None at its end."""
    return str(found[-1][key]) if len(found) == paging.limit else None


def address_of(request: Request) -> str:
    """The client's address."""
    return request.client.host if request.client else ""


def too_often(wait: float, what: str) -> RequestError:
    """The refusal of whoever asks too often."""
    cause = f"too many {what}"
    headers = {"Retry-After": str(max(1, round(wait + 0.5)))}
    return RequestError(cause, "wait as long as Retry-After says", status=429, code="too_often", headers=headers)


def _caller(
    monitor: Monitor, header: str | None, needed: str, project: str | None, now: float, address: str
) -> Caller | None:
    """The caller of a request, allowed to make it. Raises RequestError."""
    with monitor.store.read() as connection:
        caller = access.authenticate(connection, header, now) if header else None
        exists = True
        if caller is not None and caller.root and project is not None:
            exists = bool(_HEX.fullmatch(project) and accounts.list_projects(connection, only=[project]))
    if caller is None and header:
        wait = monitor.limits.failures.take(address_key(address))
        if wait:
            monitor.metrics.limited("failures")
            raise too_often(wait, "requests with wrong credentials from this address")
    if caller is not None:
        wait = monitor.limits.requests.take(caller.token_id)
        if wait:
            monitor.metrics.limited("requests")
            raise too_often(wait, "requests with this token")
    access.authorise(caller, needed, project, exists=exists)
    return caller
