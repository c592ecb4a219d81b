"""The agent when a monitor says no: poison, broken chains, cloned, revoked and unknown devices, enrolment."""

import shutil

import pytest

from edgeml.telemetry import wire
from edgeml.telemetry.agent import LONG_SECONDS, Agent
from edgeml.telemetry.identity import Enrolment, Identity
from edgeml.telemetry.items import Item
from edgeml.telemetry.spool import Spool
from tests.agent_tools import KEY, SERVER, STREAM, Bench, item
from tests.fake_monitor import TOKEN, Answer, DirectTransport, Monitor, always, error, taken_but


# --- poison -------------------------------------------------------------------------------------------------------
def poison(status, *bad):
    """A monitor that refuses every batch with one of these items in it."""
    return lambda body: error(status, "malformed") if {i.sequence for i in body.items} & set(bad) else None


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("bad", [(0,), (17,), (39,), (0, 39), (5, 6, 7), (39, 38)])
def test_poison_is_found_and_given_up_and_all_else_arrives(bench, status, bad):
    b = bench(items=40)
    b.monitor.poison = poison(status, *bad)
    b.run(3600)
    assert b.monitor.sequences(STREAM) == [n for n in range(40) if n not in bad]
    b.monitor.poison = lambda body: None
    b.run()
    assert {n for loss in b.monitor.lost for n in range(loss[2], loss[3] + 1)} == set(bad)
    assert all("refused by the monitor" in loss[5] and "said no" in loss[5] for loss in b.monitor.lost)
    assert b.kept() == 0
    assert len(b.monitor.batches()) < 40 * len(bad)
    assert b.monitor.events == []


def test_an_item_alone_in_the_spool_is_kept_until_another_one_passes(bench):
    """One refusal is no proof that the item is at fault."""
    b = bench(items=1)
    b.monitor.poison = poison(422, 0)
    b.run(3600)
    assert b.kept() == 1
    assert b.monitor.lost == set()
    b.fill([1])
    b.run(3600)
    assert b.monitor.sequences(STREAM) == [1]
    assert b.kept() == 0
    assert {loss[2] for loss in b.monitor.lost} == {0}


def test_a_monitor_that_refuses_everything_destroys_nothing(bench):
    """A broken release of the monitor, or a proxy's limit: items wait until it is mended."""
    b = bench(items=20)
    b.monitor.constant = always(error(422, "malformed"))
    for n in range(20, 30):
        b.run(1800)
        b.fill([n])
    assert b.kept() == 30
    assert len(b.monitor.batches()) < 300
    b.monitor.constant = None
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(30))
    assert b.monitor.lost == set()


def test_losses_do_not_grow_while_everything_is_refused(bench):
    b = bench(items=3)
    b.monitor.constant = always(error(413, "too_large"))
    b.run(86_400 / 4)
    assert b.spool.stats().losses == 0


def test_a_refusal_after_an_open_attempt_begins_another_chain(bench):
    """The first attempt may have been taken: another batch of its number would look like a second device's."""
    b = bench(items=4)
    b.monitor.faults = [taken_but(drop=True), always(error(413, "too_large"))]
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1, 2, 3]
    assert [kind for kind, _ in b.monitor.events] == ["chain_restarted"]


def test_an_item_that_no_batch_can_hold_is_given_up(bench, monkeypatch):
    b = bench(items=2)
    monkeypatch.setattr(wire, "MAX_COMPRESSED_BYTES", 3000)
    noise = "".join(f"{n * 7919**9:x}" for n in range(400))
    b.spool.append([Item(STREAM, 2, "window", wire.dumps(noise), 5)])
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1]
    assert {(loss[2], loss[5]) for loss in b.monitor.lost} == {(2, "larger than a batch may be")}


def test_a_profile_that_is_refused_takes_no_items_with_it(bench):
    b = bench()
    b.monitor.profiles = set()
    b.spool.put_profile("e" * 64, b"{}\n")
    b.fill(range(3), payload={"profile_sha256": "e" * 64})
    b.fill([3])
    b.monitor.poison = lambda body: error(413, "too_large") if body.profiles else None
    b.run(3600)
    for n in (4, 5, 6):
        b.fill([n])
        b.run(1200)
    assert b.monitor.sequences(STREAM) == [3, 4, 5, 6]
    assert b.kept() == 3
    assert b.monitor.lost == set()
    assert len(b.monitor.batches()) < 300


