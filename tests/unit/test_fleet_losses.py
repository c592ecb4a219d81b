"""What devices lost: told once however often it is reported, never both lost and received; gaps are what is left."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeml.fleet import queries, tables
from edgeml.fleet.losses import StreamLosses
from edgeml.fleet.ranges import count, of_numbers, subtract, union
from edgeml.telemetry.items import Item, Loss
from tests.fleet_tools import fleet, outcomes, window

ranges = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)).map(lambda r: (r[0], r[0] + r[1])), max_size=8)


def numbers(of):
    return {n for first, last in of for n in range(first, last + 1)}


@given(ranges, ranges)
def test_ranges_are_sets(one, two):
    a, b = union(one), union(two)
    assert numbers(a) == numbers(one)
    assert count(a) == len(numbers(one))
    assert numbers(subtract(a, b)) == numbers(one) - numbers(two)
    assert all(x[1] + 1 < y[0] for x, y in pairwise(a))
    assert of_numbers(numbers(one)) == a


steps = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 8), st.booleans()), max_size=12)


@given(steps)
def test_a_number_is_lost_once_and_never_both_lost_and_received(steps):
    known, received, reported = StreamLosses(), set(), set()
    for first, length, is_loss in steps:
        if is_loss:
            reported |= set(range(first, first + length + 1))
            loss = Loss("a" * 32, first, first + length, "window", "disk full", 10 * (length + 1))
            known.report(loss, of_numbers(n for n in received if first <= n <= first + length), 1.0)
        elif first not in received:
            received.add(first)
            known.receive(first, 10)
    rows = known.inserted
    assert sorted(n for lost in rows for n in range(lost.first, lost.last + 1)) == sorted(reported - received)
    # Each number stood for 10 rows.
    assert sum(lost.rows for lost in rows) == 10 * len(reported - received)


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


def lost(sender, first, last, rows=10, reason="disk full"):
    return Loss(sender.stream, first, last, "window", reason, rows)


def found(db):
    return sorted((r["first"], r["last"], r["rows"]) for r in db.rows(tables.losses))


def test_a_loss_reported_again_or_joined_with_newer_ones_counts_once(db):
    sender = db.sender()
    db.send(sender, losses=[lost(sender, 3, 5, 30)])
    db.send(sender, losses=[lost(sender, 3, 5, 30)])
    assert found(db) == [(3, 5, 30)]
    db.send(sender, losses=[lost(sender, 3, 8, 60)])
    assert found(db) == [(3, 8, 60)]
    db.send(sender, losses=[lost(sender, 4, 5, 20), lost(sender, 7, 9, 30)])
    assert found(db) == [(3, 8, 60), (9, 9, 10)]


def test_a_window_wins_over_a_loss_of_its_number_in_either_order(db):
    sender = db.sender()
    batch = sender.items(*[window(rows=10) for _ in range(10)])
    db.send(sender, batch[:4], losses=[lost(sender, 2, 6, 50)])
    assert found(db) == [(4, 6, 30)]
    assert outcomes(db.send(sender, [batch[5]])) == ["accepted"]
    assert found(db) == [(4, 4, 10), (6, 6, 10)]
    db.send(sender, losses=[lost(sender, 5, 5, 10)])  # it came already
    assert found(db) == [(4, 4, 10), (6, 6, 10)]
    with db.store.read() as connection:
        assert queries.loss_totals(connection, db.project) == [
            {"kind": "window", "reason": "disk full", "items": 2, "rows": 20}
        ]


def test_gaps_are_neither_received_nor_lost_nor_refused(db):
    sender = db.sender()
    made = [Item(sender.stream, n, i.kind, i.payload, i.rows) for n, i in enumerate(sender.items(*[window()] * 12))]
    sealed = Item(sender.stream, 8, "rows", b'{"rows_version":3}', 0)  # refused
    db.send(sender, [made[2], made[3], made[11], sealed], losses=[lost(sender, 5, 6)])
    with db.store.read() as connection:
        page = queries.streams(connection, db.project, sender.device.id)
    assert page.next is None
    (stream,) = page.items
    assert stream["gaps"] == [[0, 1], [4, 4], [7, 7], [9, 10]]
    assert {name: stream[name] for name in ("first", "last", "received", "lost", "refused", "missing")} == {
        "first": 2, "last": 11, "received": 3, "lost": 2, "refused": 1, "missing": 6
    }  # fmt: skip
    # Newest first, gaps filled later.
    db.send(sender, [made[n] for n in (0, 1, 4, 7, 9, 10)])
    with db.store.read() as connection:
        assert queries.streams(connection, db.project, sender.device.id).items[0]["gaps"] == []


def test_a_stream_of_huge_numbers_costs_no_more(db):
    sender = db.sender()
    db.send(sender, losses=[lost(sender, 10, 2**53 - 1, 5)])
    far = Item(sender.stream, 2**52, "window", sender.items(window())[0].payload, 10)
    assert outcomes(db.send(sender, [far])) == ["accepted"]
    assert found(db) == [(10, 2**52 - 1, 0), (2**52 + 1, 2**53 - 1, 0)]
    with db.store.read() as connection:
        assert queries.streams(connection, db.project, sender.device.id).items[0]["gaps"] == [[0, 9]]
