"""What ``Spool.append`` does inside its transaction: room is made, items are kept, what had to go becomes a loss.

Also here: what is asked of items and losses before they are kept, how many go into one transaction, and how a database
that is larger than its limit, which was lowered, shrinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from edgeml.errors import SpoolError, SpoolFullError
from edgeml.telemetry import spool_losses as losses
from edgeml.telemetry.items import KINDS, PRIORITIES, Item, Loss
from edgeml.telemetry.spool_rows import Entry, Rows, printable
from edgeml.telemetry.spool_sizes import Sizes, pages_of
from edgeml.telemetry.wire import MAX_BODY_BYTES

EVICTED = "evicted: the spool had no room left"
Packed = tuple[Item, bytes]

_MAX_NUMBER = 2**53 - 1
_HEX = frozenset("0123456789abcdef")
_AT_A_TIME = 8
# Each is overwritten, and the page that takes its place is written too.
_GIVE_BACK_PAGES, GIVE_BACK_CHANGES = 8, 32


# --- before -----------------------------------------------------------------------------------------------------------
def check_item(item: Item) -> None:
    """Raises SpoolError when the monitor could not take the item."""
    _check(item.stream, item.kind, (item.sequence, item.rows))
    if not 0 < len(item.payload) < MAX_BODY_BYTES:
        raise SpoolError(f"an item of {len(item.payload)} bytes cannot be sent", "make windows of fewer rows")


def check_loss(loss: Loss) -> None:
    """Raises SpoolError when the monitor could not take the loss."""
    _check(loss.stream, loss.kind, (loss.first, loss.last, loss.rows))
    if loss.first > loss.last or printable(loss.reason) != loss.reason:
        raise SpoolError("a loss ends before it begins, or its reason is not printable, 1 to 200 characters")


def check_digest(sha256: str) -> None:
    if not isinstance(sha256, str) or len(sha256) != 64 or not set(sha256) <= _HEX:
        raise SpoolError("the digest of a profile is not a SHA-256 in hexadecimal digits")


def _check(stream: Any, kind: Any, numbers: tuple[Any, ...]) -> None:
    if not isinstance(stream, str) or len(stream) != 32 or not set(stream) <= _HEX:
        raise SpoolError("a stream is not 32 hexadecimal digits")
    if kind not in KINDS or not all(type(number) is int and 0 <= number <= _MAX_NUMBER for number in numbers):
        raise SpoolError("an item or a loss is of no known kind, or has numbers below 0 or over 2**53 - 1")


def portions(packed: Sequence[Packed], sizes: Sizes) -> Iterator[list[Packed]]:
    """As many items at a time as the log has room for in one transaction; one empty portion for no items."""
    portion: list[Packed] = []
    stored = 0
    for item, data in packed:
        if portion and pages_of(stored + len(data), len(portion) + 1) > sizes.pages_of_chunk // 3:
            yield portion
            portion, stored = [], 0
        portion.append((item, data))
        stored += len(data)
    if portion or not packed:
        yield portion


# --- inside -----------------------------------------------------------------------------------------------------------
class MustEvict(Exception):
    """There is no room, and the log was not made ready for what an eviction writes."""


def keep(rows: Rows, sizes: Sizes, portion: Sequence[Packed], lost: Sequence[Loss], more: int) -> None:
    """Keep items and record losses. Room for each is made ``more`` times over; 0 raises MustEvict for want of it."""
    for loss in lost:
        _drop_lost(rows, loss)
        losses.add(rows, loss)
    for item, packed in portion:
        if rows.has(item.stream, item.sequence):
            continue
        need = pages_of(len(packed))
        if more == 0 and rows.free_pages(sizes.pages) < need + sizes.reserve:
            raise MustEvict
        if make_room(rows, sizes, PRIORITIES[item.kind], max(more, 1) * need):
            rows.insert(item, packed)
        elif PRIORITIES[item.kind] == max(PRIORITIES.values()):
            raise SpoolFullError(
                f"a spool of {sizes.limit} bytes has no room, and nothing in it may be evicted",
                "raise max_bytes, or let the agent send what is on its way",
            )
        else:
            losses.add(rows, Loss(item.stream, item.sequence, item.sequence, item.kind, EVICTED, item.rows))
            rows.count("evicted", EVICTED, 1, item.rows)
    losses.compact(rows, sizes.loss_rows)


def _drop_lost(rows: Rows, loss: Loss) -> None:
    """What the recorder gave up, after an error, is not to be sent as well."""
    pinned = set(rows.pinned())
    for entry in rows.find(loss.stream, loss.first, loss.last):
        if entry.item_id not in pinned:
            rows.delete(entry.item_id)


def make_room(rows: Rows, sizes: Sizes, priority: int, need: int) -> bool:
    """Evict until ``need`` pages are free beside the reserve; False when all that may go is gone."""
    need += sizes.reserve
    if rows.free_pages(sizes.pages) >= need:
        return True
    for lower in range(priority + 1):
        while oldest := list(islice(rows.oldest(lower), _AT_A_TIME)):
            _evict(rows, oldest)
            if rows.free_pages(sizes.pages) >= need + sizes.slack:
                return True
    return rows.free_pages(sizes.pages) >= need


def _evict(rows: Rows, entries: Sequence[Entry]) -> None:
    for entry in entries:
        rows.delete(entry.item_id)
        losses.add(rows, Loss(entry.stream, entry.sequence, entry.sequence, entry.kind, EVICTED, entry.rows))
        rows.count("evicted", EVICTED, 1, entry.rows)


def shrink(rows: Rows, sizes: Sizes) -> bool:
    """One step towards a limit that is lower than what the database has; False when it is reached, or cannot be."""
    pages, unused = rows.page_figures()
    if pages > sizes.pages and unused:
        rows.give_back(_GIVE_BACK_PAGES)
        return rows.page_figures()[0] < pages
    if rows.free_pages(sizes.pages) >= sizes.reserve:
        return False
    oldest = next((found for p in sorted(PRIORITIES.values()) if (found := list(islice(rows.oldest(p), 2)))), [])
    _evict(rows, oldest)
    losses.compact(rows, sizes.loss_rows)
    return bool(oldest)


def give_back(rows: Rows) -> None:
    """Return some unused pages to the disk when there are many."""
    pages, unused = rows.page_figures()
    if unused > max(64, pages // 4):
        rows.give_back(_GIVE_BACK_PAGES)
