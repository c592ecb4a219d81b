"""How long the agent waits: exponential backoff with full jitter, what a server asks for, and the bandwidth cap.

The agent and its transport call it. Everything counts in monotonic seconds; a wall clock is asked only where a server
names a date and does not say what time it has itself.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from datetime import UTC
from email.utils import parsedate_to_datetime

FIRST_SECONDS = 1.0
MOST_SECONDS = 300.0
# What a server may ask for in Retry-After. More is more likely a mistake than a wish.
MAX_RETRY_AFTER_SECONDS = 3600.0


class Backoff:
    """Waits that double with every failure in a row, each drawn from 0 to its bound ("full jitter"), so that a fleet
    that failed together does not come back together.
    """

    def __init__(
        self,
        first: float = FIRST_SECONDS,
        most: float = MOST_SECONDS,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.failures = 0
        self._first, self._most, self._uniform = first, most, uniform

    def wait(self, least: float = 0.0) -> float:
        """Seconds to wait after one more failure; ``least`` is what the server asked for, to which jitter is added."""
        bound = min(self._most, self._first * 2.0 ** min(self.failures, 60))
        self.failures += 1
        return least + self._uniform(0.0, bound)

    def reset(self) -> None:
        self.failures = 0


def retry_after(value: str | None, date: str | None, wall: float) -> float | None:
    """Seconds that a Retry-After header asks to wait, from 0 to an hour; None for no header, or one without meaning.

    ``date`` is the reply's Date header: a date to wait for is compared with the server's clock, and only without one
    with ``wall``, the device's, which may be years off.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        seconds = float(text[:10])
    else:
        until, now = _timestamp(text), _timestamp(date or "")
        if until is None:
            return None
        seconds = until - (wall if now is None else now)
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)


def _timestamp(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        # A date without a zone is meant as UTC: HTTP knows no other.
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class Bandwidth:
    """A token bucket: at most ``bytes_per_second`` over time, a second's worth at once; None for no cap.

    What was sent is spent afterwards and may put the bucket in debt, so that a batch larger than the bucket goes out
    whole and is then waited for.
    """

    def __init__(self, bytes_per_second: float | None, monotonic: Callable[[], float]) -> None:
        self._rate = bytes_per_second
        self._monotonic = monotonic
        self._level, self._at = bytes_per_second or 0.0, monotonic()

    def spend(self, count: int) -> None:
        if self._rate is not None:
            self._fill(self._rate)
            self._level -= count

    def wait(self) -> float:
        """Seconds until the debt is paid; 0 when there is none."""
        if self._rate is None:
            return 0.0
        self._fill(self._rate)
        # A part of a byte is rounding: waiting for it could take for ever.
        return -self._level / self._rate if self._level <= -1 else 0.0

    def batch_bytes(self, most: int) -> int:
        """How large a batch may be, as JSON: what goes out in some ten seconds, so that the line is shared."""
        return most if self._rate is None else min(most, max(math.ceil(40 * self._rate), 16 * 1024))

    def _fill(self, rate: float) -> None:
        now = self._monotonic()
        self._level = min(rate, self._level + max(now - self._at, 0.0) * rate)
        self._at = now
