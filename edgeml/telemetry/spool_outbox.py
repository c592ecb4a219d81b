"""The batch that goes out next: composed, kept until its fate is known, settled.

``begin`` chooses items and losses, pins them and keeps the batch's header; ``read`` builds the same bytes again, in
this process or after a restart; ``settle`` takes away what the monitor has counted and moves the chain on. Each runs in
a transaction of ``spool``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from edgeml.errors import SpoolError
from edgeml.telemetry import spool_losses as losses
from edgeml.telemetry import wire
from edgeml.telemetry.items import PRIORITIES, Item, Loss
from edgeml.telemetry.spool_rows import Chain, Damaged, DamagedItem, Entry, Rows, printable
from edgeml.telemetry.spool_sizes import Sizes

DAMAGED = "damaged on the device's disk"
TOO_LARGE = "too large for a batch"

_EMPTY_BODY = len(wire.body_bytes((), (), {}))
_AROUND_ITEM = len('["","",,,],') + 32
_AROUND_LOSS = len('["",,,"","",],') + 32
_AROUND_PROFILE = len('"":,') + 64
# Losses may take this share of a batch, so that items go out beside them.
_LOSS_SHARE = 4


@dataclass(frozen=True, slots=True)
class Outbox:
    """A batch on its way: ``header`` is what is signed, ``body`` the JSON it goes with. ``profiles`` are the digests of
    the reference profiles in it.
    """

    header: bytes
    body: bytes
    items: tuple[Item, ...]
    losses: tuple[Loss, ...]
    number: int
    chain: str
    profiles: tuple[str, ...]


class Broken(Exception):
    """The batch that was begun cannot be built again: an item is damaged, or another version built it."""


# --- reading ----------------------------------------------------------------------------------------------------------
def read(rows: Rows) -> Outbox | None:
    """The batch that was begun, byte for byte. Raises Broken."""
    kept = rows.meta("outbox")
    if kept is None:
        return None
    header = str(kept["header"]).encode("ascii")
    try:
        items = tuple(rows.item(item_id) for item_id in rows.pinned())
    except DamagedItem:
        raise Broken("an item of the batch is damaged") from None
    lost = tuple(row.loss for row in losses.in_batch(rows))
    profiles = {sha: body for sha in kept["profiles"] if (body := rows.profile(sha)) is not None}
    body = wire.body_bytes(items, lost, profiles)
    fields = wire.read_header(header)
    if sha256(body).hexdigest() != fields.body_sha256:
        raise Broken("the batch cannot be built again as it was")
    return Outbox(header, body, items, lost, fields.number, fields.chain, tuple(sorted(profiles)))


def drop(rows: Rows) -> None:
    """Forget that a batch was begun; what it held stays."""
    if rows.meta("outbox") is not None:
        rows.unpin()
        rows.drop_meta("outbox")


def restart(rows: Rows, reason: str) -> None:
    """Drop the batch and begin another chain."""
    drop(rows)
    rows.put_chain(Chain.new(printable(reason)))


def mend(rows: Rows, why: str) -> None:
    """After Broken: damaged items become losses; the chain begins anew, since the batch may have been taken."""
    pinned = rows.pinned()
    restart(rows, why)
    for item_id in pinned:
        try:
            rows.item(item_id)
        except DamagedItem:
            give_up(rows, item_id, DAMAGED, "damaged")


def give_up(rows: Rows, item_id: int, reason: str, what: str) -> None:
    """An item becomes a loss, counted under ``what``."""
    entry = rows.entry(item_id)
    if entry is None:
        raise Damaged("an item is missing")
    rows.delete(item_id)
    losses.add(rows, Loss(entry.stream, entry.sequence, entry.sequence, entry.kind, reason, entry.rows))
    rows.count(what, reason, 1, entry.rows)


# --- beginning --------------------------------------------------------------------------------------------------------
def begin(
    rows: Rows,
    sizes: Sizes,
    device: str,
    *,
    max_bytes: int,
    max_items: int,
    newest_first: bool,
    profiles: Collection[str],
) -> bool:
    """Compose a batch and keep it; False when there is nothing to send. There must be none begun."""
    max_bytes = min(max_bytes, wire.MAX_BODY_BYTES)
    known, used = _choose_profiles(rows, profiles, max_bytes)
    lost, lost_bytes = _choose_losses(rows, min(max_bytes - used, max_bytes // _LOSS_SHARE), 2 * max_items)
    used += lost_bytes
    limit = min(max_items, wire.MAX_ITEMS)
    items, item_ids = _choose_items(rows, sizes, max_bytes - used, limit, newest_first, bool(known or lost))
    if not (items or lost or known):
        return False
    body = wire.body_bytes(items, [row.loss for row in lost], known)
    chain = rows.chain()
    header = wire.Header(
        device, chain.chain, chain.number, chain.previous, sha256(body).hexdigest(), chain.restarted
    ).to_bytes()
    rows.pin(item_ids, [row.loss_id for row in lost])
    rows.put_meta("outbox", {"header": header.decode("ascii"), "profiles": sorted(known)})
    return True


def _choose_profiles(rows: Rows, wanted: Collection[str], max_bytes: int) -> tuple[dict[str, bytes], int]:
    """The first one goes even when it alone is over ``max_bytes``: it cannot be made smaller."""
    known: dict[str, bytes] = {}
    used = _EMPTY_BODY
    for sha in wanted:
        body = rows.profile(sha) if len(known) < wire.MAX_PROFILES else None
        if body is None or used + len(body) + _AROUND_PROFILE > (max_bytes if known else wire.MAX_BODY_BYTES):
            continue
        known[sha] = body
        used += len(body) + _AROUND_PROFILE
    return known, used


def _choose_losses(rows: Rows, room: int, limit: int) -> tuple[list[losses.Row], int]:
    chosen: list[losses.Row] = []
    used = 0
    for row in losses.unsent(rows, max(1, min(limit, wire.MAX_LOSSES))):
        loss = row.loss
        # A character may take 12 bytes as JSON: a pair of surrogates.
        length = _AROUND_LOSS + 12 * len(loss.reason) if not loss.reason.isascii() else _AROUND_LOSS + len(loss.reason)
        length += loss.reason.count('"') + loss.reason.count("\\")
        length += len(f"{loss.first}{loss.last}{loss.kind}{loss.rows}")
        if chosen and used + length > room:
            break
        chosen.append(row)
        used += length
    return chosen, used


def _choose_items(
    rows: Rows, sizes: Sizes, room: int, limit: int, newest_first: bool, beside_others: bool
) -> tuple[list[Item], list[int]]:
    """Items within ``room`` bytes; the first one goes even when it is larger, unless something else is in the batch."""
    items: list[Item] = []
    ids: list[int] = []
    unsendable: list[tuple[int, str]] = []
    stored = 0
    for entry in _candidates(rows, newest_first):
        if len(items) == limit:
            break
        length = _AROUND_ITEM + len(f"{entry.sequence}{entry.kind}{entry.rows}") + entry.size
        if _EMPTY_BODY + length > wire.MAX_BODY_BYTES:
            unsendable.append((entry.item_id, TOO_LARGE))
            continue
        # What is settled in one transaction must fit the log.
        if (items or beside_others) and (length > room or stored + entry.stored > sizes.chunk):
            break
        try:
            items.append(rows.item(entry.item_id))
        except DamagedItem:
            unsendable.append((entry.item_id, DAMAGED))
            continue
        ids.append(entry.item_id)
        room -= length
        stored += entry.stored
    for item_id, reason in unsendable:
        give_up(rows, item_id, reason, "damaged" if reason == DAMAGED else "refused")
    return items, ids


def _candidates(rows: Rows, newest_first: bool) -> Iterator[Entry]:
    """Windows before sampled rows; what the monitor put off comes last."""
    priorities = sorted(PRIORITIES.values(), reverse=True)
    for priority in priorities:
        yield from rows.newest(priority, put_off=False) if newest_first else rows.oldest(priority, sendable=True)
    for priority in priorities:
        yield from rows.newest(priority, put_off=True)


# --- the end of a batch -----------------------------------------------------------------------------------------------
def settle(rows: Rows, outbox: Outbox, results: Sequence[tuple[str, str]]) -> None:
    """Take away what the monitor has counted, leave what it put off, move the chain on."""
    if len(results) != len(outbox.items) or not {result for result, _ in results} <= _RESULTS:
        raise SpoolError(
            f"{len(results)} results for a batch of {len(outbox.items)} items, or results of no known name",
            "take the monitor's answer for no answer, and send the batch again",
        )
    chain = rows.chain()
    kept = rows.meta("outbox")
    if kept is not None and str(kept["header"]).encode("ascii") != outbox.header:
        raise SpoolError("the batch to settle is not the one that was begun", "ask outbox() for the one that was")
    if kept is None and chain.chain == outbox.chain and chain.number > outbox.number:
        return  # settled before
    for (result, reason), item in zip(results, outbox.items, strict=True):
        # Found by its number: after damage, the batch's items may have been brought over into a new database.
        for entry in rows.find(item.stream, item.sequence, item.sequence):
            if result == "deferred":
                rows.put_off(entry.item_id)
                continue
            rows.delete(entry.item_id)
            what = "refused" if result == "refused" else "delivered"
            rows.count(what, printable(reason) if reason else "", 1, item.rows)
    if kept is None:
        return  # the chain was begun anew meanwhile
    losses.delete(rows, rows.pinned_losses())
    rows.unpin()
    rows.drop_meta("outbox")
    header = sha256(outbox.header).hexdigest()
    rows.put_chain(replace(chain, number=outbox.number + 1, previous=header, restarted=""))


_RESULTS = {"accepted", "duplicate", "refused", "deferred"}
