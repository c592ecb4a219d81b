"""Finds rows by many keys in one statement, on SQLite and PostgreSQL: keys go in as one JSON text, or as arrays.

The statement's text is the same for any number of keys, so that it is planned once. Called by ingest, which asks for
every item of a group whether it was received before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, text

from edgeml.fleet.ranges import Range

Key = tuple[str, str, int]  # device, stream, sequence

# Which table has a number, and what an item found there is answered.
RECEIVED, REFUSED = "received", "refused"

_KEYS = {
    "sqlite": "WITH k AS MATERIALIZED (SELECT key AS i, json_extract(value, '$[0]') AS d, json_extract(value, '$[1]') "
    "AS s, json_extract(value, '$[2]') AS q FROM json_each(:keys)) ",
    "postgresql": "WITH k AS MATERIALIZED (SELECT i - 1 AS i, d, s, q FROM unnest(CAST(:d AS text[]), "
    "CAST(:s AS text[]), CAST(:q AS bigint[])) WITH ORDINALITY AS u (d, s, q, i)) ",
}
# CROSS JOIN tells SQLite to go through the keys and look each up, never through the table.
_NUMBER = (
    "SELECT k.i, '{outcome}', {reason} FROM k CROSS JOIN {table} t "
    "WHERE t.device_id = k.d AND t.stream = k.s AND t.sequence = k.q"
)
_KNOWN = " UNION ALL ".join(
    [
        _NUMBER.format(table="windows", outcome=RECEIVED, reason="''"),
        _NUMBER.format(table="samples", outcome=RECEIVED, reason="''"),
        _NUMBER.format(table="quarantine", outcome=REFUSED, reason="t.reason"),
        f"SELECT k.i, '{RECEIVED}', '' FROM k CROSS JOIN received_ranges t "
        "WHERE t.device_id = k.d AND t.stream = k.s AND t.first <= k.q AND t.last >= k.q",
    ]
)
_KNOWN_SQL = {dialect: text(keys + _KNOWN) for dialect, keys in _KEYS.items()}
# Of each stream, q is not used.
_LOSSES_SQL = {
    dialect: text(
        keys + "SELECT t.device_id, t.stream, t.first, t.last, t.kind, t.reason, t.rows, t.received "
        "FROM k CROSS JOIN losses t WHERE t.device_id = k.d AND t.stream = k.s"
    )
    for dialect, keys in _KEYS.items()
}
_RANGES = " UNION ALL ".join(
    [
        *(
            f"SELECT sequence, sequence FROM {table} "
            "WHERE device_id = :device AND stream = :stream AND sequence BETWEEN :first AND :last"
            for table in ("windows", "samples")
        ),
        "SELECT first, last FROM received_ranges "
        "WHERE device_id = :device AND stream = :stream AND first <= :last AND last >= :first",
    ]
)
_RANGES_SQL = text(_RANGES)


def prepare(connection: Connection) -> None:
    """Tell PostgreSQL, for this transaction, to look keys up by index: a plan made while a table was small would go on
    reading it whole when it has grown.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_PLANS)


_PLANS = text(
    "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_hashjoin', 'off', true), "
    "set_config('enable_mergejoin', 'off', true)"
)


def known(connection: Connection, keys: Sequence[Key]) -> dict[Key, tuple[str, str]]:
    """Those of ``keys`` that came before: how they were answered (RECEIVED or REFUSED), and the reason."""
    if not keys:
        return {}
    rows = connection.execute(_KNOWN_SQL[connection.dialect.name], _parameters(connection, keys))
    return {keys[i]: (outcome, reason) for i, outcome, reason in rows}


def losses_of(connection: Connection, streams: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    """The losses written down of streams (device, stream)."""
    if not streams:
        return []
    keys = [(device, stream, 0) for device, stream in streams]
    rows = connection.execute(_LOSSES_SQL[connection.dialect.name], _parameters(connection, keys))
    return [dict(row) for row in rows.mappings()]


def received_between(connection: Connection, device: str, stream: str, first: int, last: int) -> list[Range]:
    """Ranges of the numbers from ``first`` to ``last`` of a stream that were received; not sorted."""
    parameters = {"device": device, "stream": stream, "first": first, "last": last}
    return [(int(a), int(b)) for a, b in connection.execute(_RANGES_SQL, parameters)]


def _parameters(connection: Connection, keys: Sequence[Key]) -> dict[str, Any]:
    if connection.dialect.name == "sqlite":
        return {"keys": json.dumps(keys, separators=(",", ":"))}
    return {"d": [k[0] for k in keys], "s": [k[1] for k in keys], "q": [k[2] for k in keys]}
