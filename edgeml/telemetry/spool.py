"""The spool: what the recorder has counted, on the disk until the monitor has it.

The recorder's writer calls ``append`` and ``put_profile``; the agent calls the rest. What ``append`` has returned for
is on the disk, encrypted, and stays there until the monitor has answered for it, or until there is no room: then it
is evicted, sampled rows before windows and the oldest first, and that is recorded as a loss. Several threads and
processes may use one folder at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from edgeml.errors import SpoolError, SpoolFullError, SpoolKeyError
from edgeml.telemetry import spool_disk as disk
from edgeml.telemetry import spool_keeping as keeping
from edgeml.telemetry import spool_losses, spool_outbox, spool_salvage
from edgeml.telemetry.items import PRIORITIES, Item, Loss
from edgeml.telemetry.spool_file import SpoolFile
from edgeml.telemetry.spool_keeping import EVICTED
from edgeml.telemetry.spool_outbox import Broken, Outbox
from edgeml.telemetry.spool_rows import Chain, Rows, pack, printable
from edgeml.telemetry.spool_sizes import Sizes, pages_of
from edgeml.telemetry.vault import KEY_NAME, LEFT_BY_ROTATION, NEXT, Key, key_path, load_key, loose_rights, write_key
from edgeml.telemetry.wire import MAX_BODY_BYTES

__all__ = ["DEFAULT_MAX_BYTES", "EVICTED", "Outbox", "Spool", "SpoolStats", "erase_folder"]

DEFAULT_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True)
class SpoolStats:
    """What a spool holds and what became of the rest.

    ``items``, ``rows`` and ``payload_bytes`` are of what is kept, by kind in ``by_kind`` as {kind: (items, rows,
    bytes)}; ``oldest`` and ``newest`` are when the first and the last of them came, by the device's wall clock.
    ``evicted``, ``refused`` (by the monitor or for it), ``damaged`` and ``delivered`` count items since the database
    was made, by reason. ``losses`` are ranges not sent yet. ``pinned`` are items in the batch on its way.
    """

    items: int
    rows: int
    payload_bytes: int
    by_kind: dict[str, tuple[int, int, int]]
    oldest: float | None
    newest: float | None
    pinned: int
    losses: int
    evicted: dict[str, int]
    refused: dict[str, int]
    damaged: dict[str, int]
    delivered: int
    profiles: int
    chain: str
    number: int
    bytes_on_disk: int
    max_bytes: int
    damaged_files: tuple[str, ...]


class Spool:
    """The spool in ``folder``, which is made, mode 0700, when it is missing.

    Args:
        folder: holds ``spool.db`` with its -wal and -shm, ``spool.lock``, ``spool.key`` unless ``key`` says otherwise,
            and up to 3 files ``spool.damaged-N`` that were set aside.
        key: the key-encryption key: 32 bytes, the path of a key file, or a function that returns 32 bytes. None takes
            the file that EDGEML_TELEMETRY_KEY names, or else ``spool.key`` in the folder, made when it is missing.
        max_bytes: limit of ``spool.db``, -wal and -shm together, at least 512 KiB. Files that were set aside are not
            counted: they take as much again at most.
        on_note: called with a text for people when a file was set aside or a key file can be read by others.

    Raises SpoolError when the folder cannot be used, SpoolKeyError when the key is missing or another one: then nothing
    is changed.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        key: Key = None,
        max_bytes: int = DEFAULT_MAX_BYTES,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._on_note = on_note
        self._sizes = Sizes.of(max_bytes)
        self.folder = Path(folder)
        self._file = SpoolFile(self.folder, key, self._sizes, self._note, _fill, self._salvage)
        try:
            self._file.run(Rows.chain, write=False)
            if self._file.run(self._too_large, write=False):
                while self._file.run(self._shrink, pages=keeping.GIVE_BACK_CHANGES):
                    pass
                self._file.empty_log()
        except BaseException:
            self._file.close()
            raise
        path = key_path(key, self.folder)
        with suppress(OSError):
            if path is not None and loose_rights(path):
                self._note(f"{path} can be read by other users: chmod 600 {path}")

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files. Idempotent; what was appended needs no close."""
        self._file.close()

    # --- keeping ---
    def append(self, items: Sequence[Item], losses: Sequence[Loss] = ()) -> None:
        """Keep items, and record losses; durable on return.

        Call it again with the same items after an error: an item that is kept already is not kept twice. To make room,
        items of the same priority or a lower one are evicted, oldest first, each recorded as a loss in the same
        transaction; an item for which only more important ones could go is recorded as lost itself.

        Raises SpoolFullError when the disk is full or the limit is too small for an item, SpoolError otherwise; items
        of earlier transactions of the same call stay kept.
        """
        for item in items:
            keeping.check_item(item)
        for loss in losses:
            keeping.check_loss(loss)
        packed = [(item, pack(item.payload)) for item in items]
        for _, data in packed:
            if pages_of(len(data)) > self._sizes.pages_of_chunk // 3:
                raise SpoolFullError(
                    f"an item of {len(data)} bytes does not fit a spool of {self._sizes.limit} bytes",
                    "raise max_bytes, or make windows of fewer rows",
                )
        for place, portion in enumerate(keeping.portions(packed, self._sizes)):
            self._append_portion(portion, () if place else losses)

    def _append_portion(self, portion: list[keeping.Packed], lost: Sequence[Loss]) -> None:
        need = pages_of(sum(len(data) for _, data in portion), len(portion)) + 2 * len(lost)
        for more in (0, 1, 2, 4):
            pages = need + (2 * more * need + self._sizes.slack if more else 0)
            try:
                self._file.run(
                    partial(keeping.keep, sizes=self._sizes, portion=portion, lost=lost, more=more), pages=pages
                )
                return
            except keeping.MustEvict:
                continue
            except SpoolFullError:
                # What was evicted may not have freed as many pages as were needed: with more, it does.
                if more == 4:
                    raise

    def put_profile(self, sha256: str, body: bytes) -> None:
        """Keep a reference profile, canonical JSON, for when the monitor asks for it. Idempotent.

        Raises SpoolFullError, SpoolError.
        """
        keeping.check_digest(sha256)
        if len(body) > MAX_BODY_BYTES // 2:
            raise SpoolError(f"a reference profile of {len(body)} bytes cannot be sent", "profile fewer columns")
        if self._file.run(lambda rows: rows.has_profile(sha256), write=False):
            return
        packed = pack(body)
        need = pages_of(len(packed))

        def work(rows: Rows) -> None:
            keeping.make_room(rows, self._sizes, max(PRIORITIES.values()), need)
            rows.insert_profile(sha256, packed)
            rows.drop_profiles(self._sizes.pages * 1024)

        self._file.run(work, pages=3 * need + self._sizes.slack + 16)

    def profile(self, sha256: str) -> bytes | None:
        """A reference profile that was put, canonical JSON; None when it is not there, or damaged."""
        return self._file.run(lambda rows: rows.profile(sha256), write=False)

    # --- sending ---
    def outbox(self) -> Outbox | None:
        """The batch that was begun and not settled, byte for byte as it was; None when there is none."""
        try:
            return self._file.run(spool_outbox.read, write=False)
        except Broken as broken:
            why = str(broken)
            self._file.run(lambda rows: spool_outbox.mend(rows, why), pages=self._sizes.pages_of_chunk)
            return None

    def begin(
        self,
        device: str,
        *,
        max_bytes: int,
        max_items: int,
        newest_first: bool = True,
        profiles: Collection[str] = (),
    ) -> Outbox | None:
        """Compose the next batch and keep it until it is settled or unpinned; None when there is nothing to send.

        Args:
            device: the device's identifier, 32 hexadecimal digits.
            max_bytes: limit of the body as JSON. One item, or one profile, that is larger goes alone.
            max_items: limit of items.
            newest_first: False takes the oldest first.
            profiles: digests of reference profiles to go along, as far as the spool has them.

        The batch that was begun is returned instead when there is one; if it was another device's, it is composed
        anew, in a new chain.
        """
        kept = self.outbox()
        if kept is not None:
            if f'"device":"{device}"'.encode() in kept.header:
                return kept
            self.restart_chain("the device was enrolled anew")

        def work(rows: Rows) -> bool:
            if rows.meta("outbox") is not None:
                return True  # another process began it meanwhile
            return spool_outbox.begin(
                rows,
                self._sizes,
                device,
                max_bytes=max_bytes,
                max_items=max_items,
                newest_first=newest_first,
                profiles=profiles,
            )

        return self.outbox() if self._file.run(work, pages=64) else None

    def settle(self, outbox: Outbox, results: Sequence[tuple[str, str]]) -> None:
        """The monitor's answer, one (result, reason) an item: "accepted", "duplicate", "refused" or "deferred".

        What it has counted is deleted, what it has deferred stays for a later batch, and the chain moves on, in one
        transaction. A batch that was settled before is left alone; when the chain was begun anew meanwhile, items are
        taken away all the same. Raises SpoolError when another batch was begun, or ``results`` are not its.
        """
        stored = self._file.run(Rows.pinned_bytes, write=False)
        need = pages_of(stored, len(outbox.items)) + len(outbox.losses) // 16
        self._file.run(lambda rows: spool_outbox.settle(rows, outbox, results), pages=need + 16)
        with suppress(SpoolError):  # it is settled; room may be given back another time
            self._file.run(keeping.give_back, pages=keeping.GIVE_BACK_CHANGES)

    def unpin(self, outbox: Outbox) -> None:
        """The monitor did not take the batch: its items stay, its number is given again."""

        def work(rows: Rows) -> None:
            kept = rows.meta("outbox")
            if kept is not None and str(kept["header"]).encode("ascii") == outbox.header:
                spool_outbox.drop(rows)

        self._file.run(work)

    def restart_chain(self, reason: str) -> None:
        """Begin another chain; a batch that was begun is dropped, its items stay. ``reason`` is told to the monitor."""
        self._file.run(lambda rows: spool_outbox.restart(rows, reason))

    def put_off(self, stream: str, sequence: int) -> None:
        """An item goes after all others, as if the monitor had deferred it: the agent suspects that it is at fault."""

        def work(rows: Rows) -> None:
            for entry in rows.find(stream, sequence, sequence):
                if entry.item_id not in rows.pinned():
                    rows.put_off(entry.item_id)

        self._file.run(work)

    def refuse(self, stream: str, sequence: int, reason: str) -> None:
        """An item that the monitor cannot take even alone becomes a loss with ``reason``."""
        text = printable(reason)

        def work(rows: Rows) -> None:
            for entry in rows.find(stream, sequence, sequence):
                if entry.item_id in rows.pinned():
                    spool_outbox.drop(rows)
                spool_outbox.give_up(rows, entry.item_id, text, "refused")

        self._file.run(work)

    # --- looking ---
    def stats(self) -> SpoolStats:
        """What the spool holds and what became of the rest. Looks at an index, not at the items."""
        return self._file.run(self._stats, write=False)

    def _stats(self, rows: Rows) -> SpoolStats:
        kinds = {priority: kind for kind, priority in PRIORITIES.items()}
        by_kind = {kinds[p]: (items, amount, size) for p, items, amount, size, _ in rows.totals() if p in kinds}
        oldest, newest = rows.kept_between()
        chain = rows.chain()
        return SpoolStats(
            items=sum(figures[0] for figures in by_kind.values()),
            rows=sum(figures[1] for figures in by_kind.values()),
            payload_bytes=sum(figures[2] for figures in by_kind.values()),
            by_kind=by_kind,
            oldest=oldest,
            newest=newest,
            pinned=len(rows.pinned()),
            losses=spool_losses.number(rows),
            evicted=rows.counted("evicted"),
            refused=rows.counted("refused"),
            damaged=rows.counted("damaged"),
            delivered=sum(rows.counted("delivered").values()),
            profiles=len(rows.profiles()),
            chain=chain.chain,
            number=chain.number,
            bytes_on_disk=disk.bytes_on_disk(self._file.path),
            max_bytes=self._sizes.limit,
            damaged_files=tuple(path.name for path in disk.damaged_files(self.folder)),
        )

    # --- keys ---
    def rotate(self, new_key: Key = None) -> None:
        """Replace the key-encryption key; items are not written anew.

        None makes a new key in the key file that is in use. Bytes, the path of a key file that is there, or a function
        take its place: the next time the spool is opened with them. Raises SpoolKeyError, and the old key still opens.
        """
        path = key_path(self._file.key, self.folder)
        if new_key is None:
            if path is None:
                raise SpoolKeyError("the spool's key is in no file", "give the new key")
            aside = path.with_name(path.name + NEXT)
            new = write_key(aside)
            # Whichever of the two files is in place after a power cut, it opens.
            self._file.run(lambda rows: rows.put_key(rows.vault.wrap(new)))
            os.replace(aside, path)
            disk.sync_folder(path.parent)
        else:
            new = load_key(new_key, self.folder, create=False)
        self._file.run(lambda rows: rows.keep_one_key(rows.vault.wrap(new)))
        if new_key is not None:
            self._file.key = new_key
            if path == self.folder / KEY_NAME != key_path(new_key, self.folder):
                disk.wipe_and_remove(path)  # it opens nothing any more
        self._file.empty_log()  # the old wrapping was in it

    def erase(self) -> None:
        """Destroy the data key and every file that held it, those that were set aside included; the spool is empty then
        and goes on with new keys. The chain begins anew, and says why.
        """
        self._file.run(Rows.drop_keys)
        self._file.empty_log()
        with self._file.alone():
            _destroy(self.folder)
            self._file.create("spool erased")

    def _too_large(self, rows: Rows) -> bool:
        return rows.page_figures()[0] > self._sizes.pages

    def _shrink(self, rows: Rows) -> bool:
        return keeping.shrink(rows, self._sizes)

    def _salvage(self, aside: Path, key: bytes) -> Iterator[Callable[[Rows], None]]:
        return spool_salvage.steps(aside, key, self._sizes.chunk)

    def _note(self, text: str) -> None:
        if self._on_note is not None:
            self._on_note(text)


def erase_folder(folder: str | os.PathLike[str]) -> None:
    """Destroy a spool whose key is lost, its key file and what was set aside. Raises SpoolError."""
    path = Path(folder)
    lock = disk.FolderLock(path)
    try:
        with lock.hold(exclusive=True):
            _destroy(path)
    except OSError as error:
        raise SpoolError(f"{path}: {error.strerror}", "check the folder's rights") from error
    finally:
        lock.close()


def _destroy(folder: Path) -> None:
    for database in (folder / disk.DATABASE, *disk.damaged_files(folder)):
        disk.remove(database, wipe=True)
    for name in (KEY_NAME, *LEFT_BY_ROTATION):
        disk.wipe_and_remove(folder / name)
    disk.sync_folder(folder)


def _fill(rows: Rows, restarted: str) -> None:
    rows.put_meta("spool", uuid4().hex)
    rows.put_chain(Chain.new(printable(restarted) if restarted else ""))
