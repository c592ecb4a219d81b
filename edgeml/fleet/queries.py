"""What people ask about a project: its devices, their streams with gaps, its models, and how it is.

Every function takes a project and finds nothing of another one: tenants are kept apart here, whatever the caller
checked. Lists come in parts (``paging.Page``). Called by the routes and by the command line; ``records.py`` and
``series.py`` hold the rest, and are reached through here.
"""

from __future__ import annotations

import zlib
from collections import defaultdict
from typing import Any

import orjson
from sqlalchemy import Connection, Select, and_, func, select, text, tuple_

from edgeml.errors import MonitorSettingsError
from edgeml.fleet import paging, tables
from edgeml.fleet.paging import Page
from edgeml.fleet.ranges import Range, count, subtract, union
from edgeml.fleet.records import audit, events, loss_totals, losses, quarantine, quarantined
from edgeml.fleet.registry import profile_of
from edgeml.fleet.series import device_series, series
from edgeml.profile import slot_names

__all__ = [
    "Page", "audit", "device", "device_series", "devices", "events", "loss_totals", "losses", "model", "models",
    "quarantine", "quarantined", "series", "streams", "summary", "totals", "windows",
]  # fmt: skip

MAX_GAPS = 100  # of a stream that are listed; "missing" counts all
_SPANS = {"seen_5_minutes": 300, "seen_hour": 3600, "seen_day": 86400}

_DEVICE = (
    "id", "name", "labels", "state", "enrolled", "last_seen", "clone_seen", "clock_skew"
)  # fmt: skip


# --- devices --------------------------------------------------------------------------------------------------------
def devices(
    connection: Connection, project_id: str, *, search: str = "", state: str | None = None, label: str | None = None,
    limit: int = 100, after: str | None = None,
) -> Page:  # fmt: skip
    """Devices by name. ``search`` is in the name or begins the id; ``label`` is KEY=VALUE."""
    table, limit = tables.devices.c, paging.bounded(limit)
    query = select(*(table[name] for name in _DEVICE)).where(table.project_id == project_id)
    if search:
        found = func.lower(table.name).contains(search.lower(), autoescape=True)
        query = query.where(found | table.id.startswith(search.lower(), autoescape=True))
    if state is not None:
        query = query.where(table.state == state)
    if label is not None:
        key, _, value = label.partition("=")
        query = query.where(_label(connection, key) == value)
    if after is not None:
        # A name may be longer than a cursor: the device is named by its id.
        last = connection.execute(select(table.name).where(table.id == after, table.project_id == project_id)).scalar()
        if last is None:
            raise MonitorSettingsError("'after' is no device of the project", "begin the list again")
        query = query.where(tuple_(table.name, table.id) > (last, after))
    rows = connection.execute(query.order_by(table.name, table.id).limit(limit + 1)).mappings().all()
    return paging.page(rows, limit, lambda row: [row["id"]], dict)


def _label(connection: Connection, key: str) -> Any:
    """A label's value, in SQL; its key may hold any character."""
    labels = tables.devices.c.labels
    if connection.dialect.name == "postgresql":
        return labels.op("->>")(key)
    each = func.json_each(labels).table_valued("key", "value")
    return select(each.c.value).where(each.c.key == key).scalar_subquery()


def device(connection: Connection, project_id: str, device_id: str) -> dict[str, Any] | None:
    """One device with its open chain, its totals and what it lost; None when the project has no such device."""
    table = tables.devices.c
    where = (table.id == device_id, table.project_id == project_id)
    row = connection.execute(select(*(table[name] for name in _DEVICE)).where(*where)).mappings().one_or_none()
    if row is None:
        return None
    chain, seen = tables.chains.c, dict(row)
    of_device = select(chain.chain, chain.number, chain.started, chain.restarted).where(chain.device_id == device_id)
    newest = connection.execute(of_device.where(~chain.closed)).mappings().one_or_none()
    began = connection.execute(select(func.count()).where(chain.device_id == device_id)).scalar_one()
    seen |= {"chain": None if newest is None else dict(newest), "chains": began}
    kept, folded = tables.windows.c, tables.device_days.c
    number, rows = (
        int(sum(values))
        for values in zip(
            *(
                connection.execute(query).one()
                for query in (
                    select(func.count(), _sum(kept.rows)).where(kept.device_id == device_id),
                    select(_sum(folded.windows), _sum(folded.rows)).where(folded.device_id == device_id),
                )
            ),
            strict=True,
        )
    )
    lost = loss_totals(connection, project_id, device_id=device_id)
    refused = select(func.count()).where(tables.quarantine.c.device_id == device_id)
    return seen | {
        "windows": number,
        "rows": rows,
        "lost": sum(entry["items"] for entry in lost),
        "refused": connection.execute(refused).scalar_one(),
        "models": _models_of(connection, device_id),
    }


