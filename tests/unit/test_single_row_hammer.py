"""Many threads and many calls of one row: every answer is right, and memory stays where it was.

``EDGEML_HAMMER_SECONDS`` (2) and ``EDGEML_GROWTH_CALLS`` (200,000) ask for more: the full minute and the full million.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

import edgeml
from edgeml.errors import InputError
from edgeml.runtimes.native_row import One
from tests.native_tools import engine_of, mixed
from tests.recording_tools import MemorySpool, small, use
from tests.row_tools import GOOD, outcome

SECONDS = float(os.environ.get("EDGEML_HAMMER_SECONDS", "2"))
CALLS = int(os.environ.get("EDGEML_GROWTH_CALLS", "200000"))
THREADS = 8


def resident() -> int:
    """Bytes of memory this process has now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def _quick_switches():
    """Threads change places every few instructions, not every 5 ms."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def hammer(one: One, rows, seconds=SECONDS) -> tuple[int, list]:
    """Eight threads, each with rows of its own order, good and bad; how many calls, and which were wrong."""
    expected = [outcome(one, row) for row in rows]
    wrong, counts = [], [0] * THREADS
    until = time.monotonic() + seconds

    def work(seed):
        order = np.random.default_rng(seed).permutation(len(rows)).tolist()
        while True:  # once at least, also when this thread came to run late
            wrong.extend(at for at in order if outcome(one, rows[at]) != expected[at])
            counts[seed] += len(order)
            if time.monotonic() >= until:
                return

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert min(counts) > 0
    return sum(counts), wrong


def rows_of(columns, count):
    """Rows as dicts, lists and tuples; every eighth is one that is refused or needs a batch."""
    rows = []
    for at in range(count):
        row = {name: column[at] for name, column in columns.items()}
        if at % 8 == 7:
            change = ({"float64": "x"}, {"int64": None}, {"more": 1}, {"string": np.str_("a")}, {"bool": np.int8(1)})
            row |= change[at // 8 % len(change)]
        elif at % 3 == 1:
            row = [*row.values(), None]
        elif at % 3 == 2:
            row = (*row.values(), "unread")
        rows.append(row)
    return rows


@pytest.mark.usefixtures("_quick_switches")
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_threads_hammer_one_engine(method):
    program, schema, columns, _ = mixed()
    calls, wrong = hammer(engine_of(program, schema).one(method), rows_of(columns, 200), SECONDS / 2)
    assert wrong == []
    print(f"{calls} calls of {method}")


@pytest.mark.usefixtures("_quick_switches")
@pytest.mark.parametrize("recorded", [False, True])
def test_threads_hammer_one_model(tmp_path, monkeypatch, recorded):
    use(monkeypatch, MemorySpool())
    rng = np.random.default_rng(0)
    rows = [{"x": float(x), "c": c} for x, c in zip(rng.normal(size=200), ["AA", "UA", None, "??"] * 50, strict=True)]
    rows[::16] = [{"x": float("inf"), "c": "AA"}, {"x": 1.0}, {"x": "?", "c": "AA"}, [0.5, "AA", None]] * 3 + [{}]
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        if recorded:
            model.record_to(tmp_path / "spool", window_rows=5000)
        for one in (model.predict_one, model.predict_proba_one):
            calls, wrong = hammer(one, rows, SECONDS / 2)
            assert wrong == []
            print(f"{calls} calls")


def growth(one: One, make, calls: int) -> tuple[int, int, int]:
    """Bytes of tracemalloc, bytes of the process, and blocks of Python, that ``calls`` calls leave behind."""

    def repeat(count):
        for at in range(count):
            row = make(at)
            with contextlib.suppress(InputError):
                one(row)

    repeat(2000)
    tracemalloc.start()
    repeat(2000)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    repeat(calls // 10)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0] - traced
    tracemalloc.stop()
    gc.collect()
    process, blocks = resident(), sys.getallocatedblocks()
    repeat(calls)
    gc.collect()
    return traced, resident() - process, sys.getallocatedblocks() - blocks


def check_growth(what: str, one: One, make, calls: int, most: tuple[int, int, int]) -> None:
    """What is kept is kept each time; what the rest of the process did meanwhile, an allocator or another thread, is
    not: one run in three must stay within ``most`` bytes traced, bytes of the process, and blocks.
    """
    found = []
    for _ in range(3):
        found.append(growth(one, make, calls))
        print("{}: {} bytes traced, {} of the process, {} blocks".format(what, *found[-1]))
        if all(got < limit for got, limit in zip(found[-1], most, strict=True)):
            return
    pytest.fail(f"{what}: {found}")


KINDS_OF_ROWS = {
    # Fresh cells each time: a reference too many to one would keep it.
    "good": lambda at: GOOD | {"float64": at + 0.5, "int64": 10**9 + at},
    "unknown text": lambda at: GOOD | {"string": f"text {at}"},
    "python's way": lambda at: GOOD | {"float64": np.float16(at % 1000)},
    "list": lambda at: [at + 0.5, 0.5, 10**9 + at, True, "a", None],
    "missing key": lambda at: {"float64": at + 0.5},
    "wrong type": lambda at: GOOD | {"float64": f"text {at}"},
    "too large": lambda at: GOOD | {"int64": 10**30 + at},
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the process's memory from Linux's /proc")
@pytest.mark.parametrize("rows", KINDS_OF_ROWS)
def test_memory_does_not_grow(rows):
    program, schema, _, _ = mixed()
    one = engine_of(program, schema).one("predict_proba")
    slow = rows in ("missing key", "wrong type", "too large")
    check_growth(rows, one, KINDS_OF_ROWS[rows], CALLS // 10 if slow else CALLS, (10_000, 2_000_000, 200))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the process's memory from Linux's /proc")
def test_memory_does_not_grow_while_recording(tmp_path, monkeypatch):
    spool = use(monkeypatch, MemorySpool())
    monkeypatch.setattr(spool, "append", lambda items, losses=(): None)  # it would keep every window
    with edgeml.load(small(tmp_path / "m.edgeml", formats=["native"])) as model:
        model.record_to(tmp_path / "spool", window_rows=10_000)
        for one, calls, make in (
            (model.predict_one, CALLS, lambda at: {"x": at + 0.5, "c": "AA"}),
            (model.predict_proba_one, CALLS, lambda at: {"x": at + 0.5, "c": f"text {at}"}),
            (model.predict_one, CALLS // 10, lambda at: {"x": f"text {at}", "c": "AA"}),
        ):
            check_growth("recorded", one, make, calls, (50_000, 4_000_000, 2000))
