"""How the spool's limit of bytes is shared out between the database, its write-ahead log and its shared memory.

The database may not grow beyond its share (SQLite's ``max_page_count``); the log is emptied before a transaction that
would not fit its own. Called by ``spool`` and ``spool_file``.
"""

from __future__ import annotations

from dataclasses import dataclass

from edgeml.errors import SpoolError
from edgeml.telemetry.spool_tables import PAGE_BYTES

LEAST_BYTES = 512 * 2**10
_SHARED_MEMORY = 32 * 2**10  # for 4096 frames, more than the log may have
_FRAME = PAGE_BYTES + 24
_LOG_HEADER = 32
_LEAST_LOG, _MOST_LOG = 160 * 2**10, 4 * 2**20
_OVERFLOW_BYTES = PAGE_BYTES - 4
# A changed row touches a leaf of its table and of each index, and splits one now and then; neighbours share them.
_PAGES_OF_INDEXES = 8


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of the whole and of the log, pages of the database, and what follows from them."""

    limit: int
    log: int
    pages: int

    @classmethod
    def of(cls, max_bytes: int) -> Sizes:
        """Raises SpoolError when ``max_bytes`` is below 512 KiB."""
        if max_bytes < LEAST_BYTES:
            raise SpoolError(f"a spool of {max_bytes} bytes is too small", f"give it max_bytes={LEAST_BYTES} or more")
        log = min(max(max_bytes // 8, _LEAST_LOG), _MOST_LOG)
        return cls(max_bytes, log, (max_bytes - log - _SHARED_MEMORY) // PAGE_BYTES)

    def log_bytes(self, pages: int) -> int:
        """What the log grows by at most when ``pages`` pages are changed."""
        return pages * _FRAME + _LOG_HEADER

    @property
    def chunk(self) -> int:
        """Bytes that one transaction takes in, so that they, and what is evicted for them, fit the log."""
        return self.log // 4

    @property
    def pages_of_chunk(self) -> int:
        return (self.log - _LOG_HEADER) // _FRAME

    @property
    def reserve(self) -> int:
        """Pages kept free of items, for losses, for the batch that was begun and for what is counted."""
        return max(16, min(self.pages // 8, 128))

    @property
    def slack(self) -> int:
        """Pages evicted beyond what is needed, so that not every append evicts."""
        return min(self.pages // 64, self.pages_of_chunk // 8)

    @property
    def loss_rows(self) -> int:
        """Losses are made fewer beyond this. 60 bytes each, and as many in their index."""
        return max(100, min(1000, self.reserve * PAGE_BYTES // 2 // 120))


def pages_of(stored: int, items: int = 1) -> int:
    """Pages that change when items of ``stored`` bytes in all are kept or taken away: theirs and those of indexes."""
    return stored // _OVERFLOW_BYTES + items + _PAGES_OF_INDEXES
