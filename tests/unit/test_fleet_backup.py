"""Backup and restore: one file of one moment, across databases, checked before anything is touched, all or nothing."""

import json
import os
import threading
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select

from edgeml.errors import BackupError
from edgeml.fleet import migrate, queries, tables
from edgeml.fleet.backup import backup, restore
from edgeml.fleet.retention import Retention, run_retention
from edgeml.fleet.store import Store
from edgeml.telemetry.items import Loss
from tests.fleet_tools import T0, fleet, outcomes, profile, window
from tests.waiting import PATIENCE

P = profile()
KNOWN = {P["sha256"]: P}


def fill(db):
    """Something in every table that has to do with devices."""
    sender = db.sender("Zürich \U0001f4e6")
    db.send(sender, sender.items(window(P), window(P, 3, end=900.0)), profiles=KNOWN)
    run_retention(db.store, Retention(windows=0.0), T0 + 2000)
    rows = {"rows_version": 1, "model": window()["model"], "wall": T0, "sealed": {"box": "AAAA"}}
    batch = [*sender.items(window(P), {"bad": 1}), *sender.items(rows, kind="rows")]
    db.send(sender, batch, losses=[Loss(sender.stream, 9, 10, "window", "disk full", 2)])
    with db.store.write() as connection:
        user = {"id": "2" * 32, "name": "anna", "password_hash": "x", "root": True, "disabled": False, "created": 1.5}
        connection.execute(tables.users.insert(), user)
        token = {
            "id": "3" * 32,
            "salt": b"\x00\xff",
            "hash": b"h" * 32,
            "name": "t",
            "created": 0.1 + 0.2,
            "user_id": "2" * 32,
        }
        connection.execute(tables.access_tokens.insert(), token)
    return sender


def everything(store):
    with store.read() as connection:
        return {
            table.name: sorted(tuple(map(repr, row)) for row in connection.execute(select(table)))
            for table in tables.metadata.sorted_tables
        }


@pytest.fixture(params=["sqlite", "postgresql"])
def target(request, tmp_path):
    """A second database, of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'restored.db'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database()
    yield url
    server.drop_database(url)


def test_a_backup_is_restored_into_either_database_and_goes_on(database, target, tmp_path):
    path = tmp_path / "monitor.backup"
    with fleet(database) as db:
        sender = fill(db)
        made = backup(db.store, path)
        before = everything(db.store)
        assert os.stat(path).st_mode & 0o077 == 0
        last = sender.items(window(P))
        gone = sender.header()
        db.send(sender, last, header=gone)  # after the backup
    assert restore(target, path)["tables"] == made["tables"]
    store = Store.open(target, migrate=False)
    assert everything(store) == before
    with store.write() as connection:
        # Rows are numbered on from the highest.
        row = {"at": T0, "project_id": "1" * 32, "kind": "test", "detail": {}}
        number = connection.execute(tables.events.insert(), row).inserted_primary_key[0]
    assert number > len(before["events"]) > 0
    store.close()
    with fleet(target) as db:
        # The device is one batch further than the database: it is told so, begins a new chain, and sends again.
        assert db.take(sender, sender.items(window(P))).result(60).body["why"] == "gap"
        sender.restart()
        assert outcomes(db.send(sender, last)) == ["accepted"]
        assert db.total().windows == 4


def test_it_is_of_one_moment_while_batches_come(database, tmp_path):
    with fleet(database) as db:
        sender = db.sender()
        db.send(sender, sender.items(window(P)), profiles=KNOWN)
        done = threading.Event()

        def send():
            while not done.is_set():
                db.send(sender, sender.items(window(P)))

        thread = threading.Thread(target=send)
        thread.start()
        try:
            paths = [tmp_path / f"{n}.backup" for n in range(5)]
            for path in paths:
                backup(db.store, path)
        finally:
            done.set()
            thread.join(PATIENCE)
    for path in paths:
        url = f"sqlite:///{path}.db"
        restore(url, path)
        store = Store.open(url)
        with store.read() as connection:
            (total,) = queries.totals(connection)
            (device,) = queries.devices(connection, "1" * 32).items
            found = queries.device(connection, "1" * 32, device["id"])
        store.close()
        # The chain, the windows and the roll-ups agree.
        assert total["windows"] == found["windows"] == found["chain"]["number"] + 1


def test_a_database_in_use_is_replaced_only_by_force(database, tmp_path):
    path = tmp_path / "monitor.backup"
    with fleet(database) as db:
        fill(db)
        backup(db.store, path)
        before = everything(db.store)
        sender = db.sender()
        db.send(sender, sender.items(window(P)))
        after = everything(db.store)
        with pytest.raises(BackupError, match="not empty") as caught:
            restore(database, path)
        assert "--force" in caught.value.remedy
        assert everything(db.store) == after
    restore(database, path, force=True)
    store = Store.open(database)
    assert everything(store) == before
    store.close()


def rewrite(path, change):
    """The backup again with members changed; the manifest is what ``change`` makes of it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def change_row(members):
    members["devices.jsonl"] = members["devices.jsonl"].replace(b"active", b"activE")


