"""What the spool asks of its tables, statement by statement; each method runs inside the caller's transaction.

``Rows`` is made for one connection and one data key. It seals what it writes and checks what it reads: a value that
SQLite would never have stored there, or bytes that do not open, raise ``Damaged`` or ``DamagedItem``. Losses are in
``spool_losses``.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import uuid4

from edgeml.errors import JSONError
from edgeml.jsonutil import dumps, loads
from edgeml.telemetry import clock
from edgeml.telemetry.items import KINDS, PRIORITIES, Item
from edgeml.telemetry.vault import Unreadable, Vault
from edgeml.telemetry.wire import MAX_BODY_BYTES, MAX_REASON, NO_PREVIOUS

MAX_REASONS = 64
MAX_PROFILES = 64
OTHER_REASONS = "other reasons"


class Damaged(Exception):
    """The database holds what EdgeML cannot have written; the text says what, for people."""


class SuspectedDamage(Damaged):
    """SQLite says so in passing: its check of the whole file decides."""


class DamagedItem(Exception):
    """The payload of one item does not open."""

    def __init__(self, item_id: int) -> None:
        super().__init__(item_id)
        self.item_id = item_id


@dataclass(frozen=True, slots=True)
class Chain:
    """The next batch: its chain, its number, the SHA-256 of the header before, and why the chain was begun."""

    chain: str
    number: int
    previous: str
    restarted: str

    @classmethod
    def new(cls, restarted: str = "") -> Chain:
        return cls(uuid4().hex, 0, NO_PREVIOUS, restarted)


@dataclass(frozen=True, slots=True)
class Entry:
    """One stored item without its payload; ``size`` is the payload's as JSON, ``stored`` what it takes on the disk."""

    item_id: int
    stream: str
    sequence: int
    kind: str
    rows: int
    size: int
    stored: int


def pack(payload: bytes) -> bytes:
    return zlib.compress(payload, 6)


def printable(reason: str) -> str:
    """A reason as the wire takes it: printable, 1 to 200 characters."""
    text = "".join(c if c.isprintable() else " " for c in reason).strip()[:MAX_REASON]
    return text or "no reason given"


