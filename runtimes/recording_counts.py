"""Counts of what a model sees, kept in buffers that no two calls share, with the kernels or with NumPy.

``Counts`` is the recorder's ``edgeml.telemetry.counting.Counter``: a call takes a buffer from the pool, adds to the
counts that lie in it and gives it back; closing a window puts a new pool in place and sums the buffers of the old one.
No lock is taken unless the pool is empty, and none is held while anything is computed or written. ``recording_plans``
says what a buffer holds and which instructions count it; ``recording`` and ``recording_row`` call.
"""

from __future__ import annotations

import ctypes
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeml.errors import ProgramError
from edgeml.ir.table import Array
from edgeml.profile import bin_counts
from edgeml.runtimes.kernels.constants import address, aligned
from edgeml.runtimes.kernels.entry import Call
from edgeml.runtimes.kernels.library import Library
from edgeml.runtimes.recording_plans import BatchPlan, Plans, RowPlan
from edgeml.telemetry.counting import LATENCY, ROWS, Layout, Places
from edgeml.telemetry.window import latency_bin

# How long ``take`` sleeps between two looks for the buffers of calls that are under way.
_PAUSE = 0.0005
# Pools that wait for a buffer. One never comes back when an interrupt hits between taking it and the try behind.
_MOST_LATE = 16
# Cells are tallied in parts, so that a batch of a million different texts needs no dict of a million.
_TALLIED = 65_536


@dataclass(slots=True)
class Buffer:
    """Memory of one call at a time. ``memory`` is where the cells of a row are packed, ``counts`` and ``places`` the
    counts; ``arguments`` are what ``Counts.run`` is handed, one a row plan.
    """

    cells: Array
    memory: memoryview
    counts: Array
    places: Any
    call: Array
    pointer: ctypes.c_void_p
    arguments: list[Any]
    calls: list[Array]  # which the arguments point to