def _models_of(connection: Connection, device_id: str) -> list[dict[str, Any]]:
    model, kept, folded = tables.models.c, tables.windows.c, tables.device_days.c
    of_device = (
        select(kept.model_id)
        .where(kept.device_id == device_id)
        .union(select(folded.model_id).where(folded.device_id == device_id))
    )
    query = select(model.id, model.name, model.version).where(model.id.in_(of_device)).order_by(model.id)
    return [dict(row) for row in connection.execute(query).mappings()]


def _sum(column: Any) -> Any:
    """A sum that is 0 of nothing. PostgreSQL's is a decimal number: ``int`` it."""
    return func.coalesce(func.sum(column), 0)


# --- streams --------------------------------------------------------------------------------------------------------
# Numbers that follow each other have one difference to their rank: each group is one range.
_ISLANDS = text(
    "SELECT stream, MIN(sequence), MAX(sequence), MAX(received) FROM ("
    "SELECT stream, sequence, received, sequence - ROW_NUMBER() OVER (PARTITION BY stream ORDER BY sequence) AS island "
    "FROM (SELECT stream, sequence, received FROM windows WHERE device_id = :device "
    "UNION ALL SELECT stream, sequence, received FROM samples WHERE device_id = :device) AS items) AS ranked "
    "GROUP BY stream, island"
)


def streams(
    connection: Connection, project_id: str, device_id: str, *, limit: int = 100, after: str | None = None
) -> Page:
    """Streams of a device, the latest first, with what is missing: numbers below the highest known one that were
    neither received nor refused nor reported as lost. At most 100 gaps of a stream are listed.
    """
    limit = paging.bounded(limit)
    received: dict[str, list[Range]] = defaultdict(list)
    lost: dict[str, list[Range]] = defaultdict(list)
    refused: dict[str, list[Range]] = defaultdict(list)
    latest: dict[str, float] = defaultdict(float)
    if _is_of(connection, project_id, device_id):
        folded, gone, bad = tables.received_ranges.c, tables.losses.c, tables.quarantine.c
        for into, rows in (
            (received, connection.execute(_ISLANDS, {"device": device_id})),
            *(
                (kind, connection.execute(select(t.stream, first, last, t.received).where(t.device_id == device_id)))
                for kind, t, first, last in (
                    (received, folded, folded.first, folded.last),
                    (lost, gone, gone.first, gone.last),
                    (refused, bad, bad.sequence, bad.sequence),
                )
            ),
        ):
            for stream, first, last, at in rows:
                into[stream].append((int(first), int(last)))
                latest[stream] = max(latest[stream], at)
    order = sorted(latest, key=lambda stream: (latest[stream], stream), reverse=True)
    if after is not None:
        mark = tuple(paging.read(after, (float, str)))
        order = [stream for stream in order if (latest[stream], stream) < mark]
    return paging.page(
        order[: limit + 1], limit, lambda stream: (latest[stream], stream),
        lambda stream: _stream(stream, received[stream], lost[stream], refused[stream], latest[stream]),
    )  # fmt: skip


def _stream(
    stream: str, received: list[Range], lost: list[Range], refused: list[Range], latest: float
) -> dict[str, Any]:
    known = union([*received, *lost, *refused])
    gaps = subtract([(0, known[-1][1])], known)
    return {
        "stream": stream, "first": known[0][0], "last": known[-1][1], "received": count(union(received)),
        "lost": count(subtract(union(lost), union(received))), "refused": count(union(refused)),
        "missing": count(gaps), "gaps": [list(gap) for gap in gaps[:MAX_GAPS]], "last_received": latest,
    }  # fmt: skip


def _is_of(connection: Connection, project_id: str, device_id: str) -> bool:
    table = tables.devices.c
    query = select(table.id).where(table.id == device_id, table.project_id == project_id)
    return connection.execute(query).one_or_none() is not None


def windows(
    connection: Connection, project_id: str, device_id: str, *, limit: int = 100, after: str | None = None
) -> Page:
    """Windows of a device as it sent them, the latest first; those that retention has folded are gone."""
    table, limit = tables.windows.c, paging.bounded(limit)
    query: Select[Any] = select(tables.windows).where(
        table.device_id == device_id, _project_is(table.device_id, project_id)
    )
    query = paging.newest_first(query, (table.received, table.stream, table.sequence), after, (float, str, int))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    return paging.page(rows, limit, lambda r: (r["received"], r["stream"], r["sequence"]), _window)


def _window(row: Any) -> dict[str, Any]:
    shown = {name: value for name, value in row.items() if name not in ("payload", "device_id")}
    return shown | {"window": orjson.loads(zlib.decompress(row["payload"]))}


