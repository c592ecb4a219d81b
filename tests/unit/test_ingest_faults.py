"""Ingest when something fails: what makes the server fail is refused alone, a database that is away loses nothing."""

import threading
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event, text, update
from sqlalchemy.exc import DataError, IntegrityError, InternalError, OperationalError, ProgrammingError

from edgeml.errors import MonitorDatabaseError
from edgeml.fleet import merge, tables, writer
from edgeml.fleet.failures import Kind, kind_of
from edgeml.fleet.ingest import IngestSettings
from edgeml.fleet.rollup import Sums
from edgeml.fleet.store import Store
from edgeml.telemetry.items import Loss
from tests.fleet_tools import fleet, outcomes, profile, window
from tests.postgres import Server, binaries

P = profile()
KNOWN = {P["sha256"]: P}


@pytest.fixture
def db(database):
    with fleet(database) as made:
        yield made


@pytest.fixture
def poison(monkeypatch):
    """Windows of 13 rows make the server fail."""
    add = Sums.add

    def fails(self, one, layout):
        if one["rows"] == 13:
            raise KeyError("what nobody foresaw")
        add(self, one, layout)

    monkeypatch.setattr(Sums, "add", fails)


# --- what fails for its data ----------------------------------------------------------------------------------------
def test_what_makes_the_server_fail_is_refused_alone(database, poison):
    with fleet(database, start=False) as db:
        bad, good = db.sender(), db.sender()
        header = bad.header()
        batch = bad.items(*[window(rows=n) for n in (1, 13, 2, 3, 13, 4, 5)])
        waiting = [db.take(good, good.items(window(rows=100))), db.take(bad, batch, header=header)]
        db.ingest.start()
        ours, theirs = (future.result(60) for future in waiting)
        assert outcomes(ours) == ["accepted"]
        assert outcomes(theirs) == ["accepted", "refused", *["accepted"] * 2, "refused", *["accepted"] * 2]
        assert theirs.body["results"][1][1] == "the server failed on it: KeyError"
        assert db.total().rows == 115
        assert [row["sequence"] for row in db.rows(tables.quarantine)] == [1, 4]
        assert ("items_refused", "the server failed on it: KeyError") in db.events()
        # Again, the same; it does not fail a second time.
        again = db.take(bad, batch, header=header).result(60)
        assert again.body["results"] == theirs.body["results"]
        bad.advance(header)
        assert outcomes(db.send(bad, batch))[:3] == ["duplicate", "refused", "duplicate"]


def test_items_that_fail_only_together_are_parted(db):
    # Each fits beside what is there; both together would be over 2**63 - 1.
    sender = db.sender()
    db.send(sender, sender.items(window(P, 1)), profiles=KNOWN)
    with db.store.write() as connection:
        connection.execute(update(tables.rollups).values(rows=2**63 - 1 - 15))
    reply = db.send(sender, sender.items(window(P, 10), window(P, 10), window(P, 2)))
    assert sorted(outcomes(reply)) == ["accepted", "accepted", "refused"]
    assert "OverflowError" in next(reason for outcome, reason in reply.body["results"] if outcome == "refused")
    assert db.rows(tables.rollups)[0]["rows"] > 2**63 - 6


def test_losses_that_make_the_server_fail_are_left_out(db, monkeypatch):
    monkeypatch.setattr(merge._Merge, "_losses", lambda *a: 1 / 0)
    sender = db.sender()
    reply = db.send(sender, sender.items(window()), losses=[Loss(sender.stream, 5, 6, "window", "full", 1)])
    assert outcomes(reply) == ["accepted"]
    monkeypatch.undo()
    assert db.send(sender, losses=[Loss(sender.stream, 5, 6, "window", "full", 1)]).status == 200
    assert len(db.rows(tables.losses)) == 1


def test_a_fault_of_ours_beside_the_data_refuses_nothing(db, monkeypatch):
    monkeypatch.setattr(merge, "judge", lambda *a: 1 / 0)
    sender = db.sender()
    batch, header = sender.items(window()), sender.header()
    assert db.take(sender, batch, header=header).result(60).status == 503
    monkeypatch.undo()
    assert outcomes(db.send(sender, batch, header=header)) == ["accepted"]
    assert not db.rows(tables.quarantine)


def test_models_deleted_behind_our_back_are_made_anew(db):
    sender = db.sender()
    db.send(sender, sender.items(window(P)), profiles=KNOWN)
    with db.store.write() as connection:
        connection.execute(tables.models.delete())
    assert outcomes(db.send(sender, sender.items(window(P)), profiles=KNOWN)) == ["accepted"]
    assert len(db.rows(tables.models)) == 1


