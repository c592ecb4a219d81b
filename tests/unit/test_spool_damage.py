"""A damaged database: it is set aside and said, what can be read is brought over, and the spool goes on."""

import random
import shutil
import sqlite3

import pytest

from edgeml.errors import SpoolError
from edgeml.jsonutil import dumps
from edgeml.telemetry import spool_tables
from edgeml.telemetry.items import Loss
from edgeml.telemetry.spool import Spool
from tests.spool_tools import STREAM, accept, begin, drain, item, lost_numbers

KEY = bytes(range(32))


def opened(folder, notes=None, **options):
    return Spool(folder, key=KEY, on_note=None if notes is None else notes.append, **options)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with 60 windows in the database and 10 more in its log, as a process that was killed leaves it."""
    folder = tmp_path_factory.mktemp("original")
    with opened(folder / "open") as spool:
        spool.append([item(n, size=3000) for n in range(60)], [Loss(STREAM, 500, 520, "window", "why", 9)])
        spool.put_profile("a" * 64, dumps({"bins": 1}))
        accept(spool, begin(spool, max_items=2))
        spool._file.empty_log()
        for number in range(60, 70):
            spool.append([item(number, size=3000)])
        shutil.copytree(folder / "open", folder / "killed")
    return folder / "killed"


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "spool")


ALL = {(STREAM, n) for n in range(58)} | {(STREAM, n) for n in range(60, 70)}


def overwrite(path, at, data):
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def check_goes_on(folder, notes):
    """What is found is right; the file is there; and the spool takes windows again. Returns what was found."""
    with opened(folder, notes) as spool:
        assert len(spool.stats().damaged_files) == 1
        spool.append([item(1000)])
        batch = begin(spool, max_items=1)
        assert batch.items == (item(1000),)
        assert b'"restarted":"spool set aside: ' in batch.header
        accept(spool, batch)
        found = drain(spool)[0]
    assert all(one == item(one.sequence, size=3000) for one in found.values())
    assert len(notes) == 1
    assert "set aside as spool.damaged-1" in notes[0]
    return found.keys()


def test_a_killed_process_leaves_nothing_to_repair(folder):
    notes = []
    with opened(folder, notes) as spool:
        items, losses = drain(spool)
    assert notes == []
    assert items.keys() == ALL
    assert lost_numbers(losses) == set()


def test_a_database_of_another_program_is_kept_as_it_is(tmp_path):
    with sqlite3.connect(tmp_path / "spool.db") as other:
        other.execute("CREATE TABLE items (name TEXT)")
        other.execute("INSERT INTO items VALUES ('precious')")
    other.close()
    before = (tmp_path / "spool.db").read_bytes()
    assert check_goes_on(tmp_path, notes := []) == set()
    assert "another program" in notes[0]
    assert (tmp_path / "spool.damaged-1").read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all\n" * 400, bytes(20_000), b"\x89PNG\r\n\x1a\n", b"S"])
def test_a_file_of_another_type(tmp_path, content):
    (tmp_path / "spool.db").write_bytes(content)
    assert check_goes_on(tmp_path, []) == set()
    assert (tmp_path / "spool.damaged-1").read_bytes() == content


def test_an_empty_file_is_said_too(tmp_path):
    (tmp_path / "spool.db").write_bytes(b"")
    notes = []
    with opened(tmp_path, notes) as spool:
        spool.append([item(0)])
        assert b"missing or empty" in begin(spool).header
    assert "missing or empty" in notes[0]


def test_an_empty_file_with_a_log_is_set_aside_with_it(folder):
    (folder / "spool.db").write_bytes(b"")
    check_goes_on(folder, [])
    assert (folder / "spool.damaged-1").exists()


def test_a_log_whose_database_is_gone_is_set_aside(folder):
    (folder / "spool.db").unlink()
    notes = []
    with opened(folder, notes) as spool:
        spool.append([item(0)])
    assert len(notes) == 1


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_a_database_that_was_cut_short(folder, part):
    path = folder / "spool.db"
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    notes, found = [], set()
    with opened(folder, notes) as spool:
        while (batch := begin(spool, max_items=1)) is not None:  # one at a time: what is missing is found late
            assert batch.items == (item(batch.items[0].sequence, size=3000),)
            found |= {(STREAM, one.sequence) for one in batch.items}
            accept(spool, batch)
        spool.append([item(1000)])
        assert spool.stats().items == 1
    assert len(notes) == 1 or found == ALL
    assert found or part < 0.5


@pytest.mark.parametrize("garbage", [b"\xff" * 5000, b"\x00" * 5000, b"7" * 100_000])
def test_a_log_of_garbage_is_seen_though_sqlite_would_ignore_it(folder, garbage):
    (folder / "spool.db-wal").write_bytes(garbage)
    found = check_goes_on(folder, notes := [])
    assert "log" in notes[0]
    assert {(STREAM, n) for n in range(58)} <= found, "the database itself is whole"


def test_most_windows_survive_a_damaged_page(folder):
    with opened(folder) as spool:
        spool._file.empty_log()
    pages = (folder / "spool.db").stat().st_size // 4096
    overwrite(folder / "spool.db", (pages // 2) * 4096, b"\xa5" * 4096)
    found, losses = set(), set()
    with opened(folder) as spool:
        items, lost = drain(spool)
        found, losses = items.keys(), lost_numbers(lost)
        assert all(one == item(one.sequence, size=3000) for one in items.values())
    assert len(found) > 50
    assert not losses & found


@pytest.mark.parametrize("seed", range(60))
def test_random_bytes_anywhere(folder, seed):
    """Whatever was overwritten: no false window, no error that stays, and the spool goes on."""
    choice = random.Random(seed)
    for _ in range(choice.choice((1, 1, 3, 20))):
        path = folder / choice.choice(("spool.db", "spool.db", "spool.db-wal"))
        size = path.stat().st_size
        overwrite(
            path,
            choice.choice((choice.randrange(100), choice.randrange(size))),
            choice.randbytes(choice.randrange(1, 600)),
        )
    notes = []
    with opened(folder, notes) as spool:
        for _ in range(200):
            batch = begin(spool, max_items=10)
            if batch is None:
                break
            assert all(one == item(one.sequence, size=3000) for one in batch.items)
            accept(spool, batch)
        else:
            pytest.fail("the spool never becomes empty")
        spool.append([item(1000)])
        spool.stats()
        assert begin(spool).items == (item(1000),)
    with opened(folder, notes) as spool:
        assert spool.outbox().items == (item(1000),)
    assert len(notes) <= 2


def test_one_damaged_window_is_a_loss_and_the_others_go_on(folder):
    with opened(folder) as spool:
        spool._file.run(lambda rows: rows.sql("UPDATE items SET sealed = zeroblob(1000) WHERE sequence = 30"))
        spool._file.run(lambda rows: rows.sql("UPDATE items SET rows = rows + 1 WHERE sequence = 31"))
        items, losses = drain(spool)
        assert spool.stats().damaged == {"damaged on the device's disk": 2}
    assert ALL - items.keys() == lost_numbers(losses) == {(STREAM, 30), (STREAM, 31)}


def test_a_window_damaged_on_its_way_restarts_the_chain(folder):
    with opened(folder) as spool:
        batch = begin(spool)
        spool._file.run(lambda rows: rows.sql("UPDATE items SET sealed = zeroblob(1000) WHERE sequence = 30"))
        assert spool.outbox() is None
        again = begin(spool)
        assert (again.number, again.chain != batch.chain) == (0, True)
        assert b"damaged" in again.header
        assert lost_numbers(again.losses) == {(STREAM, 30)}
        assert len(again.items) == len(batch.items) - 1


def test_items_that_were_exchanged_do_not_pass_for_each_other(folder):
    with opened(folder) as spool:

        def exchange(rows):
            sealed = dict(rows.sql("SELECT sequence, sealed FROM items WHERE sequence IN (10, 11)").fetchall())
            rows.sql("UPDATE items SET sealed = ? WHERE sequence = 10", (sealed[11],))
            rows.sql("UPDATE items SET sealed = ? WHERE sequence = 11", (sealed[10],))

        spool._file.run(exchange)
        items, losses = drain(spool)
    assert ALL - items.keys() == lost_numbers(losses) == {(STREAM, 10), (STREAM, 11)}


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE losses",
        "DELETE FROM keys",
        "UPDATE keys SET wrapped = zeroblob(80)",
        "UPDATE keys SET wrapped = 'text'",
        "DELETE FROM meta",
        "UPDATE meta SET sealed = zeroblob(50)",
        "UPDATE items SET kind = 'secrets' WHERE sequence = 5",
        "UPDATE items SET stream = 5 WHERE sequence = 5",
        "INSERT INTO losses (stream, first, last, kind, reason, rows) VALUES (x'00', 5, 1, 'window', 1, 1)",
    ],
)
def test_tables_that_edgeml_did_not_write(folder, statement):
    connection = sqlite3.connect(folder / "spool.db")
    connection.execute(statement)
    connection.commit()
    connection.close()
    notes = []
    with opened(folder, notes) as spool:
        items = drain(spool)[0]
        spool.append([item(1000)])
        assert begin(spool).items == (item(1000),)
    if "keys" not in statement:
        assert len(ALL - items.keys()) <= 1
    assert len(notes) == 1


def test_damage_found_while_the_spool_is_open(folder):
    notes = []
    with opened(folder, notes) as spool:
        spool._file.empty_log()
        spool._file.forget()
        overwrite(folder / "spool.db", 0, b"\xff" * 8192)
        spool.append([item(1000)])
        assert spool.stats().damaged_files == ("spool.damaged-1",)
        assert (STREAM, 1000) in drain(spool)[0]
    assert len(notes) == 1


def test_at_most_three_are_kept_and_no_more_bytes_than_the_limit(tmp_path):
    for turn in range(6):
        with opened(tmp_path) as spool:
            spool.append([item(turn)])
        (tmp_path / "spool.db").write_bytes(b"damage %d" % turn)
    with opened(tmp_path) as spool:
        assert spool.stats().damaged_files == ("spool.damaged-4", "spool.damaged-5", "spool.damaged-6")
    assert (tmp_path / "spool.damaged-6").read_bytes() == b"damage 5"
    for turn in range(3):
        (tmp_path / "spool.db").write_bytes(b"large %d" % turn * 60_000)
        with opened(tmp_path, max_bytes=2**19) as spool:
            names = spool.stats().damaged_files
    assert names == ("spool.damaged-9",)


# --- versions ---------------------------------------------------------------------------------------------------------
def test_a_spool_of_a_newer_version_is_left_alone(folder):
    connection = sqlite3.connect(folder / "spool.db")
    connection.execute(f"PRAGMA user_version = {spool_tables.VERSION + 1}")
    connection.close()
    before = (folder / "spool.db").read_bytes()
    with pytest.raises(SpoolError, match="newer version"):
        opened(folder)
    assert (folder / "spool.db").read_bytes() == before
    assert not list(folder.glob("spool.damaged*"))


def test_an_older_spool_is_brought_to_this_version(folder, monkeypatch):
    monkeypatch.setattr(spool_tables, "VERSION", spool_tables.VERSION + 2)
    steps = {
        1: lambda connection: connection.execute("ALTER TABLE items ADD COLUMN colour TEXT"),
        2: lambda connection: connection.execute("UPDATE items SET colour = 'green'"),
    }
    monkeypatch.setattr(spool_tables, "UPGRADES", steps)
    with opened(folder) as spool:
        assert spool._file.run(lambda rows: rows.sql("SELECT DISTINCT colour FROM items").fetchall()) == [("green",)]
        assert drain(spool)[0].keys() == ALL


def test_an_upgrade_that_fails_changes_nothing(folder, monkeypatch):
    def fail(connection):
        connection.execute("DROP TABLE losses")
        raise SpoolError("no")

    monkeypatch.setattr(spool_tables, "UPGRADES", {1: fail})
    with monkeypatch.context() as newer:
        newer.setattr(spool_tables, "VERSION", 2)
        with pytest.raises(SpoolError, match="no"):
            opened(folder)
    with opened(folder) as spool:
        assert drain(spool)[0].keys() == ALL
