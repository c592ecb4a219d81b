"""How long tests wait for processes, threads and servers: as long as the most loaded machine needs.

A test that passes never waits that long; one that fails by waiting has met what would have gone on for ever.
"""

import time
from collections.abc import Callable

PATIENCE = 120.0


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Ask every few milliseconds until ``condition()`` is true. Raises AssertionError when it does not come to be."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.005)
