"""``edgeml monitor backup``, ``restore`` and ``retention``: the database as a whole."""

from __future__ import annotations

import time
from pathlib import Path

import click

from edgeml.cli import options, output
from edgeml.cli.monitor_common import change, database_option, keep_option, open_store, retention_of


@click.command(short_help="Write the whole database to one file, while the server runs.")
@click.argument("path", type=options.FILE)
@database_option
@options.json_option
def backup(path: Path, database: str | None, as_json: bool) -> None:
    """Write the whole database to the new file PATH, as it is at one moment. The server may run meanwhile.

    \b
    Example:
      edgeml monitor backup monitor.backup
    """
    from edgeml.fleet.backup import backup as write

    with open_store(database) as store:
        made = write(store, path)
    if as_json:
        output.print_json(made)
    else:
        output.line(f"{path}: {output.size(path.stat().st_size)}; it holds hashes of secrets, keep it safe")


@click.command(short_help="Read a backup into an empty database.")
@click.argument("path", type=options.FILE)
@click.option("--force", is_flag=True, help="Replace what the database holds.")
@database_option
@options.json_option
def restore(path: Path, force: bool, database: str | None, as_json: bool) -> None:
    """Read the backup PATH into an empty database, of SQLite or PostgreSQL, whichever it was made of.

    Stop the server first. Devices notice that the database is older than they are, and begin new chains.

    \b
    Example:
      edgeml monitor restore monitor.backup --database postgresql://…
    """
    from edgeml.fleet.backup import restore as read
    from edgeml.fleet.settings import database_url

    made = read(database_url(database), path, force=force)
    if as_json:
        output.print_json(made)
    else:
        output.line(f"restored {path}")


@click.command(short_help="Delete what is older than it need be.")
@keep_option
@database_option
@options.json_option
def retention(kept: tuple[str, ...], database: str | None, as_json: bool) -> None:
    """Roll up and delete what is older than it need be, now. A running server does so every hour.

    \b
    Examples:
      edgeml monitor retention --json
      edgeml monitor retention --keep windows=0.5 --keep audit=ever
    """
    from edgeml.fleet.retention import run_retention

    chosen = retention_of(kept)
    with open_store(database) as store:
        done = run_retention(store, chosen, time.time())
        with change(store, "retention", "database", kept=list(kept), rows=done):
            pass
    if as_json:
        output.print_json(done)
    else:
        output.table("Retention", ("kind", "rows"), list(done.items()))
