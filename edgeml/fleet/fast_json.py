"""JSON of batches at a tenth of the time, with the strictness of ``jsonutil``: for the one route where it counts.

``loads`` reads with orjson and writes again: when the bytes are the same, nothing was said twice, rounded or left out,
and the value is what ``jsonutil.loads`` gives. All else takes the slow way, which names what is wrong. ``dumps`` writes
what is stored. ``routes_batches.py`` hands both to ``wire.read_body``.
"""

from __future__ import annotations

from typing import Any

import orjson

from edgeml import jsonutil


def loads(data: bytes, what: str, *, limit: int) -> Any:
    """The value of JSON ``data``. Raises JSONError or one of its kinds, as ``jsonutil.loads`` does."""
    if len(data) <= limit and not jsonutil.nests_too_deep(data):
        try:
            value = orjson.loads(data)
            if orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE) == data:
                return value
        except (orjson.JSONDecodeError, TypeError):  # TypeError: what orjson does not write, half a surrogate pair
            pass
    return jsonutil.loads(data, what, limit=limit)


def dumps(value: Any) -> bytes:
    """JSON with sorted keys; not canonical, for non-ASCII characters stand as they are."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a surrogate pair, or an integer beyond 64 bits
        return jsonutil.dumps(value)
