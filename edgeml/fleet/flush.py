"""Writes what one transaction of ingest found: new rows, changed devices, and sums added to the roll-ups.

Comes in: ``Findings``, filled by ``merge.py``. Goes out: statements on the transaction's connection, a few for any
number of windows. Roll-ups come last, for their rows are wanted by every server: they are locked for the shortest time,
and in one order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text, update

from edgeml.fleet.device_state import DeviceState, save_devices
from edgeml.fleet.losses import StreamLosses
from edgeml.fleet.registry import insert_ignoring
from edgeml.fleet.retention import Retention
from edgeml.fleet.rollup import LEVELS, Sums
from edgeml.fleet.tables import events, losses, quarantine, rollups, samples, windows

# Of a device that sends nothing but refuse, the numbers are kept and no more payloads than these.
MAX_QUARANTINED_PAYLOADS = 1000

RollupKey = tuple[int, str, int]  # model, level, start
Rows = list[dict[str, Any]]


@dataclass
class Findings:
    """What a transaction found. ``sums`` are by model and minute; ``now`` is when its latest batch was received."""

    retention: Retention
    now: float = 0.0
    devices: dict[str, DeviceState] = field(default_factory=dict)
    windows: Rows = field(default_factory=list)
    samples: Rows = field(default_factory=list)
    quarantine: Rows = field(default_factory=list)
    events: Rows = field(default_factory=list)
    said: set[Any] = field(default_factory=set)
    sums: dict[tuple[int, int], Sums] = field(default_factory=dict)
    losses: dict[tuple[str, str], StreamLosses] = field(default_factory=dict)

    def losses_of(self, device: str, stream: str) -> StreamLosses:
        return self.losses.setdefault((device, stream), StreamLosses())

    def no_longer_lost(self, device: str, stream: str, sequence: int, rows: int) -> None:
        known = self.losses.get((device, stream))
        if known is not None:
            known.receive(sequence, rows)


def flush(connection: Connection, found: Findings) -> None:
    """Write everything ``found`` holds."""
    save_devices(connection, found.devices.values())
    for table, rows in ((windows, found.windows), (samples, found.samples), (events, found.events)):
        if rows:
            connection.execute(insert(table), rows)
    if found.quarantine:
        _quarantine(connection, found.quarantine)
    _losses(connection, found)
    _rollups(connection, list(_by_level(found)))


def _quarantine(connection: Connection, rows: Rows) -> None:
    for device in {row["device_id"] for row in rows}:
        count = select(func.count()).select_from(quarantine).where(quarantine.c.device_id == device)
        room = MAX_QUARANTINED_PAYLOADS - connection.execute(count).scalar_one()
        for place, row in enumerate(row for row in rows if row["device_id"] == device):
            if place >= room:
                row["payload"] = b""
    connection.execute(insert(quarantine), rows)


def _losses(connection: Connection, found: Findings) -> None:
    gone: Rows = []
    new: Rows = []
    for (device, stream), known in found.losses.items():
        gone += [{"d": device, "s": stream, "f": lost.first, "l": lost.last} for lost in known.deleted]
        new += [
            {
                "device_id": device, "stream": stream, "first": lost.first, "last": lost.last, "kind": lost.kind,
                "reason": lost.reason, "rows": lost.rows, "received": lost.received,
            }
            for lost in known.inserted
        ]  # fmt: skip
    if gone:
        connection.execute(
            delete(losses).where(
                losses.c.device_id == bindparam("d"), losses.c.stream == bindparam("s"),
                losses.c.first == bindparam("f"), losses.c.last == bindparam("l"),
            ),
            gone,
        )  # fmt: skip
    if new:
        connection.execute(insert(losses), new)


# --- roll-ups -------------------------------------------------------------------------------------------------------
def _by_level(found: Findings) -> Iterable[tuple[RollupKey, Sums]]:
    """Sums of the minutes, hours and days. A level whose retention has passed is left out: what it would make anew
    would be but a part.
    """
    for level, seconds in LEVELS.items():
        oldest = found.retention.oldest_start(level, found.now)
        totals: dict[RollupKey, Sums] = {}
        for (model, minute), sums in found.sums.items():
            start = minute // seconds * seconds
            if start < oldest:
                continue
            total = totals.get((model, level, start))
            if total is None:
                total = totals[model, level, start] = Sums(len(sums.counts))
            total.merge(sums)
        yield from totals.items()


_SELECT = "SELECT r.model_id, r.level, r.start, r.windows, r.rows, r.sums FROM k CROSS JOIN rollups r "
_WHERE = "WHERE r.model_id = k.m AND r.level = k.l AND r.start = k.s "
_ROLLUPS_SQL = {
    "sqlite": text(
        "WITH k AS MATERIALIZED (SELECT json_extract(value, '$[0]') AS m, json_extract(value, '$[1]') AS l, "
        f"json_extract(value, '$[2]') AS s FROM json_each(:keys)) {_SELECT} {_WHERE}"
    ),
    "postgresql": text(
        "WITH k AS MATERIALIZED (SELECT m, l, s FROM unnest(CAST(:m AS bigint[]), CAST(:l AS text[]), "
        f"CAST(:s AS bigint[])) AS u (m, l, s)) {_SELECT} {_WHERE} ORDER BY 1, 2, 3 FOR UPDATE OF r"
    ),
}
_UPDATE = (
    update(rollups)
    .where(rollups.c.model_id == bindparam("m"), rollups.c.level == bindparam("l"), rollups.c.start == bindparam("s"))
    .values({name: bindparam(name) for name in ("windows", "rows", "sums")})
)


def _rollups(connection: Connection, added: list[tuple[RollupKey, Sums]]) -> None:
    if not added:
        return
    totals = dict(added)
    keys = sorted(totals)
    known = _lock(connection, keys)
    missing = [key for key in keys if key not in known]
    if missing:
        # Empty first: another server may make the same row at this moment, and then both add to it.
        connection.execute(
            insert_ignoring(connection, rollups),
            [
                {"model_id": m, "level": level, "start": s, "windows": 0, "rows": 0, "sums": b""}
                for m, level, s in missing
            ],
        )
        known |= _lock(connection, missing)
    rows = []
    for key in keys:
        sums = totals[key]
        if known[key] is not None:
            sums.merge(known[key])
        rows.append(
            {
                "m": key[0], "l": key[1], "s": key[2], "windows": sums.windows, "rows": sums.rows,
                "sums": sums.to_bytes(),
            }
        )  # fmt: skip
    connection.execute(_UPDATE, rows)


def _lock(connection: Connection, keys: list[RollupKey]) -> dict[RollupKey, Any]:
    """The sums of those rows that exist, locked; None for an empty one."""
    if connection.dialect.name == "sqlite":
        parameters: dict[str, Any] = {"keys": json.dumps(keys)}
    else:
        parameters = {"m": [k[0] for k in keys], "l": [k[1] for k in keys], "s": [k[2] for k in keys]}
    return {
        (model, level, start): Sums.from_bytes(data, count, rows) if data else None
        for model, level, start, count, rows, data in connection.execute(
            _ROLLUPS_SQL[connection.dialect.name], parameters
        )
    }
