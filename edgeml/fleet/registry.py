"""The models of a project, and the bins of their profiles: what a window is checked against before it counts.

A person registers a bundle (``add_bundle``); what nobody registered, the first window of a device makes known. Counts
are merged only over the bins whose hash the model was registered with. ``Registry`` is ingest's cache of both, for one
thread; what a transaction adds to it is dropped when the transaction is rolled back.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import orjson
from sqlalchemy import Connection, Table, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from edgeml.bundle import Bundle
from edgeml.errors import MonitorError, ProfileError, WireError
from edgeml.fleet.rollup import Layout
from edgeml.fleet.tables import models, profiles
from edgeml.jsonutil import dumps
from edgeml.profile import check_profile

# Bounds on what devices make known by themselves. Slots: 30 features have some 1,000.
MAX_MODELS = 1000
MAX_SLOTS = 200_000
_CACHED_PROFILES = 256
_CACHED_MODELS = 10_000
_MANIFEST, _PROFILE = "manifest.json", "profile.json"

ModelKey = tuple[str, str, int]  # project, name, version


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A registered model. ``registered_by`` begins with "device " when a window made it known."""

    id: int
    name: str
    version: int
    manifest_sha256: str
    profile_sha256: str | None
    created: float
    registered_by: str


@dataclass(frozen=True)
class Bins:
    """A reference profile that was checked, and where its counts stand in sums."""

    profile: Mapping[str, Any] | None
    layout: Layout


NO_BINS = Bins(None, Layout())


def read_profile(sha256: str, body: Any) -> Bins:
    """The bins of a profile that says it has the hash ``sha256``. Raises WireError."""
    try:
        profile = check_profile(body)
    except ProfileError as error:
        raise WireError(error.cause) from None
    if profile["sha256"] != sha256:
        raise WireError("profile: it does not have the hash it was sent under")
    layout = Layout.of(profile)
    if layout.slots > MAX_SLOTS:
        raise WireError(f"profile: {layout.slots} bins, at most {MAX_SLOTS} are taken")
    return Bins(profile, layout)


def insert_ignoring(connection: Connection, table: Table) -> Any:
    """An INSERT that does nothing where the row exists already."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    return insert(table).on_conflict_do_nothing()


# --- what people do -------------------------------------------------------------------------------------------------
def add_bundle(connection: Connection, project_id: str, bundle: Bundle, *, by: str, now: float) -> ModelRow:
    """Register the model of a bundle with its reference profile. Raises MonitorError as ``add_model`` does."""
    manifest = bundle.manifest
    profile = bundle.json(_PROFILE) if manifest["profile_sha256"] is not None else None
    return add_model(
        connection, project_id, name=manifest["name"], version=manifest["version"],
        manifest_sha256=sha256(bundle.member(_MANIFEST)).hexdigest(), profile=profile, by=by, now=now,
    )  # fmt: skip


def add_model(
    connection: Connection, project_id: str, *, name: str, version: int, manifest_sha256: str,
    profile: Mapping[str, Any] | None, by: str, now: float,
) -> ModelRow:  # fmt: skip
    """Register a model; again with the same bundle changes nothing.

    A model of that name and version that a device made known, with other bins, gives way: it keeps its counts and is
    renamed. Raises MonitorError when a person registered that name and version with another bundle, or when the
    profile is malformed.
    """
    profile_sha256 = None
    if profile is not None:
        try:
            read_profile(str(profile.get("sha256")), profile)
        except WireError as error:
            raise MonitorError(error.cause, "compile the bundle again") from None
        profile_sha256 = str(profile["sha256"])
    row = _find(connection, project_id, name, version, lock=True)
    same = row is not None and row.profile_sha256 == profile_sha256
    if row is not None and not row.registered_by.startswith("device "):
        if row.manifest_sha256 == manifest_sha256 and same:
            return row
        raise MonitorError(
            f"model {name!r} version {version} is registered with another bundle",
            "compile the bundle with a version of its own (edgeml compile --model-version)",
        )
    if profile is not None:
        _keep_profile(connection, project_id, profile_sha256 or "", profile)
    reference = None if profile is None else _pack(profile)
    if row is not None and same:
        connection.execute(
            update(models)
            .where(models.c.id == row.id)
            .values(manifest_sha256=manifest_sha256, registered_by=by, reference=reference)
        )
    else:
        if row is not None:
            renamed = f"{name[:160]} (displaced {row.id})"
            connection.execute(update(models).where(models.c.id == row.id).values(name=renamed))
        _insert(connection, project_id, name, version, manifest_sha256, profile_sha256, by, now, reference)
    found = _find(connection, project_id, name, version)
    assert found is not None  # it was just written
    return found


def profile_of(reference: bytes | None, body: bytes | None) -> dict[str, Any] | None:
    """A model's profile: the ``reference`` a person registered, else the ``body`` a device sent."""
    data = reference or body
    return None if data is None else dict(orjson.loads(zlib.decompress(data)))


