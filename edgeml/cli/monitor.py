"""``edgeml monitor``: the central server and its administration; each subcommand's module is imported when it is asked
for, so that none loads what another needs.
"""

from __future__ import annotations

from importlib import import_module

import click

# Command -> module of this package and attribute. In the order of a first use.
_COMMANDS = {
    "init": ("monitor_init", "init"),
    "serve": ("monitor_serve", "serve"),
    "status": ("monitor_init", "status"),
    "project": ("monitor_people", "project"),
    "user": ("monitor_people", "user"),
    "token": ("monitor_tokens", "token"),
    "enrol-token": ("monitor_tokens", "enrol_token"),
    "add-model": ("monitor_fleet", "add_model"),
    "devices": ("monitor_fleet", "devices"),
    "revoke": ("monitor_fleet", "revoke"),
    "reinstate": ("monitor_fleet", "reinstate"),
    "backup": ("monitor_data", "backup"),
    "restore": ("monitor_data", "restore"),
    "retention": ("monitor_data", "retention"),
    "simulate": ("monitor_simulate", "command"),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, attribute = _COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(f"edgeml.cli.{module}"), attribute)
        return command


@click.command(name="monitor", cls=_Commands, short_help="Run and administer the server devices report to.")
def command() -> None:
    """Run and administer the central server that devices report to.

    The commands work on the database itself, as its administrator on the server; they need no running server. The
    database is --database, else EDGEML_MONITOR_DATABASE, else an SQLite file in the user's data folder.

    \b
    Start with:
      edgeml monitor init
      edgeml monitor serve
      edgeml agent enrol --server http://127.0.0.1:8765 --token em_…
    """
