"""The device's clocks: which boot this is, seconds since it, and what the device takes for the time.

Called by the recorder, the spool and the agent, which order things by boot and monotonic seconds: a device without a
battery starts in 1970, and its wall clock may jump by years when the network comes. The wall is a hint, never a basis.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
# CLOCK_BOOTTIME counts on while the device sleeps, which CLOCK_MONOTONIC does not.
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)

_found: tuple[int, str] = (-1, "")


def boot_id() -> str:
    """The kernel's id of this boot, 1 to 64 printable characters without a space; where the kernel has none, an id of
    this process, new after a fork.
    """
    global _found
    if _found[0] != os.getpid():
        _found = (os.getpid(), _read_boot_id())
    return _found[1]


def monotonic() -> float:
    """Seconds since the device started, sleep counted where the system can; never goes back within one boot."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


def wall() -> float:
    """What the device takes for the Unix time, in seconds. May be years off, and may jump."""
    return time.time()


def _read_boot_id() -> str:
    try:
        text = _BOOT_ID.read_text("ascii").strip()
    except (OSError, ValueError):
        text = ""
    return text if 0 < len(text) <= 64 and text.isprintable() and " " not in text else uuid4().hex
