"""The agent against a monitor in memory, on a simulated clock and a real spool: what is sent, in what order, how often.

Each fault of issue 4 that a network or a monitor can have is a test here or in test_agent_refusals.py.
"""

import json

import pytest

from edgeml.telemetry import wire
from edgeml.telemetry.items import Loss
from tests.agent_tools import STREAM, item
from tests.fake_monitor import Answer, always, error, taken_but


def test_everything_is_sent_once_and_the_newest_first(bench):
    b = bench(items=30, batch_items=10)
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(30))
    order = [name[2] for name in b.monitor.counted]
    assert [sorted(order[at : at + 10]) for at in (0, 10, 20)] == [
        list(range(20, 30)), list(range(10, 20)), list(range(10)),
    ]  # fmt: skip
    assert b.kept() == 0
    assert (b.agent.status.batches, b.agent.status.items, b.agent.status.rows) == (3, 30, 300)
    assert b.agent.status.state == "idle"


def test_gaps_are_filled_while_new_ones_keep_coming(bench):
    b = bench(items=20, batch_items=5)
    for n in range(20, 26):
        b.fill([n])
        b.step()
    assert 25 in b.monitor.sequences(STREAM)
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(26))


def test_losses_are_reported_with_their_reason(bench):
    b = bench()
    b.spool.append([item(3)], [Loss(STREAM, 0, 2, "window", "the disk was full", 30)])
    b.run()
    assert b.monitor.sequences(STREAM) == [3]
    assert {loss[2:] for loss in b.monitor.lost} == {(0, 2, "window", "the disk was full")}
    b.spool.append([], [Loss(STREAM, 4, 4, "window", "only a loss", 1)])
    b.run()
    assert len(b.monitor.lost) == 2


def test_batches_form_a_chain_over_restarts(bench):
    b = bench(batch_items=1)
    for n in range(4):
        b.fill([n])
        b.agent = b.new_agent()
        b.run()
    headers = [wire.read_header(wire.decode(h["edgeml-batch"], "")) for _, h, _ in b.monitor.batches()]
    assert [h.number for h in headers] == [0, 1, 2, 3]
    assert len({h.chain for h in headers}) == 1
    assert headers[0].previous == wire.NO_PREVIOUS
    assert len({h.previous for h in headers}) == 4
    assert b.monitor.events == []


@pytest.mark.parametrize("spoilt", [{"drop": True}, {"cut": 12}, {"status": 502, "body": b"<html>"}, {"body": b"OK"}])
def test_an_answer_that_is_lost_counts_nothing_twice(bench, spoilt):
    """The batch was taken and nobody said so: the same bytes go again, and the monitor knows them."""
    b = bench(items=5)
    b.monitor.faults = [taken_but(**spoilt)] * 3
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(5))
    sent = [(h["edgeml-batch"], body) for _, h, body in b.monitor.batches()]
    assert len(sent) == 4
    assert len(set(sent)) == 1
    assert b.kept() == 0
    assert b.monitor.events == []


def test_a_restart_after_a_lost_answer_sends_the_same_bytes(bench):
    b = bench(items=5)
    b.monitor.faults = [taken_but(drop=True)]
    b.step()
    b.fill([5])
    b.agent = b.new_agent()
    b.run()
    (_, first, one), (_, second, other) = b.monitor.batches()[:2]
    assert (first["edgeml-batch"], one) == (second["edgeml-batch"], other)
    assert b.monitor.sequences(STREAM) == list(range(6))
    assert b.monitor.events == []


def test_delivered_twice_and_out_of_order(bench):
    """A network that repeats and delays: old batches come again after newer ones, and count nothing."""
    b = bench(items=6, batch_items=2)
    b.run()
    old = list(b.monitor.batches())
    before = dict(b.monitor.counted)
    for path, headers, body in [old[2], old[0], old[1], old[0]]:
        answer = b.monitor.handle(path, headers, body)
        assert answer.status in (200, 409)
    assert b.monitor.counted == before
    b.fill([6])
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(7))


def test_the_monitor_fails_for_an_hour(bench):
    b = bench(items=8)
    b.monitor.constant = always(Answer(500, {"error": "internal", "cause": "down", "remedy": ""}))
    b.run(3600.0)
    attempts = len(b.monitor.batches())
    # Bounds of 1, 2, 4 … 300 s, drawn from 0 on: half of them each, some 9 attempts on the way up and 20 after it.
    assert 10 <= attempts <= 60
    assert max(b.waits) <= 300
    assert b.kept() == 8
    assert b.agent.status.failures == attempts
    assert "down" in b.agent.status.error
    assert len({body for _, _, body in b.monitor.batches()}) == 1
    b.monitor.constant = None
    assert b.run() <= 301
    assert b.monitor.sequences(STREAM) == list(range(8))
    assert b.agent.status.error is None


def test_offline_for_weeks(bench):
    """Nothing grows but the spool, which has its own limit; attempts stay rare; then all of it arrives."""
    b = bench(items=1)
    b.transport.offline = True
    for week in range(2):
        b.fill([week + 1])
        b.run(7 * 86_400.0)
    assert b.transport.attempts < 2 * 7 * 86_400 / 100
    assert b.agent.status.error == "no network"
    b.transport.offline = False
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(3))


