"""Brings a database to this version's schema, with the migrations in ``migrations/``.

Comes in: an engine. Goes out: the database migrated, in one transaction, or an error that says what to do. Servers
that start at once on one database wait for each other. Called by ``Store.open`` and by ``backup.restore``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, text

from edgeml.errors import MonitorDatabaseError

# Any number that no other program on the same database takes: "edgeml" in ASCII.
_LOCK = 0x6564_6765_6D6C
_FOLDER = Path(__file__).parent / "migrations"


def head() -> str:
    """The newest revision this version knows."""
    revision = _scripts().get_current_head()
    assert revision is not None  # the package holds one at least
    return revision


def current(engine: Engine) -> str | None:
    """The revision the database is at; None for an empty one."""
    with engine.connect() as connection:
        return current_of(connection)


def current_of(connection: Connection) -> str | None:
    """The same, inside a transaction."""
    return MigrationContext.configure(connection).get_current_revision()


def check_version(engine: Engine) -> None:
    """Raises MonitorDatabaseError unless the database is at exactly this version's revision."""
    found = current(engine)
    if found != head():
        _check_known(found)
        raise MonitorDatabaseError(
            f"the database's schema is {found or 'empty'}, this version needs {head()}",
            "start `edgeml monitor serve` once without --no-migrate, after a backup",
        )


def migrate(engine: Engine, to: str = "head") -> None:
    """Bring the database to revision ``to``. Raises MonitorDatabaseError when it is newer than this version."""
    if current(engine) == (head() if to == "head" else to):
        return  # without a lock: a server that starts while another one writes need not wait
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            connection = connection.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        with connection.begin():
            migrate_in(connection, to)


def migrate_in(connection: Connection, to: str = "head") -> None:
    """The same inside a transaction of the caller's."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT set_config('lock_timeout', '120s', true)"))
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    _check_known(current_of(connection))
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, to)


def is_known(revision: str) -> bool:
    """Whether this version has that revision."""
    return any(script.revision == revision for script in _scripts().walk_revisions())


def _check_known(revision: str | None) -> None:
    if revision is not None and not is_known(revision):
        raise MonitorDatabaseError(
            f"the database's schema is {revision[:40]!r}, which this version of EdgeML does not know",
            "a newer version has migrated it: pip install --upgrade 'edgeml-sdk[monitor]'",
        )


def _config() -> Config:
    config = Config()
    # Alembic reads % in options as the start of a variable.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
