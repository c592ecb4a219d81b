"""What can still be read of a spool's database that was set aside: whole items, losses and profiles.

Each is taken only when it opens with the data key, so nothing false comes back. What was delivered since comes a
second time: the monitor counts a number of a stream once. ``spool_file`` runs the steps on the new database.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from edgeml.telemetry import spool_losses as losses
from edgeml.telemetry import spool_tables as tables
from edgeml.telemetry.items import Item
from edgeml.telemetry.spool_rows import Damaged, DamagedItem, Rows, pack
from edgeml.telemetry.vault import Unreadable, Vault

Step = Callable[[Rows], None]

_MOST_PROBES = 200_000
_BROKEN = (sqlite3.Error, Damaged, DamagedItem, Unreadable, ValueError, TypeError, OverflowError, MemoryError)


def steps(aside: Path, key: bytes, chunk: int) -> Iterator[Step]:
    """Functions that write what was found into a new database, at most ``chunk`` bytes each; none when it is not a
    spool, or ``key`` does not open it.
    """
    with closing(sqlite3.connect(aside, isolation_level=None)) as connection:
        vault = _vault(connection, key)
        if vault is None:
            return
        old = Rows(connection, vault)
        with suppress(*_BROKEN):
            for sha256 in old.profiles():
                yield from _profile(old, sha256)
        lost: list[losses.Row] = []
        with suppress(*_BROKEN):
            lost = losses.unsent(old, -1) + losses.in_batch(old)
        yield _lose(lost)
        items: list[tuple[Item, bytes]] = []
        size = 0
        for item_id in _ids(connection):
            with suppress(*_BROKEN):
                item = old.item(item_id)
                items.append((item, pack(item.payload)))
                size += len(items[-1][1])
            if size > chunk // 2 or len(items) >= 32:
                yield _keep(items)
                items, size = [], 0
        yield _keep(items)


def _vault(connection: sqlite3.Connection, key: bytes) -> Vault | None:
    with suppress(*_BROKEN):
        if tables.state(connection) not in ("current", "incomplete"):
            return None
        for (wrapped,) in connection.execute("SELECT wrapped FROM keys"):
            vault = Vault.unwrap(key, wrapped)
            if vault is not None:
                return vault
    return None


def _keep(items: list[tuple[Item, bytes]]) -> Step:
    def step(rows: Rows) -> None:
        for item, packed in items:
            if not rows.has(item.stream, item.sequence):
                rows.insert(item, packed)

    return step


def _lose(lost: list[losses.Row]) -> Step:
    def step(rows: Rows) -> None:
        for row in lost:
            losses.add(rows, row.loss)

    return step


def _profile(old: Rows, sha256: str) -> Iterator[Step]:
    body = old.profile(sha256)
    if body is not None:
        packed = pack(body)
        yield lambda rows: rows.insert_profile(sha256, packed)


def _ids(connection: sqlite3.Connection) -> list[int]:
    """Ids of items, oldest first: from both ends up to a damaged page, and all numbers in between."""
    found: list[int] = []
    ends: list[list[int]] = []
    for order in ("ASC", "DESC"):
        end: list[int] = []
        with suppress(*_BROKEN):
            for (item_id,) in connection.execute(f"SELECT id FROM items NOT INDEXED ORDER BY id {order}"):
                end.append(item_id)  # what came before the error is kept
        ends.append(end)
    first, last = ends
    found = sorted({*first, *last})
    if first and last and last[-1] - first[-1] < _MOST_PROBES:
        found = sorted({*found, *range(first[-1] + 1, last[-1])})
    return found
