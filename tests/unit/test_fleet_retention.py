"""Retention: what is old goes in small steps, totals stay, and a number that was received stays received."""

import threading

import pytest
from sqlalchemy import func, select, text

from edgeml.fleet import fold, queries, tables
from edgeml.fleet.ingest import IngestSettings
from edgeml.fleet.retention import DAY, Retention, RetentionThread, run_retention
from edgeml.telemetry.items import Item, Loss
from edgeml.telemetry.wire import Sent
from tests.fleet_tools import T0, fleet, outcomes, profile, window
from tests.waiting import PATIENCE

P = profile()
KNOWN = {P["sha256"]: P}
NOW = T0 + 10 * DAY


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


def device_totals(db, sender):
    with db.store.read() as connection:
        series = queries.device_series(connection, db.project, sender.device.id, 1, 0.0, 1e11)
        stream = queries.streams(connection, db.project, sender.device.id).items[0]
        device = queries.device(connection, db.project, sender.device.id)
    seen = ("received", "missing", "gaps", "first", "last", "last_received")
    return series, {name: stream[name] for name in seen}, (device["windows"], device["rows"], device["models"])


def test_windows_become_days_and_ranges_and_every_total_stays(db, monkeypatch):
    monkeypatch.setattr(fold, "CHUNK", 7)
    sender = db.sender()
    made = sender.items(*[window(P, n, end=60.0 + n * 6000.0) for n in range(40)])
    del made[11]  # a gap
    for at, part in enumerate((made[20:], made[:20])):
        received = T0 + 240_000 + at
        assert db.send(sender, part, profiles=KNOWN, received=received, sent=Sent("boot", 240_000.0, 0)).status == 200
    before, levels = device_totals(db, sender), [db.total(level).counts.tolist() for level in ("hour", "day")]
    assert len(before[0]) >= 3

    # The second part is a second younger.
    half = Retention(windows=NOW - (T0 + 240_000.5))
    assert run_retention(db.store, half, NOW)["windows"] == 19
    assert len(db.rows(tables.windows)) == 20
    assert device_totals(db, sender) == before
    done = run_retention(db.store, Retention(windows=DAY), NOW)
    assert done["windows"] == 20
    assert db.rows(tables.windows) == []
    assert device_totals(db, sender) == before
    assert [db.total(level).counts.tolist() for level in ("hour", "day")] == levels
    assert [(r["first"], r["last"]) for r in sorted(db.rows(tables.received_ranges), key=lambda r: r["first"])] == [
        (0, 10), (12, 39)
    ]  # fmt: skip

    # What is delivered again after that is still known; what never came is not.
    assert outcomes(db.send(sender, [made[0], made[30]])) == ["duplicate"] * 2
    late = Item(sender.stream, 11, "window", made[0].payload, made[0].rows)
    assert outcomes(db.send(sender, [late], received=NOW)) == ["accepted"]
    run_retention(db.store, Retention(windows=0.0), NOW + 1)
    assert [(r["first"], r["last"]) for r in db.rows(tables.received_ranges)] == [(0, 39)]


def test_each_kind_has_an_age_of_its_own(db):
    sender = db.sender()
    rows = {"rows_version": 1, "model": window()["model"], "wall": T0, "sealed": {"box": "AAAA"}}
    db.send(sender, [*sender.items(window()), *sender.items(rows, {"bad": 1}, kind="rows")])
    kinds = {
        "minutes": (tables.rollups, 2, "rollups"), "hours": (tables.rollups, 1, "rollups"),
        "days": (tables.rollups, 0, "rollups"), "samples": (tables.samples, 0, "samples"),
        "windows": (tables.windows, 0, "windows"), "device_days": (tables.device_days, 0, "device_days"),
        "quarantine": (tables.quarantine, 0, "quarantine"), "events": (tables.events, 0, "events"),
    }  # fmt: skip
    for kind, (table, left, name) in kinds.items():
        for_ever = dict.fromkeys(Retention.__slots__)
        assert not any(run_retention(db.store, Retention(**for_ever), NOW).values()), kind
        short = Retention(**for_ever | {kind: DAY})
        done = run_retention(db.store, short, NOW)
        assert {k for k, n in done.items() if n} == {name}
        assert len(db.rows(table)) == left
        assert not any(run_retention(db.store, short, NOW).values())  # nothing is left to do
    with db.store.read() as connection:
        (stream,) = queries.streams(connection, db.project, sender.device.id).items
    # What was refused and forgotten counts as lost, not as missing.
    assert (stream["received"], stream["lost"], stream["refused"], stream["missing"]) == (2, 1, 0, 0)
    assert db.rows(tables.losses)[0]["reason"].startswith("refused: rows: not")


def test_old_losses_are_joined_and_none_becomes_unknown(db):
    sender = db.sender()
    for first, reason in ((0, "disk full"), (3, "disk full"), (6, "spool full"), (20, "disk full"), (23, "disk full")):
        db.send(sender, losses=[Loss(sender.stream, first, first + 2, "window", reason, 10)])
    run_retention(db.store, Retention(losses=DAY), NOW)
    kept = sorted((r["first"], r["last"], r["reason"], r["rows"]) for r in db.rows(tables.losses))
    assert kept == [(0, 8, "several reasons", 30), (20, 25, "disk full", 20)]


