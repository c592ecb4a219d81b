"""The forms of what the routes of a project answer, for the API's description; ``queries.py`` fills them.

A list has ``items`` and ``next``, which is ``after`` of the request for the next part, or null at the end. Times are
seconds since 1970 by the server's clock.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")


class Part(BaseModel, Generic[T]):
    items: list[T]
    next: str | None


class Listing(BaseModel, Generic[T]):
    items: list[T]


# --- devices
class DeviceLine(BaseModel):
    """``clone_seen``: when another one with the same key was last seen; ``clock_skew``: seconds its clock is ahead."""

    id: str
    name: str
    labels: dict[str, str]
    state: str
    enrolled: float
    last_seen: float | None
    clone_seen: float | None
    clock_skew: float | None


class Chain(BaseModel):
    """The open chain of a device's batches; ``number`` is the last one's."""

    chain: str
    number: int
    started: float
    restarted: str


class ModelName(BaseModel):
    id: int
    name: str
    version: int


class Device(DeviceLine):
    """``chains``: how many it began; ``lost`` and ``refused`` are items."""

    chain: Chain | None
    chains: int
    windows: int
    rows: int
    lost: int
    refused: int
    models: list[ModelName]


class Stream(BaseModel):
    """``missing`` numbers were neither received nor refused nor reported lost; ``gaps`` are [first, last] of them, at
    most 100.
    """

    stream: str
    first: int
    last: int
    received: int
    lost: int
    refused: int
    missing: int
    gaps: list[list[int]]
    last_received: float


class Window(BaseModel):
    """``clock``: "monotonic" when ``started`` and ``ended`` are exact, "wall" when they are the device's own."""

    stream: str
    sequence: int
    model_id: int
    received: float
    started: float
    ended: float
    clock: str
    rows: int
    window: dict[str, Any] = Field(description="As the device sent it; see WIRE.md.")


# --- models
class Model(ModelName):
    manifest_sha256: str
    profile_sha256: str | None
    created: float
    registered_by: str


class ModelLine(Model):
    """``last_day``: the beginning of the last day that has windows."""

    windows: int
    rows: int
    last_day: int | None


class Histogram(BaseModel):
    """``slots`` say what each count is of, here in ``reference`` and in every series."""

    name: str
    kind: str
    slots: list[str]
    reference: list[int]


class ModelDetail(Model):
    """``trusted_reference``: a person registered the profile, so that ``reference`` is not a device's word."""

    trusted_reference: bool
    reference_rows: int
    features: list[Histogram]
    scores: list[Histogram]


class Figure(BaseModel):
    count: int
    mean: float
    min: float
    max: float


class Latency(BaseModel):
    one: list[int]
    batch: list[int]


class Bucket(BaseModel):
    """Windows added up over ``seconds`` from ``start``; counts are dense, in the order of the model's slots."""

    start: int
    seconds: int
    windows: int
    rows: int
    calls: dict[str, int]
    errors: dict[str, int]
    system: dict[str, Figure]
    feedback: dict[str, Any] | None
    latency: Latency
    features: list[list[int]]
    scores: list[list[int]]


# --- records
class Loss(BaseModel):
    """Numbers ``first`` to ``last`` of a stream that the device could not keep."""

    device: str
    stream: str
    first: int
    last: int
    kind: str
    reason: str
    rows: int
    received: float


class LossTotal(BaseModel):
    kind: str
    reason: str
    items: int
    rows: int


class Event(BaseModel):
    id: int
    at: float
    project: str
    device: str | None
    kind: str
    detail: dict[str, Any]


class Refused(BaseModel):
    """An item that was refused, and why."""

    device: str
    stream: str
    sequence: int
    kind: str
    reason: str
    received: float
    rows: int


class Quarantined(Refused):
    """``payload`` is null when the device had more refused items than are kept whole."""

    payload: Any


class AuditLine(BaseModel):
    id: int
    at: float
    project: str | None
    actor: str
    action: str
    target: str
    detail: dict[str, Any]
    address: str


class Summary(BaseModel):
    """Devices in all, by state and by when they were heard of; what was counted, lost and refused."""

    devices: int
    active: int
    revoked: int
    clone_seen: int
    seen_5_minutes: int
    seen_hour: int
    seen_day: int
    models: int
    windows: int
    rows: int
    lost_items: int
    lost_rows: int
    quarantine: int
