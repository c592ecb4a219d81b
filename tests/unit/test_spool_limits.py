"""The spool's bounds: bytes on the disk at every moment, what goes first, and losses that stay few themselves."""

import tempfile
from pathlib import Path

import pytest

from edgeml.errors import SpoolFullError
from edgeml.telemetry.items import Loss
from edgeml.telemetry.spool import EVICTED, Spool
from edgeml.telemetry.spool_losses import SEVERAL_REASONS, SEVERAL_STREAMS
from tests.spool_tools import SMALL, STREAM, accept, begin, drain, item, lost_numbers, numbers, on_disk, stream


@pytest.fixture
def folder():
    """In memory where that can be: these tests write much, and ask nothing of the disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        yield Path(name) / "spool"


@pytest.mark.parametrize(
    ("max_bytes", "size"),
    [(SMALL, 300), (SMALL, 8000), (SMALL, 20_000), (2**20, 2000), (3 * 2**20, 8000), (3 * 2**20, 100_000)],
)
def test_the_limit_holds_after_each_append_and_each_batch(folder, max_bytes, size):
    with Spool(folder, max_bytes=max_bytes) as spool:
        most = number = 0
        lost, sent = [], []
        while number * size < 4 * max_bytes:
            spool.append([item(number + n, size=size) for n in range(3)])
            most = max(most, on_disk(folder))
            number += 3
            if number % 30 == 0:
                batch = begin(spool, max_items=20)
                lost += batch.losses
                sent += numbers(batch.items)
                most = max(most, on_disk(folder))
                accept(spool, batch)
                most = max(most, on_disk(folder))
        assert max_bytes * 0.5 < most <= max_bytes
        figures = spool.stats()
        assert figures.evicted[EVICTED] > 0
        items, losses = drain(spool)
        assert len(items) + len(lost_numbers([*lost, *losses])) + figures.delivered == number
        assert max([*sent, *(sequence for _, sequence in items)]) == number - 1, "the newest stays"


def test_weeks_offline_fill_the_spool_and_no_more(folder):
    """Three weeks at a window a minute, in hours: the newest hours stay, all else is one loss."""
    with Spool(folder, max_bytes=2**20) as spool:
        sizes = []
        for hour in range(21 * 24):
            spool.append([item(hour * 60 + minute, size=600) for minute in range(60)])
            sizes.append(on_disk(folder))
        assert max(sizes) <= 2**20
        assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2])
        figures = spool.stats()
        items, losses = drain(spool)
    total = 21 * 24 * 60
    assert len(losses) == 1
    assert losses[0] == Loss(STREAM, 0, total - len(items) - 1, "window", EVICTED, 7 * (total - len(items)))
    assert {sequence for _, sequence in items} == set(range(total - len(items), total))
    assert figures.evicted == {EVICTED: total - len(items)}
    assert len(items) > 400


def test_sampled_rows_go_before_windows_and_never_push_one_out(folder):
    with Spool(folder, max_bytes=SMALL) as spool:
        spool.append([item(n, size=4000) for n in range(20)])
        for number in range(20, 120):
            spool.append([item(number, size=8000, kind="rows")])
        assert spool.stats().by_kind["window"][0] == 20
        for number in range(120, 320):
            spool.append([item(number, size=4000)])
        assert spool.stats().by_kind.keys() == {"window"}
        spool.append([item(320, kind="rows", size=8000)])  # only windows could go: it is given up itself
        items, losses = drain(spool)
    assert all(one.kind == "window" for one in items.values())
    assert (STREAM, 319) in items
    assert lost_numbers(losses) | items.keys() == {(STREAM, n) for n in range(321)}


def test_what_is_in_a_batch_is_never_evicted(folder):
    with Spool(folder, max_bytes=SMALL) as spool:
        spool.append([item(n, size=4000) for n in range(10)])
        batch = begin(spool)
        for number in range(10, 300):
            spool.append([item(number, size=4000)])
        assert spool.outbox() == batch
        accept(spool, batch)
        items, losses = drain(spool)
    assert not {(STREAM, n) for n in range(10)} & (items.keys() | lost_numbers(losses))


def test_a_spool_full_of_one_batch_takes_windows_again_after_it(folder):
    with Spool(folder, max_bytes=SMALL) as spool:
        spool.append([item(n, size=1000) for n in range(40)])
        batch = begin(spool)
        # As if others, who were given more room, had filled the rest.
        spool._file.sizes = spool._sizes = type(spool._sizes)(SMALL, spool._sizes.log, 45)
        with pytest.raises(SpoolFullError, match="may be evicted"):
            spool.append([item(40, size=20_000)])
        accept(spool, batch)
        spool.append([item(41, size=10_000)])
        assert numbers(begin(spool, max_items=1).items) == [41]


def test_a_lower_limit_shrinks_what_is_there(folder):
    with Spool(folder, max_bytes=4 * 2**20) as spool:
        spool.append([item(n, size=4000) for n in range(900)])
        assert on_disk(folder) > 2 * 2**20
    with Spool(folder, max_bytes=SMALL) as spool:
        spool.append([item(900)])
        assert on_disk(folder) <= SMALL
        items, losses = drain(spool)
    assert (STREAM, 899) in items
    assert lost_numbers(losses) | items.keys() == {(STREAM, n) for n in range(901)}


def test_room_is_given_back_to_the_disk_after_much_was_sent(folder):
    with Spool(folder, max_bytes=4 * 2**20) as spool:
        spool.append([item(n, size=8000) for n in range(300)])
        spool._file.empty_log()
        full = on_disk(folder)
        while (batch := begin(spool, max_items=2)) is not None:
            accept(spool, batch)
        spool._file.empty_log()
        assert on_disk(folder) < full / 3


def test_neighbouring_losses_are_one(folder):
    with Spool(folder) as spool:
        for first in (6, 0, 3, 12, 9):
            spool.append([], [Loss(STREAM, first, first + 2, "window", "why", 1)])
        spool.append([], [Loss(STREAM, 20, 20, "window", "why not", 1), Loss(STREAM, 4, 16, "window", "again", 5)])
        found = begin(spool).losses
    assert sorted((loss.first, loss.last, loss.reason, loss.rows) for loss in found) == [
        (0, 14, "why", 5),
        (15, 16, "again", 5),
        (20, 20, "why not", 1),
    ]


def test_a_loss_on_its_way_does_not_grow(folder):
    with Spool(folder) as spool:
        spool.append([], [Loss(STREAM, 0, 2, "window", "why", 1)])
        batch = begin(spool)
        spool.append([], [Loss(STREAM, 3, 3, "window", "why", 1)])
        assert spool.outbox() == batch
        accept(spool, batch)
        assert begin(spool).losses == (Loss(STREAM, 3, 3, "window", "why", 1),)


def test_losses_of_two_kinds_join_when_there_are_too_many(folder):
    """A stream of windows and sampled rows by turns, all lost: neighbours of two kinds are one range of windows."""
    with Spool(folder, max_bytes=SMALL) as spool:
        limit = spool._sizes.loss_rows
        for number in range(4 * limit):
            kind, reason = ("rows", "no memory") if number % 2 else ("window", "no room")
            spool.append([], [Loss(STREAM, number, number, kind, reason, 10)])
            assert spool.stats().losses <= limit
        losses = drain(spool)[1]
    assert lost_numbers(losses) == {(STREAM, n) for n in range(4 * limit)}
    long = max(losses, key=lambda loss: loss.last - loss.first)
    assert (long.kind, long.reason) == ("window", f"{SEVERAL_REASONS}no room")
    windows = sum(1 for n in range(long.first, long.last + 1) if n % 2 == 0)
    assert long.rows == windows * 10


def test_losses_of_very_many_streams_are_added_up(folder):
    with Spool(folder, max_bytes=SMALL) as spool:
        limit = spool._sizes.loss_rows
        count = 6 * limit
        for number in range(count):
            reason = ("no room", "no memory")[number % 2]
            spool.append([], [Loss(stream(), number, number + 2, "window", reason, 10)])
            assert spool.stats().losses <= limit
            if number == 3 * limit:
                first = begin(spool, max_bytes=10_000)
        accept(spool, first)
        losses = [*first.losses, *drain(spool)[1]]
    assert len(lost_numbers(losses)) == 3 * count
    for reason in ("no room", "no memory"):
        of_it = [loss for loss in losses if loss.reason in (reason, reason + SEVERAL_STREAMS)]
        assert sum(loss.last - loss.first + 1 for loss in of_it) == 3 * count / 2
        assert sum(loss.rows for loss in of_it) == 10 * count / 2


def test_reasons_are_bounded(folder):
    with Spool(folder) as spool:
        spool.append([], [Loss(STREAM, 2 * n, 2 * n, "window", f"reason {n}", 1) for n in range(200)])
        losses = drain(spool)[1]
    assert len({loss.reason for loss in losses}) == 65
    assert sum(loss.reason == "other reasons" for loss in losses) == 200 - 64


def test_beginning_a_batch_does_not_look_at_all_windows(folder):
    with Spool(folder) as spool:

        def fill(start):
            def work(rows):
                for number in range(start, start + 10_000):
                    rows.insert(item(number, size=2), b"packed")

            return work

        def steps_of(call):
            """Thousands of instructions of SQLite's machine."""
            count = [0]

            def tick():
                count[0] += 1

            spool._file._connection.set_progress_handler(tick, 1000)
            call()
            spool._file._connection.set_progress_handler(None, 0)
            return count[0]

        def unreadable_batch():
            spool._file.run(lambda rows: [list(zip(range(50), rows.newest(1, put_off=False), strict=False))])

        spool._file.run(fill(0))
        few = steps_of(unreadable_batch)
        for block in range(1, 10):
            spool._file.run(fill(block * 10_000))
        spool.append([item(100_000 + n) for n in range(500)])
        assert steps_of(unreadable_batch) <= few + 2
        assert steps_of(lambda: begin(spool, max_items=500)) < 100
        assert spool.stats().items == 100_500
