"""Token buckets: how often something may be asked, and that the memory for it is bounded."""

import pytest

from edgeml.fleet.limits import Buckets, address_key


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_burst_and_then_the_rate():
    clock = Clock()
    buckets = Buckets(2.0, 3, clock=clock)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]
    wait = buckets.take("a")
    assert wait == pytest.approx(0.5)
    assert buckets.take("b") == 0  # another key has its own
    clock.now += wait
    assert buckets.take("a") == 0
    assert buckets.take("a") > 0
    clock.now += 1000
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0]  # full again, and no fuller
    assert buckets.take("a") > 0


def test_refused_requests_cost_nothing():
    clock = Clock()
    buckets = Buckets(1.0, 1, clock=clock)
    assert buckets.take("a") == 0
    for _ in range(100):
        assert buckets.take("a") == pytest.approx(1.0)
    clock.now += 1.0
    assert buckets.take("a") == 0


def test_wait_takes_nothing():
    clock = Clock()
    buckets = Buckets(1.0, 2, clock=clock)
    assert [buckets.wait("a") for _ in range(5)] == [0] * 5
    buckets.take("a")
    assert buckets.wait("a") == 0
    buckets.take("a")
    assert buckets.wait("a") == pytest.approx(1.0)


def test_what_was_in_order_is_given_back():
    buckets = Buckets(1.0, 1, clock=Clock())
    buckets.take("a")
    buckets.give_back("a")
    assert buckets.take("a") == 0
    buckets.give_back("unknown")


def test_rate_zero_is_no_limit():
    buckets = Buckets(0, 1)
    assert [buckets.take("a") for _ in range(100)] == [0] * 100
    assert buckets.wait("a") == 0
    buckets.give_back("a")


def test_memory_is_bounded_and_the_longest_unasked_is_forgotten():
    clock = Clock()
    buckets = Buckets(1.0, 1, most=10, clock=clock)
    for key in range(1000):
        buckets.take(str(key))
    assert len(buckets) == 10
    assert buckets.take("999") > 0
    assert buckets.take("0") == 0


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("a unix socket", "a unix socket"),
    ],
)
def test_an_address_is_itself_or_its_ipv6_network(address, key):
    assert address_key(address) == key
