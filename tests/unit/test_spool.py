"""The spool's promise in ordinary times: what was appended goes out once, in a chain, and is forgotten when counted."""

from hashlib import sha256

import pytest

from edgeml.errors import SpoolError, SpoolFullError
from edgeml.jsonutil import dumps
from edgeml.telemetry import wire
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.spool import Spool
from tests.spool_tools import DEVICE, STREAM, accept, begin, drain, item, numbers, stream


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool") as opened:
        yield opened


def test_an_empty_spool_has_nothing_to_send(spool):
    assert begin(spool) is None
    assert spool.outbox() is None
    assert spool.stats().items == 0


def test_what_was_appended_comes_back_whole_after_the_process_ended(tmp_path):
    items = [item(n, size=10_000 if n == 3 else 50) for n in range(5)]
    with Spool(tmp_path / "spool") as first:
        first.append(items)
    with Spool(tmp_path / "spool") as second:
        found, losses = drain(second)
    assert sorted(found.values(), key=lambda one: one.sequence) == items
    assert losses == []


def test_newest_go_first_or_oldest_when_asked_and_windows_before_sampled_rows(spool):
    spool.append([item(0), item(1, kind="rows"), item(2), item(3, kind="rows")])
    batch = begin(spool)
    assert numbers(batch.items) == [2, 0, 3, 1]
    spool.unpin(batch)
    assert numbers(begin(spool, newest_first=False).items) == [0, 2, 1, 3]


def test_a_batch_is_what_the_wire_says_it_is(spool):
    spool.append([item(0), item(1)], [Loss(STREAM, 2, 4, "window", 'a "reason" \\ é', 12)])
    batch = begin(spool)
    header, body = wire.read_header(batch.header), wire.read_body(batch.body)
    assert header == wire.Header(DEVICE, batch.chain, 0, wire.NO_PREVIOUS, sha256(batch.body).hexdigest())
    assert body.items == batch.items
    assert body.losses == batch.losses == (Loss(STREAM, 2, 4, "window", 'a "reason" \\ é', 12),)


def test_batches_form_a_chain(spool):
    spool.append([item(n) for n in range(3)])
    first = begin(spool, max_items=1)
    accept(spool, first)
    second = begin(spool, max_items=1)
    header = wire.read_header(second.header)
    assert (header.chain, header.number) == (first.chain, 1)
    assert header.previous == sha256(first.header).hexdigest()
    spool.restart_chain("because\nof a test" + "x" * 300)
    third = wire.read_header(begin(spool, max_items=1).header)
    assert (third.number, third.previous) == (0, wire.NO_PREVIOUS)
    assert third.chain != header.chain
    assert third.restarted == ("because of a test" + "x" * 300)[:200]


def test_the_batch_on_its_way_is_the_same_bytes_until_settled_also_after_a_restart(tmp_path):
    with Spool(tmp_path / "spool") as first:
        first.append([item(n) for n in range(4)], [Loss(STREAM, 9, 9, "window", "why", 1)])
        first.put_profile("a" * 64, dumps({"bins": [1, 2]}))
        batch = begin(first, profiles=["a" * 64])
        first.append([item(5)], [Loss(STREAM, 10, 10, "window", "why", 1)])
        assert begin(first, max_items=1) == batch
    with Spool(tmp_path / "spool") as second:
        assert second.outbox() == batch
        assert begin(second) == batch
        accept(second, batch)
        assert second.outbox() is None
        items, losses = drain(second)
    assert list(items) == [(STREAM, 5)]
    assert losses == [Loss(STREAM, 10, 10, "window", "why", 1)]


def test_unpinned_items_go_out_in_another_batch_with_the_same_number(spool):
    spool.append([item(n) for n in range(4)])
    whole = begin(spool)
    spool.unpin(whole)
    half = begin(spool, max_items=2)
    assert (half.chain, half.number, len(half.items)) == (whole.chain, 0, 2)
    spool.unpin(whole)  # an answer that comes late: not the batch that is on its way
    assert spool.outbox() == half


def test_each_result_has_its_consequence(spool):
    spool.append([item(n) for n in range(5)])
    batch = begin(spool, newest_first=False)
    results = [
        ("accepted", ""),
        ("duplicate", ""),
        ("refused", "profile mismatch"),
        ("deferred", "profile"),
        ("accepted", ""),
    ]
    spool.settle(batch, results)
    spool.settle(batch, results)  # settled before: left alone
    assert numbers(begin(spool).items) == [3]
    figures = spool.stats()
    assert (figures.items, figures.delivered, figures.refused) == (1, 4 - 1, {"profile mismatch": 1})
    assert figures.losses == 0  # the monitor has counted what it refused


