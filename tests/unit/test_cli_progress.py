"""The meter of a long run: rates, time left, and what a terminal shows."""

import io
import sys

import pytest

from edgeml.cli import progress
from edgeml.cli.progress import Meter, meter


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def run(meter, clock, batches, rows=1000, seconds=0.1, total=100):
    for i in range(batches):
        clock.now += seconds
        meter.advance(rows, (i + 1) / total)


def test_rates_and_time_left():
    clock = Clock()
    shown = Meter(clock=clock)
    assert str(shown) == "0 rows"
    assert shown.seconds_left is None
    run(shown, clock, 50)
    assert shown.rows == 50_000
    assert shown.rows_per_second == pytest.approx(10_000)
    assert shown.seconds_left == pytest.approx(5.0)
    assert str(shown) == "50.0k rows, 10.0k rows/s, 5 s left"


def test_the_rate_follows_the_last_seconds():
    clock = Clock()
    shown = Meter(clock=clock)
    run(shown, clock, 100, seconds=0.1, total=1000)
    for _ in range(20):
        clock.now += 1
        shown.advance(1000, None if shown.done is None else shown.done + 0.001)
    assert str(shown).split(", ")[1] in ("1.1k rows/s", "1.2k rows/s")
    assert shown.rows_per_second == pytest.approx(120_000 / 30)


def test_without_a_total_there_is_no_time_left():
    clock = Clock()
    shown = Meter(clock=clock)
    clock.now += 2
    shown.advance(3000, None)
    assert str(shown) == "3.0k rows, 1.5k rows/s"


def test_numbers_for_people():
    assert [progress.count(n) for n in (0, 999, 1234, 57_000_003, 2.5e9)] == ["0", "999", "1.2k", "57.0M", "2.5G"]
    assert [progress.clock_time(s) for s in (0.4, 59.4, 59.6, 187, 3723)] == ["0 s", "59 s", "1:00", "3:07", "1:02:03"]


@pytest.mark.parametrize("done", [0.5, None])
def test_a_bar_on_terminals_only(monkeypatch, done):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for stream, quiet, shown in ((Terminal(), False, True), (Terminal(), True, False), (io.StringIO(), False, False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with meter(quiet) as rows:
            rows.advance(1500, done)
            assert rows.rows == 1500
        assert ("1.5k rows" in stream.getvalue()) is shown
        assert ("50%" in stream.getvalue()) is (shown and done is not None)