def test_what_was_never_sent_may_still_change(bench):
    """A batch that never reached the monitor is kept as it is, and nothing is known of it there."""
    b = bench(items=1)
    b.transport.offline = True
    b.step()
    b.transport.offline = False
    b.run()
    assert b.monitor.events == []


def test_the_clock_jumps_back_a_year(bench):
    b = bench(items=3)
    b.monitor.faults = [always(error(503, "busy"))]
    b.step()
    b.clock.wall_offset -= 365 * 86_400
    waited = b.run()
    assert waited < 10
    assert b.monitor.sequences(STREAM) == [0, 1, 2]
    walls = [wire.read_sent(h["edgeml-sent"]).wall for _, h, _ in b.monitor.batches()]
    assert walls[1] < walls[0] - 300 * 86_400
    monotonic = [wire.read_sent(h["edgeml-sent"]).monotonic for _, h, _ in b.monitor.batches()]
    assert monotonic == sorted(monotonic)


def test_retry_after_is_waited_for(bench):
    b = bench(items=1)
    b.monitor.faults = [always(error(429, "too_many", headers={"Retry-After": "120"}))]
    assert 120 <= b.step() <= 121
    b.clock.pass_(60)
    assert 59 <= b.step() <= 61  # asked too early, it does nothing
    assert len(b.monitor.batches()) == 1
    b.run()
    assert b.monitor.sequences(STREAM) == [0]


def test_the_monitor_asks_for_a_pause(bench):
    b = bench(items=3, batch_items=1)
    b.monitor.pause = 600.0
    assert b.step() == 600.0
    assert b.agent.status.state == "paused"
    assert b.run() > 1200
    assert b.monitor.sequences(STREAM) == [0, 1, 2]


def test_hurry_forgets_the_waits(bench):
    b = bench(items=1)
    b.transport.offline = True
    for _ in range(20):
        b.clock.pass_(b.step())
    b.transport.offline = False
    b.agent.hurry()
    assert b.step() == 0
    assert b.kept() == 0


def test_bandwidth_is_held_over_time(bench):
    b = bench(items=400, bandwidth_bytes_per_second=1000.0)
    b.spool.append([item(1000 + n, {"noise": f"{n * 7919**5:x}" * 30}) for n in range(100)])
    seconds = b.run()
    sent = b.agent.status.bytes
    assert b.kept() == 0
    assert len(b.monitor.batches()) > 1
    assert sent <= 1000 * (seconds + 1) + 40_000
    assert seconds > 5


def test_a_profile_is_sent_when_the_monitor_asks(bench):
    b = bench()
    b.monitor.profiles = set()
    sha = "e" * 64
    b.spool.put_profile(sha, json.dumps({"features": []}).encode() + b"\n")
    b.fill(range(3), payload={"profile_sha256": sha})
    b.run(60)
    assert b.monitor.profiles == {sha}
    assert b.monitor.sequences(STREAM) == [0, 1, 2]
    assert b.clock.seconds < 1010


def test_two_profiles_are_sent_one_after_the_other(bench):
    b = bench()
    b.monitor.profiles = set()
    for n, sha in enumerate(("e" * 64, "f" * 64)):
        b.spool.put_profile(sha, b"{}\n")
        b.fill([n], payload={"profile_sha256": sha})
    b.run(600)
    assert b.monitor.sequences(STREAM) == [0, 1]


def test_a_profile_that_is_there_is_not_held_up_by_one_that_is_not(bench):
    b = bench()
    b.monitor.profiles = set()
    b.spool.put_profile("f" * 64, b"{}\n")
    for n, sha in enumerate(("e" * 64, "f" * 64)):
        b.fill([n], payload={"profile_sha256": sha})
    b.run(600)
    assert b.monitor.sequences(STREAM) == [1]
    assert b.kept() == 1


def test_a_profile_that_is_not_to_be_had_holds_up_nothing_else(bench):
    b = bench(batch_items=2)
    b.monitor.profiles = set()
    b.fill(range(4), payload={"profile_sha256": "e" * 64})
    b.fill(range(4, 8))
    b.run(3600)
    assert b.monitor.sequences(STREAM) == [4, 5, 6, 7]
    assert b.kept() == 4
    assert "add-model" in b.agent.status.error
    assert len(b.monitor.batches()) < 80
    b.monitor.profiles = None  # an operator gave the bundle to the monitor
    b.run(3600)
    assert b.monitor.sequences(STREAM) == list(range(8))


def test_refused_items_are_counted_and_gone(bench):
    b = bench(items=2)
    b.fill([2], payload={"bad": "bins of another profile"})
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1]
    assert list(b.monitor.refused.values()) == ["bins of another profile"]
    assert b.spool.stats().refused == {"bins of another profile": 1}
    assert b.agent.status.refused == 1


def test_an_agent_of_no_use_raises_nothing(bench, monkeypatch):
    """Not even for faults of its own: the application must not learn of them by an exception."""
    b = bench(items=1)
    monkeypatch.setattr(b.transport, "post_batch", lambda *_: 1 / 0)
    assert b.step() >= 0
    assert "ZeroDivisionError" in b.agent.status.error
    monkeypatch.undo()
    b.spool.close()
    monkeypatch.setattr(b.spool, "outbox", lambda: (_ for _ in ()).throw(MemoryError()))
    assert b.step() >= 0