def test_the_audit_log_goes_by_its_age(db):
    def audit(at):
        return {"at": at, "actor": "root", "action": "x", "target": "y", "detail": {}, "address": ""}

    with db.store.write() as connection:
        connection.execute(tables.audit.insert(), [audit(T0 + n) for n in range(5)] + [audit(NOW)])
    assert run_retention(db.store, Retention(audit=DAY), NOW)["audit"] == 5
    assert [row["at"] for row in db.rows(tables.audit)] == [NOW]


def test_it_ends_between_two_steps_and_goes_on_the_next_time(db, monkeypatch):
    monkeypatch.setattr(fold, "CHUNK", 5)
    sender = db.sender()
    db.send(sender, sender.items(*[window(P) for _ in range(20)]), profiles=KNOWN)
    steps = []
    done = run_retention(
        db.store,
        Retention(windows=DAY),
        NOW,
        stop=lambda: len(steps) >= 2,
        between=lambda seconds: steps.append(seconds),
    )
    assert done["windows"] == 10
    assert len(db.rows(tables.windows)) == 10
    assert run_retention(db.store, Retention(windows=DAY), NOW)["windows"] == 10
    assert db.rows(tables.device_days)[0]["windows"] == 20


def test_several_servers_fold_at_once_while_batches_come(database, monkeypatch):
    monkeypatch.setattr(fold, "CHUNK", 3)
    keep = IngestSettings(retention=Retention(minutes=None))
    with fleet(database, keep) as db, fleet(database, keep) as other:
        senders = [db.sender() for _ in range(3)]
        batches = {s.device.id: s.items(*[window(P, 1, end=float(n)) for n in range(30)]) for s in senders}
        done = threading.Event()
        failed = []

        def retain(store):
            try:
                while not done.wait(0.001):  # SQLite lets no writer in by turns: without a pause one may wait for ever
                    run_retention(store, Retention(windows=0.0), NOW)
            except Exception as error:  # of another thread: the test raises or asserts it
                failed.append(error)

        threads = [threading.Thread(target=retain, args=(f.store,)) for f in (db, other)]
        for thread in threads:
            thread.start()
        try:
            for at in range(0, 30, 5):
                for sender in senders:
                    batch = batches[sender.device.id]
                    for server in (db, other):  # each part twice, and what came before again
                        reply = server.send(sender, batch[max(at - 5, 0) : at + 5], profiles=KNOWN)
                        expected = ["accepted"] * 5 if server is db else ["duplicate"] * 5
                        assert outcomes(reply)[-5:] == expected
        finally:
            done.set()
            for thread in threads:
                thread.join(PATIENCE)
        assert failed == []
        run_retention(db.store, Retention(windows=0.0), NOW)
        assert db.total().windows == 90
        assert sum(row["windows"] for row in db.rows(tables.device_days)) == 90
        assert {(r["first"], r["last"]) for r in db.rows(tables.received_ranges)} == {(0, 29)}


def test_a_device_that_ingest_holds_is_waited_for(postgres):
    url = postgres.new_database()
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with fleet(url) as db:
        sender = db.sender()
        db.send(sender, sender.items(window()), losses=[Loss(sender.stream, n, n, "window", "full", 1) for n in (5, 6)])
        works = (
            lambda: fold.fold_windows(db.store, [sender.device.id], NOW),
            lambda: fold.join_losses(db.store, NOW, lambda: False),
        )
        for work in works:
            done: list[int] = []
            thread = threading.Thread(target=lambda work=work, done=done: done.append(work()))
            with db.store.write() as connection:
                fold.lock_devices(connection, [sender.device.id])
                thread.start()
                with db.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
                    while thread.is_alive() and not other.execute(waits).scalar():
                        thread.join(0.01)
                assert done == []
            thread.join(PATIENCE)
            assert done == [1]
    postgres.drop_database(url)


def test_the_thread_runs_it_and_outlives_errors(db, monkeypatch):
    ran = threading.Event()
    answers = iter([ZeroDivisionError("once"), None])

    def run(*args, **kwargs):
        answer = next(answers, None)
        if answer is not None:
            raise answer
        ran.set()
        return {}

    monkeypatch.setattr("edgeml.fleet.retention.run_retention", run)
    thread = RetentionThread(db.store, Retention(), every=0.001)
    thread.start()
    assert ran.wait(PATIENCE)
    thread.stop()
    assert thread.last_error == ""
    assert thread.runs >= 2


def test_many_devices_are_all_visited(db, monkeypatch):
    monkeypatch.setattr("edgeml.fleet.retention._DEVICES", 2)
    for _ in range(5):
        sender = db.sender()
        db.send(sender, sender.items(window()))
    run_retention(db.store, Retention(windows=DAY), NOW)
    with db.store.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.device_days)).scalar() == 5