def drop_row(members):
    members["windows.jsonl"] = b""


def drop_member(members):
    del members["losses.jsonl"]


def add_row(members):
    members["users.jsonl"] += members["users.jsonl"]


def manifest(change):
    def apply(members):
        data = json.loads(members["manifest.json"])
        change(data)
        members["manifest.json"] = json.dumps(data).encode()

    return apply


def forged(members):
    """Hashes that fit, and a row that breaks a constraint: the database itself refuses it, late."""
    members["rollups.jsonl"] += members["rollups.jsonl"]
    data = json.loads(members["manifest.json"])
    entry, body = data["tables"]["rollups"], members["rollups.jsonl"]
    entry |= {"sha256": sha256(body).hexdigest(), "bytes": len(body), "rows": entry["rows"] * 2}
    members["manifest.json"] = json.dumps(data).encode()


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (change_row, "devices is damaged"),
        (drop_row, "windows is damaged"),
        (drop_member, "losses is damaged"),
        (add_row, "users is damaged"),
        (lambda m: m.pop("manifest.json"), "manifest"),
        (manifest(lambda d: d.pop("tables")), "manifest"),
        (manifest(lambda d: d["tables"]["users"].pop("rows")), "manifest"),
        (manifest(lambda d: d.update(backup_version=9)), "version 9"),
        (manifest(lambda d: d.update(schema="9999")), "9999"),
        (manifest(lambda d: d["tables"].pop("audit")), "audit"),
        (manifest(lambda d: d["tables"]["audit"]["columns"].pop()), "audit is damaged|columns of audit"),
        (forged, "break the rules"),
    ],
)
def test_a_backup_that_was_changed_changes_nothing(database, target, tmp_path, change, word):
    path = tmp_path / "monitor.backup"
    with fleet(database) as db:
        fill(db)
        backup(db.store, path)
    rewrite(path, change)
    with pytest.raises(BackupError, match=word):
        restore(target, path)
    if target.startswith("sqlite"):
        assert not list(tmp_path.glob("restored.db*"))
    else:
        store = Store.open(target)
        assert not any(everything(store).values())
        store.close()


def test_files_that_are_no_backup_are_named(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"no zip")
    with pytest.raises(BackupError, match="not a backup"):
        restore(f"sqlite:///{tmp_path / 'x.db'}", path)
    with pytest.raises(BackupError, match="cannot be read"):
        restore(f"sqlite:///{tmp_path / 'x.db'}", tmp_path / "nothing")


def test_a_backup_writes_over_nothing_and_leaves_nothing_half(tmp_path):
    with fleet(f"sqlite:///{tmp_path / 'monitor.db'}") as db:
        taken = tmp_path / "taken"
        taken.write_text("mine")
        with pytest.raises(BackupError, match="exists"):
            backup(db.store, taken)
        assert taken.read_text() == "mine"
        with pytest.raises(BackupError, match="cannot be written"):
            backup(db.store, tmp_path / "no folder" / "x")
        assert not list(tmp_path.glob("*.part"))


def test_a_backup_of_an_older_schema_is_migrated(database, target, tmp_path, monkeypatch):
    import shutil

    path = tmp_path / "monitor.backup"
    with fleet(database) as db:
        fill(db)
        backup(db.store, path)
    today = migrate.head()
    folder = Path(shutil.copytree(migrate._FOLDER, tmp_path / "migrations"))
    (folder / "versions" / "next.py").write_text(
        "from alembic import op\nimport sqlalchemy as sa\nrevision = 'next'\n"
        f"down_revision = {today!r}\n"
        "def upgrade():\n    op.add_column('projects', sa.Column('more', sa.Text(), server_default='new'))\n"
    )
    monkeypatch.setattr(migrate, "_FOLDER", folder)
    migrate._scripts.cache_clear()
    try:
        assert restore(target, path)["schema"] == today
        store = Store.open(target, migrate=False)  # it is at today's revision already
        with store.read() as connection:
            assert connection.exec_driver_sql("SELECT more FROM projects").scalar() == "new"
        store.close()
    finally:
        monkeypatch.undo()
        migrate._scripts.cache_clear()