class Rows:
    """Made anew for each transaction: what it remembers may not outlive a rollback."""

    def __init__(self, connection: sqlite3.Connection, vault: Vault) -> None:
        self.sql = connection.execute
        self.vault = vault
        self._reason_ids: dict[str, int] = {}
        self._reason_texts: dict[int, str] = {}

    # --- pages ---
    def free_pages(self, most: int) -> int:
        """Pages that a database of ``most`` pages may still fill: unused ones, and those it has not grown to yet."""
        pages, unused = self.page_figures()
        return most - pages + unused

    def give_back(self, pages: int) -> None:
        """Give unused pages at the database's end back to the disk."""
        for _ in range(pages):  # Python's sqlite3 takes one step of this statement, which is one page
            self.sql("PRAGMA incremental_vacuum(1)")

    def page_figures(self) -> tuple[int, int]:
        """(pages of the database, unused ones of them)"""
        return self.sql("PRAGMA page_count").fetchone()[0], self.sql("PRAGMA freelist_count").fetchone()[0]

    # --- small sealed values ---
    def meta(self, name: str) -> Any:
        """The value of ``put_meta``, None when there is none."""
        row = self.sql("SELECT sealed FROM meta WHERE name = ?", (name,)).fetchone()
        if row is None:
            return None
        try:
            return loads(self.vault.open(_bytes(row[0]), b"meta " + name.encode()), name)
        except (Unreadable, JSONError):
            raise Damaged(f"the entry {name!r} does not open") from None

    def put_meta(self, name: str, value: Any) -> None:
        sealed = self.vault.seal(dumps(value), b"meta " + name.encode())
        self.sql("INSERT OR REPLACE INTO meta (name, sealed) VALUES (?, ?)", (name, sealed))

    def drop_meta(self, name: str) -> None:
        self.sql("DELETE FROM meta WHERE name = ?", (name,))

    def chain(self) -> Chain:
        value = self.meta("chain")
        if not isinstance(value, dict):
            raise Damaged("the entry 'chain' is missing")
        return Chain(**value)

    def put_chain(self, chain: Chain) -> None:
        self.put_meta("chain", asdict(chain))

    # --- keys ---
    def put_key(self, wrapped: bytes) -> None:
        self.sql("INSERT INTO keys (wrapped) VALUES (?)", (wrapped,))

    def keep_one_key(self, wrapped: bytes) -> None:
        self.sql("DELETE FROM keys")
        self.put_key(wrapped)

    def drop_keys(self) -> None:
        self.sql("DELETE FROM keys")

    # --- items ---
    def has(self, stream: str, sequence: int) -> bool:
        found = self.sql("SELECT 1 FROM items WHERE stream = ? AND sequence = ?", (bytes.fromhex(stream), sequence))
        return found.fetchone() is not None

    def insert(self, item: Item, packed: bytes) -> None:
        """Keep an item; ``packed`` is ``pack`` of its payload."""
        stream = bytes.fromhex(item.stream)
        sealed = self.vault.seal(packed, _about(stream, item.sequence, item.kind, item.rows))
        self.sql(
            "INSERT INTO items (stream, sequence, kind, priority, rows, size, kept, sealed) VALUES (?,?,?,?,?,?,?,?)",
            (
                stream, item.sequence, item.kind, PRIORITIES[item.kind], item.rows, len(item.payload),
                int(clock.wall()), sealed,
            ),
        )  # fmt: skip

    def item(self, item_id: int) -> Item:
        """Raises DamagedItem."""
        row = self.sql(
            "SELECT stream, sequence, kind, rows, size, sealed FROM items WHERE id = ?", (item_id,)
        ).fetchone()
        if row is None:
            raise Damaged("an item of a batch is missing")
        stream, sequence, kind, rows, size, sealed = row
        if not isinstance(size, int) or not 0 < size <= MAX_BODY_BYTES:
            raise DamagedItem(item_id)
        try:
            packed = self.vault.open(_bytes(sealed), _about(_bytes(stream), sequence, kind, rows))
            payload = zlib.decompressobj().decompress(packed, size + 1)
        except (Unreadable, zlib.error):
            raise DamagedItem(item_id) from None
        if len(payload) != size:
            raise DamagedItem(item_id)
        return Item(stream.hex(), sequence, kind, payload, rows)

    def entry(self, item_id: int) -> Entry | None:
        return next(self._entries("WHERE items.id = ?", (item_id,)), None)

    def find(self, stream: str, first: int, last: int) -> list[Entry]:
        """Items ``first`` to ``last`` of a stream."""
        return list(
            self._entries("WHERE stream = ? AND sequence BETWEEN ? AND ?", (bytes.fromhex(stream), first, last))
        )

    def newest(self, priority: int, *, put_off: bool) -> Iterator[Entry]:
        """Items that are in no batch, newest first; those that the monitor put off, or the others."""
        if put_off:
            yield from self._entries(
                "JOIN deferred ON deferred.item = items.id WHERE priority = ? AND items.id NOT IN "
                "(SELECT item FROM pinned) ORDER BY tries, items.id DESC",
                (priority,),
            )
            return
        yield from self._entries(
            "WHERE priority = ? AND items.id NOT IN (SELECT item FROM pinned) AND items.id NOT IN "
            "(SELECT item FROM deferred) ORDER BY priority DESC, items.id DESC",
            (priority,),
        )

    def oldest(self, priority: int, *, sendable: bool = False) -> Iterator[Entry]:
        """Items that are in no batch, oldest first; with ``sendable`` without those that the monitor put off."""
        more = "AND items.id NOT IN (SELECT item FROM deferred) " if sendable else ""
        yield from self._entries(
            f"WHERE priority = ? AND items.id NOT IN (SELECT item FROM pinned) {more}ORDER BY priority, items.id",
            (priority,),
        )

    def _entries(self, where: str, values: Sequence[Any]) -> Iterator[Entry]:
        for item_id, stream, sequence, kind, rows, size, stored in self.sql(
            f"SELECT items.id, stream, sequence, kind, rows, size, length(sealed) FROM items {where}", values
        ):
            numbers = (sequence, rows, size, stored)
            if kind not in KINDS or not all(isinstance(number, int) and number >= 0 for number in numbers):
                raise Damaged("an item has a kind or a number that it cannot have")
            yield Entry(item_id, _bytes(stream).hex(), sequence, kind, rows, size, stored)

    def delete(self, item_id: int) -> None:
        self.sql("DELETE FROM items WHERE id = ?", (item_id,))
        self.sql("DELETE FROM deferred WHERE item = ?", (item_id,))

    def put_off(self, item_id: int) -> None:
        self.sql(
            "INSERT INTO deferred (item, tries) VALUES (?, 1) ON CONFLICT (item) DO UPDATE SET tries = tries + 1",
            (item_id,),
        )

    def ids(self) -> tuple[int, int]:
        """The lowest and the highest id of an item, (1, 0) when there is none."""
        low, high = (self.sql(f"SELECT {f}(id) FROM items").fetchone()[0] for f in ("min", "max"))
        return (1, 0) if low is None else (low, high)

    # --- the batch that was begun ---
    def pin(self, items: Iterable[int], losses: Iterable[int]) -> None:
        for position, item_id in enumerate(items):
            self.sql("INSERT INTO pinned (position, item) VALUES (?, ?)", (position, item_id))
        for position, loss_id in enumerate(losses):
            self.sql("INSERT INTO pinned_losses (position, loss) VALUES (?, ?)", (position, loss_id))

    def pinned(self) -> list[int]:
        return [item_id for (item_id,) in self.sql("SELECT item FROM pinned ORDER BY position")]

    def pinned_losses(self) -> list[int]:
        return [loss_id for (loss_id,) in self.sql("SELECT loss FROM pinned_losses ORDER BY position")]

    def unpin(self) -> None:
        self.sql("DELETE FROM pinned")
        self.sql("DELETE FROM pinned_losses")

    def pinned_bytes(self) -> int:
        """What the items of the batch take on the disk."""
        return int(
            self.sql("SELECT sum(length(sealed)) FROM items WHERE id IN (SELECT item FROM pinned)").fetchone()[0] or 0
        )

    # --- profiles ---
    def has_profile(self, sha256: str) -> bool:
        return self.sql("SELECT 1 FROM profiles WHERE sha256 = ?", (bytes.fromhex(sha256),)).fetchone() is not None

    def profile(self, sha256: str) -> bytes | None:
        """None when there is none, or it does not open: its model will bring it again."""
        digest = bytes.fromhex(sha256)
        row = self.sql("SELECT sealed FROM profiles WHERE sha256 = ?", (digest,)).fetchone()
        if row is None:
            return None
        try:
            reader = zlib.decompressobj()
            body = reader.decompress(self.vault.open(_bytes(row[0]), b"profile " + digest), MAX_BODY_BYTES)
        except (Unreadable, zlib.error):
            return None
        return body if reader.eof else None

    def insert_profile(self, sha256: str, packed: bytes) -> None:
        digest = bytes.fromhex(sha256)
        sealed = self.vault.seal(packed, b"profile " + digest)
        self.sql("INSERT OR REPLACE INTO profiles (sha256, sealed) VALUES (?, ?)", (digest, sealed))

    def drop_profiles(self, most_bytes: int) -> None:
        """Drop the oldest profiles over 64 or over ``most_bytes``; the newest stays."""
        total = 0
        known = self.sql("SELECT id, length(sealed) FROM profiles ORDER BY id DESC").fetchall()
        for place, (profile_id, length) in enumerate(known):
            total += length
            if place and (place >= MAX_PROFILES or total > most_bytes):
                self.sql("DELETE FROM profiles WHERE id = ?", (profile_id,))

    def profiles(self) -> list[str]:
        return [_bytes(digest).hex() for (digest,) in self.sql("SELECT sha256 FROM profiles ORDER BY id")]

    # --- reasons and counters ---
    def reason_id(self, reason: str) -> int:
        """The number of a reason. At most 64 are told apart; further ones are "other reasons"."""
        if reason not in self._reason_ids:
            self.reasons()
        if reason in self._reason_ids:
            return self._reason_ids[reason]
        if len(self._reason_ids) >= MAX_REASONS and reason != OTHER_REASONS:
            return self.reason_id(OTHER_REASONS)
        sealed = self.vault.seal(reason.encode(), b"reason")
        found = self.sql("INSERT INTO reasons (sealed) VALUES (?) RETURNING id", (sealed,)).fetchone()[0]
        self._reason_ids[reason] = found
        return int(found)

    def reasons(self) -> dict[int, str]:
        self._reason_texts = {}
        for reason_id, sealed in self.sql("SELECT id, sealed FROM reasons"):
            try:
                self._reason_texts[reason_id] = self.vault.open(_bytes(sealed), b"reason").decode()
            except Unreadable:
                self._reason_texts[reason_id] = "a reason that does not open any more"
        self._reason_ids = {text: reason_id for reason_id, text in self._reason_texts.items()}
        return self._reason_texts

    def count(self, what: str, reason: str, items: int, rows: int) -> None:
        """Add to a counter of ``counted``, such as ("evicted", why)."""
        self.sql(
            "INSERT INTO counters (what, reason, items, rows) VALUES (?, ?, ?, ?) ON CONFLICT (what, reason) "
            "DO UPDATE SET items = items + excluded.items, rows = rows + excluded.rows",
            (what, self.reason_id(reason), items, rows),
        )

    def counted(self, what: str) -> dict[str, int]:
        texts = self.reasons()
        found = self.sql("SELECT reason, items FROM counters WHERE what = ? ORDER BY reason", (what,)).fetchall()
        return {texts.get(reason, OTHER_REASONS): items for reason, items in found}

    # --- figures ---
    def totals(self) -> list[tuple[int, int, int, int, int]]:
        """(priority, items, rows, bytes of payload, newest id) of each priority."""
        return self.sql(
            "SELECT priority, count(*), sum(rows), sum(size), max(id) FROM items GROUP BY priority"
        ).fetchall()

    def kept_between(self) -> tuple[float | None, float | None]:
        """When the oldest and the newest item were kept, by the device's wall clock."""
        found = [
            self.sql(f"SELECT kept FROM items WHERE id = (SELECT {f}(id) FROM items)").fetchone()
            for f in ("min", "max")
        ]
        oldest, newest = (None if row is None else float(row[0]) for row in found)
        return oldest, newest


def _about(stream: bytes, sequence: Any, kind: Any, rows: Any) -> bytes:
    return b"item %b %s" % (stream, f"{sequence} {kind} {rows}".encode())


def _bytes(value: Any) -> bytes:
    if not isinstance(value, bytes):
        raise Damaged("a column holds what it cannot hold")
    return value