def _find(connection: Connection, project_id: str, name: str, version: int, *, lock: bool = False) -> ModelRow | None:
    query = select(*(models.c[field] for field in ModelRow.__slots__)).where(
        models.c.project_id == project_id, models.c.name == name, models.c.version == version
    )
    row = connection.execute(query.with_for_update() if lock else query).one_or_none()
    return None if row is None else ModelRow(*row)


def _insert(
    connection: Connection, project_id: str, name: str, version: int, manifest_sha256: str,
    profile_sha256: str | None, by: str, now: float, reference: bytes | None = None,
) -> None:  # fmt: skip
    connection.execute(
        insert_ignoring(connection, models),
        {
            "project_id": project_id, "name": name, "version": version, "manifest_sha256": manifest_sha256,
            "profile_sha256": profile_sha256, "created": now, "registered_by": by, "reference": reference,
        },
    )  # fmt: skip


def _keep_profile(connection: Connection, project_id: str, sha256: str, profile: Mapping[str, Any]) -> None:
    row = {"project_id": project_id, "sha256": sha256, "body": _pack(profile)}
    connection.execute(insert_ignoring(connection, profiles), row)


def _pack(profile: Mapping[str, Any]) -> bytes:
    return zlib.compress(dumps(profile))


# --- what ingest asks -----------------------------------------------------------------------------------------------
class Unknown(Exception):
    """The bins with this hash are not known: the device is asked for the profile."""


class Registry:
    """Models and bins that ingest has met. Not for several threads; ``commit`` or ``rollback`` ends a transaction."""

    def __init__(self, max_models: int = MAX_MODELS) -> None:
        self._max_models = max_models
        self._models: OrderedDict[ModelKey, ModelRow] = OrderedDict()
        self._bins: OrderedDict[tuple[str, str], Bins] = OrderedDict()
        self._new_models: dict[ModelKey, ModelRow] = {}
        self._new_bins: dict[tuple[str, str], Bins] = {}

    def commit(self) -> None:
        self._models.update(self._new_models)
        self._bins.update(self._new_bins)
        self.rollback()
        while len(self._models) > _CACHED_MODELS:
            self._models.popitem(last=False)
        while len(self._bins) > _CACHED_PROFILES:
            self._bins.popitem(last=False)

    def rollback(self) -> None:
        self._new_models.clear()
        self._new_bins.clear()

    def clear(self) -> None:
        """Forget everything: the database may have changed in a way no server of this version would change it."""
        self.rollback()
        self._models.clear()
        self._bins.clear()

    def bins(self, connection: Connection, project: str, sha256: str | None, sent: Mapping[str, Any]) -> Bins:
        """The bins with a hash; ``sent`` are the profiles the batch brought. Raises Unknown, and WireError for one
        that is malformed.
        """
        if sha256 is None:
            return NO_BINS
        key = (project, sha256)
        found = self._bins.get(key) or self._new_bins.get(key)
        if found is None:
            query = select(profiles.c.body).where(profiles.c.project_id == project, profiles.c.sha256 == sha256)
            body = connection.execute(query).scalar_one_or_none()
            if body is not None:
                found = read_profile(sha256, orjson.loads(zlib.decompress(body)))
            elif sha256 in sent:
                found = read_profile(sha256, sent[sha256])  # kept when a model is made known with it
            else:
                raise Unknown(sha256)
            self._new_bins[key] = found
        return found

    def model(
        self, connection: Connection, project: str, window: Mapping[str, Any], bins: Bins, device: str, now: float
    ) -> tuple[ModelRow, bool]:
        """The model of a window that was checked over ``bins``, and whether it was made known just now.

        Raises WireError when it has other bins than the window, or when devices made too many known.
        """
        name, version = window["model"]["name"], window["model"]["version"]
        key = (project, name, version)
        row = self._models.get(key) or self._new_models.get(key)
        fresh = False
        if row is None or row.profile_sha256 != window["profile_sha256"]:
            row = _find(connection, project, name, version)  # a person may have registered another since
            if row is None:
                count = select(func.count()).select_from(models).where(models.c.project_id == project)
                if connection.execute(count).scalar_one() >= self._max_models:
                    raise WireError(f"the project has {self._max_models} models; a person must register another")
                manifest = window["model"]["manifest_sha256"]
                if bins.profile is not None:
                    _keep_profile(connection, project, bins.profile["sha256"], bins.profile)
                _insert(connection, project, name, version, manifest, window["profile_sha256"], f"device {device}", now)
                row = _find(connection, project, name, version)
                fresh = True
            assert row is not None  # inserted by us, or by another server that was quicker
            self._new_models[key] = row
            self._models.pop(key, None)
        if row.profile_sha256 != window["profile_sha256"]:
            raise WireError("profile mismatch: the model is registered with other bins than the window counts on")
        return row, fresh


def layout_of(connection: Connection, model_id: int) -> Layout:
    """Where the counts of a model's histograms stand."""
    on = (profiles.c.project_id == models.c.project_id) & (profiles.c.sha256 == models.c.profile_sha256)
    query = select(profiles.c.body).select_from(models.join(profiles, on)).where(models.c.id == model_id)
    body = connection.execute(query).scalar_one_or_none()
    return Layout() if body is None else Layout.of(orjson.loads(zlib.decompress(body)))
