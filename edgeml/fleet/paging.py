"""Parts of long lists: where the next part begins is told by the sort key of the last entry, so that entries which come
and go meanwhile make nobody see one twice or miss one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, tuple_

from edgeml.errors import MonitorSettingsError

MAX_LIMIT = 1000
_BETWEEN = "~"  # in no identifier and no number


@dataclass(frozen=True, slots=True)
class Page:
    """One part of a list; ``next`` is ``after`` for the next part, None at the end."""

    items: list[dict[str, Any]]
    next: str | None


def bounded(limit: int) -> int:
    """A limit between 1 and ``MAX_LIMIT``."""
    return max(1, min(limit, MAX_LIMIT))


def page(
    rows: Sequence[Any], limit: int, key: Callable[[Any], Sequence[Any]], item: Callable[[Any], dict[str, Any]]
) -> Page:
    """A page of the first ``limit`` of ``rows``, of which one more than the limit was asked for."""
    shown = rows[:limit]
    after = _BETWEEN.join(map(_text, key(shown[-1]))) if len(rows) > limit else None
    return Page([item(row) for row in shown], after)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def read(after: str, kinds: Sequence[Callable[[str], Any]]) -> list[Any]:
    """The sort key in a cursor. Raises MonitorSettingsError when it is none of this list's."""
    parts = after.split(_BETWEEN)
    try:
        if len(parts) != len(kinds) or "\0" in after:
            raise ValueError
        values = [kind(part) for kind, part in zip(kinds, parts, strict=True)]
        if any((isinstance(v, int) and abs(v) >= 2**63) or v != v for v in values):
            raise ValueError
    except ValueError:
        raise MonitorSettingsError("'after' is not of this list", "give the 'next' of the list's last part") from None
    return values


def newest_first(
    query: Select[Any], key: Sequence[Any], after: str | None, kinds: Sequence[Callable[[str], Any]]
) -> Select[Any]:
    """Order a query by ``key``, descending, from the entry after the cursor."""
    query = query.order_by(*(column.desc() for column in key))
    if after is not None:
        values: list[ColumnElement[Any]] = [
            literal(v, column.type) for v, column in zip(read(after, kinds), key, strict=True)
        ]
        query = query.where(tuple_(*key) < tuple_(*values))
    return query
