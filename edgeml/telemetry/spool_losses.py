"""Losses in the spool: numbers that will not come, as few ranges as they need, never more than a limit of rows.

``add`` is called, in the same transaction, by whatever takes an item away. Neighbouring numbers of a stream that were
lost for one reason are one row. When there are more rows than the limit, ``compact`` makes them fewer in two steps:
neighbours of one stream become one range whatever their kind and reason; if that is not enough, the oldest ranges are
added up, by kind and reason, in a stream that stands for many ("…, in several streams"): how much was lost and why
stays exact, which stream it was in is given up. Sampled rows go before windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256

from edgeml.telemetry.items import KINDS, PRIORITIES, Loss
from edgeml.telemetry.spool_rows import Damaged, Rows, printable
from edgeml.telemetry.wire import MAX_REASON

SEVERAL_STREAMS = ", in several streams"
SEVERAL_REASONS = "several reasons, the first: "


@dataclass(frozen=True, slots=True)
class Row:
    loss_id: int
    loss: Loss


def add(rows: Rows, loss: Loss) -> bool:
    """Record a loss; whether it was new. Numbers that are recorded as lost already are not recorded again."""
    stream = bytes.fromhex(loss.stream)
    first = loss.first
    taken = rows.sql(
        "SELECT first, last FROM losses WHERE stream = ? AND first <= ? AND last >= ? ORDER BY first",
        (stream, loss.last, first),
    ).fetchall()
    new = False
    amount = loss.rows
    for taken_first, taken_last in [*taken, (loss.last + 1, loss.last + 1)]:
        if first < taken_first:
            _add_new(rows, stream, replace(loss, first=first, last=taken_first - 1, rows=amount))
            new, amount = True, 0  # the rows of what is split are said once
        first = max(first, taken_last + 1)
    return new


def _add_new(rows: Rows, stream: bytes, loss: Loss) -> None:
    reason = rows.reason_id(loss.reason)
    same = "stream = ? AND kind = ? AND reason = ? AND id NOT IN (SELECT loss FROM pinned_losses)"
    values = (stream, loss.kind, reason)
    # The equality on first is what the index finds; "last" of the row before is looked at in that one row only.
    before = rows.sql(
        f"SELECT id, last FROM losses WHERE {same} AND first < ? ORDER BY first DESC LIMIT 1", (*values, loss.first)
    ).fetchone()
    after = rows.sql(
        f"SELECT id, last, rows FROM losses WHERE {same} AND first = ?", (*values, loss.last + 1)
    ).fetchone()
    last, amount = loss.last, loss.rows
    if after is not None:
        rows.sql("DELETE FROM losses WHERE id = ?", (after[0],))
        last, amount = after[1], amount + after[2]
    if before is not None and before[1] == loss.first - 1:
        rows.sql("UPDATE losses SET last = ?, rows = rows + ? WHERE id = ?", (last, amount, before[0]))
        return
    rows.sql(
        "INSERT INTO losses (stream, first, last, kind, reason, rows) VALUES (?, ?, ?, ?, ?, ?)",
        (stream, loss.first, last, loss.kind, reason, amount),
    )


def unsent(rows: Rows, limit: int) -> list[Row]:
    """Losses that are in no batch, oldest first."""
    return _read(rows, "WHERE id NOT IN (SELECT loss FROM pinned_losses) ORDER BY id LIMIT ?", limit)


def in_batch(rows: Rows) -> list[Row]:
    """Losses of the batch that was begun, in its order."""
    return _read(rows, "JOIN pinned_losses ON loss = losses.id ORDER BY position LIMIT ?", -1)


def delete(rows: Rows, ids: Iterable[int]) -> None:
    for loss_id in ids:
        rows.sql("DELETE FROM losses WHERE id = ?", (loss_id,))


def number(rows: Rows) -> int:
    return int(rows.sql("SELECT count(*) FROM losses").fetchone()[0])


def _read(rows: Rows, where: str, limit: int) -> list[Row]:
    texts = rows.reasons()
    result = []
    for loss_id, stream, first, last, kind, reason, amount in rows.sql(
        f"SELECT losses.id, stream, first, last, kind, reason, rows FROM losses {where}", (limit,)
    ):
        numbers = (first, last, amount)
        sound = isinstance(stream, bytes) and len(stream) == 16 and kind in KINDS
        if not sound or not all(isinstance(n, int) and n >= 0 for n in numbers) or first > last:
            raise Damaged("a loss has a kind or numbers that it cannot have")
        text = texts.get(reason, "a reason that is not known any more")
        result.append(Row(loss_id, Loss(stream.hex(), first, last, kind, text, amount)))
    return result


# --- fewer rows -------------------------------------------------------------------------------------------------------
def compact(rows: Rows, limit: int) -> None:
    """Bring the losses down to half of ``limit`` rows when there are more than ``limit``."""
    if number(rows) <= limit:
        return
    known = unsent(rows, -1)
    joined = _join_neighbours(known)
    delete(rows, (row.loss_id for row in known))
    joined.sort(key=lambda loss: PRIORITIES[loss.kind])  # stable: the oldest first within a kind
    # Losses that stand for many streams already stay: their numbers were given.
    of_one_stream = [loss for loss in joined if not loss.reason.endswith(SEVERAL_STREAMS)]
    summed = dict.fromkeys(of_one_stream[: max(0, len(joined) - limit // 2)])
    for loss in joined:
        if loss not in summed:
            _add_new(rows, bytes.fromhex(loss.stream), loss)
    for loss in summed:
        _add_to_summary(rows, loss)


def _join_neighbours(known: list[Row]) -> list[Loss]:
    by_stream: dict[str, list[Row]] = {}
    for row in known:
        by_stream.setdefault(row.loss.stream, []).append(row)
    result: list[tuple[int, Loss]] = []
    for of_stream in by_stream.values():
        of_stream.sort(key=lambda row: row.loss.first)
        start = len(result)
        for row in of_stream:
            before = result[-1][1] if len(result) > start else None
            if before is None or before.last + 1 != row.loss.first:
                result.append((row.loss_id, row.loss))
            else:
                result[-1] = (result[-1][0], _joined(before, row.loss))
    return [loss for _, loss in sorted(result, key=lambda pair: pair[0])]


def _joined(one: Loss, two: Loss) -> Loss:
    """One range for two neighbours. Sampled rows were counted in windows, too: beside a window they add no rows."""
    if one.kind == two.kind:
        amount = one.rows + two.rows
    else:
        amount = one.rows if one.kind == "window" else two.rows
    kind = max(one.kind, two.kind, key=lambda kind: PRIORITIES[kind])
    reason = one.reason
    if reason != two.reason and not reason.startswith(SEVERAL_REASONS):
        reason = (SEVERAL_REASONS + reason)[:MAX_REASON]
    return Loss(one.stream, one.first, two.last, kind, reason, amount)


def _add_to_summary(rows: Rows, loss: Loss) -> None:
    reason = loss.reason[: MAX_REASON - len(SEVERAL_STREAMS)] + SEVERAL_STREAMS
    spool = str(rows.meta("spool"))
    stream = sha256(f"{spool} {loss.kind} {reason}".encode()).digest()[:16]
    found = rows.sql("SELECT next FROM summaries WHERE stream = ?", (stream,)).fetchone()
    first = 0 if found is None else found[0]
    length = loss.last - loss.first + 1
    rows.sql("INSERT OR REPLACE INTO summaries (stream, next) VALUES (?, ?)", (stream, first + length))
    _add_new(rows, stream, Loss(stream.hex(), first, first + length - 1, loss.kind, printable(reason), loss.rows))
