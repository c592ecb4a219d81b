"""Routes of a project's devices: list, look at, name, label, revoke and reinstate; their streams with gaps, windows and
days.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Path, Query
from pydantic import Field

from edgeml.fleet import accounts, queries
from edgeml.fleet.access import not_found
from edgeml.fleet.enrol import set_device_state
from edgeml.fleet.routes_batches import Label
from edgeml.fleet.routes_common import (
    HEX,
    MAX_ID,
    PRINTABLE,
    DeviceId,
    Do,
    Doing,
    Form,
    ModelId,
    Paged,
    Paging,
    ProjectId,
    checked_router,
)
from edgeml.fleet.routes_replies import Bucket, Device, DeviceLine, Listing, Part, Quarantined, Stream, Window

router = checked_router()

# The time series' bounds: seconds since 1970 up to the year 5138.
Moment = Annotated[float, Field(ge=0, le=1e11)]


class DeviceFilter(Paging):
    """``search`` is in the name or the id, ``label`` is KEY=VALUE."""

    search: Annotated[str, Field(max_length=100, pattern=PRINTABLE)] = ""
    state: Annotated[str | None, Field(pattern="^(active|revoked)$")] = None
    label: Annotated[str | None, Field(max_length=201, pattern=r"^[^\x00-\x1f\x7f=]+=[^\x00-\x1f\x7f]*$")] = None


class DeviceForm(Form):
    """What is left out stays."""

    name: Label | None = None
    labels: Annotated[dict[Label, Label] | None, Field(max_length=32)] = None


class Span(Form):
    """From ``start`` to before ``end``, seconds since 1970."""

    start: Moment = 0.0
    end: Moment = 1e11


@router.get("/v1/projects/{project}/devices")
def list_devices(project: ProjectId, by: Annotated[DeviceFilter, Query()], do: Do) -> Part[DeviceLine]:
    """The project's devices."""
    with do.read() as connection:
        page = queries.devices(
            connection, project, search=by.search, state=by.state, label=by.label, limit=by.limit, after=by.after
        )
    return Part[DeviceLine].model_validate(page, from_attributes=True)


@router.get("/v1/projects/{project}/devices/{device}")
def get_device(project: ProjectId, device: DeviceId, do: Do) -> Device:
    """One device, with its chain of batches and its totals."""
    return _device(do, project, device)


@router.patch("/v1/projects/{project}/devices/{device}")
def describe_device(project: ProjectId, device: DeviceId, form: DeviceForm, do: Do) -> Device:
    """Name or label a device."""
    with do.change("device describe", device, project, **form.model_dump(exclude_none=True)) as change:
        accounts.describe_device(change.connection, project, device, name=form.name, labels=form.labels)
    return _device(do, project, device)


@router.post("/v1/projects/{project}/devices/{device}/revoke")
def revoke_device(project: ProjectId, device: DeviceId, do: Do) -> Device:
    """Refuse what the device sends from now on; what it sent stays."""
    return _set_state(do, project, device, "revoked", "device revoke")


@router.post("/v1/projects/{project}/devices/{device}/reinstate")
def reinstate_device(project: ProjectId, device: DeviceId, do: Do) -> Device:
    """Take what the device sends again."""
    return _set_state(do, project, device, "active", "device reinstate")


@router.get("/v1/projects/{project}/devices/{device}/streams")
def list_streams(project: ProjectId, device: DeviceId, paging: Paged, do: Do) -> Part[Stream]:
    """The device's streams, with the numbers that are missing: neither received nor reported as lost."""
    with do.read() as connection:
        _must_exist(do, project, device)
        page = queries.streams(connection, project, device, limit=paging.limit, after=paging.after)
    return Part[Stream].model_validate(page, from_attributes=True)


@router.get("/v1/projects/{project}/devices/{device}/windows")
def list_windows(project: ProjectId, device: DeviceId, paging: Paged, do: Do) -> Part[Window]:
    """The device's windows, newest first, as long as retention keeps them one by one."""
    with do.read() as connection:
        _must_exist(do, project, device)
        page = queries.windows(connection, project, device, limit=min(paging.limit, 100), after=paging.after)
    return Part[Window].model_validate(page, from_attributes=True)


@router.get("/v1/projects/{project}/devices/{device}/models/{model}/series")
def device_series(
    project: ProjectId, device: DeviceId, model: ModelId, span: Annotated[Span, Query()], do: Do
) -> Listing[Bucket]:
    """The device's windows of one model, added up by the day."""
    with do.read() as connection:
        found = queries.device_series(connection, project, device, model, span.start, span.end)
    if found is None:
        raise not_found("device or model")
    return Listing[Bucket].model_validate({"items": found})


@router.get("/v1/projects/{project}/devices/{device}/quarantine/{stream}/{sequence}")
def get_quarantined(
    project: ProjectId,
    device: DeviceId,
    stream: Annotated[str, Path(pattern=HEX, description="Id of a stream.", examples=["0" * 32])],
    sequence: Annotated[int, Path(ge=0, le=MAX_ID, description="Number in the stream.", examples=[0])],
    do: Do,
) -> Quarantined:
    """An item that was refused, whole."""
    with do.read() as connection:
        found = queries.quarantined(connection, project, device, stream, sequence)
    if found is None:
        raise not_found("refused item")
    return Quarantined(**found)


def _device(do: Doing, project: str, device: str) -> Device:
    with do.read() as connection:
        found = queries.device(connection, project, device)
    if found is None:
        raise not_found("device")
    return Device(**found)


def _must_exist(do: Doing, project: str, device: str) -> None:
    _device(do, project, device)


def _set_state(do: Doing, project: str, device: str, state: str, action: str) -> Device:
    with do.change(action, device, project) as change:
        if not set_device_state(change.connection, project, device, state, do.now):
            raise not_found("device")
    do.monitor.devices.forget(device)
    return _device(do, project, device)
