"""What a stream lost, kept so that no number counts twice: neither in two losses, nor as lost and received.

Comes in: losses as devices report them, which may repeat or overlap what was reported before (an agent that got no
answer joins them with newer ones), and numbers as they are received. Goes out: the rows of ``losses`` to delete and to
insert. Pure; one object for each stream of a transaction of ingest's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeml.fleet.ranges import Range, count, subtract, union
from edgeml.telemetry.items import Loss


@dataclass(frozen=True, slots=True)
class Lost:
    """One row of ``losses``: its primary key within the stream is (first, last)."""

    first: int
    last: int
    kind: str
    reason: str
    rows: int
    received: float

    @property
    def key(self) -> Range:
        return self.first, self.last


class StreamLosses:
    """The losses of one stream, changed in memory; ``deleted`` and ``inserted`` are what the database lacks."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        fields = ("first", "last", "kind", "reason", "rows", "received")
        self._before = {lost.key: lost for row in rows for lost in [Lost(**{f: row[f] for f in fields})]}
        self._now = dict(self._before)

    @property
    def deleted(self) -> list[Lost]:
        return [lost for key, lost in self._before.items() if self._now.get(key) != lost]

    @property
    def inserted(self) -> list[Lost]:
        return [lost for key, lost in self._now.items() if self._before.get(key) != lost]

    def has(self, loss: Loss) -> bool:
        """Whether every number of ``loss`` is known to be lost: there is nothing to do."""
        return not subtract([(loss.first, loss.last)], union(self._now))

    def report(self, loss: Loss, known: Sequence[Range], received: float) -> None:
        """Take a reported loss. ``known`` are the ranges of its numbers that were received or refused."""
        whole = [(loss.first, loss.last)]
        for key in [k for k in self._now if loss.first <= k[0] and k[1] <= loss.last]:
            del self._now[key]  # the new one tells of these numbers too
        left = subtract(whole, union([*known, *self._now]))
        self._insert(left, Lost(*whole[0], loss.kind, loss.reason, loss.rows, received), loss.rows, count(whole))

    def receive(self, sequence: int, rows: int) -> None:
        """A number came after all, with ``rows`` rows: it is no longer lost."""
        for key, lost in list(self._now.items()):
            if key[0] <= sequence <= key[1]:
                del self._now[key]
                left = subtract([key], [(sequence, sequence)])
                self._insert(left, lost, max(lost.rows - rows, 0), count(left))

    def _insert(self, left: Sequence[Range], like: Lost, rows: int, numbers: int) -> None:
        """Spread ``rows``, counted over ``numbers`` numbers, over those that are left."""
        shared = 0
        so_far = 0
        for first, last in left:
            so_far += last - first + 1
            share = rows * so_far // numbers - shared
            shared += share
            self._now[first, last] = Lost(first, last, like.kind, like.reason, share, like.received)
