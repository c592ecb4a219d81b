"""The application: every route, what becomes of errors, and its description for OpenAPI.

``create_app`` takes a ``Monitor`` and gives an ASGI application; starting and stopping it starts and stops the monitor.
``serve.py`` runs it, tests call it in process.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from edgeml._version import __version__
from edgeml.errors import BundleError, MonitorDatabaseError, MonitorError, ProfileError, RequestError
from edgeml.fleet import (
    roles,
    routes_batches,
    routes_devices,
    routes_models,
    routes_people,
    routes_projects,
    routes_records,
    routes_system,
)
from edgeml.fleet.monitor import Monitor
from edgeml.fleet.protocol import Guard, error_response, route_of
from edgeml.telemetry import wire

log = logging.getLogger("edgeml.monitor")

_ROUTERS = (
    routes_batches.router,
    routes_people.open_router,
    routes_people.router,
    routes_projects.router,
    routes_devices.router,
    routes_models.router,
    routes_records.router,
    routes_system.open_router,
    routes_system.router,
)


def create_app(monitor: Monitor) -> FastAPI:
    """The ASGI application of ``monitor``."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(monitor.start)
        try:
            yield
        finally:
            await run_in_threadpool(monitor.stop)

    app = _App(
        monitor,
        title="EdgeML monitor",
        version=__version__,
        description="What devices report of their models, and who may see it. Times are seconds since 1970.",
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.monitor = monitor
    # For other methods than POST, and for the table of routes: POST goes past the framework, see _App.
    app.router.routes.insert(0, Route(wire.PATH, routes_batches.batches, methods=["POST"]))
    for router in _ROUTERS:
        app.include_router(router)
    check_table(all_routes(app))
    app.add_middleware(Guard, settings=monitor.settings, metrics=monitor.metrics)
    app.add_exception_handler(RequestError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(MonitorDatabaseError, _database)
    app.add_exception_handler(IntegrityError, _clash)
    for kind in (MonitorError, BundleError, ProfileError):
        app.add_exception_handler(kind, _of_ours)
    _describe(app)
    return app


class _App(FastAPI):
    """FastAPI, but for batches: a seventh of their time went into its layers, so they pass the guard alone."""

    def __init__(self, monitor: Monitor, **options: Any) -> None:
        super().__init__(**options)
        self._batches = Guard(self._take, monitor.settings, monitor.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == wire.PATH and scope["method"] == "POST":
            scope["app"] = self
            await self._batches(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    @staticmethod
    async def _take(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await routes_batches.batches(request)
        except MonitorDatabaseError as error:
            response = await _database(request, error)
        await response(scope, receive, send)


def all_routes(app: FastAPI) -> set[tuple[str, str]]:
    """Method and path of every route."""
    found: set[tuple[str, str]] = set()
    for route in _flat(app.router.routes):
        methods = set(getattr(route, "methods", None) or ()) - {"HEAD"}
        found |= {(method, getattr(route, "path", "")) for method in methods}
    return found


def _flat(routes: Sequence[BaseRoute]) -> list[BaseRoute]:
    """Routes, and those of included routers, which some versions of FastAPI keep as they are."""
    found: list[BaseRoute] = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        found += _flat(inner.routes) if inner is not None else [route]
    return found


def check_table(found: set[tuple[str, str]]) -> None:
    """Raises KeyError when the routes and the table of roles differ: no server starts with a route nobody guards."""
    table = {(rule.method, rule.path) for rule in roles.RULES}
    if found != table:
        raise KeyError(f"routes and roles.RULES differ: {sorted(found ^ table)}")


# --- what becomes of errors: always {"error", "cause", "remedy"}
async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    return error_response(error)


async def _invalid(request: Request, error: Exception) -> Response:
    """What does not fit the description. The value is not repeated: it may be a password."""
    assert isinstance(error, RequestValidationError)
    found = [f"{'.'.join(map(str, e['loc']))[:100]}: {e['msg'][:200]}" for e in error.errors()[:5]]
    remedy = "see /openapi.json for what this route takes"
    return error_response(RequestError("; ".join(found), remedy, status=422, code="invalid"))


async def _of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code, cause = {
        400: ("malformed", "the request is malformed"),
        404: ("not_found", "there is no such route"),
        405: ("method_not_allowed", "this route does not take this method"),
    }.get(error.status_code, ("refused", "the request was refused"))
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:
        # Every method is a route of its own, and only one of them was asked.
        headers["allow"] = ", ".join(rule.method for rule in roles.RULES if rule.path == route_of(request.scope))
    remedy = "see /openapi.json for the routes"
    return error_response(RequestError(cause, remedy, status=error.status_code, code=code, headers=headers))


async def _database(request: Request, error: Exception) -> Response:
    assert isinstance(error, MonitorDatabaseError)
    log.error("request %s: %s", request.scope.get("edgeml.request_id"), error.cause)
    cause, headers = "the database does not answer", {"Retry-After": "5"}
    remedy = "try again; the server's log says more"
    return error_response(RequestError(cause, remedy, status=503, code="database", headers=headers))


async def _clash(request: Request, error: Exception) -> Response:
    """Two requests at once changed what belongs together: one of them is undone whole."""
    cause = "another request changed or deleted something of this one meanwhile"
    return error_response(RequestError(cause, "look at it again", status=409, code="changed"))


async def _of_ours(request: Request, error: Exception) -> Response:
    """A file or a model that is not what it should be."""
    assert isinstance(error, (MonitorError, BundleError, ProfileError))
    return error_response(RequestError(error.cause, error.remedy, status=422, code="invalid"))


# --- the description
def _describe(app: FastAPI) -> None:
    """Add the route of batches to what FastAPI knows, and take out what it believes of errors."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            made = generate()
            made["paths"] = {wire.PATH: {"post": routes_batches.OPENAPI}, **made["paths"]}
            for unused in ("HTTPValidationError", "ValidationError"):
                made["components"]["schemas"].pop(unused, None)
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the description
    for route in _flat(app.router.routes):
        if isinstance(route, APIRoute):
            route.operation_id = route.name