def test_gzip_refused_is_no_fault_of_the_items(bench):
    b = bench(items=2)
    b.monitor.constant = always(error(415, "unsupported", "gzip is not taken here"))
    b.run(3600)
    assert b.kept() == 2
    assert "gzip is not taken here" in b.agent.status.error
    assert len({h["edgeml-batch"] for _, h, _ in b.monitor.batches()}) == 1
    b.monitor.constant = None
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1]


# --- chains -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("why", ["replayed", "forked", "gap", "closed"])
def test_a_conflict_begins_another_chain_with_the_same_items(bench, why):
    b = bench(items=3)
    b.run()
    b.fill([3, 4])
    b.monitor.faults = [always(error(409, "chain_conflict", why=why))]
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(5))
    assert b.monitor.events == [("chain_restarted", f"the monitor answered: {why}")]


def test_a_monitor_restored_from_an_old_backup(bench):
    b = bench(items=2, batch_items=1)
    b.run()
    device = next(iter(b.monitor.devices.values()))
    device.chains.clear()
    device.open = None
    b.fill([2])
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1, 2]


def test_a_spool_that_was_set_aside_begins_another_chain_and_says_so(bench, tmp_path):
    b = bench(items=2)
    b.run()
    b.spool.close()
    for file in b.folder.glob("spool.db*"):
        file.write_bytes(b"garbage" * 1000)
    b.spool = Spool(b.folder, key=KEY)
    b.agent = b.new_agent()
    b.fill([0], stream="6" * 32)
    b.run()
    assert b.monitor.sequences("6" * 32) == [0]
    assert [kind for kind, _ in b.monitor.events] == ["chain_restarted"]
    assert b.monitor.events[0][1]


def test_a_cloned_device_is_seen_and_counts_nothing_twice(bench, tmp_path):
    """A disk is copied with items in it, and both devices send."""
    b = bench(items=6, batch_items=2)
    b.step()
    b.spool.close()
    shutil.copytree(b.folder, tmp_path / "copy")
    b.spool = Spool(b.folder, key=KEY)
    b.agent = b.new_agent()
    copy = Bench(tmp_path / "copy", monitor=b.monitor)
    assert copy.identity.key_id == b.identity.key_id
    b.run()
    copy.run()
    b.fill([10], stream="a" * 32)
    copy.fill([10], stream="c" * 32)
    b.run()
    copy.run()
    copy.close()
    assert b.monitor.sequences(STREAM) == list(range(6))
    assert b.monitor.sequences("a" * 32) == b.monitor.sequences("c" * 32) == [10]
    assert "clone_suspected" in [kind for kind, _ in b.monitor.events]
    assert b.kept() == copy_kept(tmp_path / "copy") == 0


def copy_kept(folder):
    with Spool(folder, key=KEY) as spool:
        return spool.stats().items


# --- devices that are not welcome -----------------------------------------------------------------------------------
def test_a_revoked_device_asks_rarely_and_keeps_its_items(bench):
    b = bench(items=3)
    device = next(iter(b.monitor.devices.values()))
    device.revoked = True
    b.run(86_400)
    assert len(b.monitor.batches()) <= 25
    assert min(b.waits) >= LONG_SECONDS * 0.9
    assert b.agent.status.state == "revoked"
    assert b.kept() == 3
    device.revoked = False
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1, 2]


def test_an_unknown_device_enrols_again(bench):
    b = bench(items=2)
    b.run()
    b.fill([2, 3])
    b.monitor.devices.clear()
    b.run()
    device = next(iter(b.monitor.devices))
    assert b.identity.enrolment.device == device
    assert b.monitor.sequences(STREAM) == [0, 1, 2, 3]
    assert Identity.load(b.folder / "identity").enrolment.device == device


def test_a_batch_under_way_of_who_the_device_was_is_not_sent_by_who_it_is(bench):
    b = bench(items=2)
    b.monitor.faults = [always(Answer(500, b"down"))]
    b.step()
    b.identity.enrol(Enrolment("e" * 32, "0" * 32, SERVER))
    b.monitor.devices["e" * 32] = type(next(iter(b.monitor.devices.values())))("e" * 32, b.identity.public_key)
    b.run()
    assert [name for name, _, _ in b.monitor.counted] == ["e" * 32] * 2
    assert wire.read_header(wire.decode(b.monitor.batches()[-1][1]["edgeml-batch"], "")).restarted


def test_an_unknown_device_without_a_token_asks_rarely(bench):
    b = bench(items=1)
    b.monitor.devices.clear()
    b.agent = Agent(
        b.spool, b.identity, b.transport, server=SERVER, clock=b.clock, uniform=b.random.uniform, token=None
    )
    b.run(86_400)
    assert len(b.monitor.batches()) <= 25
    assert b.kept() == 1
    assert b.agent.status.state == "not enrolled"


