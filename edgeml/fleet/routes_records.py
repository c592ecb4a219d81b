"""Routes of what happened in a project: losses, events, refused items, the audit log, and a summary of it all."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import Field

from edgeml.fleet import queries
from edgeml.fleet.routes_common import HEX, PRINTABLE, Do, Form, Paged, Paging, ProjectId, checked_router
from edgeml.fleet.routes_replies import AuditLine, Event, Listing, Loss, LossTotal, Part, Refused, Summary

router = checked_router()

OneDevice = Annotated[str | None, Field(pattern=HEX)]


class ByDevice(Paging):
    """``device``: only of this one."""

    device: OneDevice = None


class EventFilter(ByDevice):
    """``kind``: only of this kind; ``since``: not before, seconds since 1970."""

    kind: Annotated[str | None, Field(max_length=40, pattern=PRINTABLE)] = None
    since: Annotated[float | None, Field(ge=0, le=1e11)] = None


class TotalsFilter(Form):
    """``device``: only of this one."""

    device: OneDevice = None


@router.get("/v1/projects/{project}/summary")
def summary(project: ProjectId, do: Do) -> Summary:
    """How the project's fleet is, in figures."""
    with do.read() as connection:
        return Summary(**queries.summary(connection, project, now=do.now))


@router.get("/v1/projects/{project}/losses")
def list_losses(project: ProjectId, by: Annotated[ByDevice, Query()], do: Do) -> Part[Loss]:
    """Items that devices could not keep, with the reasons."""
    with do.read() as connection:
        page = queries.losses(connection, project, device_id=by.device, limit=by.limit, after=by.after)
    return Part[Loss].model_validate(page, from_attributes=True)


@router.get("/v1/projects/{project}/losses/totals")
def loss_totals(project: ProjectId, by: Annotated[TotalsFilter, Query()], do: Do) -> Listing[LossTotal]:
    """Lost items by kind and reason."""
    with do.read() as connection:
        found = queries.loss_totals(connection, project, device_id=by.device)
    return Listing[LossTotal].model_validate({"items": found})


@router.get("/v1/projects/{project}/events")
def list_events(project: ProjectId, by: Annotated[EventFilter, Query()], do: Do) -> Part[Event]:
    """What happened to devices, newest first: enrolled, chain restarted, clone suspected, revoked and so on."""
    with do.read() as connection:
        page = queries.events(
            connection, project, device_id=by.device, kind=by.kind, since=by.since, limit=by.limit, after=by.after
        )
    return Part[Event].model_validate(page, from_attributes=True)


@router.get("/v1/projects/{project}/quarantine")
def list_quarantine(project: ProjectId, by: Annotated[ByDevice, Query()], do: Do) -> Part[Refused]:
    """Items that were refused, without their contents."""
    with do.read() as connection:
        page = queries.quarantine(connection, project, device_id=by.device, limit=by.limit, after=by.after)
    return Part[Refused].model_validate(page, from_attributes=True)


@router.get("/v1/projects/{project}/audit")
def list_audit(project: ProjectId, paging: Paged, do: Do) -> Part[AuditLine]:
    """Who changed what in the project, newest first."""
    with do.read() as connection:
        page = queries.audit(connection, project, limit=paging.limit, after=paging.after)
    return Part[AuditLine].model_validate(page, from_attributes=True)
