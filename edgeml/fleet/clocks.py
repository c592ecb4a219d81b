"""When a window was, by the server's clock, whatever the device takes for the time.

Comes in: a window's own clocks, those of the attempt that brought it, and when that came. Goes out: start and end, and
how they were found. A window is never placed after the moment it was received. Called by ingest for every window.
"""

from __future__ import annotations

from typing import NamedTuple

from edgeml.telemetry.wire import Sent

# A device may record for a while before it is enrolled; what claims to be older has a clock that cannot be believed.
BEFORE_ENROLMENT_SECONDS = 90 * 86400.0
# No recorder keeps a window open for longer; a longer one is a broken clock.
LONGEST_WINDOW_SECONDS = 7 * 86400.0
# The window was closed, then sent: its end may not lie further after the attempt than clocks are read apart.
_READ_APART_SECONDS = 2.0


class Place(NamedTuple):
    """``clock`` is "monotonic" (exact: by the seconds since boot), "wall" (by the device's own clock, corrected by how
    far it is off now) or "clamped" (neither can be true: the nearest moment that can).
    """

    started: float
    ended: float
    clock: str


def place(
    *, start: float, end: float, boot_id: str, wall: float, sent: Sent, received: float, enrolled: float,
    origin: float | None,
) -> Place:  # fmt: skip
    """Place a window in time.

    Args:
        start, end: seconds of the device's monotonic clock, in the boot ``boot_id``.
        wall: what the device took for the time when it closed the window, seconds since 1970.
        sent: the device's clocks when it sent the window, which came at ``received``.
        enrolled: when the device enrolled.
        origin: when that boot's monotonic clock was 0 by the server's clock, when the device reported in that boot;
            used for a window of an earlier boot than the one it is sent from.
    """
    earliest = min(enrolled - BEFORE_ENROLMENT_SECONDS, received)
    length = min(end - start, LONGEST_WINDOW_SECONDS)
    ended, clock = _exact(end, boot_id, sent, received, origin, earliest), "monotonic"
    if ended is None:
        # The second is right when the clock was, and was set wrong since.
        corrected, believed = wall - (sent.wall - received), wall
        ended, clock = next(((t, "wall") for t in (corrected, believed) if enrolled <= t <= received), (None, ""))
        if ended is None:
            ended, clock = (received if corrected > received else min(enrolled, received)), "clamped"
    return Place(max(ended - length, earliest), ended, clock)


def _exact(
    end: float, boot_id: str, sent: Sent, received: float, origin: float | None, earliest: float
) -> float | None:
    if boot_id == sent.boot_id:
        if end > sent.monotonic + _READ_APART_SECONDS:
            return None
        ended = received - max(sent.monotonic - end, 0.0)
    elif origin is not None:
        ended = min(origin + end, received)
    else:
        return None
    return ended if ended >= earliest else None
