"""After a simulated run: did the server count every acknowledged window, and each once?

Comes in: the devices of a run, which know what was acknowledged, and the monitor's database or its API. Goes out: a
report whose ``ok`` is what the promise of the whole chain comes to. ``edgeml monitor simulate`` and
``benchmarks/monitor.py`` call it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from sqlalchemy import Engine, create_engine, event, func, select
from sqlalchemy.exc import SQLAlchemyError

from edgeml.errors import MonitorDatabaseError, SimulationError
from edgeml.fleet.simulate_device import SimulatedDevice
from edgeml.fleet.simulate_http import Client, NoReply
from edgeml.fleet.tables import models, received_ranges, rollups, windows


def check_database(url: str, devices: Iterable[SimulatedDevice], window_model: Mapping[str, Any]) -> dict[str, Any]:
    """Compare with the database itself, window by window.

    Returns ``ok``; ``acknowledged`` and ``kept``, of the run's windows; ``missing``, acknowledged and not kept;
    ``foreign``, kept and never sent; ``unacknowledged``, kept though the reply was lost, which is allowed; and of the
    roll-ups by minute, hour and day the ``windows`` and ``rows``, which equal those of all windows of the model.
    Raises MonitorDatabaseError.
    """
    engine = _engine(url)
    try:
        return _compare(engine, list(devices), window_model)
    except SQLAlchemyError as error:
        raise MonitorDatabaseError(f"the database cannot be read: {type(error).__name__}", "check its URL") from None
    finally:
        engine.dispose()


def _compare(engine: Engine, devices: list[SimulatedDevice], window_model: Mapping[str, Any]) -> dict[str, Any]:
    known = {(d.device, d.stream): d for d in devices}
    kept = dict.fromkeys(known, 0)
    foreign = wrong_rows = 0
    of_model = select(models.c.id).where(
        models.c.name == window_model["name"], models.c.version == window_model["version"]
    )
    columns = (windows.c.device_id, windows.c.stream, windows.c.sequence, windows.c.rows)
    with engine.connect() as connection:
        ids = list(connection.scalars(of_model))
        rows = connection.execution_options(yield_per=5000).execute(select(*columns).where(windows.c.model_id.in_(ids)))
        for device_id, stream, sequence, count in rows:
            device = known.get((device_id, stream))
            if device is None:
                continue  # another run's
            if sequence >= device.sequence:
                foreign += 1
            else:
                kept[device_id, stream] |= 1 << sequence
                wrong_rows += count != device.rows_of(sequence)
        all_windows = connection.execute(
            select(func.count(), func.sum(windows.c.rows)).where(windows.c.model_id.in_(ids))
        ).one()
        levels = {
            level: (int(number or 0), int(total or 0))
            for level, number, total in connection.execute(
                select(rollups.c.level, func.sum(rollups.c.windows), func.sum(rollups.c.rows))
                .where(rollups.c.model_id.in_(ids))
                .group_by(rollups.c.level)
            )
        }
        # Retention has begun to delete: then roll-ups hold more than windows do.
        retained = not connection.scalar(select(func.count()).select_from(received_ranges))
    missing = sum((d.acknowledged & ~kept[k]).bit_count() for k, d in known.items())
    late = sum((kept[k] & ~d.acknowledged).bit_count() for k, d in known.items())
    whole = (int(all_windows[0]), int(all_windows[1] or 0))
    rolled = not retained or all(levels.get(level) == whole for level in ("minute", "hour", "day"))
    return {
        "ok": not missing and not foreign and not wrong_rows and rolled,
        "by": "database",
        "acknowledged": sum(d.acknowledged.bit_count() for d in devices),
        "kept": sum(mask.bit_count() for mask in kept.values()),
        "missing": missing,
        "foreign": foreign,
        "wrong_rows": wrong_rows,
        "unacknowledged": late,
        "model_windows": whole[0],
        "model_rows": whole[1],
        "rollups": {level: {"windows": w, "rows": r} for level, (w, r) in levels.items()},
    }


async def check_api(
    client: Client, token: str, devices: Sequence[SimulatedDevice], window_model: Mapping[str, Any]
) -> dict[str, Any]:
    """Compare with the sums that people see, by way of an access token of the devices' project.

    Exact when every window of the run was acknowledged and the model has no other devices; else the sums must lie
    between what was acknowledged and what was sent. Raises SimulationError when the API does not answer.
    """
    acknowledged = sum(d.acknowledged.bit_count() for d in devices)
    sent = sum(d.sequence for d in devices)
    project = devices[0].project
    path = f"/v1/projects/{project}/models"
    found = await _find(client, token, path, window_model)
    levels: dict[str, dict[str, int]] = {}
    for level in ("hour", "day"):
        answer = await _get(client, token, f"{path}/{found}/series?level={level}&start=0&limit=1000") if found else {}
        points = answer.get("items", [])
        levels[level] = {name: sum(point[name] for point in points) for name in ("windows", "rows")}
    kept = levels["day"]["windows"]
    least = sum(d.rows_of(i) for d in devices for i in range(d.sequence) if d.acknowledged >> i & 1)
    exact = acknowledged == sent
    rows = levels["day"]["rows"]
    ok = kept == acknowledged and rows == least if exact else acknowledged <= kept <= sent and rows >= least
    return {
        "ok": ok and levels["hour"] == levels["day"],
        "by": "API",
        "acknowledged": acknowledged,
        "kept": kept,
        "missing": max(acknowledged - kept, 0),
        "foreign": max(kept - sent, 0),
        "acknowledged_rows": least,
        "model_rows": rows,
        "rollups": levels,
    }


async def _find(client: Client, token: str, path: str, window_model: Mapping[str, Any]) -> int | None:
    after = ""
    while True:
        page = await _get(client, token, f"{path}?limit=1000{after}")
        for model in page["items"]:
            if all(model[name] == window_model[name] for name in ("name", "version")):
                return int(model["id"])
        if page.get("next") is None:
            return None
        after = f"&after={quote(str(page['next']))}"


async def _get(client: Client, token: str, path: str) -> Any:
    try:
        reply = await client.send(client.request("GET", path, {"Authorization": f"Bearer {token}"}, b""))
    except NoReply as error:
        raise SimulationError(f"the server's count cannot be read: {error}", "is it still running?") from None
    if reply.status != 200:
        raise SimulationError(
            f"the server's count cannot be read: {reply.said()}", "give an access token of the devices' project"
        )
    return reply.json()


def _engine(url: str) -> Engine:
    if url.startswith(("postgresql://", "postgres://")):
        url = "postgresql+psycopg://" + url.partition("://")[2]
    try:
        engine = create_engine(url)
    except (SQLAlchemyError, ImportError) as error:
        raise MonitorDatabaseError(f"not a database's URL: {type(error).__name__}", "give the server's own") from None
    if engine.dialect.name == "sqlite":

        @event.listens_for(engine, "connect")
        def read_only(connection: Any, _: Any) -> None:
            connection.execute("PRAGMA query_only=ON")

    return engine
