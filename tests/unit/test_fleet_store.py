"""The database's schema and the way to it, on SQLite and PostgreSQL: migrations, versions, errors with remedies."""

import os
import shutil
import threading
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, func, inspect, select, text
from sqlalchemy.exc import IntegrityError

from edgeml.errors import MonitorDatabaseError, MonitorSettingsError
from edgeml.fleet import migrate, tables
from edgeml.fleet.store import Store, make_engine
from tests.waiting import PATIENCE


def test_the_migrations_lead_to_exactly_the_tables(database):
    store = Store.open(database)
    with store.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == migrate.head()
        # Alembic compares no primary keys.
        for table in tables.metadata.sorted_tables:
            found = inspect(connection).get_pk_constraint(table.name)["constrained_columns"]
            assert found == [column.name for column in table.primary_key.columns], table.name
    store.check()
    store.close()


def test_servers_that_start_at_once_migrate_once(database):
    failed = []
    together = threading.Barrier(4)

    def start():
        together.wait()
        try:
            Store.open(database).close()
        except Exception as error:  # of another thread: the test raises or asserts it
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failed == []
    store = Store.open(database, migrate=False)
    store.close()


def test_a_newer_schema_is_refused_and_left_alone(database):
    store = Store.open(database)
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for options in ({}, {"migrate": False}):
        with pytest.raises(MonitorDatabaseError, match="9999") as caught:
            Store.open(database, **options)
        assert "upgrade" in caught.value.remedy
    with pytest.raises(MonitorDatabaseError, match="9999"):
        store.check()
    store.close()


@pytest.fixture
def next_version(tmp_path, monkeypatch):
    """Makes the code one with another migration after today's."""
    today = migrate.head()

    def upgrade():
        folder = shutil.copytree(migrate._FOLDER, tmp_path / "migrations")
        lines = [
            "from alembic import op", "revision = 'next'", f"down_revision = {today!r}",
            "def upgrade():", "    op.execute('CREATE TABLE more (id INTEGER PRIMARY KEY)')",
        ]  # fmt: skip
        (folder / "versions" / "next.py").write_text("\n".join(lines))
        monkeypatch.setattr(migrate, "_FOLDER", folder)
        migrate._scripts.cache_clear()

    yield upgrade
    monkeypatch.undo()
    migrate._scripts.cache_clear()


def test_an_older_schema_is_migrated_only_when_that_is_wanted(database, next_version):
    Store.open(database).close()
    next_version()
    with pytest.raises(MonitorDatabaseError, match="this version needs next") as caught:
        Store.open(database, migrate=False)
    assert "backup" in caught.value.remedy
    store = Store.open(database)
    assert "more" in inspect(store.engine).get_table_names()
    store.close()


def test_a_migration_that_fails_leaves_nothing(database, monkeypatch):
    engine = make_engine(database)
    monkeypatch.setattr("alembic.op.create_index", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        migrate.migrate(engine)
    monkeypatch.undo()
    assert inspect(engine).get_table_names() == []
    migrate.migrate(engine)
    engine.dispose()


def test_a_transaction_is_whole_or_nothing_and_a_snapshot_stands_still(database):
    store = Store.open(database)
    row = {"id": "1" * 32, "name": "one", "created": 1.0}
    count = select(func.count()).select_from(tables.projects)
    with pytest.raises(IntegrityError), store.write() as connection:
        connection.execute(tables.projects.insert(), [row, row])
    with store.snapshot() as before:
        assert before.execute(count).scalar() == 0
        with store.write() as connection:
            connection.execute(tables.projects.insert(), row)
        assert before.execute(count).scalar() == 0
    with store.read() as connection:
        assert connection.execute(count).scalar() == 1
    store.close()


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "mysql://a/b", "no url", "sqlite:///file:x?uri=true"]
)
def test_a_database_that_cannot_be_used_is_refused(url):
    with pytest.raises(MonitorSettingsError) as caught:
        Store.open(url)
    assert caught.value.remedy


def test_sqlite_writers_wait_for_each_other_before_they_read(tmp_path):
    store = Store.open(f"sqlite:///{tmp_path / 'monitor.db'}")
    with store.write() as connection:
        connection.execute(tables.projects.insert(), {"id": "1" * 32, "name": "one", "created": 0.0})
    together = threading.Barrier(2)
    failed = []

    def count():
        try:
            together.wait(PATIENCE)
            for _ in range(50):
                with store.write() as connection:
                    found = connection.execute(select(tables.projects.c.created)).scalar_one()
                    connection.execute(tables.projects.update().values(created=found + 1))
        except Exception as error:  # of another thread: the test raises or asserts it
            failed.append(error)

    threads = [threading.Thread(target=count) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert failed == []
    with store.read() as connection:
        assert connection.execute(select(tables.projects.c.created)).scalar_one() == 100
    store.close()


def test_passwords_of_urls_are_not_shown(postgres):
    url = postgres.url("nowhere").replace("postgres@", "postgres:geheim@")
    with pytest.raises(MonitorDatabaseError, match="does not exist") as caught:
        Store.open(url)
    assert "geheim" not in str(caught.value)
    assert "create the database" in caught.value.remedy


def test_a_server_that_is_away_is_named():
    with pytest.raises(MonitorDatabaseError, match=r"127\.0\.0\.1:1") as caught:
        Store.open("postgresql://someone@127.0.0.1:1/monitor")
    assert "runs" in caught.value.remedy


def test_a_file_that_is_no_database_is_named(tmp_path):
    path = tmp_path / "monitor.db"
    path.write_bytes(b"no database at all, but long enough to be taken for one" * 50)
    with pytest.raises(MonitorDatabaseError, match="not a database") as caught:
        Store.open(f"sqlite:///{path}")
    assert "another path" in caught.value.remedy
    with pytest.raises(MonitorDatabaseError):
        Store.open("sqlite:////proc/nowhere/monitor.db")


def test_the_file_is_its_owners_alone_and_commits_reach_the_disk(tmp_path):
    path = tmp_path / "new folder" / "monitor.db"
    store = Store.open(f"sqlite:///{path}")
    with store.write() as connection:
        pragmas = {
            p: connection.exec_driver_sql(f"PRAGMA {p}").scalar()
            for p in ("journal_mode", "synchronous", "foreign_keys")
        }
        connection.execute(tables.projects.insert(), {"id": "1" * 32, "name": "one", "created": 1.0})
        for suffix in ("", "-wal", "-shm"):
            assert os.stat(f"{path}{suffix}").st_mode & 0o077 == 0
    assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}
    store.close()
    assert sorted(p.name for p in path.parent.iterdir()) == ["monitor.db"]  # the log was folded in


def test_migrations_name_no_table_of_the_code():
    # A migration is frozen: one that used today's tables would make tomorrow's.
    folder = Path(migrate.__file__).parent / "migrations" / "versions"
    for path in folder.glob("0*.py"):
        assert "edgeml" not in path.read_text(), path.name


def test_migrations_can_be_undone_on_an_empty_database(tmp_path):
    from alembic import command

    engine = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    migrate.migrate(engine)
    config = migrate._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert inspect(connection).get_table_names() == ["alembic_version"]
    engine.dispose()
