"""Routes of a project's models: list, register, look at, and their windows added up by minute, hour or day."""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated, Any

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from edgeml.errors import JSONError, MonitorError, RequestError, WireError
from edgeml.fleet import queries, registry
from edgeml.fleet.access import not_found
from edgeml.fleet.routes_common import (
    CONFLICT,
    MAX_ID,
    PRINTABLE,
    Do,
    Form,
    ModelId,
    Paged,
    ProjectId,
    checked_router,
)
from edgeml.fleet.routes_devices import Span
from edgeml.fleet.routes_replies import Bucket, Listing, Model, ModelDetail, ModelLine, Part
from edgeml.jsonutil import dumps

router = checked_router()

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
ModelName = Annotated[str, Field(min_length=1, max_length=200, pattern=PRINTABLE)]
Version = Annotated[int, Field(ge=0, le=MAX_ID)]
Profile = Annotated[dict[str, Any] | None, Field(description="profile.json of the bundle, or null without one.")]


class Manifest(BaseModel):
    """The bundle's manifest.json, whole; these of its fields are read."""

    model_config = ConfigDict(extra="allow")
    name: ModelName
    version: Version
    profile_sha256: Digest | None


class BundleForm(Form):
    """A bundle's manifest and profile."""

    manifest: Manifest
    profile: Profile = None


class ModelForm(Form):
    """A model by name, version and the SHA-256 of its manifest, as windows name it."""

    name: ModelName
    version: Version
    manifest_sha256: Digest
    profile: Profile = None


class SeriesFilter(Span):
    """``level`` is the width of a point; at most 1000 points come, the first of the span."""

    level: Annotated[str, Field(pattern="^(minute|hour|day)$")] = "hour"
    limit: Annotated[int, Field(ge=1, le=1000)] = 1000


@router.get("/v1/projects/{project}/models")
def list_models(project: ProjectId, paging: Paged, do: Do) -> Part[ModelLine]:
    """The project's models."""
    with do.read() as connection:
        page = queries.models(connection, project, limit=paging.limit, after=paging.after)
    return Part[ModelLine].model_validate(page, from_attributes=True)


@router.post("/v1/projects/{project}/models", status_code=201, responses=CONFLICT)
def add_model(project: ProjectId, form: BundleForm | ModelForm, do: Do) -> Model:
    """Register a model with its reference profile; the same again changes nothing."""
    if isinstance(form, BundleForm):
        name, version = form.manifest.name, form.manifest.version
        digest = sha256(dumps(form.manifest.model_dump())).hexdigest()
        named = form.manifest.profile_sha256
        if named != (form.profile or {}).get("sha256"):
            raise _invalid("the profile is not the one that the manifest names")
    else:
        name, version, digest = form.name, form.version, form.manifest_sha256
    if form.profile is not None:
        try:
            registry.read_profile(str(form.profile.get("sha256")), form.profile)
        except (WireError, JSONError) as error:
            raise _invalid(error.cause) from None
    with do.change("model add", name, project, version=version) as change:
        try:
            row = registry.add_model(
                change.connection,
                project,
                name=name,
                version=version,
                manifest_sha256=digest,
                profile=form.profile,
                by=do.someone.actor,
                now=do.now,
            )
        except MonitorError as error:
            raise RequestError(error.cause, error.remedy, status=409, code="exists") from None
    return Model.model_validate(row, from_attributes=True)


@router.get("/v1/projects/{project}/models/{model}")
def get_model(project: ProjectId, model: ModelId, do: Do) -> ModelDetail:
    """One model, with the names of its features and scores and of their bins."""
    with do.read() as connection:
        found = queries.model(connection, project, model)
    if found is None:
        raise not_found("model")
    return ModelDetail(**found)


@router.get("/v1/projects/{project}/models/{model}/series")
def model_series(project: ProjectId, model: ModelId, by: Annotated[SeriesFilter, Query()], do: Do) -> Listing[Bucket]:
    """The windows of all devices, added up by minute, hour or day; counts stand in the order of the model's slots."""
    with do.read() as connection:
        found = queries.series(connection, project, model, by.level, by.start, by.end, limit=by.limit)
    if found is None:
        raise not_found("model")
    return Listing[Bucket].model_validate({"items": found})


def _invalid(cause: str) -> RequestError:
    return RequestError(cause, "send profile.json of the same bundle", status=422, code="invalid")