def test_what_the_monitor_puts_off_lets_others_pass(spool):
    spool.append([item(n) for n in range(6)])
    accept(spool, begin(spool, max_items=2), "deferred", "profile unknown")
    assert numbers(begin(spool, max_items=2).items) == [3, 2]
    accept(spool, spool.outbox())
    assert numbers(begin(spool, max_items=4).items) == [1, 0, 5, 4]


def test_what_the_agent_suspects_goes_last(spool):
    spool.append([item(n) for n in range(3)])
    spool.put_off(STREAM, 2)
    assert numbers(begin(spool).items) == [1, 0, 2]


def test_only_the_batch_that_was_begun_can_be_settled_with_as_many_results(spool):
    spool.append([item(0), item(1)])
    old = begin(spool, max_items=1)
    spool.unpin(old)
    batch = begin(spool)
    with pytest.raises(SpoolError, match="not the one that was begun"):
        accept(spool, old)
    for results in ([("accepted", "")], [("accepted", ""), ("eaten", "")]):
        with pytest.raises(SpoolError, match="results"):
            spool.settle(batch, results)
    assert spool.outbox() == batch


def test_what_was_counted_is_taken_away_even_when_the_chain_was_begun_anew_meanwhile(spool):
    spool.append([item(0), item(1)])
    batch = begin(spool, max_items=1)
    spool.restart_chain("another process said so")
    accept(spool, batch)
    after = begin(spool)
    assert (numbers(after.items), after.number) == ([0], 0)


def test_a_poison_item_becomes_a_loss_with_its_reason(spool):
    spool.append([item(0), item(1)])
    batch = begin(spool)
    spool.refuse(STREAM, 1, "the monitor cannot read it\x00")
    assert spool.outbox() is None, "a batch with it cannot be sent any more"
    spool.refuse(STREAM, 77, "there is none")
    after = begin(spool)
    assert (numbers(after.items), after.number) == ([0], batch.number)
    assert after.losses == (Loss(STREAM, 1, 1, "window", "the monitor cannot read it", 7),)
    assert spool.stats().refused == {"the monitor cannot read it": 1}


def test_appending_again_after_an_error_keeps_nothing_twice(spool):
    lost = Loss(STREAM, 5, 8, "window", "memory", 40)
    for _ in range(3):
        spool.append([item(0), item(1)], [lost])
    items, losses = drain(spool)
    assert len(items) == 2
    assert losses == [lost]


def test_a_number_reported_as_lost_after_all_is_not_sent_too(spool):
    """A commit that failed for the recorder may be found on the disk later; the recorder has given the item up then."""
    spool.append([item(n) for n in range(4)])
    batch = begin(spool, max_items=1)
    spool.append([], [Loss(STREAM, 0, 1, "window", "given up", 14)])
    assert numbers(batch.items) == [3]
    accept(spool, batch)
    items, losses = drain(spool)
    assert list(items) == [(STREAM, 2)]
    assert [(loss.first, loss.last) for loss in losses] == [(0, 1)]


@pytest.mark.parametrize("max_bytes", [700, 2000, 20_000])
def test_a_batch_keeps_its_limits(spool, max_bytes):
    spool.append(
        [item(n, size=300, stream=stream()) for n in range(40)],
        [Loss(stream(), n, n + 10**9, "window", f"reason {n} " + "\U0001f600" * 40, n) for n in range(40)],
    )
    seen = 0
    while (batch := begin(spool, max_bytes=max_bytes, max_items=7)) is not None:
        assert len(batch.items) <= 7
        assert len(batch.body) <= max_bytes or len(batch.items) + len(batch.losses) == 1
        assert batch.items or batch.losses
        seen += len(batch.items)
        accept(spool, batch)
    assert seen == 40


def test_an_item_larger_than_the_limit_goes_alone(spool):
    spool.append([item(0, size=50_000), item(1)])
    assert numbers(begin(spool, max_bytes=5000).items) == [1]
    accept(spool, spool.outbox())
    assert numbers(begin(spool, max_bytes=5000).items) == [0]


