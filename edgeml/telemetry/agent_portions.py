"""How much goes into the next batch, and which item is at fault when the monitor will not take one.

The agent tells what became of each batch. A batch that was refused as it is (400, 413, 422) is halved until one item
stands alone. That it is refused alone is no proof: a monitor may refuse everything for a while. An item is given up
only when another batch was taken since the search began or since it was first refused alone; until then it is put off,
so that the others go first.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from edgeml.telemetry.items import Item
from edgeml.telemetry.wire import MAX_ITEMS

# So many items refused alone are remembered; more than these, and the monitor is at fault anyway.
MAX_SEEN = 1000


class Next(Enum):
    """What to do after a batch was refused as it is."""

    SMALLER = "go on at once with fewer items"
    PUT_OFF = "its one item goes last from now on"
    GIVE_UP = "its one item will never be taken"
    WAIT = "there was no item in it"


class Portions:
    """``max_items`` is for the next batch."""

    def __init__(self, most: int = MAX_ITEMS) -> None:
        self.max_items = most
        self._most = most
        self._taken = 0  # batches
        self._suspects = 0  # so many of the items next in line hold the one at fault
        self._search_began = 0  # how many batches were taken then
        self._seen: dict[tuple[str, int], int] = {}  # refused alone -> how many batches were taken then

    @property
    def searching(self) -> bool:
        """Whether batches are small because one was refused."""
        return self.max_items < self._most

    def taken(self, items: int) -> None:
        """A batch of so many items was taken."""
        self._taken += 1
        self._suspects = max(self._suspects - items, 0)
        self.max_items = self._next()

    def refused(self, items: Sequence[Item]) -> Next:
        """A batch was refused as it is."""
        if not items:
            return Next.WAIT
        if len(items) > 1:
            if not self._suspects:
                self._search_began = self._taken
            self._suspects = len(items)
            self.max_items = self._next()
            return Next.SMALLER
        name = items[0].stream, items[0].sequence
        before = self._seen.get(name, self._search_began if self._suspects else self._taken)
        self._suspects = 0
        if before < self._taken:
            self._seen.pop(name, None)
            self.max_items = self._most
            return Next.GIVE_UP
        if len(self._seen) >= MAX_SEEN:
            self._seen.clear()
        self._seen[name] = before
        self.max_items = 1  # until the monitor takes something again
        return Next.PUT_OFF

    def _next(self) -> int:
        return max(self._suspects // 2, 1) if self._suspects else self._most
