"""How bench and demo measure: medians of repeats, everything in one run on one machine, so that ratios mean
something.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

# Measures a first answer as a device has it: a new process, imports included.
_COLD = """
import sys, time
started = time.perf_counter()
import edgeml
model = edgeml.load(sys.argv[1], engine=sys.argv[2])
print(time.perf_counter() - started)
"""


@dataclass(frozen=True)
class Latency:
    """Seconds a call: median and 99th percentile."""

    p50: float
    p99: float


def latency(call: Callable[[int], Any], budget: float, most: int = 20_000) -> Latency:
    """Time single calls, ``call(i)`` for i = 0, 1, …, until ``budget`` seconds are used; at least 20
    calls.
    """
    for i in range(5):
        call(i)
    times: list[float] = []
    end = time.perf_counter() + budget
    while len(times) < 20 or (len(times) < most and time.perf_counter() < end):
        started = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - started)
    p50, p99 = np.percentile(times, [50, 99])
    return Latency(float(p50), float(p99))


def median_time(call: Callable[[], Any], repeats: int) -> float:
    """Median seconds of a call, after one that is not counted."""
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def cold_load(path: str, engine: str) -> float | None:
    """Seconds from the start of Python's work to a loaded model in a new process; None when that fails."""
    command = [sys.executable, "-c", _COLD, path, engine]
    quiet = {name: value for name, value in os.environ.items() if name != "EDGEML_TELEMETRY"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=quiet)
    return float(done.stdout) if done.returncode == 0 else None
