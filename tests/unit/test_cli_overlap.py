"""Reading ahead and writing behind: order, bounds, errors, and threads that end."""

import threading
import time

import pytest

from edgeml.cli import overlap
from edgeml.cli.overlap import Ahead, Behind
from tests.waiting import PATIENCE


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Threads that end are waited for, however slow the machine is."""
    monkeypatch.setattr(overlap, "_PATIENCE_SECONDS", PATIENCE)


def alive():
    return [t for t in threading.enumerate() if t.name in ("edgeml-ahead", "edgeml-behind")]


def test_items_come_in_order_and_never_too_many():
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    with Ahead(items(), 3) as ahead:
        for at, item in enumerate(ahead):
            assert item == at
            if at % 10 == 0:
                time.sleep(0.01)
            assert len(made) <= at + 5, "three wait, one is being made, one is here"
    assert made == list(range(50))
    assert not alive()


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    got = []
    with pytest.raises(ValueError, match="third"), Ahead(items(), 5) as ahead:
        got.extend(ahead)
    assert got == [1, 2]
    assert not alive()


def test_who_stops_early_closes_the_source():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    def stop():
        with Ahead(items(), 2) as ahead:
            next(ahead)
            raise KeyError

    with pytest.raises(KeyError):
        stop()
    assert closed.is_set()
    assert not alive()


def test_a_source_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(overlap, "_PATIENCE_SECONDS", 0.05)
    go = threading.Event()

    def items():
        yield 0
        go.wait()

    with Ahead(items(), 2) as ahead:
        assert next(ahead) == 0
    (hanging,) = alive()
    go.set()
    hanging.join(PATIENCE)
    assert not alive()


def test_all_is_used_before_the_end():
    used = []

    def use(item):
        time.sleep(0.001)
        used.append(item)

    with Behind(use, 2) as behind:
        for i in range(30):
            behind.put(i)
            assert i - len(used) <= 3
    assert used == list(range(30))
    assert not alive()


def test_an_error_of_use_stops_who_puts():
    def use(item):
        if item == 2:
            raise OSError("disk")

    def put():
        with Behind(use, 2) as behind:
            for i in range(1000):
                behind.put(i)
                time.sleep(0.001)
            pytest.fail("nobody stopped it")

    with pytest.raises(OSError, match="disk"):
        put()
    with pytest.raises(OSError, match="disk"), Behind(use, 5) as behind:
        behind.put(2)
    assert not alive()


@pytest.mark.parametrize(("error", "expected"), [(KeyError, [[0, 1, 2, 3]]), (KeyboardInterrupt, [[], [0]])])
def test_what_waits_when_the_loop_fails(error, expected, monkeypatch):
    """What was made before an error is used; who interrupts waits for no more than what was begun."""
    used = []
    gate = threading.Event()

    def use(item):
        gate.wait(PATIENCE)
        used.append(item)

    def put():
        with Behind(use, 5) as behind:
            for i in range(4):
                behind.put(i)
            # Once the loop has failed, not before.
            close = behind._queue.close
            monkeypatch.setattr(behind._queue, "close", lambda *given, **more: (close(*given, **more), gate.set()))
            raise error

    with pytest.raises(error):
        put()
    assert used in expected
    assert not alive()
