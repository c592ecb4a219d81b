"""What happened in a project, as lists: losses, events, items that were refused, and the audit log.

As in ``queries.py``, through which these are reached, nothing of another project is found.
"""

from __future__ import annotations

import zlib
from typing import Any

import orjson
from sqlalchemy import Connection, Select, func, select

from edgeml.fleet import paging, tables
from edgeml.fleet.paging import Page


def losses(
    connection: Connection, project_id: str, *, device_id: str | None = None, limit: int = 100, after: str | None = None
) -> Page:
    """Numbers that devices gave and could not keep, with the reason; those reported last come first."""
    table, limit = tables.losses.c, paging.bounded(limit)
    query = _of_project(select(tables.losses), table.device_id, project_id, device_id)
    key = (table.received, table.device_id, table.stream, table.first, table.last)
    query = paging.newest_first(query, key, after, (float, str, str, int, int))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return paging.page(rows, limit, lambda row: [row[column.name] for column in key], _named)


def loss_totals(connection: Connection, project_id: str, *, device_id: str | None = None) -> list[dict[str, Any]]:
    """Items and rows that were lost, by kind and reason, most items first."""
    table = tables.losses.c
    items = func.sum(table.last - table.first + 1)
    query = select(table.kind, table.reason, items, func.sum(table.rows)).group_by(table.kind, table.reason)
    query = _of_project(query, table.device_id, project_id, device_id)
    found = connection.execute(query.order_by(items.desc(), table.kind, table.reason)).all()
    return [{"kind": row[0], "reason": row[1], "items": int(row[2]), "rows": int(row[3])} for row in found]


def events(
    connection: Connection, project_id: str, *, device_id: str | None = None, kind: str | None = None,
    since: float | None = None, limit: int = 100, after: str | None = None,
) -> Page:  # fmt: skip
    """What the monitor noticed, the latest first."""
    table, limit = tables.events.c, paging.bounded(limit)
    query = select(tables.events).where(table.project_id == project_id)
    if device_id is not None:
        query = query.where(table.device_id == device_id)
    if kind is not None:
        query = query.where(table.kind == kind)
    if since is not None:
        query = query.where(table.at >= since)
    query = paging.newest_first(query, (table.id,), after, (int,))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return paging.page(rows, limit, lambda row: [row["id"]], _named)


def quarantine(
    connection: Connection, project_id: str, *, device_id: str | None = None, limit: int = 100, after: str | None = None
) -> Page:
    """Items that were refused, the latest first, without what they hold."""
    table, limit = tables.quarantine.c, paging.bounded(limit)
    fields = [column for column in table if column.name != "payload"]
    query = _of_project(select(*fields), table.device_id, project_id, device_id)
    key = (table.received, table.device_id, table.stream, table.sequence)
    query = paging.newest_first(query, key, after, (float, str, str, int))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return paging.page(rows, limit, lambda row: [row[column.name] for column in key], _named)


def quarantined(
    connection: Connection, project_id: str, device_id: str, stream: str, sequence: int
) -> dict[str, Any] | None:
    """One item that was refused, with what it holds (None when the device had too many to keep them all)."""
    table = tables.quarantine.c
    query = _of_project(select(tables.quarantine), table.device_id, project_id, device_id)
    row = connection.execute(query.where(table.stream == stream, table.sequence == sequence)).mappings().one_or_none()
    if row is None:
        return None
    payload = orjson.loads(zlib.decompress(row["payload"])) if row["payload"] else None
    return _named(row) | {"payload": payload}


def audit(connection: Connection, project_id: str | None, *, limit: int = 100, after: str | None = None) -> Page:
    """The audit log, the latest first: of a project, or, with None, of everything."""
    table, limit = tables.audit.c, paging.bounded(limit)
    query: Select[Any] = select(tables.audit)
    if project_id is not None:
        query = query.where(table.project_id == project_id)
    query = paging.newest_first(query, (table.id,), after, (int,))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return paging.page(rows, limit, lambda row: [row["id"]], _named)


def _of_project(query: Select[Any], column: Any, project_id: str, device_id: str | None) -> Select[Any]:
    table = tables.devices.c
    query = query.join(tables.devices, table.id == column).where(table.project_id == project_id)
    return query if device_id is None else query.where(column == device_id)


def _named(row: Any) -> dict[str, Any]:
    """A row as the API names it: ``device`` and ``project`` are ids."""
    return {name.removesuffix("_id"): value for name, value in row.items() if name != "payload"}
