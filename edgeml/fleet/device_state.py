"""A device as one transaction of ingest knows it: its row, locked, its chains, and the origins of its boots.

Comes in: the devices of a group of batches. Goes out: ``DeviceState`` objects, changed in memory as batches are taken
and written back by ``save_devices``. The lock on a device's row is what keeps two servers on one database from taking
the same number at once; rows are locked in one order, so that servers do not wait for each other in a ring.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from edgeml.fleet.chain import Chain
from edgeml.fleet.tables import boots, chains, devices
from edgeml.telemetry.wire import Sent

# Of a device's chains that are closed, and of its earlier boots, the newest are remembered.
KEPT_CHAINS = 50
KEPT_BOOTS = 50


@dataclass(frozen=True, slots=True)
class Device:
    """A device as requests are checked against it; ``state`` is "active" or "revoked"."""

    id: str
    project_id: str
    name: str
    public_key: bytes
    state: str


@dataclass(slots=True)
class DeviceState:
    """One device in a transaction. ``skew``: seconds its clock was ahead of the server's at its last batch."""

    id: str
    project: str
    state: str
    enrolled: float
    clone_seen: float | None
    last_seen: float | None
    skew: float | None
    boot_id: str | None
    boot_origin: float | None
    chains: dict[str, Chain] = field(default_factory=dict)
    touched: bool = False
    changed_chains: set[str] = field(default_factory=set)
    restarted: bool = False
    past_boots: list[tuple[str, float, float]] = field(default_factory=list)

    def met(self, sent: Sent, received: float) -> None:
        """A batch came that is the device's own."""
        self.touched = True
        if self.boot_id is not None and self.boot_origin is not None and self.boot_id != sent.boot_id:
            self.past_boots.append((self.boot_id, self.boot_origin, self.last_seen or received))
        self.last_seen = max(received, self.last_seen or received)
        self.skew = sent.wall - received
        self.boot_id, self.boot_origin = sent.boot_id, received - sent.monotonic

    def begin(self, chain: Chain) -> None:
        """Start a chain; the one that was open is closed."""
        for name, known in self.chains.items():
            if not known.closed:
                self.chains[name] = replace(known, closed=True)
                self.changed_chains.add(name)
                self.restarted = True
        self.chains[chain.chain] = chain

    def advance(self, chain: str, number: int, header_sha256: str, reply: dict[str, Any]) -> None:
        self.chains[chain] = self.chains[chain].after(number, header_sha256, reply)
        self.changed_chains.add(chain)


_DEVICE_FIELDS = (
    "id", "project_id", "state", "enrolled", "clone_seen", "last_seen", "clock_skew", "boot_id", "boot_origin"
)  # fmt: skip
_CHAIN_FIELDS = ("chain", "number", "header_sha256", "seen", "reply", "started", "restarted", "closed")

_DEVICES = f"SELECT {', '.join(_DEVICE_FIELDS)} FROM devices WHERE id "
_DEVICES_SQL = {
    "sqlite": text(_DEVICES + "IN (SELECT value FROM json_each(:ids)) ORDER BY id"),
    "postgresql": text(_DEVICES + "= ANY(:ids) ORDER BY id FOR NO KEY UPDATE"),
}
# The chains a header names, and whichever is open.
_CHAINS = (
    f"SELECT c.device_id, {', '.join('c.' + name for name in _CHAIN_FIELDS)} FROM k CROSS JOIN chains c "
    "WHERE c.device_id = k.d AND (c.chain = k.c OR NOT c.closed)"
)
_CHAINS_SQL = {
    dialect: text(keys + _CHAINS).columns(chains.c.device_id, *(chains.c[name] for name in _CHAIN_FIELDS))
    for dialect, keys in {
        "sqlite": "WITH k AS MATERIALIZED (SELECT json_extract(value, '$[0]') AS d, json_extract(value, '$[1]') AS c "
        "FROM json_each(:keys)) ",
        "postgresql": "WITH k AS MATERIALIZED (SELECT d, c FROM unnest(CAST(:d AS text[]), CAST(:c AS text[])) "
        "AS u (d, c)) ",
    }.items()
}


