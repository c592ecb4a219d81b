"""How far a long run over rows is: rows, rows a second, the part done, time left.

A ``Meter`` is told of every batch and shows a bar on stderr while that is a terminal; where the total is unknown it
shows rows and rate. Its figures go into the last note and into ``--json``. Used by predict.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

# The rate is that of the last seconds: a mean in which what is this old weighs 1/e.
_SMOOTH_SECONDS = 5.0
# Rates and times of the first batches are not shown: compilation and the file's cache distort them.
_WARM_SECONDS = 0.5


class Meter:
    """Counts rows; ``show`` is called after every batch. ``clock`` is for tests."""

    def __init__(
        self, show: Callable[[Meter], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._show, self._clock = show, clock
        self._start = self._last = clock()
        self._rate: float | None = None
        self._part_rate: float | None = None
        self.rows = 0
        self.done: float | None = 0.0

    def advance(self, rows: int, done: float | None) -> None:
        """``rows`` more are done, and with them the part ``done`` of all."""
        now = self._clock()
        passed = max(now - self._last, 1e-9)
        # Weighs by the time a batch took, so that batches of any size give the same rate.
        weight = -math.expm1(-passed / _SMOOTH_SECONDS)
        self._rate = _mix(self._rate, rows / passed, weight)
        if done is not None and self.done is not None:
            self._part_rate = _mix(self._part_rate, (done - self.done) / passed, weight)
        self.rows, self.done, self._last = self.rows + rows, done, now
        if self._show is not None:
            self._show(self)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return float(self._clock() - self._start)

    @property
    def rows_per_second(self) -> float:
        """Over the whole run."""
        return self.rows / max(self.seconds, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the present rate; None where nobody can say."""
        if not self.done or not self._part_rate or self.seconds < _WARM_SECONDS:
            return None
        # Of a rate over everything and one of late: the latter alone jumps with every read-ahead of the disk.
        mean = (self.done / self.seconds + self._part_rate) / 2
        return max(1.0 - self.done, 0.0) / mean

    def __str__(self) -> str:
        parts = [f"{count(self.rows)} rows"]
        if self._rate is not None and self.seconds >= _WARM_SECONDS:
            parts.append(f"{count(self._rate)} rows/s")
        if (left := self.seconds_left) is not None:
            parts.append(f"{clock_time(left)} left")
        return ", ".join(parts)


@contextmanager
def meter(quiet: bool = False) -> Iterator[Meter]:
    """A meter, shown on stderr while that is a terminal, unless ``quiet``."""
    if quiet or not sys.stderr.isatty():
        yield Meter()
        return
    columns = TextColumn("{task.description}"), BarColumn(None), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as bar:
        task = bar.add_task("reading", total=None)

        def show(state: Meter) -> None:
            bar.update(task, description=str(state), total=state.done and 1.0, completed=state.done or 0.0)

        yield Meter(show)


def _mix(old: float | None, new: float, weight: float) -> float:
    return new if old is None else old + weight * (new - old)


def count(value: float) -> str:
    """A number for people: 950, 12.3k, 57.0M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.1f}{unit}"
    return f"{value:.0f}"


def clock_time(seconds: float) -> str:
    """A time for people: 42 s, 3:07, 1:02:03."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
