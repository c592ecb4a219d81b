"""How everything here is timed, checked and described: ``take_turns``, ``against`` and ``machine``.

Contenders take turns in rounds within one process, so that a noisy machine slows all of them alike, and what is
published are ratios of medians of one run. One process is enough: every contender runs on one thread and so keeps no
pool of threads that could disturb another. Every section (``sections.py``) calls these.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Record = dict[str, Any]
# Shorter calls are timed in stretches of about this long: the clock itself costs 0.05 us.
STRETCH = 50e-6
PACKAGES = (
    "edgeml-sdk", "numpy", "scikit-learn", "onnxruntime", "skl2onnx", "treelite", "tl2cgen", "m2cgen", "emlearn",
    "lightgbm", "lleaves", "hummingbird-ml", "numba", "llvmlite", "pandas", "polars", "pyarrow",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Effort:
    """How long to measure: seconds a figure, over so many rounds of turns.

    ``clock`` is wall time, or the process's CPU time where others use the machine: contenders have one thread each.
    """

    seconds: float = 1.5
    rounds: int = 15
    clock: Callable[[], float] = time.perf_counter


QUICK = Effort(0.3, 5)


@dataclass(frozen=True, slots=True)
class Turn:
    """``call(item)`` is timed on one item after the other: different rows, or the one batch."""

    call: Callable[[Any], Any]
    items: Sequence[Any]


def take_turns(turns: Mapping[str, Turn], effort: Effort) -> dict[str, Array]:
    """Seconds of a call, a sample each, by contender. Each has answered before, when it was checked."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    stretch = {name: _stretch(turn) for name, turn in turns.items()}
    names, at = list(turns), dict.fromkeys(turns, 0)
    for i in range(effort.rounds):
        # Whoever follows a contender that fills the caches pays for it: the order changes from round to round.
        for name in names[i % len(names) :] + names[: i % len(names)]:
            call, items = turns[name].call, turns[name].items
            end = time.perf_counter() + effort.seconds / effort.rounds
            while True:
                part = items[at[name] : at[name] + stretch[name]]
                at[name] = (at[name] + stretch[name]) % len(items)
                start = effort.clock()
                for item in part:
                    call(item)
                times[name].append((effort.clock() - start) / len(part))
                if time.perf_counter() >= end:
                    break
    return {name: np.array(found) for name, found in times.items()}


def _stretch(turn: Turn) -> int:
    """Calls in a sample, a divisor of the number of items."""
    if len(turn.items) == 1:
        return 1
    turn.call(turn.items[0])
    start = time.perf_counter()
    turn.call(turn.items[0])
    wanted = STRETCH / max(time.perf_counter() - start, 1e-9)
    return max(d for d in range(1, len(turn.items) + 1) if len(turn.items) % d == 0 and d <= max(wanted, 1))


def statistics(times: Array, rows: int = 1) -> Record:
    """Median, tenth and 99th percentile in microseconds a row, and how many samples there are."""
    low, middle, high = (float(x) for x in np.quantile(times, (0.1, 0.5, 0.99)) * 1e6 / rows)
    return {"us": middle, "us_p10": low, "us_p99": high, "samples": len(times)}


def against(answer: Any, expected: Array) -> Record:
    """How an answer differs from scikit-learn's: rows whose label does, and the largest difference of a number."""
    found = np.asarray(answer)
    if found.shape != expected.shape:
        raise ValueError(f"answers of shape {found.shape}, scikit-learn's have {expected.shape}")
    with np.errstate(all="ignore"):
        same = (found == expected) | (np.isnan(found) & np.isnan(expected))
        apart = np.where(same, 0.0, np.abs(found - expected))
    # NaN or infinity for a number is another answer, and JSON has neither.
    result: Record = {"largest_difference": float(np.max(np.nan_to_num(apart, nan=1e300, posinf=1e300)))}
    if expected.ndim == 2 and expected.shape[1] > 1:
        result["labels_differ"] = int((found.argmax(axis=1) != expected.argmax(axis=1)).sum())
    return result | {"compared_rows": len(expected)}


def reason(error: BaseException) -> str:
    """One line for the table."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def machine() -> Record:
    """What the figures depend on; no host name and no path."""
    facts: Record = {
        "cpu": cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := installed(name))},
    }
    if hasattr(os, "getloadavg"):
        # Of the last minute: well above 1 before a run of one thread means that others were at work.
        facts["load"] = round(os.getloadavg()[0], 2)
    return facts


def installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