# --- what fails for the database ------------------------------------------------------------------------------------
def held_back(reply):
    assert reply.status == 503, reply
    assert reply.retry_after > 0
    assert "postgres" not in str(reply.body)
    assert "sqlite" not in str(reply.body)


def test_a_postgresql_that_goes_away_and_comes_back():
    if binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with Server(durable=True) as server, fleet(server.url()) as db:
        sender = db.sender()
        db.send(sender, sender.items(window()))
        for end in (server.down, server.kill):
            end()
            batch, header = sender.items(window(), window()), sender.header()
            for _ in range(3):
                held_back(db.take(sender, batch, header=header).result(60))
            assert db.ingest.state() == "database"
            server.restart()
            assert outcomes(db.send(sender, batch, header=header)) == ["accepted"] * 2
            assert db.ingest.state() == "running"
        assert db.total().windows == 5


def test_connections_that_a_postgresql_ends_cost_one_answer_at_most(postgres):
    url = postgres.new_database()
    with fleet(url) as db, Store.open(url).engine.connect() as other:
        sender = db.sender()
        db.send(sender, sender.items(window()))
        other.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
                           "AND datname = current_database()"))  # fmt: skip
        batch, header = sender.items(window()), sender.header()
        first = db.take(sender, batch, header=header).result(60)
        if first.status != 200:
            held_back(first)
        assert outcomes(db.send(sender, batch, header=header)) == ["accepted"]
        assert db.total().windows == 2
        other.close()
        other.engine.dispose()
    postgres.drop_database(url)


@contextmanager
def every_connection(store, pragma):
    """SQLite, with a pragma on every connection."""

    def check_out(connection, *_):
        connection.execute(pragma)

    event.listen(store.engine, "checkout", check_out)
    yield
    event.remove(store.engine, "checkout", check_out)


@pytest.mark.parametrize(
    ("fault", "cure"),
    [
        # The file may not grow: what SQLite says is what it says on a full disk.
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
        ("PRAGMA query_only = ON", "PRAGMA query_only = OFF"),
    ],
)
def test_an_sqlite_that_cannot_be_written(tmp_path, fault, cure):
    with fleet(f"sqlite:///{tmp_path / 'monitor.db'}") as db:
        sender = db.sender()
        db.send(sender, sender.items(window(P)), profiles=KNOWN)
        batch, header = sender.items(*[window(P, n) for n in range(300)]), sender.header()
        with every_connection(db.store, fault):
            held_back(db.take(sender, batch, header=header).result(60))
            held_back(db.take(sender, batch, header=header).result(60))
        with every_connection(db.store, cure):
            assert db.rows(tables.quarantine) == []
            assert outcomes(db.send(sender, batch, header=header)) == ["accepted"] * 300
        assert db.total().windows == 301


def test_an_sqlite_that_another_process_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("edgeml.fleet.store.SQLITE_BUSY_SECONDS", 0.1)
    with fleet(f"sqlite:///{tmp_path / 'monitor.db'}") as db:
        sender = db.sender()
        batch, header = sender.items(window()), sender.header()
        with db.store.write():
            held_back(db.take(sender, batch, header=header).result(60))
        assert outcomes(db.send(sender, batch, header=header)) == ["accepted"]


def test_a_commit_whose_answer_is_lost_counts_once(db, monkeypatch):
    write = Store.write

    @contextmanager
    def lost(self):
        with write(self) as connection:
            yield connection
        raise MonitorDatabaseError("the connection was closed in the middle of COMMIT")

    sender = db.sender()
    batch, header = sender.items(window()), sender.header()
    monkeypatch.setattr(Store, "write", lost)
    held_back(db.take(sender, batch, header=header).result(60))
    monkeypatch.undo()
    assert outcomes(db.send(sender, batch, header=header)) == ["accepted"]
    assert db.total().windows == 1


