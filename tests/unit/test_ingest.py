"""Ingest, on SQLite and PostgreSQL: every item counts once, in the right buckets, or is answered why it does not."""

from dataclasses import replace

import pytest

from edgeml.fleet import tables
from edgeml.fleet.ingest import IngestSettings
from edgeml.telemetry.wire import Sent
from tests.fleet_tools import T0, fleet, outcomes, profile, window

P = profile()
KNOWN = {P["sha256"]: P}


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


def test_windows_are_counted_in_every_level(db):
    sender = db.sender()
    batch = sender.items(window(P, 10), window(P, 5, end=120.0))
    assert outcomes(db.send(sender, batch, profiles=KNOWN)) == ["accepted"] * 2
    for level in ("minute", "hour", "day"):
        total = db.total(level)
        assert (total.windows, total.rows, total.calls) == (2, 15, {"one": 15, "batch": 2})
        assert total.errors == {"ShapeError": 2}
        assert total.system == {"cpu": [2, 1.0, 0.5, 0.5]}
        # Two latencies, three features and a score.
        assert total.counts.sum() == 15 + 2 + 4 * 15
    minutes = sorted(row["start"] for row in db.rows(tables.rollups, tables.rollups.c.level == "minute"))
    # They ended 940 s and 880 s before they came.
    assert minutes == [int(T0 + 60) // 60 * 60, int(T0 + 120) // 60 * 60]
    assert {(row["clock"], row["ended"]) for row in db.rows(tables.windows)} == {
        ("monotonic", T0 + 60), ("monotonic", T0 + 120)
    }  # fmt: skip
    assert db.rows(tables.devices)[0]["last_seen"] == T0 + 1000


def test_what_comes_again_counts_once(db):
    sender = db.sender()
    batch = sender.items(window(P), window(P))
    header = sender.header()
    first = db.send(sender, batch, profiles=KNOWN, header=header)
    again = db.take(sender, batch, header=header).result()
    assert again.body["results"] == first.body["results"] == [["accepted", ""]] * 2
    # In another batch, with something new between them, and in another chain.
    assert outcomes(db.send(sender, [batch[1], *sender.items(window(P)), batch[0]])) == [
        "duplicate", "accepted", "duplicate"
    ]  # fmt: skip
    sender.restart()
    assert outcomes(db.send(sender, batch)) == ["duplicate"] * 2
    assert db.total().windows == 3
    assert len(db.rows(tables.windows)) == 3


def test_one_batch_twice_in_one_group_counts_once(database):
    with fleet(database, start=False) as db:
        sender = db.sender()
        header, batch = sender.header(), sender.items(window())
        waiting = [db.take(sender, batch, header=header) for _ in range(3)]
        sender.advance(header)
        waiting.append(db.take(sender, batch))
        db.ingest.start()
        assert [outcomes(future.result(60)) for future in waiting] == [["accepted"]] * 3 + [["duplicate"]]
        assert db.ingest.counters()["groups"] == 1
        assert db.total().windows == 1


def test_reordered_delivery_and_streams_of_one_number_are_told_apart(db):
    one, two = db.sender(), db.sender()
    two.stream = one.stream  # streams are told apart by device, too
    items = one.items(*[window(rows=n) for n in range(1, 6)])
    assert outcomes(db.send(one, items[::-1])) == ["accepted"] * 5
    assert outcomes(db.send(two, two.items(window(rows=100)))) == ["accepted"]
    assert db.total().rows == 115


def test_an_unknown_profile_is_asked_for_once(db):
    sender = db.sender()
    batch = sender.items(window(P), window(P), window())
    reply = db.send(sender, batch)
    # The last window says its model has no profile: it is the first of that model, so that stands.
    assert outcomes(reply) == ["deferred", "deferred", "accepted"]
    assert reply.body["need_profiles"] == [P["sha256"]]
    named = {"name": "other", "version": 1, "manifest_sha256": "b" * 64}
    later = sender.items(window(P, model=named))
    assert outcomes(db.send(sender, later, profiles=KNOWN)) == ["accepted"]
    assert outcomes(db.send(sender, sender.items(window(P, model=named)))) == ["accepted"]
    assert len(db.rows(tables.profiles)) == 1


def test_counts_on_other_bins_are_refused_and_kept(db):
    other = profile(seed=1)
    sender = db.sender()
    db.send(sender, sender.items(window(P)), profiles=KNOWN)
    before = db.total().counts.tolist()
    batch = sender.items(window(other), window(P))
    reply = db.send(sender, batch, profiles={other["sha256"]: other})
    assert outcomes(reply) == ["refused", "accepted"]
    assert "profile mismatch" in reply.body["results"][0][1]
    assert db.total().counts.tolist() == [2 * n for n in before]
    kept = db.rows(tables.quarantine)
    assert [(row["sequence"], row["rows"], bool(row["payload"])) for row in kept] == [(1, 10, True)]
    assert ("profile_mismatch", kept[0]["reason"]) in db.events()
    assert [row["sha256"] for row in db.rows(tables.profiles)] == [P["sha256"]]  # a device cannot fill the table
    # It is answered the same when it comes again, and does not stand twice.
    assert outcomes(db.send(sender, batch)) == ["refused", "duplicate"]
    assert len(db.rows(tables.quarantine)) == 1


@pytest.mark.parametrize(
    ("payload", "word"),
    [
        (window(P, calls={"one": -1, "batch": 0}), "calls"),
        (window(P, features=[[0, 1]]), "features"),
        (window(P, features=[[999, 1], [], []]), "slots"),
        (window(P, profile_sha256="x"), "profile_sha256"),
        (window(P, profile_sha256=["a"]), "profile_sha256"),
        (window(P, rows=2**40, calls={"one": 2**40, "batch": 0}), "plausible"),
        (window(P, latency={"one": [3, 2**34], "batch": []}), "plausible"),
        (window(P, system={"cpu": 1e300}), "plausible"),
        ({"no": "window"}, "fields"),
        ([1, 2], "fields"),
        (None, "fields"),
        ("\ud800", "fields"),
    ],
)
def test_a_malformed_window_is_refused_alone(db, payload, word):
    sender = db.sender()
    batch = sender.items(window(P), payload, window(P))
    reply = db.send(sender, batch, profiles=KNOWN)
    assert outcomes(reply) == ["accepted", "refused", "accepted"]
    assert word in reply.body["results"][1][1]
    assert db.total().windows == 2
    assert len(db.rows(tables.quarantine)) == 1


def test_a_device_that_sends_only_refuse_fills_no_disk(db, monkeypatch):
    monkeypatch.setattr("edgeml.fleet.flush.MAX_QUARANTINED_PAYLOADS", 3)
    sender = db.sender()
    for _ in range(2):
        db.send(sender, sender.items({"bad": 1}, {"bad": 2}))
    kept = {row["sequence"]: bool(row["payload"]) for row in db.rows(tables.quarantine)}
    assert kept == {0: True, 1: True, 2: True, 3: False}


def test_an_item_that_counts_other_rows_than_its_window_is_refused(db):
    sender = db.sender()
    (item,) = sender.items(window(rows=10))
    reply = db.send(sender, [replace(item, rows=11)])
    assert outcomes(reply) == ["refused"]
    assert "10 rows, its item says 11" in reply.body["results"][0][1]


def test_a_malformed_profile_refuses_what_needs_it(db):
    sender = db.sender()
    spoiled = P | {"features": P["features"][:1]}
    reply = db.send(sender, sender.items(window(P)), profiles={P["sha256"]: spoiled})
    assert outcomes(reply) == ["refused"]
    assert not db.rows(tables.profiles)


def test_sampled_rows_are_kept_unread(db):
    sender = db.sender()
    rows = {"rows_version": 1, "model": window()["model"], "wall": T0, "sealed": {"box": "AAAA"}}
    batch = sender.items(rows, {"rows_version": 2}, kind="rows")
    assert outcomes(db.send(sender, batch)) == ["accepted", "refused"]
    assert outcomes(db.send(sender, batch)) == ["duplicate", "refused"]
    assert len(db.rows(tables.samples)) == 1


def test_late_windows_go_where_they_belong_and_make_no_minute_anew(db):
    sender = db.sender()
    now = T0 + 60 * 86400
    # 30 days ago in the same boot, minutes are kept for 14: the hour and the day are counted, the minute is not.
    late = sender.items(window(rows=7, end=30 * 86400.0), window(rows=1, end=60 * 86400.0 - 5))
    reply = db.send(sender, late, received=now, sent=Sent("boot", 60 * 86400.0, now))
    assert outcomes(reply) == ["accepted"] * 2
    starts = {(r["level"], r["start"], r["rows"]) for r in db.rows(tables.rollups)}
    at = int(T0 + 30 * 86400)
    new = int(now - 5)
    assert starts == {
        ("hour", at // 3600 * 3600, 7), ("day", at // 86400 * 86400, 7), ("minute", new // 60 * 60, 1),
        ("hour", new // 3600 * 3600, 1), ("day", new // 86400 * 86400, 1),
    }  # fmt: skip


def test_models_that_devices_make_known_are_bounded(database):
    with fleet(database, IngestSettings(max_models=2)) as db:
        sender = db.sender()
        models = [window(model={"name": f"m{i}", "version": 1, "manifest_sha256": "a" * 64}) for i in range(4)]
        assert outcomes(db.send(sender, sender.items(*models))) == ["accepted"] * 2 + ["refused"] * 2
        assert len(db.rows(tables.models)) == 2


def test_another_bundle_of_the_same_bins_is_noted(db):
    sender = db.sender()
    other = {"name": "churn", "version": 1, "manifest_sha256": "b" * 64}
    db.send(sender, sender.items(window(P)), profiles=KNOWN)
    assert outcomes(db.send(sender, sender.items(window(P, model=other), window(P, model=other)))) == ["accepted"] * 2
    assert [kind for kind, _ in db.events()] == ["model_seen", "bundle_differs"]


def test_revoked_and_unknown_devices_are_refused_inside_the_transaction(db):
    revoked, gone = db.sender(state="revoked"), db.sender()
    gone.device = type(gone.device)("f" * 32, db.project, "gone", b"k" * 32, "active")
    assert db.take(revoked, revoked.items(window())).result(60).body["error"] == "device_revoked"
    assert db.take(gone, gone.items(window())).result(60).status == 401
    assert not db.rows(tables.windows)
