"""What the spool keeps and a batch carries: items, and the record of what could not be kept.

An item is known by its stream and its sequence. A stream is one process's recorder, from its start (or from its fork)
to its end; its items are numbered from 0 without gaps, so that whoever receives them can tell what is missing. A loss
names numbers that were given and will not come, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

# What may be evicted first when room is short: the lower, the sooner.
PRIORITIES = {"rows": 0, "window": 1}
KINDS = tuple(PRIORITIES)


@dataclass(frozen=True, slots=True)
class Item:
    """One numbered thing to deliver once: a window of counts, or sampled raw rows.

    ``stream`` is 32 hexadecimal digits, ``sequence`` counts from 0, ``payload`` is canonical JSON (``jsonutil.dumps``)
    and ``rows`` the rows of input it is about.
    """

    stream: str
    sequence: int
    kind: str
    payload: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Loss:
    """Items ``first`` to ``last`` of a stream will not come; ``rows`` were counted in them. ``reason`` is for people,
    at most 200 characters, and holds no data of a row.
    """

    stream: str
    first: int
    last: int
    kind: str
    reason: str
    rows: int
