"""How a model's counts went over time: merged over all devices from the roll-ups, or of one device by day.

Comes in: rows of ``rollups``, ``device_days`` and ``windows``. Goes out: entries with dense counts in the order of the
model's features and scores (``queries.model`` names them). Reached through ``queries.py``.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

from sqlalchemy import Connection, Select, select

from edgeml.fleet import paging, tables
from edgeml.fleet.registry import layout_of
from edgeml.fleet.rollup import DAY, LEVELS, Layout, Sums

# Windows of a device that are added up for one answer; more are folded by retention anyway.
_MAX_WINDOWS = 20_000


def series(
    connection: Connection, project_id: str, model_id: int, level: str, start: float, end: float, *, limit: int = 1000
) -> list[dict[str, Any]] | None:
    """The buckets of a model from ``start`` to before ``end``, ascending, at most ``limit``.

    ``level`` is "minute", "hour" or "day". None when the project has no such model. A bucket without windows is not
    listed.
    """
    if not _has_model(connection, project_id, model_id):
        return None
    table, layout = tables.rollups.c, layout_of(connection, model_id)
    seconds = LEVELS[level]
    query = (
        select(table.start, table.windows, table.rows, table.sums)
        .where(table.model_id == model_id, table.level == level, table.start > start - seconds, table.start < end)
        .order_by(table.start)
        .limit(paging.bounded(limit))
    )
    return [
        _entry(row.start, seconds, Sums.from_bytes(row.sums, row.windows, row.rows), layout)
        for row in connection.execute(query)
    ]


def device_series(
    connection: Connection, project_id: str, device_id: str, model_id: int, start: float, end: float
) -> list[dict[str, Any]] | None:
    """The same of one device by day: days that retention has made, and the windows it has not folded yet."""
    device = tables.devices.c
    mine = select(device.id).where(device.id == device_id, device.project_id == project_id)
    if not _has_model(connection, project_id, model_id) or connection.execute(mine).one_or_none() is None:
        return None
    layout = layout_of(connection, model_id)
    days: dict[int, Sums] = {}
    folded, kept = tables.device_days.c, tables.windows.c
    query: Select[Any] = select(folded.start, folded.windows, folded.rows, folded.sums).where(
        folded.device_id == device_id, folded.model_id == model_id, folded.start > start - DAY, folded.start < end
    )
    for row in connection.execute(query):
        days[row.start] = Sums.from_bytes(row.sums, row.windows, row.rows)
    first, last = int(start // DAY) * DAY, -int(-end // DAY) * DAY  # whole days
    query = (
        select(kept.ended, kept.payload)
        .where(kept.device_id == device_id, kept.model_id == model_id, kept.ended >= first, kept.ended < last)
        .limit(_MAX_WINDOWS)
    )
    for row in connection.execute(query):
        sums = days.setdefault(int(row.ended // DAY) * DAY, Sums(layout.slots))
        sums.add(json.loads(zlib.decompress(row.payload)), layout)
    return [_entry(day, DAY, sums, layout) for day, sums in sorted(days.items())]


def _has_model(connection: Connection, project_id: str, model_id: int) -> bool:
    table = tables.models.c
    query = select(table.id).where(table.id == model_id, table.project_id == project_id)
    return connection.execute(query).one_or_none() is not None


def _entry(start: int, seconds: int, sums: Sums, layout: Layout) -> dict[str, Any]:
    figures = {
        name: {"count": int(n), "mean": total / n, "min": least, "max": most}
        for name, (n, total, least, most) in sums.system.items()
    }
    return {
        "start": start, "seconds": seconds, "windows": sums.windows, "rows": sums.rows, "calls": sums.calls,
        "errors": sums.errors, "system": figures, "feedback": sums.feedback, **sums.histograms(layout),
    }  # fmt: skip
