"""One step of retention each: old windows into days of a device, refused items and old losses into fewer rows.

Every step is one transaction that leaves all counts as they were and every number of a stream known. Called by
``retention.py``, which repeats a step until it finds nothing more.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, text, tuple_, update

from edgeml.fleet.ranges import Range, of_numbers, union
from edgeml.fleet.registry import insert_ignoring, layout_of
from edgeml.fleet.rollup import DAY, Sums
from edgeml.fleet.store import Store
from edgeml.fleet.tables import device_days, losses, quarantine, received_ranges, samples, windows

# Windows of one transaction: 20 to 50 ms of work, most of it before the transaction begins.
CHUNK = 250
SEVERAL = "several reasons"
_REASON = 200

_LOCK = text("SELECT id FROM devices WHERE id = :id FOR NO KEY UPDATE")


class _ChangedMeanwhile(Exception):
    """Another server folded the same windows."""


def fold_windows(store: Store, device: str, before: float) -> int:
    """Fold some windows of a device received before a moment into ``device_days``; returns how many."""
    fields = (windows.c.stream, windows.c.sequence, windows.c.received, windows.c.model_id, windows.c.ended)
    with store.read() as connection:
        rows = connection.execute(
            select(*fields, windows.c.payload)
            .where(windows.c.device_id == device, windows.c.received < before)
            .limit(CHUNK)
        ).all()
        layouts = {model: layout_of(connection, model) for model in {row.model_id for row in rows}}
    sums: dict[tuple[int, int], Sums] = {}
    for row in rows:
        key = (row.model_id, int(row.ended // DAY) * DAY)
        if key not in sums:
            sums[key] = Sums(layouts[row.model_id].slots)
        sums[key].add(json.loads(zlib.decompress(row.payload)), layouts[row.model_id])
    return _let_go(store, windows, device, rows, sums)


def fold_samples(store: Store, device: str, before: float) -> int:
    """Delete some samples of a device received before a moment; returns how many."""
    with store.read() as connection:
        rows = connection.execute(
            select(samples.c.stream, samples.c.sequence, samples.c.received)
            .where(samples.c.device_id == device, samples.c.received < before)
            .limit(CHUNK)
        ).all()
    return _let_go(store, samples, device, rows, {})


def _let_go(store: Store, table: Table, device: str, rows: Sequence[Any], sums: dict[tuple[int, int], Sums]) -> int:
    if not rows:
        return 0
    try:
        with store.write() as connection:
            _lock(connection, device)
            key = tuple_(table.c.stream, table.c.sequence)
            gone = delete(table).where(table.c.device_id == device, key.in_([(r.stream, r.sequence) for r in rows]))
            if connection.execute(gone).rowcount != len(rows):
                raise _ChangedMeanwhile
            for stream in {row.stream for row in rows}:
                mine = [row for row in rows if row.stream == stream]
                _add_ranges(
                    connection, device, stream, of_numbers(r.sequence for r in mine), max(r.received for r in mine)
                )
            for (model, start), added in sorted(sums.items()):
                _add_day(connection, device, model, start, added)
    except _ChangedMeanwhile:
        return 0  # whoever did it goes on
    return len(rows)


def _lock(connection: Connection, device: str) -> None:
    # As ingest does, so that it sees a number in one of the two tables.
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, {"id": device})


def _add_ranges(connection: Connection, device: str, stream: str, added: list[Range], received: float) -> None:
    table = received_ranges
    of_stream = (table.c.device_id == device, table.c.stream == stream)
    rows = connection.execute(select(table.c.first, table.c.last, table.c.received).where(*of_stream)).all()
    before = {(first, last): at for first, last, at in rows}
    after = union([*before, *added])
    joined = [key for key in before if key not in after]
    if joined:
        connection.execute(delete(table).where(*of_stream, table.c.first.in_([first for first, _ in joined])))
    new = [key for key in after if key not in before]
    if new:
        connection.execute(
            insert(table),
            [
                {
                    "device_id": device, "stream": stream, "first": first, "last": last,
                    "received": max([received, *(before[k] for k in joined if first <= k[0] <= last)]),
                }
                for first, last in new
            ],
        )  # fmt: skip


def _add_day(connection: Connection, device: str, model: int, start: int, added: Sums) -> None:
    table = device_days
    key = {"device_id": device, "model_id": model, "start": start}
    where = [table.c[name] == value for name, value in key.items()]
    row = connection.execute(select(table.c.windows, table.c.rows, table.c.sums).where(*where)).one_or_none()
    if row is not None:
        added.merge(Sums.from_bytes(row.sums, row.windows, row.rows))
    values = {"windows": added.windows, "rows": added.rows, "sums": added.to_bytes()}
    connection.execute(
        insert(table).values(key | values) if row is None else update(table).where(*where).values(values)
    )


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
            _lock(connection, device)
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