def load_devices(connection: Connection, named: Iterable[tuple[str, str]]) -> dict[str, DeviceState]:
    """Lock and read the devices of (device, chain) pairs, with those chains and the open ones."""
    pairs = sorted(set(named))
    ids = sorted({device for device, _ in pairs})
    on_sqlite = connection.dialect.name == "sqlite"
    rows = connection.execute(_DEVICES_SQL[connection.dialect.name], {"ids": json.dumps(ids) if on_sqlite else ids})
    found = {row[0]: DeviceState(*row) for row in rows}
    pairs = [pair for pair in pairs if pair[0] in found]
    keys = {"keys": json.dumps(pairs)} if on_sqlite else {"d": [p[0] for p in pairs], "c": [p[1] for p in pairs]}
    for device, *fields in connection.execute(_CHAINS_SQL[connection.dialect.name], keys):
        found[device].chains[fields[0]] = Chain(*fields)
    return found


def load_origins(connection: Connection, named: Sequence[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """When the monotonic clocks of boots (device, boot) were 0, of those boots the device reported in."""
    if not named:
        return {}
    ids, wanted = sorted({device for device, _ in named}), set(named)
    past = select(boots.c.device_id, boots.c.boot_id, boots.c.origin).where(boots.c.device_id.in_(ids))
    last = select(devices.c.id, devices.c.boot_id, devices.c.boot_origin).where(
        devices.c.id.in_(ids), devices.c.boot_origin.is_not(None)
    )
    found = {(device, boot): origin for query in (past, last) for device, boot, origin in connection.execute(query)}
    return {key: found[key] for key in wanted & found.keys()}


_UPDATE = (
    update(devices)
    .where(devices.c.id == bindparam("key"))
    .values({name: bindparam(name) for name in ("clone_seen", "last_seen", "clock_skew", "boot_id", "boot_origin")})
)


def save_devices(connection: Connection, states: Iterable[DeviceState]) -> None:
    """Write back what changed."""
    touched = [state for state in states if state.touched or state.changed_chains]
    if not touched:
        return
    connection.execute(
        _UPDATE,
        [
            {
                "key": s.id, "clone_seen": s.clone_seen, "last_seen": s.last_seen, "clock_skew": s.skew,
                "boot_id": s.boot_id, "boot_origin": s.boot_origin,
            }
            for s in touched
        ],
    )  # fmt: skip
    # A chain that is begun in this group has no row yet.
    changed = [_chain_row(s.id, s.chains[c]) for s in touched for c in sorted(s.changed_chains)]
    if changed:
        connection.execute(_chain_upsert(connection.dialect.name), changed)
    for state in touched:
        if state.restarted:
            _prune_chains(connection, state.id)
        if state.past_boots:
            _save_boots(connection, state)


def _chain_row(device: str, chain: Chain) -> dict[str, Any]:
    return {"device_id": device} | {name: getattr(chain, name) for name in _CHAIN_FIELDS}


@cache
def _chain_upsert(dialect: str) -> Any:
    make = postgresql.insert if dialect == "postgresql" else sqlite.insert
    upsert = make(chains)
    fields = ("number", "header_sha256", "seen", "reply", "closed")
    return upsert.on_conflict_do_update(
        index_elements=["device_id", "chain"], set_={name: upsert.excluded[name] for name in fields}
    )


def _prune_chains(connection: Connection, device: str) -> None:
    closed = (
        select(chains.c.chain)
        .where(chains.c.device_id == device, chains.c.closed)
        .order_by(chains.c.started.desc(), chains.c.chain)
        .offset(KEPT_CHAINS)
        .limit(1000)
    )
    old = list(connection.execute(closed).scalars())
    if old:
        connection.execute(delete(chains).where(chains.c.device_id == device, chains.c.chain.in_(old)))


def _save_boots(connection: Connection, state: DeviceState) -> None:
    # The last time a boot was met says best when its clock was 0: clocks drift.
    rows = {boot: {"device_id": state.id, "boot_id": boot, "origin": o, "seen": t} for boot, o, t in state.past_boots}
    connection.execute(delete(boots).where(boots.c.device_id == state.id, boots.c.boot_id.in_(list(rows))))
    connection.execute(insert(boots), list(rows.values()))
    old = (
        select(boots.c.boot_id)
        .where(boots.c.device_id == state.id)
        .order_by(boots.c.seen.desc(), boots.c.boot_id)
        .offset(KEPT_BOOTS)
        .limit(1000)
    )
    forgotten = list(connection.execute(old).scalars())
    if forgotten:
        connection.execute(delete(boots).where(boots.c.device_id == state.id, boots.c.boot_id.in_(forgotten)))
