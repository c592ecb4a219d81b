"""Routes for whoever runs the server: is it alive, is it ready, its figures for Prometheus, and its audit log."""

from __future__ import annotations

from fastapi import Response
from pydantic import BaseModel

from edgeml.errors import MonitorDatabaseError, RequestError
from edgeml.fleet import queries
from edgeml.fleet.prometheus import CONTENT_TYPE
from edgeml.fleet.routes_common import Do, Error, Paged, checked_router
from edgeml.fleet.routes_replies import AuditLine, Part

open_router = checked_router(signed_in=False)
router = checked_router()


class Health(BaseModel):
    status: str


@open_router.get("/healthz")
async def healthz() -> Health:
    """The process answers. Says nothing of the database: a restart would not help it."""
    return Health(status="alive")


@open_router.get("/readyz", responses={503: {"model": Error}})
def readyz(do: Do) -> Health:
    """Batches can be taken: the database answers, has this version's schema, and the writer runs."""
    try:
        why = do.monitor.not_ready()
    except MonitorDatabaseError:
        why = "database"
    if why is not None:
        causes = {"database": "the database does not answer, or is of another version", "stopped": "the server stops"}
        cause, headers = causes.get(why, "the server cannot take batches"), {"Retry-After": "5"}
        raise RequestError(cause, "see the server's log", status=503, code="not_ready", headers=headers)
    return Health(status="ready")


@router.get("/metrics", response_class=Response, responses={
    200: {"description": "Figures in Prometheus' text format.", "content": {"text/plain": {}}}
})  # fmt: skip
def metrics(do: Do) -> Response:
    """The server's figures, for Prometheus; of all projects, so that a token of one does not open it."""
    return Response(do.monitor.metrics.text(), headers={"Content-Type": CONTENT_TYPE})


@router.get("/v1/audit")
def audit(paging: Paged, do: Do) -> Part[AuditLine]:
    """The whole audit log, newest first: of all projects, and of what belongs to none."""
    with do.read() as connection:
        page = queries.audit(connection, None, limit=paging.limit, after=paging.after)
    return Part[AuditLine].model_validate(page, from_attributes=True)