def test_a_deadlock_is_tried_again(db, monkeypatch):
    from psycopg.errors import DeadlockDetected

    tries = []

    def sometimes(*args):
        tries.append(1)
        if len(tries) < 3:
            raise OperationalError("UPDATE", {}, DeadlockDetected("deadlock detected"))
        return merge.merge(*args)

    monkeypatch.setattr(writer, "merge", sometimes)
    sender = db.sender()
    assert outcomes(db.send(sender, sender.items(window()))) == ["accepted"]
    assert len(tries) == 3


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("x"), Kind.DATA),
        (OverflowError("Python int too large to convert to SQLite INTEGER"), Kind.DATA),
        (IntegrityError("", {}, psycopg.errors.UniqueViolation()), Kind.DATA),
        (DataError("", {}, psycopg.errors.NumericValueOutOfRange()), Kind.DATA),
        (OperationalError("", {}, psycopg.errors.ProgramLimitExceeded()), Kind.DATA),
        (OperationalError("", {}, psycopg.errors.DeadlockDetected()), Kind.AGAIN),
        (OperationalError("", {}, psycopg.errors.SerializationFailure()), Kind.AGAIN),
        (OperationalError("", {}, psycopg.errors.LockNotAvailable()), Kind.DATABASE),
        (OperationalError("", {}, psycopg.errors.DiskFull()), Kind.DATABASE),
        (OperationalError("", {}, psycopg.errors.AdminShutdown()), Kind.DATABASE),
        (OperationalError("", {}, psycopg.OperationalError("connection lost")), Kind.DATABASE),
        (ProgrammingError("", {}, psycopg.errors.UndefinedTable()), Kind.DATABASE),
        (InternalError("", {}, psycopg.errors.IndexCorrupted()), Kind.DATABASE),
        (MemoryError(), Kind.DATABASE),
        (MonitorDatabaseError("anything"), Kind.DATABASE),
    ],
)
def test_only_data_is_held_against_an_item(error, kind):
    assert kind_of(error) is kind


# --- bounds ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bounds", [{"queue_requests": 3}, {"queue_bytes": 20_000}])
def test_a_full_queue_answers_503_and_takes_again_later(database, bounds):
    with fleet(database, IngestSettings(**bounds), start=False) as db:
        senders = [db.sender() for _ in range(6)]
        batches = [sender.items(window(), window()) for sender in senders]
        waiting = [db.take(sender, batch) for sender, batch in zip(senders, batches, strict=True)]
        full = [future for future in waiting if future.done()]
        assert 0 < len(full) < 6
        for future in full:
            held_back(future.result(0))
        db.ingest.start()
        assert [outcomes(f.result(60)) for f in waiting if f not in full] == [["accepted"] * 2] * (6 - len(full))
        assert db.ingest.counters()["overloaded"] == len(full)
        assert outcomes(db.take(senders[5], batches[5]).result(60)) == ["accepted"] * 2
        assert db.ingest.counters()["queue_bytes"] == 0


def test_a_fuller_queue_asks_devices_to_pause(database):
    with fleet(database, IngestSettings(queue_requests=10, group_items=1), start=False) as db:
        waiting = [db.take(sender, sender.items(window())) for sender in (db.sender() for _ in range(10))]
        db.ingest.start()
        pauses = [future.result(60).body["pause"] for future in waiting]
        assert pauses[0] > pauses[2] > 0
        assert pauses[-1] is None


def test_who_comes_alone_does_not_wait_and_who_comes_together_shares_a_transaction(database, monkeypatch):
    monkeypatch.setattr(writer, "_APART", 3600.0)
    with fleet(database) as db:
        alone = db.sender()
        assert outcomes(db.send(alone, alone.items(window()))) == ["accepted"]
        waiting = [db.take(sender, sender.items(window())) for sender in (db.sender() for _ in range(5))]
        db.ingest.stop()  # which waits for nothing
        assert [outcomes(future.result(0)) for future in waiting] == [["accepted"]] * 5
        assert db.ingest.counters()["groups"] == 2


def test_a_client_that_has_gone_is_not_served(database):
    with fleet(database, start=False) as db:
        gone, here = db.sender(), db.sender()
        left = db.take(gone, gone.items(window()))
        waits = db.take(here, here.items(window()))
        assert left.cancel()
        db.ingest.start()
        assert waits.result(60).status == 200
        assert [row["device_id"] for row in db.rows(tables.windows)] == [here.device.id]


def test_stopping_finishes_what_was_taken_and_refuses_the_rest(database):
    with fleet(database, start=False) as db:
        senders = [db.sender() for _ in range(20)]
        waiting = [db.take(sender, sender.items(window())) for sender in senders]
        db.ingest.start()
        db.ingest.stop()
        assert {future.result(0).status for future in waiting} == {200}
        held_back(db.take(senders[0], senders[0].items(window())).result(0))
        assert db.ingest.state() == "stopped"
        assert "edgeml-ingest" not in {thread.name for thread in threading.enumerate()}


def test_what_never_started_answers_all_when_it_is_stopped(database):
    with fleet(database, start=False) as db:
        sender = db.sender()
        future = db.take(sender, sender.items(window()))
        db.ingest.stop()
        held_back(future.result(0))
