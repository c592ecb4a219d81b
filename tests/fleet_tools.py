"""What the tests of the monitor's database share: a project with devices, a profile, and batches in order.

``Fleet`` is a store with one project; ``Sender`` a device of it, that makes the batches of its chain by hand. All
goes to ``Ingest.take``, as the HTTP layer does it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256
from typing import Any

import numpy as np
from sqlalchemy import func, insert, select

from edgeml.fleet import tables
from edgeml.fleet.ingest import Device, Ingest, IngestSettings, Reply
from edgeml.fleet.registry import layout_of
from edgeml.fleet.rollup import Layout, Sums
from edgeml.fleet.store import Store
from edgeml.jsonutil import dumps
from edgeml.profile import build_profile
from edgeml.schema import Column, Schema
from edgeml.telemetry import wire
from edgeml.telemetry.items import Item, Loss
from tests.waiting import PATIENCE

T0 = 1_750_000_000.0  # when the tests' devices enrolled; a multiple of a minute it is not
WAIT = PATIENCE


@cache
def profile(features: int = 3, seed: int = 0) -> dict[str, Any]:
    """A reference profile of numeric columns and a probability."""
    rng = np.random.default_rng(seed)
    names = [f"f{i}" for i in range(features)]
    schema = Schema("columns", tuple(Column(name, "float64", used=True) for name in names))
    columns = {name: rng.normal(size=500) for name in names}
    return build_profile(columns, schema, {"predict_proba": np.column_stack([p := rng.random(500), 1 - p])})


def window(of: Mapping[str, Any] | None = None, rows: int = 10, *, end: float = 60.0, **more: Any) -> dict[str, Any]:
    """A window over the bins of a profile (None: a model without one); every histogram holds all rows in one bin."""
    records = {"features": [], "scores": []} if of is None else of
    return {
        "window_version": 1,
        "model": {"name": "churn", "version": 1, "manifest_sha256": "a" * 64},
        "profile_sha256": None if of is None else of["sha256"],
        "process": {"pid": 1, "boot_id": "boot"},
        "start": end - 60.0 if end >= 60 else 0.0,
        "end": end,
        "wall": T0 + 1000,
        "rows": rows,
        "calls": {"one": rows, "batch": 1},
        "latency": {"one": [3, rows] if rows else [], "batch": [9, 1]},
        "features": [[i % 5, rows] if rows else [] for i in range(len(records["features"]))],
        "scores": [[2, rows] if rows else [] for _ in records["scores"]],
        "errors": {"ShapeError": 1},
        "system": {"cpu": 0.5},
        "feedback": None,
    } | more


@dataclass
class Sender:
    """A device: its chain, and one stream at a time."""

    device: Device
    chain: str = field(default_factory=lambda: uuid.uuid4().hex)
    stream: str = field(default_factory=lambda: uuid.uuid4().hex)
    number: int = 0
    previous: str = wire.NO_PREVIOUS
    sequence: int = 0

    def items(self, *payloads: Any, kind: str = "window") -> list[Item]:
        """The next items of the stream."""
        made = [
            Item(self.stream, self.sequence + at, kind, dumps(p), p.get("rows", 0) if isinstance(p, dict) else 0)
            for at, p in enumerate(payloads)
        ]
        self.sequence += len(made)
        return made

    def header(self, **changes: Any) -> wire.Header:
        fields = {
            "device": self.device.id, "chain": self.chain, "number": self.number, "previous": self.previous,
            "body_sha256": uuid.uuid4().hex * 2,
        }  # fmt: skip
        return wire.Header(**fields | changes)

    def advance(self, header: wire.Header) -> None:
        self.chain, self.number = header.chain, header.number + 1
        self.previous = sha256(header.to_bytes()).hexdigest()

    def restart(self) -> None:
        self.chain, self.number, self.previous = uuid.uuid4().hex, 0, wire.NO_PREVIOUS


class Fleet:
    """A project's devices and the ingest they send to. ``close`` it, or use ``fleet``."""

    def __init__(self, url: str, settings: IngestSettings | None = None, *, project: str = "1" * 32) -> None:
        self.store = Store.open(url)
        self.project = project
        with self.store.write() as connection:
            if connection.execute(select(func.count()).where(tables.projects.c.id == project)).scalar_one() == 0:
                row = {"id": project, "name": f"project {project[:4]}", "created": T0}
                connection.execute(insert(tables.projects), row)
        self.ingest = Ingest(self.store, settings)

    def close(self) -> None:
        self.ingest.stop()
        self.store.close()

    def sender(self, name: str = "till-7", state: str = "active") -> Sender:
        """A new device."""
        key = uuid.uuid4().bytes * 2
        device = Device(uuid.uuid4().hex, self.project, name, key, state)
        with self.store.write() as connection:
            row = {
                "id": device.id, "project_id": self.project, "name": name, "labels": {"town": "Bern"},
                "public_key": key, "enrolled": T0, "state": state,
            }  # fmt: skip
            connection.execute(insert(tables.devices), row)
        return Sender(device)

    def take(
        self, sender: Sender, items: Sequence[Item] = (), losses: Sequence[Loss] = (),
        profiles: Mapping[str, Any] | None = None, *, received: float = T0 + 1000, header: wire.Header | None = None,
        sent: wire.Sent | None = None,
    ) -> Any:  # fmt: skip
        """The future of the reply to a batch, read as the HTTP layer reads it."""
        known = {sha: dumps(body) for sha, body in (profiles or {}).items()}
        body = wire.read_body(wire.body_bytes(list(items), list(losses), known))
        header = header or sender.header()
        sent = sent or wire.Sent("boot", 1000.0, received)
        return self.ingest.take(sender.device, header, header.to_bytes(), sent, body, received)

    def send(self, sender: Sender, *args: Any, header: wire.Header | None = None, **more: Any) -> Reply:
        """Send a batch and go on in the chain when it was taken."""
        header = header or sender.header()
        reply: Reply = self.take(sender, *args, header=header, **more).result(WAIT)
        if reply.status == 200 and header.number >= sender.number:
            sender.advance(header)
        return reply

    # --- what the database holds
    def rows(self, table: Any, *where: Any) -> list[dict[str, Any]]:
        with self.store.read() as connection:
            return [dict(row) for row in connection.execute(select(table).where(*where)).mappings()]

    def events(self) -> list[tuple[str, str]]:
        """Kind, and the reason it states."""
        rows = sorted(self.rows(tables.events), key=lambda row: row["id"])
        return [(row["kind"], str(row["detail"].get("why", row["detail"].get("reason", "")))) for row in rows]

    def total(self, level: str = "day", *, model: int | None = None) -> Sums:
        """Everything counted at a level of the roll-ups, of a model or of the first one."""
        if model is None:
            model = min((row["id"] for row in self.rows(tables.models)), default=0)
        with self.store.read() as connection:
            layout: Layout = layout_of(connection, model)
        total = Sums(layout.slots)
        for row in self.rows(tables.rollups, tables.rollups.c.level == level, tables.rollups.c.model_id == model):
            total.merge(Sums.from_bytes(row["sums"], row["windows"], row["rows"]))
        return total


def outcomes(reply: Reply) -> list[str]:
    """What became of each item."""
    assert reply.status == 200, reply
    return [outcome for outcome, _ in reply.body["results"]]


@contextmanager
def fleet(url: str, settings: IngestSettings | None = None, *, start: bool = True, **more: Any) -> Any:
    made = Fleet(url, settings, **more)
    if start:
        made.ingest.start()
    try:
        yield made
    finally:
        made.close()
