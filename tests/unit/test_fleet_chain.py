"""The chain of a device's batches: replies given again, replays, gaps and copies of a device told apart."""

from hashlib import sha256

import pytest

from edgeml.fleet import tables
from edgeml.fleet.chain import REMEMBERED
from edgeml.fleet.device_state import KEPT_CHAINS
from edgeml.telemetry import wire
from tests.fleet_tools import T0, fleet, outcomes, window


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


def refused(reply):
    assert reply.status == 409, reply
    assert reply.body["error"] == "chain_conflict"
    assert reply.body["cause"]
    assert reply.body["remedy"]
    return reply.body["why"]


def test_the_last_reply_is_given_again_and_nothing_more(db):
    sender = db.sender()
    db.send(sender, sender.items(window()))
    header, batch = sender.header(), sender.items(window(), window())
    first = db.send(sender, batch, header=header)
    again = db.take(sender, batch, header=header).result(60)
    assert again.status == 200
    assert {k: again.body[k] for k in ("results", "need_profiles")} == {
        k: first.body[k] for k in ("results", "need_profiles")
    }
    assert again.body["pause"] is None
    assert [kind for kind, _ in db.events()] == ["model_seen"]


def test_an_older_batch_is_a_replay(db):
    sender = db.sender()
    headers = []
    for _ in range(4):
        headers.append(sender.header())
        db.send(sender, header=headers[-1])
    assert refused(db.take(sender, header=headers[1]).result(60)) == "replayed"
    assert db.events() == [("replay", "replayed")]
    assert db.rows(tables.devices)[0]["clone_seen"] is None
    assert db.send(sender, sender.items(window())).status == 200  # the chain goes on


@pytest.mark.parametrize("number", [0, 1, 2])
def test_other_bytes_under_a_number_that_was_taken_show_a_copy(db, number):
    sender = db.sender()
    headers = []
    for _ in range(3):
        headers.append(sender.header())
        db.send(sender, header=headers[-1])
    previous = headers[number].previous
    other = sender.header(number=number, previous=previous)
    assert refused(db.take(sender, sender.items(window()), header=other).result(60)) == "forked"
    assert db.events() == [("clone_suspected", "forked")]
    assert db.rows(tables.devices)[0]["clone_seen"] == T0 + 1000
    assert not db.rows(tables.windows)


def test_a_wrong_previous_is_a_fork_and_a_missing_number_a_gap(db):
    sender = db.sender()
    db.send(sender)
    assert refused(db.take(sender, header=sender.header(previous="b" * 64)).result(60)) == "forked"
    assert refused(db.take(sender, header=sender.header(number=2)).result(60)) == "gap"
    fresh = db.sender()
    assert refused(db.take(fresh, header=fresh.header(number=3, previous="b" * 64)).result(60)) == "gap"
    assert refused(db.take(fresh, header=fresh.header(previous="b" * 64)).result(60)) == "gap"


def test_a_new_chain_closes_the_one_before(db):
    sender = db.sender()
    db.send(sender)
    old, last = sender.header(), sender.header()
    db.send(sender, sender.items(window()), header=last)
    sender.restart()
    first = sender.header(restarted="spool set aside")
    assert db.send(sender, sender.items(window()), header=first).status == 200
    assert ("chain_restarted", "spool set aside") in db.events()
    # The last one of the closed chain may have been long on its way; anything else of it is of a copy.
    assert outcomes(db.take(sender, header=last).result(60)) == ["accepted"]
    assert db.rows(tables.devices)[0]["clone_seen"] is None
    assert refused(db.take(sender, header=old).result(60)) == "closed"
    following = wire.Header(old.device, old.chain, 2, sha256(last.to_bytes()).hexdigest(), "d" * 64)
    assert refused(db.take(sender, header=following).result(60)) == "closed"
    assert db.rows(tables.devices)[0]["clone_seen"] == T0 + 1000
    assert [row["closed"] for row in sorted(db.rows(tables.chains), key=lambda r: r["started"])].count(False) == 1
    assert db.total().windows == 2


def test_what_is_too_old_to_be_remembered_is_judged_by_when_it_was_sent(db):
    sender = db.sender()
    first = sender.header()
    db.send(sender, header=first)
    second = sender.header()
    for number in range(1, REMEMBERED + 2):
        db.send(sender, received=T0 + 1000 + number)
    replayed = wire.Sent("boot", 1000.0, T0 + 1000)
    late = T0 + 86400
    assert refused(db.take(sender, header=first, sent=replayed, received=late).result(60)) == "replayed"
    # Made now by a copy that was restored from an old image of the disk.
    other = sender.header(number=1, previous=second.previous)
    now = wire.Sent("boot", 86400.0, late)
    assert refused(db.take(sender, header=other, sent=now, received=late).result(60)) == "forked"


def test_closed_chains_are_remembered_up_to_a_bound(db):
    sender = db.sender()
    for number in range(KEPT_CHAINS + 3):
        sender.restart()
        db.send(sender, received=T0 + number)
    kept = db.rows(tables.chains)
    assert len(kept) == KEPT_CHAINS + 1
    assert {row["started"] for row in kept if row["closed"]} == {T0 + n for n in range(2, KEPT_CHAINS + 2)}


def test_a_conflict_takes_nothing_and_leaves_the_others_of_its_group(database):
    with fleet(database, start=False) as db:
        good, bad = db.sender(), db.sender()
        waiting = [
            db.take(bad, bad.items(window()), header=bad.header(number=5, previous="c" * 64)),
            db.take(good, good.items(window())),
        ]
        db.ingest.start()
        replies = [future.result(60) for future in waiting]
        assert [reply.status for reply in replies] == [409, 200]
        assert [row["device_id"] for row in db.rows(tables.windows)] == [good.device.id]
