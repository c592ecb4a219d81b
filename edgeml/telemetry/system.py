"""Figures of the machine for a window: CPU, memory, disk, temperature; what cannot be read is None.

The recorder's thread asks once a window. psutil knows most; without it (it is part of the extra [agent]) the standard
library and /proc give CPU time, memory in use and disk.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")
_HOTTEST, _COLDEST = 200.0, -100.0  # sensors that are not connected report what no board survives


class SystemFigures:
    """``read`` gives the figures since the call before. Made anew in a forked child, whose CPU time starts at 0."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._before = time.monotonic(), time.process_time()
        self._psutil = _try(_psutil)
        self._process: Any = None

    def read(self) -> dict[str, float | None]:
        """Percent of one core used by this process, of all cores used by all, bytes, degrees Celsius."""
        now = time.monotonic(), time.process_time()
        passed = now[0] - self._before[0]
        used = 100.0 * (now[1] - self._before[1]) / passed if passed > 0 else None
        self._before = now
        disk = _try(lambda: shutil.disk_usage(self._folder))
        figures: dict[str, float | None] = {
            "cpu_percent": used,
            "rss_bytes": _try(self._rss),
            "disk_free_bytes": None if disk is None else disk.free,
            "disk_used_percent": None if disk is None or not disk.total else 100.0 * disk.used / disk.total,
        }
        psutil = self._psutil
        if psutil is not None:
            memory = _try(lambda: psutil.virtual_memory())
            figures["system_cpu_percent"] = _try(lambda: psutil.cpu_percent(interval=None))
            figures["memory_available_bytes"] = None if memory is None else memory.available
            figures["memory_used_percent"] = None if memory is None else memory.percent
            figures["temperature_celsius"] = _try(self._temperature)
        return {name: _plain(value) for name, value in figures.items()}

    def _rss(self) -> int | None:
        if self._psutil is not None:
            if self._process is None:
                self._process = self._psutil.Process()
            return int(self._process.memory_info().rss)
        return int(_STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _temperature(self) -> float | None:
        """The hottest sensor."""
        found = [float(sensor.current) for group in self._psutil.sensors_temperatures().values() for sensor in group]
        return max((x for x in found if _COLDEST < x < _HOTTEST), default=None)


def _psutil() -> Any:
    import psutil

    return psutil


def _try(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception:  # psutil is missing or raises its own kinds, and sensors fail in any way; a figure is a nicety
        return None


def _plain(value: Any) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return value if isinstance(value, int) else round(float(value), 3)
