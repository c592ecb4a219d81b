"""Tells systemd how the service fares (``sd_notify``): ready, alive, stopping. Does nothing without systemd.

``edgeml agent run`` calls it. The protocol is a datagram to the socket that NOTIFY_SOCKET names; see the manual page
sd_notify(3).
"""

from __future__ import annotations

import contextlib
import os
import socket

_LONGEST = 3600.0


def notify(text: str) -> bool:
    """Send ``text`` (``READY=1``, ``STATUS=…``); whether there was somebody to send it to. Never raises."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    if name[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
        return False
    address = "\0" + name[1:] if name[0] == "@" else name
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.settimeout(1.0)
        line.sendto(text.encode(), address)
        return True
    return False


def watchdog_seconds() -> float | None:
    """Seconds between two ``WATCHDOG=1``: half of systemd's limit, as its manual advises; None when it wants none."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not usec.isdigit() or int(usec) == 0 or (pid.isdigit() and int(pid) != os.getpid()):
        return None
    return min(int(usec) / 2e6, _LONGEST)