def test_an_item_that_no_batch_can_hold_is_refused_at_once_or_lost_with_a_reason(spool):
    with pytest.raises(SpoolError, match="cannot be sent"):
        spool.append([Item(STREAM, 0, "window", b"x" * wire.MAX_BODY_BYTES, 1)])
    spool.append([Item(STREAM, 0, "window", b"x" * (wire.MAX_BODY_BYTES - 10), 3), item(1)])
    batch = begin(spool)
    assert numbers(batch.items) == [1]
    accept(spool, batch)
    assert begin(spool).losses == (Loss(STREAM, 0, 0, "window", "too large for a batch", 3),)


def test_profiles_go_along_when_asked_for_even_alone(spool):
    digest, large = "a" * 64, "b" * 64
    spool.put_profile(digest, dumps({"bins": 1}))
    spool.put_profile(digest, dumps({"bins": 1}))
    spool.put_profile(large, dumps({"bins": "x" * 5000}))
    assert begin(spool) is None
    batch = begin(spool, profiles=["c" * 64, digest])
    assert batch.profiles == (digest,)
    assert wire.read_body(batch.body).profiles == {digest: {"bins": 1}}
    accept(spool, batch)
    assert begin(spool, profiles=[large], max_bytes=1000).profiles == (large,)
    assert spool.stats().profiles == 2
    assert (spool.profile(digest), spool.profile("c" * 64)) == (dumps({"bins": 1}), None)


def test_at_most_64_profiles_stay_the_newest(spool):
    digests = [sha256(bytes([n])).hexdigest() for n in range(70)]
    for digest in digests:
        spool.put_profile(digest, dumps(digest))
    assert spool.stats().profiles == 64
    assert begin(spool, profiles=digests[:6]) is None
    assert begin(spool, profiles=digests[6:]).profiles == tuple(sorted(digests[6:10]))


def test_a_device_enrolled_anew_gets_its_items_in_a_new_chain(spool):
    spool.append([item(0)])
    old = begin(spool)
    new = spool.begin("e" * 32, max_bytes=10**6, max_items=10)
    header = wire.read_header(new.header)
    assert (header.device, header.number, header.restarted) == ("e" * 32, 0, "the device was enrolled anew")
    assert new.chain != old.chain
    assert new.items == old.items


BAD = [
    Item("x" * 32, 0, "window", b"1", 1),
    Item(STREAM[1:], 0, "window", b"1", 1),
    Item(STREAM, -1, "window", b"1", 1),
    Item(STREAM, 2**53, "window", b"1", 1),
    Item(STREAM, 0, "secrets", b"1", 1),
    Item(STREAM, 0, "window", b"", 1),
    Item(STREAM, 0, "window", b"1", -1),
    Item(STREAM, True, "window", b"1", 1),
]
BAD_LOSSES = [
    Loss(STREAM, 5, 4, "window", "why", 1),
    Loss(STREAM, 0, 0, "window", "", 1),
    Loss(STREAM, 0, 0, "window", "a\nb", 1),
    Loss(STREAM, 0, 0, "window", "x" * 201, 1),
]


@pytest.mark.parametrize("bad", BAD + BAD_LOSSES, ids=repr)
def test_what_the_monitor_could_not_take_is_not_kept(spool, bad):
    with pytest.raises(SpoolError):
        spool.append([item(0), bad]) if isinstance(bad, Item) else spool.append([item(0)], [bad])
    assert spool.stats().items == 0


def test_an_item_too_large_for_the_spool_says_so_and_others_still_go(tmp_path):
    with Spool(tmp_path, max_bytes=2**19) as small:
        with pytest.raises(SpoolFullError, match="does not fit"):
            small.append([item(0, size=400_000)])
        small.append([item(0)])
        assert small.stats().items == 1
    with pytest.raises(SpoolError, match="too small"):
        Spool(tmp_path, max_bytes=1000)


def test_stats_say_what_is_kept_and_since_when(spool):
    spool.append([item(0, rows=3), item(1, rows=4, kind="rows")])
    figures = spool.stats()
    assert (figures.items, figures.rows) == (2, 7)
    assert {kind: one[:2] for kind, one in figures.by_kind.items()} == {"window": (1, 3), "rows": (1, 4)}
    assert figures.payload_bytes == sum(len(one.payload) for one in begin(spool).items)
    assert figures.oldest <= figures.newest
    assert (spool.stats().pinned, figures.number, figures.damaged_files) == (2, 0, ())


def test_a_closed_spool_says_so(tmp_path):
    spool = Spool(tmp_path)
    spool.close()
    spool.close()
    with pytest.raises(SpoolError, match="closed"):
        spool.append([item(0)])
