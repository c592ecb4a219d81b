"""The agent's waits: full jitter, Retry-After in both of its forms, and the bandwidth cap."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.telemetry.backoff import MAX_RETRY_AFTER_SECONDS, Backoff, Bandwidth, retry_after

NOW = "Wed, 21 Oct 2015 07:28:00 GMT"
IN_TWO_MINUTES = "Wed, 21 Oct 2015 07:30:00 GMT"


def test_bounds_double_up_to_the_cap_and_begin_again():
    highest = Backoff(1.0, 60.0, uniform=lambda low, high: high)
    assert [highest.wait() for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert highest.failures == 8
    highest.reset()
    assert highest.wait() == 1


def test_jitter_is_full():
    """Waits are spread from 0 to the bound, so that a fleet comes back spread out."""
    drawn = random.Random(1)
    waits = []
    for _ in range(2000):
        backoff = Backoff(1.0, 8.0, uniform=drawn.uniform)
        waits.append([backoff.wait() for _ in range(4)][3])
    assert min(waits) < 0.1
    assert max(waits) > 7.9
    assert 3.7 < sum(waits) / len(waits) < 4.3


def test_failures_without_end_do_not_overflow():
    backoff = Backoff(1.0, 300.0, uniform=lambda low, high: high)
    for _ in range(5000):
        assert backoff.wait() <= 300


def test_what_a_server_asks_for_is_the_least():
    drawn = random.Random(2)
    backoff = Backoff(1.0, 8.0, uniform=drawn.uniform)
    waits = [backoff.wait(100.0) for _ in range(50)]
    assert min(waits) >= 100
    assert max(waits) <= 108
    assert len(set(waits)) == 50


@pytest.mark.parametrize(
    ("value", "date", "wall", "seconds"),
    [
        (None, NOW, 0.0, None),
        ("120", None, 0.0, 120.0),
        (" 0 ", None, 0.0, 0.0),
        ("999999999999999999999999", None, 0.0, MAX_RETRY_AFTER_SECONDS),
        # The device believes to live in 1970: the server's own Date is what counts.
        (IN_TWO_MINUTES, NOW, 0.0, 120.0),
        (IN_TWO_MINUTES, None, 1445412480.0 + 60, 60.0),
        (NOW, IN_TWO_MINUTES, 0.0, 0.0),
        ("Wed, 21 Oct 2099 07:30:00 GMT", NOW, 0.0, MAX_RETRY_AFTER_SECONDS),
        ("Wed, 21 Oct 2015 07:30:00", "Wed, 21 Oct 2015 07:28:00 +0000", 0.0, 120.0),
        ("soon", NOW, 0.0, None),
        ("-5", NOW, 0.0, None),
        ("1.5", NOW, 0.0, None),
        ("١٢", NOW, 0.0, None),
        ("Wed, 99 Oct 2015 07:30:00 GMT", NOW, 0.0, None),
        ("", NOW, 0.0, None),
    ],
)
def test_retry_after(value, date, wall, seconds):
    assert retry_after(value, date, wall) == seconds


@given(st.text(max_size=40), st.none() | st.text(max_size=40), st.floats())
def test_any_retry_after_is_within_bounds(value, date, wall):
    seconds = retry_after(value, date, wall)
    assert seconds is None or 0 <= seconds <= MAX_RETRY_AFTER_SECONDS


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@given(st.lists(st.integers(0, 50_000), min_size=1, max_size=60), st.floats(100, 20_000))
def test_no_more_than_the_cap_over_time(sizes, rate):
    time = Time()
    bandwidth = Bandwidth(rate, time)
    for size in sizes:
        time.now += bandwidth.wait()
        bandwidth.spend(size)
    time.now += bandwidth.wait()
    # A second's worth may go at once, in front of it all.
    assert sum(sizes) <= rate * (time.now + 1) * 1.000001 + 1


def test_the_bucket_holds_no_more_than_a_second():
    time = Time()
    bandwidth = Bandwidth(1000, time)
    time.now = 3600.0
    bandwidth.spend(3000)
    assert bandwidth.wait() == pytest.approx(2.0)
    time.now += 2.0
    assert bandwidth.wait() == 0.0


def test_without_a_cap_nothing_waits():
    bandwidth = Bandwidth(None, Time())
    bandwidth.spend(10**12)
    assert bandwidth.wait() == 0.0
    assert bandwidth.batch_bytes(777) == 777


def test_batches_are_small_on_a_narrow_line():
    assert Bandwidth(1000, Time()).batch_bytes(500_000) == 40_000
    assert Bandwidth(1, Time()).batch_bytes(500_000) == 16 * 1024
    assert Bandwidth(1e9, Time()).batch_bytes(500_000) == 500_000