class Pool(list[Buffer]):
    """Buffers no call is using. Taking one and giving it back is atomic."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        super().__init__()
        self.made = 0


class Counts:
    """``take`` and ``forget`` are the recorder's; the rest is for calls. ``enough`` rows are a full window."""

    def __init__(self, layout: Layout, enough: int, library: Library | None) -> None:
        self.layout = layout
        self.plans = Plans(layout, enough)
        self.pool = Pool()
        self.on_fresh: Callable[[], None] = lambda: None
        self._library = library
        self._enough = enough
        self._lock = threading.Lock()
        self._late: list[Pool] = []
        # Counts the row in a buffer; 1 when the rows are enough. Holds the GIL: it takes less than a microsecond.
        self.run: Callable[[Any], int] = self._row_in_numpy if library is None else library.run

    # --- for the recorder
    def take(self, wait: float) -> list[int]:
        with self._lock:
            self._late.append(self.pool)
            self.pool = Pool()
        total = np.zeros(self.layout.size, dtype=np.int64)
        until = time.monotonic() + wait
        for pool in self._late:
            while pool.made > 0:
                try:
                    total += pool.pop().counts
                    pool.made -= 1
                except IndexError:
                    # Only the newest is worth waiting for: calls of the others have had a whole window.
                    if pool is not self._late[-1] or time.monotonic() >= until:
                        break
                    time.sleep(_PAUSE)
        self._late = [pool for pool in self._late if pool.made > 0][-_MOST_LATE:]
        return total.tolist()

    def forget(self) -> None:
        self._lock = threading.Lock()  # whoever held it does not exist in this process
        self.pool, self._late = Pool(), []

    # --- buffers
    def fresh(self) -> tuple[Pool, Buffer]:
        """A new buffer, and the pool to give it back to, for a call that found its pool empty: it may be closed."""
        self.on_fresh()
        buffer = self._make()
        with self._lock:
            self.pool.made += 1
            return self.pool, buffer

    def _make(self) -> Buffer:
        plans = self.plans
        cells = aligned(plans.cells)
        counts = cells[plans.first_count :]
        calls = [aligned(len(Call)) for _ in range(1 + len(plans.rows))]
        for call in calls:
            call[[Call.CONSTANTS, Call.SCRATCH]] = address(plans.constants), address(cells)
        batch, *rows = calls
        for call, plan in zip(rows, plans.rows, strict=True):
            call[[Call.CODE, Call.START, Call.END, Call.BLOCK]] = address(plan.code), 0, 1, 1
        pointers = [ctypes.c_void_p(address(call)) for call in calls]
        memory = memoryview(cells).cast("B")  # type: ignore[arg-type]  # NumPy arrays have the buffer protocol
        buffer = Buffer(cells, memory, counts, memoryview(counts), batch, pointers[0], [*pointers[1:]], calls)  # type: ignore[arg-type]  # the same
        if self._library is None:
            buffer.arguments = [(buffer, plan) for plan in plans.rows]
        return buffer

    # --- a batch
    def add(
        self, method: str, kind: str, columns: Mapping[str, Array], rows: int, answer: Array, nanoseconds: int
    ) -> bool:
        """Count one call: ``rows`` rows of ``columns``, as ``read_rows`` gives them, and what ``method`` returned for
        them. ``kind`` is "one" or "batch". True when the rows are enough. It counts all or, when it raises, nothing.
        """
        answer = np.asarray(answer)
        if len(answer) != rows:
            raise ProgramError(f"{len(answer)} answers to {rows} rows")
        plan = self.plans.batch(method, kind, 0 if answer.ndim == 1 else answer.shape[1])
        tallies = [t for places, read in plan.tallied for t in _tallies(places, read(columns, answer), rows)]
        arrays = [np.ascontiguousarray(port.read(columns, answer), dtype=port.dtype) for port in plan.ports]
        for array, port in zip(arrays, plan.ports, strict=True):
            if array.size != rows * port.width:
                raise ProgramError(f"{array.size} cells where {rows} rows of {port.width} are due")
        pool = self.pool
        try:
            buffer = pool.pop()
        except IndexError:
            pool, buffer = self.fresh()
        try:
            if self._library is None:
                enough = self._batch_in_numpy(buffer, plan, arrays, rows, nanoseconds)
            else:
                ports = np.array([address(array) for array in arrays], dtype=np.uintp)
                buffer.cells[self.plans.batch_ns] = nanoseconds
                fields = [Call.CODE, Call.PORTS, Call.START, Call.END, Call.BLOCK]
                buffer.call[fields] = address(plan.code), address(ports), 0, rows, rows
                enough = self._library.run_blocks(buffer.pointer)
            places = buffer.places
            for tally in tallies:
                for place, count in tally.items():
                    places[place] += count
        finally:
            pool.append(buffer)
        return bool(enough)

    # --- without kernels
    def _batch_in_numpy(
        self, buffer: Buffer, plan: BatchPlan, arrays: Sequence[Array], rows: int, nanoseconds: int
    ) -> int:
        found = []
        for port, column, record, place in plan.records:
            array = arrays[port].reshape(rows, -1)
            found.append((place, np.array(bin_counts(record, array[:, column])["counts"], dtype=np.int64)))
        for place, counts in found:
            buffer.counts[place : place + len(counts)] += counts
        return self._call_in_numpy(buffer, plan.kind, nanoseconds, rows)

    def _row_in_numpy(self, argument: tuple[Buffer, RowPlan]) -> int:
        buffer, plan = argument
        places = buffer.places
        floats, ints = len(plan.floats), len(plan.ints)
        for bins, x in zip(plan.floats, buffer.cells[:floats].view(np.float64).tolist(), strict=True):
            places[bins.place_of(x)] += 1
        cells = buffer.cells[floats : plan.ns + 1].tolist()
        for bins, cell in zip(plan.ints, cells[:ints], strict=True):
            places[bins.place_of(cell)] += 1
        for place in cells[ints:-1]:
            places[place] += 1
        return self._call_in_numpy(buffer, "one", cells[-1], 1)

    def _call_in_numpy(self, buffer: Buffer, kind: str, nanoseconds: int, rows: int) -> int:
        places = buffer.places
        places[LATENCY[kind] + latency_bin(nanoseconds)] += 1
        places[ROWS] += rows
        return int(places[ROWS] >= self._enough)


def _tallies(places: Places, cells: Array, rows: int) -> list[dict[int, int]]:
    if len(cells) != rows:
        raise ProgramError(f"{len(cells)} cells where {rows} rows are due")
    if rows <= _TALLIED:
        return [places.tally(cells.tolist())]
    return [places.tally(cells[at : at + _TALLIED].tolist()) for at in range(0, rows, _TALLIED)]