def test_an_unknown_device_whose_token_is_used_asks_rarely_and_says_why(bench):
    """A one-time token, and a monitor that has lost the device."""
    b = bench(items=1)
    b.monitor.devices.clear()
    b.options["token"] = "em_other_token"
    b.agent = b.new_agent()
    b.run(86_400)
    assert len(b.monitor.batches()) <= 25
    assert min(b.waits) >= LONG_SECONDS * 0.9
    assert b.agent.status.state == "not enrolled"
    assert "used or expired" in b.agent.status.error
    assert b.kept() == 1


def test_a_device_of_another_key_is_refused_and_keeps_its_items(bench):
    b = bench(items=1)
    next(iter(b.monitor.devices.values())).key = Identity.load_or_create(b.folder / "other").public_key
    b.run(3600)
    assert b.kept() == 1
    assert "signature" in b.agent.status.error


# --- enrolment ------------------------------------------------------------------------------------------------------
def test_a_device_enrols_by_itself(bench):
    b = bench(enrolled=False, items=2, name="pump 7", labels={"site": "bern"})
    b.run()
    assert b.monitor.sequences(STREAM) == [0, 1]
    request = wire._json(b.monitor.requests[0][2], "request", 10_000)
    assert (request["name"], request["labels"]) == ("pump 7", {"site": "bern"})
    assert len(b.monitor.devices) == 1


def test_a_lost_answer_to_an_enrolment_makes_no_second_device(bench):
    b = bench(enrolled=False, items=1)
    b.monitor.faults = [taken_but(drop=True), taken_but(body=b"<html>"), taken_but(body={"device": 5})]
    b.run()
    assert len(b.monitor.devices) == 1
    assert b.monitor.sequences(STREAM) == [0]


def test_a_bad_token_is_not_tried_again_and_again(bench):
    b = bench(enrolled=False, items=1, token="em_other_token")
    b.run(86_400)
    assert len(b.monitor.requests) <= 25
    assert b.agent.status.state == "not enrolled"
    assert "used or expired" in b.agent.status.error
    assert b.kept() == 1


def test_without_a_token_it_waits_for_somebody_to_enrol(bench):
    b = bench(enrolled=False, items=1, token=None)
    b.run(3600)
    assert b.monitor.requests == []
    assert "edgeml agent enrol" in b.agent.status.error
    other = Identity.load(b.folder / "identity")  # another process
    device = type(b.monitor).answer(b.monitor, "/v1/enrol", {}, enrolment(other)).body["device"]
    other.enrol(Enrolment(device, "0" * 32, SERVER))
    b.run(600)
    assert b.monitor.sequences(STREAM) == [0]


def enrolment(identity):
    from edgeml.telemetry.agent import enrolment_request

    return enrolment_request(identity, TOKEN, "", {})


def test_another_server_is_enrolled_at_with_the_token(bench, tmp_path):
    b = bench(items=1)
    b.run()
    second = Monitor()
    b.transport = DirectTransport(second, b.clock)
    b.options["server"] = "https://second.example.com"
    b.agent = b.new_agent()
    b.spool.append([item(1)])
    b.run()
    assert second.sequences(STREAM) == [1]
    assert Identity.load(b.folder / "identity").enrolment.server == "https://second.example.com"


def test_a_damaged_enrolment_stops_sending_and_is_named(bench):
    b = bench(enrolled=False, items=1)
    (b.folder / "identity" / "enrolment.json").write_text("{")
    b.step()
    assert "enrolment" in b.agent.status.error
    assert b.monitor.requests == []


# --- answers that are none of a monitor's -----------------------------------------------------------------------------
def test_a_proxy_that_chokes_on_one_item_holds_up_no_others(bench):
    """A filter between device and monitor answers 403 with HTML whenever it sees one item: that one waits."""
    b = bench(items=12)
    b.monitor.poison = lambda body: (
        Answer(403, b"<html>", {"Content-Type": "text/html"}) if 7 in {i.sequence for i in body.items} else None
    )
    b.run(14 * 86_400, until=lambda: len(b.monitor.counted) == 11)
    b.run(43_200)
    assert b.monitor.sequences(STREAM) == [n for n in range(12) if n != 7]
    assert b.kept() == 1
    assert b.monitor.lost == set()
    assert "clone_suspected" not in [kind for kind, _ in b.monitor.events]
    b.monitor.poison = lambda body: None
    b.run()
    assert b.monitor.sequences(STREAM) == list(range(12))
