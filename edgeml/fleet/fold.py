"""One step of retention each: old windows into days of a device, refused items and old losses into fewer rows.

Every step is one transaction that leaves all counts as they were and every number of a stream known. Called by
``retention.py``, which repeats a step until it finds nothing more.
"""

from __future__ import annotations

import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Select, Table, bindparam, delete, func, insert, select, text, tuple_, update

from edgeml.fleet.ranges import Range, of_numbers, union
from edgeml.fleet.registry import insert_ignoring, layout_of
from edgeml.fleet.rollup import DAY, Sums
from edgeml.fleet.store import Store
from edgeml.fleet.tables import device_days, losses, quarantine, received_ranges, samples, windows

# Windows of one transaction: 20 to 50 ms of work, most of it before the transaction begins.
CHUNK = 250
SEVERAL = "several reasons"
_REASON = 200

# As ingest locks them, and in its order, so that it sees a number in one of the two tables.
_LOCK = text("SELECT id FROM devices WHERE id = ANY(:ids) ORDER BY id FOR NO KEY UPDATE")

Days = dict[tuple[str, int, int], Sums]  # by device, model, day


class _ChangedMeanwhile(Exception):
    """Another server folded the same windows."""


def fold_windows(store: Store, devices: Sequence[str], before: float) -> int:
    """Fold some windows of devices, received before a moment, into ``device_days``; returns how many."""
    table = windows.c
    fields = (table.device_id, table.stream, table.sequence, table.received, table.model_id, table.ended, table.payload)
    with store.read() as connection:
        rows = connection.execute(_old(windows, fields, devices, before)).all()
        layouts = {model: layout_of(connection, model) for model in {row.model_id for row in rows}}
    days: Days = {}
    for row in rows:
        key = (row.device_id, row.model_id, int(row.ended // DAY) * DAY)
        if key not in days:
            days[key] = Sums(layouts[row.model_id].slots)
        days[key].add(json.loads(zlib.decompress(row.payload)), layouts[row.model_id])
    return _let_go(store, windows, rows, days)


def fold_samples(store: Store, devices: Sequence[str], before: float) -> int:
    """Delete some samples of devices, received before a moment; returns how many."""
    table = samples.c
    with store.read() as connection:
        fields = (table.device_id, table.stream, table.sequence, table.received)
        rows = connection.execute(_old(samples, fields, devices, before)).all()
    return _let_go(store, samples, rows, {})


def _old(table: Table, fields: Sequence[Any], devices: Sequence[str], before: float) -> Select[Any]:
    # By device: all that one has of a day goes into one row.
    query = select(*fields).where(table.c.device_id.in_(devices), table.c.received < before)
    return query.order_by(table.c.device_id).limit(CHUNK)


def _let_go(store: Store, table: Table, rows: Sequence[Any], days: Days) -> int:
    if not rows:
        return 0
    keys = [(row.device_id, row.stream, row.sequence) for row in rows]
    try:
        with store.write() as connection:
            lock_devices(connection, [device for device, _, _ in keys])
            gone = delete(table).where(tuple_(table.c.device_id, table.c.stream, table.c.sequence).in_(keys))
            if connection.execute(gone).rowcount != len(rows):
                raise _ChangedMeanwhile
            _add_ranges(connection, rows)
            if days:
                _add_days(connection, days)
    except _ChangedMeanwhile:
        return 0  # whoever did it goes on
    return len(rows)


def lock_devices(connection: Connection, devices: Iterable[str]) -> None:
    """Keep ingest from these devices until the transaction ends. SQLite's write lock keeps it from all."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"ids": sorted(set(devices))})


def _add_ranges(connection: Connection, rows: Sequence[Any]) -> None:
    table = received_ranges
    added: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        added[row.device_id, row.stream].append(row)
    before: dict[tuple[str, str], dict[Range, float]] = defaultdict(dict)
    found = select(table).where(tuple_(table.c.device_id, table.c.stream).in_(list(added)))
    for row in connection.execute(found):
        before[row.device_id, row.stream][row.first, row.last] = row.received
    gone: list[dict[str, Any]] = []
    new: list[dict[str, Any]] = []
    for (device, stream), mine in added.items():
        known = before[device, stream]
        after = union([*known, *of_numbers(row.sequence for row in mine)])
        joined = [key for key in known if key not in after]
        gone += [{"d": device, "s": stream, "f": first} for first, _ in joined]
        for first, last in after:
            if (first, last) not in known:
                times = [known[k] for k in joined if first <= k[0] <= last]
                times += [row.received for row in mine if first <= row.sequence <= last]
                key = {"device_id": device, "stream": stream, "first": first, "last": last}
                new.append(key | {"received": max(times)})
    if gone:
        where = (table.c.device_id == bindparam("d"), table.c.stream == bindparam("s"), table.c.first == bindparam("f"))
        connection.execute(delete(table).where(*where), gone)
    if new:
        connection.execute(insert(table), new)


def _add_days(connection: Connection, days: Days) -> None:
    table = device_days
    key = (table.c.device_id, table.c.model_id, table.c.start)
    rows = connection.execute(
        select(*key, table.c.windows, table.c.rows, table.c.sums).where(tuple_(*key).in_(list(days)))
    )
    old = set()
    for row in rows.all():
        old.add((row.device_id, row.model_id, row.start))
        days[row.device_id, row.model_id, row.start].merge(Sums.from_bytes(row.sums, row.windows, row.rows))
    values = {
        at: {"windows": sums.windows, "rows": sums.rows, "sums": sums.to_bytes()} for at, sums in sorted(days.items())
    }
    changed = [{"d": at[0], "m": at[1], "s": at[2]} | value for at, value in values.items() if at in old]
    if changed:
        where = [column == bindparam(name) for column, name in zip(key, "dms", strict=True)]
        connection.execute(
            update(table).where(*where).values({name: bindparam(name) for name in ("windows", "rows", "sums")}), changed
        )
    names = ("device_id", "model_id", "start")
    new = [dict(zip(names, at, strict=True)) | value for at, value in values.items() if at not in old]
    if new:
        connection.execute(insert(table), new)


# --- what was refused or lost ---------------------------------------------------------------------------------------
def refused_to_losses(store: Store, before: float) -> int:
    """Delete some items refused before a moment; their numbers count as lost from then on. Returns how many."""
    with store.write() as connection:
        fields = [column for column in quarantine.c if column.name != "payload"]
        old = select(*fields).where(quarantine.c.received < before).order_by(quarantine.c.received).limit(CHUNK)
        rows = connection.execute(old).all()
        if rows:
            new = [
                {
                    "device_id": r.device_id, "stream": r.stream, "first": r.sequence, "last": r.sequence,
                    "kind": r.kind, "reason": f"refused: {r.reason}"[:_REASON], "rows": r.rows, "received": r.received,
                }
                for r in rows
            ]  # fmt: skip
            connection.execute(insert_ignoring(connection, losses), new)
            key = tuple_(quarantine.c.device_id, quarantine.c.stream, quarantine.c.sequence)
            connection.execute(delete(quarantine).where(key.in_([tuple(row[:3]) for row in rows])))
    return len(rows)


def join_losses(store: Store, before: float, stop: Callable[[], bool]) -> int:
    """Join adjacent losses of a stream reported before a moment; returns how many rows went."""
    fields = (losses.c.device_id, losses.c.stream, losses.c.kind)
    with store.read() as connection:
        several = select(*fields).where(losses.c.received < before).group_by(*fields).having(func.count() > 1)
        streams = connection.execute(several).all()
    gone = 0
    for device, stream, kind in streams:
        if stop():
            break
        with store.write() as connection:
            lock_devices(connection, [device])
            where = (losses.c.device_id == device, losses.c.stream == stream, losses.c.kind == kind)
            rows = connection.execute(select(losses).where(*where, losses.c.received < before)).mappings().all()
            gone += _join(connection, [dict(row) for row in rows])
    return gone


def _join(connection: Connection, rows: Iterable[dict[str, Any]]) -> int:
    joined: list[list[dict[str, Any]]] = []
    for row in sorted(rows, key=lambda row: row["first"]):
        if joined and row["first"] == joined[-1][-1]["last"] + 1:
            joined[-1].append(row)
        else:
            joined.append([row])
    gone = 0
    for group in joined:
        if len(group) == 1:
            continue
        reasons = {row["reason"] for row in group}
        key = ("device_id", "stream", "first", "last")
        connection.execute(
            delete(losses).where(*(losses.c[name] == bindparam(f"b_{name}") for name in key)),
            [{f"b_{name}": row[name] for name in key} for row in group],
        )
        connection.execute(
            insert(losses),
            group[0]
            | {
                "last": group[-1]["last"], "rows": sum(row["rows"] for row in group),
                "reason": reasons.pop() if len(reasons) == 1 else SEVERAL,
                "received": max(row["received"] for row in group),
            },
        )  # fmt: skip
        gone += len(group) - 1
    return gone
