"""A few raw rows of each window, drawn evenly from all, for retraining; off unless asked for and consented to.

``Reservoir`` holds at most ``size`` rows in memory, whatever the traffic; the recorder takes them when the window
closes and seals them (``sealing``) before anything is written.
"""

from __future__ import annotations

import math
import random
import threading
from collections.abc import Callable
from typing import Any

# A cell longer than this is a document, not a feature: its row is left out, and counted.
MAX_CELL_CHARACTERS = 4096

Row = dict[str, Any]


class Reservoir:
    """Algorithm L (Li 1994): the next row to be taken is drawn ahead, so that one that is not costs a comparison."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.forget()

    def forget(self) -> None:
        """Start empty, with random numbers of its own: a forked child must not draw what its parent does."""
        self._lock = threading.Lock()
        self._random = random.Random()
        self._generation = 0
        self._begin()

    def _begin(self) -> None:
        self._seen = 0
        self._rows: list[Row | None] = []
        self._next = 0
        self._w = self._shrink(1.0)
        self._generation += 1

    def offer(self, rows: int, row: Callable[[int], Row], answer: Callable[[int], Any], method: str) -> None:
        """Rows 0 to ``rows`` - 1 were seen; ``row`` and ``answer`` give those that are drawn, without a lock held."""
        with self._lock:
            first, generation = self._seen, self._generation
            self._seen += rows
            drawn: list[tuple[int, int]] = []
            while self._next < self._seen:
                drawn.append((self._place(), self._next - first))
                self._advance()
        for place, at in drawn:
            sampled = {"method": method, "row": row(at), "answer": _plain(answer(at))}
            with self._lock:
                if generation == self._generation:
                    self._rows[place] = None if _too_long(sampled) else sampled

    def take(self) -> tuple[int, list[Row]]:
        """Rows seen and rows drawn since the last ``take``."""
        with self._lock:
            found = self._seen, [row for row in self._rows if row is not None]
            self._begin()
            return found

    def _place(self) -> int:
        if len(self._rows) < self._size:
            self._rows.append(None)
            return len(self._rows) - 1
        return self._random.randrange(self._size)

    def _advance(self) -> None:
        if len(self._rows) < self._size:
            self._next += 1
            return
        skipped = math.log(1.0 - self._random.random()) / math.log1p(-self._w)
        self._next += 1 + int(min(skipped, 2.0**62))
        self._w = self._shrink(self._w)

    def _shrink(self, w: float) -> float:
        # Kept off 0 and 1, where the logarithm of 1 - w is no number to divide by.
        drawn = w * math.exp(math.log(1.0 - self._random.random()) / self._size)
        return min(max(drawn, 1e-300), 1.0 - 1e-16)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def _too_long(sampled: Row) -> bool:
    return any(isinstance(cell, str) and len(cell) > MAX_CELL_CHARACTERS for cell in sampled["row"].values())
