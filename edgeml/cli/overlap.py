"""Reading ahead and writing behind: a thread at each end of a loop, a bounded number of items between.

``Ahead`` iterates in a thread, ``Behind`` calls a function in one; what either raises is raised in the loop. Order is
kept. The threads are daemons and are given up after a moment when they hang in a read or a write that does not end, so
that Ctrl-C always comes through. Used by predict.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
# How long the end waits for a thread that is in the middle of something, such as reading a pipe nobody writes to.
_PATIENCE_SECONDS = 1.0


class _Queue(Generic[T]):
    """A bounded queue that either side may close. ``error`` is what closed it."""

    def __init__(self, most: int) -> None:
        self._items: deque[T] = deque()
        self._most = most
        self._changed = threading.Condition()
        self._closed = self._dropped = False
        self.error: BaseException | None = None

    def put(self, item: T) -> bool:
        """Wait for room; False when the queue is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._most)
            if self._closed:
                return False
            self._items.append(item)
            self._changed.notify_all()
            return True

    def get(self) -> tuple[T] | None:
        """Wait for an item, in a tuple of its own; None when the queue is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._items)
            if not self._items:
                return None
            item = self._items.popleft()
            self._changed.notify_all()
            return (item,)

    def close(self, error: BaseException | None = None, drop: bool = False) -> None:
        """No more items; ``drop`` forgets those that wait."""
        with self._changed:
            self._closed = True
            self.error = self.error or error
            if drop:
                self._items.clear()
            self._changed.notify_all()


class Ahead(Generic[T]):
    """The items of ``source``, which a thread makes up to ``most`` items ahead. Use it in a ``with`` block."""

    def __init__(self, source: Generator[T], most: int) -> None:
        self._source = source
        self._queue: _Queue[T] = _Queue(most)
        self._thread = threading.Thread(target=self._work, name="edgeml-ahead", daemon=True)

    def __enter__(self) -> Iterator[T]:
        self._thread.start()
        return self._items()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.close(drop=True)
        self._thread.join(_PATIENCE_SECONDS)

    def _items(self) -> Iterator[T]:
        while (found := self._queue.get()) is not None:
            yield found[0]
        if self._queue.error is not None:
            raise self._queue.error

    def _work(self) -> None:
        try:
            for item in self._source:
                if not self._queue.put(item):
                    break
            self._source.close()
        except BaseException as error:  # raised where the items are used
            self._queue.close(error)
        else:
            self._queue.close()


class Behind(Generic[T]):
    """Calls ``use`` on each item that is ``put``, in a thread, up to ``most`` items behind.

    When the ``with`` block ends well, all items have been used; an error of ``use`` is raised by ``put`` or there.
    """

    def __init__(self, use: Callable[[T], None], most: int) -> None:
        self._use = use
        self._queue: _Queue[T] = _Queue(most)
        self._thread = threading.Thread(target=self._work, name="edgeml-behind", daemon=True)

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def put(self, item: T) -> None:
        if not self._queue.put(item) and self._queue.error is not None:
            raise self._queue.error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What was made before an error is used all the same: how much that is must not depend on how fast threads are.
        interrupted = kind is not None and not issubclass(kind, Exception)
        self._queue.close(drop=interrupted)
        self._thread.join(_PATIENCE_SECONDS if interrupted else None)
        if kind is None and self._queue.error is not None:
            raise self._queue.error

    def _work(self) -> None:
        try:
            while (found := self._queue.get()) is not None:
                self._use(found[0])
        except BaseException as error:  # raised where the items are made
            self._queue.close(error, drop=True)