def _project_is(device_id: Any, project_id: str) -> Any:
    table = tables.devices.c
    return select(table.id).where(and_(table.id == device_id, table.project_id == project_id)).exists()


# --- models ---------------------------------------------------------------------------------------------------------
_MODEL = ("id", "name", "version", "manifest_sha256", "profile_sha256", "created", "registered_by")


def models(connection: Connection, project_id: str, *, limit: int = 100, after: str | None = None) -> Page:
    """Models, the newest first, with the windows and rows counted in them."""
    table, rolled, limit = tables.models.c, tables.rollups.c, paging.bounded(limit)
    query: Select[Any] = select(*(table[name] for name in _MODEL)).where(table.project_id == project_id)
    query = paging.newest_first(query, (table.id,), after, (int,))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    ids = [row["id"] for row in rows]
    sums = select(rolled.model_id, _sum(rolled.windows), _sum(rolled.rows), func.max(rolled.start)).where(
        rolled.level == "day", rolled.model_id.in_(ids)
    )
    found = {row[0]: row[1:] for row in connection.execute(sums.group_by(rolled.model_id))}

    def item(row: Any) -> dict[str, Any]:
        number, counted, day = found.get(row["id"], (0, 0, None))
        return dict(row) | {"windows": int(number), "rows": int(counted), "last_day": day}

    return paging.page(rows, limit, lambda row: [row["id"]], item)


def model(connection: Connection, project_id: str, model_id: int) -> dict[str, Any] | None:
    """One model with its features and scores: what each of their counts is of, and the reference counts."""
    table, body = tables.models, tables.profiles
    joined = table.outerjoin(
        body, and_(body.c.project_id == table.c.project_id, body.c.sha256 == table.c.profile_sha256)
    )
    query = (
        select(*(table.c[name] for name in _MODEL), table.c.reference, body.c.body)
        .select_from(joined)
        .where(table.c.id == model_id, table.c.project_id == project_id)
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    profile = profile_of(row["reference"], row["body"]) or {"n_ref": 0, "features": [], "scores": []}
    return {name: row[name] for name in _MODEL} | {
        "trusted_reference": row["reference"] is not None,
        "reference_rows": profile["n_ref"],
        **{field: [_record(record) for record in profile[field]] for field in ("features", "scores")},
    }


def _record(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": record["name"], "kind": record["kind"], "slots": slot_names(record), "reference": record["counts"]
    }  # fmt: skip


# --- the whole ------------------------------------------------------------------------------------------------------
def summary(connection: Connection, project_id: str, *, now: float) -> dict[str, Any]:
    """How a project is: devices by state and by when they were last heard of; what was counted, lost and refused."""
    device = tables.devices.c
    mine = device.project_id == project_id
    seen = [func.count().filter(device.last_seen > now - seconds) for seconds in _SPANS.values()]
    states = [func.count().filter(device.state == state) for state in ("active", "revoked")]
    cloned = func.count().filter(device.clone_seen.is_not(None))
    row = connection.execute(select(func.count(), *states, cloned, *seen).where(mine)).one()
    lost = loss_totals(connection, project_id)
    joined = tables.quarantine.join(tables.devices, device.id == tables.quarantine.c.device_id)
    refused = select(func.count()).select_from(joined).where(mine)
    total = next((t for t in _totals(connection, project_id)), {"models": 0, "windows": 0, "rows": 0})
    return {
        **dict(zip(("devices", "active", "revoked", "clone_seen", *_SPANS), map(int, row), strict=True)),
        **{name: total[name] for name in ("models", "windows", "rows")},
        "lost_items": sum(entry["items"] for entry in lost),
        "lost_rows": sum(entry["rows"] for entry in lost),
        "quarantine": connection.execute(refused).scalar_one(),
    }


def totals(connection: Connection) -> list[dict[str, Any]]:
    """Windows and rows counted, by project; from the roll-ups by day, so cheap however many windows there are."""
    return _totals(connection, None)


def _totals(connection: Connection, project_id: str | None) -> list[dict[str, Any]]:
    model, rolled = tables.models.c, tables.rollups.c
    joined = tables.models.outerjoin(tables.rollups, and_(rolled.model_id == model.id, rolled.level == "day"))
    query = select(model.project_id, func.count(model.id.distinct()), _sum(rolled.windows), _sum(rolled.rows))
    query = query.select_from(joined).group_by(model.project_id).order_by(model.project_id)
    if project_id is not None:
        query = query.where(model.project_id == project_id)
    return [
        {"project": project, "models": int(number), "windows": int(windows), "rows": int(rows)}
        for project, number, windows, rows in connection.execute(query)
    ]
