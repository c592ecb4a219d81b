"""The whole database in one file, made while the server runs, and read back into SQLite or PostgreSQL.

The file is a ZIP: ``manifest.json`` and one member a table, ``<table>.jsonl``, a JSON list a row in the order of the
manifest's columns; bytes are Base64. The manifest names the schema's revision and each member's rows, bytes and
SHA-256. All tables are read in one snapshot. A restore checks every hash first, then does everything in one
transaction, at the backup's own revision, and migrates to this version's. ``edgeml monitor backup`` and ``restore``
call it.
"""

from __future__ import annotations

import base64
import json
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from sqlalchemy import (
    Boolean,
    Connection,
    LargeBinary,
    MetaData,
    Table,
    column,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import DataError, IntegrityError
from sqlalchemy.types import JSON

from edgeml._version import __version__
from edgeml.errors import BackupError
from edgeml.fleet.migrate import current_of, is_known, migrate_in
from edgeml.fleet.store import Store, database_errors, make_engine
from edgeml.fleet.tables import metadata

FORMAT = 1
_MANIFEST = "manifest.json"
_CHUNK = 500
_MAX_MANIFEST = 2**20
_MAX_LINE = 64 * 2**20
_ALEMBIC = "alembic_version"
_OURS = "use a file that edgeml monitor backup made"
# How a column's values stand in JSON, and the type they are written back with.
_KINDS: dict[str, Any] = {"plain": None, "bytes": LargeBinary(), "json": JSON(), "bool": Boolean()}


# --- writing --------------------------------------------------------------------------------------------------------
def backup(store: Store, path: str | os.PathLike[str]) -> dict[str, Any]:
    """Write everything the database holds at this moment to a new file, readable by its owner only.

    Returns the manifest. Raises BackupError when the file exists or cannot be written, MonitorDatabaseError.
    """
    path = Path(path)
    if path.exists():
        raise BackupError(f"{path} exists", "give the backup a name of its own")
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                manifest = _write(store, archive)
            file.flush()
            os.fsync(file.fileno())
        # A link, unlike a rename, fails when somebody made the file meanwhile.
        os.link(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise BackupError(
            f"{path} cannot be written: {error.strerror}", "give a folder with room that you own"
        ) from None
    finally:
        with suppress(OSError):
            aside.unlink()
    return manifest


def _write(store: Store, archive: zipfile.ZipFile) -> dict[str, Any]:
    members: dict[str, Any] = {}
    with store.snapshot() as connection:
        revision = current_of(connection)
        for of in metadata.sorted_tables:
            digest, rows, size = sha256(), 0, 0
            columns = [[c.name, _kind(c.type)] for c in of.columns]
            with archive.open(f"{of.name}.jsonl", "w", force_zip64=True) as member:
                for row in connection.execution_options(yield_per=_CHUNK).execute(select(of)):
                    line = _line(row, columns)
                    digest.update(line)
                    member.write(line)
                    rows, size = rows + 1, size + len(line)
            members[of.name] = {"columns": columns, "rows": rows, "bytes": size, "sha256": digest.hexdigest()}
    manifest = {
        "backup_version": FORMAT, "edgeml": __version__, "schema": revision, "made": time.time(),
        "from": store.dialect, "tables": members,
    }  # fmt: skip
    archive.writestr(_MANIFEST, json.dumps(manifest, indent=1))
    return manifest


def _kind(of: Any) -> str:
    kinds = ((LargeBinary, "bytes"), (JSON, "json"), (Boolean, "bool"))
    return next((name for kind, name in kinds if isinstance(of, kind)), "plain")


def _line(row: Any, columns: list[list[str]]) -> bytes:
    values = [
        base64.b64encode(value).decode() if kind == "bytes" and value is not None else value
        for value, (_, kind) in zip(row, columns, strict=True)
    ]
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- reading --------------------------------------------------------------------------------------------------------
def restore(url: str, path: str | os.PathLike[str], *, force: bool = False) -> dict[str, Any]:
    """Read a backup into the database at ``url``: all of it or, when anything is wrong, nothing.

    ``force`` replaces what the database holds. Stop its servers first: they remember numbers of models.

    Returns the manifest.

    Raises:
        BackupError: the file cannot be read, was changed or damaged, or is of a newer version; or the database is not
            empty and ``force`` was not given.
        MonitorDatabaseError: the database cannot be reached or written.
    """
    with _opened(Path(path)) as archive:
        manifest = _read_manifest(archive)
        for name in manifest["tables"]:
            for _ in _rows(archive, name, manifest["tables"][name]):
                pass  # every byte is checked before the database is touched
        new = _file_to_make(url)
        engine = make_engine(url)
        try:
            store = Store(engine)
            with database_errors(store.url), store.write() as connection:
                _replace(connection, archive, manifest, force)
        except (IntegrityError, DataError) as error:
            _take_away(engine, new)
            reason = str(error.orig).splitlines()[0][:200]
            raise BackupError(f"rows of the backup break the rules of its schema: {reason}", _OURS) from None
        except BaseException:
            _take_away(engine, new)
            raise
        engine.dispose()
    return manifest


def _file_to_make(url: str) -> Path | None:
    """The SQLite file that a restore would make, so that one that fails takes it away again."""
    parsed = make_url(url)
    name = parsed.database if parsed.drivername.startswith("sqlite") else None
    return Path(name) if name and not Path(name).exists() else None


def _take_away(engine: Engine, file: Path | None) -> None:
    engine.dispose()
    for suffix in ("", "-wal", "-shm"):
        if file is not None:
            with suppress(OSError):
                Path(f"{file}{suffix}").unlink()


def _replace(connection: Connection, archive: zipfile.ZipFile, manifest: Mapping[str, Any], force: bool) -> None:
    found = set(inspect(connection).get_table_names())
    strange = found - set(metadata.tables) - {_ALEMBIC}
    if strange & set(manifest["tables"]) or (strange and not found & set(metadata.tables)):
        raise BackupError(f"the database holds tables of others: {sorted(strange)[:3]}", "restore into one of its own")
    for name in sorted(found & set(metadata.tables)):
        if not force and connection.execute(select(func.count()).select_from(table(name))).scalar_one():
            raise BackupError("the database is not empty", "restore into an empty one, or replace it with --force")
    old = MetaData()
    old.reflect(connection, only=[name for name in found if name in metadata.tables or name == _ALEMBIC])
    old.drop_all(connection)
    migrate_in(connection, manifest["schema"])
    for name, member in _in_order(connection, manifest["tables"]):
        _fill(connection, name, member, _rows(archive, name, member))
    migrate_in(connection)


def _in_order(connection: Connection, members: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The tables so that each comes after those it refers to, by the schema of the backup's revision."""
    made = MetaData()
    made.reflect(connection)
    known = [of.name for of in made.sorted_tables if of.name != _ALEMBIC]
    if set(known) != set(members):
        raise BackupError(
            f"the backup's tables are not those of its schema: {sorted(set(known) ^ set(members))[:3]}",
            _OURS,
        )
    for of in made.sorted_tables:
        if of.name != _ALEMBIC and {c.name for c in of.columns} != {name for name, _ in members[of.name]["columns"]}:
            raise BackupError(
                f"the backup's columns of {of.name} are not those of its schema",
                _OURS,
            )
    return [(name, members[name]) for name in known]


def _fill(connection: Connection, name: str, member: Mapping[str, Any], rows: Iterator[list[Any]]) -> None:
    kinds = [(column_name, kind) for column_name, kind in member["columns"]]
    into = table(name, *(column(n, _KINDS[kind]) if _KINDS[kind] else column(n) for n, kind in kinds))
    waiting: list[dict[str, Any]] = []
    for row in rows:
        waiting.append(dict(zip((n for n, _ in kinds), row, strict=True)))
        if len(waiting) == _CHUNK:
            connection.execute(insert(into), waiting)
            waiting = []
    if waiting:
        connection.execute(insert(into), waiting)
    known: Table | None = metadata.tables.get(name)
    if connection.dialect.name == "postgresql" and known is not None and known.autoincrement_column is not None:
        # PostgreSQL counts rows by itself and does not look at those it was given.
        sequence = f"pg_get_serial_sequence('{name}', 'id')"
        connection.execute(text(f"SELECT setval({sequence}, coalesce(max(id), 1), max(id) IS NOT NULL) FROM {name}"))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except OSError as error:
        raise BackupError(f"{path} cannot be read: {error.strerror}", "check the path") from None
    except zipfile.BadZipFile:
        raise BackupError(f"{path} is not a backup, or is cut short", "copy it again") from None


def _read_manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    try:
        with archive.open(_MANIFEST) as file:
            manifest = json.loads(file.read(_MAX_MANIFEST))
        version, revision = manifest["backup_version"], manifest["schema"]
        for member in manifest["tables"].values():
            if any(kind not in _KINDS for _, kind in member["columns"]) or len(member["sha256"]) != 64:
                raise ValueError("columns")
            member["rows"] + member["bytes"]
    except (KeyError, ValueError, TypeError, AttributeError, OSError, zipfile.BadZipFile):
        raise BackupError("the backup's manifest is missing or malformed", _OURS) from None
    if version != FORMAT or not isinstance(revision, str) or not is_known(revision):
        raise BackupError(
            f"the backup is of version {version!r:.20}, schema {revision!r:.20}, which this version does not know",
            "pip install --upgrade 'edgeml-sdk[monitor]'",
        )
    return dict(manifest)


def _rows(archive: zipfile.ZipFile, name: str, member: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Rows of a member; raises BackupError at its end when its bytes are not those that were written."""
    columns = member["columns"]
    digest, count, size = sha256(), 0, 0
    damaged = BackupError(f"the backup's {name} is damaged or was changed", "use another copy of the backup")
    try:
        with archive.open(f"{name}.jsonl") as file:
            for line in _lines(file):
                digest.update(line)
                count, size = count + 1, size + len(line)
                if size > member["bytes"]:
                    raise damaged
                yield _values(json.loads(line), columns)
    except (KeyError, ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError, RuntimeError):
        raise damaged from None
    if (digest.hexdigest(), count, size) != (member["sha256"], member["rows"], member["bytes"]):
        raise damaged


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline(_MAX_LINE):
        yield line


def _values(row: list[Any], columns: list[list[str]]) -> list[Any]:
    return [
        base64.b64decode(value, validate=True) if kind == "bytes" and value is not None else value
        for value, (_, kind) in zip(row, columns, strict=True)
    ]
