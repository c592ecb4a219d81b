"""How bench and demo measure: many short repeats, contenders by turns, everything in one run on one machine, so that
ratios mean something.

In come calls to be timed; out go their times in seconds, or figures of them. ``take_turns`` is what bench uses: a
machine that is disturbed for a second slows all contenders alike. ``first_answer`` starts processes of their own.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Key = TypeVar("Key", bound=Hashable)
Times = npt.NDArray[np.float64]

# Of a contender that takes long, so many calls at least; the others have a turn in every round.
LEAST_TURNS, ROUNDS = 3, 20
_MOST_CALLS = 1_000_000  # of one contender: eight bytes each
_CHILD_SECONDS = 120.0

# What a device does: start, import, load, answer one row. The line "answered" ends the time; what follows is memory.
# A process's peak is VmHWM: Linux counts the memory of the process that started it into getrusage's ru_maxrss.
_CHILD = """
import sys
if sys.argv[1]:
    import edgeml
    model = edgeml.load(sys.argv[1], engine=sys.argv[2])
    import json
    row = json.loads(sys.stdin.read())
    getattr(model, sys.argv[3])(row)
else:
    import numpy
print("answered", flush=True)
peak = None
try:
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
except (OSError, StopIteration):
    try:
        import resource
        unit = 1 if sys.platform == "darwin" else 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    except ImportError:
        try:
            import psutil
            peak = psutil.Process().memory_info().peak_wset
        except (ImportError, AttributeError):
            pass
print("" if peak is None else peak)
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


# --- by turns -----------------------------------------------------------------------------------------------
def take_turns(
    calls: Mapping[Key, Callable[[int], Any]],
    seconds: float,
    between: Callable[[float], Any] = lambda done: None,
    least: int = LEAST_TURNS,
) -> dict[Key, Times]:
    """Seconds of each call of every contender, which take turns until each has had ``seconds``, or ``least`` calls.

    ``calls`` get 0, 1, 2, … and are each called twice before anything counts. ``between`` is called after a round with
    the part that is done. Whoever has the first turn in one round has the last in the next.
    """
    turns: dict[Key, int] = {}
    for key, call in calls.items():
        call(0)
        started = time.perf_counter()
        call(1)
        usual = max(time.perf_counter() - started, 1e-9)
        turns[key] = min(ROUNDS, max(least, math.ceil(seconds / usual)))
    times = {key: array("q") for key in calls}
    order = list(calls)
    for number in range(ROUNDS):
        for key in order if number % 2 == 0 else reversed(order):
            count = turns[key]
            if (number + 1) * count // ROUNDS > number * count // ROUNDS:
                _turn(calls[key], times[key], int(seconds / count * 1e9))
        between((number + 1) / ROUNDS)
    return {key: np.array(found) * 1e-9 for key, found in times.items()}


def _turn(call: Callable[[int], Any], times: array[int], nanoseconds: int) -> None:
    """Calls until the turn is over, one at least."""
    clock, keep, at = time.perf_counter_ns, times.append, len(times)
    end = clock() + nanoseconds
    while True:
        started = clock()
        call(at)
        now = clock()
        keep(now - started)
        at += 1
        if now >= end or at >= _MOST_CALLS:
            return


def figures(times: Sequence[float] | Times) -> dict[str, float]:
    """``min_s``, ``p10_s``, ``p50_s``, ``p90_s`` and ``p99_s`` of some times, and how many ``repeats`` they are."""
    names = ("min_s", "p10_s", "p50_s", "p90_s", "p99_s")
    found = np.percentile(np.asarray(times, dtype=np.float64), [0, 10, 50, 90, 99])
    return {name: float(value) for name, value in zip(names, found, strict=True)} | {"repeats": len(times)}


# --- a process of its own -----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Start:
    """A new process: seconds from its start to its first answer, and the most memory it had, None where unknown."""

    seconds: float
    peak_bytes: int | None


def first_answer(
    path: str = "", engine: str = "", method: str = "", row: Any = None, kernels: str | None = None
) -> Start:
    """Start Python, import EdgeML, load the bundle at ``path`` and call ``method`` with ``row``; with no path, start
    Python and import NumPy.

    ``kernels`` is the process's EDGEML_KERNELS, None for that of this one. Raises RuntimeError with what went wrong.
    """
    env = {name: value for name, value in os.environ.items() if name != "EDGEML_TELEMETRY"}
    # The same modules as here, wherever this process found them.
    env["PYTHONPATH"] = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
    if kernels is not None:
        env["EDGEML_KERNELS"] = kernels
    command, text = [sys.executable, "-c", _CHILD, path, engine, method], json.dumps(row)
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        started = time.perf_counter()
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
            )
        except OSError as error:  # an emulator without binfmt, or a Python inside an application
            raise RuntimeError(f"Python cannot be started: {error}") from None
        watch = threading.Timer(_CHILD_SECONDS, child.kill)
        watch.daemon = True  # an interrupt just here must not wait for it
        try:
            watch.start()
            first, seconds, rest = _talk(child, text, started)
        finally:
            watch.cancel()
            child.kill()
            child.wait()
        if first != "answered" or child.returncode != 0:
            errors.seek(0)
            lines = errors.read().splitlines()
            # A traceback ends in the error, whose message may have lines of its own.
            found = [line for line in lines if re.match(r"[A-Za-z_][\w.]*(:|$)", line)]
            raise RuntimeError(found[-1] if found else f"the process ended with code {child.returncode}")
    return Start(seconds, int(rest) if rest else None)


def _talk(child: subprocess.Popen[str], text: str, started: float) -> tuple[str, float, str]:
    """Hand ``text`` to a process: its first line, when that came, and the rest of what it says."""
    assert child.stdin is not None
    assert child.stdout is not None
    with contextlib.suppress(BrokenPipeError):  # one that failed does not read
        child.stdin.write(text)
    with contextlib.suppress(BrokenPipeError):
        child.stdin.close()
    with child.stdout:
        first = child.stdout.readline().strip()
        seconds = time.perf_counter() - started
        rest = child.stdout.read().strip()
    child.wait()
    return first, seconds, rest
